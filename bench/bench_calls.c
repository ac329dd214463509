/* Where the time of a training step goes: every call of the plan by itself, with its share of their sum and,
 * for products, its GFLOP/s.
 *
 *     bench_calls [--device cpu|cuda] [--threads N] [--exact] [--precision fp32|tf32|bf16]
 *                 [--model softmax|mlp|lenet|cnn|cnn-plain] [--line "MODEL LINE"] [--batch N] [--rounds N]
 *                 [--json]
 *
 * On the CPU a round runs the calls of a step once, in order, so that each finds the caches as in a step; on
 * CUDA it is a graph of one call, many times. Every figure is the median of the rounds. */
#define _POSIX_C_SOURCE 200809L
#include "calls.h"
#include "measure.h"
#include "options.h"
#include "workloads.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { MOST_ROUNDS = 101, REPEATS = 32 };

typedef struct settings {
    sl_open_options open;
    const char *model, *line;
    int batch, rounds;
    bool json;
} settings;

static void time_on_host(const sl_plan *plan, int round, double (*seconds)[MOST_ROUNDS])
{
    void *handle = NULL;
    for (int c = 0; c < plan->n_calls; c++) {
        const double start = seconds_now();
        plan->ctx->backend->run(plan->ctx->device, plan->ctx, &plan->calls[c], 1, &handle);
        seconds[c][round] = seconds_now() - start;
    }
}

static void time_on_device(sl_model *model, const sl_plan *plan, int rounds, double (*seconds)[MOST_ROUNDS])
{
    const sl_backend *backend = plan->ctx->backend;
    for (int c = 0; c < plan->n_calls; c++) {
        sl_call repeated[REPEATS];
        void *handle = NULL;
        for (int i = 0; i < REPEATS; i++) repeated[i] = plan->calls[c];
        for (int round = -1; round < rounds; round++) { /* the first captures */
            wait_for_device(model);
            const double start = seconds_now();
            backend->run(plan->ctx->device, plan->ctx, repeated, REPEATS, &handle);
            wait_for_device(model);
            if (round >= 0) seconds[c][round] = (seconds_now() - start) / REPEATS;
        }
        if (handle) backend->release(plan->ctx->device, handle);
    }
}

static void print(const settings *s, const sl_context *ctx, const sl_plan *plan, const char *line,
                  double (*seconds)[MOST_ROUNDS], double peak)
{
    double sum = 0;
    for (int c = 0; c < plan->n_calls; c++) sum += median_of(seconds[c], s->rounds);
    if (s->json)
        printf("{\"device\": \"%s\", \"simulated\": %s, \"line\": \"%s\", \"batch\": %lld, \"peak_gflops\": "
               "%.1f, \"us\": %.2f, \"calls\": [",
               device_text(ctx), is_simulated(ctx) ? "true" : "false", line, (long long)plan->batch, peak,
               1e6 * sum);
    else
        printf("%s, batch %lld, %s%s\n%10s %7s %9s %8s  %-30s %-14s %s\n", line, (long long)plan->batch,
               device_text(ctx), is_simulated(ctx) ? "; simulated: the times mean nothing" : "", "us",
               "share", "GFLOP/s", "of peak", "operation", "kernel", "node");
    for (int c = 0; c < plan->n_calls; c++) {
        const sl_call *call = &plan->calls[c];
        const double t = median_of(seconds[c], s->rounds), rate = 1e-9 * sl_call_operations(call) / t;
        const char *op = sl_op_name(call->op);
        if (s->json) {
            printf("%s\n  {\"operation\": \"%s\", \"kernel\": \"%s\", \"node\": \"%s\", \"us\": %.2f, "
                   "\"lowest\": %.2f, \"highest\": %.2f, \"gflops\": %.1f}",
                   c ? "," : "", op, call->kernel->name, call->name, 1e6 * t,
                   1e6 * lowest_of(seconds[c], s->rounds), 1e6 * highest_of(seconds[c], s->rounds), rate);
            continue;
        }
        printf("%10.1f %5.1f %%", 1e6 * t, 100 * t / sum);
        if (rate > 0)
            printf(" %9.1f", rate);
        else
            printf(" %9s", "");
        if (rate > 0 && peak > 0)
            printf(" %6.0f %%", 100 * rate / peak);
        else
            printf(" %8s", "");
        printf("  %-30s %-14s %s\n", op, call->kernel->name, call->name);
    }
    if (s->json)
        printf("\n]}\n");
    else
        printf("%10.1f us in all, %.0f samples/s; peak %.1f GFLOP/s\n", 1e6 * sum, (double)plan->batch / sum,
               peak);
}

int main(int argc, char **argv)
{
    settings s = {.model = "cnn-plain", .rounds = 15};
    const bench_option options[] = {{"--model", "softmax|mlp|lenet|cnn|cnn-plain", .text = &s.model},
                                    {"--line", "LINE", .text = &s.line},
                                    {"--batch", "N", .number = &s.batch, .least = 1, .most = 1 << 20},
                                    {"--rounds", "N", .number = &s.rounds, .least = 1, .most = MOST_ROUNDS},
                                    {"--json", .flag = &s.json},
                                    {0}};
    bench_options("bench_calls", argc, argv, &s.open, options);
    const workload *w = workload_named(s.model);
    if (!w) bench_usage("bench_calls", options, true);
    s.open.seed = 1;
    sl_context *ctx = sl_open_with(&s.open);
    stop_on_error(ctx);
    const int batch = s.batch ? s.batch : is_simulated(ctx) ? 8 : w->batch;
    const char *line = s.line ? s.line : w->line;
    sl_model *model = compile_line(ctx, line, w->adam, batch);
    sl_dataset *data = random_data(ctx, batch * (is_simulated(ctx) ? 1 : 8));
    for (int i = 0; i < 2; i++) sl_train_step(model, data, 1, NULL, NULL);
    stop_on_error(ctx);
    const sl_plan *plan = model->training.plan;
    double(*seconds)[MOST_ROUNDS] = calloc((size_t)plan->n_calls, sizeof *seconds);
    if (!seconds) stop("out of memory");
    double peaks[MOST_ROUNDS];
    sl_pool *pool = ctx->backend->host_memory ? sl_cpu_pool(ctx->device) : NULL;
    for (int round = 0; round < s.rounds; round++) {
        peaks[round] = pool ? peak_gflops(pool) : 0;
        if (pool) time_on_host(plan, round, seconds);
    }
    if (!pool) time_on_device(model, plan, s.rounds, seconds);
    stop_on_error(ctx);
    print(&s, ctx, plan, line, seconds, median_of(peaks, s.rounds));
    free(seconds);
    sl_close(ctx);
    return 0;
}
