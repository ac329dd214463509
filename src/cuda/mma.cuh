/* Tensor cores: how factors are rounded, and one step of a product by a warp (mma.sync of PTX, sums in
 * float32). On the simulated device tests/simt/mma.h takes their place.
 *
 * Factors travel as words of 32 bits: one number of TF32, or two of BF16 that are neighbours in k, the lower
 * k in the lower half. Counted in words, both precisions have the same fragments; lane = 4·g + t holds
 *   of 16 rows of A and 8 words of k: rows g and g + 8, word t; then the same rows, word t + 4
 *   of 8 words of k and 8 columns of B: column g, words t and t + 4
 *   of the 16 x 8 sums: row g, columns 2·t and 2·t + 1; then the same columns of row g + 8 */
#ifndef SL_CUDA_MMA_CUH
#define SL_CUDA_MMA_CUH

#include "cuda/cuda.cuh"

#ifdef SLOPE_SIMT
#    include <mma.h>
#endif

/* Architectures before sm_80 have neither precision; device.cu refuses them there. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#    define MMA_COMPILED 0
#else
#    define MMA_COMPILED 1
#endif

struct mma_tf32 {
    static constexpr int TERMS = 1; /* of k in a word */
};
struct mma_bf16 {
    static constexpr int TERMS = 2;
};

/* To nearest, ties away from zero: 10 bits behind the point. */
static __device__ __forceinline__ uint32_t mma_word(mma_tf32, float x)
{
#ifdef SLOPE_SIMT
    return simt_tf32(x);
#elif MMA_COMPILED
    uint32_t word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
    return word;
#else
    return __float_as_uint(x);
#endif
}

/* To nearest, ties to even: 7 bits behind the point. */
static __device__ __forceinline__ uint32_t mma_word(mma_bf16, float low, float high)
{
#ifdef SLOPE_SIMT
    return simt_bf16(low) | simt_bf16(high) << 16;
#elif MMA_COMPILED
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#else
    return __float_as_uint(low) ^ __float_as_uint(high);
#endif
}

#if !defined(SLOPE_SIMT) && MMA_COMPILED
#    define MMA_SYNC(shape)                                                                                  \
        asm volatile("mma.sync.aligned." shape ".f32 "                                                       \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                       \
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#else
#    define MMA_SYNC(shape) ((void)sum, (void)a, (void)b)
#endif

static __device__ __forceinline__ void mma_one(mma_tf32, float (&sum)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
{
    MMA_SYNC("m16n8k8.row.col.f32.tf32.tf32");
}

static __device__ __forceinline__ void mma_one(mma_bf16, float (&sum)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
{
    MMA_SYNC("m16n8k16.row.col.f32.bf16.bf16");
}

/* sum += a·b over 8 words of k, by all lanes of a warp: 16·I rows, 8·J columns. */
template <class P, int I, int J>
static __device__ __forceinline__ void mma_step(float (&sum)[I][J][4], const uint32_t (&a)[I][4],
                                                const uint32_t (&b)[J][2])
{
#ifdef SLOPE_SIMT
    simt_mma<P::TERMS>(sum, a, b);
#else
#    pragma unroll
    for (int i = 0; i < I; i++)
#    pragma unroll
        for (int j = 0; j < J; j++) mma_one(P(), sum[i][j], a[i], b[j]);
#endif
}
#endif
