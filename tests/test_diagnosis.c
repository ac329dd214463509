/* The diagnosis of a training run against the same numbers computed here, from weights read through the API:
 * on the CPU, and on the CUDA device where there is one. */
#include "check.h"

#include <unistd.h>

enum { IN = 5, UNITS = 7, CLASSES = 3, BATCH = 8, MOST = 100 };

static const sl_device_kind devices[] = {SL_CPU, SL_CUDA};

static sl_context *open_device(int device)
{
    sl_context *ctx = sl_open(.device = devices[device], .seed = 4, .exact = true);
    if (devices[device] == SL_CUDA && sl_error(ctx)) {
        sl_close(ctx);
        return NULL;
    }
    assert_ok(ctx);
    return ctx;
}

/* --- a network with one hidden layer --- */

typedef struct net {
    sl_context *ctx;
    sl_model *model;
    sl_dataset *data;
    float x[MOST * IN];
    int32_t label[MOST];
    int samples;
} net;

static net make(int device, const char *activation, int samples, sl_optimizer optimizer, bool diagnose,
                bool checked)
{
    net n = {.ctx = open_device(device), .samples = samples};
    if (!n.ctx) return n;
    for (int i = 0; i < samples * IN; i++) n.x[i] = (float)((i * 37 + i * i) % 23) / 8 - 1.3f;
    for (int i = 0; i < samples; i++) n.label[i] = (i * 7) % CLASSES;
    sl_graph *g = sl_graph_new(n.ctx);
    sl_node *h = sl_dense(sl_input(g, "x", IN), .units = UNITS, .name = "first");
    h = sl_activate(h, sl_activation_parse(n.ctx, activation));
    sl_node *y = sl_dense(h, .units = CLASSES, .name = "last");
    n.model = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "y")), .batch = BATCH,
                         .optimizer = optimizer, .diagnose = diagnose, .checked = checked);
    n.data = sl_dataset_from_labels(n.ctx, n.x, n.label, samples, 1, 1, IN, CLASSES);
    assert_ok(n.ctx);
    return n;
}

/* What an activation layer did with some samples. */
typedef struct state {
    double mean, square, active, dead;
} state;

static state state_of(net *n, sl_activation activation, int first, int count)
{
    float w[IN * UNITS], b[UNITS];
    state s = {0};
    sl_model_get(n->model, "first.weight", w, IN * UNITS);
    sl_model_get(n->model, "first.bias", b, UNITS);
    assert_ok(n->ctx);
    for (int u = 0; u < UNITS; u++) {
        int passing = 0;
        for (int i = first; i < first + count; i++) {
            double z = (double)b[u];
            for (int k = 0; k < IN; k++) z += (double)n->x[i * IN + k] * (double)w[k * UNITS + u];
            const double y = sl_activation_value(activation, z), slope = sl_activation_slope(activation, z);
            s.mean += y / (count * UNITS);
            s.square += y * y / (count * UNITS);
            s.active += (fabs(slope) >= 0.01) / (double)(count * UNITS);
            passing += fabs(slope) > 1e-9; /* smaller ones are 0 in float32 here */
        }
        s.dead += (passing == 0) / (double)UNITS;
    }
    return s;
}

static sl_diagnosis row_of(net *n, int i)
{
    sl_diagnosis row = {0};
    assert_ok(n->ctx);
    assert_true(sl_model_diagnosis(n->model, i, &row));
    return row;
}

/* One step an epoch, of a full batch and of a short one. The slopes are those in front of the update. */
static void test_activations(void **unused)
{
    (void)unused;
    const char *const names[] = {"tanh",          "relu", "swish(2, learn)", "prelu(0.25, channel)",
                                 "leaky_relu(0)", "elu",  "linear(2)",       "step"};
    for (int device = 0; device < 2; device++)
        for (int a = 0; a < 8; a++)
            for (int samples = BATCH - 3; samples <= BATCH; samples += 3) {
                net n = make(device, names[a], samples, sl_adam(.rate = 0.1f), true, false);
                if (!n.ctx) continue;
                float bias[UNITS] = {0.5f, 0, -100, 0, 0.25f, -100, 0};
                sl_model_set(n.model, "first.bias", bias, UNITS);
                const sl_activation activation = sl_activation_parse(n.ctx, names[a]);
                const state want = state_of(&n, activation, 0, samples);
                sl_fit(n.model, n.data, .epochs = 1);
                const sl_diagnosis got = row_of(&n, 2);
                assert_true(got.is_activation);
                assert_near(got.mean, want.mean, 1e-5 * (1 + fabs(want.mean)));
                assert_near(got.deviation, sqrt(want.square - want.mean * want.mean), 3e-5);
                assert_near(got.active, want.active, 1e-6);
                assert_near(got.dead, want.dead, 1e-6);
                sl_diagnosis past;
                assert_false(sl_model_diagnosis(n.model, 3, &past) || sl_model_diagnosis(n.model, -1, &past));
                assert_true(sl_model_diagnosis_steps(n.model, 3, &past, 1) == 0);
                sl_close(n.ctx);
            }
}

