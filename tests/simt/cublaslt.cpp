/* cuBLASLt for the simulated device. It keeps cuBLASLt's rules, and is strict where the library leaves room:
 * an algorithm serves only the sizes, the alignments and the epilogue that it was asked for, it needs the
 * workspace that it named, and what is not initialised is refused. SLOPE_SIMT_FAIL=algorithm: it has none. */
#include <cublasLt.h>

#include "product.h"
#include "simt.h"

namespace
{

constexpr uint64_t made = 0x51073e0d00d51e5e;
constexpr size_t most_workspace = (size_t)4 << 20;

/* D = op(A)·op(B) as the descriptors have it; false where they do not fit each other. */
bool product_of(const cublasLtMatmulDescOpaque_t *desc, const cublasLtMatrixLayoutOpaque_t *a,
                const cublasLtMatrixLayoutOpaque_t *b, const cublasLtMatrixLayoutOpaque_t *c,
                const cublasLtMatrixLayoutOpaque_t *d, simt_product *p)
{
    if (desc->made != made || a->made != made || b->made != made || c->made != made || d->made != made)
        return false;
    const bool ta = desc->transpose_a != CUBLAS_OP_N, tb = desc->transpose_b != CUBLAS_OP_N;
    *p = {};
    p->transpose_a = ta ? CUBLAS_OP_T : CUBLAS_OP_N, p->transpose_b = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    p->m = (int64_t)d->rows, p->n = (int64_t)d->columns, p->k = (int64_t)(ta ? a->rows : a->columns);
    p->lda = a->ld, p->ldb = b->ld, p->ldc = d->ld;
    p->count = 1;
    p->rounding = simt_rounding_of(desc->compute);
    return (ta ? a->columns : a->rows) == d->rows && (tb ? b->rows : b->columns) == d->columns &&
           (tb ? b->columns : b->rows) == (uint64_t)p->k && c->rows == d->rows && c->columns == d->columns &&
           c->ld == d->ld && simt_product_fits(*p);
}

bool aligned(const void *p, uint32_t bytes)
{
    return bytes != 0 && (uintptr_t)p % bytes == 0;
}

} // namespace

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t desc, cublasComputeType_t compute,
                                      cudaDataType scale)
{
    *desc = {made, compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t bytes)
{
    void *to = attribute == CUBLASLT_MATMUL_DESC_TRANSA     ? (void *)&desc->transpose_a
               : attribute == CUBLASLT_MATMUL_DESC_TRANSB   ? (void *)&desc->transpose_b
               : attribute == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *)&desc->epilogue
                                                            : (void *)&desc->bias;
    const size_t size = attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : sizeof(int32_t);
    if (desc->made != made || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type, uint64_t rows,
                                        uint64_t columns, int64_t ld)
{
    *layout = {made, type, rows, columns, ld};
    return ld >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference)
{
    *preference = {made, 0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    const bool workspace = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    if (preference->made != made || bytes != (workspace ? sizeof(uint64_t) : sizeof(uint32_t)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace)
        memcpy(&preference->workspace, value, bytes);
    else
        memcpy(preference->alignment + (attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES), value,
               bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    *found = 0;
    simt_product p;
    if (!handle || wanted < 1 || preference->made != made || !product_of(desc, a, b, c, d, &p))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (simt_planned_failure("algorithm") ||
        (desc->epilogue != CUBLASLT_EPILOGUE_DEFAULT && desc->epilogue != CUBLASLT_EPILOGUE_BIAS))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *results = {};
    results->workspaceSize = preference->workspace < most_workspace ? preference->workspace : most_workspace;
    results->algo = {made, results->workspaceSize, d->rows, d->columns, (uint64_t)p.k, {}, desc->epilogue};
    memcpy(results->algo.alignment, preference->alignment, sizeof preference->alignment);
    results->state = CUBLAS_STATUS_SUCCESS;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    simt_product p;
    if (!handle || !algo || algo->made != made ||
        !product_of(desc, a_layout, b_layout, c_layout, d_layout, &p))
        return CUBLAS_STATUS_INVALID_VALUE;
    const bool fits = algo->m == (uint64_t)p.m && algo->n == (uint64_t)p.n && algo->k == (uint64_t)p.k &&
                      algo->epilogue == desc->epilogue && aligned(a, algo->alignment[0]) &&
                      aligned(b, algo->alignment[1]) && aligned(c, algo->alignment[2]) &&
                      aligned(d, algo->alignment[3]);
    const bool room =
        workspace_bytes >= algo->workspace &&
        (algo->workspace == 0 || (aligned(workspace, 16) && simt_memory_covers(workspace, workspace_bytes)));
    if (!fits || !room) return CUBLAS_STATUS_INVALID_VALUE;
    p.a = static_cast<const float *>(a), p.b = static_cast<const float *>(b), p.c = static_cast<float *>(d);
    p.alpha = *static_cast<const float *>(alpha), p.beta = *static_cast<const float *>(beta);
    if (c != d && p.beta != 0) return CUBLAS_STATUS_NOT_SUPPORTED; /* nothing asks for it */
    if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS) {
        if (!desc->bias) return CUBLAS_STATUS_INVALID_VALUE;
        p.bias = static_cast<const float *>(desc->bias);
    }
    return simt_submit_product(stream, p);
}
