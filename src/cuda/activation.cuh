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

/* dy[i] = dy[i]·f'(..) of row `id`, where `at` holds what the row reads. */
template <int N>
static __device__ __forceinline__ void sl_cuda_row_terms(int id, const float (&at)[N], const float (&a)[N],
                                                         float b, float (&dy)[N])
{
    switch (id) {
#define ACTIVATION(id, ...)                                                                                  \
case SL_ROW_##id:                                                                                            \
    _Pragma("unroll") for (int i = 0; i < N; i++) dy[i] = dy[i] * sl_slope_##id(at[i], a[i], b);             \
    break;
#include "slope/activations.def"
#undef ACTIVATION
    }
}

/* dy[i] = dy[i]·f'(z[i]) of row `id`. */
#define READS_NOTHING false
#define READS_X       false
#define READS_Y       true
template <int N>
static __device__ __forceinline__ void sl_cuda_row_slopes(int id, const float (&z)[N], float a, float b,
                                                          float (&dy)[N])
{
    switch (id) {
#define ACTIVATION(id, name, parameters, reads, ...)                                                         \
case SL_ROW_##id:                                                                                            \
    _Pragma("unroll") for (int i = 0; i < N; i++)                                                            \
    {                                                                                                        \
        const float at = reads ? sl_value_##id(z[i], a, b) : z[i];                                           \
        dy[i] = dy[i] * sl_slope_##id(at, a, b);                                                             \
    }                                                                                                        \
    break;
#include "slope/activations.def"
#undef ACTIVATION
    }
}
#undef READS_NOTHING
#undef READS_X
#undef READS_Y
#endif