/* Several steps of an epoch, the last of them short, together have seen every sample once. */
static void test_steps(void **unused)
{
    (void)unused;
    enum { STEPS = 13, SAMPLES = (STEPS - 1) * BATCH + 3 };
    for (int device = 0; device < 2; device++) {
        net n = make(device, "relu", SAMPLES, sl_sgd(.rate = SL_ZERO), true, false);
        if (!n.ctx) continue;
        sl_diagnosis steps[STEPS + 1] = {{0}};
        assert_true(sl_model_diagnosis_steps(n.model, 2, steps, STEPS) == 0);
        const state want = state_of(&n, SL_RELU, 0, SAMPLES);
        sl_fit(n.model, n.data, .epochs = 2);
        assert_true(sl_model_diagnosis_steps(n.model, 2, steps, 2) == STEPS);
        assert_null(steps[2].name); /* no room */
        assert_true(sl_model_diagnosis_steps(n.model, 2, steps, STEPS + 1) == STEPS);
        assert_null(steps[STEPS].name);
        double mean = 0, square = 0, active = 0, plain = 0;
        for (int s = 0; s < STEPS; s++) {
            assert_true(steps[s].is_activation && strcmp(steps[s].name, row_of(&n, 2).name) == 0);
            const double share = (s + 1 < STEPS ? BATCH : 3) / (double)SAMPLES;
            mean += share * steps[s].mean;
            square += share * (steps[s].deviation * steps[s].deviation + steps[s].mean * steps[s].mean);
            active += share * steps[s].active;
            plain += steps[s].deviation / STEPS;
        }
        assert_near(mean, want.mean, 1e-6);
        assert_near(square, want.square, 1e-6);
        assert_near(active, want.active, 1e-6);
        assert_near(row_of(&n, 2).deviation, plain, 1e-12);
        assert_true(row_of(&n, 0).update_ratio == 0 && row_of(&n, 0).gradient_norm > 0);
        sl_close(n.ctx);
    }
}

/* --- weights, from what the API gives before and after each step --- */

static double norm(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const double d = (double)a[i] - (b ? (double)b[i] : 0);
        sum += d * d;
    }
    return sqrt(sum);
}

static void test_weights(void **unused)
{
    (void)unused;
    enum { STEPS = 3, SAMPLES = 2 * BATCH + 3, LAST = UNITS * CLASSES };
    for (int device = 0; device < 2; device++) {
        net n = make(device, "tanh", SAMPLES, sl_sgd(.rate = 0.5f), true, false);
        if (!n.ctx) continue;
        float before[LAST] = {0}, after[LAST];
        sl_model_set(n.model, "last.weight", before, LAST);
        for (int step = 0; step < 2 * STEPS; step++) {
            sl_diagnosis steps[STEPS];
            sl_model_get(n.model, "last.weight", before, LAST);
            assert_true(sl_train_step(n.model, n.data, 2, NULL, NULL) == SL_OK);
            sl_model_get(n.model, "last.weight", after, LAST);
            assert_true(sl_model_diagnosis_steps(n.model, 1, steps, STEPS) == step % STEPS + 1);
            const sl_diagnosis row = steps[step % STEPS];
            const double size = norm(before, NULL, LAST), change = norm(after, before, LAST);
            assert_string_equal(row.name, "last.weight");
            assert_true(change > 0.01);
            assert_near(row.gradient_norm, change / 0.5, 1e-5);
            assert_near(row.update_ratio, step == 0 ? 0 : change / size, 1e-5);
        }
        sl_close(n.ctx);
    }
}

/* --- a diagnosis beside training --- */

static sl_model *digits_model(sl_context *ctx, bool diagnose, sl_dataset **digits)
{
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1),
                               "conv3-4p1 relu pool2 conv3-3 bn act pool2 drop.25 dense9 act dense10",
                               sl_activation_parse(ctx, "swish(learn)"), (sl_init){0});
    *digits = sl_digits(ctx, 5, SL_TRAIN, 45);
    return sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = 8,
                      .optimizer = sl_adam(.rate = 0.01f), .clip_norm = 1, .diagnose = diagnose);
}

/* Watched or not, a run leaves the same bytes. */
static void test_training_is_the_same(void **unused)
{
    (void)unused;
    uint64_t prints[2];
    for (int device = 0; device < 2; device++) {
        sl_context *ctx = NULL;
        for (int watched = 0; watched < 2 && (ctx = open_device(device)); watched++) {
            sl_dataset *digits;
            sl_model *m = digits_model(ctx, watched, &digits);
            sl_fit(m, digits, .epochs = 2);
            assert_ok(ctx);
            prints[watched] = sl_model_fingerprint(m);
            sl_diagnosis row;
            assert_true(sl_model_diagnosis(m, 0, &row) == watched);
            sl_close(ctx);
        }
        if (ctx) assert_true(prints[0] == prints[1]);
    }
}

