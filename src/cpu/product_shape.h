/* The sizes and strides of the products, as kernels read them from a call. */
#ifndef SL_CPU_PRODUCT_SHAPE_H
#define SL_CPU_PRODUCT_SHAPE_H

#include "cpu/cpu.h"

/* C[m, n] = A·B over k; element (i, k) of A is a[i·a_row + k·a_step], element (k, j) of B is b[k·b_step +
 * j·b_column]. C's rows lie one after another. */
typedef struct matmul_shape {
    int64_t m, n, k;
    int64_t a_row, a_step, b_step, b_column;
} matmul_shape;

static inline const sl_matmul_attr *matmul_attr(const sl_call *call)
{
    return call->op == SL_OP_MATMUL ? call->attr : &((const sl_matmul_fused_attr *)call->attr)->matmul;
}

/* `cut`: k stops at the samples that count, where k is the batch. */
static inline matmul_shape matmul_shape_of(const sl_call *call, bool cut)
{
    const sl_matmul_attr *attr = matmul_attr(call);
    const int64_t a_last = sl_shape_last(call->in[0].shape), b_last = sl_shape_last(call->in[1].shape);
    const int64_t a_rows = sl_shape_rows(call->in[0].shape), b_rows = sl_shape_rows(call->in[1].shape);
    matmul_shape s;
    s.m = attr->transpose_a ? a_last : a_rows;
    s.k = attr->transpose_a ? a_rows : a_last;
    s.n = attr->transpose_b ? b_rows : b_last;
    s.a_row = attr->transpose_a ? 1 : a_last;
    s.a_step = attr->transpose_a ? a_last : 1;
    s.b_step = attr->transpose_b ? 1 : b_last;
    s.b_column = attr->transpose_b ? b_last : 1;
    if (cut && attr->transpose_a) s.k = sl_valid_rows(call, s.k);
    return s;
}

/* A convolution x[n, h, w, c], weights [kh, kw, c, f], y[n, oh, ow, f]; the derivatives have the same sizes.
 */
typedef struct conv_shape {
    const sl_conv_attr *attr;
    int64_t n, h, w, c, oh, ow, f;
} conv_shape;

static inline conv_shape conv_shape_of(const sl_call *call)
{
    conv_shape s;
    const bool pooled = call->op == SL_OP_CONV2D_BIAS_ACTIVATION_POOL;
    s.attr = pooled || call->op == SL_OP_CONV2D_BIAS_ACTIVATION
                 ? &((const sl_conv_fused_attr *)call->attr)->conv
                 : call->attr;
    const bool input = call->op == SL_OP_CONV2D_VJP_INPUT, weight = call->op == SL_OP_CONV2D_VJP_WEIGHT;
    const int64_t *x = (input ? call->out[0] : call->in[0]).shape.dim;
    const int64_t *y = (input ? call->in[0] : weight ? call->in[1] : call->out[pooled ? 2 : 0]).shape.dim;
    s.n = x[0], s.h = x[1], s.w = x[2], s.c = x[3];
    s.oh = y[1], s.ow = y[2], s.f = y[3];
    return s;
}
#endif
