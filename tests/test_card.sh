#!/usr/bin/env bash
# slope card: the numbers of some pages, that they do not depend on the run, and the wrong uses.
#   test_card.sh SLOPE     the path of the command
set -u
export LC_ALL=C.UTF-8
unset SLOPE_ISA SLOPE_GUARD SLOPE_DATA_DIR
export SLOPE_DATA_MIRROR=off
slope=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

has() { # FILE TEXT
    grep -qF -- "$2" "$1" || fail "'$2' is not in $1: $(head -5 "$1" 2>&1)"
}

hasnt() {
    grep -qF -- "$2" "$1" && fail "'$2' is in $1"
}

# gives STATUS arguments…
gives() {
    local want=$1 got
    shift
    "$slope" card "$@" >out 2>err </dev/null
    got=$?
    [ $got = "$want" ] || fail "slope card $*: status $got, not $want: $(head -3 err)"
}

refuse() { # STATUS "part of the sentence" arguments…
    local want=$1 part=$2
    shift 2
    gives "$want" "$@"
    has err "$part"
    [ "$(wc -l <err)" = 1 ] || fail "slope card $*: $(wc -l <err) lines instead of one sentence"
    [ -s out ] && fail "slope card $*: standard output is not empty"
}

short="--no-bench --no-train --quiet"

# --- a row ---
gives 0 relu $short
[ "$(cat out)" = slope-card-relu.md ] || fail "it says that it wrote $(cat out)"
[ -s err ] && fail "--quiet prints $(head -1 err)"
has slope-card-relu.md 'value  x > 0 ? x : x <= 0 ? 0 : x'
has slope-card-relu.md "At x = 0 the slope jumps from 0 to 1."
has slope-card-relu.md "| 0.3989 | 0.5 | 0.5 | 1.4142 | normal, variance gain²/fan_in |"
has slope-card-relu.md "- value: 0 ulp"
hasnt slope-card-relu.md "## Trained"
hasnt slope-card-relu.md "## Speed"
if command -v gnuplot >/dev/null; then
    has slope-card-relu.md "](slope-card-relu.svg)"
    has slope-card-relu.svg "<svg"
fi
gives 0 sigmoid $short --out sigmoid.md
has sigmoid.md "| value | 0 | 0.5 | 1 | 0 | 1 |"
has sigmoid.md "| slope | 0 | 0.25 | 0 | 0 | 0.25 at x = 0 |"
has sigmoid.md "Xavier"
has sigmoid.md "Value and slope have no jump"
# Sigmoid loses the gradient on its way through 40 layers, and selu does not.
ratio() { awk -F'|' '/^\| 40 /{ print $7 }' "$1"; }
gives 0 selu $short --out selu.md
awk -v a="$(ratio sigmoid.md)" -v b="$(ratio selu.md)" 'BEGIN { exit !(a > 0 && a < 1e-20 && b > 0.1 && b < 10) }' ||
    fail "first / last gradient at 40 layers: sigmoid $(ratio sigmoid.md), selu $(ratio selu.md)"
gives 0 hard_tanh $short --out hard_tanh.md
has hard_tanh.md "At x = -1 the slope jumps from 0 to 1."
has hard_tanh.md "At x = 1 the slope jumps from 1 to 0."
gives 0 swish $short --out swish.md
has swish.md "| beta (a) | 1 | fixed, can be learned |"
gives 0 step $short --out step.md
has step.md "At x = 0 the value jumps from 0 to 1."
has step.md "no gradient passes"

# --- an expression: the numbers are the row's, where it is the row's function ---
gives 0 "max(x,0)" $short --out max.md
has max.md '# `max(x,0)`'
has max.md "derived symbolically"
for part in "At the start of training" "float32"; do
    part_of() { sed -n "/^## $part/,/^## /p" "$1" | grep -v "^Made by\|^## "; }
    [ "$(part_of max.md)" = "$(part_of slope-card-relu.md)" ] || fail "max(x,0) and relu differ under '$part'"
done
gives 0 "b*x; b=2 learn" $short
has slope-card-b-x-b-2-learn.md "| value | −∞ | 0 | ∞ | −∞ | ∞ |"

# --- a training of its own: the same page for any number of threads ---
gives 0 tanh --no-bench --threads 1 --out one.md
has err "training mlp with tanh"
if [ -z "${SLOPE_TEST_QUICK-}" ]; then
    gives 0 tanh --no-bench --threads 2 --quiet --out two.md
    sed 's/two\.svg/one.svg/' two.md | cmp -s one.md - || fail "the page depends on the threads"
fi
has one.md '**`tanh`**'
has one.md '| `relu` |'
[ "$(grep -F '`tanh`' one.md | cut -d'|' -f3)" != "$(grep -F '`relu`' one.md | cut -d'|' -f3)" ] ||
    fail "tanh and relu have the same accuracy"
has one.md "generated digits (not MNIST)"
hasnt one.md "seconds an epoch"

# --- a comparison's ---
"$slope" compare --model "dense16 act dense10" --activations relu,tanh --seeds 2 --epochs 1 --data digits \
    --limit-train 300 --limit-test 100 --device cpu --quiet --out runs >/dev/null 2>err || fail "compare: $(cat err)"
gives 0 tanh --no-bench --quiet --from runs --out from.md
has from.md '**`tanh`**'
has from.md "seconds an epoch"
has from.md "over the seeds (2)"
refuse 1 "runs holds no finished run of gelu" gelu $short --from runs
refuse 1 "" relu $short --from nowhere

# --- speed ---
gives 0 relu --no-train --quiet --device cpu --out fast.md
has fast.md "## Speed"
has fast.md "| bias + value, fused |"

# --- without gnuplot ---
mkdir bin
PATH=$folder/bin gives 0 relu --no-bench --no-train --out bare.md
has err "gnuplot is missing"
hasnt bare.md "svg"

# --- wrong uses ---
refuse 2 "one word is expected"
refuse 2 "one word is expected" relu tanh
refuse 2 "Did you mean relu?" reluu
refuse 2 "character" "x*(" $short
refuse 2 "must end in .md" relu --out page.html
refuse 1 "cannot be written" relu $short --out nowhere/page.md

[ $failures = 0 ] || exit 1
echo "slope card: all as expected"