/* A run that goes on in the middle of an epoch has seen its other steps. */
static void test_resumed(void **unused)
{
    (void)unused;
    static const char file[] = "test_diagnosis.safetensors";
    sl_diagnosis whole[6], rest[6];
    sl_context *ctx = open_device(0);
    sl_dataset *digits;
    sl_model *m = digits_model(ctx, true, &digits);
    for (int step = 0; step < 6; step++) {
        if (step == 4) sl_save(m, file);
        sl_train_step(m, digits, 1, NULL, NULL);
    }
    assert_true(sl_model_diagnosis_steps(m, 4, whole, 6) == 6);
    m = digits_model(ctx, true, &digits);
    sl_restore(m, file, true);
    sl_fit(m, digits, .epochs = 1);
    assert_ok(ctx);
    assert_true(sl_model_diagnosis_steps(m, 4, rest, 6) == 2);
    for (int i = 0; i < 2; i++)
        assert_true(rest[i].mean == whole[4 + i].mean && rest[i].mean != whole[i].mean);
    sl_close(ctx);
    unlink(file);
}

/* What a run that diverges says is about the network, not about what watches it: the sums of squares overflow
 * first. */
static void test_divergence(void **unused)
{
    (void)unused;
    for (int checked = 0; checked < 2; checked++) {
        net n = make(0, "relu", BATCH, sl_sgd(.rate = 1e20f), true, checked);
        sl_fit(n.model, n.data, .epochs = 3);
        const char *error = sl_error(n.ctx) ? sl_error(n.ctx) : "";
        if (!strstr(error, checked ? "(softmax_cross_entropy_mean)" : "node 'first")) fail_msg("%s", error);
        expect_error(n.ctx, SL_NOT_FINITE, "node");
        sl_close(n.ctx);
    }
}

/* Learned parameters are read like weights, one for a layer or one for each unit. */
static void test_learned_parameters(void **unused)
{
    (void)unused;
    const char *const names[] = {"swish(learn)", "prelu(0.25, channel)"};
    const int64_t counts[] = {1, UNITS};
    for (int a = 0; a < 2; a++) {
        net n = make(0, names[a], 20, sl_adam(.rate = 0.01f), false, false);
        sl_parameter_info info;
        float value[UNITS];
        int found = 0;
        sl_fit(n.model, n.data, .epochs = 1);
        for (int i = 0; sl_model_parameter(n.model, i, &info); i++) {
            if (strstr(info.name, "weight") || strstr(info.name, "bias")) continue;
            assert_true(info.learned && info.shape.n == 1 && info.shape.dim[0] == counts[a]);
            assert_true(sl_model_get(n.model, info.name, value, counts[a]) == SL_OK);
            for (int u = 0; u < counts[a]; u++) {
                const double start = a == 0 ? 1 : 0.25;
                assert_true((double)value[u] != start);
                assert_near((double)value[u], start, 0.1);
            }
            found++;
        }
        assert_int_equal(found, 1);
        sl_close(n.ctx);
    }
}

/* Units that a bias kills or saturates show. */
static void test_images(void **unused)
{
    (void)unused;
    sl_context *ctx = open_device(0);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), "dense20 tanh dense30 relu dense10", SL_TANH,
                               (sl_init){0});
    sl_model *m = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = 32,
                             .optimizer = sl_sgd(.rate = SL_ZERO), .diagnose = true);
    /* a strongly negative bias kills 10 of the 30 relu units; a strongly positive one saturates half of the
     * tanh units */
    float b1[20] = {0}, b2[30] = {0};
    for (int i = 0; i < 10; i++) b1[i] = 20, b2[i] = -100;
    sl_model_set(m, "dense1.bias", b1, 20);
    sl_model_set(m, "dense2.bias", b2, 30);
    sl_fit(m, sl_digits(ctx, 1, SL_TRAIN, 96), .epochs = 1);
    assert_ok(ctx);
    sl_diagnosis d[6];
    int n = 0;
    while (n < 6 && sl_model_diagnosis(m, n, &d[n])) n++;
    assert_int_equal(n, 5); /* three weights, two activations */
    for (int i = 0; i < 3; i++)
        assert_true(!d[i].is_activation && d[i].gradient_norm > 0 && isfinite(d[i].gradient_norm));
    assert_string_equal(d[0].name, "dense1.weight");
    assert_true(d[3].is_activation && d[4].is_activation);
    assert_true(d[3].active > 0.4 && d[3].active < 0.51); /* the saturated half passes no gradient */
    assert_true(d[3].mean > 0.4 && d[3].deviation > 0 && d[3].deviation < 1);
    assert_true(d[4].dead >= 10 / 30.0 - 1e-6 && d[4].dead < 0.9);
    assert_true(d[4].active <= 1 - d[4].dead + 1e-6);
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activations), cmocka_unit_test(test_steps),
        cmocka_unit_test(test_weights),     cmocka_unit_test(test_training_is_the_same),
        cmocka_unit_test(test_resumed),     cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_images),      cmocka_unit_test(test_learned_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
