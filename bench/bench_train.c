/* Training speed: samples a second of whole steps (draw, forward, backward, update, books) on data in memory,
 * beside the machine's peak of multiply-add measured between the epochs.
 *
 *     bench_train [--model mlp|lenet|cnn|cnn-plain] [--threads N] [--rounds N] [--json]
 *
 * Images are random floats, the same amount as in bench/peers. One round is one epoch, shuffled; the first is
 * for warming up. Every figure is the median of the rounds. */
#define _POSIX_C_SOURCE 200809L
#include <slope/slope.h>
#include <stdio.h>

#include "backend.h"
#include "core/context.h"
#include "measure.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { PIXELS = 28 * 28, MOST_ROUNDS = 100 };

static const struct workload {
    const char *name, *line;
    int batch, samples; /* of an epoch, a multiple of the batch */
    bool adam;          /* else SGD with momentum */
} workloads[] = {
    {"mlp", "mlp", 128, 468 * 128, false},
    {"lenet", "lenet", 64, 300 * 64, true},
    {"cnn", "cnn", 128, 12 * 128, true},
    {"cnn-plain", "conv3-32 act conv3-64 act pool2 dense128 act dense10", 128, 12 * 128, true},
};
enum { WORKLOADS = sizeof workloads / sizeof *workloads };

static void fail(const char *what)
{
    fprintf(stderr, "bench_train: %s\n", what);
    exit(1);
}

static sl_dataset *random_data(sl_context *ctx, int samples)
{
    float *images = malloc((size_t)samples * PIXELS * sizeof *images);
    int32_t *labels = malloc((size_t)samples * sizeof *labels);
    if (!images || !labels) fail("out of memory");
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

typedef struct rounds {
    sl_pool *pool;
    int n;
    double rates[MOST_ROUNDS + 1], peaks[MOST_ROUNDS + 1]; /* [0]: warming up */
} rounds;

static void note(void *data, const sl_epoch *epoch)
{
    rounds *r = data;
    r->rates[r->n] = epoch->samples_per_second;
    r->peaks[r->n++] = peak_gflops(r->pool);
}

static void measure(const struct workload *w, int threads, int n, bool json, bool first)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 1, .threads = threads);
    if (sl_error(ctx)) fail(sl_error(ctx));
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *logits = sl_model_line(sl_input(graph, "image", 28, 28, 1), w->line, SL_RELU, (sl_init){0});
    sl_node *loss = sl_softmax_cross_entropy(logits, sl_labels(graph, "label"));
    sl_model *model = sl_compile(loss, .batch = w->batch,
                                 .optimizer = w->adam ? sl_adam(.rate = 1e-3f) : sl_momentum(.rate = 0.01f));
    rounds r = {.pool = sl_cpu_pool(ctx->device)};
    sl_fit(model, random_data(ctx, w->samples), .epochs = n + 1, .on_epoch = note, .data = &r);
    if (sl_error(ctx)) fail(sl_error(ctx));
    const double median = median_of(r.rates + 1, n), peak = median_of(r.peaks + 1, n);
    if (json) {
        printf("%s{\"framework\": \"slope %s\", \"device\": \"%s\", \"model\": \"%s\", \"batch\": %d, "
               "\"peak_gflops\": %.1f, \"samples_per_second\": [",
               first ? "" : "\n", SLOPE_VERSION, sl_device_description(ctx), w->name, w->batch, peak);
        for (int i = 1; i <= n; i++) printf("%s%.0f", i > 1 ? ", " : "", r.rates[i]);
        printf("]}");
    } else {
        if (first)
            printf("%-10s %6s %10s %10s %10s %12s %10s\n", "model", "batch", "samples/s", "lowest", "highest",
                   "us a step", "peak GF/s");
        printf("%-10s %6d %10.0f %10.0f %10.0f %12.1f %10.1f   %s\n", w->name, w->batch, median,
               lowest_of(r.rates + 1, n), highest_of(r.rates + 1, n), 1e6 * w->batch / median, peak,
               sl_device_description(ctx));
    }
    fflush(stdout);
    sl_close(ctx);
}

int main(int argc, char **argv)
{
    int threads = 0, n = 5;
    const char *name = NULL;
    bool json = false, found = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            n = atoi(argv[++i]);
        else if (strcmp(argv[i], "--model") == 0 && i + 1 < argc)
            name = argv[++i];
        else
            fail("usage: bench_train [--model NAME] [--threads N] [--rounds N] [--json]");
    }
    if (n < 1 || n > MOST_ROUNDS) fail("rounds must be between 1 and 100");
    for (int i = 0; i < WORKLOADS; i++) {
        if (name && strcmp(workloads[i].name, name) != 0) continue;
        measure(&workloads[i], threads, n, json, !found);
        found = true;
    }
    if (!found) fail("there are the models mlp, lenet, cnn and cnn-plain");
    if (json) printf("\n");
    return 0;
}
