/* The loop of slope bench: yardsticks, rounds, and passes over all cases. */
#define _DEFAULT_SOURCE
#include <unistd.h>

#include "bench.h"

/* Every case is opened, measured and closed in each pass, so that a slow minute of the machine shows in the
 * spread of all figures and not as the level of one. */
enum { PASSES = 3, LEAST = 2 /* rounds of a case in a pass */ };

/* --- figures --- */

const bench_figure *bench_find(const bench *b, const char *group, const char *row, const char *form)
{
    for (int i = 0; i < b->results.n; i++) {
        const bench_figure *f = &b->results.figures[i];
        if (strcmp(f->group, group) == 0 && strcmp(f->row, row) == 0 && strcmp(f->form, form) == 0) return f;
    }
    return NULL;
}

bench_figure *bench_figure_of(bench *b, const bench_case *c, const char *form)
{
    bench_results *r = &b->results;
    bench_figure *found = (bench_figure *)bench_find(b, c->kind->group, c->row, form);
    if (found) return found;
    if (r->n == r->capacity) {
        const int capacity = 2 * r->capacity + 64;
        bench_figure *more = realloc(r->figures, (size_t)capacity * sizeof *more);
        if (!more) return NULL;
        r->figures = more;
        r->capacity = capacity;
    }
    bench_figure *f = &r->figures[r->n++];
    *f = (bench_figure){.group = c->kind->group, .form = form};
    memcpy(f->row, c->row, sizeof f->row);
    return f;
}

void bench_note(bench *b, bench_figure *f, double seconds, double rate)
{
    if (!f || b->warming || f->n == TIMING_MOST) return;
    const double work = f->yardstick == BENCH_PRODUCT ? f->flops : f->bytes;
    f->share[f->n] = rate > 0 ? work / seconds / rate : 0;
    f->seconds[f->n++] = seconds;
}

/* --- plans --- */

sl_call_time *bench_time(bench *b, sl_plan *plan, int repeats, int *n)
{
    *n = sl_plan_describe(plan).calls;
    sl_call_time *calls = calloc((size_t)*n + 1, sizeof *calls);
    if (calls && sl_plan_time(plan, repeats, calls) == SL_OK) return calls;
    if (!calls) cli_fail(b->options, CLI_FAILURE, "out of memory");
    free(calls);
    return NULL;
}

bool bench_fill(bench *b, sl_plan *plan, const sl_node *input, int64_t count)
{
    return plan && sl_plan_set(plan, input, b->noise, count) == SL_OK;
}

static float *make_noise(int64_t n)
{
    float *values = malloc((size_t)n * sizeof *values);
    uint32_t state = 1;
    for (int64_t i = 0; values && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)state * 0x1p-29f;
    }
    return values;
}

/* --- yardsticks --- */

/* y = 1·x over as many elements as the activations have. */
static sl_plan *copy_plan(bench *b)
{
    sl_graph *graph = sl_graph_new(b->ctx);
    sl_node *x = sl_input(graph, "x", 128), *y = sl_scale(x, 1, 0);
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = (int)(b->elements / 128)});
    bench_fill(b, plan, x, b->elements);
    sl_graph_free(graph);
    return plan;
}

/* A square product: what this device reaches where the products are large. */
static sl_plan *product_plan(bench *b)
{
    sl_graph *graph = sl_graph_new(b->ctx);
    const int64_t n = b->square;
    sl_node *x = sl_input(graph, "x", n), *w = sl_parameter(graph, "w", sl_dims(n, n));
    sl_node *y = sl_matmul(x, w, false, false);
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = (int)n});
    if (n * n <= b->elements) bench_fill(b, plan, x, n * n);
    sl_graph_free(graph);
    return plan;
}

/* One number: reading it back waits for all that the device was given before. */
static sl_plan *flag_plan(bench *b)
{
    b->flag_graph = sl_graph_new(b->ctx);
    b->flag_node = sl_constant(b->flag_graph, sl_dims(1), 1);
    return sl_plan_new(&b->flag_node, 1, &(sl_plan_options){.batch = 1});
}

void bench_wait(bench *b)
{
    float value;
    sl_plan_get(b->flag, b->flag_node, &value, 1);
}

static double yardstick(bench *b, sl_plan *plan, bool bytes, double *values, int *n)
{
    sl_call_time call;
    if (sl_plan_time(plan, 1, &call) != SL_OK) return 0;
    const double rate = (bytes ? call.bytes : call.flops) / call.seconds;
    if (!b->warming && *n < TIMING_MOST) values[(*n)++] = rate;
    return rate;
}

