/* Operations of the user's own, and the check of gradients that finds an error in one. */
#include "check.h"

enum { BATCH = 5, WIDTH = 7 };

/* y = x·w[last dimension]³, w without a batch */
static void cube_run(const sl_custom_call *call)
{
    const int64_t n = call->out_shape.dim[call->out_shape.n - 1], count = sl_shape_count(call->out_shape);
    for (int64_t i = 0; i < count; i++) {
        if (call->in_double) {
            const double w = ((const double *)call->in[1])[i % n];
            ((double *)call->out)[i] = ((const double *)call->in[0])[i] * w * w * w;
        } else {
            const float w = ((const float *)call->in[1])[i % n];
            ((float *)call->out)[i] = ((const float *)call->in[0])[i] * w * w * w;
        }
    }
}

static const char *cube_shape(const sl_shape *in, int n_in, const void *data, sl_shape *out)
{
    (void)data;
    if (n_in != 2 || in[1].n != 1 || in[1].dim[0] != in[0].dim[in[0].n - 1])
        return "w must be [last dimension of x]";
    *out = in[0];
    return NULL;
}

/* dx = dy·w³, dw = Σ 3·dy·x·w²; `data` is the factor, which a test makes wrong. */
static sl_node *slope_by_w(sl_node *y, double factor)
{
    sl_node *x = sl_node_input(y, 0), *w = sl_node_input(y, 1);
    return sl_scale(sl_mul(x, sl_square(w)), factor, 0);
}

static sl_node *slope_by_x(sl_node *y)
{
    sl_node *w = sl_node_input(y, 1);
    return sl_mul(w, sl_square(w));
}

static void cube_vjp(sl_node *y, sl_node *dy, sl_node **dx)
{
    dx[0] = sl_mul(dy, slope_by_x(y));
    dx[1] = sl_sum_to(sl_mul(dy, slope_by_w(y, 3)), sl_node_shape(sl_node_input(y, 1)));
}

static void wrong_vjp(sl_node *y, sl_node *dy, sl_node **dx)
{
    dx[0] = sl_mul(dy, slope_by_x(y));
    dx[1] = sl_sum_to(sl_mul(dy, slope_by_w(y, 2.9)), sl_node_shape(sl_node_input(y, 1)));
}

static sl_node *cube_jvp(sl_node *y, sl_node *const *tx)
{
    sl_node *a = tx[0] ? sl_mul(tx[0], slope_by_x(y)) : NULL,
            *b = tx[1] ? sl_mul(slope_by_w(y, 3), tx[1]) : NULL;
    return a && b ? sl_add(a, b) : a ? a : b;
}

static const sl_custom_op cube = {"cube", cube_shape, cube_run, true, NULL, cube_vjp, cube_jvp},
                          in_float = {"cube", cube_shape, cube_run, false, NULL, cube_vjp, cube_jvp},
                          wrong = {"cube", cube_shape, cube_run, true, NULL, wrong_vjp, NULL},
                          wrong_in_float = {"cube", cube_shape, cube_run, false, NULL, wrong_vjp, NULL},
                          bare = {.name = "bare", .cpu = cube_run};

static sl_model *model_with(sl_context *ctx, const sl_custom_op *op)
{
    sl_graph *g = sl_graph_new(ctx);
    sl_node *h = sl_dense(sl_input(g, "x", WIDTH), .units = WIDTH, .activation = SL_RELU);
    sl_node *w = sl_parameter(g, "cube.w", sl_dims(WIDTH), .init = {SL_INIT_UNIFORM, 1.5f});
    h = sl_custom(op, NULL, (sl_node *[]){h, w}, 2);
    return sl_compile(sl_softmax_cross_entropy(sl_dense(h, .units = 3), sl_labels(g, "class")), .batch = 16,
                      .optimizer = sl_adam(.rate = 0.01f));
}

static sl_dataset *some_data(sl_context *ctx)
{
    float x[64 * WIDTH];
    int32_t t[64];
    for (int i = 0; i < 64 * WIDTH; i++) x[i] = (float)sin(1.7 * i);
    for (int i = 0; i < 64; i++) t[i] = x[i * WIDTH] > 0.3f ? 2 : x[i * WIDTH + 1] > 0;
    return sl_dataset_from_labels(ctx, x, t, 64, 1, 1, WIDTH, 3);
}

typedef struct seen {
    int rows, disagree;
    char name[64];
    int64_t element;
    double gradient, difference;
} seen;

static void note(void *user, const sl_gradient_row *row)
{
    seen *s = user;
    s->rows++;
    assert_true(row->looked_at > 0 && row->element < sl_shape_count(row->shape));
    if (row->agrees) return;
    s->disagree++;
    snprintf(s->name, sizeof s->name, "%s", row->parameter);
    s->gradient = row->gradient;
    s->difference = row->difference;
}

