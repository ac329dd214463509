/* CUDA against the CPU, on a real device or the simulated one: the same bytes in exact mode, close to double
 * precision in default mode. The simulated device runs its threads and blocks in three orders. Every
 * operation of ops.def and every row of activations.def has its turn. */
#include "every_case.h"

#include "check.h"
#include "cuda_device.h"
#include "slope/layers.h"

static const char *const orders[] = {"forward", "reverse", "shuffled"};
static bool simulated;

static const sl_open_options cpu = {.device = SL_CPU, .threads = 1},
                             exact = {.device = SL_CUDA, .exact = true}, plain = {.device = SL_CUDA},
                             tf32 = {.device = SL_CUDA, .precision = SL_TF32};

static int n_orders(void)
{
    return simulated ? 3 : 1;
}

static void check_exact(const op_case *c, int valid)
{
    case_result expected = case_collect(c, NULL, &cpu, NULL, valid);
    for (int i = 0; i < n_orders(); i++) {
        setenv("SLOPE_SIMT_ORDER", orders[i], 1);
        case_result result = case_collect(c, NULL, &exact, NULL, valid);
        case_same(c, simulated ? orders[i] : "CUDA", &expected, &result);
        case_result_free(&result);
    }
    unsetenv("SLOPE_SIMT_ORDER");
    case_result unfused = case_collect(c, NULL, &exact, &(sl_plan_options){.no_fuse = true}, valid);
    case_same(c, "unfused", &expected, &unfused);
    case_result_free(&unfused);
    case_result_free(&expected);
}

/* One allocation per tensor, NaN until it is written, out of reach when its life is over. */
static void check_guarded(const op_case *c, int valid)
{
    case_result expected = case_collect(c, NULL, &cpu, NULL, valid);
    setenv("SLOPE_GUARD", "1", 1);
    case_result result = case_collect(c, NULL, &exact, NULL, valid);
    unsetenv("SLOPE_GUARD");
    case_same(c, "guarded", &expected, &result);
    case_result_free(&result);
    case_result_free(&expected);
}

/* Within a bound of double precision, and the same bytes for every order of threads and blocks. */
static void check_mode(const op_case *c, int valid, const sl_open_options *mode, const case_result *twice,
                       double bound)
{
    case_result first = case_collect(c, NULL, mode, NULL, valid);
    case_close_to(c, &first, twice, bound);
    for (int i = 1; i < n_orders(); i++) {
        setenv("SLOPE_SIMT_ORDER", orders[i], 1);
        case_result result = case_collect(c, NULL, mode, NULL, valid);
        case_same(c, orders[i], &first, &result);
        case_result_free(&result);
    }
    unsetenv("SLOPE_SIMT_ORDER");
    case_result_free(&first);
}

static void check_default(const op_case *c, int valid)
{
    case_result twice = case_collect(c, NULL, &(sl_open_options){.device = SL_REFERENCE}, NULL, valid);
    check_mode(c, valid, &plain, &twice, 5e-6);
    check_mode(c, valid, &tf32, &twice, 4e-3); /* 11 bits per factor */
    case_result_free(&twice);
}

static void test_samples_exact(void **state)
{
    (void)state;
    case_every_sample(check_exact);
}

static void test_rows_exact(void **state)
{
    (void)state;
    case_every_row(check_exact);
    case_every_formula(check_exact);
}

static void test_samples_guarded(void **state)
{
    (void)state;
    case_every_sample(check_guarded);
}

static void test_rows_guarded(void **state)
{
    (void)state;
    case_every_row(check_guarded);
    case_every_formula(check_guarded);
}

static void test_samples_default(void **state)
{
    (void)state;
    case_every_sample(check_default);
}

static void test_rows_default(void **state)
{
    (void)state;
    case_every_row(check_default);
    case_every_formula(check_default);
}

/* --- what no sample reaches --- */

static void test_random_numbers(void **state)
{
    (void)state;
    for (int kind = SL_RANDOM_UNIFORM; kind <= SL_RANDOM_NORMAL; kind++)
        for (int64_t n = 1; n < 20000; n = 11 * n + 3) {
            const sl_random_attr attr = {.kind = (sl_random_kind)kind,
                                         .low = -0.3,
                                         .high = 0.9,
                                         .seed = 77,
                                         .stream = 5,
                                         .shape = {1, {n}}};
            check_exact(&(op_case){SL_OP_RANDOM, &attr, 0, NULL, "random"}, CASE_BATCH);
        }
}

