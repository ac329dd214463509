/* cuBLAS for the simulated device: the product by plain loops. It keeps cuBLAS's rules: the workspace is lost
 * when a stream is set, and scalars in host memory are read when the call is made or captured. Stricter than
 * cuBLAS, it refuses the default stream, on which Slope does nothing: there, a handle has not been given its
 * stream. */
#include "mma.h"
#include "product.h"

#include <vector>

namespace
{

float rounded(float x, simt_rounding how)
{
    return how == SIMT_TF32   ? __uint_as_float(simt_tf32(x))
           : how == SIMT_BF16 ? __uint_as_float(simt_bf16(x) << 16)
                              : x;
}

/* op(X), rows × columns, packed column by column, in the precision of the product. */
std::vector<float> factor(const float *x, int64_t ld, bool transpose, int64_t rows, int64_t columns,
                          simt_rounding rounding)
{
    std::vector<float> packed((size_t)(rows * columns));
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            packed[(size_t)(j * rows + i)] = transpose ? x[i * ld + j] : x[j * ld + i];
    for (float &value : packed) value = rounded(value, rounding);
    return packed;
}

/* Two running sums per element, so that the order is not that of exact mode. */
void multiply(const simt_product &p)
{
    const float alpha = p.alpha_at ? *p.alpha_at : p.alpha, beta = p.beta_at ? *p.beta_at : p.beta;
    const std::vector<float> a = factor(p.a, p.lda, p.transpose_a != CUBLAS_OP_N, p.m, p.k, p.rounding);
    const std::vector<float> b = factor(p.b, p.ldb, p.transpose_b != CUBLAS_OP_N, p.k, p.n, p.rounding);
    const size_t m = (size_t)p.m;
    std::vector<float> sum(m * 2);
    for (int64_t j = 0; j < p.n; j++) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int64_t t = 0; t < p.k; t++) {
            const float *left = a.data() + (size_t)t * m, right = b[(size_t)(j * p.k + t)];
            float *to = sum.data() + (t & 1) * p.m;
            for (size_t i = 0; i < m; i++) to[i] += left[i] * right;
        }
        float *column = p.c + j * p.ldc;
        for (size_t i = 0; i < m; i++) {
            float value = alpha * (sum[i] + sum[m + i]);
            if (beta != 0) value += beta * column[i]; /* beta 0: C is not read */
            column[i] = p.bias ? value + p.bias[i] : value;
        }
    }
}

/* All of a matrix lies in one piece of device memory that lives. */
bool reachable(const float *x, int64_t rows, int64_t columns, int64_t ld, int64_t strides)
{
    if (rows == 0 || columns == 0) return true;
    return simt_memory_covers(x, (size_t)(strides + (columns - 1) * ld + rows) * sizeof(float));
}

void run(simt_product p)
{
    const bool ta = p.transpose_a != CUBLAS_OP_N, tb = p.transpose_b != CUBLAS_OP_N;
    const int64_t last = p.count - 1;
    if (!reachable(p.a, ta ? p.k : p.m, ta ? p.m : p.k, p.lda, last * p.stride_a) ||
        !reachable(p.b, tb ? p.n : p.k, tb ? p.k : p.n, p.ldb, last * p.stride_b) ||
        !reachable(p.c, p.m, p.n, p.ldc, last * p.stride_c) ||
        (p.bias && !reachable(p.bias, p.m, 1, p.m, 0))) {
        simt_fail(cudaErrorIllegalAddress, "a cuBLAS product reaches beyond device memory");
        return;
    }
    for (int64_t i = 0; i < p.count; i++) {
        multiply(p);
        p.a += p.stride_a;
        p.b += p.stride_b;
        p.c += p.stride_c;
    }
}

