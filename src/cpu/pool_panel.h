/* Windows over images, eight channels at a time: one vector whose running values stay in registers from tap
 * to tap. Fewer channels are gathered into such a vector. */
#ifndef SL_CPU_POOL_PANEL_H
#define SL_CPU_POOL_PANEL_H

#include <string.h>

#include "cpu/cpu.h"

enum { PANEL = 8 };
typedef real panel __attribute__((vector_size(PANEL * sizeof(real))));
typedef int32_t indices __attribute__((vector_size(PANEL * sizeof(int32_t))));
#ifdef SL_DOUBLE
typedef int64_t flag; /* as wide as real: what a comparison of panels gives, -1 for true */
#else
typedef int32_t flag;
#endif
typedef flag flags __attribute__((vector_size(PANEL * sizeof(flag))));

#define INLINE static inline __attribute__((always_inline))

/* By pointer, because vectors as parameters have no stable binary interface (-Wpsabi). */
INLINE void load(panel *v, const real *x, int64_t width)
{
    *v = (panel){0};
    if (width == PANEL)
        memcpy(v, x, sizeof *v);
    else
        for (int64_t i = 0; i < width; i++) (*v)[i] = x[i];
}

INLINE void store(real *y, const panel *v, int64_t width)
{
    if (width == PANEL)
        memcpy(y, v, sizeof *v);
    else
        for (int64_t i = 0; i < width; i++) y[i] = (*v)[i];
}

INLINE void load_indices(flags *index, const int32_t *x, int64_t width)
{
    indices v = {0};
    if (width == PANEL)
        memcpy(&v, x, sizeof v);
    else
        for (int64_t i = 0; i < width; i++) v[i] = x[i];
    *index = __builtin_convertvector(v, flags);
}

INLINE void store_indices(int32_t *y, const flags *index, int64_t width)
{
    const indices v = __builtin_convertvector(*index, indices);
    if (width == PANEL)
        memcpy(y, &v, sizeof v);
    else
        for (int64_t i = 0; i < width; i++) y[i] = v[i];
}

/* value where the flag is set, else +0 */
#define WHERE(set, value) ((panel)((flags)(value) & (set)))

/* Runs `call` for every panel: f is its first channel, WIDTH its size, a constant where it is full. */
#define EACH_PANEL(channels, call)                                                                           \
    for (int64_t f = 0; f < (channels); f += PANEL) {                                                        \
        if ((channels)-f >= PANEL) {                                                                         \
            enum { WIDTH = PANEL };                                                                          \
            call;                                                                                            \
        } else {                                                                                             \
            const int64_t WIDTH = (channels)-f;                                                              \
            call;                                                                                            \
        }                                                                                                    \
    }

/* A later tap is taken where it is greater or NaN. */
INLINE void take_tap(panel *best, flags *index, const panel *x, int64_t tap)
{
    const flags take = (*x > *best) | (*x != *x);
    *best = (panel)(((flags)*x & take) | ((flags)*best & ~take));
    *index = (((flags){0} + (flag)tap) & take) | (*index & ~take);
}

/* The window of a, b over d, e: the largest value and its tap. */
INLINE void max_of_four(const real *a, const real *b, const real *d, const real *e, panel *best, flags *tap,
                        int64_t width)
{
    panel x;
    *tap = (flags){0};
    load(best, a, width);
    load(&x, b, width);
    take_tap(best, tap, &x, 1);
    load(&x, d, width);
    take_tap(best, tap, &x, 2);
    load(&x, e, width);
    take_tap(best, tap, &x, 3);
}
#endif
