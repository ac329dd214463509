/* What softmax and the cross-entropies share. Rows are independent; the sums over a row follow core/sum.h. */
#ifndef SL_CPU_SOFTMAX_H
#define SL_CPU_SOFTMAX_H

#include "cpu/reduce.h"

enum { CHUNK = 2048 }; /* elements whose exponentials are taken in one vector loop */

/* The largest element. With a NaN in the row it may be any of them: the sum is NaN then in any case. */
static inline real row_max(const real *x, int64_t k)
{
    real m[16], best = x[0];
    int64_t i = 0;
    if (k >= 32) {
        for (int l = 0; l < 16; l++) m[l] = x[l];
        for (i = 16; i + 16 <= k; i += 16)
            for (int l = 0; l < 16; l++) m[l] = x[i + l] > m[l] ? x[i + l] : m[l];
        for (int l = 0; l < 16; l++) best = m[l] > best ? m[l] : best;
    }
    for (; i < k; i++) best = x[i] > best ? x[i] : best;
    return best;
}

/* The binary counter over the block sums of one row. */
typedef struct counter {
    real level[SL_LEVELS];
    int64_t blocks;
} counter;

static inline void counter_add(counter *c, real sum)
{
    int t = 0;
    for (int64_t b = c->blocks++; b & 1; b >>= 1) sum = c->level[t++] + sum;
    c->level[t] = sum;
}

static inline real counter_total(const counter *c)
{
    int64_t b = c->blocks;
    int t = 0;
    if (b == 0) return 0;
    while (!(b >> t & 1)) t++;
    real sum = c->level[t];
    for (t++; b >> t; t++)
        if (b >> t & 1) sum = c->level[t] + sum;
    return sum;
}

#define BLOCKS(i, n, k) for (int64_t i = 0, n; n = (k)-i < SL_LEAF ? (k)-i : SL_LEAF, i < (k); i += SL_LEAF)

static inline real row_sum(const real *x, int64_t k)
{
    if (k <= SL_LEAF) return sl_leaf_sum(x, k);
    counter c = {.blocks = 0};
    BLOCKS(i, n, k) counter_add(&c, sl_leaf_sum(x + i, n));
    return counter_total(&c);
}

/* The same for a row in a buffer of which HALF elements may be read. Where k <= HALF, the lanes that stay 0
 * are left out: they would only be added to others, which are never -0. */
enum { HALF = SL_LANES / 2 };
static inline real buffer_sum(const real *x, int64_t k)
{
    if (k > HALF) return row_sum(x, k);
    real lane[HALF];
    for (int l = 0; l < HALF; l++) {
        const real term = x[l];
        lane[l] = l < k ? 0 + term : 0;
    }
#pragma GCC unroll 4
    for (int half = HALF / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

static inline real row_sum_products(const real *x, const real *y, int64_t k)
{
    real term[SL_LEAF];
    counter c = {.blocks = 0};
    BLOCKS(i, n, k)
    {
        for (int64_t j = 0; j < n; j++) term[j] = x[i + j] * y[i + j];
        counter_add(&c, sl_leaf_sum(term, n));
    }
    return counter_total(&c);
}

/* Σ exp(x - max), without keeping the terms. */
static inline real row_sum_exp(const real *x, real max, int64_t k)
{
    real term[SL_LEAF];
    counter c = {.blocks = 0};
    BLOCKS(i, n, k)
    {
        for (int64_t j = 0; j < n; j++) term[j] = r_exp(x[i + j] - max);
        counter_add(&c, sl_leaf_sum(term, n));
    }
    return counter_total(&c);
}

/* Largest element and Σ exp(z - max) of `rows` rows of together at most CHUNK elements, or of one longer row;
 * and p = exp(z - max)/Σ unless p is NULL. p may be z. */
static inline void rows_softmax(real *p, const real *z, int64_t rows, int64_t k, real *max, real *sum)
{
    real buffer[CHUNK + HALF];
    real *e = k <= CHUNK ? buffer : p;
    if (!e) {
        *max = row_max(z, k);
        *sum = row_sum_exp(z, *max, k);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        const real m = max[r] = row_max(z + r * k, k);
#pragma GCC ivdep
        for (int64_t i = r * k; i < r * k + k; i++) e[i] = z[i] - m;
    }
    for (int64_t i = 0; i < rows * k; i++) e[i] = r_exp(e[i]);
    if (e == buffer) memset(buffer + rows * k, 0, HALF * sizeof *buffer);
    for (int64_t r = 0; r < rows; r++) sum[r] = e == buffer ? buffer_sum(e + r * k, k) : row_sum(e, k);
    for (int64_t r = 0; r < rows && p; r++)
#pragma GCC ivdep
        for (int64_t i = r * k; i < r * k + k; i++) p[i] = e[i] / sum[r];
}

static inline int64_t rows_of(const sl_tensor *t)
{
    return sl_shape_rows(t->shape);
}

static inline int64_t rows_grain(int64_t k)
{
    return k >= CHUNK ? 1 : CHUNK / 4 / (k + !k) + 1;
}

static inline int64_t rows_chunk(int64_t k)
{
    return k >= CHUNK ? 1 : CHUNK / k;
}

static inline void run_rows(const sl_call *call, sl_task *task)
{
    int64_t k = sl_shape_last(call->in[0].shape);
    if (k > 0) sl_parallel(call, task, (void *)call, rows_of(&call->in[0]), rows_grain(k));
}
#endif
