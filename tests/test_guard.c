/* Tests of the tests: faults planted into kernels that a guarded run must catch. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

#include "graph/graph.h"

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* --- faulty kernels of exp --- */

static void good_exp(const sl_call *call, int64_t n)
{
    const float *x = call->in[0].data;
    float *y = call->out[0].data;
    for (int64_t i = 0; i < n; i++) y[i] = expf(x[i]);
}

static void forgets_the_tail(const sl_call *call)
{
    good_exp(call, sl_shape_count(call->out[0].shape) / 4 * 4);
}

static volatile float sink;

static void reads_the_neighbour(const sl_call *call)
{
    const int64_t n = sl_shape_count(call->out[0].shape);
    good_exp(call, n);
    sink = ((const float *)call->in[0].data)[n];
}

/* The second call reads what the first one read: by then that tensor's life is over. */
static void reads_the_dead(const sl_call *call)
{
    static const float *first;
    good_exp(call, sl_shape_count(call->out[0].shape));
    if (first)
        sink = first[0];
    else
        first = call->in[0].data;
}

static const sl_kernel *planted;
static const sl_kernel *const *with_planted(sl_device *device)
{
    static const sl_kernel *all[64];
    int n = 0;
    all[n++] = planted;
    for (const sl_kernel *const *family = sl_backend_cpu.kernels(device); *family && n < 63; family++)
        all[n++] = *family;
    all[n] = NULL;
    return all;
}

static sl_status run_with(void (*kernel)(const sl_call *call), bool guarded, bool checked, bool report)
{
    const sl_kernel list[] = {{SL_OP_EXP, "faulty", NULL, NULL, kernel}, {0}};
    planted = list;
    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_backend backend = *ctx->backend;
    backend.kernels = with_planted;
    ctx->backend = &backend;
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 7), *a = sl_scale(x, 2, 0), *b = sl_exp(a),
            *c = sl_exp(sl_scale(b, 0.1, 0)), *y = sl_square(c);
    if (guarded) setenv("SLOPE_GUARD", "1", 1);
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = 1, .checked = checked});
    unsetenv("SLOPE_GUARD");
    sl_plan_set(plan, x, (float[]){1, 2, 3, 4, 5, 6, 7}, 7);
    const sl_status status = sl_plan_run(plan);
    if (report && sl_error(ctx)) assert_non_null(strstr(sl_error(ctx), "element 4 of 1×7 is NaN"));
    ctx->backend = &sl_backend_cpu;
    sl_close(ctx);
    return status;
}

static void test_unwritten_values_are_nan(void **state)
{
    (void)state;
    assert_int_equal(run_with(forgets_the_tail, true, true, true), SL_NOT_FINITE);
}

/* In a process of its own, because AddressSanitizer ends it. */
static bool survives(void (*kernel)(const sl_call *call), bool guarded)
{
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(3);
        _exit(run_with(kernel, guarded, false, false) == SL_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_overrun(void **state)
{
    (void)state;
    if (!SANITIZED) skip();
    assert_false(survives(reads_the_neighbour, true));
}

static void test_read_after_last_use(void **state)
{
    (void)state;
    if (!SANITIZED) skip();
    assert_true(survives(reads_the_dead, false)); /* one arena hides it from the sanitizer */
    assert_false(survives(reads_the_dead, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unwritten_values_are_nan),
        cmocka_unit_test(test_overrun),
        cmocka_unit_test(test_read_after_last_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
