/* The kernels of the CUDA back end, those that are not exact before the others, and those for formulas at
 * both ends: whether the first or the last that supports a call is taken, a formula gets its own. */
#include "cuda/cuda.cuh"

#define FAMILY(name) sl_cuda_##name,
const sl_kernel *const sl_cuda_table[] = {FAMILY(formula) SL_CUDA_FAST_FAMILIES(FAMILY)
                                              SL_KERNEL_FAMILIES(FAMILY) FAMILY(formula) nullptr};
#undef FAMILY
