/* Generated from activations.def: each row as an operation, fixed, learned and learned per channel, alone and
 * behind a dense layer and a convolution: gradients in double, kernels against each other, fused against
 * unfused. */
#include "every_case.h"
#include "slope/layers.h"

static void check_gradient(const op_case *c, int valid)
{
    const sl_activation_attr *attr = c->attr;
    if (attr->id != SL_ROW_STEP_STE) case_check_gradient(c, valid); /* its slope is a surrogate */
}

static void test_gradients(void **state)
{
    (void)state;
    case_every_row(check_gradient);
    case_every_formula(check_gradient);
}

static void test_parity(void **state)
{
    (void)state;
    case_every_row(case_check_parity);
    case_every_formula(case_check_parity);
}

/* Which layer: with a row, or with an expression and perhaps batch norm. */
typedef struct layer {
    int row;
    sl_learn learn;
    const char *expression;
    bool conv, norm;
} layer;

static sl_node *layer_node(sl_node *x, const layer *l)
{
    sl_context *ctx = sl_node_context(x);
    const sl_activation act = l->expression ? sl_activation_from_expression(ctx, l->expression)
                                            : (sl_activation){.row = l->row, .learn = l->learn};
    const sl_activation direct = l->norm ? SL_LINEAR : act;
    sl_node *y = l->conv ? sl_conv2d(x, .filters = 5, .kernel = 3, .activation = direct)
                         : sl_dense(x, .units = 11, .activation = direct);
    return l->norm ? sl_activate(sl_batch_norm(y), act) : y;
}

/* The loss and all gradients of a layer with this activation, as bytes. */
static double *layer_results(const layer *l, const sl_plan_options *options, int threads, int *fusions,
                             int64_t *n)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 3, .threads = threads);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 6, 5, 3);
    sl_node *loss = sl_mean(sl_square(layer_node(x, l))), *wrt[12], *roots[13];
    int count = 0;
    for (int id = 0; id < g->n; id++)
        if (g->nodes[id]->variable && g->nodes[id]->variable->kind == SL_VARIABLE_PARAMETER)
            wrt[count++] = g->nodes[id];
    wrt[count++] = x;
    if (sl_gradients(loss, wrt, count, roots + 1) != SL_OK) fail_msg("%s", sl_error(ctx));
    roots[0] = loss;
    sl_plan_options o = *options;
    o.batch = 5;
    o.training = true;
    sl_plan *plan = sl_plan_new(roots, count + 1, &o);
    if (!plan) fail_msg("%s", sl_error(ctx));
    *fusions = sl_plan_describe(plan).fusions;
    double input[5 * 90], *all = calloc(100000, sizeof *all);
    for (int i = 0; i < 5 * 90; i++) input[i] = (float)case_random(5, i);
    sl_plan_set_double(plan, x, input, 5 * 90);
    sl_plan_set_valid(plan, 4);
    if (sl_plan_run(plan) != SL_OK) fail_msg("%s", sl_error(ctx));
    *n = 0;
    for (int i = 0; i <= count; i++) {
        const int64_t size = sl_shape_count(roots[i]->shape) * (sl_batched(roots[i]) ? 5 : 1);
        assert_int_equal(sl_plan_get_double(plan, roots[i], all + *n, size), SL_OK);
        *n += sl_batched(roots[i]) ? size / 5 * 4 : size;
    }
    sl_close(ctx);
    return all;
}

static void compare_fused(const layer *l, const char *name, int expected)
{
    int fusions = 0, none = 0;
    int64_t n, m;
    double *fused = layer_results(l, &(sl_plan_options){0}, 2, &fusions, &n);
    double *plain =
        layer_results(l, &(sl_plan_options){.no_fuse = true, .reference_kernels = true}, 1, &none, &m);
    assert_int_equal(none, 0);
    if (fusions != expected) fail_msg("%s: %d fusions, expected %d", name, fusions, expected);
    assert_int_equal(n, m);
    for (int64_t i = 0; i < n; i++)
        if (!(fused[i] == plain[i] && signbit(fused[i]) == signbit(plain[i])))
            fail_msg("%s (%s): element %lld: fused %.9g, unfused %.9g", name, l->conv ? "conv2d" : "dense",
                     (long long)i, fused[i], plain[i]);
    free(fused);
    free(plain);
}

static void test_fused_equals_unfused(void **state)
{
    (void)state;
    for (int row = 1; row < sl_activation_count(); row++)
        for (int kind = 0; kind < 4; kind++) {
            const sl_activation_info *info = sl_activation_row_info(row);
            const bool learnable = info->n_parameters > 0 && info->parameter[0].learnable;
            const sl_learn learn = !learnable ? SL_LEARN_DEFAULT : kind / 2 ? SL_LEARN_PER_CHANNEL : SL_LEARN;
            /* product + bias + activation, and slope + bias gradient */
            compare_fused(&(layer){.row = row, .learn = learn, .conv = kind % 2}, info->name, 2);
        }
}

static void test_fused_formulas(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int fusions, with_norm;
    } cases[] = {
        {"x*sigmoid(x)", 2, 2}, /* product + bias, norm + activation */
        {"max(x, a*x); a=0.1 learn", 2, 1},
        {"x*sigmoid(b*x) + c*x; b=1 channel; c=0.1 learn", 2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int kind = 0; kind < 4; kind++) {
            const layer l = {.expression = cases[i].text, .conv = kind % 2, .norm = kind / 2};
            compare_fused(&l, cases[i].text, l.norm ? cases[i].with_norm : cases[i].fusions);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_parity),
        cmocka_unit_test(test_fused_equals_unfused),
        cmocka_unit_test(test_fused_formulas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