cublasStatus_t submit(cublasHandle_t handle, simt_product p, const void *alpha, const void *beta)
{
    const simt_guard lock(simt_lock());
    if (!simt_product_fits(p)) return CUBLAS_STATUS_INVALID_VALUE;
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(handle->stream, &capture);
    if (capture != cudaStreamCaptureStatusNone && !handle->workspace) {
        simt_unsafe_call(); /* it would have to allocate */
        return CUBLAS_STATUS_ALLOC_FAILED;
    }
    if (handle->pointers == CUBLAS_POINTER_MODE_DEVICE) {
        p.alpha_at = static_cast<const float *>(alpha);
        p.beta_at = static_cast<const float *>(beta);
    } else {
        p.alpha = *static_cast<const float *>(alpha);
        p.beta = *static_cast<const float *>(beta);
    }
    return simt_submit_product(handle->stream, p);
}

} // namespace

bool simt_product_fits(const simt_product &p)
{
    const int64_t rows_a = p.transpose_a == CUBLAS_OP_N ? p.m : p.k;
    const int64_t rows_b = p.transpose_b == CUBLAS_OP_N ? p.k : p.n;
    return p.m >= 0 && p.n >= 0 && p.k >= 0 && p.count >= 0 && p.lda >= (rows_a > 1 ? rows_a : 1) &&
           p.ldb >= (rows_b > 1 ? rows_b : 1) && p.ldc >= (p.m > 1 ? p.m : 1);
}

cublasStatus_t simt_submit_product(cudaStream_t stream, const simt_product &p)
{
    if (p.m == 0 || p.n == 0 || p.count == 0) return CUBLAS_STATUS_SUCCESS;
    if (!stream) return CUBLAS_STATUS_EXECUTION_FAILED;
    const auto work = [p] { run(p); };
    return simt_submit(stream, work, 2) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                       : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    const simt_guard lock(simt_lock());
    *handle = nullptr;
    if (simt_unsafe_call() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext{nullptr, nullptr, CUBLAS_DEFAULT_MATH, CUBLAS_POINTER_MODE_HOST};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    handle->workspace = nullptr;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes)
{
    const simt_guard lock(simt_lock());
    if (!simt_memory_covers(workspace, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
    handle->workspace = workspace;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode)
{
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "failure";
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transpose_a,
                                         cublasOperation_t transpose_b, int m, int n, int k,
                                         const float *alpha, const float *a, int lda, long long stride_a,
                                         const float *b, int ldb, long long stride_b, const float *beta,
                                         float *c, int ldc, long long stride_c, int count)
{
    simt_product p = {};
    p.transpose_a = transpose_a, p.transpose_b = transpose_b;
    p.m = m, p.n = n, p.k = k;
    p.a = a, p.b = b, p.c = c;
    p.lda = lda, p.ldb = ldb, p.ldc = ldc;
    p.count = count;
    p.stride_a = stride_a, p.stride_b = stride_b, p.stride_c = stride_c;
    p.rounding = handle->math == CUBLAS_TF32_TENSOR_OP_MATH ? SIMT_TF32 : SIMT_FP32;
    return submit(handle, p, alpha, beta);
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t transpose_a,
                           cublasOperation_t transpose_b, int m, int n, int k, const float *alpha,
                           const float *a, int lda, const float *b, int ldb, const float *beta, float *c,
                           int ldc)
{
    return cublasSgemmStridedBatched(handle, transpose_a, transpose_b, m, n, k, alpha, a, lda, 0, b, ldb, 0,
                                     beta, c, ldc, 0, 1);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                            cublasOperation_t transpose_b, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType, int lda, const void *b, cudaDataType, int ldb,
                            const void *beta, void *c, cudaDataType, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t)
{
    simt_product p = {};
    p.transpose_a = transpose_a, p.transpose_b = transpose_b;
    p.m = m, p.n = n, p.k = k;
    p.a = static_cast<const float *>(a), p.b = static_cast<const float *>(b), p.c = static_cast<float *>(c);
    p.lda = lda, p.ldb = ldb, p.ldc = ldc;
    p.count = 1;
    p.rounding = simt_rounding_of(compute);
    if (compute == CUBLAS_COMPUTE_32F && handle->math == CUBLAS_TF32_TENSOR_OP_MATH) p.rounding = SIMT_TF32;
    return submit(handle, p, alpha, beta);
}
