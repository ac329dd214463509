/* Max pooling behind a convolution in one call, and its way back in another: the bytes of the calls they
 * stand for, and where they must not be made. */
#include "check.h"

#include "core/activation.h"
#include "graph/plan.h"
#include "nn/model.h"

enum { BATCH = 5, ROOTS = 6, EXPRESSION = -1 };

typedef struct shape {
    int height, width, channels, filters, kernel, pad;
} shape;

/* loss = sum(pool · g), so that g is what comes back to the pooling. Roots: the loss, what is pooled, the
 * gradient in front of the activation, and those of weights, bias and image. */
typedef struct network {
    sl_context *ctx;
    sl_node *x, *g, *product, *weights, *bias, *roots[ROOTS];
    int n;
} network;

static sl_node *find(const sl_graph *graph, sl_op op)
{
    for (int i = 0; i < graph->n; i++)
        if (graph->nodes[i]->op == op) return graph->nodes[i];
    fail_msg("the graph has no %s", sl_op_name(op));
    return NULL;
}

static network build(const shape *s, sl_activation activation, int threads, bool gradients)
{
    network n = {.ctx = sl_open(.device = SL_CPU, .threads = threads)};
    sl_graph *graph = sl_graph_new(n.ctx);
    if (activation.row == EXPRESSION) activation = sl_activation_parse(n.ctx, "x*sigmoid(1.5*x)");
    n.x = sl_input(graph, "x", s->height, s->width, s->channels);
    sl_node *y =
        sl_conv2d(n.x, .filters = s->filters, .kernel = s->kernel, .pad = s->pad, .activation = activation);
    sl_node *pool = sl_max_pool2d(y, .kernel = 2);
    assert_ok(n.ctx);
    const int64_t *dims = pool->shape.dim;
    n.g = sl_input(graph, "g", dims[1], dims[2], dims[3]);
    n.product = find(graph, SL_OP_CONV2D);
    n.weights = n.product->in[1];
    n.bias = find(graph, SL_OP_BIAS)->in[1];
    n.roots[0] = sl_sum(sl_mul(pool, n.g));
    n.roots[1] = pool;
    n.n = 2;
    sl_node *wrt[] = {n.product, n.weights, n.bias, n.x};
    if (gradients && sl_gradients(n.roots[0], wrt, 4, n.roots + 2) == SL_OK) n.n += 4;
    assert_ok(n.ctx);
    return n;
}

static float number(int seed, int64_t i)
{
    uint32_t word = (uint32_t)(seed * 7919 + i) * 2654435761u;
    word ^= word >> 15;
    word *= 2246822519u;
    word ^= word >> 13;
    return (float)(int32_t)word * 0x1p-31f;
}

enum { TAME, TIES, WILD, PADDED }; /* PADDED: images that do not count are NaN */

static float value(int kind, int seed, int64_t i)
{
    const float x = number(seed, i);
    const int which = (int)((uint32_t)(number(seed + 1, i) * 0x1p30f) % 32);
    if (kind == TIES) return (float)(int)(x * 2);
    if (kind != WILD || which > 6) return x;
    const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, x * 0x1p-140f, x * 0x1p-75f};
    return special[which];
}

static void set(sl_plan *plan, sl_node *node, int kind, int seed, int valid)
{
    int64_t count = 1;
    const sl_shape dims = sl_node_shape(node);
    for (int i = 0; i < dims.n; i++) count *= dims.dim[i] == SL_BATCH ? BATCH : dims.dim[i];
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = kind == PADDED && i >= count / BATCH * valid ? NAN : value(kind, seed, i);
    assert_int_equal(sl_plan_set(plan, node, values, count), SL_OK);
    free(values);
}

typedef struct results {
    float *values[ROOTS];
    int64_t count[ROOTS];
    int n, pools, slopes;
} results;

/* Images are special in the way of `kind`; what comes back is where the images are not wild, so that a NaN's
 * origin stays known. */
static results run(const shape *s, sl_activation activation, int kind, bool gradients, int threads, int valid,
                   sl_plan_options options)
{
    network n = build(s, activation, threads, gradients);
    options.batch = BATCH;
    options.training = true;
    sl_plan *plan = sl_plan_new(n.roots, n.n, &options);
    assert_ok(n.ctx);
    set(plan, n.x, kind, 1, valid);
    set(plan, n.g, kind == TIES ? WILD : TAME, 2, valid);
    set(plan, n.weights, kind == TIES ? TIES : TAME, 3, valid);
    set(plan, n.bias, TAME, 4, valid);
    sl_plan_set_valid(plan, valid);
    results r = {.n = n.n};
    for (int c = 0; c < plan->n_calls; c++) {
        r.pools += plan->calls[c].op == SL_OP_CONV2D_BIAS_ACTIVATION_POOL;
        r.slopes += plan->calls[c].op == SL_OP_POOL_ACTIVATION_VJP_BIAS;
    }
    for (int times = 0; times < 2; times++) assert_int_equal(sl_plan_run(plan), SL_OK);
    for (int i = 0; i < n.n; i++) {
        const sl_shape shape = sl_node_shape(n.roots[i]);
        const bool batched = shape.n > 0 && shape.dim[0] == SL_BATCH;
        int64_t count = 1;
        for (int d = batched; d < shape.n; d++) count *= shape.dim[d];
        const int64_t all = batched ? count * BATCH : count;
        r.values[i] = malloc((size_t)all * sizeof(float));
        assert_int_equal(sl_plan_get(plan, n.roots[i], r.values[i], all), SL_OK);
        r.count[i] = batched ? count * valid : count;
    }
    sl_close(n.ctx);
    return r;
}

