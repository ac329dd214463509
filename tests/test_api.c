/* The public interface as a stranger uses it: mistakes get a sentence, nothing crashes, the first error
 * stays. */
#include "check.h"

#include <sys/stat.h>
#include <unistd.h>

static void test_open(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = -3);
    assert_non_null(ctx);
    assert_non_null(strstr(sl_error(ctx), "threads is -3"));
    assert_null(sl_graph_new(ctx)); /* a failed context does nothing, quietly */
    assert_null(sl_mnist(ctx, NULL, SL_TRAIN));
    sl_clear_error(ctx);
    assert_non_null(sl_error(ctx));
    sl_close(ctx);
    setenv("SLOPE_ISA", "sse9", 1);
    ctx = sl_open(.device = SL_CPU);
    assert_non_null(strstr(sl_error(ctx), "SLOPE_ISA=sse9"));
    sl_close(ctx);
    unsetenv("SLOPE_ISA");
    ctx = sl_open(.device = (sl_device_kind)77);
    assert_non_null(strstr(sl_error(ctx), "77"));
    sl_close(ctx);
    ctx = sl_open(.device = SL_AUTO);
    assert_null(sl_error(ctx));
    assert_true(strlen(sl_device_name(ctx)) > 0 && strlen(sl_device_description(ctx)) > 0);
    sl_close(ctx);
    sl_close(NULL);
    assert_non_null(sl_error(NULL));
}

static void test_null_is_quiet(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 4);
    assert_null(sl_dense(NULL, .units = 3));
    assert_null(sl_add(x, NULL));
    assert_null(sl_add(NULL, x));
    assert_null(sl_compile(NULL, .batch = 3));
    assert_null(sl_softmax_cross_entropy(x, NULL));
    assert_int_not_equal(sl_save(NULL, "x"), SL_OK);
    assert_true(isnan(sl_evaluate(NULL, NULL).loss));
    sl_fit(NULL, NULL, .epochs = 1);
    sl_graph_free(NULL);
    sl_model_free(NULL);
    sl_dataset_free(NULL);
    sl_plan_free(NULL);
    assert_ok(ctx); /* NULL is not an error of its own: its cause is */
    sl_close(ctx);
}

static void test_shapes(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *image = sl_input(g, "image", 28, 28, 1), *x = sl_input(g, "x", 7);
#define REFUSED(call, words)                                                                                 \
    do {                                                                                                     \
        assert_null(call);                                                                                   \
        expect_error(ctx, sl_error_code(ctx), words);                                                        \
    } while (0)
    REFUSED(sl_dense(x, .units = 0), "dense1: units is 0");
    REFUSED(sl_conv2d(x, .filters = 3, .kernel = 3), "'x' is n×7");
    REFUSED(sl_conv2d(image, .filters = 3, .kernel = 29), "does not fit; pad by at least 1");
    REFUSED(sl_conv2d(image, .filters = 3, .kernel = 3, .stride = -1), "stride is -1");
    REFUSED(sl_max_pool2d(image, .kernel = 30), "a 30×30 window does not fit 28×28 images");
    REFUSED(sl_max_pool2d(image, .kernel = 0), "kernel is 0");
    REFUSED(sl_max_pool2d(x, .kernel = 2), "needs images [n, height, width, channels]");
    REFUSED(sl_global_avg_pool(x), "needs images");
    REFUSED(sl_dropout(x, .rate = 1), "must be in [0, 1)");
    REFUSED(sl_dropout(x, .rate = NAN), "must be in [0, 1)");
    REFUSED(sl_batch_norm(x, .momentum = 2), "momentum 2");
    REFUSED(sl_add(x, image), "dimensions differ");
    REFUSED(sl_matmul(x, x, false, false), "inner sizes");
    REFUSED(sl_matmul(image, x, false, false), "needs two matrices; flatten");
    REFUSED(sl_reshape(x, sl_dims(SL_BATCH, 8)), "cannot be reshaped to n×8");
    REFUSED(sl_softmax_cross_entropy(image, sl_labels(g, "y")), "logits must be [n, classes]");
    REFUSED(sl_mean_squared_error(x, sl_input(g, "t", 6)), "outputs 'x' are n×7 but targets 't' are n×6");
    REFUSED(sl_activate(x, (sl_activation){.row = 999}), "999 is no row");
    REFUSED(sl_activate(x, (sl_activation){.row = SL_RELU.row, .learn = SL_LEARN}),
            "relu has no parameter that can be learned");
    REFUSED(sl_input(g, "x", 2, 3, 4, 5), "at most 3 dimensions per sample");
    REFUSED(sl_input(g, "x", -2), "each at least 1");
    REFUSED(sl_gradient(x, x), "only a scalar has a gradient");
    REFUSED(sl_gradient(sl_mean(image), x), "does not depend on x");
    sl_graph *other = sl_graph_new(ctx);
    REFUSED(sl_add(x, sl_input(other, "x", 7)), "belongs to another graph");
    sl_close(ctx);
}

