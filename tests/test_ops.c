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
        cmocka_unit_test(test_parity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
