/* How a training step grows with batch, width and depth, beside its floor; what planning costs; memory as
 * planned beside the tensors that are alive at once. Prints tables in Markdown.
 *
 *     bench_scaling [--device cpu|cuda] [--threads N] [--exact] [--precision fp32|tf32|bf16] [--quick]
 *                   [--rounds N] [--peak GFLOP/s] [--copy GB/s] [--json]
 *
 * --quick   fewer and smaller rows
 * --peak, --copy   the device's peak of multiply-add and its rate of copying, for the floor; on the CPU they
 *           are measured beside every row
 * --json    JSON to standard output, the tables to standard error
 *
 * A time is the lowest of the rounds. The floor is the larger of two: the operations of the products over the
 * highest peak of multiply-add; the bytes that a step must move over the highest rate of a copy whose source
 * and target together are as large. Whether a step grows faster than its work is judged by the sum of the
 * two, because one does not hide all of the other. */
#define _POSIX_C_SOURCE 200809L
#include "calls.h"
#include "measure.h"
#include "options.h"
#include "workloads.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { MOST_ROUNDS = 51, MOST_ROWS = 64, MOST_LINE = 1024, SAMPLES = 8192, PLANNINGS = 5 };

typedef struct settings {
    sl_open_options open;
    int rounds, peak, copy;
    bool quick, json;
} settings;

typedef struct row {
    const char *group;
    int size, batch; /* size: what the group varies */
    bool adam;
    char line[MOST_LINE];
    double seconds[MOST_ROUNDS], copies[MOST_ROUNDS];
    double planned; /* seconds from the line to a plan that is ready to run */
    double operations, bytes;
    int64_t arena, live, tensors;
} row;

typedef struct planning {
    const workload *of;
    double build[PLANNINGS], compile[PLANNINGS], plan[PLANNINGS], capture[PLANNINGS];
    int64_t arena, live, tensors;
    int calls;
} planning;

typedef struct bench {
    const settings *s;
    sl_context *ctx;
    sl_dataset *data;
    sl_pool *pool; /* NULL: not the CPU */
    char *memory;  /* to copy in */
    row rows[MOST_ROWS];
    int n_rows;
    double peak;
    planning plannings[WORKLOADS];
} bench;

/* --- the rows --- */

static row *add_row(bench *b, const char *group, int size, int batch, bool adam)
{
    if (b->n_rows == MOST_ROWS) stop("bench_scaling: too many rows");
    row *r = &b->rows[b->n_rows++];
    r->group = group, r->size = size, r->batch = batch, r->adam = adam;
    return r;
}

static void add_rows(bench *b)
{
    const bool quick = b->s->quick, tiny = is_simulated(b->ctx);
    const int batch = tiny ? 8 : 128;
    for (int n = 1; n <= (tiny ? 8 : quick ? 512 : SAMPLES); n *= quick ? 4 : 2)
        strcpy(add_row(b, "mlp: batch", n, n, false)->line, "mlp");
    for (int n = 1; n <= (tiny ? 4 : quick ? 256 : SAMPLES); n *= quick ? 4 : 2)
        strcpy(add_row(b, "lenet: batch", n, n, true)->line, "lenet");
    for (int n = 16; n <= (tiny ? 64 : quick ? 1024 : 4096); n *= quick ? 4 : 2)
        snprintf(add_row(b, "two hidden layers: width", n, batch, false)->line, MOST_LINE,
                 "dense%d act dense%d act dense10", n, n);
    for (int n = 1; n <= (tiny ? 4 : 64); n *= quick ? 4 : 2) {
        char *line = add_row(b, "hidden layers of 128: depth", n, batch, false)->line;
        for (int i = 0; i < n; i++) line += sprintf(line, "dense128 act ");
        strcpy(line, "dense10");
    }
}

/* The most bytes of tensors that are alive at once, workspaces not counted. */
static int64_t live_tensors(const sl_plan *plan)
{
    int64_t most = 0;
    for (int i = 0; i < plan->n_order; i++) {
        int64_t live = 0;
        for (int k = 0; k < plan->n_buffers; k++)
            if (plan->buffers[k].first <= i && i <= plan->buffers[k].last) live += plan->buffers[k].bytes;
        for (int c = 0; c < plan->n_calls; c++)
            if (plan->call_buffer[c] >= 0 && plan->buffers[plan->call_buffer[c]].first == i)
                live -= plan->buffers[plan->call_buffer[c]].bytes;
        most = live > most ? live : most;
    }
    return most;
}

/* --- timing --- */

static double time_steps(const bench *b, sl_model *model, int steps)
{
    const double start = seconds_now();
    for (int i = 0; i < steps; i++) sl_plan_run(model->training.plan);
    wait_for_device(model);
    stop_on_error(b->ctx);
    return (seconds_now() - start) / steps;
}

