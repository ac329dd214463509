/* The kernels of the CUDA back end, those that are not exact before the others. */
#include "cuda/cuda.cuh"

#define FAMILY(name) sl_cuda_##name,
const sl_kernel *const sl_cuda_table[] = {SL_CUDA_FAST_FAMILIES(FAMILY) SL_KERNEL_FAMILIES(FAMILY) nullptr};
#undef FAMILY
