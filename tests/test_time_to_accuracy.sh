#!/usr/bin/env bash
# bench/time_to_accuracy trains what the command trains, and what it prints can be read by a program.
#   test_time_to_accuracy.sh TIME_TO_ACCURACY SLOPE [PYTHON]
set -eu
export LC_ALL=C.UTF-8
time_to_accuracy=$(realpath "$1") slope=$(realpath "$2") python=${3-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

cat >recipe.txt <<'END'
model        conv5-8s2 bn act pool2 dense10   # small, and enough for some of the accuracies
data         digits
limit-train  2500
limit-test   500
batch        25
epochs       3
rate         0.02
schedule     one-cycle
END
run="--recipe recipe.txt --device cpu"

# --- the same bits as the command, on the test images and on those held out ---
for more in "" "--validation 700"; do
    "$time_to_accuracy" $run $more --seed 7 --seeds 2 --checks 3 --json >out.json
    [ "$(wc -l <out.json)" = 1 ] || fail "--json is not one line: $(cat out.json)"
    for seed in 7 8; do
        "$slope" train $run $more --seed $seed --quiet --log log.jsonl >/dev/null
        for key in fingerprint validation_accuracy; do
            value=$(tail -1 log.jsonl | sed "s/.*\"$key\":\"\{0,1\}\([0-9a-f.]*\).*/\1/")
            [ -n "$value" ] && grep -qF "$value" out.json || fail "seed $seed $more: $key $value is not in $(cat out.json)"
        done
    done
done
if [ -n "$python" ]; then
    "$python" - <<'END' || fail "the object is not as described: $(cat out.json)"
import json
from statistics import mean, stdev

out = json.load(open("out.json"))
seeds = out["seeds"]
assert [one["seed"] for one in seeds] == [7, 8] and out["accuracy_on"] == "held out"
assert (out["images"], out["batch"], out["epochs"], out["checks_per_epoch"]) == (1800, 25, 3, 3)
def agrees(spread, values):
    values = [v for v in values if v is not None]
    near = lambda a, b: abs(a - b) <= 1e-9 * abs(b)
    assert spread["n"] == len(values)
    assert near(spread["mean"], mean(values)) if values else spread["mean"] is None
    assert near(spread["sd"], stdev(values)) if len(values) > 1 else not spread["sd"]
for key in "seconds", "accuracy":
    agrees(out[key], [one[key] for one in seeds])
assert list(out["seconds_to"]) == ["97", "98", "99", "99.3"]
for i, spread in enumerate(out["seconds_to"].values()):
    agrees(spread, [one["seconds_to"][i] for one in seeds])
for one in seeds:
    times = [t for t in one["seconds_to"] if t is not None]
    assert times == sorted(times) and all(0 < t <= one["seconds"] for t in times)
    assert (one["seconds_to"][0] is None) <= (one["accuracy"] < 0.97)
END
fi

# --- for people ---
"$time_to_accuracy" $run --seeds 1 --checks 1 --limit-test 1 --epochs 1 >out
for text in "recipe.txt" "synthetic digits" "2 500 images" "clock " "to  99.3 %" "0 of 1\|1 of 1" "not counted" "first step"; do
    grep -q -- "$text" out || fail "'$text' is not in $(cat out)"
done

# --- wrong uses ---
for wrong in "--seeds 0" "--seeds x" "--checks 0" "--out x" "frob" "--schedule plateau" "--validation 2500" "--epochs 0"; do
    "$time_to_accuracy" $run $wrong >out 2>err && fail "accepted: $wrong"
    [ -s err ] && [ ! -s out ] || fail "$wrong: $(cat out err)"
done
echo "all fine"
