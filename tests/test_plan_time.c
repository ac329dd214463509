/* sl_plan_time: every call once, in order, with its work; and the plan runs as before. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <slope/slope.h>

enum { BATCH = 3, MOST = 16 };

static void counts_the_work(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = 1);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *x = sl_input(graph, "x", 6, 5, 2);
    sl_node *y =
        sl_dense(sl_conv2d(x, .filters = 4, .kernel = 3, .pad = 1, .activation = SL_RELU), .units = 7);
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = BATCH});
    float values[BATCH * 60], before[BATCH * 7], after[BATCH * 7];
    for (int i = 0; i < BATCH * 60; i++) values[i] = (float)(i % 11) - 5;
    sl_plan_set(plan, x, values, BATCH * 60);
    sl_plan_run(plan);
    sl_plan_get(plan, y, before, BATCH * 7);
    sl_call_time calls[MOST] = {{0}};
    const int n = sl_plan_describe(plan).calls;
    assert_true(n >= 2 && n < MOST);
    assert_int_equal(sl_plan_time(plan, 3, calls), SL_OK);
    assert_string_equal(calls[0].operation, "conv2d_bias_activation");
    assert_string_equal(calls[n - 1].operation, "matmul_bias_activation");
    for (int i = 0; i < n; i++) {
        assert_true(calls[i].seconds > 0 && calls[i].seconds < 60);
        assert_true(calls[i].node && calls[i].kernel);
    }
    assert_null(calls[n].operation);
    /* taps that fall on the image: 3 a row or column, 2 at each end */
    assert_true(calls[0].flops == 2.0 * BATCH * (6 * 3 - 2) * (5 * 3 - 2) * 2 * 4);
    assert_true(calls[n - 1].flops == 2.0 * BATCH * 120 * 7);
    assert_true(calls[0].bytes == 4.0 * (BATCH * 60 + 3 * 3 * 2 * 4 + 4 + BATCH * 120));
    assert_true(calls[n - 1].bytes == 4.0 * (BATCH * 120 + 120 * 7 + 7 + BATCH * 7));
    sl_plan_run(plan);
    sl_plan_get(plan, y, after, BATCH * 7);
    assert_null(sl_error(ctx));
    assert_memory_equal(before, after, sizeof before);
    sl_close(ctx);
}

/* x·x reads x once. */
static void counts_an_input_once(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = 1);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *x = sl_input(graph, "x", 8), *y = sl_mul(x, x);
    sl_call_time call;
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = BATCH});
    assert_int_equal(sl_plan_time(plan, 1, &call), SL_OK);
    assert_true(call.bytes == 4.0 * 2 * BATCH * 8);
    assert_true(call.flops == 0);
    sl_close(ctx);
}

static void refuses(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = 1);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *x = sl_input(graph, "x", 8), *y = sl_exp(x);
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = BATCH});
    sl_call_time call;
    assert_int_equal(sl_plan_time(NULL, 1, &call), SL_ARGUMENT);
    assert_int_equal(sl_plan_time(plan, 1, NULL), SL_ARGUMENT);
    assert_null(sl_error(ctx));
    assert_int_equal(sl_plan_time(plan, 0, &call), SL_ARGUMENT);
    assert_non_null(sl_error(ctx));
    sl_clear_error(ctx);
    sl_close(ctx);

    setenv("SLOPE_GUARD", "1", 1);
    ctx = sl_open(.device = SL_CPU, .threads = 1);
    graph = sl_graph_new(ctx);
    y = sl_exp(sl_input(graph, "x", 8));
    plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = BATCH});
    assert_int_equal(sl_plan_time(plan, 1, &call), SL_UNSUPPORTED);
    sl_close(ctx);
    unsetenv("SLOPE_GUARD");
}

int main(void)
{
    unsetenv("SLOPE_GUARD"); /* a guarded plan has no calls that could be repeated by themselves */
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_the_work),
                                       cmocka_unit_test(counts_an_input_once), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