static void measure_row(bench *b, row *r)
{
    const double start = seconds_now();
    sl_model *model = compile_line(b->ctx, r->line, r->adam, r->batch);
    sl_model_plan(model, b->data);
    stop_on_error(b->ctx);
    wait_for_device(model);
    r->planned = seconds_now() - start;
    sl_train_step(model, b->data, 1, NULL, NULL);
    stop_on_error(b->ctx);
    const sl_plan *plan = model->training.plan;
    r->operations = plan_operations(plan);
    r->bytes = plan_bytes(plan);
    r->arena = plan->arena_bytes, r->live = plan->live_bytes, r->tensors = live_tensors(plan);
    const double least = is_simulated(b->ctx) ? 0 : 10e-3;
    const int steps = (int)(least / time_steps(b, model, 1)) + 1;
    const int64_t most = (int64_t)256 << 20, bytes = r->bytes < (double)most ? (int64_t)r->bytes : most;
    for (int i = 0; i < b->s->rounds; i++) {
        r->seconds[i] = time_steps(b, model, steps);
        if (!b->pool) continue;
        const double peak = peak_gflops(b->pool);
        b->peak = peak > b->peak ? peak : b->peak;
        r->copies[i] = copy_rate_of(b->pool, b->memory, bytes);
    }
    sl_model_free(model);
}

/* From the line to a plan that is ready to run; on CUDA also its first run, which captures it. */
static void measure_planning(bench *b, planning *p)
{
    const sl_backend *backend = b->ctx->backend;
    const int batch = is_simulated(b->ctx) ? 8 : p->of->batch;
    for (int i = 0; i < PLANNINGS; i++) {
        double at = seconds_now();
        sl_node *loss = loss_of_line(b->ctx, p->of->line);
        p->build[i] = seconds_now() - at;
        at = seconds_now();
        sl_model *model =
            sl_compile(loss, .batch = batch, .optimizer = p->of->adam ? sl_adam() : sl_momentum());
        if (model) wait_for_device(model);
        p->compile[i] = seconds_now() - at;
        at = seconds_now();
        const sl_plan_info info = sl_model_plan(model, b->data);
        stop_on_error(b->ctx);
        wait_for_device(model);
        p->plan[i] = seconds_now() - at;
        const sl_plan *plan = model->training.plan;
        p->calls = info.calls, p->arena = plan->arena_bytes, p->live = plan->live_bytes;
        p->tensors = live_tensors(plan);
        if (backend->launches) {
            const double first = time_steps(b, model, 1);
            p->capture[i] = first - time_steps(b, model, 1);
        }
        sl_model_free(model);
    }
}

/* --- the tables --- */

typedef struct judged {
    double seconds, by_operations, by_bytes, ratio;
    char note[64];
} judged;

/* `best`: the lowest time for the work of the rows of this group so far. */
static judged judge(const bench *b, const row *r, double *best)
{
    const settings *s = b->s;
    judged j = {.seconds = lowest_of(r->seconds, s->rounds)};
    const double copy = b->pool ? highest_of(r->copies, s->rounds) : 1e9 * s->copy;
    if (b->peak > 0) j.by_operations = 1e-9 * r->operations / b->peak;
    if (copy > 0) j.by_bytes = r->bytes / copy;
    const double floor = j.by_bytes > j.by_operations ? j.by_bytes : j.by_operations;
    if (floor <= 0) return j;
    j.ratio = j.seconds / floor;
    const double growth = j.seconds / (j.by_operations + j.by_bytes);
    if (*best > 0 && growth > 1.15 * *best)
        snprintf(j.note, sizeof j.note, "%.2f times the time for its work of the best above", growth / *best);
    *best = *best > 0 && *best < growth ? *best : growth;
    return j;
}

