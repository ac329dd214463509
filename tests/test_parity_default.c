/* CUDA in its default mode against double precision and against the CPU: the gradients of whole networks at
 * equal weights, the losses of 50 steps, the accuracy in the end. Weights are not compared: Adam's first step
 * is ±rate even where the gradient is rounding noise. */
#include "check.h"
#include "cuda_device.h"

#include "graph/graph.h"
#include "slope/layers.h"

enum { BATCH = 8, WIDE_BATCH = 64, PIXELS = 28 * 28, MOST_PARAMETERS = 32 };

static bool simulated;
static const sl_open_options cpu = {.device = SL_CPU, .seed = 11},
                             twice = {.device = SL_REFERENCE, .seed = 11};
static const struct {
    const char *name;
    sl_open_options open;
    double gradient; /* how far off a gradient may be, as a part of its tensor's largest element */
} modes[] = {
    {"fp32", {.device = SL_CUDA, .seed = 11}, 5e-5},
    {"tf32", {.device = SL_CUDA, .seed = 11, .precision = SL_TF32}, 2e-3},   /* 11 bits per factor */
    {"bf16", {.device = SL_CUDA, .seed = 11, .precision = SL_BF16}, 1.6e-2}, /* 8 bits */
};
enum { FP32, TF32, BF16, MODES };
/* How far off the losses may be. Batch norm over 8 samples makes rounding grow: after 50 steps of cnn,
 * float32 and double precision on the CPU differ by 8e-3, those of the others by 6e-8. */
#define MEAN_POOL_LENET "conv5-8 act avgpool2 conv5-16 act avgpool2 dense10"
#define MEAN_POOL_CNN   "conv3-32 act conv3-64 act avgpool2 dense128 act dense10"
static const struct {
    const char *line;
    int batch; /* of the gradients */
    double loss[MODES];
    /* For the gradients of rounded products: where they lie close together, rounding decides which of four
     * pixels is the largest, and the gradient goes another way. */
    const char *smooth;
} nets[] = {
    {"softmax", BATCH, {1e-5, 3e-3, 2.4e-2}, NULL},
    {"mlp", BATCH, {1e-5, 3e-3, 2.4e-2}, NULL},
    {"lenet", BATCH, {1e-5, 1e-2, 8e-2}, MEAN_POOL_LENET},
    {"cnn", BATCH, {5e-2, 1.5e-1, 3e-1}, MEAN_POOL_CNN},
    {"dense2048 act dense2048 act dense10", WIDE_BATCH, {0}, NULL}, /* large; not trained */
};
enum { NETS = sizeof nets / sizeof *nets };

/* --- gradients --- */

typedef struct gradients {
    int n;
    double *values[MOST_PARAMETERS];
    int64_t count[MOST_PARAMETERS];
    char name[MOST_PARAMETERS][64];
    double loss, most; /* the largest of all */
} gradients;

static gradients gradients_of(const char *line, int batch, const sl_open_options *open)
{
    gradients result = {0};
    sl_context *ctx = sl_open_with(open);
    assert_ok(ctx);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "image", 28, 28, 1), *label = sl_labels(g, "label");
    sl_node *loss = sl_softmax_cross_entropy(
        sl_model_line(x, line, sl_activation_parse(ctx, "swish"), (sl_init){0}), label);
    sl_node *wrt[MOST_PARAMETERS], *roots[MOST_PARAMETERS + 1] = {loss};
    for (int id = 0; id < g->n; id++) {
        const sl_variable *v = g->nodes[id]->variable;
        if (!v || v->kind != SL_VARIABLE_PARAMETER) continue;
        assert_true(result.n < MOST_PARAMETERS);
        snprintf(result.name[result.n], sizeof *result.name, "%s", v->name);
        wrt[result.n++] = g->nodes[id];
    }
    sl_gradients(loss, wrt, result.n, roots + 1);
    assert_ok(ctx);
    sl_plan *plan = sl_plan_new(roots, result.n + 1, &(sl_plan_options){.batch = batch, .training = true});
    sl_dataset *digits = sl_digits(ctx, 5, SL_TRAIN, batch);
    static float pixels[WIDE_BATCH * PIXELS];
    int32_t labels[WIDE_BATCH];
    for (int i = 0; i < batch; i++) labels[i] = sl_dataset_sample(digits, i, pixels + i * PIXELS);
    sl_plan_set(plan, x, pixels, batch * PIXELS);
    sl_plan_set_int(plan, label, labels, batch);
    sl_plan_run(plan);
    sl_plan_get_double(plan, loss, &result.loss, 1);
    for (int i = 0; i < result.n; i++) {
        result.count[i] = sl_shape_count(wrt[i]->shape);
        result.values[i] = calloc((size_t)result.count[i], sizeof(double));
        sl_plan_get_double(plan, roots[i + 1], result.values[i], result.count[i]);
        for (int64_t k = 0; k < result.count[i]; k++)
            result.most = fmax(result.most, fabs(result.values[i][k]));
    }
    assert_ok(ctx);
    sl_close(ctx);
    return result;
}

static void gradients_free(gradients *g)
{
    for (int i = 0; i < g->n; i++) free(g->values[i]);
}

/* The largest difference, as a part of the tensor's largest element; the gradient of a bias in front of batch
 * norm is zero but for rounding, so there is a floor. */
