#!/usr/bin/env bash
# Feeds damaged bytes to every reader of files (tests/fuzz), with clang's libFuzzer and sanitizers.
#   scripts/fuzz.sh [SECONDS]       for each reader; 60 unless given
# What was found interesting stays in build/fuzz/corpus and is where the next run starts. A crash leaves its input in
# build/fuzz/crash.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
if ! command -v clang >/dev/null 2>&1; then
    echo "fuzzing needs clang (Debian: clang)" >&2
    exit 1
fi
scripts/setup.sh --no-tests
cmake --preset fuzz
cmake --build --preset fuzz
mkdir -p build/fuzz/crash
for program in build/fuzz/tests/fuzz/fuzz_*; do
    [ -x "$program" ] && [ -f "$program" ] || continue
    name=$(basename "$program")
    mkdir -p "build/fuzz/corpus/$name"
    echo "$name:"
    "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="build/fuzz/crash/$name-" "build/fuzz/corpus/$name"
done
