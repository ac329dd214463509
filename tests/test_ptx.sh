#!/usr/bin/env bash
# The PTX of the exact kernels holds what exact results need: products and sums of floats that are rounded one by one
# (ptxas may fuse those that do not say .rn), fused ones only where the source says r_fma, nothing approximate, no
# flushed subnormal numbers, no doubles, no sums of floats in no order. Exits with 77, skipped, without nvcc.
#
#   test_ptx.sh SOURCE-DIR NVCC FLAG…      NVCC may be empty: the usual places
set -euo pipefail
source_dir=$1 nvcc=$2
shift 2
[ -n "$nvcc" ] || nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
if [ -z "$nvcc" ]; then
    echo "skipped: nvcc was not found"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
known=$("$nvcc" --list-gpu-arch)
arch=compute_90
grep -qx $arch <<< "$known" || arch=$(sed -n '$p' <<< "$known")

# r_fma's intrinsic under another rounding: every fma.rn that is left was made by the compiler.
printf '#include <cuda_runtime.h>\n#define __fmaf_rn __fmaf_rz\n' > "$work/marked.h"

to_ptx() { # FROM TO FLAG…
    local from=$1 to=$2
    shift 2
    "$nvcc" -std=c++17 -arch=$arch "$@" -I"$source_dir/include" -I"$source_dir/src" -DSLOPE_CUDA -ptx -o "$to" "$from"
}

