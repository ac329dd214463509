/* The stand-in for cuBLASLt: its products, and the misuse that it is there to catch. */
#include <cublasLt.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
extern "C" {
#include <cmocka.h>
}
// clang-format on

#include <string>
#include <vector>

namespace
{

constexpr int m = 6, n = 5, k = 7;
constexpr size_t room = 8 << 20;

float *to_device(const std::vector<float> &values)
{
    void *memory = nullptr;
    cudaMalloc(&memory, values.size() * sizeof(float));
    cudaMemcpy(memory, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice);
    return static_cast<float *>(memory);
}

std::vector<float> numbers(size_t count, float first)
{
    std::vector<float> values(count);
    for (size_t i = 0; i < count; i++) values[i] = first + (float)(i % 11);
    return values;
}

/* A product D = A·B + bias that is right until a test spoils it. */
struct example {
    cublasHandle_t handle = nullptr;
    cudaStream_t stream = nullptr;
    std::vector<float> left = numbers(m * k, 1), right = numbers(k * n, -3), add = numbers(m, 0.5f);
    float *a = to_device(left), *b = to_device(right), *bias = to_device(add);
    float *d = to_device(numbers(m * n, 99));
    void *workspace = nullptr;
    size_t workspace_bytes = room;
    cublasLtMatmulDescOpaque_t what = {};
    cublasLtMatrixLayoutOpaque_t a_layout = {}, b_layout = {}, d_layout = {};
    cublasLtMatmulPreferenceOpaque_t preference = {};
    cublasLtMatmulHeuristicResult_t way = {};

