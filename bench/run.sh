#!/bin/sh
# Training speed of Slope beside PyTorch, ggml and KANN on this machine's CPU, in turn, so that a slow minute hits all.
#
#   bench/run.sh [--build DIR] [--threads N] [--times N] [--rounds N] [--models "mlp lenet …"] [--mode MODE]
#                [--peers DIR] [--save] [--machine NAME]
#
# --build    where bench_train was built (default: build)
# --times    how often each program is run for each model (default 5), each time for --rounds epochs (default 3)
# --mode     of peers/torch_train.py; without it every mode is tried for one epoch first and the best is taken
# --peers    where peers/build.sh put ggml_train and kann_train (default: build/peers); what is not there is left out
# --save     also writes bench/results/<date>-<machine>.json and .md, with the commit; compare.py compares two of them
# PYTHON     the interpreters to use, by default python3 and /usr/bin/python3, where they have torch
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=build threads=$(nproc) times=5 rounds=3 models="mlp lenet cnn cnn-plain" mode= save= machine= peers=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2 && shift 2 ;;
    --threads) threads=$2 && shift 2 ;;
    --times) times=$2 && shift 2 ;;
    --rounds) rounds=$2 && shift 2 ;;
    --models) models=$2 && shift 2 ;;
    --mode) mode=$2 && shift 2 ;;
    --machine) machine=$2 && shift 2 ;;
    --peers) peers=$2 && shift 2 ;;
    --save) save=yes && shift ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2 && exit 2 ;;
    esac
done
ours=$build/bench/bench_train
: "${peers:=$build/peers}"
if [ ! -x "$ours" ]; then
    echo "$ours is missing: build it (cmake --build $build --target bench_train) or name --build" >&2
    exit 1
fi
: "${machine:=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1) $(nproc) CPUs}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$work/lines"
: > "$work/peers"

# Interpreters with torch, one of each version: "interpreter version"
for python in ${PYTHON:-python3 /usr/bin/python3}; do
    version=$("$python" -c 'import torch; print(torch.__version__)' 2> /dev/null) || continue
    grep -q " $version\$" "$work/peers" || echo "$python $version" >> "$work/peers"
done
[ -s "$work/peers" ] || echo "no PyTorch found (PYTHON names other interpreters): measuring Slope alone" >&2

peer() { "$1" "$here/peers/torch_train.py" --model "$2" --threads "$threads" --mode "$3" --rounds "$4" 2> "$work/log"; }
# The others' OpenBLAS has one thread in each of theirs, and chooses its kernels itself.
other() {
    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE OPENBLAS_NUM_THREADS=1 "$1" --model "$2" --threads "$threads" --rounds "$rounds"
}
first_rate() { sed -n 's/.*"samples_per_second": \[\([0-9]*\).*/\1/p'; }

# The best mode of each interpreter for each model.
while read -r python version; do
    for model in $models; do
        best=$mode best_rate=0
        for trial in $([ -n "$mode" ] || "$python" "$here/peers/torch_train.py" --modes); do
            rate=$(peer "$python" "$model" "$trial" 1 < /dev/null | first_rate)
            echo "trying pytorch $version $model $trial: ${rate:-failed}" >&2
            if [ "${rate:-0}" -gt "$best_rate" ]; then best=$trial best_rate=$rate; fi
        done
        echo "$model ${best:-eager}" >> "$work/mode-$version"
    done
done < "$work/peers"

commit=$(git -C "$here" describe --always --dirty 2> /dev/null || echo unknown)
load=$(cut -d' ' -f1-3 /proc/loadavg)
for turn in $(seq "$times"); do
    for model in $models; do
        echo "turn $turn of $times: $model" >&2
        "$ours" --model "$model" --threads "$threads" --rounds "$rounds" --json >> "$work/lines"
        while read -r python version; do
            chosen=$(sed -n "s/^$model //p" "$work/mode-$version")
            peer "$python" "$model" "$chosen" "$rounds" < /dev/null >> "$work/lines" || cat "$work/log" >&2
        done < "$work/peers"
        for program in "$peers/ggml_train" "$peers/kann_train"; do
            if [ -x "$program" ]; then other "$program" "$model" >> "$work/lines"; fi
        done
    done
done
load="$load before, $(cut -d' ' -f1-3 /proc/loadavg) after"

cat > "$work/table.py" <<'END'
import collections, json, statistics, sys
source, to_json, machine, commit, date, load, threads = sys.argv[1:]
runs = collections.OrderedDict()
peaks = []
for text in open(source):
    line = json.loads(text)
    if "failed" in line:
        print(f"{line.get('model', '')} {line.get('mode', '')}: {line['failed']}", file=sys.stderr)
        continue
    name = line["framework"] + (" (" + line["mode"] + ")" if "mode" in line else "")
    runs.setdefault(line["model"], collections.OrderedDict()).setdefault(name, []).append(line["samples_per_second"])
    if "peak_gflops" in line:
        device = line["device"]
        peaks.append(line["peak_gflops"])
print(f"{date}, {machine}. Slope {commit} on {device}; {threads} threads; load average {load}.")
print(f"Peak of multiply-add between the epochs: median {statistics.median(peaks):.0f} GFLOP/s "
      f"({min(peaks):.0f} to {max(peaks):.0f}).")
print("Samples a second: median of all rounds, lowest and highest. Ratio: Slope's median divided by the peer's turn by "
      "turn, the median of these and their range.\n")
print("| model | framework | samples/s | lowest | highest | Slope is faster by |")
print("|---|---|---:|---:|---:|---:|")
out = {"date": date, "machine": machine, "commit": commit, "device": device, "threads": int(threads), "load": load,
       "peak_gflops": peaks, "models": {}}
for model, frameworks in runs.items():
    slope = next(iter(frameworks.values()))
    out["models"][model] = {}
    for name, turns in frameworks.items():
        every = [rate for turn in turns for rate in turn]
        ratios = sorted(statistics.median(a) / statistics.median(b) for a, b in zip(slope, turns))
        ratio = "" if turns is slope else f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {model} | {name} | {statistics.median(every):.0f} | {min(every):.0f} | {max(every):.0f} | {ratio} |")
        out["models"][model][name] = {"samples_per_second": turns}
if to_json:
    with open(to_json, "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")
END
date=$(date -u +%Y-%m-%d)
name=$here/results/$date-$(echo "$machine" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
table() { python3 "$work/table.py" "$work/lines" "$1" "$machine" "$commit" "$date" "$load" "$threads"; }
if ! command -v python3 > /dev/null; then
    cat "$work/lines"
elif [ -n "$save" ]; then
    mkdir -p "$here/results"
    table "$name.json" | tee "$name.md"
else
    table ""
fi