/* A bias without a product in front of it, so that it is fused with the activation alone. */
static double *bias_activation(const sl_open_options *options, int64_t *n)
{
    sl_context *ctx = sl_open_with(options);
    assert_ok(ctx);
    case_watch(ctx);
    sl_graph *g = sl_graph_new(ctx);
    const int64_t dims[SL_MAX_DIMS] = {3, 7};
    sl_node *x = sl_input_dims(g, "x", dims);
    sl_node *b = sl_parameter(g, "b", sl_shape_of(1, (int64_t[]){7}), .init = {SL_INIT_UNIFORM, 1});
    sl_node *roots[3] = {sl_sum(sl_square(sl_activate(sl_bias(x, b), SL_GELU)))};
    sl_gradients(roots[0], (sl_node *[]){x, b}, 2, roots + 1);
    sl_plan *plan = sl_plan_new(roots, 3, &(sl_plan_options){.batch = 5, .training = true});
    double in[5 * 21], *out = calloc(1 + 5 * 21 + 7, sizeof *out);
    for (int i = 0; i < 5 * 21; i++) in[i] = (float)case_random(3, i);
    sl_plan_set_double(plan, x, in, 5 * 21);
    sl_plan_run(plan);
    sl_plan_get_double(plan, roots[0], out, 1);
    sl_plan_get_double(plan, roots[1], out + 1, 5 * 21);
    sl_plan_get_double(plan, roots[2], out + 1 + 5 * 21, 7);
    assert_ok(ctx);
    sl_close(ctx);
    *n = 1 + 5 * 21 + 7;
    return out;
}

static void test_bias_and_activation(void **state)
{
    (void)state;
    int64_t n;
    double *expected = bias_activation(&cpu, &n);
    for (int i = 0; i < n_orders(); i++) {
        setenv("SLOPE_SIMT_ORDER", orders[i], 1);
        double *seen = bias_activation(&exact, &n);
        assert_memory_equal(seen, expected, (size_t)n * sizeof *seen);
        free(seen);
    }
    unsetenv("SLOPE_SIMT_ORDER");
    free(expected);
}

/* A batch norm in training with its running statistics, which are an effect of it where fused. */
static double *tracked(const sl_open_options *options, bool no_fuse, int64_t *n)
{
    enum { SIZE = 5 * 9 * 4 };
    sl_context *ctx = sl_open_with(options);
    assert_ok(ctx);
    case_watch(ctx);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 9, 4), *y = sl_batch_norm(x);
    sl_node *track = sl_node_new(g, SL_OP_BATCH_NORM_TRACK, y->attr, 5,
                                 (sl_node *[]){y->outputs[1], y->outputs[2], y->in[3], y->in[4], x});
    sl_plan *plan = sl_plan_new((sl_node *[]){y, track}, 2,
                                &(sl_plan_options){.batch = 5, .training = true, .no_fuse = no_fuse});
    double in[SIZE], *out = calloc(SIZE + 8, sizeof *out);
    for (int i = 0; i < SIZE; i++) in[i] = (float)case_random(3, i);
    sl_plan_set_double(plan, x, in, SIZE);
    sl_plan_run(plan);
    sl_plan_get_double(plan, y, out, SIZE);
    sl_plan_get_double(plan, y->in[3], out + SIZE, 4);
    sl_plan_get_double(plan, y->in[4], out + SIZE + 4, 4);
    assert_ok(ctx);
    assert_true(out[SIZE] != 0 && out[SIZE + 4] != 1); /* the statistics have moved */
    sl_close(ctx);
    *n = SIZE + 8;
    return out;
}

static void test_tracking(void **state)
{
    (void)state;
    int64_t n;
    double *expected = tracked(&cpu, false, &n);
    for (int i = 0; i < 2 * n_orders(); i++) {
        setenv("SLOPE_SIMT_ORDER", orders[i / 2], 1);
        double *seen = tracked(&exact, i % 2, &n);
        assert_memory_equal(seen, expected, (size_t)n * sizeof *seen);
        free(seen);
    }
    unsetenv("SLOPE_SIMT_ORDER");
    free(expected);
}

/* --- the training step, whose operations have no samples --- */

typedef struct trained {
    uint64_t fingerprint;
    double train_loss, loss, accuracy, diagnosis[64];
    int n;
} trained;

