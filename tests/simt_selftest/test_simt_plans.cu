/* Plans on the simulated device: faults planted into a kernel and what catches them; the errors of opening.
 */
#include "simt_case.h"

static const sl_kernel *planted;
static const sl_kernel *const *with_planted(sl_device *device)
{
    static const sl_kernel *all[64];
    int n = 0;
    (void)device;
    all[n++] = planted;
    for (const sl_kernel *const *family = sl_cuda_table; *family && n < 63; family++) all[n++] = *family;
    all[n] = nullptr;
    return all;
}

typedef struct outcome {
    sl_status status;
    std::string text;
    std::vector<float> last; /* the output of the last run */
    float first;
} outcome;

/* y = (exp(0.1·exp(2·x)))², twice through a planted kernel of exp. */
static outcome run_with(void (*kernel)(const sl_call *call), bool guarded, bool checked, int runs)
{
    const sl_kernel list[] = {{SL_OP_EXP, "faulty", nullptr, nullptr, kernel}, {}};
    planted = list;
    sl_open_options open = {};
    open.device = SL_CUDA;
    open.exact = true;
    sl_context *ctx = sl_open_with(&open);
    assert_null(sl_error(ctx));
    const sl_backend *backend = ctx->backend;
    sl_backend copy = *backend;
    copy.kernels = with_planted;
    ctx->backend = &copy;
    sl_graph *g = sl_graph_new(ctx);
    const int64_t dims[SL_MAX_DIMS] = {7};
    sl_node *x = sl_input_dims(g, "x", dims), *a = sl_scale(x, 2, 0), *b = sl_exp(a),
            *c = sl_exp(sl_scale(b, 0.1, 0)), *y = sl_square(c);
    if (guarded) setenv("SLOPE_GUARD", "1", 1);
    sl_plan_options options = {};
    options.batch = 1;
    options.checked = checked;
    sl_plan *plan = sl_plan_new(&y, 1, &options);
    unsetenv("SLOPE_GUARD");
    const float values[] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f};
    sl_plan_set(plan, x, values, 7);
    outcome result = {SL_OK, "", std::vector<float>(7), 0};
    for (int i = 0; i < runs && result.status == SL_OK; i++) {
        result.status = sl_plan_run(plan);
        sl_plan_get(plan, y, result.last.data(), 7);
        if (i == 0) result.first = result.last[0];
    }
    if (sl_error(ctx)) {
        result.text = sl_error(ctx);
        result.status = sl_error_code(ctx);
    }
    ctx->backend = backend;
    sl_close(ctx);
    return result;
}

static __global__ void exp_kernel(float *y, const float *x, int64_t n, int64_t shift, float more)
{
    sl_cuda_begin();
    for (int64_t i = sl_cuda_thread(); i < n; i += sl_cuda_threads()) y[i] = r_exp(x[i + shift]) + more;
}

static void launch_exp(const sl_call *call, int64_t n, int64_t shift, float more)
{
    SL_LAUNCH(exp_kernel, sl_cuda_grid(call, n, 32, 2), 32, 0, call, sl_out(call, 0), sl_in(call, 0), n,
              shift, more);
}

static void good(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape), 0, 0);
}

static void forgets_the_tail(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape) / 4 * 4, 0, 0);
}

static void reads_the_neighbour(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape), 1, 0);
}

static const float *first_input;
static void reads_the_dead(const sl_call *call)
{
    const int64_t n = sl_shape_count(call->out[0].shape);
    const float *from = first_input ? first_input : sl_in(call, 0);
    SL_LAUNCH(exp_kernel, 1, 32, 0, call, sl_out(call, 0), from, n, 0, 0.0f);
    first_input = sl_in(call, 0);
}

static int host_counter;
static void freezes_the_host(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape), 0, (float)host_counter++);
}

static void dereferences(const sl_call *call)
{
    good(call);
    static volatile float sink;
    sink = sl_in(call, 0)[0];
    (void)sink;
}

static void allocates(const sl_call *call)
{
    void *memory = nullptr;
    sl_cuda_note(call->device, cudaMalloc(&memory, 16), "cudaMalloc", call->name);
    good(call);
}

static void launches_nothing_valid(const sl_call *call)
{
    SL_LAUNCH(exp_kernel, 1, 2000, 0, call, sl_out(call, 0), sl_in(call, 0), 7, 0, 0.0f);
}

static bool finite(const std::vector<float> &values)
{
    for (float v : values)
        if (!(v - v == 0)) return false;
    return true;
}

static void test_good_kernel(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        for (int guarded = 0; guarded < 2; guarded++) {
            const outcome o = run_with(good, guarded, true, 2);
            assert_string_equal(o.text.c_str(), "");
            for (int i = 0; i < 7; i++) {
                const float x = 0.1f * (float)(i + 1), e = expf(0.1f * expf(2 * x));
                assert_true(fabsf(o.last[(size_t)i] - e * e) < 1e-5f);
            }
        }
        const unsigned long long before = sl_simt_launches(), graphs = sl_simt_graph_launches();
        run_with(good, false, false, 3);
        assert_int_equal(sl_simt_graph_launches() - graphs, 3); /* one launch a step */
        assert_true(sl_simt_launches() - before >= 3 * 5);
    }
}

static void test_missing_tail(void **state)
{
    (void)state;
    const outcome o = run_with(forgets_the_tail, true, true, 1);
    assert_int_equal(o.status, SL_NOT_FINITE);
    assert_true(o.text.find("element 4 of 1×7 is NaN") != std::string::npos);
    assert_true(run_with(forgets_the_tail, true, false, 1).status != SL_OK ||
                !finite(run_with(forgets_the_tail, true, false, 1).last));
}

