/* slope bench layers and steps: whole layers forward and backward, whole steps of training. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

/* --- layers --- */

static bool open_layer(bench *b, bench_case *c)
{
    if (!bench_open_line(b, c)) return false;
    sl_plan_run(c->plan[0]);
    bench_wait(b);
    const double start = seconds_now();
    sl_plan_run(c->plan[0]);
    bench_wait(b);
    const double wanted = 8e-3 / (seconds_now() - start);
    c->repeats = wanted < 1 || b->simulated ? 1 : wanted > 256 ? 256 : (int)wanted;
    return !sl_error(b->ctx);
}

static bool round_layer(bench *b, bench_case *c)
{
    static const char *const forms[] = {"forward and backward", "forward"};
    for (int i = 0; i < 2; i++) {
        sl_plan_run(c->plan[i]); /* into the caches */
        bench_wait(b);
        const double start = seconds_now();
        for (int r = 0; r < c->repeats; r++) sl_plan_run(c->plan[i]);
        bench_wait(b);
        bench_figure *f = bench_figure_of(b, c, forms[i]);
        if (!f) return false;
        f->samples = (double)b->batch;
        bench_note(b, f, (seconds_now() - start) / c->repeats, 0);
    }
    return !sl_error(b->ctx);
}

const bench_kind bench_layers = {"layers", 1, open_layer, round_layer, NULL};

/* --- steps of training --- */

static sl_dataset *noise_data(bench *b, int64_t samples)
{
    enum { PIXELS = 28 * 28 };
    float *images = malloc((size_t)(samples * PIXELS) * sizeof *images);
    int32_t *labels = malloc((size_t)samples * sizeof *labels);
    uint32_t state = 1;
    for (int64_t i = 0; images && i < samples * PIXELS; i++) {
        state = state * 1664525u + 1013904223u;
        images[i] = (float)(state >> 8) * 0x1p-24f;
    }
    for (int64_t i = 0; labels && i < samples; i++) labels[i] = (int32_t)(i % 10);
    sl_dataset *data =
        images && labels ? sl_dataset_from_labels(b->ctx, images, labels, samples, 28, 28, 1, 10) : NULL;
    free(images);
    free(labels);
    return data;
}

static bool open_steps(bench *b, bench_case *c)
{
    c->graph = sl_graph_new(b->ctx);
    sl_node *logits =
        sl_model_line(sl_input(c->graph, "image", 28, 28, 1), c->line, c->activation, (sl_init){0});
    sl_node *loss = sl_softmax_cross_entropy(logits, sl_labels(c->graph, "label"));
    c->model = sl_compile(loss, .batch = (int)b->batch, .optimizer = sl_adam(.rate = 1e-3f));
    /* A device is given as many steps as hide the wait at the end. */
    const int64_t steps = b->simulated ? 2 : b->cpu ? c->steps : c->steps < 64 ? 64 : 2 * c->steps;
    c->data = c->model ? noise_data(b, steps * b->batch) : NULL;
    c->info = sl_model_plan(c->model, c->data);
    return c->data && !sl_error(b->ctx);
}

static bool round_steps(bench *b, bench_case *c)
{
    const sl_epoch epoch = sl_fit(c->model, c->data, .epochs = 1);
    if (sl_error(b->ctx)) return false;
    bench_figure *f = bench_figure_of(b, c, "step");
    if (!f) return false;
    f->samples = (double)b->batch;
    f->memory = (double)c->info.arena_bytes;
    f->launches = c->info.launches;
    bench_note(b, f, (double)b->batch / epoch.samples_per_second, 0);
    return true;
}

static void close_steps(bench *b, bench_case *c)
{
    (void)b;
    sl_model_free(c->model);
    sl_dataset_free(c->data);
    c->model = NULL;
    c->data = NULL;
}

const bench_kind bench_steps = {"steps", 5, open_steps, round_steps, close_steps};
