/* Agreement with PyTorch: layers, activations, losses, networks, optimisers and schedules against the files
 * in tests/golden, which make_golden.py computed in double precision. Every case runs on the reference device
 * (double) and on the CPU (single), fused and node by node. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/safetensors.h"
#include "graph/graph.h"
#include "nn/model.h"
#include "slope/slope.h"

/* --- the files -------------------------------------------------------------------------------------- */

enum { SAMPLES = 1024, PROJECTIONS = 4 };

static sl_context *file_ctx;
static sl_safetensors *file;

static void open_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", SL_SOURCE_DIR, name);
    file_ctx = sl_open(.device = SL_REFERENCE);
    file = sl_safetensors_read(file_ctx, path);
    if (!file) fail_msg("%s", sl_error(file_ctx));
}

static void close_file(void)
{
    sl_safetensors_free(file);
    sl_close(file_ctx);
}

/* "<a><b>" */
static const sl_file_tensor *stored(const char *a, const char *b)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", a, b);
    const sl_file_tensor *t = sl_safetensors_find(file, name);
    if (!t) fail_msg("the file has no '%s'", name);
    return t;
}

static const double *stored_doubles(const char *a, const char *b)
{
    const sl_file_tensor *t = stored(a, b);
    assert_int_equal(t->dtype, SL_FILE_F64);
    return t->data;
}

/* As make_golden.py's `values`: multiples of 2^-15 in [-1, 1). */
static double value_at(uint32_t name_hash, int64_t i)
{
    uint32_t v = (uint32_t)i * 0x9E3779B9u + name_hash;
    v ^= v >> 16;
    v *= 0x85EBCA6Bu;
    v ^= v >> 13;
    v *= 0xC2B2AE35u;
    v ^= v >> 16;
    return ((double)(v >> 16) - 32768) / 32768;
}

static uint32_t hash_name(const char *a, const char *b)
{
    uint32_t h = 2166136261u;
    for (; *a; a++) h = (h ^ (uint8_t)*a) * 16777619u;
    for (; *b; b++) h = (h ^ (uint8_t)*b) * 16777619u;
    return h;
}

static double *values_scaled(const char *a, const char *b, int64_t count, double scale, double shift)
{
    double *x = malloc((size_t)count * sizeof *x);
    assert_non_null(x);
    const uint32_t h = hash_name(a, b);
    for (int64_t i = 0; i < count; i++) x[i] = value_at(h, i) * scale + shift;
    return x;
}

/* As floats, which these values are; frees the doubles. */
static float *singles(double *values, int64_t count)
{
    float *x = malloc((size_t)count * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) x[i] = (float)values[i];
    free(values);
    return x;
}

/* As make_golden.py's `parameter`. */
static double *parameter_values(const char *test, const char *name, sl_shape shape)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", test, name);
    const int64_t count = sl_shape_count(shape), fan_in = count / sl_shape_last(shape);
    const char *what = strrchr(name, '.') + 1;
    const char *norm = strstr(name, "norm");
    if (strcmp(what, "running_var") == 0 || (strcmp(what, "weight") == 0 && norm))
        return values_scaled(full, "", count, 0.5, 1);
    double size = 0.5;
    while (size * size * (double)fan_in > 2) size /= 2;
    return values_scaled(full, "", count, size, 0);
}

/* --- comparing -------------------------------------------------------------------------------------- */

/* |got - expected| <= scaled·(largest expected) + relative·|expected| + absolute */
typedef struct bound {
    double scaled, relative, absolute;
} bound;

static const char *where; /* "cpu, fused": for messages */

static void check(const char *name, int64_t i, double got, double expected, double limit)
{
    if (!(fabs(got - expected) <= limit))
        fail_msg("%s: '%s', element %lld is %.17g; PyTorch has %.17g (differs by %.3g, allowed %.3g)", where,
                 name, (long long)i, got, expected, fabs(got - expected), limit);
}

static void compare(const char *a, const char *b, const double *got, int64_t count, bound limit)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", a, b);
    const sl_file_tensor *t = stored(name, "");
    const double *expected = t->data;
    const int64_t n = sl_shape_count(t->shape);
    assert_int_equal(t->dtype, SL_FILE_F64);
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fabs(expected[i]) > largest ? fabs(expected[i]) : largest;
    const bool whole = n == count;
    if (!whole && !(n == SAMPLES && count > n))
        fail_msg("'%s' has %lld elements, %lld were computed", name, (long long)n, (long long)count);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = whole ? i : i * 7919 % count;
        check(name, at, got[at], expected[i],
              limit.scaled * largest + limit.relative * fabs(expected[i]) + limit.absolute);
    }
    if (whole) return;
    /* Sums over all elements with weights below 1: independent errors add up as their root. */
    const double *sums = stored_doubles(name, "#");
    for (int k = 0; k < PROJECTIONS; k++) {
        char seed[16];
        snprintf(seed, sizeof seed, "#%d", k);
        const uint32_t h = hash_name(name, seed);
        double sum = 0;
        for (int64_t i = 0; i < count; i++) sum += got[i] * value_at(h, i);
        check(name, -1 - k, sum, sums[k], (limit.scaled * largest + limit.absolute) * sqrt((double)count));
    }
}

