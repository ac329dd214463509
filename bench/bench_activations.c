/* Speed of every activation and its slope, alone and fused with the bias, in GB/s on arrays far larger than
 * the caches, beside a copy of the same arrays in the same rounds; on the CPU also ns an element on one
 * thread within the first cache.
 *
 *     bench_activations [--device cpu|cuda] [--threads N] [--rounds N] [--elements N] [--json] [PART OF A
 * NAME]
 *
 * Bytes counted: those that the fused form must move, so that a ratio of rates is a ratio of times. Value 8
 * an element (x in, y out), behind a bias 12 where the slope will read x (x + b is then stored too); slope 12
 * (dy and x or y in, dx out), 8 where it reads neither; copy 8. A rate is the median of the rounds; "of copy"
 * the median of the rounds' ratios to the copy just before. On CUDA a timed region is one or more launches of
 * a graph of many calls, and ends when a value has come back. */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>

#include "backend.h"
#include "core/activation.h"
#include "core/context.h"
#include "measure.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { SMALL = 2048, CHANNELS = 128, PIECE = 16 << 10, MOST_ROUNDS = 101, MOST_REPEATS = 256 };

static void fail(const char *what)
{
    fprintf(stderr, "bench_activations: %s\n", what);
    exit(1);
}

static void check(const sl_context *ctx)
{
    if (sl_error(ctx)) fail(sl_error(ctx));
}

static bool is_simulated(const sl_context *ctx)
{
    return strncmp(sl_device_description(ctx), "simulated", 9) == 0;
}

/* --- arrays on a device --- */

typedef struct bench {
    sl_context *ctx;
    int64_t n;    /* elements */
    double least; /* seconds of a timed region */
    void *x, *y, *z, *dy, *dx, *bias, *dbias, *workspace;
    size_t workspace_bytes;
} bench;

static void *space(const bench *b, size_t bytes)
{
    void *memory = b->ctx->backend->alloc(b->ctx->device, bytes);
    if (!memory) fail("out of memory");
    return memory;
}

static void *filled(const bench *b, int64_t n)
{
    float *values = malloc((size_t)n * sizeof *values);
    if (!values) fail("out of memory");
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)state * 0x1p-29f; /* [-4, 4) */
    }
    void *memory = space(b, (size_t)n * sizeof *values);
    b->ctx->backend->upload(b->ctx->device, memory, values, (size_t)n * sizeof *values);
    free(values);
    return memory;
}

static bench open_bench(const sl_open_options *options, int64_t n)
{
    bench b = {.ctx = sl_open_with(options), .n = n};
    check(b.ctx);
    b.x = filled(&b, n), b.y = filled(&b, n), b.z = filled(&b, n), b.dy = filled(&b, n), b.dx = filled(&b, n);
    b.bias = filled(&b, CHANNELS), b.dbias = filled(&b, CHANNELS);
    return b;
}

static void close_bench(bench *b)
{
    void *const all[] = {b->x, b->y, b->z, b->dy, b->dx, b->bias, b->dbias, b->workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) b->ctx->backend->free(b->ctx->device, all[i]);
    sl_close(b->ctx);
}

/* Waits for all that was launched. */
static void finish(const bench *b)
{
    float value;
    b->ctx->backend->download(b->ctx->device, &value, b->bias, sizeof value);
    check(b->ctx);
}

/* --- what is timed --- */

typedef enum form { VALUE, SLOPE, BIAS_VALUE, BIAS_THEN_VALUE, SLOPE_BIAS, SLOPE_THEN_BIAS, FORMS } form;
static const char *const form_names[FORMS] = {
    "value", "slope", "bias_value_fused", "bias_value_unfused", "slope_bias_fused", "slope_bias_unfused"};

typedef struct job {
    sl_call call[2];
    sl_tensor in[2][2], out[2][2];
    int calls;
    sl_activation_attr attr;
    sl_shape_attr shape;
    double bytes; /* an element */
    /* The calls again and again, as one plan. */
    sl_call *repeated;
    int repeats, launches;
    void *handle;
    double rates[MOST_ROUNDS];
} job;

static const sl_kernel *find_kernel(const sl_context *ctx, const sl_call *call)
{
    for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == call->op && (!k->supports || k->supports(call))) return k;
    fail("no kernel");
    return NULL;
}

static sl_tensor matrix(const bench *b, void *data)
{
    return (sl_tensor){data, {2, {b->n / CHANNELS, CHANNELS}}, SL_FLOAT};
}

static sl_tensor channels(void *data)
{
    return (sl_tensor){data, {1, {CHANNELS}}, SL_FLOAT};
}

