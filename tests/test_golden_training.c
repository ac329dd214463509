/* Training agrees with PyTorch: batch norm's running statistics, the paths of the optimisers, penalties,
 * clipping and schedules, on the reference device (double) and on the CPU (single). */
#include "golden_file.h"
#include "nn/model.h"

/* A model fuses what it can; which kernels it takes can be said from outside. */
static sl_context *open_device(const setting *s)
{
    if (s->reference_kernels)
        setenv("SLOPE_REFERENCE_KERNELS", "1", 1);
    else
        unsetenv("SLOPE_REFERENCE_KERNELS");
    where = s->name;
    return sl_open(.device = s->device, .threads = s->threads);
}

/* One step of sl_fit: batch norm's statistics, weights and biases after it. The batch is larger than the data
 * set, so the rows that do not count are there too. */
static void step_of_norm(const char *name, const setting *s)
{
    sl_context *ctx = open_device(s);
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
        if (settings[s].no_fuse) continue;
        step_of_norm("step of norm", &settings[s]);
        step_of_norm("step of norm rows", &settings[s]);
    }
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
    sl_context *ctx = open_device(s);
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
        if (!settings[s].no_fuse)
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
        if (settings[s].no_fuse) continue;
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
        if (settings[s].no_fuse) continue;
        const sl_optimizer sgd = optimizer(SL_OPTIMIZER_SGD, 0.1f, 0);
        const trajectory norm = train(&settings[s], sgd, 0, 0.3f, 0);
        compare_trajectory("clip norm", "", &settings[s], &norm);
        const trajectory adam = train(&settings[s], optimizer(SL_OPTIMIZER_ADAM, 0.01f, 0.1f), 0.1f, 0.3f, 0);
        compare_trajectory("clip norm adam", "", &settings[s], &adam);
        const trajectory value = train(&settings[s], sgd, 0, 0, 0.05f);
        compare_trajectory("clip value", "", &settings[s], &value);
        const trajectory both = train(&settings[s], sgd, 0.1f, 0, 0.05f);
        compare_trajectory("clip value", " l2", &settings[s], &both);
    }
    close_file();
}

/* A loss w·mean(x) with x = 1 has slope 1 in w, so each step of SGD takes off the learning rate: w tells the
 * sum of the rates in the device's precision. `steps` of them make an epoch. */
static void check_schedule(const char *name, const setting *s, sl_schedule schedule, int steps)
{
    sl_context *ctx = open_device(s);
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
        if (settings[s].no_fuse) continue;
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
        cmocka_unit_test(test_running_statistics),
        cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_penalty),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
