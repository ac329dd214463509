/* Training speed: samples a second of whole steps (draw, forward, backward, update, books) on data that lies
 * on the device. On the CPU beside the machine's peak of multiply-add, measured between the epochs.
 *
 *     bench_train [--device cpu|cuda] [--model softmax|mlp|lenet|cnn|cnn-plain] [--batch N] [--samples N]
 *                 [--threads N] [--rounds N] [--exact] [--precision fp32|tf32] [--json]
 *
 * Images are random floats, as many as in bench/peers. One round is one epoch, shuffled, and ends when the
 * device has answered; the first is for warming up. Every figure is the median of the rounds. */
#define _POSIX_C_SOURCE 200809L
#include <slope/slope.h>
#include <stdio.h>

#include "core/context.h"
#include "measure.h"
#include "nn/model.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { PIXELS = 28 * 28, MOST_ROUNDS = 100 };

static const struct workload {
    const char *name, *line;
    int batch, steps, cuda_steps; /* of an epoch */
    bool adam;                    /* else SGD with momentum */
} workloads[] = {
    {"softmax", "softmax", 128, 468, 468, false},
    {"mlp", "mlp", 128, 468, 468, false},
    {"lenet", "lenet", 64, 300, 468, true},
    {"cnn", "cnn", 128, 12, 234, true},
    {"cnn-plain", "conv3-32 act conv3-64 act pool2 dense128 act dense10", 128, 12, 234, true},
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
    sl_pool *pool; /* NULL: not the CPU */
    int n;
    double rates[MOST_ROUNDS + 1], peaks[MOST_ROUNDS + 1]; /* [0]: warming up */
} rounds;

static void note(void *data, const sl_epoch *epoch)
{
    rounds *r = data;
    r->rates[r->n] = epoch->samples_per_second;
    r->peaks[r->n++] = r->pool ? peak_gflops(r->pool) : 0;
}

typedef struct settings {
    sl_open_options open;
    int batch, samples, rounds;
    bool json;
    const char *name;
} settings;

static const char *mode_of(const settings *s)
{
    return s->open.exact ? "exact" : s->open.precision == SL_TF32 ? "tf32" : "fp32";
}

static void print_json(const settings *s, const struct workload *w, int batch, const char *device,
                       const rounds *r, int launches)
{
    const double median = median_of(r->rates + 1, s->rounds);
    printf("{\"framework\": \"slope %s\", \"device\": \"%s\", \"simulated\": %s, \"model\": \"%s\", "
           "\"batch\": %d, \"precision\": \"%s\", \"us_per_step\": %.2f, ",
           SLOPE_VERSION, device, strncmp(device, "simulated", 9) == 0 ? "true" : "false", w->name, batch,
           mode_of(s), 1e6 * batch / median);
    if (launches > 0) printf("\"launches_per_step\": %d, ", launches);
    if (r->pool) printf("\"peak_gflops\": %.1f, ", median_of(r->peaks + 1, s->rounds));
    printf("\"samples_per_second\": [");
    for (int i = 1; i <= s->rounds; i++) printf("%s%.0f", i > 1 ? ", " : "", r->rates[i]);
    printf("]}\n");
}

static void print_row(const settings *s, const struct workload *w, int batch, const char *device,
                      const rounds *r, int launches, bool first)
{
    const double median = median_of(r->rates + 1, s->rounds);
    if (first)
        printf("%-10s %6s %10s %10s %10s %12s %10s %10s\n", "model", "batch", "samples/s", "lowest",
               "highest", "us a step", "launches", "peak GF/s");
    printf("%-10s %6d %10.0f %10.0f %10.0f %12.1f", w->name, batch, median,
           lowest_of(r->rates + 1, s->rounds), highest_of(r->rates + 1, s->rounds), 1e6 * batch / median);
    if (launches > 0)
        printf(" %10d", launches);
    else
        printf(" %10s", "-");
    if (r->pool)
        printf(" %10.1f", median_of(r->peaks + 1, s->rounds));
    else
        printf(" %10s", "-");
    printf("   %s, %s\n", device, mode_of(s));
}