/* Appends a call; a second input or output without data is left out. */
static void add_call(bench *b, job *j, sl_op op, const void *attr, sl_tensor in0, sl_tensor in1,
                     sl_tensor out0, sl_tensor out1)
{
    const int k = j->calls++;
    j->in[k][0] = in0, j->in[k][1] = in1, j->out[k][0] = out0, j->out[k][1] = out1;
    sl_call *call = &j->call[k];
    *call = (sl_call){.op = op,
                      .in = j->in[k],
                      .out = j->out[k],
                      .n_in = in1.data ? 2 : 1,
                      .n_out = out1.shape.n ? 2 : 1,
                      .attr = attr,
                      .device = b->ctx->device,
                      .name = "benchmark"};
    call->kernel = find_kernel(b->ctx, call);
    const size_t bytes = call->kernel->workspace ? call->kernel->workspace(call) : 0;
    if (bytes <= b->workspace_bytes) return;
    if (b->workspace) b->ctx->backend->free(b->ctx->device, b->workspace);
    b->workspace = space(b, bytes);
    b->workspace_bytes = bytes;
}

static void prepare(bench *b, job *j, const sl_activation_info *row, form f)
{
    const sl_tensor none = {0}, x = matrix(b, b->x), y = matrix(b, b->y), z = matrix(b, b->z),
                    dy = matrix(b, b->dy), dx = matrix(b, b->dx), bias = channels(b->bias),
                    dbias = channels(b->dbias);
    const bool reads_x = row->reads == SL_READS_X, reads = row->reads != SL_READS_NOTHING;
    const sl_tensor at = reads_x ? z : reads ? y : none, kept = reads_x ? z : matrix(b, NULL);
    j->attr = (sl_activation_attr){row->id, row->parameter[0].value, row->parameter[1].value};
    j->bytes = f == VALUE ? 8 : f == BIAS_VALUE || f == BIAS_THEN_VALUE ? (reads_x ? 12 : 8) : reads ? 12 : 8;
    switch (f) {
    case VALUE: add_call(b, j, SL_OP_ACTIVATION, &j->attr, x, none, y, none); break;
    case SLOPE: add_call(b, j, SL_OP_ACTIVATION_VJP, &j->attr, dy, at, dx, none); break;
    case BIAS_VALUE: add_call(b, j, SL_OP_BIAS_ACTIVATION, &j->attr, x, bias, y, kept); break;
    case BIAS_THEN_VALUE:
        add_call(b, j, SL_OP_BIAS, NULL, x, bias, z, none);
        add_call(b, j, SL_OP_ACTIVATION, &j->attr, z, none, y, none);
        break;
    case SLOPE_BIAS: add_call(b, j, SL_OP_ACTIVATION_VJP_BIAS, &j->attr, dy, at, dx, dbias); break;
    case SLOPE_THEN_BIAS:
        add_call(b, j, SL_OP_ACTIVATION_VJP, &j->attr, dy, at, dx, none);
        add_call(b, j, SL_OP_BIAS_VJP, NULL, dx, none, dbias, none);
        break;
    case FORMS: break;
    }
}

/* --- timing --- */

static void repeat(const bench *b, job *j, int repeats)
{
    if (j->handle) b->ctx->backend->release(b->ctx->device, j->handle);
    free(j->repeated);
    j->handle = NULL;
    j->repeats = repeats;
    j->repeated = malloc((size_t)(repeats * j->calls) * sizeof *j->repeated);
    if (!j->repeated) fail("out of memory");
    for (int i = 0; i < repeats * j->calls; i++) {
        j->repeated[i] = j->call[i % j->calls];
        j->repeated[i].workspace = b->workspace;
    }
}

/* Seconds of the calls, once. */
static double time_launches(const bench *b, job *j, int launches)
{
    const double start = seconds_now();
    for (int i = 0; i < launches; i++)
        if (b->ctx->backend->run(b->ctx->device, b->ctx, j->repeated, j->repeats * j->calls, &j->handle) !=
            SL_OK)
            break;
    finish(b);
    return (seconds_now() - start) / launches / j->repeats;
}

/* How often the calls are repeated in a timed region is found on the first round. */
static double time_of(const bench *b, job *j)
{
    if (!j->repeated) {
        const int fewest = b->ctx->backend->host_memory ? 1 : 2; /* one call alone is not captured */
        repeat(b, j, fewest);
        time_launches(b, j, 1);
        const double runs = b->least / time_launches(b, j, 1);
        if (runs > fewest) repeat(b, j, runs < MOST_REPEATS ? (int)runs + 1 : MOST_REPEATS);
        j->launches = (int)(runs / j->repeats) + 1;
        time_launches(b, j, 1);
    }
    return time_launches(b, j, j->launches);
}

static double rate_of(const bench *b, job *j)
{
    return j->bytes * 1e-9 * (double)b->n / time_of(b, j);
}

