#!/usr/bin/env bash
# slope bench: what it prints, that a program can read it, and what --compare says of two files.
#   test_bench.sh SLOPE     the path of the command
set -u
export LC_ALL=C.UTF-8
unset SLOPE_ISA SLOPE_GUARD
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
    grep -qF -- "$2" "$1" || fail "'$2' is not in $1: $(head -5 "$1")"
}

# gives STATUS arguments… : the results in out, the messages in err
gives() {
    local want=$1 got
    shift
    "$slope" bench "$@" >out 2>err </dev/null
    got=$?
    [ $got = "$want" ] || fail "slope bench $*: status $got, not $want: $(head -3 err)"
}

# refuse "part of the sentence" arguments… : wrong usage, in one sentence
refuse() {
    local part=$1
    shift
    gives 2 "$@"
    has err "$part"
    [ "$(wc -l <err)" = 1 ] || fail "slope bench $*: $(wc -l <err) lines instead of one sentence"
    [ -s out ] && fail "slope bench $*: standard output is not empty"
}

quick="--device cpu --elements 4096 --batch 4"

# --- everything, once ---
gives 0 $quick --rounds 1 --quiet
[ -s err ] && fail "--quiet prints $(head -1 err)"
for word in "copy (y = 1x)" "product of 64 x 64" relu gelu_tanh relu6 "linear(2)" "conv3-64 of 26 x 26 x 32" \
    "weight gradient" "pool2 of 24 x 24 x 64" "forward and backward" softmax lenet "planned memory" "load before"; do
    has out "$word"
done
[ "$(awk '/spread/ && length > m { m = length } END { print (m > 100) }' out)" = 0 ] || fail "the tables are wider than 100 columns"
grep -q "nan\|inf" out && fail "a table has numbers that are none: $(grep "nan\|inf" out | head -1)"

# --- as JSON ---
gives 0 kernels layers $quick --rounds 2 --json
cp out all.json
has err "pass 2 of 3"
# figure GROUP NAME FORM KEY : a number of a figure; cJSON prints one key a line
figure() {
    awk -v g="\"$1\"" -v n="\"$2\"" -v f="\"$3\"" -v key="\"$4\":" '
        { gsub(/[\t,]/, " ") }
        /"group":/ { in_group = index($0, g) } /"name":/ { in_name = index($0, n) } /"form":/ { in_form = index($0, f) }
        in_group && in_name && in_form && $1 == key { print $2; exit }' all.json
}
expect() { # WHAT GOT WANTED
    [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
}
expect "the operations of a product" "$(figure kernels "dense128 of 784" forward flops)" $((2 * 4 * 784 * 128))
expect "those of its weight gradient" "$(figure kernels "dense128 of 784" "weight gradient" flops)" $((2 * 4 * 784 * 128))
expect "those of its input gradient" "$(figure kernels "dense128 of 784" "input gradient" flops)" $((2 * 4 * 784 * 128))
expect "the operations of a convolution" "$(figure kernels "conv3-64 of 26 x 26 x 32" "input gradient" flops)" \
    $((2 * 4 * 24 * 24 * 64 * 9 * 32))
expect "those of a padded one" "$(figure kernels "conv3-16p1 of 28 x 28 x 16" forward flops)" \
    $((2 * 4 * (28 * 3 - 2) * (28 * 3 - 2) * 16 * 16))
expect "the bytes of a value" "$(figure activations relu value bytes)" $((8 * 4096))
expect "the bytes of a slope" "$(figure activations gelu slope bytes)" $((12 * 4096))
expect "the samples of a layer" "$(figure layers "bn of 26 x 26 x 32" forward samples)" 4
expect "the rounds" "$(figure activations tanh value rounds)" 2

# --- chosen activations, expressions among them ---
gives 0 kernels $quick --rounds 1 --quiet --activations "leaky_relu(0.2), max(x,0.1*x)"
has out "leaky_relu(0.2)"
has out "max(x,0.1*x)"
has out "gain"
grep -q "gelu\|conv" out && fail "more is measured than was asked for"

# --- two files ---
# slower FACTOR SPREAD : the first figure's times multiplied, with quartiles that far away on both sides
slower() {
    awk -v factor="$1" -v spread="$2" '
        /"us":/ { split(substr($0, index($0, "[") + 1), t, /[],]/); m = t[3] * factor
                  sub(/\[.*\]/, "[" m * (1 - 2 * spread) ", " m * (1 - spread) ", " m ", " m * (1 + spread) ", " m * (1 + 2 * spread) "]")
                  factor = 1 }
        { print }' all.json
}
slower 1 0.02 >old.json
slower 1.5 0.02 >slow.json
slower 1.5 0.4 >noisy.json
gives 0 --compare old.json old.json
has out "0 faster, 0 slower"
grep -q "%  faster\|%  slower" out && fail "equal files differ: $(cat out)"
gives 1 --compare old.json slow.json
has out "linear(2), value"
has out "0 faster, 1 slower"
has out "-33.3%"
gives 0 --compare slow.json old.json
has out "1 faster, 0 slower"
gives 0 --compare old.json noisy.json
has out "0 faster, 0 slower"
sed 's/"processor":.*/"processor":	"another one",/' old.json >elsewhere.json
gives 0 --compare old.json elsewhere.json
has out "The machines or settings differ (processor)"
sed '/"copy_gb_per_second"/s/\[.*\]/[1, 1, 1, 1, 1]/' old.json >throttled.json
gives 0 --compare old.json throttled.json
has out "another state"
sed 's/"bytes":.*/"bytes":	1,/' old.json >larger.json # of another size: not the same figure
gives 0 --compare old.json larger.json
has out "stand in one of the files only"

# --- wrong uses ---
refuse "did you mean layers?" layrs
refuse "there are kernels, layers and steps" everything
refuse "Did you mean relu?" --activations reluu
refuse "--activations" --activations "relu,,tanh"
refuse "--compare takes two files" --compare old.json
refuse "a number above 0" --seconds 0
refuse "from 1 to 128" --rounds 1000
gives 1 --compare old.json none.json
has err "none.json cannot be read"
for text in "" "{" "[1, 2]" '{"kind": "slope bench"}' '{"kind": 3, "figures": 4}'; do
    echo "$text" >bad.json
    gives 1 --compare old.json bad.json
    has err "bad.json: this is no result of slope bench --json"
done
echo '{"kind": "slope bench", "figures": [{"us": [1, 2]}, 3, null]}' >bad.json
gives 1 --compare bad.json old.json
has err "no figure in common"
"$slope" bench $quick kernels --activations relu --rounds 1 --quiet >/dev/full 2>err && fail "a full disk is no success"

[ $failures = 0 ] || exit 1
echo "slope bench: all as expected"
