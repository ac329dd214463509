/* Generated from ops.def and the sample cases of src/ops: every operation's gradient against central
 * differences in double, and its kernels against each other. */
#include "every_case.h"

static void test_gradients(void **state)
{
    (void)state;
    case_every_sample(case_check_gradient);
}

static void test_parity(void **state)
{
    (void)state;
    case_every_sample(case_check_parity);
}

/* A derivative alone is what it is beside the values. */
static void check_alone(const op_case *c, int valid)
{
    if (!sl_rules(c->op)->vjp) return;
    const sl_open_options device = {.device = SL_CPU, .threads = 1};
    case_result all = case_collect(c, NULL, &device, NULL, valid), rest = all;
    case_derivatives_alone = true;
    case_result alone = case_collect(c, NULL, &device, NULL, valid);
    case_derivatives_alone = false;
    rest.n = alone.n;
    for (int i = 0; i < alone.n; i++) {
        rest.values[i] = all.values[all.n - alone.n + i];
        rest.count[i] = all.count[all.n - alone.n + i];
    }
    case_same(c, "derivatives alone", &rest, &alone);
    case_result_free(&alone);
    case_result_free(&all);
}

static void test_derivatives_alone(void **state)
{
    (void)state;
    case_every_sample(check_alone);
}

/* An operation that can be trained through has samples; one that cannot says so by having no vjp. */
static void test_every_rule_is_tested(void **state)
{
    (void)state;
    for (int op = 0; op < SL_OP_COUNT; op++) {
        const sl_op_rules *rules = sl_rules((sl_op)op);
        /* tests/test_activation_ops.c, tests/test_custom.c */
        const bool from_table = op == SL_OP_ACTIVATION || op == SL_OP_CUSTOM;
        if (rules->vjp && !from_table && !(rules->samples && rules->samples[0].n_in > 0))
            fail_msg("%s has a derivative but no sample to test it with", sl_op_name((sl_op)op));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rule_is_tested),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_derivatives_alone),
        cmocka_unit_test(test_parity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
