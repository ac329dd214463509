/* The sum of a product as core/sum.h defines it, term by term: what the reference kernels use. */
#ifndef SL_CPU_PRODUCT_SUM_H
#define SL_CPU_PRODUCT_SUM_H

#include "cpu/activation.h"
#include "cpu/cpu.h"

typedef struct product_sum {
    int64_t k; /* terms so far, skipped ones included */
    real chunk;
    real level[SL_LEVELS];
} product_sum;

static inline void product_clear(product_sum *s)
{
    s->k = 0;
    s->chunk = 0;
}

/* Puts the sum of the chunk that ends before s->k on the binary counter. */
static inline void product_carry(product_sum *s)
{
    int64_t c = (s->k - 1) / SL_CHUNK;
    int t = 0;
    for (; c & 1; c >>= 1) s->chunk = s->level[t++] + s->chunk;
    s->level[t] = s->chunk;
    s->chunk = 0;
}

static inline void product_skip(product_sum *s)
{
    if (++s->k % SL_CHUNK == 0) product_carry(s);
}

static inline void product_add(product_sum *s, real a, real b)
{
    s->chunk = r_fma(a, b, s->chunk);
    product_skip(s);
}

static inline real product_total(product_sum *s)
{
    if (s->k == 0) return 0;
    if (s->k % SL_CHUNK != 0) product_carry(s);
    int64_t chunks = (s->k + SL_CHUNK - 1) / SL_CHUNK;
    int t = 0;
    for (; !(chunks & 1); chunks >>= 1) t++;
    real total = s->level[t];
    for (t++, chunks >>= 1; chunks; t++, chunks >>= 1)
        if (chunks & 1) total = s->level[t] + total;
    return total;
}

/* Bias and activation of a fused product, for `rows` rows of `columns` sums that lie in output 0. The inputs
 * after the two factors are the bias and the activation's learned parameter, each one per column or one for
 * all. */
static inline void product_epilogue(const sl_call *call, const sl_activation_attr *activation, int64_t rows,
                                    int64_t columns)
{
    const real *bias = sl_in(call, 2), *parameter = call->n_in > 3 ? sl_in(call, 3) : NULL;
    const int bias_stride = sl_shape_count(call->in[2].shape) > 1;
    const int parameter_stride = parameter && sl_shape_count(call->in[3].shape) > 1;
    real *y = sl_out(call, 0), *z = call->n_out > 1 ? sl_out(call, 1) : NULL;
    for (int64_t i = 0; i < rows; i++) SL_JOIN(sl_epilogue, SL_SUFFIX)
    (columns, y + i * columns, bias, bias_stride, activation, parameter, parameter_stride, y + i * columns,
     z ? z + i * columns : NULL);
}
#endif
