/* Softmax, its logarithm, and the cross-entropies. Rows are independent; the sums over a row follow
 * core/sum.h. */
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

static int64_t rows_of(const sl_tensor *t)
{
    return sl_shape_rows(t->shape);
}

static int64_t rows_grain(int64_t k)
{
    return k >= 4 * CHUNK ? 1 : 4 * CHUNK / (k + !k);
}

static int64_t rows_chunk(int64_t k)
{
    return k >= CHUNK ? 1 : CHUNK / k;
}

static void run_rows(const sl_call *call, sl_task *task)
{
    int64_t k = sl_shape_last(call->in[0].shape);
    if (k > 0) sl_parallel(call, task, (void *)call, rows_of(&call->in[0]), rows_grain(k));
}

static void softmax_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int64_t k = sl_shape_last(call->in[0].shape), step = rows_chunk(k);
    (void)worker;
    for (int64_t r = first; r < last; r += step) {
        real max[CHUNK], sum[CHUNK];
        rows_softmax(sl_out(call, 0) + r * k, sl_in(call, 0) + r * k, last - r < step ? last - r : step, k,
                     max, sum);
    }
}

static void softmax(const sl_call *call)
{
    run_rows(call, softmax_task);
}

/* dx = y·(dy - Σ dy·y) */
static void softmax_vjp_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int64_t k = sl_shape_last(call->in[0].shape);
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *dy = sl_in(call, 0) + r * k, *y = sl_in(call, 1) + r * k;
        real *dx = sl_out(call, 0) + r * k, dot = row_sum_products(dy, y, k);
#pragma GCC ivdep
        for (int64_t i = 0; i < k; i++) dx[i] = y[i] * (dy[i] - dot);
    }
}

static void softmax_vjp(const sl_call *call)
{
    run_rows(call, softmax_vjp_task);
}

static void log_softmax_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int64_t k = sl_shape_last(call->in[0].shape);
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *x = sl_in(call, 0) + r * k;
        real *y = sl_out(call, 0) + r * k, max = row_max(x, k), log_sum = r_log(row_sum_exp(x, max, k));
#pragma GCC ivdep
        for (int64_t i = 0; i < k; i++) y[i] = (x[i] - max) - log_sum;
    }
}

static void log_softmax(const sl_call *call)
{
    run_rows(call, log_softmax_task);
}

/* dx = dy - exp(y)·Σ dy */
static void log_softmax_vjp_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int64_t k = sl_shape_last(call->in[0].shape);
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *dy = sl_in(call, 0) + r * k, *y = sl_in(call, 1) + r * k;
        real *dx = sl_out(call, 0) + r * k, sum = row_sum(dy, k);
#pragma GCC ivdep
        for (int64_t i = 0; i < k; i++) dx[i] = dy[i] - r_exp(y[i]) * sum;
    }
}

static void log_softmax_vjp(const sl_call *call)
{
    run_rows(call, log_softmax_vjp_task);
}

/* loss = log Σ exp(z - max) - (z[label] - max). A label that is no class makes the loss NaN. */
static void cross_entropy_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int64_t k = sl_shape_last(call->in[0].shape), step = rows_chunk(k);
    const int64_t valid = sl_valid_rows(call, rows_of(&call->in[0]));
    const int32_t *label = call->in[1].data;
    (void)worker;
    for (int64_t r = first; r < last; r += step) {
        const int64_t rows = last - r < step ? last - r : step;
        const real *z = sl_in(call, 0) + r * k;
        real sum[CHUNK], max[CHUNK];
        rows_softmax(sl_out(call, 1) ? sl_out(call, 1) + r * k : NULL, z, rows, k, max, sum);
        if (!sl_out(call, 0)) continue;
        for (int64_t q = 0; q < rows; q++) sum[q] = r_log(sum[q]);
        for (int64_t q = 0; q < rows; q++) {
            bool known = label[r + q] >= 0 && label[r + q] < k;
            real chosen = known ? z[q * k + label[r + q]] - max[q] : (real)__builtin_nanf("");
            sl_out(call, 0)[r + q] = r + q < valid ? sum[q] - chosen : 0;
        }
    }
}

static void cross_entropy(const sl_call *call)
{
    run_rows(call, cross_entropy_task);
}

/* The mean of the losses, the probabilities, and how many samples are right, in one call. */
static size_t mean_workspace(const sl_call *call)
{
    const int64_t rows = rows_of(&call->in[0]);
    return (size_t)(rows + sl_blocks(rows)) * sizeof(real);
}

static sl_shape losses_shape(const sl_tensor *logits)
{
    return (sl_shape){1, {rows_of(logits)}};
}

static void cross_entropy_mean(const sl_call *call)
{
    real *loss = call->workspace;
    const int64_t all = rows_of(&call->in[0]), rows = sl_valid_rows(call, all), blocks = sl_blocks(rows);
    const sl_tensor out[2] = {{loss, losses_shape(&call->in[0]), SL_FLOAT}, call->out[1]};
    sl_call each = *call;
    each.out = out;
    each.n_out = 2;
    cross_entropy(&each);
    real *sums = loss + all, total;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t first = b * SL_LEAF;
        sums[b] = sl_leaf_sum(loss + first, rows - first < SL_LEAF ? rows - first : SL_LEAF);
    }
    sl_blocks_combine(sums, blocks, 1, 1, &total);
    *sl_out(call, 0) = total / sl_mean_divisor(call, losses_shape(&call->in[0]));
    if (call->out[2].data)
        *sl_out(call, 2) =
            sl_count_correct(sl_in(call, 0), call->in[1].data, rows, sl_shape_last(call->in[0].shape));
}

