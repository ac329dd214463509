#!/usr/bin/env bash
# slope compare: interrupted, killed, extended, refused, rendered again; what it prints and writes.
#   test_compare.sh SLOPE     the path of the command
set -u
export LC_ALL=C.UTF-8
unset SLOPE_ISA SLOPE_DATA_DIR
export SLOPE_DATA_MIRROR=off
slope=$(realpath "$1")
compare() { # without gnuplot, whose pictures are another test's
    PATH=$folder/none "$slope" compare "$@"
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

has() { # FILE TEXT
    grep -qF -- "$2" "$1" || fail "'$2' is not in $1: $(head -50 "$1")"
}

accept() {
    compare "$@" >out 2>err </dev/null || fail "slope compare $*: status $?: $(cat err)"
}

# refuse STATUS "part of the sentence" arguments… : one sentence on standard error, nothing on standard output
refuse() {
    local want=$1 part=$2 got
    shift 2
    compare "$@" >out 2>err </dev/null
    got=$?
    [ $got = "$want" ] || fail "slope compare $*: status $got, not $want: $(head -2 err)"
    has err "$part"
    [ "$(wc -l <err)" = 1 ] || fail "slope compare $*: more than a sentence: $(cat err)"
    [ -s out ] && fail "slope compare $*: standard output is not empty"
}

numbers() { # DIR: results.csv without the seconds, which stand last
    sed 's/,[^,]*$//' "$1/results.csv"
}

same() { # DIR DIR WHAT
    cmp -s <(numbers "$1") <(numbers "$2") || fail "$3: $(diff <(numbers "$1") <(numbers "$2") | head -4)"
}

tiny="--data digits --limit-train 300 --limit-test 100 --quiet"
small="$tiny --batch 50"

# --- interrupted within a run, killed within a run, gone on with: the numbers of one that was not ---
many=1500
if [ -n "${SLOPE_TEST_QUICK-}" ]; then many=500; fi
long="--model lenet --data digits --limit-train $many --limit-test 200 --epochs 3 --seeds 2 --threads 1 --quiet"
acts="relu,max(x,0.1*x)"
accept $long --activations "$acts" --out whole

# stop SIGNAL LINES: stops DIR once some log that is going on has so many lines
stop() {
    local signal=$1 lines=$2 pid
    PATH=$folder/none "$slope" compare $long --activations "$acts" --out broken >out 2>err </dev/null &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        for part in broken/runs/*.part; do
            [ -f "$part" ] && [ "$(wc -l <"$part")" -ge "$lines" ] && break 2
        done
        sleep 0.01
    done
    kill -"$signal" $pid 2>/dev/null
    wait $pid 2>/dev/null
    status=$?
}

for round in 1 2 3; do # a signal between two runs leaves no checkpoint
    rm -rf broken
    stop INT 3 # the line about the run, the first step, one epoch
    [ $status = 1 ] || fail "an interrupted comparison ends with status $status"
    has err "The same command goes on"
    ls broken/runs/*.safetensors >/dev/null 2>&1 && break
done
ls broken/runs/*.safetensors >/dev/null 2>&1 || fail "no checkpoint is left behind"
run=$(basename broken/runs/*.part .part)
before=$(cat "broken/runs/$run.part")
stop KILL 4 # goes on from the checkpoint, and is killed an epoch later
[ $status = 137 ] || fail "the comparison was over before it was killed"
case "$(cat broken/runs/"$run".part broken/runs/"$run".jsonl 2>/dev/null)" in
"$before"*) ;;
*) fail "what was there is not kept: $before" ;;
esac
stop TERM 3 # from the checkpoint again: the log is cut back to it
accept $long --activations "$acts" --out broken
same whole broken "interrupted and gone on with"
ls broken/runs | grep -v '\.jsonl$' && fail "something is left beside the finished runs"
for run in whole/runs/*; do
    "$slope" diverge "$run" "broken/runs/$(basename "$run")" >/dev/null 2>err || fail "$(basename "$run") differs: $(cat err)"
done

# --- a run is the one that train makes ---
"$slope" train ${long/--seeds 2/} --activation relu --log log.jsonl >/dev/null 2>err || fail "$(cat err)"
"$slope" diverge log.jsonl whole/runs/relu-seed1.jsonl >/dev/null 2>err || fail "compare trains otherwise than train: $(cat err)"

# each activation and each seed gives numbers of its own
[ "$(awk -F, 'NR > 1 { print $(NF - 5) }' whole/results.csv | sort -u | wc -l)" = 12 ] ||
    fail "runs are alike: $(cat whole/results.csv)"


# --- the seconds are the log's ---
accept $tiny --model softmax --epochs 2 --no-diagnose --activations relu --seeds 1 --out plain
seconds=$(sed -n 's/^{"epoch":1,.*"seconds":\([0-9.e-]*\),.*/\1/p' plain/runs/relu-seed1.jsonl)
awk -F, -v seconds="$seconds" 'NR == 2 { difference = $NF - seconds; exit !(difference < 1e-6 && difference > -1e-6) }' \
    plain/results.csv || fail "epoch 1 took $seconds s: $(sed -n 2p plain/results.csv)"
grep -q gradient_norm plain/runs/* && fail "--no-diagnose diagnoses"
grep -q gradient_norm whole/runs/relu-seed1.jsonl || fail "nothing is diagnosed"

# --- the images are the same for all seeds: from zero, in one step an epoch, nothing else makes a difference ---
accept $tiny --model softmax --batch 300 --init zeros --optimizer sgd --epochs 2 --activations relu --seeds 2 --out zeros
[ "$(awk -F, 'NR > 1 && $3 == 2 { print $7 }' zeros/results.csv | uniq | wc -l)" = 1 ] ||
    fail "seeds see other images: $(cat zeros/results.csv)"

# --- one at a time ---
(
    flock 9
    failures=0
    refuse 1 "another slope compare is at work" $long --out whole
    exit $failures
) 9<whole || failures=$((failures + 1))

# --- extended by an activation and by a seed; all at once gives the same ---
accept $small --model softmax --epochs 2 --activations relu --seeds 2 --out grown
accept $small --model softmax --epochs 2 --activations swish --out grown
accept $small --model softmax --seeds 3 --out grown # what is left out is the folder's
cp out table
accept $small --model softmax --epochs 2 --activations relu,swish --seeds 3 --out at_once
same grown at_once "extended"
[ "$(wc -l <grown/results.csv)" = 13 ] || fail "results.csv: $(cat grown/results.csv)"

# --- made again without training ---
stat -c '%n %i %Z' grown/runs/* grown/comparison.json >stamps
rm grown/results.csv grown/summary.csv grown/results.json
accept --out grown --quiet
cmp -s out table || fail "the table made again differs: $(diff out table)"
same grown at_once "made again"
stat -c '%n %i %Z' grown/runs/* grown/comparison.json | cmp -s - stamps || fail "it trained again"

# --- refused: another experiment in the folder, with what differs ---
refuse 1 "--batch is 64, there it is 50" --out grown --batch 64
refuse 1 "--epochs is 5, there it is 2" --out grown --batch 50 --epochs 5
refuse 1 "--rate is 0.5, there it is left out" --out grown --rate 0.5
refuse 1 "--model is cnn, there it is softmax" --out grown --model cnn
refuse 1 "--validation is 50, there it is left out" --out grown --validation 50
refuse 1 "--vary is batch, there it is left out" --out grown --vary batch=32,64
refuse 1 "--depth is given" --out grown --depth 2
refuse 1 "--no-diagnose is yes, there it is left out" --out grown --no-diagnose
cp -r grown hurt
echo '{' >hurt/comparison.json
refuse 1 "is damaged" --out hurt
cp grown/comparison.json hurt
echo 'no line' >>hurt/runs/relu-seed1.jsonl
refuse 1 "relu-seed1.jsonl, line" --out hurt

# --- the table ---
accept $small --model softmax --epochs 1 --activations 'relu,leaky_relu(0.2)' --seeds 3 --validation 50 --out table_held
has out "on training images held out"; has out "± "; has out "leaky_relu(0.2)"
has out "test"; has out "3 seeds, p after Holm for 1 pair"
has table_held/summary.csv "leaky_relu(0.2),3,0,7850,"
has table_held/results.json '"test_accuracy"'
head -1 table_held/results.csv | grep -qx 'activation,seed,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,rate,seconds' ||
    fail "the head of results.csv: $(head -1 table_held/results.csv)"
# softmax has no activation, so all pairs are equal
has out "none exceeds the noise: the smallest p is 1.00"
accept $small --model softmax --epochs 1 --activations relu,tanh --seeds 1 --out table_one
has out "One seed cannot tell"; has out "on the test set, because no --validation was given"
grep -q ± out && fail "a deviation of one seed: $(cat out)"

# --- several values, side by side; a name with commas in a CSV file ---
accept $tiny --model "dense16 act dense10" --epochs 1 --activations 'max(x,0.1*x)' --seeds 1 --vary batch=25,50 --out varied
has out "--- batch 25 ---"; has out "--- batch 50 ---"
grep -q '^50,"max(x,0.1\*x)",1,1,' varied/results.csv || fail "results.csv: $(cat varied/results.csv)"
accept $small --model "dense16 act drop.5 dense10" --epochs 1 --activations relu --seeds 1 --vary dropout=0,.9 --out dropped
[ "$(cut -d, -f5 dropped/results.csv | sort -u | wc -l)" = 3 ] || fail "dropout made no difference: $(cat dropped/results.csv)"
has dropped/runs/"$(ls dropped/runs | head -1)" "dense16 act drop"

# --- depth: variance and gradients at the first step ---
accept $small --epochs 1 --activations relu --seeds 1 --depth 1,10 --width 64 --vary init=he,lecun --out deep
has out "--- depth 10, init he ---"; has out "variance of the values"
# lecun halves the variance of ReLU's values in each layer, he keeps it
python=$(awk '/depth 10, init (he|lecun)/ { init = $5 } /^relu .* × / && init { print init, $5; init = "" }' out)
awk 'BEGIN { bad = 2 } $1 == "he" && $2 > 0.8 && $2 < 1.25 { bad-- } $1 == "lecun" && $2 > 0.4 && $2 < 0.62 { bad-- } END { exit bad }' \
    <<<"$python" || fail "the variance of deep ReLU networks: $python: $(cat out)"

# --- a run that diverges is a result ---
accept $small --model "dense64 act dense64 act dense10" --optimizer sgd --rate 1e6 --epochs 2 --activations relu,sigmoid --seeds 1 --out gone
has out "1 of 1 diverged"
has gone/results.json '"diverged":	true'

# --- wrong use leaves no folder behind ---
refuse 2 "'relu' and 'relu' are the same function" --activations relu,relu --out none
refuse 2 "'leaky_relu' and 'leaky_relu(0.01)' are the same function" --activations 'leaky_relu,leaky_relu(0.01)' --out none
refuse 2 "there is nothing between two commas" --activations relu,,tanh --out none
refuse 2 "the brackets do not match" --activations 'relu,max(x,0' --out none
refuse 2 "Did you mean relu?" --activations rely --out none
refuse 2 "it must be a whole number" --seeds 0 --out none
refuse 2 "did you mean batch?" --vary bach=3 --out none
refuse 2 "cannot be varied; what can be are batch" --vary model=mlp,cnn --out none
refuse 2 "its values: batch=32,128" --vary batch --out none
refuse 2 "exclude each other" --vary batch=3,4 --batch 5 --out none
refuse 2 "in --vary: --batch is 'x'" $tiny --model mlp --vary batch=x --out none
refuse 2 "a value stands there twice" --vary batch=3,3 --out none
refuse 2 "there is no dropout in the line" $small --model mlp --vary dropout=.1,.2 --out none
refuse 2 "whole number from 1 to 1000" --depth 2,0 --out none
refuse 2 "exclude each other" --depth 2 --model mlp --out none
refuse 2 "is no option" relu --out none
refuse 2 "there is no optimizer" $small --model mlp --optimizer sdg --out none
refuse 1 "cannot be made" --out none/none
[ -e none ] && fail "wrong use leaves a folder: $(ls -R none)"

[ $failures = 0 ] || { echo "$failures failures" >&2; exit 1; }
