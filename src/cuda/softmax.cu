/* Softmax, its logarithm, and the cross-entropies. A group of 16 or 32 lanes works on each row; the sums over
 * a row follow core/sum.h, whose lanes the threads are (with 16, for rows that are not longer, the lanes left
 * out would add zeros). Exponentials are taken again rather than kept. Bytes per element: softmax, its
 * logarithm 8, their gradients 12, cross-entropy 4 or 8, its gradient 8, logistic 12, its gradient 16. Rows
 * of up to 1024 or so are read from memory once and then from cache. */
#include "cuda/elementwise.cuh"

/* Types too: those of two files may have one name. */
namespace
{

static constexpr int ROW_BLOCK = 128; /* threads */

struct rows {
    int64_t n, k, batch;
    const int32_t *valid;
};

/* --- one row, by a group of G lanes; all lanes of the warp take part --- */

template <int G> static __device__ __forceinline__ int group_lane(void)
{
    return (int)threadIdx.x % G;
}

template <int G> static __device__ __forceinline__ float from_first(float v)
{
    return __shfl_sync(SL_ALL_LANES, v, 0, G);
}

/* The largest element. With a NaN in the row it may be any of them: the sum is NaN then in any case. */
template <int G> static __device__ __forceinline__ float row_max(const float *x, int64_t k)
{
    float best = x[0];
    for (int64_t i = group_lane<G>(); i < k; i += G) best = x[i] > best ? x[i] : best;
#pragma unroll
    for (int half = G / 2; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(SL_ALL_LANES, best, half, G);
        best = other > best ? other : best;
    }
    return best;
}

/* The sum of one leaf block of terms first … end-1, in lane 0. */
template <int G, class Term>
static __device__ __forceinline__ float leaf_sum(int64_t first, int64_t end, const Term &term)
{
    float acc = 0;
    for (int64_t i = first + group_lane<G>(); i < end; i += G) acc += term(i);
#pragma unroll
    for (int half = G / 2; half > 0; half /= 2) acc += __shfl_down_sync(SL_ALL_LANES, acc, half, G);
    return acc;
}

/* The sum of all terms, in all lanes. G = 16 only with k <= 16. */
template <int G, class Term> static __device__ __forceinline__ float row_sum(int64_t k, const Term &term)
{
    if (k <= SL_LEAF) return from_first<G>(leaf_sum<G>(0, k, term));
    float level[SL_LEVELS], sum = 0;
    int64_t leaves = 0;
    int t = 0;
    for (int64_t first = 0; first < k; first += SL_LEAF) {
        const int64_t end = k - first < SL_LEAF ? k : first + SL_LEAF;
        sum = leaf_sum<G>(first, end, term);
        t = 0;
        for (int64_t b = leaves++; b & 1; b >>= 1) sum = level[t++] + sum;
        level[t] = sum;
    }
    /* The last sum stored is the lowest level. */
    for (t++; leaves >> t; t++)
        if (leaves >> t & 1) sum = level[t] + sum;
    return from_first<G>(sum);
}

/* exp(x - max) */
struct exponential {
    const float *x;
    float max;
    __device__ __forceinline__ float operator()(int64_t i) const
    {
        return r_exp(x[i] - max);
    }
};
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

/* --- what is done to a row --- */

/* f.run<G>(row, r, exists): rows that do not exist are the last one again, of which nothing may be written.
 */
template <int G, class F> static __global__ void __launch_bounds__(ROW_BLOCK) rows_kernel(F f, rows s)
{
    constexpr int per_warp = 32 / G;
    const int64_t warps = sl_cuda_threads() / 32, warp = sl_cuda_thread() / 32;
    for (int64_t first = warp * per_warp; first < s.n; first += warps * per_warp) {
        const int64_t r = first + (int)threadIdx.x % 32 / G;
        f.template run<G>(s, r < s.n ? r : s.n - 1, r < s.n);
    }
}

template <class F> static void run_rows(const sl_call *call, const F &f, const sl_tensor *like)
{
    const rows s = {sl_shape_rows(like->shape), sl_shape_last(like->shape), call->batch, call->valid};
    if (s.k == 0 || s.n == 0) return;
    if (s.k <= 16)
        SL_LAUNCH((rows_kernel<16, F>), sl_cuda_grid(call, s.n, ROW_BLOCK / 16, 16), ROW_BLOCK, 0, call, f,
                  s);
    else
        SL_LAUNCH((rows_kernel<32, F>), sl_cuda_grid(call, s.n, ROW_BLOCK / 32, 16), ROW_BLOCK, 0, call, f,
                  s);
}

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

/* loss = log Σ exp(z - max) - (z[label] - max), and the probabilities; each where wanted. A label that is no
 * class makes the loss NaN. */
struct cross_entropy_row {
    const float *z;
    const int32_t *label;
    float *loss, *p;
    template <int G> __device__ __forceinline__ void run(const rows &s, int64_t r, bool exists) const
    {
        const exponential e = {z + r * s.k, row_max<G>(z + r * s.k, s.k)};
        const float sum = row_sum<G>(s.k, e);
        if (p)
            for (int64_t i = group_lane<G>(); i < s.k && exists; i += G) p[r * s.k + i] = e(i) / sum;
        if (!loss || !exists || group_lane<G>() != 0) return;
        const int32_t right = label[r];
        const float chosen = right >= 0 && right < s.k ? e.x[right] - e.max : r_from_bits(0x7fc00000u);
        loss[r] = r < sl_cuda_valid_rows(s.valid, s.batch, s.n) ? r_log(sum) - chosen : 0.0f;
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

static void cross_entropy(const sl_call *call)
{
    const cross_entropy_row f = {sl_in(call, 0), static_cast<const int32_t *>(call->in[1].data),
                                 sl_out(call, 0), sl_out(call, 1)};
    run_rows(call, f, &call->in[0]);
}

/* --- element by element --- */

/* dz = dloss·(p - [i = label]), exactly 0 in rows that do not count. */
template <int V, class Index>
static __global__ void __launch_bounds__(SL_BLOCK)
    cross_entropy_vjp_kernel(const float *dloss, const float *p, const int32_t *label, float *dz, rows s)
{
    const int64_t counts = sl_cuda_valid_rows(s.valid, s.batch, s.n);
    for (int64_t i = V * sl_cuda_thread(); i < s.n * s.k; i += V * sl_cuda_threads()) {
        const int64_t r = (Index)i / (Index)s.k, first = i - r * s.k;
        sl_vec<V> v = {};
        if (r < counts) {
            const float slope = dloss[r];
            const int64_t right = label[r];
            v = sl_vec_load<V>(p, i, i + V);
#pragma unroll
            for (int j = 0; j < V; j++) v.v[j] = slope * (first + j == right ? v.v[j] - 1 : v.v[j]);
        }
        sl_vec_store<V>(dz, i, i + V, v);
    }
}

template <int V> static void launch_cross_entropy_vjp(const sl_call *call, const rows &s)
{
    const int32_t *label = static_cast<const int32_t *>(call->in[2].data);
    const unsigned blocks = sl_cuda_grid(call, s.n * s.k, V * SL_BLOCK, SL_WAVES);
    if (s.n * s.k <= UINT32_MAX)
        SL_LAUNCH((cross_entropy_vjp_kernel<V, uint32_t>), blocks, SL_BLOCK, 0, call, sl_in(call, 0),
                  sl_in(call, 1), label, sl_out(call, 0), s);
    else
        SL_LAUNCH((cross_entropy_vjp_kernel<V, uint64_t>), blocks, SL_BLOCK, 0, call, sl_in(call, 0),
                  sl_in(call, 1), label, sl_out(call, 0), s);
}

static void cross_entropy_vjp(const sl_call *call)
{
    const sl_shape shape = call->in[1].shape;
    const rows s = {sl_shape_rows(shape), sl_shape_last(shape), call->batch, call->valid};
    if (s.k == 0 || s.n == 0) return;
    if (s.k % 4 == 0)
        launch_cross_entropy_vjp<4>(call, s);
    else
        launch_cross_entropy_vjp<1>(call, s);
}

/* Targets are reals, or labels 0 and 1. */
template <class Target> struct logistic_loss {
    typedef sl_no_column Column, Raw;
    const float *z;
    const Target *t;
    float *y;
    __device__ __forceinline__ Column at(int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ Raw load(int64_t, int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ void run(Column, Raw, int64_t i, int64_t end) const
    {
        sl_vec<4> v = sl_vec_load<4>(z, i, end);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float u = v.v[k], target = i + k < end ? (float)t[i + k] : 0.0f;
            v.v[k] = ((u > 0 ? u : 0) - u * target) + r_log1p(r_exp(u < 0 ? u : -u));
        }
        sl_vec_store<4>(y, i, end, v);
    }
};

/* dz = dy·(sigmoid(z) - t) */
template <class Target> struct logistic_slope {
    typedef sl_no_column Column, Raw;
    const float *dy, *z;
    const Target *t;
    float *dz;
    __device__ __forceinline__ Column at(int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ Raw load(int64_t, int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ void run(Column, Raw, int64_t i, int64_t end) const
    {
        sl_vec<4> d = sl_vec_load<4>(dy, i, end);
        const sl_vec<4> v = sl_vec_load<4>(z, i, end);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float target = i + k < end ? (float)t[i + k] : 0.0f;
            d.v[k] = d.v[k] * (r_sigmoid(v.v[k]) - target);
        }
        sl_vec_store<4>(dz, i, end, d);
    }
};

static void logistic(const sl_call *call)
{
    const int64_t n = sl_shape_count(call->out[0].shape);
    const void *target = call->in[1].data;
    const logistic_loss<int32_t> whole = {sl_in(call, 0), static_cast<const int32_t *>(target),
                                          sl_out(call, 0)};
    const logistic_loss<float> reals = {sl_in(call, 0), static_cast<const float *>(target), sl_out(call, 0)};
    if (call->in[1].dtype == SL_INT)
        sl_each(call, whole, n, 1);
    else
        sl_each(call, reals, n, 1);
}

static void logistic_vjp(const sl_call *call)
{
    const int64_t n = sl_shape_count(call->out[0].shape);
    const void *target = call->in[2].data;
    const logistic_slope<int32_t> whole = {sl_in(call, 0), sl_in(call, 1),
                                           static_cast<const int32_t *>(target), sl_out(call, 0)};
    const logistic_slope<float> reals = {sl_in(call, 0), sl_in(call, 1), static_cast<const float *>(target),
                                         sl_out(call, 0)};
    if (call->in[2].dtype == SL_INT)
        sl_each(call, whole, n, 1);
    else
        sl_each(call, reals, n, 1);
}

} // namespace

SL_CUDA_KERNELS(softmax) = {
    {SL_OP_SOFTMAX, "rows", nullptr, nullptr, softmax},
    {SL_OP_SOFTMAX_VJP, "rows", nullptr, nullptr, softmax_vjp},
    {SL_OP_LOG_SOFTMAX, "rows", nullptr, nullptr, log_softmax},
    {SL_OP_LOG_SOFTMAX_VJP, "rows", nullptr, nullptr, log_softmax_vjp},
    {SL_OP_SOFTMAX_CROSS_ENTROPY, "rows", nullptr, nullptr, cross_entropy},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, "fours", nullptr, nullptr, cross_entropy_vjp},
    {SL_OP_LOGISTIC_CROSS_ENTROPY, "fours", nullptr, nullptr, logistic},
    {SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, "fours", nullptr, nullptr, logistic_vjp},
    {},
};
