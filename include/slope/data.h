/* Data sets: images or feature vectors with labels or targets. */
#ifndef SLOPE_DATA_H
#define SLOPE_DATA_H

#include <stdint.h>

#include "slope/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sl_dataset sl_dataset;
typedef enum sl_split { SL_TRAIN, SL_TEST } sl_split;

/* MNIST from a folder with the four IDX files, plain or .gz. `folder` NULL: $SLOPE_DATA_DIR/mnist, then
 * $XDG_CACHE_HOME/slope/mnist (~/.cache/slope/mnist); downloaded there when missing. The content is checked
 * by SHA-256, and a file that is not MNIST's is an error: it is neither used nor replaced.
 *
 * $SLOPE_DATA_MIRROR takes the place of the built-in addresses: one or more URLs (http, https, file) with
 * spaces between them, each with a folder "mnist" that holds the files as .gz; "off" forbids downloads. */
SL_API sl_dataset *sl_mnist(sl_context *ctx, const char *folder, sl_split split);

/* By name, as on the command line: "mnist", "fashion-mnist", "kmnist" (searched and downloaded as above; the
 * last two are checked by form, not by sum), "digits" (the built-in generator: 60 000 or 10 000 images, drawn
 * from the context's seed), or a folder with IDX files named as MNIST's (train-images-idx3-ubyte…), whose
 * content is not compared with anything. A name that is known comes before a folder of that name: write
 * "./mnist" for the folder. */
SL_API sl_dataset *sl_dataset_named(sl_context *ctx, const char *name, sl_split split);

/* One pair of IDX files, plain or gzip: ubyte images [n, h, w] and ubyte labels [n], each at most 2 GiB.
 * There are as many classes as the largest label needs, but at least 10. */
SL_API sl_dataset *sl_idx(sl_context *ctx, const char *images_file, const char *labels_file);

/* `count` generated 28×28 digit images: strokes under random affine and elastic distortion. The same seed and
 * split give the same bytes everywhere; training and test images never share a random number. */
SL_API sl_dataset *sl_digits(sl_context *ctx, uint64_t seed, sl_split split, int64_t count);

/* Arrays in memory, copied: images [count, height, width, channels], labels [count] in [0, classes). For
 * feature vectors height = width = 1. A value that is not finite, or a label out of range, is an error that
 * names it. */
SL_API sl_dataset *sl_dataset_from_labels(sl_context *ctx, const float *images, const int32_t *labels,
                                          int64_t count, int height, int width, int channels, int classes);
/* The same with `outputs` float targets per sample instead of labels. */
SL_API sl_dataset *sl_dataset_from_targets(sl_context *ctx, const float *images, const float *targets,
                                           int64_t count, int height, int width, int channels, int outputs);

/* A view on samples first … first+count-1 (count < 0: all the rest); at least one. The parent must live as
 * long. */
SL_API sl_dataset *sl_dataset_slice(sl_dataset *data, int64_t first, int64_t count);

SL_API void sl_dataset_free(sl_dataset *data);

typedef struct sl_dataset_info {
    const char *name; /* "mnist", "synthetic digits", a folder, "memory" */
    const char
        *sha256; /* of the unpacked image file's content, 64 hexadecimal digits; "" for data from memory */
    int64_t count;
    int height, width, channels;
    int classes; /* 0 where there are targets */
    int outputs; /* 0 where there are labels */
    bool synthetic;
} sl_dataset_info;
SL_API sl_dataset_info sl_dataset_describe(const sl_dataset *data);

/* One sample: its image as float (bytes / 255) into image[height·width·channels]; returns its label, -1 where
 * there is none or `index` is out of range. */
SL_API int sl_dataset_sample(const sl_dataset *data, int64_t index, float *image);

#ifdef __cplusplus
}
#endif
#endif
