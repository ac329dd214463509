/* Matrix products on tensor cores, in TF32 or BF16. */
#include "cuda/blas.cuh"
#include "cuda/mma_tile.cuh"

template <bool A_ALONG, bool B_ALONG> struct mma_matmul {
    mma_matrix<A_ALONG> a;
    mma_matrix<B_ALONG> b;
};

/* What training makes: x·W with what follows it, dy·W' and x'·dy. Both factors transposed, or a transposed
 * one with a bias behind, are left to the exact tiles; so are few terms or rows, and to the library what is
 * worth its second launch. */
static bool supports(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    const bool fused = call->op == SL_OP_MATMUL_BIAS_ACTIVATION;
    return !(s.transpose_a && s.transpose_b) && !(fused && (s.transpose_a || s.transpose_b)) &&
           mma_pays(call, s.m, s.n, s.k);
}

static size_t workspace(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    return mma_workspace(call, s.m, s.n, s.k);
}

template <bool A_ALONG, bool B_ALONG, bool FUSED>
static void product(const sl_call *call, const matmul_shape &s, const sl_activation_attr *activation)
{
    const mma_matmul<A_ALONG, B_ALONG> terms = {
        mma_matrix_of<A_ALONG>(&call->in[0], A_ALONG ? s.m : s.k, A_ALONG ? s.k : s.m),
        mma_matrix_of<B_ALONG>(&call->in[1], B_ALONG ? s.n : s.k, B_ALONG ? s.k : s.n)};
    mma_run<mma_matmul<A_ALONG, B_ALONG>, FUSED>(call, s.m, s.n, s.k, !A_ALONG, activation, terms);
}

static void matmul(const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    if (s.transpose_a)
        product<false, false, false>(call, s, nullptr);
    else if (s.transpose_b)
        product<true, true, false>(call, s, nullptr);
    else
        product<true, false, true>(call, s, nullptr);
}

static void matmul_bias_activation(const sl_call *call)
{
    product<true, false, true>(call, matmul_shape_of(call),
                               &static_cast<const sl_matmul_fused_attr *>(call->attr)->activation);
}

SL_CUDA_KERNELS(mma_product) = {
    {SL_OP_MATMUL, "mma", supports, workspace, matmul},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "mma", supports, workspace, matmul_bias_activation},
    {},
};
