/* An operation of the user's own on CUDA, as a user writes it: its kernel is captured into the plan with the
 * library's, and the run gives the CPU's bytes. */
#include <cuda_runtime.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
extern "C" {
#include <cmocka.h>
}
// clang-format on
#include <slope/slope.h>

namespace
{

constexpr int WIDTH = 37, SAMPLES = 50;

/* y = x·|x| */
__global__ void kernel(const float *x, float *y, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * (x[i] < 0 ? -x[i] : x[i]);
}

void on_cuda(const sl_custom_call *call)
{
    const int64_t n = sl_shape_count(call->out_shape);
    const dim3 blocks((unsigned)((n + 127) / 128)), threads(128);
    const float *x = static_cast<const float *>(call->in[0]);
    float *y = static_cast<float *>(call->out);
    cudaStream_t stream = static_cast<cudaStream_t>(call->stream);
#ifdef SLOPE_SIMT
    simt_launch("custom", kernel, blocks, threads, 0, stream, x, y, n);
#else
    kernel<<<blocks, threads, 0, stream>>>(x, y, n);
#endif
}

void on_cpu(const sl_custom_call *call)
{
    const float *x = static_cast<const float *>(call->in[0]);
    for (int64_t i = 0; i < sl_shape_count(call->out_shape); i++)
        static_cast<float *>(call->out)[i] = x[i] * (x[i] < 0 ? -x[i] : x[i]);
}

/* d(x·|x|) = 2|x|, and |x| = x·sign x = y/x, which is bad at 0: so from the root of the square. */
void vjp(sl_node *y, sl_node *dy, sl_node **dx)
{
    dx[0] = sl_mul(dy, sl_scale(sl_sqrt(sl_square(sl_node_input(y, 0))), 2, 0));
}

const sl_custom_op signed_square = {"signed_square", nullptr, on_cpu, false, on_cuda, vjp, nullptr};

uint64_t train(sl_device_kind device)
{
    sl_open_options open = {};
    open.device = device;
    open.seed = 9;
    open.exact = true;
    sl_context *ctx = sl_open_with(&open);
    float x[SAMPLES * WIDTH];
    int32_t t[SAMPLES];
    for (int i = 0; i < SAMPLES * WIDTH; i++) x[i] = (float)(i * 29 % 101) / 50 - 1;
    for (int i = 0; i < SAMPLES; i++) t[i] = i % 3;
    sl_dataset *data = sl_dataset_from_labels(ctx, x, t, SAMPLES, 1, 1, WIDTH, 3);
    sl_graph *g = sl_graph_new(ctx);
    const int64_t dims[2] = {WIDTH, 0};
    sl_dense_options hidden = {}, last = {};
    hidden.units = 21;
    last.units = 3;
    sl_node *h = sl_dense_with(sl_input_dims(g, "x", dims), &hidden);
    h = sl_custom(&signed_square, nullptr, &h, 1);
    sl_compile_options compile = {};
    compile.batch = 16;
    sl_model *m =
        sl_compile_with(sl_softmax_cross_entropy(sl_dense_with(h, &last), sl_labels(g, "class")), &compile);
    sl_fit_options fit = {};
    fit.epochs = 3;
    sl_fit_with(m, data, &fit);
    const uint64_t fingerprint = sl_model_fingerprint(m);
    if (sl_error(ctx)) fail_msg("%s", sl_error(ctx));
    sl_close(ctx);
    return fingerprint;
}

void test_training(void **)
{
    assert_true(train(SL_CUDA) == train(SL_CPU));
}

void test_without_cuda(void **)
{
    static const sl_custom_op bare = {"bare", nullptr, on_cpu, false, nullptr, nullptr, nullptr};
    sl_open_options open = {};
    open.device = SL_CUDA;
    sl_context *ctx = sl_open_with(&open);
    const int64_t dims[2] = {4, 0};
    sl_node *x = sl_input_dims(sl_graph_new(ctx), "x", dims), *y = sl_custom(&bare, nullptr, &x, 1);
    const sl_plan_options options = {};
    assert_null(sl_plan_new(&y, 1, &options));
    assert_non_null(strstr(sl_error(ctx), "bare"));
    sl_close(ctx);
}

} // namespace

int main(void)
{
    sl_open_options open = {};
    open.device = SL_CUDA;
    sl_context *ctx = sl_open_with(&open);
    const bool none = sl_error(ctx) != nullptr, required = getenv("SLOPE_REQUIRE_GPU") != nullptr;
    if (none) printf("%s: %s\n", required ? "failed" : "skipped", sl_error(ctx));
    sl_close(ctx);
    if (none) return required ? 1 : 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_training), cmocka_unit_test(test_without_cuda)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
