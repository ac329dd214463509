#!/usr/bin/env bash
# Builds Slope and runs all its tests.
#   scripts/test.sh [--sanitize] [--quick] [-DOPTION=VALUE…] [ctest options…]
# --sanitize  AddressSanitizer and UndefinedBehaviorSanitizer, one guarded allocation per tensor (build/asan)
# --quick     leaves out the tests labelled "slow"
# -D…         goes to CMake, everything else to ctest: scripts/test.sh -R philox
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release settings=() options=()
for argument; do
    case $argument in
    --sanitize) preset=asan ;;
    --quick) options+=(--label-exclude slow) ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -D?*) settings+=("$argument") ;;
    *) options+=("$argument") ;;
    esac
done

scripts/setup.sh
jobs=$(nproc 2>/dev/null || echo 2)
mkdir -p build
cmake --preset "$preset" "${settings[@]}" >build/configure.log 2>&1 || {
    cat build/configure.log >&2
    exit 1
}
grep -A3 'CMake Warning' build/configure.log >&2 || true
cmake --build --preset "$preset" --parallel "$jobs"
ctest --preset "$preset" --parallel "$jobs" "${options[@]}"
