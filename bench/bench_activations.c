/* Speed of every activation and its slope: GB/s on arrays far larger than the caches, beside a copy of the
 * same arrays in the same rounds, and ns an element on one thread within the first cache.
 *
 *     bench_activations [--threads N] [--rounds N] [--json] [PART OF A NAME]
 *
 * Bytes counted: value 8 an element (x in, y out), slope 12 (dy and x or y in, dx out; 8 where the slope
 * reads neither), copy 8. Every figure is the median of the rounds. */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>

#include "backend.h"
#include "core/activation.h"
#include "core/context.h"
#include "measure.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { LARGE = 16 << 20, SMALL = 2048, PIECE = 16 << 10, MOST_ROUNDS = 101 }; /* elements */

static void fail(const char *what)
{
    fprintf(stderr, "bench_activations: %s\n", what);
    exit(1);
}

static const sl_kernel *find_kernel(const sl_context *ctx, const sl_call *call)
{
    for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == call->op && (!k->supports || k->supports(call))) return k;
    fail("no kernel");
    return NULL;
}

/* x and y, dy and dx of one size, and the calls on them. */
typedef struct arrays {
    int64_t n;
    float *x, *y, *dy, *dx;
} arrays;

static float *filled(int64_t n)
{
    float *x = aligned_alloc(64, (size_t)n * sizeof *x);
    if (!x) fail("out of memory");
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-29f; /* [-4, 4) */
    }
    return x;
}

static arrays make_arrays(int64_t n)
{
    return (arrays){n, filled(n), filled(n), filled(n), filled(n)};
}

typedef struct job {
    sl_call call;
    sl_tensor in[2], out[1];
    sl_activation_attr attr;
    double bytes; /* an element */
} job;

static void prepare(job *j, const sl_context *ctx, const arrays *a, const sl_activation_info *row, bool slope)
{
    const sl_shape shape = {2, {a->n / 128, 128}};
    *j = (job){.attr = {row->id, row->parameter[0].value, row->parameter[1].value}, .bytes = slope ? 12 : 8};
    j->call = (sl_call){.op = slope ? SL_OP_ACTIVATION_VJP : SL_OP_ACTIVATION,
                        .in = j->in,
                        .out = j->out,
                        .n_in = 1,
                        .n_out = 1,
                        .attr = &j->attr,
                        .device = ctx->device,
                        .name = row->name};
    j->in[0] = (sl_tensor){slope ? a->dy : a->x, shape, SL_FLOAT};
    j->out[0] = (sl_tensor){slope ? a->dx : a->y, shape, SL_FLOAT};
    if (slope && row->reads != SL_READS_NOTHING)
        j->in[j->call.n_in++] = (sl_tensor){row->reads == SL_READS_Y ? a->y : a->x, shape, SL_FLOAT};
    else if (slope)
        j->bytes = 8;
    j->call.kernel = find_kernel(ctx, &j->call);
}

/* Seconds of one run, over at least `least` seconds. */
static double time_of(const job *j, double least)
{
    const double start = seconds_now();
    double end = start;
    int64_t runs = 0;
    for (int64_t step = 1; end - start < least; step *= 2) {
        for (int64_t i = 0; i < step; i++) j->call.kernel->run(&j->call);
        runs += step;
        end = seconds_now();
    }
    return (end - start) / (double)runs;
}

/* In pieces that memcpy does not stream past the caches, as the kernels do not. */
static void copy_task(void *arg, int64_t first, int64_t last, int worker)
{
    const arrays *a = arg;
    (void)worker;
    for (int64_t i = first; i < last; i++) memcpy(a->y + i * PIECE, a->x + i * PIECE, PIECE * sizeof *a->x);
}

static double copy_rate(sl_pool *pool, arrays *a)
{
    const double start = seconds_now();
    for (int i = 0; i < 2; i++) sl_pool_run(pool, copy_task, a, a->n / PIECE, 1);
    return 2 * 8e-9 * (double)a->n / (seconds_now() - start);
}

typedef struct result {
    double large[2][MOST_ROUNDS], small[2][MOST_ROUNDS]; /* [slope]: GB/s, ns */
} result;

int main(int argc, char **argv)
{
    int threads = 0, rounds = 5;
    bool json = false;
    const char *part = "";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            rounds = atoi(argv[++i]);
        else
            part = argv[i];
    }
    if (rounds < 1 || rounds > MOST_ROUNDS) fail("rounds must be between 1 and 101");
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = threads),
               *one = sl_open(.device = SL_CPU, .threads = 1);
    if (sl_error(ctx) || sl_error(one)) fail(sl_error(ctx) ? sl_error(ctx) : sl_error(one));
    arrays large = make_arrays(LARGE), small = make_arrays(SMALL);
    result *results = calloc((size_t)sl_activation_count(), sizeof *results);
    double copies[MOST_ROUNDS];
    if (!results) fail("out of memory");
    copy_rate(sl_cpu_pool(ctx->device), &large);
    for (int round = 0; round < rounds; round++) {
        copies[round] = copy_rate(sl_cpu_pool(ctx->device), &large);
        for (int id = 0; id < sl_activation_count(); id++) {
            const sl_activation_info *row = sl_activation_row_info(id);
            if (!strstr(row->name, part)) continue;
            for (int slope = 0; slope < 2; slope++) {
                job j;
                prepare(&j, ctx, &large, row, slope);
                results[id].large[slope][round] = j.bytes * 1e-9 * LARGE / time_of(&j, 0.02);
                prepare(&j, one, &small, row, slope);
                results[id].small[slope][round] = time_of(&j, 0.005) / SMALL * 1e9;
            }
        }
    }
    const double copy = median_of(copies, rounds);
    if (json)
        printf("{\"device\": \"%s\", \"copy_gb_per_second\": %.2f, \"activations\": [",
               sl_device_description(ctx), copy);
    else
        printf("%s: copy %.1f GB/s (%.1f to %.1f)\n%-14s %10s %8s %10s %10s %8s %10s\n",
               sl_device_description(ctx), copy, lowest_of(copies, rounds), highest_of(copies, rounds),
               "activation", "value GB/s", "of copy", "ns/element", "slope GB/s", "of copy", "ns/element");
    bool first = true;
    for (int id = 0; id < sl_activation_count(); id++) {
        const char *name = sl_activation_row_info(id)->name;
        if (!strstr(name, part)) continue;
        double gb[2], ns[2];
        for (int slope = 0; slope < 2; slope++) {
            gb[slope] = median_of(results[id].large[slope], rounds);
            ns[slope] = median_of(results[id].small[slope], rounds);
        }
        if (json)
            printf("%s\n  {\"name\": \"%s\", \"value_gb_per_second\": %.2f, \"value_ns\": %.4f, "
                   "\"slope_gb_per_second\": %.2f, \"slope_ns\": %.4f}",
                   first ? "" : ",", name, gb[0], ns[0], gb[1], ns[1]);
        else
            printf("%-14s %10.1f %6.0f %% %10.3f %10.1f %6.0f %% %10.3f\n", name, gb[0], 100 * gb[0] / copy,
                   ns[0], gb[1], 100 * gb[1] / copy, ns[1]);
        first = false;
    }
    if (json) printf("\n]}\n");
    free(results);
    for (int k = 0; k < 2; k++) {
        const arrays *a = k ? &small : &large;
        free(a->x), free(a->y), free(a->dy), free(a->dx);
    }
    sl_close(ctx);
    sl_close(one);
    return 0;
}
