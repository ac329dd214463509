/* The plan: placement, lifetimes, fusion, the checked and the guarded run. */
#include "check.h"

#include "graph/plan.h"
#include "nn/model.h"

typedef struct network {
    sl_context *ctx;
    sl_node *x, *labels, *loss, *outputs[32], *parameters[32];
    int n;
} network;

/* A network with a bit of everything, its loss and the gradients of all parameters. */
static network build(const sl_open_options *options, sl_activation act)
{
    network n = {.ctx = sl_open_with(options)};
    sl_graph *g = sl_graph_new(n.ctx);
    n.x = sl_input(g, "image", 14, 14, 1);
    n.labels = sl_labels(g, "label");
    sl_node *h = sl_model_line(
        n.x,
        "conv3-4 bn act res( conv3-4p1 swish conv3-4p1 ) pool2 drop.25 dense90 bn act dense9 prelu dense10",
        act, (sl_init){0});
    n.loss = sl_softmax_cross_entropy(h, n.labels);
    assert_ok(n.ctx);
    sl_node **wrt = n.parameters;
    int count = 0;
    for (int id = 0; id < g->n; id++)
        if (g->nodes[id]->variable && g->nodes[id]->variable->kind == SL_VARIABLE_PARAMETER)
            wrt[count++] = g->nodes[id];
    assert_int_equal(sl_gradients(n.loss, wrt, count, n.outputs + 1), SL_OK);
    n.outputs[0] = n.loss;
    n.n = count + 1;
    return n;
}

static sl_plan *plan_of(network *n, sl_plan_options options)
{
    options.batch = 6;
    options.training = true;
    sl_plan *plan = sl_plan_new(n->outputs, n->n, &options);
    assert_ok(n->ctx);
    float image[6 * 196];
    int32_t labels[6];
    for (int i = 0; i < 6 * 196; i++) image[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    for (int i = 0; i < 6; i++) labels[i] = i % 10;
    sl_plan_set(plan, n->x, image, 6 * 196);
    sl_plan_set_int(plan, n->labels, labels, 6);
    /* No bias at 0, no gain at 1. */
    for (int p = 0; p < n->n - 1; p++) {
        float values[100];
        const int64_t count = sl_shape_count(sl_node_shape(n->parameters[p]));
        if (count > 100) continue;
        for (int i = 0; i < count; i++) values[i] = 0.3f + (float)((i + p) * 29 % 53) / 53;
        sl_plan_set(plan, n->parameters[p], values, count);
    }
    assert_ok(n->ctx);
    return plan;
}

/* All outputs one behind another. */
static int64_t results(network *n, sl_plan *plan, float *values)
{
    int64_t count = 0;
    assert_int_equal(sl_plan_run(plan), SL_OK);
    for (int i = 0; i < n->n; i++) {
        const int64_t size = sl_shape_count(sl_node_shape(n->outputs[i]));
        assert_int_equal(sl_plan_get(plan, n->outputs[i], values + count, size), SL_OK);
        count += size;
    }
    return count;
}

/* No two tensors that are alive at once share a byte. */
static void test_placement(void **state)
{
    (void)state;
    network n = build(&(sl_open_options){.device = SL_CPU}, SL_TANH);
    const bool guarded = getenv("SLOPE_GUARD") != NULL;
    unsetenv("SLOPE_GUARD"); /* a guarded plan has no arena to share */
    const sl_plan *plan = plan_of(&n, (sl_plan_options){0});
    if (guarded) setenv("SLOPE_GUARD", "1", 1);
    for (int a = 0; a < plan->n_buffers; a++)
        for (int b = 0; b < a; b++) {
            const sl_buffer *x = &plan->buffers[a], *y = &plan->buffers[b];
            if (x->last < y->first || y->last < x->first || x->bytes == 0 || y->bytes == 0) continue;
            assert_true(x->offset + x->bytes <= y->offset || y->offset + y->bytes <= x->offset);
        }
    /* every tensor a call touches lies in a buffer that is alive then */
    for (int c = 0; c < plan->n_calls; c++) {
        const sl_node *node = plan->call_nodes[c];
        for (int k = 0; k < node->n_in; k++) {
            const int b = plan->buffer_of[node->in[k]->id], at = plan->position[node->id];
            if (b >= 0) assert_true(plan->buffers[b].first <= at && at <= plan->buffers[b].last);
        }
    }
    int64_t sum = 0;
    for (int b = 0; b < plan->n_buffers; b++) sum += plan->buffers[b].bytes;
    assert_true(plan->arena_bytes >= plan->live_bytes);
    assert_true(plan->arena_bytes <= plan->live_bytes + plan->live_bytes / 8);
    assert_true(plan->arena_bytes < sum);
    sl_close(n.ctx);
}

/* Guarded (every tensor by itself, NaN until written), unfused, with reference kernels: the same bytes; and
 * the same again in a second run of the same plan. `valid`: samples that count. */
static void check_same_bytes(sl_activation act, int valid)
{
    static float base[100000], other[100000];
    network n = build(&(sl_open_options){.device = SL_CPU, .threads = 2}, act);
    sl_plan *plan = plan_of(&n, (sl_plan_options){0});
    sl_plan_set_valid(plan, valid);
    const size_t count = (size_t)results(&n, plan, base);
    assert_int_equal(sl_plan_describe(plan).fusions, 12);
    const sl_plan_options options[] = {
        {0}, {.no_fuse = true}, {.reference_kernels = true}, {.checked = true}};
    for (int guarded = 0; guarded < 2; guarded++)
        for (int i = 0; i < 4; i++) {
            if (guarded) setenv("SLOPE_GUARD", "1", 1);
            plan = plan_of(&n, options[i]);
            unsetenv("SLOPE_GUARD");
            sl_plan_set_valid(plan, valid);
            for (int run = 0; run < 2; run++) {
                assert_int_equal(results(&n, plan, other), count);
                assert_memory_equal(base, other, count * sizeof *base);
            }
            sl_plan_free(plan);
        }
    sl_close(n.ctx);
}

/* Slopes that read y, x and nothing. */
static void test_same_bytes(void **state)
{
    (void)state;
    check_same_bytes(SL_TANH, 6);
    check_same_bytes(SL_GELU, 4);
    check_same_bytes(SL_HARD_SWISH, 1);
}

static void test_checked_names_the_node(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 3), *root = sl_sqrt(sl_scale(x, 1, -1)), *y = sl_exp(root);
    sl_node_rename(root, "the root");
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = 2, .checked = true});
    sl_plan_set(plan, x, (float[]){1, 2, 3, 4, 0, 6}, 6);
    sl_plan_run(plan);
    expect_error(ctx, SL_NOT_FINITE, "'the root' (sqrt): element 4 of 2×3 is NaN");
    sl_plan_set_valid(plan, 1); /* the second sample does not count */
    assert_int_equal(sl_plan_run(plan), SL_OK);
    sl_close(ctx);
}

