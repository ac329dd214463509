#!/bin/sh
# Builds the peers in C and C++ from their sources, each with what is fastest for it.
#
#   bench/peers/build.sh [--ggml DIR] [--kann DIR] [--out DIR]
#
# DIR is a clone of github.com/ggml-org/ggml or github.com/attractivechaos/kann; --out (default: build/peers) gets
# ggml_train and kann_train, which run.sh --peers DIR measures. ggml is built by its own CMake files for this processor; KANN
# with -O3 for this processor and OpenBLAS for its products (Debian: libopenblas-dev).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=build/peers ggml= kann=
while [ $# -gt 1 ]; do
    case $1 in
    --ggml) ggml=$2 && shift 2 ;;
    --kann) kann=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    *) break ;;
    esac
done
if [ $# -gt 0 ] || [ -z "$ggml$kann" ]; then
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
mkdir -p "$out"
if [ -n "$kann" ]; then
    cc -O3 -march=native -ffast-math -DHAVE_CBLAS -DHAVE_PTHREAD -w -I"$kann" "$here/kann_train.c" "$kann/kann.c" \
        "$kann/kautodiff.c" -o "$out/kann_train" -lopenblas -lpthread -lm
fi
if [ -n "$ggml" ]; then
    cmake -S "$ggml" -B "$out/ggml" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
        -DGGML_BUILD_EXAMPLES=OFF -DGGML_BUILD_TESTS=OFF > "$out/ggml.log"
    cmake --build "$out/ggml" -j "$(nproc)" >> "$out/ggml.log"
    c++ -O3 -march=native -std=c++17 -I"$ggml/include" "$here/ggml_train.cpp" -o "$out/ggml_train" \
        "$out/ggml/src/libggml.a" "$out/ggml/src/libggml-cpu.a" "$out/ggml/src/libggml-base.a" -fopenmp -lpthread -ldl -lm
fi
