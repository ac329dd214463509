/* Training speed: samples a second of whole steps (draw, forward, backward, update, books) on data that lies
 * on the device. On the CPU beside the machine's peak of multiply-add, measured between the epochs.
 *
 *     bench_train [--device cpu|cuda] [--model softmax|mlp|lenet|cnn|cnn-plain] [--batch N] [--samples N]
 *                 [--threads N] [--rounds N] [--exact] [--precision fp32|tf32|bf16] [--json]
 *
 * Images are random floats, as many as in bench/peers. One round is one epoch, shuffled, and ends when the
 * device has answered; the first is for warming up. Every figure is the median of the rounds. */
#define _POSIX_C_SOURCE 200809L
#include "measure.h"
#include "options.h"
#include "workloads.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { MOST_ROUNDS = 100 };

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
    static const char *const names[] = {"fp32", "tf32", "bf16"};
    return s->open.exact ? "exact" : names[s->open.precision];
}

static void print_json(const settings *s, const workload *w, int batch, const char *device, const rounds *r,
                       int launches)
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

static void print_row(const settings *s, const workload *w, int batch, const char *device, const rounds *r,
                      int launches, bool first)
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

static void measure(const settings *s, const workload *w, bool first)
{
    sl_open_options open = s->open;
    open.seed = 1;
    sl_context *ctx = sl_open_with(&open);
    stop_on_error(ctx);
    const bool simulated = is_simulated(ctx), cpu = strcmp(sl_device_name(ctx), "cpu") == 0;
    const char *device = device_text(ctx);
    const int batch = s->batch ? s->batch : simulated ? 8 : w->batch;
    const int steps = simulated ? 2 : cpu ? w->steps : w->cuda_steps;
    const int samples = s->samples ? s->samples : steps * batch;

    sl_model *model = compile_line(ctx, w->line, w->adam, batch);
    rounds r = {.pool = cpu ? sl_cpu_pool(ctx->device) : NULL};
    sl_fit(model, random_data(ctx, samples), .epochs = s->rounds + 1, .on_epoch = note, .data = &r);
    stop_on_error(ctx);
    const sl_plan *plan = model->training.plan;
    const int launches =
        ctx->backend->launches ? ctx->backend->launches(ctx->device, ctx, plan->calls, plan->n_calls) : 0;
    stop_on_error(ctx);
    if (s->json)
        print_json(s, w, batch, device, &r, launches);
    else
        print_row(s, w, batch, device, &r, launches, first);
    fflush(stdout);
    sl_close(ctx);
}

int main(int argc, char **argv)
{
    settings s = {.rounds = 5};
    const bench_option options[] = {{"--model", "softmax|mlp|lenet|cnn|cnn-plain", .text = &s.name},
                                    {"--batch", "N", .number = &s.batch, .least = 1, .most = 1 << 20},
                                    {"--samples", "N", .number = &s.samples, .least = 1, .most = 1 << 24},
                                    {"--rounds", "N", .number = &s.rounds, .least = 1, .most = MOST_ROUNDS},
                                    {"--json", .flag = &s.json},
                                    {0}};
    bench_options("bench_train", argc, argv, &s.open, options);
    if (s.name && !workload_named(s.name)) bench_usage("bench_train", options, true);
    bool first = true;
    for (int i = 0; i < WORKLOADS; i++) {
        if (s.name && strcmp(workload_at(i)->name, s.name) != 0) continue;
        measure(&s, workload_at(i), first);
        first = false;
    }
    return 0;
}
