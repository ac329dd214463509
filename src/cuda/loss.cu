/* The cross-entropies. Bytes per element: cross-entropy 4 or 8, its gradient 8, logistic 12, its gradient 16.
 */
#include "cuda/loss.cuh"

/* Types too: those of two files may have one name. */
namespace
{

static void cross_entropy(const sl_call *call)
{
    const cross_entropy_row f = {sl_in(call, 0), static_cast<const int32_t *>(call->in[1].data),
                                 sl_out(call, 0), sl_out(call, 1), nullptr};
    run_rows(call, f, &call->in[0]);
}

/* --- the mean of the losses and the number of right samples --- */

/* One block for all, where there is one leaf block of rows and little to do. */
static constexpr int MEAN_BLOCK = 1024, MEAN_MOST = 1 << 15; /* threads, logits */
template <int G>
static __global__ void __launch_bounds__(MEAN_BLOCK)
    mean_kernel(cross_entropy_row f, rows s, bool per_sample, float *mean, float *count)
{
    sl_cuda_begin();
    SL_SHARED(float, room);
    constexpr int per_warp = 32 / G;
    const int warps = (int)blockDim.x / 32, warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    f.loss = room;
    f.right = count ? room + SL_LEAF : nullptr;
    for (int64_t first = warp * per_warp; first < s.n; first += warps * per_warp) {
        const int64_t r = first + lane / G;
        f.template run<G>(s, r < s.n ? r : s.n - 1, r < s.n);
    }
    __syncthreads();
    if (warp > 1 || (warp == 1 && !count)) return;
    const float *terms = warp == 0 ? f.loss : f.right;
    const float total =
        leaf_sum<32>(0, sl_cuda_valid_rows(s.valid, s.batch, s.n), [&](int64_t i) { return terms[i]; });
    if (lane == 0) *(warp == 0 ? mean : count) = warp == 0 ? total / mean_divisor(s, per_sample) : total;
}

/* Divided as the mean is, or as it stands. */
struct store_total {
    rows s;
    bool divides, per_sample;
    float *to;
    __device__ __forceinline__ void operator()(int64_t, const float (&total)[1]) const
    {
        *to = divides ? total[0] / mean_divisor(s, per_sample) : total[0];
    }
};

static int64_t mean_room(int64_t n) /* floats, whole vectors */
{
    return (n + 15) / 16 * 16;
}

static bool mean_is_small(int64_t n, int64_t k)
{
    return n <= SL_LEAF && n * k <= MEAN_MOST;
}

static size_t mean_workspace(const sl_call *call)
{
    const int64_t n = sl_shape_rows(call->in[0].shape), k = sl_shape_last(call->in[0].shape);
    return mean_is_small(n, k) ? 0 : sizeof(float) * ((size_t)(2 * mean_room(n)) + sl_flat_workspace(n));
}

static void cross_entropy_mean(const sl_call *call)
{
    const rows s = rows_of(call, &call->in[0]);
    const bool per_sample = static_cast<const sl_mean_attr *>(call->attr)->per_sample;
    cross_entropy_row f = {sl_in(call, 0), static_cast<const int32_t *>(call->in[1].data), nullptr,
                           sl_out(call, 1), nullptr};
    float *mean = sl_out(call, 0), *count = sl_out(call, 2);
    if (mean_is_small(s.n, s.k)) {
        const unsigned block = s.n * 32 < MEAN_BLOCK ? (unsigned)(s.n < 2 ? 64 : s.n * 32) : MEAN_BLOCK;
        const size_t shared = 2 * SL_LEAF * sizeof(float);
        if (s.k <= 16)
            SL_LAUNCH(mean_kernel<16>, 1, block, shared, call, f, s, per_sample, mean, count);
        else
            SL_LAUNCH(mean_kernel<32>, 1, block, shared, call, f, s, per_sample, mean, count);
        return;
    }
    float *room = static_cast<float *>(call->workspace), *sums = room + 2 * mean_room(s.n);
    f.loss = room;
    f.right = count ? room + mean_room(s.n) : nullptr;
    run_rows(call, f, &call->in[0]);
    const sl_vector x = {s.n, s.batch, s.valid, false};
    sl_element_terms<false> terms = {};
    terms.x = f.loss;
    const store_total finish = {s, true, per_sample, mean};
    sl_sum_vector(call, x, terms, finish, sums);
    if (!count) return;
    terms.x = f.right;
    const store_total plain = {s, false, per_sample, count};
    sl_sum_vector(call, x, terms, plain, sums);
}

/* --- element by element --- */

template <int V, class Index>
static __global__ void __launch_bounds__(SL_BLOCK)
    cross_entropy_vjp_kernel(const __grid_constant__ cross_entropy_slope f)
{
    sl_cuda_begin();
    const int64_t counts = sl_cuda_valid_rows(f.s.valid, f.s.batch, f.s.n);
    for (int64_t i = V * sl_cuda_thread(); i < f.s.n * f.s.k; i += V * sl_cuda_threads())
        f.run<V, Index>(i, counts);
}

template <int V> static void launch_cross_entropy_vjp(const sl_call *call, const cross_entropy_slope &f)
{
    const unsigned blocks = sl_cuda_grid(call, f.s.n * f.s.k, V * SL_BLOCK, SL_WAVES);
    if (f.s.n * f.s.k <= UINT32_MAX)
        SL_LAUNCH((cross_entropy_vjp_kernel<V, uint32_t>), blocks, SL_BLOCK, 0, call, f);
    else
        SL_LAUNCH((cross_entropy_vjp_kernel<V, uint64_t>), blocks, SL_BLOCK, 0, call, f);
}

static void cross_entropy_slopes(const sl_call *call, const loss_slope &dloss)
{
    const cross_entropy_slope f = {dloss, sl_in(call, 1), static_cast<const int32_t *>(call->in[2].data),
                                   sl_out(call, 0), rows_of(call, &call->in[1])};
    if (f.s.k == 0 || f.s.n == 0) return;
    if (f.s.k % 4 == 0)
        launch_cross_entropy_vjp<4>(call, f);
    else
        launch_cross_entropy_vjp<1>(call, f);
}

static void cross_entropy_vjp(const sl_call *call)
{
    cross_entropy_slopes(call, {sl_in(call, 0), false, false});
}

/* dz as terms of a bias's gradient. */
struct slope_terms {
    enum { SETS = 1 };
    template <int V> struct Column {
        int64_t first;
        float slope;
    };
    template <int V> using Raw = sl_vec<V>;
    rows s;
    loss_slope dloss;
    const float *p;
    const int32_t *label;
    float *dz;
    __device__ __forceinline__ int64_t row(int64_t, int64_t r) const
    {
        return r;
    }
    template <int V> __device__ __forceinline__ Column<V> at(int64_t column) const
    {
        return {column, dloss(s, 0)};
    }
    template <int V> __device__ __forceinline__ Raw<V> load(int64_t i, int64_t end) const
    {
        return sl_vec_load<V>(p, i, end);
    }
    template <int V>
    __device__ __forceinline__ void make(const Column<V> &c, const sl_vec<V> &raw, int64_t i, int64_t end,
                                         float (&term)[1][V]) const
    {
        const int64_t r = (i - c.first) / s.k, right = label[r];
        const bool counts = r < sl_cuda_valid_rows(s.valid, s.batch, s.n);
        sl_vec<V> v = {};
#pragma unroll
        for (int j = 0; j < V; j++) {
            if (counts) v.v[j] = c.slope * (c.first + j == right ? raw.v[j] - 1 : raw.v[j]);
            term[0][j] = v.v[j];
        }
        sl_vec_store<V>(dz, i, end, v);
    }
};

static size_t mean_vjp_workspace(const sl_call *call)
{
    const sl_shape shape = call->in[1].shape;
    return sizeof(float) * sl_column_workspace(1, 1, sl_shape_rows(shape), sl_shape_last(shape));
}

static void cross_entropy_mean_vjp(const sl_call *call)
{
    const rows s = rows_of(call, &call->in[1]);
    const loss_slope dloss = {sl_in(call, 0), true,
                              static_cast<const sl_mean_attr *>(call->attr)->per_sample};
    if (!call->out[1].data) {
        cross_entropy_slopes(call, dloss);
        return;
    }
    const slope_terms terms = {s, dloss, sl_in(call, 1), static_cast<const int32_t *>(call->in[2].data),
                               sl_out(call, 0)};
    const sl_store_sum finish = {sl_out(call, 1)};
    const sl_columns c = {1, s.n, s.k, s.batch, s.valid, true};
    sl_sum_columns(call, c, terms, finish, static_cast<float *>(call->workspace));
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

SL_CUDA_KERNELS(loss) = {
    {SL_OP_SOFTMAX_CROSS_ENTROPY, "rows", nullptr, nullptr, cross_entropy},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, "fours", nullptr, nullptr, cross_entropy_vjp},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN, "rows", nullptr, mean_workspace, cross_entropy_mean},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP, "leaves", nullptr, mean_vjp_workspace, cross_entropy_mean_vjp},
    {SL_OP_LOGISTIC_CROSS_ENTROPY, "fours", nullptr, nullptr, logistic},
    {SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, "fours", nullptr, nullptr, logistic_vjp},
    {},
};
