/* cuBLAS for the simulated device: the product by plain loops. It keeps cuBLAS's rules: the workspace is lost
 * when a stream is set, and scalars in host memory are read when the call is made or captured. */
#include <cublas_v2.h>

#include "simt.h"

#include <cstdlib>
#include <vector>

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
    cublasMath_t math;
    cublasPointerMode_t pointers;
};

namespace
{

struct product {
    cublasOperation_t transpose_a, transpose_b;
    int m, n, k;
    const float *a, *b;
    float *c;
    int lda, ldb, ldc;
    const float *alpha_at, *beta_at; /* on the device, or nullptr: */
    float alpha, beta;
    bool tf32;
};

/* 10 bits behind the point, to nearest, ties to even. */
float rounded_to_tf32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Column by column; two running sums per element, so that the order is not that of exact mode. */
void multiply(const product &p)
{
    const float alpha = p.alpha_at ? *p.alpha_at : p.alpha, beta = p.beta_at ? *p.beta_at : p.beta;
    std::vector<float> sum((size_t)p.m * 2);
    for (int j = 0; j < p.n; j++) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int t = 0; t < p.k; t++) {
            float right =
                p.transpose_b == CUBLAS_OP_N ? p.b[(int64_t)j * p.ldb + t] : p.b[(int64_t)t * p.ldb + j];
            if (p.tf32) right = rounded_to_tf32(right);
            float *to = sum.data() + (t & 1) * (size_t)p.m;
            if (p.transpose_a == CUBLAS_OP_N) {
                const float *left = p.a + (int64_t)t * p.lda;
                for (int i = 0; i < p.m; i++) to[i] += (p.tf32 ? rounded_to_tf32(left[i]) : left[i]) * right;
            } else {
                const float *left = p.a + t;
                for (int i = 0; i < p.m; i++) {
                    const float value = left[(int64_t)i * p.lda];
                    to[i] += (p.tf32 ? rounded_to_tf32(value) : value) * right;
                }
            }
        }
        float *column = p.c + (int64_t)j * p.ldc;
        for (int i = 0; i < p.m; i++) {
            const float value = alpha * (sum[(size_t)i] + sum[(size_t)p.m + (size_t)i]);
            column[i] = beta == 0 ? value : value + beta * column[i]; /* beta 0: C is not read */
        }
    }
}

bool shapes_fit(const product &p)
{
    const int rows_a = p.transpose_a == CUBLAS_OP_N ? p.m : p.k,
              rows_b = p.transpose_b == CUBLAS_OP_N ? p.k : p.n;
    return p.m >= 0 && p.n >= 0 && p.k >= 0 && p.lda >= (rows_a > 1 ? rows_a : 1) &&
           p.ldb >= (rows_b > 1 ? rows_b : 1) && p.ldc >= (p.m > 1 ? p.m : 1);
}

cublasStatus_t submit(cublasHandle_t handle, product p, const void *alpha, const void *beta, int count,
                      long long stride_a, long long stride_b, long long stride_c)
{
    const std::lock_guard<std::recursive_mutex> lock(simt_lock());
    if (!shapes_fit(p) || count < 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (p.m == 0 || p.n == 0 || count == 0) return CUBLAS_STATUS_SUCCESS;
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
    const auto work = [=] {
        for (int i = 0; i < count; i++) {
            product one = p;
            one.a += stride_a * i;
            one.b += stride_b * i;
            one.c += stride_c * i;
            multiply(one);
        }
    };
    return simt_submit(handle->stream, work, 2) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                               : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // namespace

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    const std::lock_guard<std::recursive_mutex> lock(simt_lock());
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
    const std::lock_guard<std::recursive_mutex> lock(simt_lock());
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
    const product p = {
        transpose_a, transpose_b, m,   n,       k,       a, b, c,
        lda,         ldb,         ldc, nullptr, nullptr, 0, 0, handle->math == CUBLAS_TF32_TENSOR_OP_MATH};
    return submit(handle, p, alpha, beta, count, stride_a, stride_b, stride_c);
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
    const product p = {transpose_a,
                       transpose_b,
                       m,
                       n,
                       k,
                       static_cast<const float *>(a),
                       static_cast<const float *>(b),
                       static_cast<float *>(c),
                       lda,
                       ldb,
                       ldc,
                       nullptr,
                       nullptr,
                       0,
                       0,
                       compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                           (compute == CUBLAS_COMPUTE_32F && handle->math == CUBLAS_TF32_TENSOR_OP_MATH)};
    return submit(handle, p, alpha, beta, 1, 0, 0, 0);
}