/* --- the copy --- */

/* In pieces that memcpy does not stream past the caches, as the kernels do not. */
static void copy_task(void *arg, int64_t first, int64_t last, int worker)
{
    const bench *b = arg;
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        const int64_t at = i * PIECE, left = b->n - at;
        memcpy((float *)b->y + at, (float *)b->x + at, (size_t)(left < PIECE ? left : PIECE) * sizeof(float));
    }
}

static double copy_rate(bench *b, job *j)
{
    if (!b->ctx->backend->host_memory) return rate_of(b, j);
    sl_pool *pool = sl_cpu_pool(b->ctx->device);
    const double start = seconds_now();
    for (int i = 0; i < 2; i++) sl_pool_run(pool, copy_task, b, (b->n + PIECE - 1) / PIECE, 1);
    return 2 * 8e-9 * (double)b->n / (seconds_now() - start);
}

/* --- results --- */

typedef struct row_jobs {
    job form[FORMS], small[2]; /* small: value and slope within the first cache, in ns an element */
    double copy[MOST_ROUNDS];
} row_jobs;

typedef struct figure {
    double rate, lowest, highest, of_copy;
} figure;

static figure figure_of(const job *j, const double *copy, int rounds)
{
    double ratio[MOST_ROUNDS];
    for (int r = 0; r < rounds; r++) ratio[r] = j->rates[r] / copy[r];
    return (figure){median_of(j->rates, rounds), lowest_of(j->rates, rounds), highest_of(j->rates, rounds),
                    median_of(ratio, rounds)};
}

static void print_json(const char *name, const row_jobs *row, int rounds, bool small, bool first)
{
    printf("%s\n  {\"name\": \"%s\"", first ? "" : ",", name);
    for (int f = 0; f < FORMS; f++) {
        const figure g = figure_of(&row->form[f], row->copy, rounds);
        printf(", \"%s\": {\"gb_per_second\": %.2f, \"lowest\": %.2f, \"highest\": %.2f, \"of_copy\": %.4f}",
               form_names[f], g.rate, g.lowest, g.highest, g.of_copy);
    }
    if (small)
        printf(", \"value_ns\": %.4f, \"slope_ns\": %.4f", median_of(row->small[0].rates, rounds),
               median_of(row->small[1].rates, rounds));
    printf("}");
}

static void print_row(const char *name, const row_jobs *row, int rounds, bool small)
{
    double spread = 0;
    printf("%-13s", name);
    for (int f = 0; f < FORMS; f++) {
        const figure g = figure_of(&row->form[f], row->copy, rounds);
        const double s = (g.highest - g.lowest) / g.rate;
        printf(" %7.1f %4.0f %%", g.rate, 100 * g.of_copy);
        spread = s > spread ? s : spread;
    }
    printf(" %5.0f %%", 100 * spread);
    if (small)
        printf(" %8.3f %8.3f", median_of(row->small[0].rates, rounds),
               median_of(row->small[1].rates, rounds));
    printf("\n");
}

static void print_all(const bench *b, row_jobs *const *rows, int rounds, bool json, bool small)
{
    enum { MOST = 128 };
    double copies[MOST];
    int n = 0;
    for (int id = 0; id < sl_activation_count(); id++)
        for (int r = 0; rows[id] && r < rounds && n < MOST; r++) copies[n++] = rows[id]->copy[r];
    if (n == 0) fail("no activation's name has that part");
    const bool simulated = is_simulated(b->ctx);
    const char *device = simulated ? "simulated" : sl_device_description(b->ctx);
    const double copy = median_of(copies, n), low = lowest_of(copies, n), high = highest_of(copies, n);
    if (json)
        printf("{\"device\": \"%s\", \"simulated\": %s, \"elements\": %lld, \"rounds\": %d, \"copy\": "
               "{\"gb_per_second\": %.2f, \"lowest\": %.2f, \"highest\": %.2f}, \"activations\": [",
               device, simulated ? "true" : "false", (long long)b->n, rounds, copy, low, high);
    else
        printf("%s: %lld elements, copy %.1f GB/s (%.1f to %.1f)%s\n"
               "              value         slope         bias+value    in two        slope+bias    in two   "
               "     "
               "most%s\n"
               "activation       GB/s of copy  GB/s of copy  GB/s of copy  GB/s of copy  GB/s of copy  GB/s "
               "of copy "
               "spread%s\n",
               device, (long long)b->n, copy, low, high,
               simulated ? "; simulated: the times mean nothing" : "", small ? "  value    slope" : "",
               small ? "  ns each  ns each" : "");
    bool first = true;
    for (int id = 0; id < sl_activation_count(); id++) {
        if (!rows[id]) continue;
        const char *name = sl_activation_row_info(id)->name;
        if (json)
            print_json(name, rows[id], rounds, small, first);
        else
            print_row(name, rows[id], rounds, small);
        first = false;
    }
    if (json) printf("\n]}\n");
}

