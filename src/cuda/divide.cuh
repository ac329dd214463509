/* Division of numbers below 2^31 by a number that is the same for a whole launch: a multiplication and a
 * shift, with the factor rounded up (Granlund and Montgomery 1994). */
#ifndef SL_CUDA_DIVIDE_CUH
#define SL_CUDA_DIVIDE_CUH

#include "cuda/cuda.cuh"

struct divisor {
    uint32_t by, factor;
    int shift;
};

/* 1 <= by < 2^31; 0 is taken for 1. */
static inline divisor divisor_of(int64_t by)
{
    divisor d = {(uint32_t)(by > 0 ? by : 1), 0, 31};
    while (((uint64_t)1 << (d.shift - 31)) < d.by) d.shift++;
    d.factor = (uint32_t)(((uint64_t)1 << d.shift) / d.by + 1);
    return d;
}

static __device__ __forceinline__ uint32_t divide(uint32_t x, divisor d, uint32_t *rest)
{
    const uint32_t q = (uint32_t)((uint64_t)x * d.factor >> d.shift);
    *rest = x - q * d.by;
    return q;
}
#endif
