/* One call of an operation, built, run and differentiated on any device: what the generated tests are made
 * of. */
#ifndef SL_TESTS_OP_CASE_H
#define SL_TESTS_OP_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "core/philox.h"
#include "graph/graph.h"
#include "slope/ops.h"

enum { CASE_BATCH = 4, MAX_IN = 6, MAX_ROOTS = 16 };

/* Which operation, with which inputs. */
typedef struct op_case {
    sl_op op;
    const void *attr;
    int n_in;
    const sl_sample_input *in;
    const char *name;
} op_case;

typedef struct op_run {
    sl_context *ctx;
    sl_graph *graph;
    sl_plan *plan;
    sl_node *in[MAX_IN], *weight, *node, *objective;
    sl_node *roots[MAX_ROOTS]; /* outputs of the node, the objective, gradients, forward mode */
    sl_node *gradient[MAX_IN],
        *tangent[MAX_IN]; /* of input k: what reverse mode gives, what forward mode takes */
    int n_roots, valid;
    double *values[MAX_IN];
} op_run;

/* What CUDA devices have run since the program began: operations, and rows of activations.def alone and as
 * slopes; behind the rows, a formula. */
typedef struct case_log {
    bool op[SL_OP_COUNT], row[SL_ROW_COUNT + 1], slope[SL_ROW_COUNT + 1];
} case_log;
static case_log case_ran;
static const sl_backend *case_backend;

static inline sl_status case_watch_run(sl_device *device, sl_context *ctx, const sl_call *calls, int n,
                                       void **handle)
{
    for (int i = 0; i < n; i++) {
        case_ran.op[calls[i].op] = true;
        const sl_activation_attr *row = calls[i].attr;
        if (calls[i].op == SL_OP_ACTIVATION) case_ran.row[row->id] = true;
        if (calls[i].op == SL_OP_ACTIVATION_VJP) case_ran.slope[row->id] = true;
    }
    return case_backend->run(device, ctx, calls, n, handle);
}

/* From here on, a context on a CUDA device notes what it runs. */
static inline void case_watch(sl_context *ctx)
{
    static sl_backend watched;
    if (strcmp(sl_device_name(ctx), "cuda") != 0) return;
    case_backend = ctx->backend;
    watched = *ctx->backend;
    watched.run = case_watch_run;
    ctx->backend = &watched;
}

/* Uniform in [-1, 1), the same for every device. */
static inline double case_random(uint32_t stream, int64_t i)
{
    return (double)sl_random_word(2026, stream, 0, (uint64_t)i) / 2147483648.0 - 1;
}

static inline int64_t case_count(const op_run *run, const sl_node *node)
{
    (void)run;
    return sl_shape_count(node->shape) * (sl_batched(node) ? CASE_BATCH : 1);
}

static inline double *case_values(const sl_sample_input *spec, int k, int64_t count)
{
    double *values = calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        const double u = case_random((uint32_t)k, i);
        switch (spec->domain) {
        case SL_SAMPLE_POSITIVE: values[i] = 1.1 + u; break;
        case SL_SAMPLE_CLASS: values[i] = floor((u + 1) / 2 * spec->limit); break;
        case SL_SAMPLE_DISTINCT: /* no two closer than 1/count, in scrambled order */
            values[i] = 4 * ((double)sl_permute(7, (uint32_t)k, 0, (uint64_t)count, (uint64_t)i) + 0.5) /
                            (double)count -
                        2;
            break;
        case SL_SAMPLE_STEP: values[i] = 0; break;
        default: values[i] = 2 * u; break;
        }
        values[i] = (float)values[i]; /* so that both precisions start from the same numbers */
    }
    return values;
}

static inline sl_node *case_input(op_run *run, const sl_sample_input *spec, int k)
{
    char name[16];
    snprintf(name, sizeof name, "in%d", k);
    const bool batched = spec->shape.n > 0 && spec->shape.dim[0] == SL_BATCH;
    if (spec->domain == SL_SAMPLE_STEP) return sl_step_node(run->graph);
    if (spec->domain == SL_SAMPLE_CLASS) return sl_labels(run->graph, name);
    if (!batched) return sl_parameter(run->graph, name, spec->shape, .init = {SL_INIT_ZEROS, 0});
    int64_t dims[SL_MAX_DIMS] = {0};
    for (int i = 1; i < spec->shape.n; i++) dims[i - 1] = spec->shape.dim[i];
    return sl_input_dims(run->graph, name, dims);
}