static void release(results *r)
{
    for (int i = 0; i < r->n; i++) free(r->values[i]);
}

static void check_same(const char *what, const results *a, const results *b)
{
    static const char *const names[ROOTS] = {
        "the loss",          "the pooled value",    "the inner gradient",
        "weights' gradient", "the bias's gradient", "the image's gradient"};
    assert_int_equal(a->n, b->n);
    for (int r = 0; r < a->n; r++)
        for (int64_t i = 0; i < a->count[r]; i++) {
            const float x = a->values[r][i], y = b->values[r][i];
            if (memcmp(&x, &y, sizeof x) != 0 && (x == x || y == y))
                fail_msg("%s: %s, element %lld of %lld: %.9g, not %.9g", what, names[r], (long long)i,
                         (long long)a->count[r], (double)x, (double)y);
        }
}

static void check(const shape *s, sl_activation activation, int kind, int valid, bool thoroughly)
{
    char what[160];
    const char *row =
        activation.row == EXPRESSION ? "an expression" : sl_activation_row_info(activation.row)->name;
    results want = run(s, activation, kind, true, 1, valid, (sl_plan_options){.no_fuse = true});
    assert_int_equal(want.pools, 0);
    const struct {
        const char *isa, *guard;
        int threads, fusions;
        sl_plan_options options;
    } ways[] = {
        {NULL, NULL, 1, 1, {0}},
        {"plain", NULL, 2, 1, {0}},
        {NULL, "1", 2, 1, {0}},
        {NULL, NULL, 3, 1, {0}},
        {NULL, NULL, 2, 0, {.reference_kernels = true}},
    };
    for (size_t i = 0; i < (thoroughly ? sizeof ways / sizeof *ways : 1); i++) {
        if (ways[i].isa) setenv("SLOPE_ISA", ways[i].isa, 1);
        if (ways[i].guard) setenv("SLOPE_GUARD", ways[i].guard, 1);
        results got = run(s, activation, kind, true, ways[i].threads, valid, ways[i].options);
        unsetenv("SLOPE_ISA");
        unsetenv("SLOPE_GUARD");
        snprintf(what, sizeof what, "%s, %d×%d×%d, %d filters of %d, numbers %d, valid %d, way %zu", row,
                 s->height, s->width, s->channels, s->filters, s->kernel, kind, valid, i);
        if (got.pools != ways[i].fusions || got.slopes != ways[i].fusions)
            fail_msg("%s: %d and %d fused", what, got.pools, got.slopes);
        check_same(what, &want, &got);
        release(&got);
    }
    release(&want);
}

/* Lines and classes of pixels, one panel of channels and several, with and without a rest, rows that end with
 * a leaf block and rows that are cut by one. */
static void test_shapes(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {20, 28, 1, 8, 5, 0},  {10, 10, 1, 3, 3, 0}, {12, 12, 8, 16, 5, 0}, {34, 34, 1, 1, 3, 1},
        {18, 34, 3, 17, 3, 0}, {8, 6, 2, 130, 3, 1}, {6, 130, 2, 64, 3, 1}, {4, 2, 5, 70, 1, 0},
    };
    static const sl_activation reads[] = {{SL_ACTIVATION_RELU}, {SL_ACTIVATION_GELU}, {SL_ACTIVATION_STEP}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < (i < 3 ? 12 : 6); k++)
            check(&shapes[i], reads[k / 4], k % 4, k % 4 == TAME ? BATCH : 1 + (int)(i % 4), k % 5 == 0);
}

/* Slopes that read y are +0 or NaN times 0 wherever nothing flows back. */
static void test_every_row(void **state)
{
    (void)state;
    const shape s = {8, 10, 2, 9, 3, 0};
    for (int row = EXPRESSION; row < SL_ACTIVATION_COUNT; row++) {
        sl_activation activation = {.row = row, .learn = SL_FIXED};
        if (row == SL_ACTIVATION_LINEAR) activation.a = -0.5f;
        for (int kind = TAME; kind <= WILD; kind++) check(&s, activation, kind, BATCH, false);
    }
}