static void measure(const settings *s, const struct workload *w, bool first)
{
    sl_open_options open = s->open;
    open.seed = 1;
    sl_context *ctx = sl_open_with(&open);
    if (sl_error(ctx)) fail(sl_error(ctx));
    const bool simulated = strncmp(sl_device_description(ctx), "simulated", 9) == 0;
    const bool cpu = strcmp(sl_device_name(ctx), "cpu") == 0;
    const char *device = simulated ? "simulated" : sl_device_description(ctx);
    const int batch = s->batch ? s->batch : simulated ? 8 : w->batch;
    const int steps = simulated ? 2 : cpu ? w->steps : w->cuda_steps;
    const int samples = s->samples ? s->samples : steps * batch;

    sl_graph *graph = sl_graph_new(ctx);
    sl_node *logits = sl_model_line(sl_input(graph, "image", 28, 28, 1), w->line, SL_RELU, (sl_init){0});
    sl_node *loss = sl_softmax_cross_entropy(logits, sl_labels(graph, "label"));
    sl_model *model = sl_compile(loss, .batch = batch,
                                 .optimizer = w->adam ? sl_adam(.rate = 1e-3f) : sl_momentum(.rate = 0.01f));
    rounds r = {.pool = cpu ? sl_cpu_pool(ctx->device) : NULL};
    sl_fit(model, random_data(ctx, samples), .epochs = s->rounds + 1, .on_epoch = note, .data = &r);
    if (sl_error(ctx)) fail(sl_error(ctx));
    const sl_plan *plan = model->training.plan;
    const int launches =
        ctx->backend->launches ? ctx->backend->launches(ctx->device, ctx, plan->calls, plan->n_calls) : 0;
    if (sl_error(ctx)) fail(sl_error(ctx));
    if (s->json)
        print_json(s, w, batch, device, &r, launches);
    else
        print_row(s, w, batch, device, &r, launches, first);
    fflush(stdout);
    sl_close(ctx);
}

static settings read_settings(int argc, char **argv)
{
    settings s = {.open = {.device = SL_CPU}, .rounds = 5};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(word, "--json") == 0)
            s.json = true;
        else if (strcmp(word, "--exact") == 0)
            s.open.exact = true;
        else if (strcmp(word, "--precision") == 0 && strcmp(value, "fp32") == 0)
            i++;
        else if (strcmp(word, "--precision") == 0 && strcmp(value, "tf32") == 0)
            s.open.precision = SL_TF32, i++;
        else if (strcmp(word, "--device") == 0 && strcmp(value, "cpu") == 0)
            i++;
        else if (strcmp(word, "--device") == 0 && strcmp(value, "cuda") == 0)
            s.open.device = SL_CUDA, i++;
        else if (strcmp(word, "--threads") == 0)
            s.open.threads = atoi(value), i++;
        else if (strcmp(word, "--rounds") == 0)
            s.rounds = atoi(value), i++;
        else if (strcmp(word, "--batch") == 0)
            s.batch = atoi(value), i++;
        else if (strcmp(word, "--samples") == 0)
            s.samples = atoi(value), i++;
        else if (strcmp(word, "--model") == 0 && *value)
            s.name = value, i++;
        else
            fail("usage: bench_train [--device cpu|cuda] [--model NAME] [--batch N] [--samples N] [--threads "
                 "N] "
                 "[--rounds N] [--exact] [--precision fp32|tf32] [--json]");
    }
    if (s.rounds < 1 || s.rounds > MOST_ROUNDS) fail("rounds must be between 1 and 100");
    if (s.batch < 0 || s.samples < 0) fail("batch and samples must be positive");
    return s;
}

int main(int argc, char **argv)
{
    const settings s = read_settings(argc, argv);
    bool found = false;
    for (int i = 0; i < WORKLOADS; i++) {
        if (s.name && strcmp(workloads[i].name, s.name) != 0) continue;
        measure(&s, &workloads[i], !found);
        found = true;
    }
    if (!found) fail("there are the models softmax, mlp, lenet, cnn and cnn-plain");
    return 0;
}
