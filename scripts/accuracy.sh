#!/bin/sh
# Sweeps float bit patterns and writes the table of docs/accuracy.md: every STRIDE-th pattern, 1 (all 2^32) unless given.
#   scripts/accuracy.sh [STRIDE [THREADS]]
set -eu
cd "$(dirname "$0")/.."
stride=${1:-1}
threads=${2:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

arch=
if grep -qw fma /proc/cpuinfo 2>/dev/null && grep -qw avx2 /proc/cpuinfo; then arch=-march=x86-64-v3; fi
# The bits do not depend on these flags, only the time does.
${CC:-cc} -std=c11 -D_GNU_SOURCE -O2 $arch -ffp-contract=off -fno-math-errno -fno-trapping-math -Isrc -Iinclude \
    bench/accuracy.c src/core/activation.c src/core/activation_oracle.c -o "$work/accuracy" -lm -lpthread

if [ "$stride" = 1 ]; then swept="all 2^32 floats"; else swept="every ${stride}th of the 2^32 floats"; fi
sed '/^<!-- table -->$/q' docs/accuracy.md > "$work/accuracy.md"
{
    printf '\nSwept: %s.\n\n' "$swept"
    nice "$work/accuracy" "$stride" "$threads"
} >> "$work/accuracy.md"
cp "$work/accuracy.md" docs/accuracy.md
