/* Networks with activations from expressions: they train as the rows that say the same, and are saved, loaded
 * and continued to the byte. */
#define _GNU_SOURCE
#include "check.h"

#include <unistd.h>

enum { EPOCHS = 3, SAMPLES = 400 };

typedef struct curves {
    double loss[EPOCHS], accuracy[EPOCHS];
    uint64_t fingerprint;
} curves;

static sl_model *model(sl_context *ctx, const char *line, const char *activation, int batch)
{
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), line, sl_activation_parse(ctx, activation),
                               (sl_init){0});
    sl_model *m = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = batch,
                             .optimizer = sl_adam(.rate = 1e-3f));
    sl_graph_free(g);
    assert_ok(ctx);
    return m;
}

static curves train(const char *line, const char *activation)
{
    curves c;
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 5, .threads = 2);
    sl_model *m = model(ctx, line, activation, 20);
    sl_dataset *data = sl_digits(ctx, 5, SL_TRAIN, SAMPLES);
    for (int e = 0; e < EPOCHS; e++) {
        const sl_epoch epoch = sl_fit(m, data, .epochs = 1);
        assert_ok(ctx);
        c.loss[e] = epoch.train.loss;
        c.accuracy[e] = epoch.train.accuracy;
    }
    c.fingerprint = sl_model_fingerprint(m);
    sl_close(ctx);
    return c;
}

static void expect_close(const curves *a, const curves *b)
{
    for (int e = 0; e < EPOCHS; e++) {
        assert_near(a->loss[e], b->loss[e], 1e-4 * b->loss[e]);
        assert_near(a->accuracy[e], b->accuracy[e], 2.0 / SAMPLES);
    }
}

static void test_same_as_rows(void **state)
{
    (void)state;
    static const char *const lines[] = {"mlp", "conv5-2s2 bn act pool2 dense20 act drop.5 dense10"};
    for (int i = 0; i < 2; i++) {
        const curves relu = train(lines[i], "relu"), swish = train(lines[i], "swish");
        assert_true(relu.accuracy[EPOCHS - 1] > 0.5 || i);
        assert_true(train(lines[i], "max(x,0)").fingerprint == relu.fingerprint);
        assert_true(train(lines[i], "max(0,x)").fingerprint == relu.fingerprint);
        assert_true(train(lines[i], "x>0?x:0").fingerprint == relu.fingerprint);
        const curves other = train(lines[i], "x*sigmoid(x)");
        expect_close(&other, &swish);
        assert_true(other.fingerprint != relu.fingerprint);
    }
    /* learned: for the layer and for each channel */
    const curves beta = train("mlp", "swish(learn)"), same = train("mlp", "x*sigmoid(b*x); b=1 learn");
    expect_close(&same, &beta);
    const curves leaky = train("mlp", "prelu(0.25,channel)"), own = train("mlp", "x>0?x:a*x; a=0.25 channel");
    expect_close(&own, &leaky);
}

/* First weights follow the function behind them, each its own. */
static void test_first_weights(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "dense8 3*x dense8 0.5*max(x,0) dense10", "dense8 relu dense8 0.5*relu(x) dense10",
        "dense8 relu dense8 max(x,0) dense10", "dense8 relu dense8 tanh(x)/2 dense10",
        "dense8 relu dense8 tanh dense10"};
    float w[5][64];
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 5, .threads = 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sl_model_get(model(ctx, lines[i], "relu", 4), "dense2.weight", w[i], 64), SL_OK);
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    assert_memory_equal(w[3], w[4], sizeof w[0]); /* flat at both ends: Xavier */
    for (int i = 0; i < 64; i++) assert_near(w[0][i], 2 * w[2][i], 1e-6);
    sl_close(ctx);
}

static void test_files(void **state)
{
    (void)state;
    const char *path = "test_formula_model.safetensors",
               *line = "conv3-3 act pool2 dense9 tanh(x)+0.1*x dense10";
    const char *activation = " a * x * sigmoid(b*x) ; a=1 channel; b=0.5 learn";
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 5, .threads = 2);
    sl_dataset *data = sl_digits(ctx, 5, SL_TRAIN, 70);
    sl_model *m = model(ctx, line, activation, 8), *whole = model(ctx, line, activation, 8);
    sl_fit(whole, data, .epochs = 4);
    sl_fit(m, data, .epochs = 2);
    float b = 0, a[3];
    assert_int_equal(sl_model_get(m, "formula1.b", &b, 1), SL_OK);
    assert_int_equal(sl_model_get(m, "formula1.a", a, 3), SL_OK);
    assert_true(b != 0.5f && a[0] != 1 && a[0] != a[1]);
    assert_int_equal(sl_save(m, path), SL_OK);
    sl_model *again = sl_load(ctx, path);
    assert_ok(ctx);
    assert_true(sl_model_fingerprint(again) == sl_model_fingerprint(m));
    assert_near(sl_evaluate(again, data).loss, sl_evaluate(m, data).loss, 0);
    sl_fit(again, data, .epochs = 2);
    assert_ok(ctx);
    assert_true(sl_model_fingerprint(again) == sl_model_fingerprint(whole));
    /* another context, and so another formula */
    sl_context *other = sl_open(.device = SL_CPU, .seed = 5, .threads = 1);
    sl_model *read = sl_load(other, path);
    assert_ok(other);
    assert_true(sl_model_fingerprint(read) == sl_model_fingerprint(m));
    sl_close(ctx);
    assert_true(sl_save(read, path) == SL_OK);
    sl_close(other);
    unlink(path);
}

/* A file whose activation is no expression, or too long a one, is refused with its reason. */
static void test_hostile_file(void **state)
{
    (void)state;
    const char *path = "test_formula_hostile.safetensors";
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 5, .threads = 1);
    sl_model *m = model(ctx, "dense4 act dense10", "max(x,0.25*x)", 4);
    assert_int_equal(sl_save(m, path), SL_OK);
    FILE *file = fopen(path, "r+b");
    char bytes[4096];
    const size_t n = fread(bytes, 1, sizeof bytes, file);
    char *at = memmem(bytes, n, "max(x,0.25*x)", 13);
    assert_non_null(at);
    fseek(file, at - bytes, SEEK_SET);
    fwrite("max(x,0.25*x(", 1, 13, file);
    fclose(file);
    assert_null(sl_load(ctx, path));
    expect_error(ctx, SL_ARGUMENT, "character 12: there is no function 'x'");
    sl_close(ctx);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_rows),
        cmocka_unit_test(test_first_weights),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_hostile_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