/* --- devices ---------------------------------------------------------------------------------------- */

typedef struct setting {
    const char *name;
    sl_device_kind device;
    int threads;
    bool no_fuse, reference_kernels;
    bound limit;
} setting;

/* Single precision: sums over up to some 10 000 terms in trees of chunks err by a few 2^-24 of their largest
 * term; 2e-6 is 33·2^-24. */
#define DOUBLE_BOUND                                                                                         \
    {                                                                                                        \
        1e-9, 0, 0                                                                                           \
    }
#define SINGLE_BOUND                                                                                         \
    {                                                                                                        \
        2e-6, 0, 0                                                                                           \
    }
static const setting settings[] = {
    {"reference", SL_REFERENCE, 1, false, false, DOUBLE_BOUND},
    {"reference, not fused", SL_REFERENCE, 1, true, false, DOUBLE_BOUND},
    {"cpu", SL_CPU, 2, false, false, SINGLE_BOUND},
    {"cpu, not fused", SL_CPU, 1, true, false, SINGLE_BOUND},
    {"cpu, plain kernels", SL_CPU, 2, false, true, SINGLE_BOUND},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static void expect_no_error(const char *test, const sl_context *ctx)
{
    if (sl_error(ctx)) fail_msg("%s: '%s': %s", where, test, sl_error(ctx));
}

/* --- a case: y = f(x, parameters), and the gradients of Σ y·dy ---------------------------------------- */

typedef sl_node *builder(sl_node *x);
typedef sl_node *loss_builder(sl_node *x, sl_node *targets);

typedef struct test_case {
    const char *name;
    builder *layer;     /* y from x, or */
    loss_builder *loss; /* a scalar from x and labels or targets */
    bool labels;
    bool training;
    bool frozen;            /* differentiated as it evaluates: batch norm with its running statistics */
    const char *activation; /* instead of a layer: its text */
    const char *model;      /* a model line's loss; the activation is its `act` */
    int padding;            /* further samples in the batch that do not count */
    double single;          /* another bound in single precision than SINGLE_BOUND, with its reason */
} test_case;

/* The largest cases differentiate with respect to these. */
enum { MOST_NODES = 32 };

typedef struct running {
    const test_case *test;
    sl_graph *graph;
    sl_node *x, *target, *dy, *y;
    sl_node *wrt[MOST_NODES], *gradients[MOST_NODES];
    char names[MOST_NODES][64];
    int n;
    int64_t count; /* samples that count */
} running;

static sl_shape input_shape(const char *name)
{
    const sl_file_tensor *t = stored(name, ".shape");
    assert_int_equal(t->dtype, SL_FILE_I32);
    sl_shape shape = {.n = (int)sl_shape_count(t->shape)};
    for (int i = 0; i < shape.n; i++) shape.dim[i] = ((const int32_t *)t->data)[i];
    return shape;
}

static sl_node *input_like(sl_graph *graph, const char *name, sl_shape shape)
{
    int64_t dims[SL_MAX_DIMS] = {0};
    for (int i = 1; i < shape.n; i++) dims[i - 1] = shape.dim[i];
    return sl_input_dims(graph, name, dims);
}

/* The graph as it evaluates, which can be differentiated too: a node of training has no derivative there. */
static sl_node *freeze(running *r, sl_node *loss)
{
    sl_graph *frozen = sl_graph_new(sl_node_context(loss));
    sl_node **copies = calloc((size_t)r->graph->n, sizeof *copies);
    sl_node *roots[1] = {loss};
    assert_non_null(copies);
    sl_lower(frozen, roots, 1, false, NULL, 0, copies);
    sl_node **used[4] = {&r->x, &r->y, &r->dy, &r->target};
    for (int i = 0; i < 4; i++) *used[i] = *used[i] ? copies[(*used[i])->id] : NULL;
    free(copies);
    r->graph = frozen;
    return roots[0];
}

static void describe(running *r, sl_context *ctx)
{
    const test_case *test = r->test;
    const sl_shape shape = input_shape(test->name);
    r->graph = sl_graph_new(ctx);
    r->count = shape.dim[0];
    r->x = input_like(r->graph, "x", shape);
    if (test->labels)
        r->target = sl_labels(r->graph, "labels");
    else if (test->loss)
        r->target = input_like(r->graph, "targets", shape);
    const sl_activation act = sl_activation_parse(ctx, test->activation ? test->activation : "linear");
    sl_node *loss = NULL;
    if (test->model)
        r->y = loss = test->loss(sl_model_line(r->x, test->model, act, (sl_init){0}), r->target);
    else if (test->loss)
        r->y = loss = test->loss(r->x, r->target);
    else {
        r->y = test->layer ? test->layer(r->x) : sl_activate(r->x, act);
        expect_no_error(test->name, ctx);
        r->dy = input_like(r->graph, "dy", sl_node_shape(r->y));
        loss = sl_sum(sl_mul(r->y, r->dy));
    }
    expect_no_error(test->name, ctx);
    if (test->frozen) loss = freeze(r, loss);
    if (!test->model) r->wrt[r->n++] = r->x;
    if (test->loss && !test->labels) r->wrt[r->n++] = r->target;
    for (int id = 0; id < r->graph->n; id++) {
        sl_node *node = r->graph->nodes[id];
        if (node->op == SL_OP_VARIABLE && node->variable->kind == SL_VARIABLE_PARAMETER)
            r->wrt[r->n++] = node;
    }
    assert_true(r->n < MOST_NODES);
    for (int i = 0; i < r->n; i++) {
        const sl_node *node = r->wrt[i];
        const char *format = node == r->x ? ".dx" : node == r->target ? ".dt" : ".d %s";
        snprintf(r->names[i], sizeof r->names[i], format, sl_node_name(node));
    }
    sl_gradients(loss, r->wrt, r->n, r->gradients);
    expect_no_error(test->name, ctx);
}

/* Values of the whole batch; the samples that do not count hold something that would show. */
static void set(const running *r, sl_plan *plan, const sl_node *node, double *values)
{
    const int64_t each = sl_shape_count(sl_node_shape(node)), batch = r->count + r->test->padding;
    values = realloc(values, (size_t)(batch * each) * sizeof *values);
    for (int64_t i = r->count * each; i < batch * each; i++) values[i] = 1000;
    sl_plan_set_double(plan, node, values, batch * each);
    free(values);
}

static void set_inputs(const running *r, sl_plan *plan)
{
    const char *name = r->test->name;
    const int64_t x_count = r->count * sl_shape_count(sl_node_shape(r->x));
    const double *range = stored_doubles(name, ".range");
    double *x = values_scaled(name, ".x", x_count, range[0], range[1]);
    if (r->test->activation && x_count == 64) {
        const sl_file_tensor *special = stored("special", "");
        const int64_t n = sl_shape_count(special->shape);
        memcpy(x + x_count - n, special->data, (size_t)n * sizeof *x);
    }
    set(r, plan, r->x, x);
    if (r->dy)
        set(r, plan, r->dy,
            values_scaled(name, ".dy", r->count * sl_shape_count(sl_node_shape(r->dy)), 1, 0));
    if (r->test->labels) {
        int32_t labels[64] = {0};
        memcpy(labels, stored(name, ".labels")->data, (size_t)r->count * sizeof *labels);
        sl_plan_set_int(plan, r->target, labels, r->count + r->test->padding);
    } else if (r->target) {
        set(r, plan, r->target, values_scaled(name, ".t", x_count, 1, 0));
    }
    for (int id = 0; id < r->graph->n; id++) {
        sl_node *node = r->graph->nodes[id];
        if (node->op != SL_OP_VARIABLE || node->dtype != SL_FLOAT) continue;
        double *values = parameter_values(name, node->name, node->shape);
        sl_plan_set_double(plan, node, values, sl_shape_count(node->shape));
        free(values);
    }
}

static void compare_node(const running *r, sl_plan *plan, const sl_node *node, const char *name, bound limit)
{
    const bool batched = sl_node_shape(node).dim[0] == SL_BATCH;
    const int64_t each = sl_shape_count(sl_node_shape(node));
    const int64_t whole = batched ? each * (r->count + r->test->padding) : each;
    double *got = malloc((size_t)whole * sizeof *got);
    assert_non_null(got);
    sl_plan_get_double(plan, node, got, whole);
    expect_no_error(r->test->name, sl_node_context(node));
    compare(r->test->name, name, got, batched ? each * r->count : each, limit);
    free(got);
}

static void run_case(const test_case *test, const setting *s, bound y_limit, bound dx_limit)
{
    where = s->name;
    sl_context *ctx = sl_open(.device = s->device, .threads = s->threads);
    running r = {.test = test};
    describe(&r, ctx);
    sl_node *outputs[1 + MOST_NODES] = {r.y};
    memcpy(outputs + 1, r.gradients, (size_t)r.n * sizeof *outputs);
    sl_plan *plan = sl_plan_new(outputs, 1 + r.n,
                                &(sl_plan_options){.batch = (int)r.count + test->padding,
                                                   .training = test->training,
                                                   .no_fuse = s->no_fuse,
                                                   .reference_kernels = s->reference_kernels});
    expect_no_error(test->name, ctx);
    set_inputs(&r, plan);
    sl_plan_set_valid(plan, (int)r.count);
    sl_plan_run(plan);
    expect_no_error(test->name, ctx);
    compare_node(&r, plan, r.y, ".y", y_limit);
    for (int i = 0; i < r.n; i++) compare_node(&r, plan, r.gradients[i], r.names[i], dx_limit);
    sl_close(ctx);
}

static void run_cases(const test_case *cases, int n)
{
    for (int i = 0; i < n; i++)
        for (int s = 0; s < SETTINGS; s++) {
            bound limit = settings[s].limit;
            if (settings[s].device == SL_CPU && cases[i].single > 0) limit.scaled = cases[i].single;
            run_case(&cases[i], &settings[s], limit, limit);
        }
}

/* --- layers ----------------------------------------------------------------------------------------- */

#define LAYER(name, ...)                                                                                     \
    static sl_node *name(sl_node *x)                                                                         \
    {                                                                                                        \
        return __VA_ARGS__;                                                                                  \
    }
LAYER(dense, sl_dense(x, .units = 4))
LAYER(dense_image, sl_dense(x, .units = 6))
LAYER(dense_wide, sl_dense(x, .units = 130))
LAYER(dense_deep, sl_dense(x, .units = 3))
LAYER(dense_one, sl_dense(x, .units = 1))
LAYER(dense_no_bias, sl_dense(x, .units = 10, .no_bias = true))
LAYER(dense_shared_bias, sl_dense(x, .units = 10, .shared_bias = true))
LAYER(conv, sl_conv2d(x, .filters = 4, .kernel = 3))
LAYER(conv_oblong, sl_conv2d(x, .filters = 5, .kernel = 5, .kernel_width = 3, .stride = 2, .stride_width = 1,
                             .pad = 2, .pad_width = 1))
LAYER(conv_dilated, sl_conv2d(x, .filters = 4, .kernel = 3, .pad = 2, .pad_width = 2, .dilation = 2))
LAYER(conv_point, sl_conv2d(x, .filters = 7, .kernel = 1, .stride = 2))
LAYER(conv_lenet1, sl_conv2d(x, .filters = 8, .kernel = 5))
LAYER(conv_lenet2, sl_conv2d(x, .filters = 16, .kernel = 5))
LAYER(conv_even,
      sl_conv2d(x, .filters = 3, .kernel = 4, .stride = 3, .pad = 3, .dilation = 1, .dilation_width = 2))
LAYER(conv_padded, sl_conv2d(x, .filters = 32, .kernel = 3, .pad = 1))
LAYER(conv_padded_one, sl_conv2d(x, .filters = 33, .kernel = 3, .pad = 1))
LAYER(conv_far_stride, sl_conv2d(x, .filters = 3, .kernel = 2, .stride = 4))
LAYER(max_pool, sl_max_pool2d(x, .kernel = 2))
LAYER(max_pool_overlapping, sl_max_pool2d(x, .kernel = 3, .stride = 2, .pad = 1))
LAYER(max_pool_oblong, sl_max_pool2d(x, .kernel = 3, .kernel_width = 2, .stride = 2, .stride_width = 1,
                                     .pad = 1, .pad_width = SL_NONE))
LAYER(max_pool_ties, sl_max_pool2d(x, .kernel = 3, .stride = 1))
LAYER(avg_pool, sl_avg_pool2d(x, .kernel = 2))
LAYER(avg_pool_padded, sl_avg_pool2d(x, .kernel = 3, .stride = 2, .pad = 1))
LAYER(avg_pool_oblong, sl_avg_pool2d(x, .kernel = 3, .kernel_width = 2, .stride = 2, .stride_width = 1,
                                     .pad = 1, .pad_width = 1))
LAYER(norm, sl_batch_norm(x))
LAYER(norm_keras, sl_batch_norm(x, .momentum = 0.01f, .epsilon = 1e-3f))
LAYER(residual, sl_model_line(x, "res( conv3-4p1 act conv3-3p1 )", SL_TANH, (sl_init){0}))
LAYER(dropout, sl_dropout(x, .rate = 0.5f))

static void test_layers(void **state)
{
    (void)state;
    static const test_case cases[] = {
        {"dense", dense},
        {"dense image", dense_image},
        {"dense wide", dense_wide},
        {"dense deep", dense_deep},
        {"dense one", dense_one},
        {"dense no bias", dense_no_bias},
        {"dense shared bias", dense_shared_bias},
        {"conv", conv},
        {"conv oblong", conv_oblong},
        {"conv dilated", conv_dilated},
        {"conv point", conv_point},
        {"conv lenet1", conv_lenet1},
        {"conv lenet2", conv_lenet2},
        {"conv even", conv_even},
        {"conv padded", conv_padded},
        {"conv padded one", conv_padded_one},
        {"conv far stride", conv_far_stride},
        {"max pool", max_pool},
        {"max pool odd", max_pool},
        {"max pool overlapping", max_pool_overlapping},
        {"max pool oblong", max_pool_oblong},
        {"max pool ties", max_pool_ties},
        {"avg pool", avg_pool},
        {"avg pool padded", avg_pool_padded},
        {"avg pool oblong", avg_pool_oblong},
        {"global avg pool", sl_global_avg_pool},
        {"norm rows", norm, .training = true},
        {"norm images", norm, .training = true},
        {"norm many", norm, .training = true},
        {"norm keras", norm_keras, .training = true},
        {"norm far", norm, .training = true, .single = 1e-5},
        {"norm evaluated rows", norm, .frozen = true},
        {"norm evaluated", norm, .frozen = true},
        {"norm evaluated keras", norm_keras, .frozen = true},
        {"residual", residual},
        {"dropout evaluated", dropout},
        {"softmax", sl_softmax},
        {"softmax steep", sl_softmax},
        {"softmax images", sl_softmax},
        {"log softmax", sl_log_softmax},
        {"log softmax steep", sl_log_softmax},
        /* Rows beyond those that count change nothing. */
        {"dense", dense, .padding = 3},
        {"conv oblong", conv_oblong, .padding = 2},
        {"norm images", norm, .training = true, .padding = 4},
        {"norm rows", norm, .training = true, .padding = 1},
        {"norm evaluated", norm, .frozen = true, .padding = 3},
    };
    open_file("layers");
    run_cases(cases, sizeof cases / sizeof *cases);
    close_file();
}

/* One step of sl_fit: batch norm's statistics, weights and biases after it. The batch is larger than the data
 * set, so the rows that do not count are there too. */
static void step_of_norm(const char *name, const setting *s)
{
    where = s->name;
    sl_context *ctx = sl_open(.device = s->device, .threads = s->threads);
    const sl_shape shape = input_shape(name);
    const int64_t n = shape.dim[0], each = sl_shape_count(shape) / n;
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *x = input_like(graph, "x", shape);
    sl_node *t = sl_input(graph, "t", each);
    sl_node *loss = sl_half_squared_error(sl_flatten(sl_batch_norm(x)), t);
    const double *range = stored_doubles(name, ".range");
    float *images = singles(values_scaled(name, ".x", n * each, range[0], range[1]), n * each);
    float *targets = singles(values_scaled(name, ".t", n * each, 1, 0), n * each);
    sl_dataset *data = sl_dataset_from_targets(ctx, images, targets, n, 1, 1, (int)each, (int)each);
    sl_model *model = sl_compile(loss, .batch = (int)n + 2, .optimizer = sl_sgd(.rate = 1));
    expect_no_error(name, ctx);
    sl_parameter_info info;
    for (int i = 0; sl_model_parameter(model, i, &info); i++) {
        const int64_t count = sl_shape_count(info.shape);
        float *values = singles(parameter_values(name, info.name, info.shape), count);
        sl_model_set(model, info.name, values, count);
        free(values);
    }
    sl_fit(model, data, .epochs = 1);
    expect_no_error(name, ctx);
    for (int i = 0; i < model->n_parameters + model->n_statistics; i++) {
        const sl_node *node =
            i < model->n_parameters ? model->parameters[i] : model->statistics[i - model->n_parameters];
        double after[64];
        char what[64];
        assert_true(sl_shape_count(node->shape) <= 64);
        sl_store_get(model->store, node->variable, after, sizeof *after);
        snprintf(what, sizeof what, ".%s", node->name);
        compare(name, what, after, sl_shape_count(node->shape), s->limit);
    }
    free(images);
    free(targets);
    sl_close(ctx);
}

static void test_running_statistics(void **state)
{
    (void)state;
    open_file("layers");
    for (int s = 0; s < SETTINGS; s++) {
        step_of_norm("step of norm", &settings[s]);
        step_of_norm("step of norm rows", &settings[s]);
    }
    close_file();
}

/* --- activations ------------------------------------------------------------------------------------ */

static void test_activations(void **state)
{
    (void)state;
    static const char *const fixed[] = {
        "linear(2.5)",  "step",        "step_ste",     "sigmoid",   "tanh",
        "relu",         "leaky_relu",  "prelu(fixed)", "elu",       "elu(0.5)",
        "selu",         "softplus",    "softsign",     "swish",     "swish(1.75)",
        "swish(1,2)",   "swish(-0.5)", "gelu",         "gelu_tanh", "mish",
        "hard_sigmoid", "hard_swish",  "hard_tanh",    "relu6",     "leaky_relu(0.2)",
    };
    /* Single precision, element by element: values within 4 ulp or 1e-7 (2e-7 where they are doubled), slopes
     * within 2.5e-7 times the largest parameter. */
    static const bound y_single = {0, 0x1p-21, 2e-7}, dx_single = {0, 2.5e-7, 6.25e-7};
    static const bound exact = {0, 1e-9, 1e-12};
    open_file("activations");
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        for (int s = 0; s < SETTINGS; s++) {
            const bool single = settings[s].device == SL_CPU;
            const test_case test = {fixed[i], .activation = fixed[i]};
            run_case(&test, &settings[s], single ? y_single : exact, single ? dx_single : exact);
        }
    close_file();
}

static void test_every_activation_has_a_golden_case(void **state)
{
    (void)state;
    open_file("activations");
    for (int row = 0; sl_activation_name(row); row++) {
        bool found = false;
        for (int i = 0; i < sl_safetensors_count(file); i++) {
            const char *name = sl_safetensors_at(file, i)->name, *row_name = sl_activation_name(row);
            const size_t length = strlen(row_name);
            found = found ||
                    (strncmp(name, row_name, length) == 0 && (name[length] == '.' || name[length] == '('));
        }
        if (!found) fail_msg("make_golden.py does not know the activation '%s'", sl_activation_name(row));
    }
    close_file();
}

static void test_learned_activations(void **state)
{
    (void)state;
    static const test_case cases[] = {
        {"prelu", .activation = "prelu"},
        {"prelu(channel)", .activation = "prelu(channel)"},
        {"prelu(channel) of images", .activation = "prelu(channel)"},
        {"prelu of images", .activation = "prelu"},
        {"swish(learn)", .activation = "swish(learn)"},
        {"swish(channel)", .activation = "swish(channel)"},
        {"prelu(channel) of images", .activation = "prelu(channel)", .padding = 2},
        {"swish(learn)", .activation = "swish(learn)", .padding = 3},
    };
    open_file("activations");
    run_cases(cases, sizeof cases / sizeof *cases);
    close_file();
}

/* --- losses and networks ---------------------------------------------------------------------------- */

/* Targets lie in [-1, 1); this loss wants them in [0, 1). */
static sl_node *half_of_targets(sl_node *x, sl_node *t)
{
    return sl_binary_cross_entropy(x, sl_scale(t, 0.5, 0.5));
}

static void test_losses(void **state)
{
    (void)state;
    static const test_case cases[] = {
        {"mean squared error", .loss = sl_mean_squared_error},
        {"half squared error", .loss = sl_half_squared_error},
        {"binary cross-entropy", .loss = half_of_targets},
        {"binary cross-entropy of labels", .loss = sl_binary_cross_entropy, .labels = true},
        {"cross-entropy", .loss = sl_softmax_cross_entropy, .labels = true},
        {"cross-entropy steep", .loss = sl_softmax_cross_entropy, .labels = true},
        {"mean squared error", .loss = sl_mean_squared_error, .padding = 1},
        {"half squared error", .loss = sl_half_squared_error, .padding = 4},
        {"binary cross-entropy", .loss = half_of_targets, .padding = 2},
        {"cross-entropy", .loss = sl_softmax_cross_entropy, .labels = true, .padding = 3},
    };
    open_file("networks");
    run_cases(cases, sizeof cases / sizeof *cases);
    close_file();
}

#define NETWORK(n, words, ...)                                                                               \
    {                                                                                                        \
        n, .loss = sl_softmax_cross_entropy, .labels = true, .model = words, .activation = __VA_ARGS__       \
    }
static void test_networks(void **state)
{
    (void)state;
    static const test_case cases[] = {
        NETWORK("mlp 3", "mlp", "swish"),
        NETWORK("mlp 5", "mlp", "swish"),
        NETWORK("lenet 3", "lenet", "tanh"),
        NETWORK("lenet 5", "lenet", "tanh"),
        NETWORK("cnn 3", "cnn", "elu", .frozen = true),
        NETWORK("cnn 5", "cnn", "elu", .frozen = true),
        NETWORK("lenet 3", "lenet", "tanh", .padding = 2),
    };
    open_file("networks");
    run_cases(cases, sizeof cases / sizeof *cases);
    close_file();
}

/* --- training --------------------------------------------------------------------------------------- */

enum { STEPS = 50, RECORDED = 8, LEARNED = 26 };
static const int recorded[RECORDED] = {1, 2, 3, 5, 10, 20, 35, 50};

typedef struct trajectory {
    sl_model *model;
    double learned[RECORDED][LEARNED];
    double rates[STEPS];
    int n, steps;
} trajectory;

static void record(void *data, const sl_epoch *epoch)
{
    trajectory *t = data;
    t->rates[t->steps++] = (double)epoch->rate;
    if (t->n == RECORDED || t->steps != recorded[t->n]) return;
    double *to = t->learned[t->n++];
    for (int i = 0; i < t->model->n_parameters; i++) {
        const sl_node *node = t->model->parameters[i];
        sl_store_get(t->model->store, node->variable, to, sizeof *to);
        to += sl_shape_count(node->shape);
    }
}

/* Two layers, six samples, one step an epoch; all samples in every batch. */
static trajectory train(const setting *s, sl_optimizer optimizer, float l2, float clip_norm, float clip_value)
{
    where = s->name;
    sl_context *ctx = sl_open(.device = s->device, .threads = s->threads);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *h = sl_dense(sl_input(graph, "x", 3), .units = 4, .activation = SL_TANH, .l2 = l2);
    sl_node *loss = sl_mean_squared_error(sl_dense(h, .units = 2, .l2 = l2), sl_input(graph, "t", 2));
    float *x = singles(values_scaled("fit.x", "", 18, 2, 0), 18),
          *t = singles(values_scaled("fit.t", "", 12, 1, 0), 12);
    sl_dataset *data = sl_dataset_from_targets(ctx, x, t, 6, 1, 1, 3, 2);
    sl_model *model = sl_compile(loss, .batch = 6, .optimizer = optimizer, .clip_norm = clip_norm,
                                 .clip_value = clip_value);
    expect_no_error("training", ctx);
    sl_parameter_info info;
    for (int i = 0; sl_model_parameter(model, i, &info); i++) {
        const int64_t count = sl_shape_count(info.shape);
        float *values = singles(parameter_values("fit", info.name, info.shape), count);
        sl_model_set(model, info.name, values, count);
        free(values);
    }
    trajectory out = {.model = model};
    sl_fit(model, data, .epochs = STEPS, .on_epoch = record, .data = &out);
    expect_no_error("training", ctx);
    assert_int_equal(out.n, RECORDED);
    free(x);
    free(t);
    sl_close(ctx);
    return out;
}

static sl_optimizer optimizer(int row, float rate, float decay)
{
    return (sl_optimizer){.row = row, .rate = rate, .weight_decay = decay};
}

static const struct {
    const char *name;
    int row;
    float rate, momentum;
} rows[] = {
    {"sgd", SL_OPTIMIZER_SGD, 0.1f, 0},
    {"momentum", SL_OPTIMIZER_MOMENTUM, 0.05f, 0},
    {"nesterov", SL_OPTIMIZER_NESTEROV, 0.05f, 0.8f},
    {"adagrad", SL_OPTIMIZER_ADAGRAD, 0.1f, 0},
    {"adadelta", SL_OPTIMIZER_ADADELTA, 0, 0},
    {"rmsprop", SL_OPTIMIZER_RMSPROP, 0, 0},
    {"adam", SL_OPTIMIZER_ADAM, 0.01f, 0},
    {"adamw", SL_OPTIMIZER_ADAMW, 0.01f, 0},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* Single precision: each of the 50 steps rounds weights, state and gradient a few times, which the later
 * steps carry along: 50 times 4·2^-24. */
static bound drift(const setting *s)
{
    return s->device == SL_CPU ? (bound){50 * 4 * 0x1p-24, 0, 0} : s->limit;
}

static void compare_trajectory(const char *name, const char *suffix, const setting *s, const trajectory *t)
{
    compare(name, suffix, t->learned[0], RECORDED * LEARNED, drift(s));
}

static void test_optimizers(void **state)
{
    (void)state;
    assert_int_equal(ROWS, SL_OPTIMIZER_COUNT);
    open_file("training");
    for (int s = 0; s < SETTINGS; s++)
        for (int i = 0; i < ROWS; i++)
            for (int decays = 0; decays < 2; decays++) {
                sl_optimizer o = optimizer(rows[i].row, rows[i].rate, decays ? 0.1f : 0);
                o.momentum = rows[i].momentum;
                const trajectory t = train(&settings[s], o, 0, 0, 0);
                compare_trajectory(rows[i].name, decays ? " decay" : "", &settings[s], &t);
            }
    close_file();
}

static void test_penalty(void **state)
{
    (void)state;
    open_file("training");
    for (int s = 0; s < SETTINGS; s++) {
        for (int i = 0; i < ROWS; i++) {
            if (strcmp(rows[i].name, "sgd") != 0 && strncmp(rows[i].name, "adam", 4) != 0) continue;
            const trajectory t = train(&settings[s], optimizer(rows[i].row, rows[i].rate, 0), 0.1f, 0, 0);
            compare_trajectory(rows[i].name, " l2", &settings[s], &t);
        }
        const trajectory t = train(&settings[s], optimizer(SL_OPTIMIZER_ADAMW, 0.01f, 0.1f), 0.1f, 0, 0);
        compare_trajectory("adamw", " l2 decay", &settings[s], &t);
    }
    close_file();
}

static void test_clipping(void **state)
{
    (void)state;
    open_file("training");
    for (int s = 0; s < SETTINGS; s++) {
        const sl_optimizer sgd = optimizer(SL_OPTIMIZER_SGD, 0.1f, 0);
        const trajectory norm = train(&settings[s], sgd, 0, 0.3f, 0);
        compare_trajectory("clip norm", "", &settings[s], &norm);
        const trajectory adam = train(&settings[s], optimizer(SL_OPTIMIZER_ADAM, 0.01f, 0.1f), 0.1f, 0.3f, 0);
        compare_trajectory("clip norm adam", "", &settings[s], &adam);
        const trajectory value = train(&settings[s], sgd, 0, 0, 0.05f);
        compare_trajectory("clip value", "", &settings[s], &value);
    }
    close_file();
}

/* A loss w·mean(x) with x = 1 has slope 1 in w, so each step of SGD takes off the learning rate: w tells the
 * sum of the rates in the device's precision. `steps` of them make an epoch. */
static void check_schedule(const char *name, const setting *s, sl_schedule schedule, int steps)
{
    where = s->name;
    sl_context *ctx = sl_open(.device = s->device, .threads = s->threads);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *w = sl_parameter(graph, "w", sl_dims(1), .init = {SL_INIT_CONSTANT, SL_ZERO});
    sl_node *loss = sl_mean(sl_mul(sl_input(graph, "x", 1), w));
    float x[50];
    int32_t labels[50] = {0};
    for (int i = 0; i < 50; i++) x[i] = 1;
    sl_dataset *data = sl_dataset_from_labels(ctx, x, labels, 2 * steps, 1, 1, 1, 10);
    sl_model *model = sl_compile(loss, .batch = 2, .optimizer = sl_sgd(.rate = 0.5f, .schedule = schedule));
    trajectory t = {.model = model, .n = RECORDED};
    sl_fit(model, data, .epochs = STEPS / steps, .on_epoch = record, .data = &t);
    expect_no_error(name, ctx);
    const double *rates = stored_doubles(name, "");
    double sum = 0, got = 0, largest = 0;
    for (int i = 0; i < STEPS; i++) largest = rates[i] > largest ? rates[i] : largest;
    for (int i = 0; i < STEPS; i++) {
        sum -= rates[i];
        /* The report holds the last rate of an epoch, as float; annealing rounds at the size of the peak. */
        if ((i + 1) % steps == 0) check(name, i, t.rates[i / steps], rates[i], 0x1p-22 * largest);
    }
    sl_store_get(model->store, model->parameters[0]->variable, &got, sizeof got);
    check(name, STEPS, got, sum, s->device == SL_CPU ? STEPS * 0x1p-23 * fabs(sum) : 1e-12 * fabs(sum));
    sl_close(ctx);
}

static void test_schedules(void **state)
{
    (void)state;
    open_file("training");
    for (int s = 0; s < SETTINGS; s++) {
        check_schedule("rate constant", &settings[s], (sl_schedule){0}, 1);
        check_schedule("rate step", &settings[s], (sl_schedule){.kind = SL_STEP_DECAY, .period = 20}, 1);
        check_schedule("rate step", &settings[s], (sl_schedule){.kind = SL_STEP_DECAY, .period = 2}, 10);
        check_schedule("rate step short", &settings[s],
                       (sl_schedule){.kind = SL_STEP_DECAY, .period = 1, .factor = 0.7f}, 5);
        check_schedule("rate cosine", &settings[s], (sl_schedule){.kind = SL_COSINE}, 1);
        check_schedule("rate cosine", &settings[s], (sl_schedule){.kind = SL_COSINE}, 10);
        check_schedule("rate cosine floor", &settings[s], (sl_schedule){.kind = SL_COSINE, .factor = 0.1f},
                       5);
        check_schedule("rate one-cycle", &settings[s], (sl_schedule){.kind = SL_ONE_CYCLE}, 1);
        check_schedule("rate one-cycle", &settings[s], (sl_schedule){.kind = SL_ONE_CYCLE}, 25);
        check_schedule("rate warm-up", &settings[s], (sl_schedule){.warmup = 8}, 1);
        check_schedule("rate warm-up", &settings[s], (sl_schedule){.warmup = 1.6f}, 5);
    }
    close_file();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_running_statistics),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_every_activation_has_a_golden_case),
        cmocka_unit_test(test_learned_activations),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_penalty),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
