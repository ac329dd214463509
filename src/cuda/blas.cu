/* Large matrix products by NVIDIA's libraries, where results need not be exact. Their matrices lie column by
 * column, ours row by row, so they are asked for the transposed product: C' = B'·A'.
 *
 * With a bias per column, cuBLASLt adds it in the product's epilogue: C' has n rows, and the epilogue's bias
 * is one value for every row. Activations are our own. Of them the library has relu and gelu's tanh form; its
 * relu is described as max(x, 0) with no word on NaN, which has to come out as NaN here. */
#include <cublas_v2.h>
#include <cublasLt.h>

#include "cuda/blas.cuh"
#include "cuda/tile_plan.cuh"

/* Factors are rounded as the device's precision says. */
static cublasComputeType_t compute_of(const sl_call *call)
{
    const sl_precision precision = sl_cuda_precision(call->device);
    return precision == SL_BF16   ? CUBLAS_COMPUTE_32F_FAST_16BF
           : precision == SL_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                  : CUBLAS_COMPUTE_32F;
}

static void gemm(const sl_call *call, float *c)
{
    const matmul_shape s = matmul_shape_of(call);
    const cublasHandle_t handle = sl_cuda_blas_handle(call->device);
    const cublasOperation_t b_turn = s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                            a_turn = s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int m = (int)s.m, n = (int)s.n, k = (int)s.k;
    const int a_row = (int)sl_shape_last(call->in[0].shape), b_row = (int)sl_shape_last(call->in[1].shape);
    const float one = 1, zero = 0, *a = sl_in(call, 0), *b = sl_in(call, 1);
    const cublasComputeType_t compute = compute_of(call);
    const cublasStatus_t status =
        compute == CUBLAS_COMPUTE_32F
            ? cublasSgemm(handle, b_turn, a_turn, n, m, k, &one, b, b_row, a, a_row, &zero, c, n)
            : cublasGemmEx(handle, b_turn, a_turn, n, m, k, &one, b, CUDA_R_32F, b_row, a, CUDA_R_32F, a_row,
                           &zero, c, CUDA_R_32F, n, compute, CUBLAS_GEMM_DEFAULT);
    sl_cuda_note_status(call->device, status, "a product of cuBLAS", call->name);
}

static void matmul(const sl_call *call)
{
    gemm(call, sl_out(call, 0));
}

/* --- cuBLASLt --- */

/* All that describes a product, on the stack: a step is captured, and nothing here asks for memory. */
struct lt_product {
    cublasLtMatmulDescOpaque_t what;
    cublasLtMatrixLayoutOpaque_t left, right, result;
    cublasLtMatmulPreferenceOpaque_t preference;
    int status = CUBLAS_STATUS_SUCCESS; /* the first failure */

    void note(cublasStatus_t s)
    {
        if (status == CUBLAS_STATUS_SUCCESS) status = s;
    }
    template <class T> void set(cublasLtMatmulDescAttributes_t attribute, T value)
    {
        note(cublasLtMatmulDescSetAttribute(&what, attribute, &value, sizeof value));
    }
    template <class T> void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value)
    {
        note(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
    }
};

static void describe(cublasLtMatrixLayoutOpaque_t *layout, const sl_tensor *tensor, lt_product *p)
{
    const int64_t row = sl_shape_last(tensor->shape);
    p->note(cublasLtMatrixLayoutInit(layout, CUDA_R_32F, (uint64_t)row,
                                     (uint64_t)sl_shape_rows(tensor->shape), row));
}

/* The library expects 256 bytes unless told; pieces of packed blocks have less. */
static uint32_t alignment_of(const void *p)
{
    const uintptr_t at = (uintptr_t)p | 256;
    return (uint32_t)(at & (~at + 1));
}

static lt_product lt_product_of(const sl_call *call, const float *bias, const float *c, size_t workspace)
{
    const matmul_shape s = matmul_shape_of(call);
    lt_product p = {};
    p.note(cublasLtMatmulDescInit(&p.what, compute_of(call), CUDA_R_32F));
    p.set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    p.set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    p.set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    describe(&p.left, &call->in[1], &p);
    describe(&p.right, &call->in[0], &p);
    p.note(cublasLtMatrixLayoutInit(&p.result, CUDA_R_32F, (uint64_t)s.n, (uint64_t)s.m, s.n));
    p.note(cublasLtMatmulPreferenceInit(&p.preference));
    p.prefer<uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    p.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(sl_in(call, 1)));
    p.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(sl_in(call, 0)));
    p.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(c));
    p.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(c));
    return p;
}