static void test_model_lines(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *image = sl_input(g, "image", 28, 28, 1);
#define LINE(text) sl_model_line(image, text, SL_RELU, (sl_init){0})
    REFUSED(LINE(""), "the model line is empty");
    REFUSED(LINE("dense"), "character 1, 'dense': expected a number");
    REFUSED(LINE("conv3-8 act densee10"), "character 13, 'densee10'");
    REFUSED(LINE("conv3"), "expected kernel-filters");
    REFUSED(LINE("conv3-8q2"), "only p, s, d");
    REFUSED(LINE("conv3-8~x"), "only p, s, d");
    REFUSED(LINE("convolution"), "expected kernel-filters");
    REFUSED(LINE("foo"), "unknown word");
    REFUSED(LINE("drop1.5"), "a rate in [0, 1)");
    REFUSED(LINE("dense10 dense0"), "at least one unit");
    REFUSED(LINE("res( dense784"), "closing bracket is missing");
    REFUSED(LINE("dense10 )"), "nothing opened");
    REFUSED(LINE("tanh(3)"), "takes no parameter");
    REFUSED(LINE("leaky_relu(y)"), "is not a number");
    REFUSED(LINE("conv5-8 pool30"), "does not fit");
    REFUSED(LINE("flatten conv3-8"), "a convolution needs images");
    sl_node *y = LINE("conv5-8p2s2~1e-5 bn(.01,1e-3) act res( conv3-16p1 act ) avgpool2 gap drop.25 "
                      "leaky_relu(0.2) dense10~1e-4");
    assert_ok(ctx);
    assert_int_equal(sl_node_shape(y).dim[1], 10);
    assert_int_equal(sl_node_shape(LINE("cnn")).dim[1], 10);
    sl_close(ctx);
}

static void test_compile_and_fit(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "image", 28, 28, 1), *y = sl_dense(x, .units = 10);
    sl_node *loss = sl_softmax_cross_entropy(y, sl_labels(g, "label"));
    REFUSED(sl_compile(y, .batch = 2), "a loss is a scalar");
    REFUSED(sl_compile(loss, .batch = SL_NONE), "batch is 0");
    REFUSED(sl_compile(loss, .batch = -4), "batch is -4");
    REFUSED(sl_compile(loss, .clip_norm = NAN), "clip_norm");
    REFUSED(sl_compile(loss, .optimizer = sl_adam(.rate = NAN)), "rate is nan");
    REFUSED(sl_compile(loss, .optimizer = sl_momentum(.momentum = 1)), "momentum is 1");
    REFUSED(sl_compile(loss, .optimizer = {.row = 99}), "no row 99");
    REFUSED(sl_compile(sl_mean(sl_constant(g, sl_dims(3), 1)), .batch = 1), "does not depend on an input");
    sl_model *m = sl_compile(loss, .batch = 4);
    assert_ok(ctx);
    sl_dataset *digits = sl_digits(ctx, 1, SL_TRAIN, 10);
    sl_fit(m, digits, .epochs = 0);
    expect_error(ctx, SL_ARGUMENT, "epochs is 0");
    const float small[2 * 9] = {0};
    const int32_t labels[2] = {0, 1};
    sl_fit(m, sl_dataset_from_labels(ctx, small, labels, 2, 3, 3, 1, 10), .epochs = 1);
    expect_error(ctx, SL_SHAPE, "3×3×1 samples, but input 'image' is n×28×28×1");
    static float big[784];
    sl_fit(m, sl_dataset_from_targets(ctx, big, small, 1, 28, 28, 1, 2), .epochs = 1);
    expect_error(ctx, SL_ARGUMENT, "has no labels");
    sl_fit(m, sl_dataset_from_labels(ctx, big, (int32_t[]){11}, 1, 28, 28, 1, 12), .epochs = 1);
    expect_error(ctx, SL_SHAPE, "12 classes");
    float value;
    assert_int_not_equal(sl_model_get(m, "dense7.weight", &value, 1), SL_OK);
    expect_error(ctx, SL_ARGUMENT, "no parameter 'dense7.weight'");
    assert_int_not_equal(sl_model_get(m, "dense1.bias", &value, 1), SL_OK);
    expect_error(ctx, SL_SHAPE, "10 elements, but 1 were given");
    /* after an error every action does nothing, until it is cleared */
    sl_node *bad = sl_dense(x, .units = -1);
    assert_null(bad);
    sl_fit(m, digits, .epochs = 1);
    assert_int_not_equal(sl_save(m, "test_api_never.safetensors"), SL_OK);
    assert_int_equal(access("test_api_never.safetensors", F_OK), -1);
    assert_non_null(strstr(sl_error(ctx), "units is -1"));
    sl_clear_error(ctx);
    assert_int_equal(sl_model_step(m), 0);
    sl_fit(m, digits, .epochs = 1);
    assert_ok(ctx);
    sl_graph_free(g); /* the model does not need it */
    assert_true(sl_evaluate(m, digits).count == 10);
    sl_close(ctx);
}

