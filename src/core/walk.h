/* Broadcasting: what the kernels of two inputs walk over. */
#ifndef SL_CORE_WALK_H
#define SL_CORE_WALK_H

#include "core/shape.h"

/* How two inputs lie under the output: up to four dimensions, the fast one last, stride 0 where an input
 * repeats. */
typedef struct sl_walk {
    int n;
    int64_t dim[SL_MAX_DIMS], a[SL_MAX_DIMS], b[SL_MAX_DIMS];
} sl_walk;

/* The strides of `in` along the dimensions of `out`, 0 where it has size 1. */
static inline void sl_walk_strides(sl_shape in, sl_shape out, int64_t *stride)
{
    int64_t step = 1;
    for (int d = out.n - 1; d >= 0; d--) {
        int i = d - (out.n - in.n);
        bool repeats = i < 0 || (in.dim[i] == 1 && out.dim[d] != 1);
        stride[d] = repeats ? 0 : step;
        if (!repeats) step *= in.dim[i];
    }
}

/* Dimensions over which both inputs go on as before are taken together. */
static inline sl_walk sl_walk_of(sl_shape a, sl_shape b, sl_shape out)
{
    int64_t stride_a[SL_MAX_DIMS], stride_b[SL_MAX_DIMS];
    sl_walk reversed = {0, {0}, {0}, {0}}, w = reversed;
    sl_walk_strides(a, out, stride_a);
    sl_walk_strides(b, out, stride_b);
    for (int d = out.n - 1; d >= 0; d--) {
        int last = reversed.n - 1;
        if (out.dim[d] == 1) continue;
        if (reversed.n && stride_a[d] == reversed.a[last] * reversed.dim[last] &&
            stride_b[d] == reversed.b[last] * reversed.dim[last]) {
            reversed.dim[last] *= out.dim[d];
            continue;
        }
        reversed.dim[reversed.n] = out.dim[d];
        reversed.a[reversed.n] = stride_a[d];
        reversed.b[reversed.n++] = stride_b[d];
    }
    if (reversed.n == 0) reversed.dim[reversed.n++] = 1;
    for (int d = 0; d < reversed.n; d++) {
        w.dim[d] = reversed.dim[reversed.n - 1 - d];
        w.a[d] = reversed.a[reversed.n - 1 - d];
        w.b[d] = reversed.b[reversed.n - 1 - d];
    }
    w.n = reversed.n;
    return w;
}
#endif
