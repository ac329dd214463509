/* Matrix products, the bits of core/sum.h. */
#include "cuda/matmul.cuh"
#include "cuda/tile_plan.cuh"

/* A matrix in memory: `lines` of `length` elements. */
struct matrix {
    const float *data;
    int64_t lines, length;
    bool whole; /* can be read in fours */
    __device__ __forceinline__ four read(int64_t line, int64_t at) const
    {
        return line < lines ? four_read(data + line * length + at, length - at, whole) : four_of(0.0f);
    }
};

struct matmul_terms {
    matrix left, right;
    bool left_along, right_along; /* their lines run along k */
    __device__ __forceinline__ bool a_along_k() const
    {
        return left_along;
    }
    __device__ __forceinline__ bool b_along_k() const
    {
        return right_along;
    }
    __device__ __forceinline__ four a(int64_t m, int64_t k) const
    {
        return left_along ? left.read(m, k) : left.read(k, m);
    }
    __device__ __forceinline__ four b(int64_t k, int64_t n) const
    {
        return right_along ? right.read(n, k) : right.read(k, n);
    }
};

static matrix matrix_of(const sl_tensor *tensor)
{
    matrix m = {};
    m.data = static_cast<const float *>(tensor->data);
    m.lines = sl_shape_rows(tensor->shape);
    m.length = sl_shape_last(tensor->shape);
    m.whole = four_fits(m.data, m.length);
    return m;
}

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
    const bool fused = call->op == SL_OP_MATMUL_BIAS_ACTIVATION;
    const sl_activation_attr *activation =
        fused ? &static_cast<const sl_matmul_fused_attr *>(call->attr)->activation : nullptr;
    const tile_job job = tile_job_of(call, p, s.m, s.n, s.k, !fused && s.transpose_a, activation);
    const matmul_terms terms = {matrix_of(&call->in[0]), matrix_of(&call->in[1]), !s.transpose_a,
                                s.transpose_b};
    tile_run<matmul_terms, false, true>(call, p, job, terms);
}

SL_CUDA_KERNELS(matmul) = {
    {SL_OP_MATMUL, "tiles", nullptr, workspace, matmul},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "tiles", nullptr, workspace, matmul},
    {},
};
