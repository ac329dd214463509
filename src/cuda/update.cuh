/* One step of an optimiser over a part of the parameter block, for the launches and for the resident kernel.
 */
#ifndef SL_CUDA_UPDATE_CUH
#define SL_CUDA_UPDATE_CUH

#include "cuda/elementwise.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* Stretches with a decay, in order; what lies between them does not decay. More of them than fit are taken in
 * several launches, each over its part of the block. */
enum { SEGMENTS = 64 };
struct update_job {
    float *w, *s0, *s1;
    const float *g, *rate, *scale, *products; /* products NULL: none */
    float momentum, beta1, beta2, epsilon, limit;
    int64_t first, last; /* elements of this launch; first is a multiple of 4 */
    int n;
    sl_segment segment[SEGMENTS];
};

/* The number of segments that end at or before element i. */
static __device__ __forceinline__ int segments_before(const update_job &j, int64_t i)
{
    int low = 0, high = j.n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (j.segment[middle].first + j.segment[middle].count <= i)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What an element's step needs beside its own numbers, in the names that optimizers.def uses. */
struct shared_values {
    float lr, mu, b1, b2, eps, p1, p2;
};

#define OPTIMIZER(id, name, count, rate_, beta2_, epsilon_, ...)                                             \
    struct optimizer_##id {                                                                                  \
        enum { STATES = count };                                                                             \
        static __device__ __forceinline__ void step(const shared_values &v, float wd, float g, float &w,     \
                                                    float &s0, float &s1)                                    \
        {                                                                                                    \
            const float lr = v.lr, mu = v.mu, b1 = v.b1, b2 = v.b2, eps = v.eps, p1 = v.p1, p2 = v.p2;       \
            (void)wd, (void)mu, (void)b1, (void)b2, (void)eps, (void)p1, (void)p2, (void)s0, (void)s1;       \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    };
#include "slope/optimizers.def"
#undef OPTIMIZER

/* Block number `block` of `blocks`. */
template <class Optimizer>
static __device__ __forceinline__ void update_part(const update_job &j, int64_t block, int64_t blocks)
{
    constexpr int STATES = Optimizer::STATES;
    const shared_values v = {*j.rate,
                             j.momentum,
                             j.beta1,
                             j.beta2,
                             j.epsilon,
                             j.products ? j.products[0] : 0,
                             j.products ? j.products[1] : 0};
    const float scale = *j.scale;
    for (int64_t i = j.first + 4 * (block * blockDim.x + threadIdx.x); i < j.last;
         i += 4 * blocks * blockDim.x) {
        sl_vec<4> w = sl_vec_load<4>(j.w, i, j.last), s0 = {}, s1 = {};
        const sl_vec<4> gradient = sl_vec_load<4>(j.g, i, j.last);
        if (STATES > 0) s0 = sl_vec_load<4>(j.s0, i, j.last);
        if (STATES > 1) s1 = sl_vec_load<4>(j.s1, i, j.last);
        int at = segments_before(j, i);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            while (at < j.n && j.segment[at].first + j.segment[at].count <= i + k) at++;
            const bool decays = at < j.n && j.segment[at].first <= i + k;
            const float l2 = decays ? j.segment[at].l2 : 0.0f,
                        wd = decays ? j.segment[at].weight_decay : 0.0f;
            float g = gradient.v[k] * scale;
            g = g > j.limit ? j.limit : g < -j.limit ? -j.limit : g;
            g = g + l2 * w.v[k];
            Optimizer::step(v, wd, g, w.v[k], s0.v[k], s1.v[k]);
        }
        sl_vec_store<4>(j.w, i, j.last, w);
        if (STATES > 0) sl_vec_store<4>(j.s0, i, j.last, s0);
        if (STATES > 1) sl_vec_store<4>(j.s1, i, j.last, s1);
    }
}

static const int update_states[] = {
#define OPTIMIZER(id, name, count, rate_, beta2_, epsilon_, ...) count,
#include "slope/optimizers.def"
#undef OPTIMIZER
};

/* Without its stretches and its range. */
static update_job update_job_of(const sl_call *call)
{
    const sl_update_attr *attr = static_cast<const sl_update_attr *>(call->attr);
    const int states = update_states[attr->optimizer];
    update_job j = {};
    j.w = static_cast<float *>(call->in[0].data);
    j.g = sl_in(call, 1);
    j.rate = sl_in(call, 2);
    j.scale = sl_in(call, 3);
    if (states > 0) j.s0 = static_cast<float *>(call->in[4].data);
    if (states > 1) j.s1 = static_cast<float *>(call->in[5].data);
    if (call->n_in > 4 + states) j.products = sl_in(call, 4 + states);
    j.momentum = attr->momentum;
    j.beta1 = attr->beta1;
    j.beta2 = attr->beta2;
    j.epsilon = attr->epsilon;
    j.limit = attr->clip_value > 0 ? attr->clip_value : __builtin_inff();
    return j;
}

static bool segment_decays(const sl_segment &segment)
{
    return segment.count > 0 && (segment.l2 != 0 || segment.weight_decay != 0);
}

} // namespace
#endif
