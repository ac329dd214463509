#ifndef SL_CORE_SHAPE_H
#define SL_CORE_SHAPE_H

#include <stdbool.h>
#include <stddef.h>

#include "slope/tensor.h"

sl_shape sl_shape_of(int n, const int64_t *dims);
bool sl_shape_equal(sl_shape a, sl_shape b);
int64_t sl_shape_last(sl_shape shape); /* the last dimension, 1 for a scalar */
int64_t sl_shape_rows(sl_shape shape); /* elements / last dimension */
/* Elements of a block in which these tensors lie one behind another, each at a multiple of SL_ALIGN elements.
 */
#define SL_ALIGN 16
int64_t sl_packed_count(const sl_shape *shapes, int n);
size_t sl_dtype_size(sl_dtype dtype, size_t real_size);

typedef struct sl_shape_text {
    char text[96];
} sl_shape_text;
sl_shape_text sl_shape_print(sl_shape shape); /* "n×28×28×1" */
#endif