# Each with the words for it.
forbidden=(
    '(add|sub|mul|fma|mad|div|sqrt|rcp)(\.sat)?(\.ftz)?\.f32'        'no rounding is named: ptxas may fuse it'
    '(fma|mad)\.r[nmp](\.ftz)?(\.sat)?\.f32'                         'fused where the source does not say so'
    '[a-z0-9.]+\.(approx|full)'                                      'approximate'
    '[a-z0-9.]+\.ftz'                                                'flushes subnormal numbers'
    '[a-z0-9.]+\.f64'                                                'double precision'
    '[a-z0-9.]+\.(f16|bf16|tf32|e4m3|e5m2)(x2)?'                     'low precision'
    '(atom|red)\.[a-z0-9.]*(add|min|max)[a-z0-9.]*\.f(16|32|64)'     'floats in no order'
    '(wmma|mma|wgmma|tcgen05)\.[a-z0-9.]+'                           'tensor cores'
)
inspect() { # FILE [tensor]: prints what is wrong, fails where something is; tensor cores may be what it is there for
    local i found status=0
    for ((i = 0; i < ${#forbidden[@]}; i += 2)); do
        if [ "${2-}" = tensor ] && [[ ${forbidden[i + 1]} =~ ^(low precision|tensor cores)$ ]]; then continue; fi
        found=$(grep -cE "^[[:space:]]*(@!?%p[0-9]+[[:space:]]+)?${forbidden[i]}([^a-z0-9]|\$)" "$1" || true)
        [ "$found" = 0 ] && continue
        echo "$(basename "$1"): ${found} lines, ${forbidden[i + 1]}: ${forbidden[i]}"
        status=1
    done
    return $status
}
# Kernels that touch memory before they wait for the launch in front of them. Code for sm_90 only.
hasty() { # FILE
    awk '/\.entry/ { name = $0; sub(/.*\.entry */, "", name); sub(/\(.*/, "", name); begun = 0 }
         /griddepcontrol\.wait/ { begun = 1 }
         /^[ \t]*(@!?%p[0-9]+[ \t]+)?(ld|st|atom|red|cp)\.[a-z.]*global/ && !begun { print name; begun = 1 }' "$1"
}
failed=0
fail() { # WORDS
    echo "FAILED: $1"
    failed=1
}

# --- the inspection finds what it is there for ---

canary() { # NAME EXPRESSION FLAG…: a kernel that assigns it
    local name=$1
    printf 'extern "C" __global__ void canary(float *x) { x[0] = %s; }\n' "$2" > "$work/$name.cu"
    shift 2
    to_ptx "$work/$name.cu" "$work/$name.ptx" "$@"
}
caught() { # NAME WORDS
    local said
    if said=$(inspect "$work/$1.ptx"); then fail "$1 is not caught"; fi
    grep -q "$2" <<< "$said" || fail "$1 is caught as: $said"
}
canary product 'x[0] * x[1] + x[2]' "$@"
inspect "$work/product.ptx" || fail "a product and a sum"
grep -q 'mul\.rn\.f32' "$work/product.ptx" && grep -q 'add\.rn\.f32' "$work/product.ptx" || fail "a*b+c is not mul and add"
canary fused '__fmaf_rn(x[0], x[1], x[2])' "$@"
grep -q 'fma\.rn\.f32' "$work/fused.ptx" || fail "__fmaf_rn is not fma"
canary marked '__fmaf_rn(x[0], x[1], x[2])' "$@" -include "$work/marked.h"
inspect "$work/marked.ptx" || fail "a marked fma"
canary contracted 'x[0] * x[1] + x[2]' -fmad=true
caught contracted 'fused where'
canary exponential 'expf(x[0])' "$@"
caught exponential approximate
canary fast 'x[0] / x[1]' "$@" --use_fast_math
caught fast approximate
canary flushing 'x[0] + x[1]' "$@" -ftz=true
caught flushing flushes
canary double 'x[0] * 0.1' "$@"
caught double 'double precision'
canary atomic 'atomicAdd(x + 1, x[2])' "$@"
caught atomic 'in no order'

if [ "$arch" = compute_90 ]; then
    canary hasty 'x[1]' "$@"
    [ "$(hasty "$work/hasty.ptx")" = canary ] || fail "a kernel that does not wait"
    printf 'extern "C" __global__ void canary(float *x) { cudaGridDependencySynchronize(); x[0] = x[1]; }\n' > "$work/waits.cu"
    to_ptx "$work/waits.cu" "$work/waits.ptx" "$@"
    [ -z "$(hasty "$work/waits.ptx")" ] || fail "a kernel that waits"
fi

# --- the kernels ---

export -f to_ptx
export nvcc arch source_dir work
files=$(find "$source_dir/src/cuda" -name '*.cu' ! -name blas.cu ! -name formula_compile.cu -exec basename {} .cu \;)
# shellcheck disable=SC2016
xargs -P 2 -I '{}' bash -c 'to_ptx "$source_dir/src/cuda/$1.cu" "$work/kernels-$1.ptx" "${@:2}"' - '{}' "$@" \
    -include "$work/marked.h" <<< "$files" || fail "nvcc"
# What the kernels for tensor cores compute, and those of them that do not.
tensor_work() { # FILE
    grep -oE '(cvt|w?g?mma)[a-z0-9_.]*\.(tf32|bf16|f16)[a-z0-9_.]*' "$1" | sort -u
}
idle() { # FILE
    awk '/\.entry/ { if (name) print name; name = $0; sub(/.*\.entry */, "", name); sub(/\(.*/, "", name) }
         /mma\.sync\.aligned/ { name = "" } END { if (name) print name }' "$1"
}
expected="cvt.rn.bf16x2.f32
cvt.rna.tf32.f32
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
check_tensor() { # FILE WORDS
    [ "$(tensor_work "$1")" = "$expected" ] || fail "$2: $(tensor_work "$1")"
    [ -z "$(idle "$1")" ] || fail "$2: no tensor cores in $(idle "$1")"
}
for older in compute_80 compute_75; do # the oldest that has them, and one before it
    grep -qx $older <<< "$known" || continue
    arch=$older to_ptx "$source_dir/src/cuda/mma_conv.cu" "$work/$older.ptx" "$@" || fail "nvcc, $older"
    if [ $older = compute_80 ]; then
        check_tensor "$work/$older.ptx" "mma_conv.cu for $older"
    else
        [ -z "$(tensor_work "$work/$older.ptx")" ] || fail "tensor cores for $older"
    fi
done
for file in $files; do
    case $file in
        mma_*)
            inspect "$work/kernels-$file.ptx" tensor || failed=1
            check_tensor "$work/kernels-$file.ptx" "$file.cu"
            ;;
        *) inspect "$work/kernels-$file.ptx" || failed=1 ;;
    esac
    if [ "$arch" = compute_90 ]; then
        early=$(hasty "$work/kernels-$file.ptx")
        [ -z "$early" ] || fail "$file.cu: does not begin with sl_cuda_begin(): $early"
    fi
done
kernels=$(cat "$work"/kernels-*.ptx | grep -c '\.entry')
fused=$(cat "$work"/kernels-*.ptx | grep -c 'fma\.rz\.f32')
[ "$kernels" -gt 100 ] && [ "$fused" -gt 1000 ] || fail "only $kernels kernels with $fused fused products were inspected"
echo "$arch: $kernels kernels, $fused fused products, all of them asked for"
exit $failed
