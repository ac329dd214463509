#!/usr/bin/env bash
# Builds Slope, trains a small convnet on MNIST, and shows what came out.
#   scripts/mnist.sh [options of slope train…]       scripts/mnist.sh --epochs 10 --activation swish
# MNIST is searched in $SLOPE_DATA_DIR/mnist and in the cache, and downloaded where it is missing. Where that cannot be,
# the digits that Slope draws itself take its place. Model and log are left in build/mnist.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
*" --help "* | *" -h "*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac

scripts/setup.sh --no-tests
mkdir -p build/mnist
echo "building (build/release)…" >&2
slope=build/release/slope
{
    [ -f build/release/build.ninja ] || cmake --preset release -DSLOPE_TESTS=OFF -DSLOPE_BENCH=OFF -DSLOPE_EXAMPLES=OFF
    cmake --build --preset release --target slope_command
} >build/mnist/build.log 2>&1 || {
    cat build/mnist/build.log >&2
    exit 1
}

# --- data ----------------------------------------------------------------------------------------------------------
data=mnist
previous=
for argument; do # the last --data holds
    case $argument in --data=*) data=${argument#*=} ;; esac
    [ "$previous" != --data ] || data=$argument
    previous=$argument
done
if [ "$data" = mnist ]; then
    echo "looking for MNIST…" >&2
    if ! "$slope" train --quiet --data mnist --model softmax --epochs 1 --limit-train 1 --limit-test 1 \
        >build/mnist/data.log 2>&1; then
        cat build/mnist/data.log >&2
        for folder in ${SLOPE_DATA_DIR:+"$SLOPE_DATA_DIR/mnist"} "${XDG_CACHE_HOME:-${HOME-}/.cache}/slope/mnist"; do
            # Files that are there but wrong are not replaced by anything.
            if compgen -G "$folder/train-images*" >/dev/null; then exit 1; fi
        done
        data=digits
        echo
        echo "  NOTE: MNIST is not on this machine and cannot be downloaded. What follows uses digits that Slope draws"
        echo "  itself. They are not MNIST: the accuracies below say nothing about MNIST."
        echo
    fi
fi

# --- training ------------------------------------------------------------------------------------------------------
model=build/mnist/lenet.safetensors log=build/mnist/log.jsonl
"$slope" train --model lenet --activation relu --epochs 3 --batch 64 --optimizer adam --rate 0.01 --schedule one-cycle \
    --out "$model" --log "$log" "$@" --data "$data"
previous=
for argument; do # a user's own --out and --log
    case $argument in
    --out=*) model=${argument#*=} ;;
    --log=*) log=${argument#*=} ;;
    esac
    case $previous in
    --out) model=$argument ;;
    --log) log=$argument ;;
    esac
    previous=$argument
done

# --- the curve -----------------------------------------------------------------------------------------------------
echo
awk '
    function number(name) { # of "name":number in this line; "" where there is none
        if (!match($0, "\"" name "\": *-?[0-9][0-9.eE+-]*")) return ""
        return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0
    }
    { epoch = number("epoch") }
    epoch != "" && number("validation_accuracy") != "" {
        epochs[++n] = epoch
        accuracy[n] = 100 * number("validation_accuracy")
        loss[n] = number("validation_loss")
        if (n == 1 || accuracy[n] < low) low = accuracy[n]
        if (n == 1 || accuracy[n] > high) high = accuracy[n]
    }
    END {
        if (n == 0) exit
        width = 40
        low = int(low - 1)
        if (low < 0) low = 0
        high = int(high + 1)
        if (high > 100) high = 100
        printf "validation, per epoch            %-6s%*s\n", low " %", width - 6, high " %"
        for (i = 1; i <= n; i++) {
            bar = ""
            filled = int((accuracy[i] - low) / (high - low) * width + 0.5)
            for (j = 1; j <= width; j++) bar = bar (j <= filled ? "█" : "·")
            printf "%5d   %6.2f %%   loss %-8.4f %s\n", epochs[i], accuracy[i], loss[i], bar
        }
    }' "$log"

# --- a few predictions ---------------------------------------------------------------------------------------------
for index in 0 1 2 3; do
    echo
    "$slope" predict "$model" --data "$data" --index $index
done
echo
echo "model: $model   log: $log   to go on: $slope --help"
