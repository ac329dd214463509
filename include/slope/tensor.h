/* Shapes and element types. A tensor's last dimension is the fastest; images are height × width × channels.
 */
#ifndef SLOPE_TENSOR_H
#define SLOPE_TENSOR_H

#include <stdint.h>

#include "slope/status.h"

#define SL_MAX_DIMS 4
#define SL_BATCH    (-1) /* the leading dimension of a batched tensor, until a batch size is chosen */

typedef enum sl_dtype {
    SL_FLOAT, /* float32 (float64 on the reference device) */
    SL_INT,   /* int32: labels, indices, counters */
    SL_BYTE,  /* uint8: raw images */
} sl_dtype;

typedef struct sl_shape {
    int n; /* number of dimensions, 0 for a scalar */
    int64_t dim[SL_MAX_DIMS];
} sl_shape;

#ifdef __cplusplus
extern "C" {
#endif
/* Elements; a batch dimension that is still open counts as 1. */
SL_API int64_t sl_shape_count(sl_shape shape);
#ifdef __cplusplus
}
#endif
#endif
