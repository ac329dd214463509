/* Initialisers: moments, bounds, orthogonality, the default by activation, and depth made visible without
 * training. */
#include "check.h"

#include "graph/graph.h"

/* The first values of a [in, out] weight under an initialiser, followed by an activation. */
static float *draw(sl_context *ctx, const char *init, sl_activation act, int in, int out)
{
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", in);
    sl_node *y = sl_dense(x, .units = out, .activation = act,
                          .init = init ? sl_init_parse(ctx, init) : (sl_init){0}, .name = "d");
    sl_plan *plan = sl_plan_new(&y, 1, NULL);
    assert_ok(ctx);
    float *w = calloc((size_t)in * (size_t)out, sizeof *w);
    for (int id = 0; id < g->n; id++)
        if (strcmp(g->nodes[id]->name, "d.weight") == 0)
            sl_plan_get(plan, g->nodes[id], w, (int64_t)in * out);
    assert_ok(ctx);
    sl_plan_free(plan);
    return w;
}

typedef struct moments {
    double mean, deviation, low, high;
} moments;

static moments moments_of(const float *w, int n)
{
    moments m = {.low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < n; i++) m.mean += (double)w[i] / n;
    for (int i = 0; i < n; i++) {
        m.deviation += ((double)w[i] - m.mean) * ((double)w[i] - m.mean) / n;
        m.low = fmin(m.low, w[i]), m.high = fmax(m.high, w[i]);
    }
    m.deviation = sqrt(m.deviation);
    return m;
}

static void test_moments(void **state)
{
    (void)state;
    enum { IN = 300, OUT = 200 };
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 9);
    const double xavier = sqrt(6.0 / (IN + OUT));
    const struct {
        const char *init;
        sl_activation act;
        double deviation, bound; /* bound 0: normal */
    } rows[] = {
        {"normal", SL_RELU, 0.01, 0},
        {"normal(0.5)", SL_RELU, 0.5, 0},
        {"uniform", SL_RELU, 0.05 / sqrt(3), 0.05},
        {"uniform(2)", SL_RELU, 2 / sqrt(3), 2},
        {"xavier", SL_RELU, xavier / sqrt(3), xavier},
        {"xavier_normal", SL_RELU, sqrt(2.0 / (IN + OUT)), 0},
        {"he", SL_RELU, sqrt(2.0 / IN), 0},
        {"he", SL_TANH, sqrt(2.0 / IN), 0},
        {"he", SL_LEAKY_RELU, sqrt(2 / (1 + 0.0001) / IN), 0},
        {"he_uniform", SL_RELU, sqrt(2.0 / IN), sqrt(6.0 / IN)},
        {"lecun", SL_RELU, sqrt(1.0 / IN), 0},
        {NULL, SL_RELU, sqrt(2.0 / IN), 0},
        {NULL, SL_SELU, sqrt(1.0 / IN), 0},
        {NULL, SL_SIGMOID, xavier / sqrt(3), xavier},
        {NULL, SL_TANH, xavier / sqrt(3), xavier},
        {NULL, SL_HARD_TANH, xavier / sqrt(3), xavier},
        {NULL, SL_LINEAR, xavier / sqrt(3), xavier},
        {NULL, SL_SWISH, sl_activation_gain_of(SL_SWISH) * sqrt(1.0 / IN), 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float *w = draw(ctx, rows[i].init, rows[i].act, IN, OUT);
        const moments m = moments_of(w, IN * OUT);
        assert_near(m.mean, 0, 5 * rows[i].deviation / sqrt(IN * OUT));
        assert_near(m.deviation, rows[i].deviation, 0.012 * rows[i].deviation);
        if (rows[i].bound > 0)
            assert_true(m.high <= rows[i].bound * 1.000001 && m.low >= -rows[i].bound * 1.000001 &&
                        m.high > 0.99 * rows[i].bound);
        else
            assert_true(m.high > 3.5 * rows[i].deviation);
        free(w);
    }
    float *w = draw(ctx, "constant(0.25)", SL_RELU, 3, 3);
    for (int i = 0; i < 9; i++) assert_true(w[i] == 0.25f);
    free(w);
    w = draw(ctx, "zeros", SL_RELU, 3, 3);
    for (int i = 0; i < 9; i++) assert_true(w[i] == 0);
    free(w);
    sl_close(ctx);
}

static void test_orthogonal(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 2);
    const int sizes[][2] = {{30, 20}, {20, 30}, {25, 25}, {1, 7}};
    for (int s = 0; s < 4; s++) {
        const int in = sizes[s][0], out = sizes[s][1], n = in < out ? in : out;
        float *w = draw(ctx, "orthogonal", SL_RELU, in, out); /* times relu's gain, √2 */
        for (int a = 0; a < n; a++)
            for (int b = 0; b <= a; b++) {
                double dot = 0;
                for (int k = 0; k < (in < out ? out : in); k++)
                    dot += in < out ? (double)w[a * out + k] * w[b * out + k]
                                    : (double)w[k * out + a] * w[k * out + b];
                assert_near(dot, a == b ? 2 : 0, 2e-6);
            }
        free(w);
    }
    sl_close(ctx);
}

static void test_names(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_init_parse(ctx, "glorot");
    expect_error(ctx, SL_ARGUMENT, "there is no initialiser 'glorot'; there are zeros, constant, normal");
    sl_init_parse(ctx, "he(3)");
    expect_error(ctx, SL_ARGUMENT, "takes no number");
    sl_init_parse(ctx, "normal(x)");
    expect_error(ctx, SL_ARGUMENT, "one number is expected");
    sl_close(ctx);
}

/* Through 30 dense ReLU layers He's variance keeps the size of the values; with variance 1/n it falls by
 * 2⁻³⁰. */
static void test_depth(void **state)
{
    (void)state;
    enum { WIDTH = 400, DEPTH = 30, BATCH = 32 };
    double ratio[2];
    for (int k = 0; k < 2; k++) {
        sl_context *ctx = sl_open(.device = SL_CPU, .seed = 12);
        sl_graph *g = sl_graph_new(ctx);
        sl_node *x = sl_input(g, "x", WIDTH), *h = x;
        for (int i = 0; i < DEPTH; i++)
            h = sl_dense(h, .units = WIDTH, .activation = SL_RELU, .no_bias = true,
                         .init = sl_init_parse(ctx, k ? "lecun" : "he"));
        sl_node *roots[] = {sl_mean(sl_square(x)), sl_mean(sl_square(h))};
        sl_plan *plan = sl_plan_new(roots, 2, &(sl_plan_options){.batch = BATCH});
        static float values[BATCH * WIDTH];
        for (int i = 0; i < BATCH * WIDTH; i++) values[i] = (float)((i * 7919) % 1999) / 1000 - 1;
        sl_plan_set(plan, x, values, BATCH * WIDTH);
        sl_plan_run(plan);
        double in, out;
        sl_plan_get_double(plan, roots[0], &in, 1);
        sl_plan_get_double(plan, roots[1], &out, 1);
        assert_ok(ctx);
        ratio[k] = out / in;
        sl_close(ctx);
    }
    assert_true(ratio[0] > 0.2 && ratio[0] < 5);
    assert_near(ratio[1] / ratio[0] * pow(2, DEPTH), 1,
                1e-3); /* the same numbers, each layer scaled by 1/√2 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_orthogonal),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