static void test_report(void **state)
{
    (void)state;
    network n = build(&(sl_open_options){.device = SL_CPU}, SL_TANH);
    sl_plan *plan = plan_of(&n, (sl_plan_options){0});
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    sl_plan_print(plan, to);
    sl_graph_print(n.loss->graph, to);
    fclose(to);
    const char *wanted[] = {"conv2d_bias_activation/",
                            "6×12×12×4",
                            "fused: product + bias + activation at",
                            "fused: slope + bias gradient at",
                            "arena",
                            "batch_norm",
                            "softmax_cross_entropy"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(text, wanted[i])) fail_msg("'%s' is not in the report:\n%s", wanted[i], text);
    free(text);
    sl_close(n.ctx);
}

static const sl_kernel *const *no_kernels(sl_device *device)
{
    static const sl_kernel none[] = {{0}};
    static const sl_kernel *const empty[] = {none, NULL};
    (void)device;
    return empty;
}

/* A kernel that the back end does not have is refused by name when the plan is made. */
static void test_missing_kernel(void **state)
{
    (void)state;
    network n = build(&(sl_open_options){.device = SL_CPU}, SL_TANH);
    const sl_backend *whole = n.ctx->backend;
    sl_backend without = *whole;
    without.kernels = no_kernels;
    n.ctx->backend = &without;
    assert_null(sl_plan_new(n.outputs, n.n, &(sl_plan_options){.batch = 6, .training = true}));
    expect_error(n.ctx, SL_UNSUPPORTED, "has no kernel on the cpu back end");
    n.ctx->backend = whole;
    /* the batch statistics, on which these gradients depend, exist in training only */
    assert_null(sl_plan_new(n.outputs, n.n, &(sl_plan_options){.batch = 6}));
    expect_error(n.ctx, SL_UNSUPPORTED, "exists in training only");
    sl_close(n.ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_checked_names_the_node),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_missing_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
