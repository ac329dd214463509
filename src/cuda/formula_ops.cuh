/* The operations of core/formula.h as functions, for the interpreter and for generated kernels: those are
 * compiled from this text when a program runs, so it includes nothing but what core/math.h needs. */
#ifndef SL_CUDA_FORMULA_OPS_CUH
#define SL_CUDA_FORMULA_OPS_CUH

#include "core/activation_rows.h"

/* One call, taken apart. Vectors have one value for all or, where wide, one per column. */
struct sl_formula_arguments {
    const float *x, *dy, *bias, *a[4]; /* dy NULL: 1; bias NULL: none; a: the learned parameters */
    float *y, *z;                      /* z: x + bias; NULL: not wanted */
    bool bias_wide, a_wide[4], wide;   /* wide: one of them is */
    long long count, columns;
};

#define SL_FORMULA_FN static __device__ __forceinline__ float
#define OPERATION(id, name, arity, value, slope)                                                             \
    SL_FORMULA_FN sl_f_##id(float a, float b, float c, float d)                                              \
    {                                                                                                        \
        (void)a, (void)b, (void)c, (void)d;                                                                  \
        return value;                                                                                        \
    }
#include "core/formula.def"
#undef OPERATION

/* A row's parameters where an expression uses it as a function: those it has by default. */
#define NO_PARAMETER                                                               R(0), R(0)
#define PARAMETER(name, value, how, lowest)                                        value, R(0)
#define TWO_PARAMETERS(name, value, how, lowest, name_b, value_b, how_b, lowest_b) value, value_b
#define CALLED(function, ...)                                                      function(a, __VA_ARGS__)
#define ACTIVATION(id, name, parameters, ...)                                                                \
    SL_FORMULA_FN sl_f_VALUE_##id(float a, float, float, float)                                              \
    {                                                                                                        \
        return CALLED(sl_value_##id, parameters);                                                            \
    }                                                                                                        \
    SL_FORMULA_FN sl_f_SLOPE_##id(float a, float, float, float)                                              \
    {                                                                                                        \
        return CALLED(sl_slope_##id, parameters);                                                            \
    }
#include "slope/activations.def"
#undef ACTIVATION
#undef CALLED
#undef NO_PARAMETER
#undef PARAMETER
#undef TWO_PARAMETERS
#undef SL_FORMULA_FN
#endif
