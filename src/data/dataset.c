#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/digits.h"

static void release(sl_owned *owned)
{
    sl_dataset *data = (sl_dataset *)owned; /* `owned` is its first member */
    if (!data->parent) {
        free(data->name);
        free(data->bytes);
        free(data->floats);
        free(data->labels);
        free(data->targets);
    }
    free(data);
}

sl_dataset *sl_dataset_new(sl_context *ctx, const char *name, int64_t count, int height, int width,
                           int channels)
{
    if (!sl_ok(ctx)) return NULL;
    sl_dataset *data = sl_new(ctx, 1, sizeof *data, "a data set");
    if (!data) return NULL;
    data->name = sl_new(ctx, strlen(name) + 1, 1, "a data set's name");
    if (!data->name) {
        free(data);
        return NULL;
    }
    strcpy(data->name, name);
    data->ctx = ctx;
    data->count = count;
    data->height = height;
    data->width = width;
    data->channels = channels;
    sl_own(ctx, &data->owned, release);
    return data;
}

void sl_dataset_free(sl_dataset *data)
{
    if (!data) return;
    sl_disown(&data->owned);
    release(&data->owned);
}

static int64_t pixels(const sl_dataset *data)
{
    return (int64_t)data->height * data->width * data->channels;
}

/* --- from arrays ------------------------------------------------------------------------------------- */

/* The whole number of elements, or 0 with the error set where the sizes make no array. */
static int64_t elements(sl_context *ctx, const char *call, int64_t count, int height, int width, int channels)
{
    if (count <= 0) {
        sl_fail(ctx, SL_ARGUMENT, "%s: count is %lld; at least 1 sample is needed", call, (long long)count);
        return 0;
    }
    if (height <= 0 || width <= 0 || channels <= 0) {
        sl_fail(ctx, SL_ARGUMENT,
                "%s: images of height %d, width %d, channels %d; each must be at least 1 (for feature "
                "vectors height = "
                "width = 1)",
                call, height, width, channels);
        return 0;
    }
    const int64_t most = INT64_MAX / (int64_t)sizeof(double);
    if (height > most / width / channels || count > most / ((int64_t)height * width * channels)) {
        sl_fail(ctx, SL_ARGUMENT, "%s: %lld×%d×%d×%d values are more than memory can address", call,
                (long long)count, height, width, channels);
        return 0;
    }
    return count * height * width * channels;
}

static bool all_finite(sl_context *ctx, const char *call, const char *what, const float *values,
                       int64_t count, int64_t per_sample)
{
    for (int64_t i = 0; i < count * per_sample; i++)
        if (!isfinite(values[i])) {
            sl_fail(ctx, SL_ARGUMENT, "%s: value %lld of the %s of sample %lld is %g; all must be finite",
                    call, (long long)(i % per_sample), what, (long long)(i / per_sample), (double)values[i]);
            return false;
        }
    return true;
}

static sl_dataset *from_images(sl_context *ctx, const char *call, const float *images, const void *answers,
                               const char *answers_name, int64_t count, int height, int width, int channels)
{
    if (!images || !answers) {
        sl_fail(ctx, SL_ARGUMENT, "%s: `%s` is NULL", call, images ? answers_name : "images");
        return NULL;
    }
    const int64_t n = elements(ctx, call, count, height, width, channels);
    if (n == 0 || !all_finite(ctx, call, "image", images, count, n / count)) return NULL;
    sl_dataset *data = sl_dataset_new(ctx, "memory", count, height, width, channels);
    if (!data) return NULL;
    data->floats = sl_new(ctx, (size_t)n, sizeof(float), "the images of a data set");
    if (!data->floats) {
        sl_dataset_free(data);
        return NULL;
    }
    memcpy(data->floats, images, (size_t)n * sizeof(float));
    return data;
}

sl_dataset *sl_dataset_from_labels(sl_context *ctx, const float *images, const int32_t *labels, int64_t count,
                                   int height, int width, int channels, int classes)
{
    const char *call = "sl_dataset_from_labels";
    if (!sl_ok(ctx)) return NULL;
    if (classes < 1) {
        sl_fail(ctx, SL_ARGUMENT, "%s: classes is %d; at least 1 is needed", call, classes);
        return NULL;
    }
    for (int64_t i = 0; labels && i < count; i++)
        if (labels[i] < 0 || labels[i] >= classes) {
            sl_fail(ctx, SL_ARGUMENT, "%s: label %lld is %d; with %d classes it must be 0 to %d", call,
                    (long long)i, (int)labels[i], classes, classes - 1);
            return NULL;
        }
    sl_dataset *data = from_images(ctx, call, images, labels, "labels", count, height, width, channels);
    if (!data) return NULL;
    data->classes = classes;
    data->labels = sl_new(ctx, (size_t)count, sizeof *labels, "the labels of a data set");
    if (!data->labels) {
        sl_dataset_free(data);
        return NULL;
    }
    memcpy(data->labels, labels, (size_t)count * sizeof *labels);
    return data;
}

