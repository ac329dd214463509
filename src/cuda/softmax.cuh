/* What softmax and the cross-entropies share. A group of 16 or 32 lanes works on each row; the sums over a
 * row follow core/sum.h, whose lanes the threads are (with 16, for rows that are not longer, the lanes left
 * out would add zeros). Exponentials are taken again rather than kept. Rows of up to 1024 or so are read from
 * memory once and then from cache. */
#ifndef SL_CUDA_SOFTMAX_CUH
#define SL_CUDA_SOFTMAX_CUH

#include "cuda/reduce.cuh"

namespace
{

static constexpr int ROW_BLOCK = 128; /* threads */

struct rows {
    int64_t n, k, batch;
    const int32_t *valid;
};

static inline rows rows_of(const sl_call *call, const sl_tensor *like)
{
    return {sl_shape_rows(like->shape), sl_shape_last(like->shape), call->batch, call->valid};
}

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
/* --- what is done to a row --- */

/* f.run<G>(row, r, exists): rows that do not exist are the last one again, of which nothing may be written.
 */
template <int G, class F> static __global__ void __launch_bounds__(ROW_BLOCK) rows_kernel(F f, rows s)
{
    sl_cuda_begin();
    constexpr int per_warp = 32 / G;
    const int64_t warps = sl_cuda_threads() / 32, warp = sl_cuda_thread() / 32;
    for (int64_t first = warp * per_warp; first < s.n; first += warps * per_warp) {
        const int64_t r = first + (int)threadIdx.x % 32 / G;
        f.template run<G>(s, r < s.n ? r : s.n - 1, r < s.n);
    }
}

template <class F> static void run_rows(const sl_call *call, const F &f, const sl_tensor *like)
{
    const rows s = rows_of(call, like);
    if (s.k == 0 || s.n == 0) return;
    if (s.k <= 16)
        SL_LAUNCH((rows_kernel<16, F>), sl_cuda_grid(call, s.n, ROW_BLOCK / 16, 16), ROW_BLOCK, 0, call, f,
                  s);
    else
        SL_LAUNCH((rows_kernel<32, F>), sl_cuda_grid(call, s.n, ROW_BLOCK / 32, 16), ROW_BLOCK, 0, call, f,
                  s);
}

} // namespace
#endif
