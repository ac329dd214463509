/* Whole networks: every parameter's gradient against central differences in double, nodes used twice
 * included. */
#include "check.h"

#include "graph/graph.h"

enum { BATCH = 3, MAX_PARAMETERS = 64 };

static double random_value(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / 8388608 - 1;
}

/* `each` elements of every parameter of the network that ends in `loss`. */
static void check_gradients(sl_context *ctx, sl_node *loss, sl_node *image, sl_node *labels, int each)
{
    sl_graph *g = loss->graph;
    sl_node *wrt[MAX_PARAMETERS], *along[MAX_PARAMETERS], *outputs[MAX_PARAMETERS + 2], *ahead = NULL;
    int n = 0;
    for (int id = 0; id < g->n; id++)
        if (g->nodes[id]->variable && g->nodes[id]->variable->kind == SL_VARIABLE_PARAMETER)
            wrt[n++] = g->nodes[id];
    assert_ok(ctx);
    assert_int_equal(sl_gradients(loss, wrt, n, outputs + 1), SL_OK);
    outputs[0] = loss;
    for (int i = 0; i < n; i++) /* forward mode along a direction of all parameters */
        along[i] = sl_parameter(g, "along", wrt[i]->shape, .init = {SL_INIT_NORMAL, 1});
    assert_int_equal(sl_jvp(&loss, 1, wrt, along, n, &ahead), SL_OK);
    outputs[n + 1] = ahead;
    sl_plan *plan = sl_plan_new(outputs, n + 2, &(sl_plan_options){.batch = BATCH, .training = true});
    assert_ok(ctx);
    uint32_t state = 5;
    const int64_t pixels = BATCH * sl_shape_count(image->shape);
    double *values = calloc((size_t)pixels, sizeof *values);
    for (int64_t i = 0; i < pixels; i++) values[i] = random_value(&state);
    sl_plan_set_double(plan, image, values, pixels);
    free(values);
    if (labels) sl_plan_set_int(plan, labels, (int32_t[BATCH]){2, 0, 1}, BATCH);
    sl_plan_set_valid(plan, BATCH - 1);
    double sum = 0, size = 0, forward;
    for (int p = 0; p < n; p++) {
        const int64_t count = sl_shape_count(wrt[p]->shape);
        double *w = calloc((size_t)count, sizeof *w), *d = calloc((size_t)count, sizeof *d);
        sl_plan_get_double(plan, wrt[p], w, count);
        sl_plan_run(plan);
        sl_plan_get_double(plan, outputs[1 + p], d, count);
        double scale = 1e-3;
        for (int64_t i = 0; i < count; i++) scale = fmax(scale, fabs(d[i]));
        double *t = calloc((size_t)count, sizeof *t);
        sl_plan_get_double(plan, along[p], t, count);
        for (int64_t i = 0; i < count; i++) sum += t[i] * d[i], size += fabs(t[i] * d[i]);
        free(t);
        for (int64_t i = 0; i < count; i += count / each + 1) {
            const double h = 1e-5, before = w[i];
            double side[2];
            for (int s = 0; s < 2; s++) {
                w[i] = before + (s ? -h : h);
                sl_plan_set_double(plan, wrt[p], w, count);
                sl_plan_run(plan);
                sl_plan_get_double(plan, loss, &side[s], 1);
            }
            w[i] = before;
            const double seen = (side[0] - side[1]) / (2 * h);
            if (!(fabs(seen - d[i]) <= 3e-7 * scale + 1e-9))
                fail_msg("%s, element %lld: computed %.12g, central difference %.12g", wrt[p]->name,
                         (long long)i, d[i], seen);
        }
        sl_plan_set_double(plan, wrt[p], w, count);
        free(w);
        free(d);
    }
    sl_plan_run(plan);
    sl_plan_get_double(plan, ahead, &forward, 1);
    assert_near(forward, sum, 1e-12 * size);
    assert_ok(ctx);
}

static void check_line(const char *line, const char *act, int height, int width, int channels, int each)
{
    sl_context *ctx = sl_open(.device = SL_REFERENCE, .seed = 3);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *image = sl_input(g, "image", height, width, channels), *labels = sl_labels(g, "label");
    sl_node *logits = sl_model_line(image, line, sl_activation_parse(ctx, act), (sl_init){0});
    sl_node *loss = sl_softmax_cross_entropy(logits, labels);
    assert_ok(ctx);
    check_gradients(ctx, loss, image, labels, each);
    sl_close(ctx);
}

