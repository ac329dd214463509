#!/usr/bin/env bash
# Adding an activation is one row: a made-up row is put into a copy of the table, and its name, kernels, oracle, gradient
# and parity tests must all be there. usage: test_new_row.sh SOURCE_DIR [LIBRARIES…]
set -euo pipefail
source=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$source/include" "$work/include"
cat >>"$work/include/slope/activations.def" <<'ROW'
ACTIVATION(SHIFTED_BELL, "shifted_bell", PARAMETER(width, R(0.5), LEARNABLE, ANY), READS_X,
           x - r_tanh(a * x),
           R(1) - a * (R(1) - r_tanh(a * x) * r_tanh(a * x)),
           -x * (R(1) - r_tanh(a * x) * r_tanh(a * x)), NO_KINK)
ROW
cd "$work"
flags="-O0 -std=gnu11 -ffp-contract=off -I$work/include -I$source/src -I$source/tests"
{
    for file in "$source"/src/*.c "$source"/src/{core,graph,ops,nn,data}/*.c "$source"/src/cpu/{threads,device}.c; do
        echo "$flags -DSLOPE_NO_OPTIONAL -c $file -o $(echo "${file#"$source"/src/}" | tr / _).o"
    done
    for file in "$source"/src/cpu/*.c; do
        name=$(basename "$file" .c)
        case $name in threads | device) continue ;; esac
        case $name in *_fast) ;; *) echo "$flags -DSL_SUFFIX=f64 -DSL_DOUBLE -c $file -o $name-f64.o" ;; esac
        echo "$flags -DSL_SUFFIX=plain -c $file -o $name-plain.o"
        if [ "$(uname -m)" = x86_64 ]; then
            echo "$flags -DSL_SUFFIX=avx2 -march=x86-64-v3 -c $file -o $name-avx2.o"
            echo "$flags -DSL_SUFFIX=avx512 -march=x86-64-v4 -c $file -o $name-avx512.o"
        fi
    done
} | xargs -P "$(nproc)" -L 1 gcc
gcc $flags "$source/tests/test_activation_ops.c" ./*.o -o test_activation_ops "$@" -lm -lpthread
./test_activation_ops 2>&1 | tail -n 4
cat >list.c <<'C'
#include <slope/slope.h>
#include <stdio.h>
int main(void)
{
    sl_context *ctx = sl_open(.device = SL_CPU);
    const sl_activation a = sl_activation_parse(ctx, "shifted_bell(width=0.25,learn)");
    char text[64];
    printf("%s %s %.6f %.6f %d\n", sl_activation_print(a, text, sizeof text), sl_activation_name(SL_SHIFTED_BELL.row),
           sl_activation_value(a, 2), sl_activation_slope(a, 2), sl_activation_gain_of(a) > 1);
    sl_close(ctx);
    return 0;
}
C
gcc $flags list.c ./*.o -o list "$@" -lm -lpthread
test "$(./list)" = "shifted_bell(width=0.25,learn) shifted_bell 1.537883 0.803388 1" || {
    echo "unexpected: $(./list)"
    exit 1
}
echo "one row gave shifted_bell its name, parameters, kernels, oracle, gain and tests"
