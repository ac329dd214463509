#!/bin/sh
# Runs a benchmark with --json and keeps what it says with machine, date, load and commit:
# bench/results/<date>-<machine>-<name>.json, and .md where the program also writes a table to standard error.
#
#   bench/save.sh [--machine NAME] NAME COMMAND…
#   bench/save.sh scaling build/release/bench/bench_scaling --threads 2
set -eu
here=$(cd "$(dirname "$0")" && pwd)
machine=''
if [ "${1-}" = --machine ] && [ $# -gt 1 ]; then
    machine=$2
    shift 2
fi
if [ $# -lt 2 ]; then
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
what=$1
shift
: "${machine:=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1) $(nproc) CPUs}"
date=$(date -u +%Y-%m-%d)
commit=$(git -C "$here" describe --always --dirty 2> /dev/null || echo unknown)
name=$here/results/$date-$(echo "$machine" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')-$what
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
load=$(cut -d' ' -f1-3 /proc/loadavg)
"$@" --json > "$work/json" 2> "$work/table" || {
    cat "$work/table" >&2
    exit 1
}
load="$load before, $(cut -d' ' -f1-3 /proc/loadavg) after"
mkdir -p "$here/results"
{
    printf '{"date": "%s", "machine": "%s", "commit": "%s", "load": "%s", "command": "%s", "results":\n' \
        "$date" "$machine" "$commit" "$load" "$(basename "$1")$(shift && printf ' %s' "$@")"
    cat "$work/json"
    echo '}'
} > "$name.json"
echo "$name.json"
if [ -s "$work/table" ]; then
    {
        echo "$date, $machine. Slope $commit; load average $load."
        echo
        cat "$work/table"
    } > "$name.md"
    echo "$name.md"
fi
