/* Matrix products, the bits of core/sum.h. */
#include "cuda/product.cuh"

static tile_plan plan(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    return tile_plan_of(call, s.m, s.n, s.k);
}

static size_t workspace(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    return tile_workspace(plan(call), s.m, s.n);
}

/* k stops at the samples that count, where it is the batch. */
static void matmul(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    const tile_plan p = plan(call);
    const sl_activation_attr *activation = matmul_activation(call);
    const tile_job job = tile_job_of(call, p, s.m, s.n, s.k, !activation && s.transpose_a, activation);
    tile_run<matmul_terms, false, true>(call, p, job, matmul_terms_of(call, s));
}

SL_CUDA_KERNELS(matmul) = {
    {SL_OP_MATMUL, "tiles", nullptr, workspace, matmul},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "tiles", nullptr, workspace, matmul},
    {},
};