static void test_check_finds_the_error(void **state)
{
    (void)state;
    const struct {
        const sl_custom_op *op;
        bool right;
    } cases[] = {{&cube, true}, {&in_float, true}, {&wrong, false}, {&wrong_in_float, false}};
    for (int i = 0; i < 4; i++) {
        sl_context *ctx = sl_open(.device = SL_CPU, .seed = 5);
        sl_model *m = model_with(ctx, cases[i].op);
        seen s = {0};
        assert_int_equal(sl_check_gradients(m, some_data(ctx), note, &s), cases[i].right);
        assert_ok(ctx);
        assert_int_equal(s.rows, 5);
        if (!cases[i].right) { /* the planted error and no other */
            assert_int_equal(s.disagree, 1);
            assert_string_equal(s.name, "cube.w");
            assert_near(s.gradient / s.difference, 2.9 / 3, 1e-3);
        }
        sl_close(ctx);
    }
}

static void test_check_of_networks(void **state)
{
    (void)state;
    static const char *const lines[] = {"dense9 act bn drop.3 dense4 swish(learn) dense10", "lstm4 dense10",
                                        "conv3-3 bn act pool2 prelu(channel) dense10"};
    for (int i = 0; i < 3; i++) {
        sl_context *ctx = sl_open(.device = SL_CPU, .seed = 3);
        sl_graph *g = sl_graph_new(ctx);
        sl_node *logits = sl_model_line(sl_input(g, "image", 28, 28, 1), lines[i], SL_TANH, (sl_init){0});
        sl_model *m = sl_compile(sl_softmax_cross_entropy(logits, sl_labels(g, "digit")));
        assert_true(sl_check_gradients(m, sl_digits(ctx, 1, SL_TRAIN, 30), NULL, NULL));
        assert_ok(ctx);
        sl_close(ctx);
    }
}

/* Trains as any other network, and the same on any number of threads. */
static void test_training(void **state)
{
    (void)state;
    uint64_t fingerprint[2];
    for (int i = 0; i < 2; i++) {
        sl_context *ctx = sl_open(.device = SL_CPU, .seed = 5, .threads = 1 + 2 * i);
        sl_model *m = model_with(ctx, &cube);
        sl_dataset *data = some_data(ctx);
        const double before = sl_evaluate(m, data).loss;
        sl_fit(m, data, .epochs = 60);
        assert_true(sl_evaluate(m, data).loss < 0.5 * before);
        fingerprint[i] = sl_model_fingerprint(m);
        assert_ok(ctx);
        sl_close(ctx);
    }
    assert_true(fingerprint[0] == fingerprint[1]);
}

static void test_forward_mode(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_REFERENCE);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_parameter(g, "x", sl_dims(2), .init = {SL_INIT_CONSTANT, 2}), *out;
    sl_node *w = sl_parameter(g, "w", sl_dims(2), .init = {SL_INIT_CONSTANT, 3}),
            *one = sl_constant(g, sl_dims(2), 1);
    sl_node *y = sl_custom(&cube, NULL, (sl_node *[]){x, w}, 2);
    sl_jvp(&y, 1, (sl_node *[]){x, w}, (sl_node *[]){one, one}, 2, &out);
    sl_plan *plan = sl_plan_new(&out, 1, NULL);
    double t[2];
    sl_plan_run(plan);
    sl_plan_get_double(plan, out, t, 2);
    assert_ok(ctx);
    assert_near(t[0], 27 + 3 * 2 * 9, 1e-12);
    sl_close(ctx);
}

static void test_errors(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 4), *w = sl_parameter(g, "w", sl_dims(3)), *loss, *out = NULL;
    assert_null(sl_custom(&cube, NULL, (sl_node *[]){x, w}, 2));
    expect_error(ctx, SL_SHAPE, "'cube': w must be [last dimension of x]");
    assert_null(sl_custom(&cube, NULL, (sl_node *[9]){x, x, x, x, x, x, x, x, x}, 9));
    expect_error(ctx, SL_ARGUMENT, "1 to 8 inputs, but got 9");
    assert_null(sl_custom(&cube, NULL, (sl_node *[]){x, NULL}, 2));
    assert_null(sl_error(ctx));
    loss = sl_mean(sl_custom(&bare, NULL, (sl_node *[]){w}, 1));
    assert_int_not_equal(sl_gradients(loss, &w, 1, &out), SL_OK);
    expect_error(ctx, SL_UNSUPPORTED, "'bare' has no vjp");
    sl_jvp(&loss, 1, &w, &w, 1, &out);
    expect_error(ctx, SL_UNSUPPORTED, "'bare' has no jvp");
    static const sl_custom_op nowhere = {.name = "nowhere"};
    loss = sl_mean(sl_custom(&nowhere, NULL, (sl_node *[]){w}, 1));
    assert_null(sl_plan_new(&loss, 1, NULL));
    expect_error(ctx, SL_UNSUPPORTED, "nowhere");
    assert_false(sl_check_gradients(model_with(ctx, &cube), sl_digits(ctx, 1, SL_TEST, 10), NULL, NULL));
    expect_error(ctx, SL_SHAPE, "synthetic digits");
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_finds_the_error),
        cmocka_unit_test(test_check_of_networks),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_forward_mode),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
