#!/usr/bin/env bash
# Builds Slope and runs all its tests.
#   scripts/test.sh [--simulated] [--sanitize] [--quick] [--nvcc] [-DOPTION=VALUE…] [ctest options…]
# --simulated  the CUDA back end on the simulated device, and only the tests that concern CUDA (build/simt)
# --sanitize   AddressSanitizer and UndefinedBehaviorSanitizer, one guarded allocation per tensor (build/asan, and
#              build/simt-asan with --simulated)
# --quick      leaves out the tests labelled "slow"
# --nvcc       compiles library and command with nvcc for all architectures and runs nothing (build/cuda); says that it
#              is skipped where the CUDA toolkit is missing
# -D…          goes to CMake, everything else to ctest: scripts/test.sh -R philox
set -euo pipefail
cd "$(dirname "$0")/.."

simulated='' sanitize='' nvcc='' settings=() options=() targets=()
for argument; do
    case $argument in
    --simulated) simulated=yes ;;
    --sanitize) sanitize=yes ;;
    --nvcc) nvcc=yes ;;
    --quick) options+=(--label-exclude slow) ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -D?*) settings+=("$argument") ;;
    *) options+=("$argument") ;;
    esac
done
preset=release
[ -z "$sanitize" ] || preset=asan
if [ -n "$simulated" ]; then
    preset=simt${sanitize:+-asan}
    targets=(--target cuda_tests)
    options+=(--label-regex cuda)
fi
if [ -n "$nvcc" ]; then
    preset=cuda
    targets=(--target slope slope_command)
    if ! command -v "${CUDACXX:-nvcc}" >/dev/null && [ ! -x "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" ]; then
        echo "skipped: nvcc of the CUDA toolkit is not here, so nothing was compiled with it"
        exit 0
    fi
fi

scripts/setup.sh
jobs=$(nproc 2>/dev/null || echo 2)
mkdir -p build
cmake --preset "$preset" "${settings[@]}" >build/configure.log 2>&1 || {
    cat build/configure.log >&2
    exit 1
}
grep -A3 'CMake Warning' build/configure.log >&2 || true
cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}"
if [ -n "$nvcc" ]; then
    built=$(sed -n 's/.*SLOPE_CUDA_ARCHITECTURES="\\"\([^"]*\)\\"".*/\1/p' build/cuda/build.ninja | head -1)
    echo "compiled with nvcc for $built; nothing was run"
    exit 0
fi
ctest --preset "$preset" --parallel "$jobs" "${options[@]}"
