/* Tensor cores for the simulated device, behind src/cuda/mma.cuh: the lanes of a warp lay their registers
 * open, and each then adds its own elements: the products, which are exact, one by one in order of k to the
 * sum in float32. A device's own order is not documented, so its bits are others. A factor that is not
 * rounded stops the kernel: what a device makes of its lower bits is not defined. */
#ifndef SL_SIMT_MMA_H
#define SL_SIMT_MMA_H

#include "simt.h"

/* cvt.rna.tf32.f32: 10 bits behind the point, ties away from zero; NaN has one form. */
static inline uint32_t simt_tf32(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if (x != x) return 0x7fffe000u;
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}

/* cvt.rn.bf16.f32: 7 bits behind the point, ties to even. */
static inline uint32_t simt_bf16(float x)
{
    const uint32_t bits = __float_as_uint(x);
    return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

constexpr int simt_mma_most = 64; /* words of a lane */
inline uint32_t simt_mma_board[32][32][simt_mma_most];

/* The TERMS factors in a word. */
template <int TERMS> static inline void simt_mma_read(uint32_t word, float *to)
{
    if (TERMS == 1) {
        if (word & 0x1fffu)
            simt_leave_kernel(cudaErrorLaunchFailure, "mma: the factor %08x is not rounded to tf32", word);
        to[0] = __uint_as_float(word);
    } else {
        to[0] = __uint_as_float(word << 16);
        to[TERMS - 1] = __uint_as_float(word & 0xffff0000u);
    }
}

/* I x J times mma.m16n8k8 of tf32 (TERMS 1) or m16n8k16 of bf16 (TERMS 2). PTX ISA, "Matrix fragments": with
 * g = lane / 4 and t = lane % 4, register r of A holds word t + r / 2 * 4 of row g + r % 2 * 8, register r of
 * B word t + r * 4 of column g, register r of the sums row g + r / 2 * 8, column 2 * t + r % 2. */
template <int TERMS, int I, int J>
static inline void simt_mma(float (&sum)[I][J][4], const uint32_t (&a)[I][4], const uint32_t (&b)[J][2])
{
    constexpr int K = 8 * TERMS;
    static_assert(4 * I + 2 * J <= simt_mma_most, "a warp's step is larger than the board");
    const int lane = simt_lane(), g = lane / 4, t = lane % 4;
    uint32_t(*board)[simt_mma_most] = simt_mma_board[threadIdx.x / 32];
    memcpy(board[lane], a, sizeof a);
    memcpy(board[lane] + 4 * I, b, sizeof b);
    __syncwarp();
    float rows[I][2][K], columns[J][2][K];
    for (int i = 0; i < I; i++)
        for (int half = 0; half < 2; half++)
            for (int w = 0; w < 8; w++)
                simt_mma_read<TERMS>(board[g * 4 + w % 4][i * 4 + half + w / 4 * 2],
                                     &rows[i][half][w * TERMS]);
    for (int j = 0; j < J; j++)
        for (int odd = 0; odd < 2; odd++)
            for (int w = 0; w < 8; w++)
                simt_mma_read<TERMS>(board[(2 * t + odd) * 4 + w % 4][4 * I + j * 2 + w / 4],
                                     &columns[j][odd][w * TERMS]);
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++)
            for (int k = 0; k < K; k++)
                for (int r = 0; r < 4; r++) sum[i][j][r] += rows[i][r / 2][k] * columns[j][r % 2][k];
    __syncwarp(); /* nobody lays open what comes next before all have read this */
}
#endif
