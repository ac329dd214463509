/* The rows of activations.def inside kernels: a table cannot be indexed where functions are inlined, so the
 * table becomes the cases of one switch. All threads of a launch take the same case. */
#ifndef SL_CUDA_ACTIVATION_CUH
#define SL_CUDA_ACTIVATION_CUH

#include "cuda/cuda.cuh"

#include "core/activation_rows.h"

/* x[i] = f(x[i]) of row `id`, with the parameter a[i] and the second parameter b. */
template <int N>
static __device__ __forceinline__ void sl_cuda_row_values(int id, float (&x)[N], const float (&a)[N], float b)
{
    switch (id) {
#define ACTIVATION(id, ...)                                                                                  \
case SL_ROW_##id:                                                                                            \
    _Pragma("unroll") for (int i = 0; i < N; i++) x[i] = sl_value_##id(x[i], a[i], b);                       \
    break;
#include "slope/activations.def"
#undef ACTIVATION
    }
}
#endif