static double distance(const gradients *a, const gradients *b, int i)
{
    double scale = 0.1 * b->most, most = 0;
    for (int64_t k = 0; k < b->count[i]; k++) scale = fmax(scale, fabs(b->values[i][k]));
    for (int64_t k = 0; k < b->count[i]; k++) {
        const double d = fabs(a->values[i][k] - b->values[i][k]) / scale;
        if (!(d <= most)) most = d; /* NaN is far off */
    }
    return most;
}

static void test_gradients(void **state)
{
    (void)state;
    for (int l = 0; l < NETS; l++) {
        for (int m = 0; m < MODES; m++) {
            const char *line = m == FP32 || !nets[l].smooth ? nets[l].line : nets[l].smooth;
            gradients want = gradients_of(line, nets[l].batch, &twice);
            assert_true(want.most > 1e-3);
            gradients seen = gradients_of(line, nets[l].batch, &modes[m].open);
            double most = 0;
            assert_int_equal(seen.n, want.n);
            for (int i = 0; i < want.n; i++) {
                const double d = distance(&seen, &want, i);
                most = fmax(most, d);
                if (!(d <= modes[m].gradient))
                    fail_msg("%s, %s: the gradient of %s is off by %.3g of its largest element", line,
                             modes[m].name, want.name[i], d);
            }
            print_message("%s, %s: gradients off by %.2g at most, the loss by %.2g\n", line, modes[m].name,
                          most, fabs(seen.loss - want.loss) / want.loss);
            if (!(fabs(seen.loss - want.loss) <= modes[m].gradient * want.loss))
                fail_msg("%s, %s: loss %.9g instead of %.9g", line, modes[m].name, seen.loss, want.loss);
            gradients_free(&seen);
            gradients_free(&want);
        }
    }
}

/* --- losses --- */

enum { EPOCHS = 10 };
typedef struct losses {
    double of[EPOCHS];
    int n;
} losses;

static void note(void *data, const sl_epoch *epoch)
{
    losses *l = data;
    if (l->n < EPOCHS) l->of[l->n++] = epoch->train.loss;
}

static sl_model *compile(sl_context *ctx, const char *line, int optimizer)
{
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), line, SL_RELU, (sl_init){0});
    sl_model *model = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = BATCH,
                                 .optimizer = {.row = optimizer});
    assert_ok(ctx);
    return model;
}

/* Means over 5 steps each. Gradient descent without momentum, so that rounding noise stays what it is. */
static losses losses_of(const char *line, const sl_open_options *open)
{
    losses result = {{0}, 0};
    sl_context *ctx = sl_open_with(open);
    assert_ok(ctx);
    sl_model *model = compile(ctx, line, SL_OPTIMIZER_SGD);
    sl_fit(model, sl_digits(ctx, 5, SL_TRAIN, 5 * BATCH), .epochs = EPOCHS, .on_epoch = note,
           .data = &result);
    assert_ok(ctx);
    assert_int_equal(sl_model_step(model), 50);
    sl_close(ctx);
    return result;
}

static void test_losses(void **state)
{
    (void)state;
    for (int l = 0; l < NETS && nets[l].loss[FP32] > 0; l++) {
        const losses want = losses_of(nets[l].line, &cpu);
        assert_true(want.of[EPOCHS - 1] < 0.95 * want.of[0]); /* it learns */
        for (int m = 0; m < MODES; m++) {
            /* There 50 steps of cnn take 20 s; its gradients are compared in every mode. */
            if (simulated && m != FP32 && nets[l].loss[m] > 0.1) continue;
            const losses seen = losses_of(nets[l].line, &modes[m].open);
            double most = 0;
            for (int e = 0; e < EPOCHS; e++) {
                const double d = fabs(seen.of[e] - want.of[e]) / want.of[e];
                most = fmax(most, d);
                if (!(d <= nets[l].loss[m]))
                    fail_msg("%s, %s: the loss of steps %d to %d is %.9g, on the CPU %.9g", nets[l].line,
                             modes[m].name, 5 * e + 1, 5 * e + 5, seen.of[e], want.of[e]);
            }
            print_message("%s, %s: losses off by %.2g at most\n", nets[l].line, modes[m].name, most);
        }
    }
}

/* --- accuracy --- */

static double accuracy_on(const sl_open_options *open)
{
    sl_context *ctx = sl_open_with(open);
    assert_ok(ctx);
    sl_model *model = compile(ctx, "mlp", SL_OPTIMIZER_ADAM);
    const sl_epoch epoch = sl_fit(model, sl_digits(ctx, 5, SL_TRAIN, 2000), .epochs = 3,
                                  .validation = sl_digits(ctx, 5, SL_TEST, 1000));
    assert_ok(ctx);
    sl_close(ctx);
    return epoch.validation.accuracy;
}

static void test_accuracy(void **state)
{
    (void)state;
    const double want = accuracy_on(&cpu);
    /* At this batch no product of mlp is large enough to be rounded; test_cuda_tensor trains some that are.
     */
    for (int m = 0; m < (simulated ? 1 : MODES); m++) {
        const double seen = accuracy_on(&modes[m].open);
        print_message("mlp, %s: %.1f %% of unseen digits, on the CPU %.1f %%\n", modes[m].name, 100 * seen,
                      100 * want);
        assert_true(want > 0.9);
        if (!(seen >= want - 0.015))
            fail_msg("%s: accuracy %.3f, on the CPU %.3f", modes[m].name, seen, want);
    }
}

int main(void)
{
    const int none = find_cuda_device(&simulated);
    if (none) return none;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_accuracy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
