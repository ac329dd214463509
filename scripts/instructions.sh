#!/usr/bin/env bash
# Counts the instructions of a fixed small training run (bench/instructions.c: mlp and lenet, one thread, the AVX2
# kernels) under callgrind and compares them with bench/instructions.json, kernel by kernel. Unlike a time, a count does
# not depend on what else the machine does; it says nothing about caches and clocks. Exit status 1 where a kernel, the
# planning or the whole takes more instructions than the tolerance allows.
#   scripts/instructions.sh [--build DIR] [--tolerance PERCENT] [--update]
# --build      a release build (default build/release)
# --tolerance  what may be added before it counts as slower (default 3)
# --update     writes the counts anew
# Skipped where valgrind, Python or AVX2 is missing, or where the compiler is not the one of the stored counts.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/release tolerance=3 update='' stored=bench/instructions.json
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --tolerance) tolerance=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --update) update=yes && shift ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
    esac
done
skip() {
    echo "skipped: $*"
    exit 0
}
command -v valgrind >/dev/null || skip "valgrind is not here (scripts/setup.sh installs it)"
command -v python3 >/dev/null || skip "python3 is not here"

[ -f "$build/CMakeCache.txt" ] || cmake --preset release -B "$build" >/dev/null
grep -q '^CMAKE_BUILD_TYPE:[A-Z]*=Release$' "$build/CMakeCache.txt" || skip "$build is no release build"
cmake --build "$build" --target instructions >/dev/null
program=$build/bench/instructions
export SLOPE_ISA=avx2
unset SLOPE_GUARD SLOPE_REFERENCE_KERNELS
facts=$("$program" none 2>/dev/null) || facts=${facts-}
compiler=$(head -n 1 <<<"$facts")
[ -n "$compiler" ] || skip "this processor has no AVX2"
if [ -z "$update" ]; then
    before=$(sed -n 's/^ *"compiler": "\(.*\)",$/\1/p' $stored)
    [ "$compiler" = "$before" ] || skip "built by compiler $compiler, but the stored counts are of $before"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
valgrind --tool=callgrind --callgrind-out-file="$work/counts" --compress-strings=no --compress-pos=no \
    "$program" >"$work/log" 2>&1 || {
    cat "$work/log"
    grep -qi 'avx2' "$work/log" && skip "this valgrind does not offer AVX2"
    exit 1
}

cat >"$work/compare.py" <<'END'
import collections, json, re, sys
counts, stored, compiler, tolerance, update = sys.argv[1:]
tolerance = float(tolerance)
SLACK = 2000  # instructions: a few hundred more in a call that takes a thousand do not matter

# callgrind's lines: "fn=NAME" begins a function; "cfn=NAME", "calls=…", then "POSITION COST" is a call from it with all
# that the callee did. The kernels are what cpu_run calls.
kernels, planning, total, function, callee = collections.Counter(), 0, 0, "", None
bare = lambda name: re.sub(r"\.(part|constprop|isra|cold)\.\d+|'\d+$", "", name)
inside_planning = 0
for line in open(counts):
    if line.startswith("fn="):
        function = bare(line[3:].strip())
    elif line.startswith("cfn="):
        callee = bare(line[4:].strip())
    elif line.startswith("summary:") or line.startswith("totals:"):
        total = int(line.split()[1])
    elif callee and line[:1].isdigit():
        cost = int(line.split()[1])
        if function == "cpu_run":
            kernels[callee] += cost
        if callee == "sl_training_pass":
            planning += cost
        callee = None
result = dict(sorted(kernels.items(), key=lambda item: -item[1]))
result["(planning)"] = planning
result["(everything else)"] = total - sum(kernels.values()) - planning
if not kernels or not planning:
    sys.exit("no kernel was found in callgrind's counts: has cpu_run or sl_training_pass another name now?")

if update:
    with open(stored, "w") as file:
        json.dump({"compiler": compiler, "total": total, "instructions": result}, file, indent=1)
        file.write("\n")
    print(f"{stored}: {total} instructions in {len(kernels)} kernels")
    sys.exit()
with open(stored) as file:
    old = json.load(file)
print(f"{'':28} {'stored':>12} {'now':>12} {'ratio':>7}")
slower = faster = 0
rows = [(name, old["instructions"].get(name, 0), result.get(name, 0)) for name in {**old["instructions"], **result}]
for name, before, now in rows + [("(total)", old["total"], total)]:
    words = ""
    if before == 0:
        words = "new"
    elif now == 0:
        words = "gone"
    elif now > before * (1 + tolerance / 100) + SLACK:
        words = "MORE"
        slower += 1
    elif now < before * (1 - tolerance / 100) - SLACK:
        words = "less"
        faster += 1
    ratio = f"{now / before:7.3f}" if before and now else f"{'':7}"
    print(f"{name:28} {before:12} {now:12} {ratio}  {words}".rstrip())
if slower:
    sys.exit(f"{slower} of these take over {tolerance:g} % more instructions; where that is meant: --update")
print("nothing takes more" + ("; --update stores what takes less, so that it stays" if faster else ""))
END
python3 "$work/compare.py" "$work/counts" "$stored" "$compiler" "$tolerance" "$update"
