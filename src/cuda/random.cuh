/* Words of Philox, and dropout, for the launches and for the resident kernel. */
#ifndef SL_CUDA_RANDOM_CUH
#define SL_CUDA_RANDOM_CUH

#include <curand_philox4x32_x.h>

#include "core/philox.h"
#include "cuda/elementwise.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* Elements 4·block … 4·block + 3; sl_random_words4 on the CPU. */
static __device__ __forceinline__ sl_words random_words4(uint64_t seed, uint32_t stream, uint32_t step,
                                                         uint64_t block)
{
    const uint4 w = curand_Philox4x32_10(make_uint4((uint32_t)block, (uint32_t)(block >> 32), stream, step),
                                         make_uint2((uint32_t)seed, (uint32_t)(seed >> 32)));
    return sl_words{{w.x, w.y, w.z, w.w}};
}

struct dropout_job {
    const float *x;
    float *y, gain;
    const int32_t *step;
    uint64_t dropped, seed;
    uint32_t stream;
};

/* Elements i … i+3, those below end. */
static __device__ __forceinline__ void dropout_four(const dropout_job &j, uint32_t step, int64_t i,
                                                    int64_t end)
{
    const sl_words words = random_words4(j.seed, j.stream, step, (uint64_t)i / 4);
    sl_vec<4> v = sl_vec_load<4>(j.x, i, end);
#pragma unroll
    for (int k = 0; k < 4; k++) v.v[k] = words.w[k] >= j.dropped ? v.v[k] * j.gain : 0.0f;
    sl_vec_store<4>(j.y, i, end, v);
}

static dropout_job dropout_job_of(const sl_call *call)
{
    const sl_dropout_attr *attr = static_cast<const sl_dropout_attr *>(call->attr);
    return {sl_in(call, 0),
            sl_out(call, 0),
            1 / (1 - attr->rate),
            static_cast<const int32_t *>(call->in[1].data),
            sl_words_dropped(attr->rate),
            attr->seed,
            attr->stream};
}

} // namespace
#endif