static int pools_of(const char *line, sl_activation activation, bool diagnose)
{
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(graph, "x", 12, 12, 1), line, activation, (sl_init){0});
    sl_model *model =
        sl_compile(sl_softmax_cross_entropy(y, sl_labels(graph, "label")), .batch = 4, .diagnose = diagnose);
    assert_ok(ctx);
    float images[4 * 144] = {0};
    int32_t labels[4] = {0, 1, 2, 3};
    sl_dataset *data = sl_dataset_from_labels(ctx, images, labels, 4, 12, 12, 1, 10);
    sl_train_step(model, data, 1, NULL, NULL);
    assert_ok(ctx);
    int pools = 0;
    const sl_plan *plan = model->training.plan;
    for (int c = 0; c < plan->n_calls; c++)
        pools += plan->calls[c].op == SL_OP_CONV2D_BIAS_ACTIVATION_POOL ||
                 plan->calls[c].op == SL_OP_POOL_ACTIVATION_VJP_BIAS;
    sl_close(ctx);
    return pools;
}

static void test_where(void **state)
{
    (void)state;
    assert_int_equal(pools_of("conv3-4 act pool2 dense10", SL_RELU, false), 2);
    assert_int_equal(pools_of("conv3-4 act pool2 conv2-4 act pool2 dense10", SL_SWISH, false), 4);
    const char *apart[] = {"conv3-4p1 act pool3 dense10",      "conv2-4 act pool2 dense10",
                           "conv3-4 act avgpool2 dense10",     "conv3-4 bn act pool2 dense10",
                           "conv3-4 act drop.5 pool2 dense10", "conv3-4 pool2 act dense10"};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        if (pools_of(apart[i], SL_RELU, false)) fail_msg("%s is fused", apart[i]);
    /* the parameter's gradient reads what the slope reads; a diagnosis reads every value */
    assert_int_equal(pools_of("conv3-4 act pool2 dense10", SL_PRELU, false), 0);
    assert_int_equal(pools_of("conv3-4 act pool2 dense10", SL_RELU, true), 0);
}

/* Without gradients nothing is kept, and a learned parameter does no harm. */
static void test_forward_alone(void **state)
{
    (void)state;
    const shape s = {12, 12, 8, 16, 5, 0};
    const sl_activation rows[] = {
        SL_TANH, SL_MISH, {.row = SL_ACTIVATION_PRELU, .learn = SL_LEARN_PER_CHANNEL}};
    for (int i = 0; i < 3; i++)
        for (int kind = TAME; kind <= WILD; kind++) {
            results want = run(&s, rows[i], kind, false, 1, BATCH, (sl_plan_options){.no_fuse = true});
            results got = run(&s, rows[i], kind, false, 2, BATCH, (sl_plan_options){0});
            assert_int_equal(got.pools, 1);
            check_same("forward alone", &want, &got);
            release(&want);
            release(&got);
        }
}

/* A learned parameter that nobody wants the gradient of: the slope still reads it. */
static void test_learned_slope(void **state)
{
    (void)state;
    const shape s = {10, 10, 2, 4, 3, 0};
    const sl_activation prelu = {.row = SL_ACTIVATION_PRELU, .learn = SL_LEARN_PER_CHANNEL};
    results want = run(&s, prelu, TAME, true, 1, BATCH, (sl_plan_options){.no_fuse = true});
    results got = run(&s, prelu, TAME, true, 1, BATCH, (sl_plan_options){0});
    assert_int_equal(got.pools, 0);
    check_same("learned slope", &want, &got);
    release(&want);
    release(&got);
}

/* A value that somebody else reads must stay. */
static void test_second_reader(void **state)
{
    (void)state;
    network n = {.ctx = sl_open(.device = SL_CPU)};
    sl_graph *graph = sl_graph_new(n.ctx);
    sl_node *y = sl_conv2d(sl_input(graph, "x", 6, 6, 1), .filters = 2, .kernel = 3, .activation = SL_RELU);
    sl_node *outputs[2] = {sl_sum(sl_max_pool2d(y, .kernel = 2)), sl_sum(y)};
    for (int with = 1; with <= 2; with++) {
        const sl_plan *plan = sl_plan_new(outputs, with, &(sl_plan_options){.batch = 2});
        assert_ok(n.ctx);
        assert_int_equal(plan->calls[0].op == SL_OP_CONV2D_BIAS_ACTIVATION_POOL, with == 1);
    }
    sl_node *padded = sl_max_pool2d(y, .kernel = 2, .pad = 1);
    assert_int_equal(sl_plan_new(&padded, 1, &(sl_plan_options){.batch = 2})->calls[0].op,
                     SL_OP_CONV2D_BIAS_ACTIVATION);
    sl_node *both[2] = {outputs[0], y};
    assert_int_equal(sl_plan_new(both, 2, &(sl_plan_options){.batch = 2})->calls[0].op,
                     SL_OP_CONV2D_BIAS_ACTIVATION);
    sl_close(n.ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_where),         cmocka_unit_test(test_forward_alone),
        cmocka_unit_test(test_learned_slope), cmocka_unit_test(test_second_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
