/* The cross-entropy of a row and its gradient, for the launches and for the resident kernel. */
#ifndef SL_CUDA_LOSS_CUH
#define SL_CUDA_LOSS_CUH

#include "cuda/softmax.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* Which element of a row is the largest, the first of several; a NaN is never greater, so one in front stays
 * the best. With one element: whether it is positive. */
template <int G> static __device__ __forceinline__ int64_t row_best(const float *x, int64_t k)
{
    float most = x[0];
    int64_t best = 0;
    if (k == 1) return most > 0;
    for (int64_t i = group_lane<G>(); i < k; i += G)
        if (x[i] > most) most = x[i], best = i;
#pragma unroll
    for (int half = G / 2; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(SL_ALL_LANES, most, half, G);
        const int64_t place = __shfl_xor_sync(SL_ALL_LANES, (long long)best, half, G);
        if (other > most || (other == most && place < best)) most = other, best = place;
    }
    return best;
}

/* loss = log Σ exp(z - max) - (z[label] - max), the probabilities, and 1 where the label is the largest; each
 * where wanted. A label that is no class makes the loss NaN. */
struct cross_entropy_row {
    const float *z;
    const int32_t *label;
    float *loss, *p, *right;
    template <int G> __device__ __forceinline__ void run(const rows &s, int64_t r, bool exists) const
    {
        const exponential e = {z + r * s.k, row_max<G>(z + r * s.k, s.k)};
        const float sum = row_sum<G>(s.k, e);
        if (p)
            for (int64_t i = group_lane<G>(); i < s.k && exists; i += G) p[r * s.k + i] = e(i) / sum;
        const int64_t best = right ? row_best<G>(e.x, s.k) : 0;
        if (!exists || group_lane<G>() != 0) return;
        const int32_t wanted = label[r];
        if (right) right[r] = best == wanted ? 1.0f : 0.0f;
        if (!loss) return;
        const float chosen = wanted >= 0 && wanted < s.k ? e.x[wanted] - e.max : r_from_bits(0x7fc00000u);
        loss[r] = r < sl_cuda_valid_rows(s.valid, s.batch, s.n) ? r_log(sum) - chosen : 0.0f;
    }
};

static __device__ __forceinline__ float mean_divisor(const rows &s, bool per_sample)
{
    return sl_mean_divisor(s.valid, s.batch, s.n, per_sample);
}

/* The cotangent of a row's loss: one for each row, or what that of their mean gives each. */
struct loss_slope {
    const float *from;
    bool of_mean, per_sample;
    __device__ __forceinline__ float operator()(const rows &s, int64_t r) const
    {
        return of_mean ? *from / mean_divisor(s, per_sample) : from[r];
    }
};

/* dz = dloss·(p - [i = label]), exactly 0 in rows that do not count. */
struct cross_entropy_slope {
    loss_slope dloss;
    const float *p;
    const int32_t *label;
    float *dz;
    rows s;
    /* Elements i … i+V-1, all of one row. */
    template <int V, class Index> __device__ __forceinline__ void run(int64_t i, int64_t counts) const
    {
        const int64_t r = (Index)i / (Index)s.k, first = i - r * s.k;
        sl_vec<V> v = {};
        if (r < counts) {
            const float slope = dloss(s, r);
            const int64_t right = label[r];
            v = sl_vec_load<V>(p, i, i + V);
#pragma unroll
            for (int j = 0; j < V; j++) v.v[j] = slope * (first + j == right ? v.v[j] - 1 : v.v[j]);
        }
        sl_vec_store<V>(dz, i, i + V, v);
    }
};

} // namespace
#endif