static void drop(const bench *b, job *j)
{
    if (j->handle) b->ctx->backend->release(b->ctx->device, j->handle);
    free(j->repeated);
}

/* --- the command line --- */

typedef struct settings {
    sl_open_options open;
    int rounds;
    int64_t elements;
    bool json;
    const char *part;
} settings;

static settings read_settings(int argc, char **argv)
{
    settings s = {.open = {.device = SL_CPU}, .rounds = 5, .part = ""};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(word, "--json") == 0)
            s.json = true;
        else if (strcmp(word, "--device") == 0 && strcmp(value, "cpu") == 0)
            i++;
        else if (strcmp(word, "--device") == 0 && strcmp(value, "cuda") == 0)
            s.open.device = SL_CUDA, i++;
        else if (strcmp(word, "--threads") == 0)
            s.open.threads = atoi(value), i++;
        else if (strcmp(word, "--rounds") == 0)
            s.rounds = atoi(value), i++;
        else if (strcmp(word, "--elements") == 0)
            s.elements = atoll(value), i++;
        else if (word[0] == '-')
            fail("usage: bench_activations [--device cpu|cuda] [--threads N] [--rounds N] [--elements N] "
                 "[--json] "
                 "[PART OF A NAME]");
        else
            s.part = word;
    }
    if (s.rounds < 1 || s.rounds > MOST_ROUNDS) fail("rounds must be between 1 and 101");
    return s;
}

int main(int argc, char **argv)
{
    settings s = read_settings(argc, argv);
    const bool cpu = s.open.device == SL_CPU;
    if (s.elements == 0 && !cpu) { /* what suits the device is known once it is open */
        sl_context *ctx = sl_open_with(&s.open);
        check(ctx);
        s.elements = is_simulated(ctx) ? 1 << 14 : 64 << 20;
        sl_close(ctx);
    }
    if (s.elements == 0) s.elements = 16 << 20;
    s.elements = s.elements / CHANNELS * CHANNELS;
    if (s.elements < CHANNELS) fail("at least 128 elements");
    bench large = open_bench(&s.open, s.elements), small = {0};
    large.least = cpu ? 0.02 : is_simulated(large.ctx) ? 0 : 0.004;
    if (cpu) {
        small = open_bench(&(sl_open_options){.device = SL_CPU, .threads = 1}, SMALL);
        small.least = 0.005;
    }

    row_jobs **rows = calloc((size_t)sl_activation_count(), sizeof *rows);
    job *copy = calloc(1, sizeof *copy);
    if (!rows || !copy) fail("out of memory");
    if (!cpu) {
        copy->bytes = 8;
        copy->shape.shape = matrix(&large, NULL).shape;
        add_call(&large, copy, SL_OP_PACK, &copy->shape, matrix(&large, large.x), (sl_tensor){0},
                 matrix(&large, large.y), (sl_tensor){0});
    }
    for (int id = 0; id < sl_activation_count(); id++) {
        const sl_activation_info *row = sl_activation_row_info(id);
        if (!strstr(row->name, s.part)) continue;
        rows[id] = calloc(1, sizeof *rows[id]);
        if (!rows[id]) fail("out of memory");
        for (int f = 0; f < FORMS; f++) prepare(&large, &rows[id]->form[f], row, (form)f);
        for (int k = 0; k < 2 && cpu; k++) prepare(&small, &rows[id]->small[k], row, k ? SLOPE : VALUE);
    }
    copy_rate(&large, copy);
    for (int round = 0; round < s.rounds; round++)
        for (int id = 0; id < sl_activation_count(); id++) {
            if (!rows[id]) continue;
            rows[id]->copy[round] = copy_rate(&large, copy);
            for (int f = 0; f < FORMS; f++)
                rows[id]->form[f].rates[round] = rate_of(&large, &rows[id]->form[f]);
            for (int k = 0; k < 2 && cpu; k++)
                rows[id]->small[k].rates[round] = time_of(&small, &rows[id]->small[k]) / SMALL * 1e9;
        }
    print_all(&large, rows, s.rounds, s.json, cpu);

    for (int id = 0; id < sl_activation_count(); id++) {
        for (int f = 0; f < FORMS && rows[id]; f++) drop(&large, &rows[id]->form[f]);
        for (int k = 0; k < 2 && rows[id] && cpu; k++) drop(&small, &rows[id]->small[k]);
        free(rows[id]);
    }
    drop(&large, copy);
    free(rows);
    free(copy);
    close_bench(&large);
    if (cpu) close_bench(&small);
    return 0;
}
