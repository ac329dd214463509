/* A convolution of one channel without padding or stride: pixels that lie side by side in the result read
 * pixels that lie side by side in the image. So a tile's rows need one pointer, not one each, which leaves
 * the registers for more rows, and nothing is set up pixel by pixel. */
#ifndef SL_CPU_CONV_LINE_H
#define SL_CPU_CONV_LINE_H

#include "cpu/tile.h"

#define LINE_PIXELS(vectors) ((vectors) == TILE_VECTORS ? 6 : 12)

/* PIXELS pixels from x on: x[offset[k]] is the first one's factor of weight row k. */
#define LINE_TILE(VECTORS)                                                                                   \
    static void line_tile_##VECTORS(const float *x, const int64_t *offset, int64_t k, const float *w,        \
                                    float *to, int64_t to_step, int64_t columns)                             \
    {                                                                                                        \
        enum { PIXELS = LINE_PIXELS(VECTORS), WIDTH = VECTORS * TILE_LANES };                                \
        tile_vec sum[PIXELS][VECTORS];                                                                       \
        _Pragma("GCC unroll 12") for (int r = 0; r < PIXELS; r++)                                            \
            _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++) sum[r][v] = (tile_vec){0};             \
        _Pragma("GCC unroll 1") for (int64_t i = 0; i < k; i++, w += WIDTH)                                  \
        {                                                                                                    \
            const float *at = x + offset[i];                                                                 \
            tile_vec factor[VECTORS];                                                                        \
            _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++) factor[v] =                            \
                tile_load(w + v * TILE_LANES);                                                               \
            _Pragma("GCC unroll 12") for (int r = 0; r < PIXELS; r++)                                        \
            {                                                                                                \
                const tile_vec same = {TILE_SAME(at[r])};                                                    \
                _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)                                    \
                    tile_fma(&sum[r][v], &same, &factor[v]);                                                 \
            }                                                                                                \
        }                                                                                                    \
        if (columns == WIDTH) {                                                                              \
            _Pragma("GCC unroll 12") for (int r = 0; r < PIXELS; r++)                                        \
                _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)                                    \
                    tile_store(to + r * to_step + v * TILE_LANES, sum[r][v]);                                \
        } else {                                                                                             \
            float line[WIDTH];                                                                               \
            _Pragma("GCC unroll 12") for (int r = 0; r < PIXELS; r++)                                        \
            {                                                                                                \
                _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)                                    \
                    tile_store(line + v * TILE_LANES, sum[r][v]);                                            \
                memcpy(to + r * to_step, line, (size_t)columns * sizeof *line);                              \
            }                                                                                                \
        }                                                                                                    \
    }

LINE_TILE(1)
LINE_TILE(2)
#if TILE_VECTORS == 4
LINE_TILE(4)
#endif

typedef void line_function(const float *x, const int64_t *offset, int64_t k, const float *w, float *to,
                           int64_t to_step, int64_t columns);
static line_function *const line_functions[TILE_VECTORS + 1] = {
    [1] = line_tile_1,
    [2] = line_tile_2,
#if TILE_VECTORS == 4
    [4] = line_tile_4,
#endif
};

/* A row of `pixels` results from the image at x on, all panels of the packed weights. The last tile ends with
 * the row; where it overlaps the one before, it writes the same again. */
static inline void line_row(const float *x, const int64_t *offset, int64_t k, const float *packed, float *to,
                            int64_t pixels, int64_t channels)
{
    for (int64_t p = 0; p < tile_panels(channels); p++) {
        const int vectors = tile_vectors(p, channels);
        const int64_t column = p * TILE_WIDTH, most = LINE_PIXELS(vectors);
        const int64_t columns = tile_smaller(vectors * TILE_LANES, channels - column);
        for (int64_t at = 0; at < pixels; at += most) {
            const int64_t first = tile_smaller(at, pixels - most);
            line_functions[vectors](x + first, offset, k, packed + column * k, to + first * channels + column,
                                    channels, columns);
        }
    }
}

/* Whether rows of `pixels` are long enough for every panel's tile. */
static inline bool line_fits(int64_t pixels, int64_t channels)
{
    return pixels >= LINE_PIXELS(1) || (pixels >= LINE_PIXELS(TILE_VECTORS) && channels % TILE_WIDTH == 0);
}
#endif