/* While true, a case asks for gradients and tangents alone: values that only the test wanted have no memory.
 */
static bool case_derivatives_alone;

static inline void case_set(op_run *run, const sl_node *node, const double *values)
{
    const int64_t count = case_count(run, node);
    if (node->dtype == SL_INT) {
        int32_t *labels = calloc((size_t)count, sizeof *labels);
        for (int64_t i = 0; i < count; i++) labels[i] = (int32_t)values[i];
        sl_plan_set_int(run->plan, node, labels, count);
        free(labels);
    } else {
        sl_plan_set_double(run->plan, node, values, count);
    }
    if (case_derivatives_alone) sl_clear_error(run->ctx); /* what no derivative reads cannot be set */
}

/* An input or parameter with another's shape. */
static inline sl_node *case_like(sl_graph *g, const sl_node *node, const char *name)
{
    if (!sl_batched(node)) return sl_parameter(g, name, node->shape, .init = {SL_INIT_ZEROS, 0});
    int64_t dims[SL_MAX_DIMS] = {0};
    for (int i = 1; i < node->shape.n; i++) dims[i - 1] = node->shape.dim[i];
    return sl_input_dims(g, name, dims);
}

static inline void case_set_random(op_run *run, const sl_node *node, uint32_t stream)
{
    double *values =
        case_values(&(sl_sample_input){.domain = SL_SAMPLE_ANY}, (int)stream, case_count(run, node));
    case_set(run, node, values);
    free(values);
}

/* Forward mode along a direction of all inputs that have a gradient. */
static inline void case_add_forward(op_run *run, const op_case *c)
{
    sl_node *wrt[MAX_IN], *along[MAX_IN], *out = NULL;
    int n = 0;
    for (int k = 0; k < c->n_in; k++) {
        char name[16];
        if (!run->gradient[k]) continue;
        snprintf(name, sizeof name, "t%d", k);
        run->tangent[k] = case_like(run->graph, run->in[k], name);
        wrt[n] = run->in[k];
        along[n++] = run->tangent[k];
    }
    if (n == 0) return;
    if (sl_jvp(&run->node, 1, wrt, along, n, &out) != SL_OK) fail_msg("%s: %s", c->name, sl_error(run->ctx));
    run->roots[run->n_roots++] = out;
}

/* Builds the case and its gradients, plans them and sets the inputs. The first `valid` of CASE_BATCH samples
 * count. */
static inline op_run case_open(const op_case *c, const sl_open_options *device,
                               const sl_plan_options *options, int valid)
{
    op_run run = {.ctx = sl_open_with(device), .valid = valid};
    if (sl_error(run.ctx)) fail_msg("%s", sl_error(run.ctx));
    case_watch(run.ctx);
    run.graph = sl_graph_new(run.ctx);
    for (int k = 0; k < c->n_in; k++) run.in[k] = case_input(&run, &c->in[k], k);
    run.node = sl_node_new(run.graph, c->op, c->attr, c->n_in, run.in);
    if (!run.node) fail_msg("%s: %s", c->name, sl_error(run.ctx));
    for (int k = 0; k < run.node->n_out; k++) run.roots[run.n_roots++] = run.node->outputs[k];
    const bool differentiable = sl_rules(c->op)->vjp && run.node->dtype == SL_FLOAT;
    if (differentiable) {
        run.weight = case_like(run.graph, run.node, "weight");
        run.objective = sl_sum(sl_mul(run.node, run.weight));
        run.roots[run.n_roots++] = run.objective;
        assert_int_equal(sl_differentiate(run.objective, run.in, c->n_in, run.gradient), SL_OK);
        for (int k = 0; k < c->n_in; k++)
            if (run.gradient[k]) run.roots[run.n_roots++] = run.gradient[k];
        case_add_forward(&run, c);
    }
    if (case_derivatives_alone && differentiable) {
        const int values = run.node->n_out + 1; /* the outputs and the objective */
        run.n_roots -= values;
        memmove(run.roots, run.roots + values, (size_t)run.n_roots * sizeof *run.roots);
    }
    sl_plan_options o = options ? *options : (sl_plan_options){0};
    o.batch = CASE_BATCH;
    o.training = true;
    run.plan = sl_plan_new(run.roots, run.n_roots, &o);
    if (!run.plan) fail_msg("%s: %s", c->name, sl_error(run.ctx));
    for (int k = 0; k < c->n_in; k++) {
        run.values[k] = case_values(&c->in[k], k, case_count(&run, run.in[k]));
        if (c->in[k].domain != SL_SAMPLE_STEP) case_set(&run, run.in[k], run.values[k]);
    }
    if (run.weight) case_set_random(&run, run.weight, 99);
    for (int k = 0; k < c->n_in; k++)
        if (run.tangent[k]) case_set_random(&run, run.tangent[k], 100u + (uint32_t)k);
    sl_plan_set_valid(run.plan, valid);
    if (sl_error(run.ctx)) fail_msg("%s: %s", c->name, sl_error(run.ctx));
    return run;
}

