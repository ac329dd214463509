/* Softmax and its logarithm. Bytes per element: 8, their gradients 12. */
#include "cuda/softmax.cuh"

/* Types too: those of two files may have one name. */
namespace
{

struct product {
    const float *x, *y;
    __device__ __forceinline__ float operator()(int64_t i) const
    {
        return x[i] * y[i];
    }
};
struct element {
    const float *x;
    __device__ __forceinline__ float operator()(int64_t i) const
    {
        return x[i];
    }
};

/* y may be x: a lane writes what only it has read, after all lanes have summed. */
struct softmax_row {
    const float *x;
    float *y;
    template <int G> __device__ __forceinline__ void run(const rows &s, int64_t r, bool exists) const
    {
        const exponential e = {x + r * s.k, row_max<G>(x + r * s.k, s.k)};
        const float sum = row_sum<G>(s.k, e);
        for (int64_t i = group_lane<G>(); i < s.k && exists; i += G) y[r * s.k + i] = e(i) / sum;
    }
};

struct log_softmax_row {
    const float *x;
    float *y;
    template <int G> __device__ __forceinline__ void run(const rows &s, int64_t r, bool exists) const
    {
        const exponential e = {x + r * s.k, row_max<G>(x + r * s.k, s.k)};
        const float log_sum = r_log(row_sum<G>(s.k, e));
        for (int64_t i = group_lane<G>(); i < s.k && exists; i += G)
            y[r * s.k + i] = (e.x[i] - e.max) - log_sum;
    }
};

/* dx = y·(dy - Σ dy·y) */
struct softmax_slope_row {
    const float *dy, *y;
    float *dx;
    template <int G> __device__ __forceinline__ void run(const rows &s, int64_t r, bool exists) const
    {
        const product terms = {dy + r * s.k, y + r * s.k};
        const float dot = row_sum<G>(s.k, terms);
        for (int64_t i = group_lane<G>(); i < s.k && exists; i += G)
            dx[r * s.k + i] = terms.y[i] * (terms.x[i] - dot);
    }
};

/* dx = dy - exp(y)·Σ dy */
struct log_softmax_slope_row {
    const float *dy, *y;
    float *dx;
    template <int G> __device__ __forceinline__ void run(const rows &s, int64_t r, bool exists) const
    {
        const element terms = {dy + r * s.k};
        const float sum = row_sum<G>(s.k, terms);
        for (int64_t i = group_lane<G>(); i < s.k && exists; i += G)
            dx[r * s.k + i] = terms.x[i] - r_exp(y[r * s.k + i]) * sum;
    }
};

static void softmax(const sl_call *call)
{
    const softmax_row f = {sl_in(call, 0), sl_out(call, 0)};
    run_rows(call, f, &call->in[0]);
}

static void softmax_vjp(const sl_call *call)
{
    const softmax_slope_row f = {sl_in(call, 0), sl_in(call, 1), sl_out(call, 0)};
    run_rows(call, f, &call->in[0]);
}

static void log_softmax(const sl_call *call)
{
    const log_softmax_row f = {sl_in(call, 0), sl_out(call, 0)};
    run_rows(call, f, &call->in[0]);
}

static void log_softmax_vjp(const sl_call *call)
{
    const log_softmax_slope_row f = {sl_in(call, 0), sl_in(call, 1), sl_out(call, 0)};
    run_rows(call, f, &call->in[0]);
}

} // namespace

SL_CUDA_KERNELS(softmax) = {
    {SL_OP_SOFTMAX, "rows", nullptr, nullptr, softmax},
    {SL_OP_SOFTMAX_VJP, "rows", nullptr, nullptr, softmax_vjp},
    {SL_OP_LOG_SOFTMAX, "rows", nullptr, nullptr, log_softmax},
    {SL_OP_LOG_SOFTMAX_VJP, "rows", nullptr, nullptr, log_softmax_vjp},
    {},
};
