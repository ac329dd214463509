/* Layers, activations, losses and whole networks agree with PyTorch: values and gradients. Every case runs on
 * the reference device (double) and on the CPU (single), fused and node by node. */
#include "golden_file.h"

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
    double single;          /* another bound in single precision than SINGLE_SCALED, with its reason */
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
        /* x lies about 64, so its mean rounds at 64·2^-24 = 4e-6, to be divided by the deviation 0.58. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_every_activation_has_a_golden_case),
        cmocka_unit_test(test_learned_activations),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