sl_dataset *sl_dataset_from_targets(sl_context *ctx, const float *images, const float *targets, int64_t count,
                                    int height, int width, int channels, int outputs)
{
    const char *call = "sl_dataset_from_targets";
    if (!sl_ok(ctx)) return NULL;
    if (outputs < 1) {
        sl_fail(ctx, SL_ARGUMENT, "%s: outputs is %d; at least 1 target per sample is needed", call, outputs);
        return NULL;
    }
    if (targets && count > 0 &&
        (elements(ctx, call, count, 1, 1, outputs) == 0 ||
         !all_finite(ctx, call, "target", targets, count, outputs)))
        return NULL;
    sl_dataset *data = from_images(ctx, call, images, targets, "targets", count, height, width, channels);
    if (!data) return NULL;
    data->outputs = outputs;
    data->targets = sl_new(ctx, (size_t)(count * outputs), sizeof *targets, "the targets of a data set");
    if (!data->targets) {
        sl_dataset_free(data);
        return NULL;
    }
    memcpy(data->targets, targets, (size_t)(count * outputs) * sizeof *targets);
    return data;
}

sl_dataset *sl_digits(sl_context *ctx, uint64_t seed, sl_split split, int64_t count)
{
    if (!sl_ok(ctx)) return NULL;
    if (split != SL_TRAIN && split != SL_TEST) {
        sl_fail(ctx, SL_ARGUMENT, "sl_digits: split is %d; it must be SL_TRAIN or SL_TEST", (int)split);
        return NULL;
    }
    if (elements(ctx, "sl_digits", count, SL_DIGIT_SIDE, SL_DIGIT_SIDE, 1) == 0) return NULL;
    sl_dataset *data = sl_dataset_new(ctx, "synthetic digits", count, SL_DIGIT_SIDE, SL_DIGIT_SIDE, 1);
    if (!data) return NULL;
    data->bytes = sl_new(ctx, (size_t)count, SL_DIGIT_PIXELS, "the images of a data set");
    data->labels = sl_new(ctx, (size_t)count, sizeof *data->labels, "the labels of a data set");
    if (!sl_ok(ctx)) {
        sl_dataset_free(data);
        return NULL;
    }
    data->classes = 10;
    data->synthetic = true;
    for (int64_t i = 0; i < count; i++)
        data->labels[i] = sl_digit_draw(seed, split, i, data->bytes + i * SL_DIGIT_PIXELS);
    return data;
}

/* --- views and questions ----------------------------------------------------------------------------- */

sl_dataset *sl_dataset_slice(sl_dataset *data, int64_t first, int64_t count)
{
    if (!data || !sl_ok(data->ctx)) return NULL;
    sl_context *ctx = data->ctx;
    const int64_t rest = first < 0 ? 0 : data->count - first;
    if (first < 0 || first >= data->count || count == 0 || count > rest) {
        sl_fail(ctx, SL_ARGUMENT,
                "sl_dataset_slice: %lld samples from number %lld of a data set of %lld; at least 1 sample "
                "must lie "
                "inside it, and all of them",
                (long long)count, (long long)first, (long long)data->count);
        return NULL;
    }
    sl_dataset *slice = sl_new(ctx, 1, sizeof *slice, "a slice of a data set");
    if (!slice) return NULL;
    *slice = *data;
    slice->parent = data->parent ? data->parent : data;
    slice->count = count < 0 ? rest : count;
    if (data->bytes) slice->bytes += first * pixels(data);
    if (data->floats) slice->floats += first * pixels(data);
    if (data->labels) slice->labels += first;
    if (data->targets) slice->targets += first * data->outputs;
    sl_own(ctx, &slice->owned, release);
    return slice;
}

sl_dataset_info sl_dataset_describe(const sl_dataset *data)
{
    if (!data) return (sl_dataset_info){.name = "", .sha256 = ""};
    return (sl_dataset_info){
        .name = data->name,
        .sha256 = data->sha256,
        .count = data->count,
        .height = data->height,
        .width = data->width,
        .channels = data->channels,
        .classes = data->classes,
        .outputs = data->outputs,
        .synthetic = data->synthetic,
    };
}

int sl_dataset_sample(const sl_dataset *data, int64_t index, float *image)
{
    if (!data || !sl_ok(data->ctx) || index < 0 || index >= data->count) return -1;
    const int64_t n = pixels(data);
    for (int64_t i = 0; image && i < n; i++)
        image[i] = data->bytes ? (float)data->bytes[index * n + i] / 255.0f : data->floats[index * n + i];
    return data->labels ? data->labels[index] : -1;
}