static void test_files(void **state)
{
    (void)state;
    const char *path = "test_api_model.safetensors";
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "image", 28, 28, 1);
    sl_model *m = sl_compile(sl_softmax_cross_entropy(sl_model_line(x, "dense7 bn swish(0.5,learn) dense10",
                                                                    SL_RELU, (sl_init){0}),
                                                      sl_labels(g, "label")),
                             .batch = 4);
    sl_model *called = sl_compile(
        sl_softmax_cross_entropy(sl_dense(x, .units = 10, .name = "out"), sl_labels(g, "label")), .batch = 4);
    sl_dataset *digits = sl_digits(ctx, 1, SL_TRAIN, 30);
    sl_fit(m, digits, .epochs = 2);
    assert_int_equal(sl_save(m, path), SL_OK);
    sl_model *again = sl_load(ctx, path);
    assert_ok(ctx);
    assert_true(sl_model_fingerprint(m) == sl_model_fingerprint(again));
    assert_near(sl_evaluate(m, digits).loss, sl_evaluate(again, digits).loss, 0);
    assert_int_equal(sl_model_step(again), 16);
    assert_int_not_equal(sl_save(m, "no/such/folder/m.safetensors"), SL_OK);
    expect_error(ctx, SL_IO, "no/such/folder");
    assert_int_not_equal(sl_save(m, "/"), SL_OK);
    expect_error(ctx, SL_IO, "/");
    assert_int_not_equal(sl_restore(called, path, false), SL_OK);
    expect_error(ctx, SL_FORMAT, "'out.weight' is missing; the file holds another model");
    assert_null(sl_load(ctx, "test_api_missing.safetensors"));
    expect_error(ctx, SL_IO, "test_api_missing.safetensors");
    assert_int_equal(sl_save(called, path), SL_OK);
    assert_null(sl_load(ctx, path));
    expect_error(ctx, SL_UNSUPPORTED, "built by calls");
    assert_int_not_equal(sl_restore(m, path, true), SL_OK);
    expect_error(ctx, sl_error_code(ctx), path);
    /* another seed cannot go on with this run */
    sl_context *other = sl_open(.device = SL_CPU, .seed = 8);
    sl_graph *h = sl_graph_new(other);
    sl_model *n = sl_compile(
        sl_softmax_cross_entropy(sl_dense(sl_input(h, "image", 28, 28, 1), .units = 10, .name = "out"),
                                 sl_labels(h, "label")),
        .batch = 4);
    assert_int_not_equal(sl_restore(n, path, true), SL_OK);
    expect_error(other, SL_ARGUMENT, "seed 0, but this context has seed 8");
    sl_close(other);
    sl_close(ctx);
    unlink(path);
}

static void test_activation_texts(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    char text[64], again[64];
    for (int row = 0; sl_activation_name(row); row++) {
        const sl_activation a = sl_activation_parse(ctx, sl_activation_name(row));
        assert_int_equal(a.row, row);
        assert_string_equal(sl_activation_print(a, text, sizeof text), sl_activation_name(row));
    }
    const char *texts[] = {"leaky_relu(a=0.00100000005)",
                           "swish(learn)",
                           "swish(beta=1.5,learn)",
                           "prelu(channel)",
                           "prelu(fixed)",
                           "elu(a=0)"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const sl_activation a = sl_activation_parse(ctx, texts[i]);
        assert_ok(ctx);
        assert_string_equal(
            sl_activation_print(sl_activation_parse(ctx, sl_activation_print(a, text, sizeof text)), again,
                                sizeof again),
            text);
    }
    assert_near(sl_activation_value(sl_activation_parse(ctx, "leaky_relu(0.5)"), -2), -1, 1e-12);
    assert_near(sl_activation_slope(sl_activation_parse(ctx, "swish(beta=0)"), 3), 0.5, 1e-12);
    const char *wrong[] = {"",        "rely",           "relu(",           "relu()",
                           "relu(1)", "leaky_relu(a=)", "leaky_relu(b=1)", "swish(1,2,3)",
                           "elu(-1)", "sigmoid(learn)", "leaky_relu(nan)"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sl_activation_parse(ctx, wrong[i]);
        if (!sl_error(ctx)) fail_msg("'%s' was accepted", wrong[i]);
        sl_clear_error(ctx);
    }
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_null_is_quiet),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_model_lines),
        cmocka_unit_test(test_compile_and_fit),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_activation_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
