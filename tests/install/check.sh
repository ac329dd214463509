#!/usr/bin/env bash
# Does another project find, build against and run an installed Slope? Installs, moves what was installed, and builds
# the same two programs with CMake and with pkg-config.
#   check.sh SOURCE BUILD [static|shared]    BUILD is installed; with a kind, a build of that kind is made there first
set -euo pipefail
source=$1 build=$2 kind=${3-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "$kind" ]; then # not optimised: it is quicker to build than to run
    cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG=-O0 \
        -DBUILD_SHARED_LIBS="$([ "$kind" = shared ] && echo ON || echo OFF)" -DSLOPE_TESTS=OFF -DSLOPE_BENCH=OFF \
        -DSLOPE_EXAMPLES=OFF >"$work/log" 2>&1 && cmake --build "$build" >>"$work/log" 2>&1 || {
        cat "$work/log"
        exit 1
    }
fi
DESTDIR= cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/moved"
library=$(dirname "$(find "$work/moved" -name 'libslope.*' | head -n 1)")
export PKG_CONFIG_PATH=$library/pkgconfig LD_LIBRARY_PATH=$library

if grep -rnE "$work/first|$source|$build" "$library/cmake" "$library/pkgconfig"; then
    echo "what is installed names the place where it was built"
    exit 1
fi

run() { # FOLDER with mnist_cnn and consumer
    echo "$1:"
    "$1/consumer" "$work/model.safetensors"
    # The example itself takes long: it must start, find no data, and say so.
    if SLOPE_DATA_DIR=$work SLOPE_DATA_MIRROR=off XDG_CACHE_HOME=$work "$1/mnist_cnn" >"$work/out" 2>&1; then
        echo "mnist_cnn succeeded without data"
        exit 1
    fi
    grep -q 'train-images-idx3-ubyte\|mnist' "$work/out"
}

cmake -S "$source/tests/install" -B "$work/cmake" -G Ninja -DCMAKE_PREFIX_PATH="$work/moved" -DSLOPE_SOURCE="$source" \
    -DCMAKE_BUILD_TYPE=Debug >"$work/log" 2>&1 && cmake --build "$work/cmake" >>"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
run "$work/cmake"

if command -v pkg-config >/dev/null 2>&1; then
    mkdir "$work/pkg-config"
    flags=$(pkg-config --cflags --libs slope)
    # shellcheck disable=SC2086 # the flags are meant to be split
    {
        "${CC:-cc}" -std=c11 "$source/examples/mnist_cnn.c" -o "$work/pkg-config/mnist_cnn" $flags
        "${CXX:-c++}" -std=c++20 "$source/tests/install/consumer.cpp" -o "$work/pkg-config/consumer" $flags
    }
    run "$work/pkg-config"
else
    echo "pkg-config is missing: that half is skipped"
fi

command=$work/moved/bin/slope
if [ -x "$command" ]; then
    env -u LD_LIBRARY_PATH "$command" --version
    env -u LD_LIBRARY_PATH "$command" --help >/dev/null
fi
