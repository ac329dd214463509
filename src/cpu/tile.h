/* The one inner loop of all fast products. A tile is up to TILE_ROWS(v) rows by v vectors of columns, held in
 * registers; each of its elements is summed in order of k by itself, so the tile's size never shows in the
 * result.
 *
 * k is walked in runs: stretches in which the factor of every row moves by the same step. A dense product has
 * one run per chunk; a convolution one per stretch of taps that lie side by side in memory. */
#ifndef SL_CPU_TILE_H
#define SL_CPU_TILE_H

#include "cpu/cpu.h"

#ifndef TILE_LANES /* of a vector; a test may ask for vectors that the instruction set has not */
#    if defined(__AVX512F__)
#        define TILE_LANES 16
#    elif defined(__AVX2__)
#        define TILE_LANES 8
#    else
#        define TILE_LANES 4
#    endif
#endif

static inline int64_t tile_smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Bytes, to whole cache lines. */
static inline size_t tile_rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

typedef float tile_vec __attribute__((vector_size(4 * TILE_LANES)));
typedef float tile_vec_loose __attribute__((vector_size(4 * TILE_LANES), aligned(4), may_alias));

/* Tiles are sized by registers: 16 of 32 bytes hold 6 x 2 sums, 32 of 64 bytes 6 x 4. Narrow ones are made
 * higher, as fewer than 8 sums cannot hide the latency of fma; still higher ones run out of address
 * registers. */
#if TILE_LANES == 16
#    define TILE_VECTORS              4
#    define TILE_ROWS(v)              ((v) == 4 ? 6 : (v) == 2 ? 10 : 12)
#    define TILE_MAX_ROWS             12
#    define TILE_MOST                 384 /* sums of a tile */
#    define TILE_VECTORS_FOR(columns) ((columns) <= 16 ? 1 : (columns) <= 32 ? 2 : 4)
#    define TILE_SAME(x)              x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
#elif TILE_LANES == 8
#    define TILE_VECTORS              2
#    define TILE_ROWS(v)              ((v) == 2 ? 6 : 8)
#    define TILE_MAX_ROWS             8
#    define TILE_MOST                 96
#    define TILE_VECTORS_FOR(columns) ((columns) <= 8 ? 1 : 2)
#    define TILE_SAME(x)              x, x, x, x, x, x, x, x
#else
#    define TILE_VECTORS              2
#    define TILE_ROWS(v)              4
#    define TILE_MAX_ROWS             4
#    define TILE_MOST                 32
#    define TILE_VECTORS_FOR(columns) ((columns) <= 4 ? 1 : 2)
#    define TILE_SAME(x)              x, x, x, x
#endif
#define TILE_AHEAD 24 /* steps of k that are fetched ahead while a panel is packed on the way */
#define TILE_WIDTH (TILE_VECTORS * TILE_LANES) /* columns of a full panel */

typedef struct tile_run {
    int64_t a;     /* offset from every row's pointer */
    int64_t k, n;  /* first k, counted in t->b, and how many */
    uint32_t rows; /* bit r: row r takes part; TILE_ALL: every row */
} tile_run;
#define TILE_ALL UINT32_MAX

typedef struct tile {
    const tile_run *runs;
    int64_t n_runs;
    const int64_t *steps; /* instead of short runs: the offset for each k from first_k on */
    int64_t n_steps, first_k;
    int64_t a_step, b_step; /* per k */
    const float *b;
    float *pack; /* where the panel that is read from b goes, packed, on the way; NULL: nowhere */
    /* The binary counter of core/sum.h: sums of levels in `carry` are added, lowest first; then the sum is
     * stored at level `store`, or in the output rows where that is negative. A level's sums lie rows x width.
     */
    uint64_t carry;
    int store;
    float *levels;
    int64_t level_stride;
    int64_t column, columns; /* first column in the output rows, and how many of the tile's are stored */
} tile;

/* a[r], out[r]: row r. */
typedef void tile_function(const tile *t, const float *const *a, float *const *out);

/* Vectors go through no function's parameters: how they are passed depends on the instruction set. */
#define tile_load(p)     (*(const tile_vec_loose *)(p))
#define tile_store(p, v) (*(tile_vec_loose *)(p) = (v))

/* sum += a·b. gcc makes one instruction of the loop where there is one. */
static inline __attribute__((always_inline)) void tile_fma(tile_vec *sum, const tile_vec *a,
                                                           const tile_vec *b)
{
    tile_vec r;
    for (int l = 0; l < TILE_LANES; l++) r[l] = r_fma((*a)[l], (*b)[l], (*sum)[l]);
    *sum = r;
}

#define ROWS 1
#include "cpu/tile_rows.h"
#define ROWS 2
#include "cpu/tile_rows.h"
#define ROWS 3
#include "cpu/tile_rows.h"
#define ROWS 4
#include "cpu/tile_rows.h"
#define ROWS 5
#include "cpu/tile_rows.h"
#define ROWS 6
#include "cpu/tile_rows.h"
#define ROWS 7
#include "cpu/tile_rows.h"
#define ROWS 8
#include "cpu/tile_rows.h"
#define ROWS 9
#include "cpu/tile_rows.h"
#define ROWS 10
#include "cpu/tile_rows.h"
#define ROWS 11
#include "cpu/tile_rows.h"
#define ROWS 12
#include "cpu/tile_rows.h"