static inline void case_run(op_run *run, const op_case *c)
{
    if (sl_plan_run(run->plan) != SL_OK) fail_msg("%s: %s", c->name, sl_error(run->ctx));
}

static inline void case_close(op_run *run)
{
    for (int k = 0; k < MAX_IN; k++) free(run->values[k]);
    sl_close(run->ctx);
}

/* Elements of a root that count: padded samples may hold anything. */
static inline int64_t case_valid_count(const op_run *run, const sl_node *node)
{
    return sl_shape_count(node->shape) * (sl_batched(node) ? run->valid : 1);
}

static inline double *case_get(op_run *run, const sl_node *node)
{
    const int64_t count = case_count(run, node);
    double *values = calloc((size_t)count, sizeof *values);
    if (node->dtype == SL_INT) {
        float *raw = calloc((size_t)count, sizeof *raw); /* integers come back as their bits */
        sl_plan_get(run->plan, node, raw, count);
        for (int64_t i = 0; i < count; i++) {
            int32_t bits;
            memcpy(&bits, &raw[i], sizeof bits);
            values[i] = bits;
        }
        free(raw);
    } else {
        sl_plan_get_double(run->plan, node, values, count);
    }
    if (sl_error(run->ctx)) fail_msg("%s", sl_error(run->ctx));
    return values;
}

/* --- the checks --- */

static inline double case_objective(op_run *run, const op_case *c)
{
    double value;
    case_run(run, c);
    sl_plan_get_double(run->plan, run->objective, &value, 1);
    return value;
}

/* Central difference of the objective when input k moves by h along direction d (NULL: element i alone). */
static inline double case_difference(op_run *run, const op_case *c, int k, const double *d, int64_t i,
                                     double h)
{
    const int64_t count = case_count(run, run->in[k]);
    double *moved = malloc((size_t)count * sizeof *moved), side[2];
    for (int s = 0; s < 2; s++) {
        for (int64_t e = 0; e < count; e++)
            moved[e] = run->values[k][e] + (s ? -h : h) * (d ? d[e] : e == i ? 1.0 : 0.0);
        case_set(run, run->in[k], moved);
        side[s] = case_objective(run, c);
    }
    case_set(run, run->in[k], run->values[k]);
    free(moved);
    return (side[0] - side[1]) / (2 * h);
}

/* Every gradient against central differences, in double. Elements one by one up to 400, then a sample of them
 * and random directions that move all at once. */
static inline void case_check_gradient(const op_case *c, int valid)
{
    op_run run = case_open(c, &(sl_open_options){.device = SL_REFERENCE}, NULL, valid);
    if (!run.objective) {
        case_close(&run);
        return;
    }
    for (int k = 0; k < c->n_in; k++) {
        if (!run.gradient[k]) continue;
        case_run(&run, c);
        double *gradient = case_get(&run, run.gradient[k]);
        const int64_t count = case_valid_count(&run, run.in[k]);
        double scale = 1;
        for (int64_t i = 0; i < count; i++) scale = fmax(scale, fabs(gradient[i]));
        const double h = 1e-5;
        for (int64_t i = 0; i<count; i += count> 400 ? count / 150 : 1) {
            const double seen = case_difference(&run, c, k, NULL, i, h);
            if (!(fabs(seen - gradient[i]) <= 2e-8 * scale))
                fail_msg(
                    "%s: gradient of input %d, element %lld of %s: computed %.12g, central difference %.12g",
                    c->name, k, (long long)i, sl_shape_print(run.in[k]->shape).text, gradient[i], seen);
        }
        for (int r = 0; r < (count > 400 ? 8 : 0); r++) {
            const int64_t all = case_count(&run, run.in[k]);
            double *d = calloc((size_t)all, sizeof *d), along = 0, size = 0;
            for (int64_t i = 0; i < count; i++) d[i] = case_random(1000u + (uint32_t)r, i);
            for (int64_t i = 0; i < count; i++) along += d[i] * gradient[i], size += fabs(d[i] * gradient[i]);
            const double seen = case_difference(&run, c, k, d, 0, h / 10);
            if (!(fabs(seen - along) <= 1e-6 * (1 + size)))
                fail_msg(
                    "%s: gradient of input %d along a direction: computed %.12g, central difference %.12g",
                    c->name, k, along, seen);
            free(d);
        }
        free(gradient);
    }
    case_close(&run);
}

