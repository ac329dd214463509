/* The sizes of a matrix product, as kernels read them from a call. */
#ifndef SL_CUDA_MATMUL_CUH
#define SL_CUDA_MATMUL_CUH

#include "cuda/cuda.cuh"

/* C[m, n] = op(A)·op(B) over k. */
struct matmul_shape {
    int64_t m, n, k;
    bool transpose_a, transpose_b;
};

static inline matmul_shape matmul_shape_of(const sl_call *call)
{
    const sl_matmul_attr *attr = call->op == SL_OP_MATMUL
                                     ? static_cast<const sl_matmul_attr *>(call->attr)
                                     : &static_cast<const sl_matmul_fused_attr *>(call->attr)->matmul;
    const int64_t a_last = sl_shape_last(call->in[0].shape), a_rows = sl_shape_rows(call->in[0].shape);
    const int64_t b_last = sl_shape_last(call->in[1].shape), b_rows = sl_shape_rows(call->in[1].shape);
    matmul_shape s = {};
    s.m = attr->transpose_a ? a_last : a_rows;
    s.k = attr->transpose_a ? a_rows : a_last;
    s.n = attr->transpose_b ? b_rows : b_last;
    s.transpose_a = attr->transpose_a;
    s.transpose_b = attr->transpose_b;
    return s;
}
#endif
