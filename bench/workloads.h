/* The networks that are measured, as in bench/peers, and images of random floats for them. */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include <slope/slope.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "nn/model.h"

enum { PIXELS = 28 * 28, WORKLOADS = 5 };

typedef struct workload {
    const char *name, *line;
    int batch, steps, cuda_steps; /* of an epoch */
    bool adam;                    /* else SGD with momentum */
} workload;

static inline const workload *workload_at(int i)
{
    static const workload all[WORKLOADS] = {
        {"softmax", "softmax", 128, 468, 468, false},
        {"mlp", "mlp", 128, 468, 468, false},
        {"lenet", "lenet", 64, 300, 468, true},
        {"cnn", "cnn", 128, 12, 234, true},
        {"cnn-plain", "conv3-32 act conv3-64 act pool2 dense128 act dense10", 128, 12, 234, true},
    };
    return &all[i];
}

/* NULL where there is none of that name. */
static inline const workload *workload_named(const char *name)
{
    for (int i = 0; i < WORKLOADS; i++)
        if (strcmp(workload_at(i)->name, name) == 0) return workload_at(i);
    return NULL;
}

static inline void stop(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline void stop_on_error(const sl_context *ctx)
{
    if (sl_error(ctx)) stop(sl_error(ctx));
}

static inline bool is_simulated(const sl_context *ctx)
{
    return strncmp(sl_device_description(ctx), "simulated", 9) == 0;
}

/* For what is printed: figures from the simulated device must not be taken for a GPU's. */
static inline const char *device_text(const sl_context *ctx)
{
    return is_simulated(ctx) ? "simulated" : sl_device_description(ctx);
}

static inline sl_dataset *random_data(sl_context *ctx, int samples)
{
    float *images = malloc((size_t)samples * PIXELS * sizeof *images);
    int32_t *labels = malloc((size_t)samples * sizeof *labels);
    if (!images || !labels) stop("out of memory");
    uint32_t state = 1;
    for (int64_t i = 0; i < (int64_t)samples * PIXELS; i++) {
        state = state * 1664525u + 1013904223u;
        images[i] = (float)(state >> 8) * 0x1p-24f;
    }
    for (int i = 0; i < samples; i++) {
        state = state * 1664525u + 1013904223u;
        labels[i] = (int32_t)(state >> 16) % 10;
    }
    sl_dataset *data = sl_dataset_from_labels(ctx, images, labels, samples, 28, 28, 1, 10);
    free(images);
    free(labels);
    return data;
}

/* The line's network with softmax cross-entropy. */
static inline sl_node *loss_of_line(sl_context *ctx, const char *line)
{
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *logits = sl_model_line(sl_input(graph, "image", 28, 28, 1), line, SL_RELU, (sl_init){0});
    return sl_softmax_cross_entropy(logits, sl_labels(graph, "label"));
}

static inline sl_model *compile_line(sl_context *ctx, const char *line, bool adam, int batch)
{
    return sl_compile(loss_of_line(ctx, line), .batch = batch,
                      .optimizer = adam ? sl_adam(.rate = 1e-3f) : sl_momentum(.rate = 0.01f));
}

/* Waits until the device has done all that it was given. */
static inline void wait_for_device(sl_model *model)
{
    sl_read_counter(model, model->step, NULL);
}
#endif