/* All that a step can hold: 2 epochs of 3 steps, the last of them with fewer samples. */
static trained train(const sl_open_options *options)
{
    sl_context *ctx = sl_open_with(options);
    assert_ok(ctx);
    case_watch(ctx);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y =
        sl_model_line(sl_input(g, "image", 28, 28, 1),
                      "conv3-3s3 bn act pool2 res( conv3-3p1 act ) drop.25 avgpool2 dense9 bn act dense10",
                      sl_activation_parse(ctx, "swish(learn)"), (sl_init){0});
    sl_model *model = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = 6,
                                 .optimizer = {.row = SL_OPTIMIZER_ADAMW,
                                               .weight_decay = 0.01f,
                                               .schedule = sl_schedule_parse(ctx, "one-cycle")},
                                 .clip_norm = 1, .clip_value = 0.5f, .diagnose = true);
    sl_dataset *digits = sl_digits(ctx, 5, SL_TRAIN, 16);
    const sl_epoch epoch = sl_fit(model, digits, .epochs = 2, .validation = digits);
    trained t = {sl_model_fingerprint(model),
                 epoch.train.loss,
                 epoch.validation.loss,
                 epoch.validation.accuracy,
                 {0},
                 0};
    sl_diagnosis row;
    for (int i = 0; t.n < 60 && sl_model_diagnosis(model, i, &row); i++)
        if (row.is_activation)
            t.diagnosis[t.n++] = row.mean, t.diagnosis[t.n++] = row.deviation,
            t.diagnosis[t.n++] = row.active, t.diagnosis[t.n++] = row.dead;
        else
            t.diagnosis[t.n++] = row.gradient_norm, t.diagnosis[t.n++] = row.update_ratio;
    assert_ok(ctx);
    sl_close(ctx);
    return t;
}

static void same_training(const trained *a, const trained *b, const char *what)
{
    if (a->fingerprint != b->fingerprint) fail_msg("%s: other parameters than on the CPU", what);
    if (!(a->train_loss == b->train_loss && a->loss == b->loss && a->accuracy == b->accuracy))
        fail_msg("%s: other losses than on the CPU", what);
    assert_true(a->n == b->n && a->n > 6);
    for (int i = 0; i < a->n; i++)
        if (a->diagnosis[i] != b->diagnosis[i]) fail_msg("%s: number %d of the diagnosis differs", what, i);
}

static void test_training_exact(void **state)
{
    (void)state;
    const trained expected = train(&cpu);
    for (int i = 0; i < n_orders(); i++) {
        setenv("SLOPE_SIMT_ORDER", orders[i], 1);
        const trained t = train(&exact);
        same_training(&expected, &t, orders[i]);
    }
    unsetenv("SLOPE_SIMT_ORDER");
    setenv("SLOPE_GUARD", "1", 1);
    const trained t = train(&exact);
    unsetenv("SLOPE_GUARD");
    same_training(&expected, &t, "guarded");
}

/* Must be the last: what the tests before it have run. */
static void test_nothing_is_left_out(void **state)
{
    (void)state;
    int missing = 0;
    for (int op = 0; op < SL_OP_COUNT; op++) {
        const bool cpu_alone =
            op == SL_OP_CONV2D_BIAS_ACTIVATION_POOL || op == SL_OP_POOL_ACTIVATION_VJP_BIAS;
        if (sl_op_flags((sl_op)op) & (SL_FLAG_LEAF | SL_FLAG_VIEW) || case_ran.op[op] || cpu_alone) continue;
        if (op == SL_OP_CUSTOM) continue; /* tests/test_cuda_custom.cu */
        print_error("%s never ran\n", sl_op_name((sl_op)op));
        missing++;
    }
    for (int row = 0; row <= SL_ROW_COUNT; row++) {
        if (case_ran.row[row] && case_ran.slope[row]) continue;
        print_error("%s: %s never ran\n", row < SL_ROW_COUNT ? sl_activation_row_info(row)->name : "formula",
                    case_ran.row[row] ? "the slope" : "the function");
        missing++;
    }
    assert_int_equal(missing, 0);
}

int main(void)
{
    const int none = find_cuda_device(&simulated);
    if (none) return none;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_exact),
        cmocka_unit_test(test_rows_exact),
        cmocka_unit_test(test_samples_guarded),
        cmocka_unit_test(test_rows_guarded),
        cmocka_unit_test(test_samples_default),
        cmocka_unit_test(test_rows_default),
        cmocka_unit_test(test_random_numbers),
        cmocka_unit_test(test_bias_and_activation),
        cmocka_unit_test(test_tracking),
        cmocka_unit_test(test_training_exact),
        cmocka_unit_test(test_nothing_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
