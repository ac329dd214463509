/* Softmax and its logarithm. */
#include "cpu/softmax.h"

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

const sl_kernel SL_KERNELS(softmax)[] = {
    {SL_OP_SOFTMAX, "rows", NULL, NULL, softmax},
    {SL_OP_SOFTMAX_VJP, "rows", NULL, NULL, softmax_vjp},
    {SL_OP_LOG_SOFTMAX, "rows", NULL, NULL, log_softmax},
    {SL_OP_LOG_SOFTMAX_VJP, "rows", NULL, NULL, log_softmax_vjp},
    {0},
};