double bench_copy_rate(bench *b)
{
    return yardstick(b, b->copy, true, b->results.copy, &b->results.n_copy);
}

double bench_product_rate(bench *b)
{
    return yardstick(b, b->product, false, b->results.product, &b->results.n_product);
}

bool bench_open(bench *b, const cli_options *o, sl_context *ctx)
{
    const char *about = sl_device_description(ctx);
    *b = (bench){.options = o, .ctx = ctx, .batch = o->batch};
    if (getloadavg(&b->load, 1) != 1) b->load = -1;
    b->cpu = strcmp(sl_device_name(ctx), "cpu") == 0;
    b->simulated = strncmp(about, "simulated", 9) == 0;
    b->elements = b->simulated ? 1 << 14 : b->cpu ? 8 << 20 : 64 << 20;
    if (cli_given(o, CLI_ELEMENTS)) b->elements = (o->elements + 127) / 128 * 128;
    b->square = b->simulated ? 64 : b->cpu ? 1024 : 4096;
    while (cli_given(o, CLI_ELEMENTS) && b->square > 64 && (int64_t)b->square * b->square > b->elements)
        b->square /= 2;
    if (b->simulated && !cli_given(o, CLI_BATCH)) b->batch = 8;
    /* Enough for the largest layer, too. */
    const int64_t layers = b->batch * 28 * 28 * 64;
    b->noise = make_noise(b->elements > layers ? b->elements : layers);
    if (!b->noise) {
        cli_fail(o, CLI_FAILURE, "out of memory");
        return false;
    }
    b->copy = copy_plan(b);
    b->product = product_plan(b);
    b->flag = flag_plan(b);
    return sl_error(ctx) == NULL;
}

void bench_close(bench *b)
{
    sl_plan_free(b->copy);
    sl_plan_free(b->product);
    sl_plan_free(b->flag);
    sl_graph_free(b->flag_graph);
    free((float *)b->noise);
    free(b->results.figures);
}

/* --- progress --- */

/* A line that is written over on a terminal, a line a pass elsewhere. `what` NULL: the end. */
static void show(const bench *b, int pass, int i, const bench_case *what)
{
    const bool terminal = isatty(STDERR_FILENO);
    if (b->options->quiet) return;
    if (terminal) fprintf(stderr, "\r\033[K");
    if (what && (terminal || i == 0))
        fprintf(stderr, "pass %d of %d%s%s%s%s", pass + 1, PASSES, terminal ? ": " : "",
                terminal ? what->kind->group : "", terminal ? ", " : "", terminal ? what->row : "\n");
    fflush(stderr);
}

/* --- cases --- */

static void close_case(bench_case *c)
{
    for (int i = 0; i < (int)(sizeof c->plan / sizeof *c->plan); i++) {
        sl_plan_free(c->plan[i]);
        c->plan[i] = NULL;
    }
    sl_graph_free(c->graph);
    c->graph = NULL;
}

/* The first round warms up: caches, clocks, the pages of new memory. */
static bool run_case(bench *b, bench_case *c, double seconds, int rounds)
{
    const double start = seconds_now();
    bool good = c->kind->open(b, c);
    b->warming = true;
    good = good && c->kind->round(b, c);
    b->warming = false;
    for (int done = 0; good; done++) {
        if (rounds ? done == rounds : done >= LEAST && seconds_now() - start > seconds) break;
        if (c->rounds == TIMING_MOST) break;
        good = c->kind->round(b, c);
        c->rounds += good;
    }
    if (c->kind->close) c->kind->close(b, c);
    close_case(c);
    return good && !sl_error(b->ctx);
}

bool bench_run(bench *b, bench_case *cases, int n, double seconds, int rounds)
{
    bool good = true;
    double weights = 0;
    for (int i = 0; i < n; i++) weights += cases[i].kind->weight;
    for (int pass = 0; pass < PASSES && good; pass++) {
        const int now = rounds / PASSES + (pass < rounds % PASSES);
        if (rounds && !now) break;
        for (int i = 0; i < n && good; i++) {
            show(b, pass, i, &cases[i]);
            good = run_case(b, &cases[i], seconds / PASSES * cases[i].kind->weight / weights, now);
        }
    }
    show(b, 0, 0, NULL);
    return good;
}
