/* The one definition of every sum. The CPU follows it always, CUDA in exact mode.
 *
 * Product (matmul, conv2d and their derivatives): the k terms of one element are cut into chunks of SL_CHUNK,
 * counted over all k, terms that are skipped (padding) included. A chunk starts at +0 and adds its terms in
 * order with fma. Chunk sums are combined by a binary counter: the sum of chunk c first takes, for each
 * trailing one bit of c, the stored sum of that level (stored + new), and is then stored at level (number of
 * trailing ones); after the last chunk the stored levels of the total are combined from the lowest level up
 * (stored + running). Bias is added after. order of k:  matmul: k;  conv2d: kernel row, kernel column, input
 * channel; conv2d_vjp_input: output row, output column, filter (of the outputs that saw the pixel); its k
 * position counts from the kernel's last tap: ((kh-1-ky)·kw + (kw-1-kx))·filters + f; conv2d_vjp_weight:
 * sample, output row, output column.
 *
 * Reduction (bias gradients, batch norm, norms, losses): the terms of one result, in memory order, are cut
 * into leaf blocks of SL_LEAF. Lane l of SL_LANES adds the block's terms l, l + 32, l + 64, … in order,
 * starting at +0; the lanes are then halved: lane l += lane l + 16, then 8, 4, 2, 1. Block sums are combined
 * by the same binary counter. */
#ifndef SL_CORE_SUM_H
#define SL_CORE_SUM_H

#define SL_CHUNK  512
#define SL_LEAF   1024
#define SL_LANES  32
#define SL_LEVELS 40 /* enough for 2^40 chunks */
#endif