static void test_lines(void **state)
{
    (void)state;
    check_line("mlp", "tanh", 9, 7, 1, 60);
    check_line("lenet", "swish", 20, 17, 2, 40);
    check_line("conv3-5 bn act conv3-4 bn act pool2 drop.25 dense11 bn act drop.5 dense10", "sigmoid", 12, 11,
               1, 40);
    check_line("conv3-6p1s2d2 mish avgpool2 res( conv3-6p1 gelu bn conv1-6 ) res( conv3-9p1s2 ) gap "
               "prelu(channel) dense10",
               "elu", 15, 14, 3, 40);
    check_line("lstm5 dense4 act dense3", "relu", 6, 7, 1, 60);
    check_line("conv3-2 rnn6 dense3", "tanh", 7, 6, 2, 40);
    check_line("dense8 swish(learn) res( dense8 act res( dense8 softplus ) ) dense3", "softsign", 1, 1, 13,
               100);
}

/* Activations from expressions, with parameters that are learned, for a layer and for each channel. */
static void test_expressions(void **state)
{
    (void)state;
    check_line("conv3-4 act pool2 dense7 x*sigmoid(1.5*x) dense10",
               "x > 0 ? a*x : b*expm1(x); a=1 learn; b=0.5 channel", 12, 11, 1, 40);
    check_line("conv3-4 bn act dense9 bn act dense10", "x*tanh(log1p(exp(x)))", 8, 7, 2, 40);
    check_line(
        "dense8 act res( dense8 act ) dense3",
        "x + a*square(sin(b*x)) + c*erf(x) + d*x; a=0.5 channel; b=1.1 learn; c=0.2 learn; d=-0.1 channel", 1,
        1, 13, 100);
}

/* One node feeding many: its adjoint is the sum over all of them. */
static void test_shared_nodes(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_REFERENCE, .seed = 4);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 4);
    sl_node *w = sl_parameter(g, "w", sl_dims(4, 4), .init = {SL_INIT_NORMAL, 0.5f});
    sl_node *h = x; /* the same weight three times: a recurrence */
    for (int i = 0; i < 3; i++) h = sl_activate(sl_matmul(h, w, false, i == 1), SL_TANH);
    sl_node *y = sl_add(sl_mul(h, h), sl_div(sl_exp(h), sl_scale(sl_square(h), 1, 2)));
    check_gradients(ctx, sl_add(sl_mean(y), sl_mean(sl_log_softmax(h))), x, NULL, 16);
    sl_close(ctx);
}

static void test_losses(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        sl_context *ctx = sl_open(.device = SL_REFERENCE, .seed = 6);
        sl_graph *g = sl_graph_new(ctx);
        sl_node *x = sl_input(g, "x", 5);
        sl_node *y =
                    sl_dense(sl_dense(x, .units = 7, .activation = SL_GELU), .units = 5, .shared_bias = true),
                *loss = NULL;
        if (kind == 0) loss = sl_mean_squared_error(y, x);
        if (kind == 1) loss = sl_half_squared_error(y, x);
        if (kind == 2) loss = sl_binary_cross_entropy(y, x);
        check_gradients(ctx, loss, x, NULL, 40);
        sl_close(ctx);
    }
}

/* A stack of linear layers is one linear layer. */
static void test_linear_stack(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_REFERENCE, .seed = 7);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 6), *w[3], *h = x, *product = NULL;
    for (int i = 0; i < 3; i++) {
        w[i] = sl_parameter(g, "w", sl_dims(6, 6), .init = {SL_INIT_NORMAL, 0.5f});
        h = sl_activate(sl_matmul(h, w[i], false, false), (sl_activation){.row = SL_LINEAR.row, .a = 1.5f});
        product = product ? sl_matmul(product, w[i], false, false) : w[i];
    }
    sl_node *one = sl_scale(sl_matmul(x, product, false, false), 1.5 * 1.5 * 1.5, 0), *roots[] = {h, one};
    sl_plan *plan = sl_plan_new(roots, 2, &(sl_plan_options){.batch = 2});
    double in[12], a[12], b[12];
    for (int i = 0; i < 12; i++) in[i] = sin(i + 1.0);
    sl_plan_set_double(plan, x, in, 12);
    sl_plan_run(plan);
    sl_plan_get_double(plan, h, a, 12);
    sl_plan_get_double(plan, one, b, 12);
    assert_ok(ctx);
    for (int i = 0; i < 12; i++) assert_near(a[i], b[i], 1e-12);
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_shared_nodes), cmocka_unit_test(test_losses),
        cmocka_unit_test(test_linear_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
