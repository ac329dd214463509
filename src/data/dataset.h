/* A data set as the rest of the library sees it. */
#ifndef SL_DATA_DATASET_H
#define SL_DATA_DATASET_H

#include "core/context.h"
#include "slope/data.h"

struct sl_dataset {
    sl_owned owned; /* the context's list of what it frees */
    sl_context *ctx;
    sl_dataset *parent; /* of a slice: owns the arrays and the name; itself never a slice */
    char *name;
    char sha256[65];
    int64_t count;
    int height, width, channels, classes, outputs;
    bool synthetic;
    uint8_t *bytes;  /* images as bytes, or NULL */
    float *floats;   /* images as floats, or NULL */
    int32_t *labels; /* or NULL */
    float *targets;  /* or NULL */
};

/* An empty data set of that shape, owned by the context; NULL with the error set. */
sl_dataset *sl_dataset_new(sl_context *ctx, const char *name, int64_t count, int height, int width,
                           int channels);
#endif
