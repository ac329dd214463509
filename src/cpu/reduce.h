/* The reduction of core/sum.h, in pieces that kernels put around the computation of their terms:
 *   lanes:  real acc[SL_LANES * width], cleared, then one row of `width` terms added per sl_lanes_add, then
 * folded; blocks: the folded sums of all leaf blocks combined. */
#ifndef SL_CPU_REDUCE_H
#define SL_CPU_REDUCE_H

#include <string.h>

#include "cpu/cpu.h"

#define SL_PANEL 64 /* columns that a kernel reduces at once: the lanes then take 8 KiB */

static inline int64_t sl_blocks(int64_t terms)
{
    return (terms + SL_LEAF - 1) / SL_LEAF;
}

static inline void sl_lanes_clear(real *acc, int64_t width)
{
    memset(acc, 0, (size_t)(SL_LANES * width) * sizeof *acc);
}

/* Adds term number i (counted from the start of the leaf block) of each of `width` sums. */
static inline void sl_lanes_add(real *restrict acc, int64_t i, const real *restrict terms, int64_t width)
{
    real *lane = acc + i % SL_LANES * width;
    for (int64_t c = 0; c < width; c++) lane[c] += terms[c];
}

/* Halves the lanes; the sums are then in acc[0 … width). */
static inline void sl_lanes_fold(real *acc, int64_t width)
{
    for (int64_t half = SL_LANES / 2; half > 0; half /= 2)
        for (int64_t i = 0; i < half * width; i++) acc[i] += acc[half * width + i];
}

/* The sum of one leaf block of n <= SL_LEAF terms that lie side by side. */
static inline real sl_leaf_sum(const real *x, int64_t n)
{
    real acc[SL_LANES] = {0};
    int64_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        for (int l = 0; l < SL_LANES; l++) acc[l] += x[i + l];
    for (int l = 0; i + l < n; l++) acc[l] += x[i + l];
    sl_lanes_fold(acc, 1);
    return acc[0];
}

/* What MEAN and its gradient divide by; `shape`: of the values. */
static inline real sl_mean_divisor(const sl_call *call, sl_shape shape)
{
    const sl_mean_attr *attr = call->attr;
    if (attr->per_sample) return call->valid ? (real)*call->valid : 1;
    return (real)sl_valid_rows(call, sl_shape_count(shape));
}

/* Rows of `score` whose largest element (with one class: whose positive element) is the one labelled. */
static inline real sl_count_correct(const real *score, const int32_t *label, int64_t rows, int64_t k)
{
    int64_t correct = 0;
    for (int64_t r = 0; r < rows; r++, score += k) {
        int64_t best = 0;
        if (k == 1) best = score[0] > 0;
        for (int64_t i = 1; i < k; i++)
            if (score[i] > score[best]) best = i;
        correct += best == label[r];
    }
    return (real)correct;
}

/* out[c] = the binary counter over blocks b of sums[b·stride + c], c < width. Destroys sums. out may be sums.
 */
static inline void sl_blocks_combine(real *sums, int64_t blocks, int64_t stride, int64_t width, real *out)
{
    /* Level t of the counter is kept where its first block lay: after block b with t trailing ones, the sum
     * of blocks b+1-2^t … b is at the first of them. */
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t span = 1; (b + 1) % (2 * span) == 0; span *= 2) {
            real *left = sums + (b + 1 - 2 * span) * stride, *right = sums + (b + 1 - span) * stride;
            for (int64_t c = 0; c < width; c++) left[c] += right[c];
        }
    /* What remains are the set bits of `blocks`, the lowest last: combine from the lowest level up. */
    int64_t end = blocks, low = blocks & -blocks;
    real *running = sums + (end - low) * stride;
    for (end -= low; end > 0; end -= low) {
        low = end & -end;
        real *stored = sums + (end - low) * stride;
        for (int64_t c = 0; c < width; c++) stored[c] += running[c];
        running = stored;
    }
    if (blocks == 0)
        memset(out, 0, (size_t)width * sizeof *out);
    else if (out != running)
        memmove(out, running, (size_t)width * sizeof *out);
}
#endif