/* All outputs and gradients of one configuration; the caller frees. */
typedef struct case_result {
    double *values[MAX_ROOTS];
    int64_t count[MAX_ROOTS];
    int n;
} case_result;

static inline case_result case_collect(const op_case *c, const char *isa, const sl_open_options *device,
                                       const sl_plan_options *options, int valid)
{
    if (isa)
        setenv("SLOPE_ISA", isa, 1);
    else
        unsetenv("SLOPE_ISA");
    op_run run = case_open(c, device, options, valid);
    case_run(&run, c);
    case_result result = {.n = run.n_roots};
    for (int i = 0; i < run.n_roots; i++) {
        result.values[i] = case_get(&run, run.roots[i]);
        result.count[i] = case_valid_count(&run, run.roots[i]);
    }
    case_close(&run);
    unsetenv("SLOPE_ISA");
    return result;
}

static inline void case_result_free(case_result *result)
{
    for (int i = 0; i < result->n; i++) free(result->values[i]);
}

static inline void case_same(const op_case *c, const char *what, const case_result *a, const case_result *b)
{
    assert_int_equal(a->n, b->n);
    for (int r = 0; r < a->n; r++)
        for (int64_t i = 0; i < a->count[r]; i++) {
            const double x = a->values[r][i], y = b->values[r][i];
            if (!(x == y && signbit(x) == signbit(y)) && !(isnan(x) && isnan(y)))
                fail_msg("%s: %s: root %d, element %lld: %.9g and %.9g", c->name, what, r, (long long)i, x,
                         y);
        }
}

/* float32 against float64: within `bound` of the largest value of the tensor; a single number may be a sum in
 * which terms of about 1 cancel. */
static inline void case_close_to(const op_case *c, const case_result *single, const case_result *twice,
                                 double bound)
{
    for (int r = 0; r < single->n; r++) {
        double scale = twice->count[r] == 1 ? 4 : 1e-3;
        for (int64_t i = 0; i < twice->count[r]; i++) scale = fmax(scale, fabs(twice->values[r][i]));
        for (int64_t i = 0; i < single->count[r]; i++)
            if (!(fabs(single->values[r][i] - twice->values[r][i]) <= bound * scale))
                fail_msg("%s: root %d, element %lld: float32 %.9g, float64 %.12g", c->name, r, (long long)i,
                         single->values[r][i], twice->values[r][i]);
    }
}

/* The same bytes on every instruction set this machine has, for any number of threads, from fast and from
 * reference kernels, fused and unfused; and close to double precision. */
static inline void case_check_parity(const op_case *c, int valid)
{
    const sl_open_options cpu = {.device = SL_CPU, .threads = 1};
    case_result base = case_collect(c, NULL, &cpu, NULL, valid);
    const struct {
        const char *what, *isa;
        int threads;
        sl_plan_options options;
    } others[] = {
        {"2 threads", NULL, 2, {0}},
        {"3 threads", NULL, 3, {0}},
        {"plain x86-64", "plain", 2, {0}},
        {"reference kernels", NULL, 2, {.reference_kernels = true}},
        {"unfused", NULL, 1, {.no_fuse = true}},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        sl_open_options device = cpu;
        device.threads = others[i].threads;
        case_result other = case_collect(c, others[i].isa, &device, &others[i].options, valid);
        case_same(c, others[i].what, &base, &other);
        case_result_free(&other);
    }
    case_result twice = case_collect(c, NULL, &(sl_open_options){.device = SL_REFERENCE}, NULL, valid);
    case_close_to(c, &base, &twice, 5e-6);
    case_result_free(&twice);
    case_result_free(&base);
}
#endif
