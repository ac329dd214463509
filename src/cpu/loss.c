/* The cross-entropies. */
#include "cpu/softmax.h"

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

const sl_kernel SL_KERNELS(loss)[] = {
    {SL_OP_SOFTMAX_CROSS_ENTROPY, "rows", NULL, NULL, cross_entropy},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, "rows", NULL, NULL, cross_entropy_vjp},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN, "rows", NULL, mean_workspace, cross_entropy_mean},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP, "rows", NULL, mean_vjp_workspace, cross_entropy_mean_vjp},
    {SL_OP_LOGISTIC_CROSS_ENTROPY, "plain", NULL, NULL, logistic},
    {SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, "plain", NULL, NULL, logistic_vjp},
    {0},
};