/* dz = dloss·(p - [i = label]), exactly 0 in padded rows; dloss is one for each row, or that of their mean.
 */
static void cross_entropy_vjp_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int64_t k = sl_shape_last(call->in[1].shape);
    const int64_t valid = sl_valid_rows(call, rows_of(&call->in[1]));
    const int32_t *label = call->in[2].data;
    const bool of_mean = call->op == SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP;
    const real same = of_mean ? *sl_in(call, 0) / sl_mean_divisor(call, losses_shape(&call->in[1])) : 0;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *p = sl_in(call, 1) + r * k;
        real *dz = sl_out(call, 0) + r * k;
        if (r >= valid) {
            memset(dz, 0, (size_t)k * sizeof *dz);
            continue;
        }
        const real dloss = of_mean ? same : sl_in(call, 0)[r];
        const bool known = label[r] >= 0 && label[r] < k;
        const real chosen = known ? dloss * (p[label[r]] - 1) : 0;
#pragma GCC ivdep
        for (int64_t i = 0; i < k; i++) dz[i] = dloss * p[i];
        if (known) dz[label[r]] = chosen;
    }
}

static void cross_entropy_vjp(const sl_call *call)
{
    int64_t k = sl_shape_last(call->in[1].shape);
    if (k > 0) sl_parallel(call, cross_entropy_vjp_task, (void *)call, rows_of(&call->in[1]), rows_grain(k));
}

static size_t mean_vjp_workspace(const sl_call *call)
{
    return (size_t)(sl_blocks(rows_of(&call->in[1])) * sl_shape_last(call->in[1].shape)) * sizeof(real);
}

/* Beside dz its sum over the samples: the gradient of a bias. */
static void cross_entropy_mean_vjp(const sl_call *call)
{
    const int64_t k = sl_shape_last(call->in[1].shape), rows = sl_valid_rows(call, rows_of(&call->in[1]));
    real *sums = call->workspace;
    cross_entropy_vjp(call);
    if (!call->out[1].data) return;
    for (int64_t b = 0; b < sl_blocks(rows); b++)
        for (int64_t column = 0; column < k; column += SL_PANEL) {
            real acc[SL_LANES * SL_PANEL];
            const int64_t width = k - column < SL_PANEL ? k - column : SL_PANEL, first = b * SL_LEAF;
            sl_lanes_clear(acc, width);
            for (int64_t r = first; r < rows && r < first + SL_LEAF; r++)
                sl_lanes_add(acc, r, sl_out(call, 0) + r * k + column, width);
            sl_lanes_fold(acc, width);
            memcpy(sums + b * k + column, acc, (size_t)width * sizeof *acc);
        }
    sl_blocks_combine(sums, sl_blocks(rows), k, k, sl_out(call, 1));
}

/* Targets are reals, or labels 0 and 1. */
#define LOGISTIC_LOOP(target, formula)                                                                       \
    {                                                                                                        \
        const target *t = call->in[t_input].data;                                                            \
        _Pragma("GCC ivdep") for (int64_t i = first; i < last; i++) y[i] = formula;                          \
    }

/* y = max(z, 0) - z·t + log(1 + exp(-|z|)) */
static void logistic_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int t_input = 1;
    const real *z = sl_in(call, 0);
    real *y = sl_out(call, 0);
    (void)worker;
#define LOSS (((z[i] > 0 ? z[i] : 0) - z[i] * (real)t[i]) + r_log1p(r_exp(z[i] < 0 ? z[i] : -z[i])))
    if (call->in[1].dtype == SL_INT)
        LOGISTIC_LOOP(int32_t, LOSS)
    else
        LOGISTIC_LOOP(real, LOSS)
#undef LOSS
}

static void logistic(const sl_call *call)
{
    sl_parallel(call, logistic_task, (void *)call, sl_shape_count(call->out[0].shape), 4096);
}

/* dz = dy·(sigmoid(z) - t) */
static void logistic_vjp_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const int t_input = 2;
    const real *dy = sl_in(call, 0), *z = sl_in(call, 1);
    real *y = sl_out(call, 0);
    (void)worker;
#define SLOPE (dy[i] * (r_sigmoid(z[i]) - (real)t[i]))
    if (call->in[2].dtype == SL_INT)
        LOGISTIC_LOOP(int32_t, SLOPE)
    else
        LOGISTIC_LOOP(real, SLOPE)
#undef SLOPE
}

static void logistic_vjp(const sl_call *call)
{
    sl_parallel(call, logistic_vjp_task, (void *)call, sl_shape_count(call->out[0].shape), 4096);
}

const sl_kernel SL_KERNELS(softmax)[] = {
    {SL_OP_SOFTMAX, "rows", NULL, NULL, softmax},
    {SL_OP_SOFTMAX_VJP, "rows", NULL, NULL, softmax_vjp},
    {SL_OP_LOG_SOFTMAX, "rows", NULL, NULL, log_softmax},
    {SL_OP_LOG_SOFTMAX_VJP, "rows", NULL, NULL, log_softmax_vjp},
    {SL_OP_SOFTMAX_CROSS_ENTROPY, "rows", NULL, NULL, cross_entropy},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, "rows", NULL, NULL, cross_entropy_vjp},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN, "rows", NULL, mean_workspace, cross_entropy_mean},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP, "rows", NULL, mean_vjp_workspace, cross_entropy_mean_vjp},
    {SL_OP_LOGISTIC_CROSS_ENTROPY, "plain", NULL, NULL, logistic},
    {SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, "plain", NULL, NULL, logistic_vjp},
    {0},
};
