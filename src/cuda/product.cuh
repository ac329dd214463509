/* The factors of a matrix product as they lie in memory, for the tiles. */
#ifndef SL_CUDA_PRODUCT_CUH
#define SL_CUDA_PRODUCT_CUH

#include "cuda/matmul.cuh"
#include "cuda/tile_plan.cuh"

/* Types too: those of two files may have one name. */
namespace
{

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

static matmul_terms matmul_terms_of(const sl_call *call, const matmul_shape &s)
{
    return {matrix_of(&call->in[0]), matrix_of(&call->in[1]), !s.transpose_a, s.transpose_b};
}

/* What follows the product; NULL: nothing. */
static const sl_activation_attr *matmul_activation(const sl_call *call)
{
    return call->op == SL_OP_MATMUL_BIAS_ACTIVATION
               ? &static_cast<const sl_matmul_fused_attr *>(call->attr)->activation
               : nullptr;
}

} // namespace
#endif
