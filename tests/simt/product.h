/* What the stand-ins for cuBLAS and cuBLASLt share: one product on a stream. */
#ifndef SL_SIMT_PRODUCT_H
#define SL_SIMT_PRODUCT_H

#include <cublas_v2.h>

enum simt_rounding { SIMT_FP32, SIMT_TF32, SIMT_BF16 };

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
    cublasMath_t math;
    cublasPointerMode_t pointers;
};

/* C = alpha·op(A)·op(B) + beta·C + bias, column by column: C is m × n, k terms. */
struct simt_product {
    cublasOperation_t transpose_a, transpose_b;
    int64_t m, n, k;
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc;
    const float *alpha_at, *beta_at; /* on the device, or nullptr: */
    float alpha, beta;
    simt_rounding rounding; /* of the factors */
    const float *bias;      /* [m], or nullptr */
    int64_t count;          /* products, one after another in memory: */
    int64_t stride_a, stride_b, stride_c;
};

static inline simt_rounding simt_rounding_of(cublasComputeType_t compute)
{
    return compute == CUBLAS_COMPUTE_32F_FAST_TF32   ? SIMT_TF32
           : compute == CUBLAS_COMPUTE_32F_FAST_16BF ? SIMT_BF16
                                                     : SIMT_FP32;
}

bool simt_product_fits(const simt_product &p); /* sizes and leading dimensions */
cublasStatus_t simt_submit_product(cudaStream_t stream, const simt_product &p);
#endif