#define TILES_4(v)  NULL, tile_1x##v, tile_2x##v, tile_3x##v, tile_4x##v
#define TILES_6(v)  TILES_4(v), tile_5x##v, tile_6x##v
#define TILES_8(v)  TILES_6(v), tile_7x##v, tile_8x##v
#define TILES_10(v) TILES_8(v), tile_9x##v, tile_10x##v
#define TILES_12(v) TILES_10(v), tile_11x##v, tile_12x##v
/* [vectors][rows] */
static tile_function *const tile_functions[TILE_VECTORS + 1][TILE_MAX_ROWS + 1] = {
#if TILE_LANES == 16
    [1] = {TILES_12(1)},
    [2] = {TILES_10(2)},
    [4] = {TILES_6(4)},
#elif TILE_LANES == 8
    [1] = {TILES_8(1)},
    [2] = {TILES_6(2)},
#else
    [1] = {TILES_4(1)},
    [2] = {TILES_4(2)},
#endif
};

#define TILE_PART 65536 /* multiplications that are worth a thread */

/* --- chunks ----------------------------------------------------------------------------------------------
 */

/* At least one: the sum of nothing is a chunk that stays +0. */
static inline int64_t tile_chunks(int64_t k)
{
    return k > 0 ? (k + SL_CHUNK - 1) / SL_CHUNK : 1;
}

/* Levels that must be stored between the chunks. */
static inline int tile_levels(int64_t chunks)
{
    int levels = 0;
    for (int64_t last = chunks - 1; last > 0; last >>= 1) levels++;
    return levels;
}

/* Chunk c of a sum adds the levels of c's trailing ones. The last one then meets every stored level once,
 * again from the lowest: these are the ones of its own number. */
static inline void tile_set_chunk(tile *t, int64_t c, int64_t chunks)
{
    const bool last = c == chunks - 1;
    const uint64_t bits = (uint64_t)c;
    t->carry = last ? bits : bits & ~(bits + 1);
    t->store = last ? -1 : __builtin_ctzll(~bits);
}

/* Rows in tiles of about the same height: `higher` of rows + 1, then the others. */
typedef struct tile_cut {
    int64_t tiles, rows, higher;
} tile_cut;

static inline tile_cut tile_cut_rows(int64_t rows, int64_t most)
{
    const int64_t tiles = (rows + most - 1) / most;
    return (tile_cut){tiles, tiles ? rows / tiles : 0, tiles ? rows % tiles : 0};
}

/* --- panels ----------------------------------------------------------------------------------------------
 */

/* Columns are cut into panels of TILE_WIDTH, the last one as narrow as fits. A packed panel holds k rows of
 * its width, the columns beyond the matrix zero. */
static inline int64_t tile_panels(int64_t columns)
{
    return (columns + TILE_WIDTH - 1) / TILE_WIDTH;
}

static inline int tile_vectors(int64_t panel, int64_t columns)
{
    const int64_t left = columns - panel * TILE_WIDTH;
    return left >= TILE_WIDTH ? TILE_VECTORS : TILE_VECTORS_FOR(left);
}

/* After the tile that packed its panel: the others read what it wrote. */
static inline void tile_packed(tile *t, int64_t width)
{
    if (!t->pack) return;
    t->b = t->pack;
    t->b_step = width;
    t->pack = NULL;
}

/* Columns with those that fill the last panel. */
static inline int64_t tile_padded(int64_t columns)
{
    const int64_t panels = tile_panels(columns);
    return panels ? (panels - 1) * TILE_WIDTH + (int64_t)tile_vectors(panels - 1, columns) * TILE_LANES : 0;
}

/* Rows k of a matrix, `columns` wide, to a panel of `width`. */
static inline void tile_pack(float *restrict to, int64_t width, const float *restrict from, int64_t stride,
                             int64_t k, int64_t columns)
{
    for (; k > 0; k--, to += width, from += stride) {
        if (columns == TILE_WIDTH) {
            for (int v = 0; v < TILE_VECTORS; v++)
                tile_store(to + v * TILE_LANES, tile_load(from + v * TILE_LANES));
            continue;
        }
        for (int64_t j = 0; j < columns; j++) to[j] = from[j];
        for (int64_t j = columns; j < width; j++) to[j] = 0;
    }
}

typedef float tile_four __attribute__((vector_size(16)));
typedef float tile_four_loose __attribute__((vector_size(16), aligned(4), may_alias));

/* The same from the transposed matrix: column j of the panel starts at from + j·stride and runs along k. */
static inline void tile_pack_transposed(float *restrict to, int64_t width, const float *restrict from,
                                        int64_t stride, int64_t k, int64_t columns)
{
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4, from += 4 * stride) {
        int64_t i = 0;
        for (; i + 4 <= k; i += 4) {
            const tile_four a = *(const tile_four_loose *)(from + i);
            const tile_four b = *(const tile_four_loose *)(from + stride + i);
            const tile_four c = *(const tile_four_loose *)(from + 2 * stride + i);
            const tile_four d = *(const tile_four_loose *)(from + 3 * stride + i);
            const tile_four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                            cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const tile_four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                            cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            float *t = to + i * width + j;
            *(tile_four_loose *)t = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(tile_four_loose *)(t + width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(tile_four_loose *)(t + 2 * width) = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
            *(tile_four_loose *)(t + 3 * width) = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
        }
        for (; i < k; i++)
            for (int l = 0; l < 4; l++) to[i * width + j + l] = from[l * stride + i];
    }
    for (; j < width; j++, from += stride)
        for (int64_t i = 0; i < k; i++) to[i * width + j] = j < columns ? from[i] : 0;
}
#endif
