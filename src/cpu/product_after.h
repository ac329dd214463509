/* What follows a fast product, on a block of its rows while they are in cache: bias and activation. */
#ifndef SL_CPU_PRODUCT_AFTER_H
#define SL_CPU_PRODUCT_AFTER_H

#include "cpu/activation.h"
#include "cpu/cpu.h"

#define PRODUCT_STRETCH 1024 /* elements that one call of the epilogue should at least have */

/* Bias and parameter repeated over `repeats` rows, so that narrow rows that lie together go through in one
 * call. */
typedef struct product_after {
    const sl_activation_attr *activation; /* NULL: nothing follows */
    const float *bias, *parameter;
    int bias_stride, parameter_stride;
    int64_t repeats;
    float *y, *z;
} product_after;

static inline int64_t product_repeats(int64_t columns)
{
    return columns > 0 && columns < PRODUCT_STRETCH ? PRODUCT_STRETCH / columns : 1;
}

/* Floats of workspace. */
static inline int64_t product_after_space(const sl_call *call, int64_t columns)
{
    const int vectors = call->n_in - 2; /* after the two factors */
    return vectors > 0 ? (vectors * product_repeats(columns) * columns + 15) / 16 * 16 : 0;
}

static inline const float *product_repeat(const sl_call *call, int input, int64_t columns, int64_t repeats,
                                          int *stride, float *space)
{
    const float *vector = sl_in(call, input);
    *stride = sl_shape_count(call->in[input].shape) > 1;
    if (!*stride || repeats == 1) return vector;
    for (int64_t i = 0; i < repeats; i++)
        memcpy(space + i * columns, vector, (size_t)columns * sizeof *vector);
    return space;
}

static inline product_after product_after_of(const sl_call *call, const sl_activation_attr *activation,
                                             int64_t columns, float *space)
{
    product_after after = {.activation = activation, .y = sl_out(call, 0)};
    if (!activation) return after;
    after.repeats = product_repeats(columns);
    after.z = call->n_out > 1 ? sl_out(call, call->n_out - 1) : NULL;
    after.bias = product_repeat(call, 2, columns, after.repeats, &after.bias_stride, space);
    if (call->n_in > 3)
        after.parameter = product_repeat(call, 3, columns, after.repeats, &after.parameter_stride,
                                         space + after.repeats * columns);
    return after;
}

/* Rows [first, last), columns [left, right) of `columns`. */
static inline void product_finish(const product_after *after, int64_t first, int64_t last, int64_t left,
                                  int64_t right, int64_t columns)
{
    if (!after->activation) return;
    const int64_t rows = right - left == columns ? after->repeats : 1;
    for (int64_t i = first; i < last; i += rows) {
        const int64_t at = i * columns + left, n = (last - i < rows ? last - i : rows) * (right - left);
        SL_JOIN(sl_epilogue, SL_SUFFIX)
        (n, after->y + at, after->bias + left * after->bias_stride, after->bias_stride, after->activation,
         after->parameter ? after->parameter + left * after->parameter_stride : NULL, after->parameter_stride,
         after->y + at, after->z ? after->z + at : NULL);
    }
}
#endif
