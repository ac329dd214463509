/* Gradients held against differences: for whoever writes an operation or doubts one. */
#ifndef SLOPE_CHECK_H
#define SLOPE_CHECK_H

#include "slope/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One parameter: the element whose gradient is furthest from the central difference of the loss. */
typedef struct sl_gradient_row {
    const char *parameter; /* "dense1.weight" */
    sl_shape shape;
    int64_t looked_at;           /* elements, evenly spread, and the largest gradient */
    int64_t element;             /* the worst of them, counted in memory's order */
    double gradient, difference; /* of this element: as computed, and (L(w + h) - L(w - h)) / 2h */
    bool agrees;                 /* all that were looked at */
} sl_gradient_row;

/* Computes the gradients of the model's loss as training does, at its present parameters and on the data
 * set's first samples (at most 8), but in double precision on the reference device, and holds them against
 * central differences. Calls `each` (which may be NULL) for every parameter; true where all agree. False
 * without a call is an error of the context. An element agrees within 1e-5 of the parameter's largest
 * gradient, within 1e-2 where a custom operation computes in float; where a kink lies within h a smaller h
 * decides. */
SL_API bool sl_check_gradients(sl_model *model, sl_dataset *data,
                               void (*each)(void *user, const sl_gradient_row *row), void *user);

#ifdef __cplusplus
}
#endif
#endif
