#!/usr/bin/env bash
# The slope command and CUDA: what --device says where there is no device, and that training on one in exact mode,
# real or simulated, leaves the bytes that the CPU leaves.
#   test_cuda_cli.sh SLOPE     the path of the command
# MNIST is taken from $SLOPE_DATA_DIR; where it is missing, the built-in digits serve.
set -u
export LC_ALL=C.UTF-8
unset SLOPE_ISA SLOPE_GUARD SLOPE_SIMT_FAIL SLOPE_SIMT_ORDER
export SLOPE_DATA_MIRROR=off
slope=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export XDG_CACHE_HOME=$folder/cache
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# refuse "part of the sentence" arguments… : one sentence on standard error, nothing on standard output, status 1 or 2
refuse() {
    local part=$1 status
    shift
    "$slope" "$@" >out 2>err </dev/null
    status=$?
    [ $status = 1 ] || [ $status = 2 ] || fail "slope $*: status $status: $(head -2 err)"
    grep -qF -- "$part" err || fail "slope $*: '$part' is not in: $(cat err)"
    [ "$(wc -l <err)" = 1 ] || fail "slope $*: $(wc -l <err) lines instead of one sentence: $(cat err)"
    [ -s out ] && fail "slope $*: standard output is not empty"
}

accept() { # arguments… : status 0
    "$slope" "$@" >out 2>err </dev/null || fail "slope $*: status $?: $(cat err)"
}

has() { # FILE TEXT
    grep -qF -- "$2" "$1" || fail "'$2' is not in $1: $(head -5 "$1")"
}

finish() {
    [ $failures = 0 ] || exit 1
    echo "$*"
    exit 0
}

tiny="--data digits --limit-train 40 --limit-test 20 --epochs 1 --model softmax"

# What a machine without a device sees: a sentence where CUDA was asked for, the CPU where it was left open.
without() { # WORDS
    refuse "$1" train $tiny --device cuda
    refuse "$1" train $tiny --device cuda --exact
    accept train $tiny --device auto; has err "$1"; has err "device   cpu:"
    accept info; has out "$1"
}

if ! "$slope" info | grep -q "^  cuda"; then fail "slope info says nothing of CUDA: $("$slope" info)"; fi
if "$slope" info | grep -q "this build has no CUDA part"; then
    refuse "built without CUDA" train $tiny --device cuda
    refuse "built without CUDA" diverge --data digits --limit-train 40 --model softmax --a "--device cuda" --b ""
    accept train $tiny --device auto; has err "device   cpu:"
    finish "all fine, without CUDA"
fi
if "$slope" info | grep -q "^  cuda *simulated"; then
    [ "${SLOPE_REQUIRE_GPU-}" = 1 ] && fail "SLOPE_REQUIRE_GPU asks for a real device"
    while IFS=: read -r cause words; do
        SLOPE_SIMT_FAIL=$cause without "$words"
    done <<'END'
driver:there is no CUDA device: no NVIDIA driver is installed
old:the NVIDIA driver is too old
device:there is no CUDA device
architecture:found simulated (sm_80), but this library was built for
busy:the CUDA device simulated is busy
memory:the CUDA device simulated has not enough free memory
END
    refuse "device_index is 1" train $tiny --device cuda:1
elif ! "$slope" train $tiny --device cuda >out 2>err; then
    [ "${SLOPE_REQUIRE_GPU-}" = 1 ] && fail "SLOPE_REQUIRE_GPU asks for a device: $(cat err)"
    without "$(sed -n 's/.*--device cuda: //p' err | head -1 | cut -c1-30)"
    finish "all fine, without a CUDA device: $(tail -1 err)"
fi

# --- with a device ---
device=$("$slope" info | sed -n 's/^  cuda *//p')
accept info mlp --device cuda; has out "plan on cuda"
accept train $tiny --device auto; has err "device   cuda:"
accept train $tiny --device cuda; has err "device   cuda: ${device%%,*}"
refuse "exact results are fp32" train $tiny --device cuda --exact --precision tf32
for precision in tf32 bf16; do
    accept train $tiny --device cuda --precision $precision; has err "device   cuda:"
done
if grep -q simulated <<< "$device"; then
    SLOPE_SIMT_SM=75 refuse "bf16 needs a GPU of sm_80" train $tiny --device cuda --precision bf16
fi

data="--data digits"
if [ -d "${SLOPE_DATA_DIR-/nonexistent}/mnist" ]; then data="--data mnist"; fi
fingerprints() { grep -o '"fingerprint":"[0-9a-f]*"' "$1"; }

# same MODEL arguments… : the CPU and the device leave the same file, and say the same fingerprint after each epoch
same() {
    local model=$1
    shift
    accept train $data --model "$model" "$@" --device cpu --out cpu.safetensors --log cpu.jsonl
    cp out cpu.out
    accept train $data --model "$model" "$@" --device cuda --exact --out cuda.safetensors --log cuda.jsonl
    [ -s cpu.safetensors ] || fail "$model: nothing was saved"
    cmp -s cpu.safetensors cuda.safetensors || fail "$model: the device leaves other bytes than the CPU"
    fingerprints cpu.jsonl >cpu.words
    fingerprints cuda.jsonl >cuda.words
    [ "$(wc -l <cpu.words)" -ge 1 ] || fail "$model: the log has no fingerprint"
    cmp -s cpu.words cuda.words || fail "$model: other fingerprints: $(cat cpu.words cuda.words)"
    grep -qF "$(tail -1 cpu.words | cut -d'"' -f4)" out || fail "$model: the fingerprint is not printed"
    rm -f ./*.safetensors ./*.jsonl
}
same mlp --limit-train 2000 --limit-test 500 --epochs 1
same cnn --limit-train 160 --limit-test 40 --epochs 1 --batch 8
same "conv3-4s2 bn act drop.2 gap dense10" --limit-train 130 --limit-test 40 --epochs 2 --batch 16 --clip-norm 1

# A run on one device goes on, bit by bit, on the other.
few="$data --model mlp --limit-train 200 --batch 20"
accept train $few --limit-test 20 --epochs 1 --device cuda --exact --out half.safetensors
accept train $data --limit-train 200 --limit-test 20 --resume half.safetensors --epochs 1 --device cpu --out rest.safetensors
cp half.safetensors onward.safetensors
accept train $data --limit-train 200 --limit-test 20 --resume onward.safetensors --epochs 1 --device cuda --exact --out rest-cuda.safetensors
cmp -s rest.safetensors rest-cuda.safetensors || fail "a run begun on the device goes on to other bytes on the CPU"
accept diverge $few --epochs 1 --quiet --a "--device cpu" --b "--device cuda --exact"; has out "equal: 10 steps"

finish "all fine on $device"