static double mib(int64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void print_rows(const bench *b, FILE *to)
{
    double best = 0;
    for (int i = 0; i < b->n_rows; i++) {
        const row *r = &b->rows[i];
        if (i == 0 || strcmp(r->group, r[-1].group) != 0) {
            best = 0;
            fprintf(
                to,
                "\n| %s | µs a step | by operations, µs | by bytes, µs | of the floor | arena, MiB | live "
                "tensors, MiB | ratio | planned in, ms | note |\n"
                "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n",
                r->group);
        }
        const judged j = judge(b, r, &best);
        fprintf(to, "| %d | %.1f |", r->size, 1e6 * j.seconds);
        if (j.ratio > 0)
            fprintf(to, " %.1f | %.1f | %.2f |", 1e6 * j.by_operations, 1e6 * j.by_bytes, j.ratio);
        else
            fprintf(to, " | | |");
        fprintf(to, " %.2f | %.2f | %.2f | %.2f | %s |\n", mib(r->arena), mib(r->tensors),
                (double)r->arena / (double)r->tensors, 1e3 * r->planned, j.note);
    }
}

static void print_plannings(const bench *b, FILE *to)
{
    fprintf(to, "\n| planning | graph, ms | first values, ms | plan, ms | in all, ms | capture, ms | calls | "
                "arena, MiB | live with workspaces, MiB | live tensors, MiB |\n"
                "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (int i = 0; i < WORKLOADS; i++) {
        const planning *p = &b->plannings[i];
        const double build = 1e3 * median_of(p->build, PLANNINGS),
                     compile = 1e3 * median_of(p->compile, PLANNINGS),
                     plan = 1e3 * median_of(p->plan, PLANNINGS);
        fprintf(to, "| %s | %.2f | %.2f | %.2f | %.2f |", p->of->name, build, compile, plan,
                build + compile + plan);
        if (b->ctx->backend->launches)
            fprintf(to, " %.2f |", 1e3 * median_of(p->capture, PLANNINGS));
        else
            fprintf(to, " none |");
        fprintf(to, " %d | %.2f | %.2f | %.2f |\n", p->calls, mib(p->arena), mib(p->live), mib(p->tensors));
    }
}

static void print_tables(const bench *b, FILE *to)
{
    const bool simulated = is_simulated(b->ctx);
    fprintf(to, "%s%s. ", device_text(b->ctx), simulated ? ": the times mean nothing" : "");
    if (b->peak > 0)
        fprintf(to, "Peak of multiply-add, %s: %.0f GFLOP/s. ", b->pool ? "highest measured" : "as given",
                b->peak);
    fprintf(to, "Times are the lowest of %d rounds.\n", b->s->rounds);
    print_plannings(b, to);
    print_rows(b, to);
}

static void print_json(const bench *b)
{
    printf("{\"program\": \"bench_scaling\", \"device\": \"%s\", \"simulated\": %s, \"peak_gflops\": %.1f, "
           "\"planning\": [",
           device_text(b->ctx), is_simulated(b->ctx) ? "true" : "false", b->peak);
    for (int i = 0; i < WORKLOADS; i++) {
        const planning *p = &b->plannings[i];
        printf("%s\n  {\"name\": \"%s\", \"ms\": [", i ? "," : "", p->of->name);
        for (int k = 0; k < PLANNINGS; k++)
            printf("%s%.3f", k ? ", " : "", 1e3 * (p->build[k] + p->compile[k] + p->plan[k]));
        printf("], \"capture_ms\": %.3f, \"arena_bytes\": %lld, \"live_tensor_bytes\": %lld}",
               1e3 * median_of(p->capture, PLANNINGS), (long long)p->arena, (long long)p->tensors);
    }
    printf("\n], \"rows\": [");
    double best = 0;
    for (int i = 0; i < b->n_rows; i++) {
        const row *r = &b->rows[i];
        if (i == 0 || strcmp(r->group, r[-1].group) != 0) best = 0;
        const judged j = judge(b, r, &best);
        printf("%s\n  {\"name\": \"%s %d\", \"operations\": %.0f, \"bytes\": %.0f, \"floor_us\": %.3f, "
               "\"grows_faster\": %s, \"arena_bytes\": %lld, \"live_tensor_bytes\": %lld, \"planned_ms\": "
               "%.3f, \"us\": [",
               i ? "," : "", r->group, r->size, r->operations, r->bytes,
               1e6 * (j.by_bytes > j.by_operations ? j.by_bytes : j.by_operations),
               *j.note ? "true" : "false", (long long)r->arena, (long long)r->tensors, 1e3 * r->planned);
        for (int k = 0; k < b->s->rounds; k++) printf("%s%.2f", k ? ", " : "", 1e6 * r->seconds[k]);
        printf("]}");
    }
    printf("\n]}\n");
}

int main(int argc, char **argv)
{
    settings s = {.rounds = 5};
    const bench_option options[] = {{"--quick", .flag = &s.quick},
                                    {"--rounds", "N", .number = &s.rounds, .least = 1, .most = MOST_ROUNDS},
                                    {"--peak", "GFLOP/s", .number = &s.peak, .least = 1, .most = 1 << 30},
                                    {"--copy", "GB/s", .number = &s.copy, .least = 1, .most = 1 << 20},
                                    {"--json", .flag = &s.json},
                                    {0}};
    bench_options("bench_scaling", argc, argv, &s.open, options);
    s.open.seed = 1;
    static bench b;
    b.s = &s;
    b.peak = s.peak;
    b.ctx = sl_open_with(&s.open);
    stop_on_error(b.ctx);
    if (b.ctx->backend->host_memory) b.pool = sl_cpu_pool(b.ctx->device);
    b.memory = b.pool ? malloc((size_t)256 << 20) : NULL;
    if (b.pool && !b.memory) stop("out of memory");
    if (b.memory) memset(b.memory, 1, (size_t)256 << 20);
    b.data = random_data(b.ctx, is_simulated(b.ctx) ? 16 : SAMPLES);
    stop_on_error(b.ctx);
    for (int i = 0; i < WORKLOADS; i++) {
        b.plannings[i].of = workload_at(i);
        measure_planning(&b, &b.plannings[i]);
    }
    add_rows(&b);
    for (int i = 0; i < b.n_rows; i++) measure_row(&b, &b.rows[i]);
    print_tables(&b, s.json ? stderr : stdout);
    if (s.json) print_json(&b);
    free(b.memory);
    sl_close(b.ctx);
    return 0;
}
