/* Large matrix products by cuBLAS, where results need not be exact. Its matrices lie column by column, ours
 * row by row, so it is asked for the transposed product: C' = B'·A'. */
#include <cublas_v2.h>

#include "cuda/blas.cuh"
#include "cuda/tile_plan.cuh"

static void sgemm(const sl_call *call, float *c)
{
    const matmul_shape s = matmul_shape_of(call);
    const float one = 1, zero = 0;
    const int a_row = (int)sl_shape_last(call->in[0].shape), b_row = (int)sl_shape_last(call->in[1].shape);
    const cublasStatus_t status =
        cublasSgemm(sl_cuda_blas_handle(call->device), s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                    s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, (int)s.n, (int)s.m, (int)s.k, &one,
                    sl_in(call, 1), b_row, sl_in(call, 0), a_row, &zero, c, (int)s.n);
    sl_cuda_note_status(call->device, status, "cublasSgemm", call->name);
}

static void matmul(const sl_call *call)
{
    sgemm(call, sl_out(call, 0));
}

enum { AFTER_BLOCK = 256 };

/* Bias and activation behind the sums [m, n]; `sums` may be where the results go. */
static __global__ void __launch_bounds__(AFTER_BLOCK)
    finish_sums(const float *sums, int64_t m, int64_t n, tile_after after)
{
    const int64_t row_fours = (n + 3) / 4;
    for (int64_t at = sl_cuda_thread(); at < m * row_fours; at += sl_cuda_threads()) {
        const int64_t i = at / row_fours, j = at % row_fours * 4;
        four x = four_read(sums + i * n + j, n - j, after.whole);
        tile_finish<true>(after, i, j, n, x.v);
    }
}

static void matmul_bias_activation(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    const sl_activation_attr *activation = &static_cast<const sl_matmul_fused_attr *>(call->attr)->activation;
    const tile_after after = tile_after_of(call, activation, s.n);
    float *sums = after.y ? after.y : after.z;
    sgemm(call, sums);
    SL_LAUNCH(finish_sums, sl_cuda_grid(call, s.m * ((s.n + 3) / 4), AFTER_BLOCK, 8), AFTER_BLOCK, 0, call,
              sums, s.m, s.n, after);
}

SL_CUDA_KERNELS(blas) = {
    {SL_OP_MATMUL, "cublas", sl_blas_pays, nullptr, matmul},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "cublas", sl_blas_pays, nullptr, matmul_bias_activation},
    {},
};
