/* What the kernels that call a library share. */
#ifndef SL_CUDA_BLAS_CUH
#define SL_CUDA_BLAS_CUH

#include "cuda/cuda.cuh"
#include "cuda/matmul.cuh"

/* Multiplications from which the library's tuned products are worth their launches (it takes two for most
 * shapes, our own kernels one, with bias and activation): about 10 microseconds of our own kernels' time in
 * fp32, and 5 on tensor cores (docs/cuda-floors.md). */
enum { SL_BLAS_FP32 = 1 << 28, SL_BLAS_TENSOR = 1 << 29 };

/* Products where k is the batch are left to matmul.cu: k is cut on the device, and the rows beyond may hold
 * anything. */
static inline bool sl_blas_pays(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    if (sl_cuda_exact(call->device) || (s.transpose_a && call->valid)) return false;
    if (s.m > INT32_MAX || s.n > INT32_MAX || s.k > INT32_MAX) return false;
    const double work = (double)s.m * (double)s.n * (double)s.k;
    return work >= (sl_cuda_precision(call->device) == SL_FP32 ? SL_BLAS_FP32 : SL_BLAS_TENSOR);
}
#endif
