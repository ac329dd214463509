/* Pooling behind a convolution: two rows of its result, while they are in cache, become one row of the
 * largest of every 2 × 2 pixels. Included by conv_fast.c alone. */
#ifndef SL_CPU_CONV_POOL_H
#define SL_CPU_CONV_POOL_H

#include "cpu/pool_panel.h"

/* b where the flag is set, else a */
#define CHOOSE(set, b, a) (((flags)(b) & (set)) | ((flags)(a) & ~(set)))

/* The first of the largest, where none is NaN; `odd` tells where one may be. */
INLINE void largest_of_four(const float *x, int64_t below, int64_t channels, float *y, int32_t *taken,
                            flags *odd, int64_t width)
{
    panel a, b, d, e;
    load(&a, x, width);
    load(&b, x + channels, width);
    load(&d, x + below, width);
    load(&e, x + below + channels, width);
    const flags right = b > a, right_below = e > d;
    const panel above = (panel)CHOOSE(right, b, a), under = (panel)CHOOSE(right_below, e, d);
    const flags lower = under > above, tap = CHOOSE(lower, 2 - right_below, right & 1);
    const panel best = (panel)CHOOSE(lower, under, above), sum = a + b + (d + e);
    *odd |= sum != sum;
    store(y, &best, width);
    store_indices(taken, &tap, width);
}

/* As max_pool2d takes them: a later one where it is greater or NaN. `marks`: the others that are NaN, too. */
static void largest_or_nan(const float *x, int64_t below, int64_t channels, float *y, int32_t *taken,
                           bool marks)
{
    for (int64_t i = 0; i < channels; i++) {
        int tap = 0, nan = 0;
        y[i] = x[i];
        for (int t = 0; t < 4; t++) {
            const float value = x[t / 2 * below + t % 2 * channels + i];
            if (value > y[i] || value != value) y[i] = value, tap = t;
            nan |= (value != value) << t;
        }
        taken[i] = tap | (marks ? (nan & ~(1 << tap)) << 4 : 0);
    }
}

/* x: the first row, the second one `below` behind it; y, taken: below / 2 elements each. */
static void pool_two_rows(const float *x, int64_t below, int64_t channels, float *y, int32_t *taken,
                          bool marks)
{
    flags odd = {0};
    const int64_t n = below / 2;
    for (int64_t i = 0; i < n; i += channels)
        EACH_PANEL(channels,
                   largest_of_four(x + 2 * i + f, below, channels, y + i + f, taken + i + f, &odd, WIDTH))
    bool any = false;
    for (int i = 0; i < PANEL; i++) any |= odd[i] != 0;
    for (int64_t i = 0; any && i < n; i += channels)
        largest_or_nan(x + 2 * i, below, channels, y + i, taken + i, marks);
}
#endif
