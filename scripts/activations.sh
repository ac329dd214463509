#!/usr/bin/env bash
# The experiments of docs/activations.md. Each is a comparison that can be stopped at any time and goes on when started again.
#   activations.sh SLOPE DIR [NAME…]     SLOPE is the path of the command; DIR gets a folder an experiment
# Without names all but the last: lenet two100 layers deep small learned; published takes hours.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
slope=$(realpath "$1")
mkdir -p "$2"
cd "$2"
shift 2
[ $# -gt 0 ] || set -- lenet two100 layers deep small learned
five=sigmoid,tanh,relu,leaky_relu,swish

compare() { # NAME options
    local name=$1
    shift
    "$slope" compare --out "$name" "$@" >"$name.txt"
}

for name in "$@"; do
    case $name in
    lenet) compare lenet --model lenet --activations $five --epochs 10 --seeds 5 --no-diagnose ;;
    two100) compare two100 --model "dense100 act dense100 act dense10" --activations relu,leaky_relu,elu,selu,sigmoid \
        --epochs 10 --seeds 5 ;;
    layers) compare layers --depth 2,4,6,8 --width 100 --activations relu,leaky_relu,elu,selu,sigmoid --epochs 5 --seeds 3 ;;
    deep) compare deep --depth 2,5,10,20,30,40 --width 64 --activations sigmoid,tanh,relu,swish --vary init=he,lecun \
        --epochs 2 --seeds 1 ;;
    small) compare small --depth 5 --width 100 --activations sigmoid,tanh,relu --init "normal(0.01)" --optimizer sgd \
        --rate 0.01 --epochs 5 --seeds 1 ;;
    learned)
        for seed in 1 2 3; do
            for activation in swish prelu; do
                [ -f "$activation-$seed.safetensors" ] || "$slope" train --model lenet --activation "$activation(channel)" \
                    --epochs 10 --seed $seed --quiet --out "$activation-$seed.safetensors" >"$activation-$seed.txt"
            done
        done
        ;;
    published) compare published --seeds 3 ;;
    *) echo "there is no experiment $name" >&2 && exit 2 ;;
    esac
done
