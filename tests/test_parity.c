/* CUDA against the CPU, on a real device or the simulated one: the same bytes in exact mode, close to double
 * precision in default mode. The simulated device runs its threads and blocks in three orders. */
#include "every_case.h"

#include "check.h"
#include "cuda_device.h"

static const char *const orders[] = {"forward", "reverse", "shuffled"};
static bool simulated;

static const sl_open_options cpu = {.device = SL_CPU, .threads = 1},
                             exact = {.device = SL_CUDA, .exact = true}, plain = {.device = SL_CUDA},
                             tf32 = {.device = SL_CUDA, .precision = SL_TF32};

static void check_exact(const op_case *c, int valid)
{
    case_result expected = case_collect(c, NULL, &cpu, NULL, valid);
    for (int i = 0; i < (simulated ? 3 : 1); i++) {
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

static void check_default(const op_case *c, int valid)
{
    case_result twice = case_collect(c, NULL, &(sl_open_options){.device = SL_REFERENCE}, NULL, valid);
    case_result result = case_collect(c, NULL, &plain, NULL, valid);
    case_close_to(c, &result, &twice, 5e-6);
    case_result_free(&result);
    result = case_collect(c, NULL, &tf32, NULL, valid);
    case_close_to(c, &result, &twice, 4e-3); /* 11 bits per factor */
    case_result_free(&result);
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
}

static void test_samples_default(void **state)
{
    (void)state;
    case_every_sample(check_default);
}

int main(void)
{
    const int none = find_cuda_device(&simulated);
    if (none) return none;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_exact),   cmocka_unit_test(test_rows_exact),
        cmocka_unit_test(test_samples_guarded), cmocka_unit_test(test_rows_guarded),
        cmocka_unit_test(test_samples_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