    explicit example(cublasComputeType_t compute = CUBLAS_COMPUTE_32F)
    {
        const int32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        const uint64_t most = room;
        cublasCreate(&handle);
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaMalloc(&workspace, room);
        cublasLtMatmulDescInit(&what, compute, CUDA_R_32F);
        cublasLtMatmulDescSetAttribute(&what, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
        cublasLtMatmulDescSetAttribute(&what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
        cublasLtMatrixLayoutInit(&a_layout, CUDA_R_32F, m, k, m);
        cublasLtMatrixLayoutInit(&b_layout, CUDA_R_32F, k, n, k);
        cublasLtMatrixLayoutInit(&d_layout, CUDA_R_32F, m, n, m);
        cublasLtMatmulPreferenceInit(&preference);
        cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most,
                                             sizeof most);
        const uint32_t alignment = 16;
        for (int of = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
             of <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; of++)
            cublasLtMatmulPreferenceSetAttribute(&preference, (cublasLtMatmulPreferenceAttributes_t)of,
                                                 &alignment, sizeof alignment);
    }
    ~example()
    {
        for (void *memory : {(void *)a, (void *)b, (void *)bias, (void *)d, workspace}) cudaFree(memory);
        cublasDestroy(handle);
        cudaStreamDestroy(stream);
        cudaDeviceReset();
    }
    cublasStatus_t choose()
    {
        int found = 0;
        const cublasStatus_t status =
            cublasLtMatmulAlgoGetHeuristic((cublasLtHandle_t)handle, &what, &a_layout, &b_layout, &d_layout,
                                           &d_layout, &preference, 1, &way, &found);
        assert_int_equal(found, status == CUBLAS_STATUS_SUCCESS);
        return status;
    }
    cublasStatus_t multiply()
    {
        const float one = 1, zero = 0;
        return cublasLtMatmul((cublasLtHandle_t)handle, &what, &one, a, &a_layout, b, &b_layout, &zero, d,
                              &d_layout, d, &d_layout, &way.algo, workspace, workspace_bytes, stream);
    }
    cublasStatus_t both()
    {
        const cublasStatus_t status = choose();
        return status == CUBLAS_STATUS_SUCCESS ? multiply() : status;
    }
    std::vector<float> result() const
    {
        std::vector<float> values(m * n);
        cudaMemcpy(values.data(), d, sizeof(float) * m * n, cudaMemcpyDeviceToHost);
        return values;
    }
    void expect_result() const
    {
        const std::vector<float> got = result();
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                float sum = 0;
                for (int t = 0; t < k; t++) sum += left[(size_t)(t * m + i)] * right[(size_t)(j * k + t)];
                assert_true(got[(size_t)(j * m + i)] == sum + add[(size_t)i]);
            }
    }
};

void test_product(void **)
{
    example e;
    assert_int_equal(e.both(), CUBLAS_STATUS_SUCCESS);
    e.expect_result();
}

/* Captured, it runs when the graph does, with the numbers of then. */
void test_capture(void **)
{
    example e;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaStreamBeginCapture(e.stream, cudaStreamCaptureModeThreadLocal);
    assert_int_equal(e.both(), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cudaStreamEndCapture(e.stream, &graph), cudaSuccess);
    assert_true(e.result()[0] == 99);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    e.left[0] = -20;
    cudaMemcpy(e.a, e.left.data(), sizeof(float), cudaMemcpyHostToDevice);
    cudaGraphLaunch(exec, e.stream);
    e.expect_result();
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
}

/* TF32 rounds ties away from zero, and only where it is asked for. */
void test_tf32(void **)
{
    for (cublasComputeType_t compute : {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32}) {
        example e(compute);
        std::vector<float> a(m * k, 0), b(k * n, 0), none(m, 0);
        a[0] = 1 + 0x1p-11f, a[1] = -1 - 0x1p-11f, a[2] = 1 + 0x1p-12f, b[0] = 1;
        cudaMemcpy(e.a, a.data(), sizeof(float) * m * k, cudaMemcpyHostToDevice);
        cudaMemcpy(e.b, b.data(), sizeof(float) * k * n, cudaMemcpyHostToDevice);
        cudaMemcpy(e.bias, none.data(), sizeof(float) * m, cudaMemcpyHostToDevice);
        assert_int_equal(e.both(), CUBLAS_STATUS_SUCCESS);
        const bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
        const std::vector<float> got = e.result();
        assert_true(got[0] == (tf32 ? 1 + 0x1p-10f : a[0]));
        assert_true(got[1] == (tf32 ? -1 - 0x1p-10f : a[1]));
        assert_true(got[2] == (tf32 ? 1.0f : a[2]));
    }
}

void spoil_layout(example &e)
{
    assert_int_equal(cublasLtMatrixLayoutInit(&e.a_layout, CUDA_R_32F, m, k, m - 1),
                     CUBLAS_STATUS_INVALID_VALUE);
}
void spoil_inner_size(example &e)
{
    cublasLtMatrixLayoutInit(&e.b_layout, CUDA_R_32F, k + 1, n, k + 1);
}
void spoil_transpose(example &e)
{
    const int32_t transposed = CUBLAS_OP_T;
    cublasLtMatmulDescSetAttribute(&e.what, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
}
void spoil_descriptor(example &e)
{
    e.what.made = 0;
}
void spoil_workspace(example &e)
{
    cudaFree(e.workspace);
    e.workspace = nullptr;
}
void spoil_workspace_size(example &e)
{
    e.workspace_bytes = 1024;
}
void spoil_alignment(example &e)
{
    e.a++; /* the library counts on 16 bytes */
}
void spoil_bias(example &e)
{
    e.what.bias = nullptr;
}
void spoil_stream(example &e)
{
    cudaStreamDestroy(e.stream);
    e.stream = nullptr;
}

void test_misuse(void **)
{
    static const struct {
        const char *name;
        void (*spoil)(example &e);
        cublasStatus_t status;
    } cases[] = {
        {"a leading dimension that is too short", spoil_layout, CUBLAS_STATUS_INVALID_VALUE},
        {"inner sizes that differ", spoil_inner_size, CUBLAS_STATUS_INVALID_VALUE},
        {"a wrong transpose", spoil_transpose, CUBLAS_STATUS_INVALID_VALUE},
        {"a descriptor that is not initialised", spoil_descriptor, CUBLAS_STATUS_INVALID_VALUE},
        {"no workspace", spoil_workspace, CUBLAS_STATUS_INVALID_VALUE},
        {"a workspace that is too small", spoil_workspace_size, CUBLAS_STATUS_INVALID_VALUE},
        {"less alignment than promised", spoil_alignment, CUBLAS_STATUS_INVALID_VALUE},
        {"no bias", spoil_bias, CUBLAS_STATUS_INVALID_VALUE},
        {"the default stream", spoil_stream, CUBLAS_STATUS_EXECUTION_FAILED},
    };
    for (const auto &c : cases)
        for (int captured = 0; captured < 2; captured++) {
            example e;
            float *const a = e.a;
            cudaGraph_t graph = nullptr;
            c.spoil(e);
            if (captured && e.stream) cudaStreamBeginCapture(e.stream, cudaStreamCaptureModeThreadLocal);
            const cublasStatus_t status = e.both();
            if (status != c.status) fail_msg("%s: status %d", c.name, (int)status);
            if (captured && e.stream && cudaStreamEndCapture(e.stream, &graph) == cudaSuccess)
                cudaGraphDestroy(graph);
            e.a = a;
        }
}

/* An algorithm is for the product that it was chosen for. */
void test_other_product(void **)
{
    example e;
    assert_int_equal(e.choose(), CUBLAS_STATUS_SUCCESS);
    cublasLtMatrixLayoutInit(&e.b_layout, CUDA_R_32F, k, n - 1, k);
    cublasLtMatrixLayoutInit(&e.d_layout, CUDA_R_32F, m, n - 1, m);
    assert_int_equal(e.multiply(), CUBLAS_STATUS_INVALID_VALUE);
}

void test_memory(void **)
{
    example e;
    const float one = 1, zero = 0;
    void *workspace = nullptr;
    cudaMalloc(&workspace, 1024);
    /* A handle that has not been given its stream. */
    assert_int_equal(
        cublasSgemm(e.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, e.a, m, e.b, k, &zero, e.d, m),
        CUBLAS_STATUS_EXECUTION_FAILED);
    cublasSetStream(e.handle, e.stream);
    cublasSetWorkspace(e.handle, workspace, 1024);
    assert_int_equal(
        cublasSgemm(e.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, e.a, m - 1, e.b, k, &zero, e.d, m),
        CUBLAS_STATUS_INVALID_VALUE);
    /* One row of A too many. */
    assert_int_equal(
        cublasSgemm(e.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, e.a, m + 1, e.b, k, &zero, e.d, m),
        CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    cudaDeviceReset();
    /* Host memory. */
    e.add.assign(m, 0);
    e.what.bias = e.add.data();
    e.both();
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    cudaDeviceReset();
    cudaFree(workspace);
}

} // namespace

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product), cmocka_unit_test(test_capture),       cmocka_unit_test(test_tf32),
        cmocka_unit_test(test_misuse),  cmocka_unit_test(test_other_product), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