/* c = the sums with their bias. False: the library has no algorithm for it. */
static bool sums_with_bias(const sl_call *call, const float *bias, float *c)
{
    const float one = 1, zero = 0;
    const cublasLtHandle_t handle = reinterpret_cast<cublasLtHandle_t>(sl_cuda_blas_handle(call->device));
    size_t bytes = 0;
    void *workspace = sl_cuda_blas_workspace(call->device, &bytes);
    lt_product p = lt_product_of(call, bias, c, bytes);
    cublasLtMatmulHeuristicResult_t way = {};
    int found = 0;
    if (p.status == CUBLAS_STATUS_SUCCESS) {
        const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
            handle, &p.what, &p.left, &p.right, &p.result, &p.result, &p.preference, 1, &way, &found);
        if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && found == 0))
            return false;
        p.note(status);
    }
    if (p.status == CUBLAS_STATUS_SUCCESS)
        p.note(cublasLtMatmul(handle, &p.what, &one, sl_in(call, 1), &p.left, sl_in(call, 0), &p.right, &zero,
                              c, &p.result, c, &p.result, &way.algo, workspace, bytes,
                              sl_cuda_stream(call->device)));
    sl_cuda_note_status(call->device, p.status, "cublasLtMatmul", call->name);
    return true;
}

/* --- bias and activation --- */

enum { AFTER_BLOCK = 256 };

/* What is still to do to the sums [m, n], which lie where z or y goes: the bias, if any, and the activation.
 */
static __global__ void __launch_bounds__(AFTER_BLOCK)
    finish_sums(const float *sums, int64_t m, int64_t n, tile_after after)
{
    sl_cuda_begin();
    const int64_t row_fours = (n + 3) / 4;
    for (int64_t at = sl_cuda_thread(); at < m * row_fours; at += sl_cuda_threads()) {
        const int64_t i = at / row_fours, j = at % row_fours * 4, count = n - j;
        four x = four_read(sums + i * n + j, count, after.whole);
        float a[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int64_t c = e < count ? j + e : j;
            if (after.bias) x.v[e] = x.v[e] + after.bias[c * after.bias_step];
            a[e] = after.parameter ? after.parameter[c * after.parameter_step] : after.a;
        }
        if (after.z && (after.bias || after.z != sums))
            four_write(after.z + i * n + j, x.v, count, after.whole);
        if (!after.y) continue;
        sl_cuda_row_values<4>(after.row, x.v, a, after.b);
        four_write(after.y + i * n + j, x.v, count, after.whole);
    }
}

static void finish(const sl_call *call, const float *sums, const tile_after &after)
{
    const matmul_shape s = matmul_shape_of(call);
    SL_LAUNCH(finish_sums, sl_cuda_grid(call, s.m * ((s.n + 3) / 4), AFTER_BLOCK, 8), AFTER_BLOCK, 0, call,
              sums, s.m, s.n, after);
}

static tile_after after_of(const sl_call *call)
{
    const sl_activation_attr *activation = &static_cast<const sl_matmul_fused_attr *>(call->attr)->activation;
    return tile_after_of(call, activation, matmul_shape_of(call).n);
}

static void matmul_bias_activation(const sl_call *call)
{
    const tile_after after = after_of(call);
    float *sums = after.y ? after.y : after.z;
    gemm(call, sums);
    finish(call, sums, after);
}

static void matmul_bias_activation_lt(const sl_call *call)
{
    tile_after after = after_of(call);
    float *sums = after.z ? after.z : after.y;
    if (!sums_with_bias(call, after.bias, sums)) {
        matmul_bias_activation(call);
        return;
    }
    after.bias = nullptr;
    const bool none = after.row == SL_ROW_LINEAR && !after.parameter && after.a == 1.0f;
    if (after.y && !(none && sums == after.y)) finish(call, sums, after);
}

/* One bias per column is what the epilogue can add. */
static bool lt_pays(const sl_call *call)
{
    return sl_blas_pays(call) && sl_shape_count(call->in[2].shape) == matmul_shape_of(call).n;
}

SL_CUDA_KERNELS(blas) = {
    {SL_OP_MATMUL, "cublas", sl_blas_pays, nullptr, matmul},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "cublaslt", lt_pays, nullptr, matmul_bias_activation_lt},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "cublas", sl_blas_pays, nullptr, matmul_bias_activation},
    {},
};