static bool guarded_neighbour()
{
    const outcome o = run_with(reads_the_neighbour, true, false, 1);
    return o.status == SL_OK && finite(o.last);
}

static bool guarded_good()
{
    const outcome o = run_with(good, true, false, 1);
    return o.status == SL_OK && finite(o.last);
}

static void test_neighbour_tensor(void **state)
{
    (void)state;
    assert_true(survives(guarded_good));
    assert_false(survives(guarded_neighbour));
}

static bool dead_in_arena()
{
    first_input = nullptr;
    return run_with(reads_the_dead, false, false, 1).status == SL_OK;
}

static bool guarded_dead()
{
    first_input = nullptr;
    return run_with(reads_the_dead, true, false, 1).status == SL_OK;
}

static void test_read_after_last_use(void **state)
{
    (void)state;
    assert_true(survives(dead_in_arena));
    assert_false(survives(guarded_dead));
}

static void test_frozen_host_value(void **state)
{
    (void)state;
    host_counter = 0;
    const outcome frozen = run_with(freezes_the_host, false, false, 3);
    assert_int_equal(host_counter, 2); /* captured once: two calls */
    assert_true(frozen.last[0] == frozen.first);
    host_counter = 0;
    const outcome eager = run_with(freezes_the_host, true, false, 3); /* a guarded run launches each time */
    assert_int_equal(host_counter, 6);
    assert_true(eager.last[0] != eager.first); /* so the two differ, which is how it shows */
}

static bool run_good()
{
    return run_with(good, false, false, 1).status == SL_OK;
}

static bool run_dereferences()
{
    return run_with(dereferences, false, false, 1).status == SL_OK;
}

static void test_host_reads_tensor(void **state)
{
    (void)state;
    assert_true(survives(run_good));
    assert_false(survives(run_dereferences));
}

static void test_errors_of_a_run(void **state)
{
    (void)state;
    outcome o = run_with(allocates, false, false, 1);
    assert_int_equal(o.status, SL_DEVICE);
    assert_true(o.text.find("cudaMalloc: operation not permitted when stream is capturing") !=
                std::string::npos);
    o = run_with(launches_nothing_valid, false, false, 1);
    assert_int_equal(o.status, SL_DEVICE);
    assert_true(o.text.find("exp_kernel: invalid configuration argument") != std::string::npos);
}

/* --- opening --- */

static void test_open(void **state)
{
    (void)state;
    const struct {
        const char *fail, *words;
        sl_status code;
    } cases[] = {
        {"driver", "no NVIDIA driver is installed", SL_DEVICE},
        {"old", "supports CUDA 11.4, this library needs 13.0; update the driver", SL_DEVICE},
        {"device", "shows no GPU to this process", SL_DEVICE},
        {"architecture", "found simulated (sm_80), but this library was built for", SL_DEVICE},
        {"busy", "the CUDA device simulated is busy", SL_DEVICE},
        {"memory", "has not enough free memory to start", SL_MEMORY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("SLOPE_SIMT_FAIL", cases[i].fail, 1);
        sl_open_options options = {};
        options.device = SL_CUDA;
        sl_context *ctx = sl_open_with(&options);
        if (!sl_error(ctx) || !strstr(sl_error(ctx), cases[i].words))
            fail_msg("%s: %s", cases[i].fail, sl_error(ctx));
        assert_int_equal(sl_error_code(ctx), cases[i].code);
        sl_close(ctx);
        options.device = SL_AUTO;
        ctx = sl_open_with(&options);
        assert_null(sl_error(ctx));
        assert_string_equal(sl_device_name(ctx), "cpu");
        sl_close(ctx);
    }
    unsetenv("SLOPE_SIMT_FAIL");
    const struct {
        sl_open_options options;
        const char *words;
    } wrong[] = {
        {{SL_CUDA, 3, 0, 0, false, SL_FP32, nullptr, nullptr, 0},
         "device_index is 3, but the CUDA devices are 0 to 0"},
        {{SL_CUDA, 0, 0, 0, false, (sl_precision)3, nullptr, nullptr, 0}, "neither fp32, tf32 nor bf16"},
        {{SL_CUDA, 0, 0, 0, true, SL_TF32, nullptr, nullptr, 0}, "exact results need precision fp32"},
        {{SL_CUDA, 0, 0, 0, false, SL_TF32, nullptr, nullptr, 0}, "tf32 needs a GPU of sm_80 or newer"},
        {{SL_CUDA, 0, 0, 0, false, SL_BF16, nullptr, nullptr, 0}, "found simulated (sm_75)"},
    };
    setenv("SLOPE_SIMT_SM", "75", 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sl_context *ctx = sl_open_with(&wrong[i].options);
        if (!sl_error(ctx) || !strstr(sl_error(ctx), wrong[i].words)) fail_msg("%s", sl_error(ctx));
        sl_close(ctx);
    }
    unsetenv("SLOPE_SIMT_SM");
    sl_open_options options = {};
    options.device = SL_CUDA;
    sl_context *ctx = sl_open_with(&options);
    assert_string_equal(sl_device_name(ctx), "cuda");
    assert_true(strncmp(sl_device_description(ctx), "simulated, order ", 17) == 0);
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_good_kernel, reset),
        cmocka_unit_test_setup(test_missing_tail, reset),
        cmocka_unit_test_setup(test_neighbour_tensor, reset),
        cmocka_unit_test_setup(test_read_after_last_use, reset),
        cmocka_unit_test_setup(test_frozen_host_value, reset),
        cmocka_unit_test_setup(test_host_reads_tensor, reset),
        cmocka_unit_test_setup(test_errors_of_a_run, reset),
        cmocka_unit_test_setup(test_open, reset),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
