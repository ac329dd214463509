/* `real` is float, or double where a file is compiled with SL_DOUBLE: the same kernels then make the oracle.
 * SL_FN marks an inline function that host and device share. */
#ifndef SL_CORE_REAL_H
#define SL_CORE_REAL_H

#ifdef SL_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#define R(constant) ((real)(constant)) /* a constant of a formula; folded by the compiler */

#ifdef __CUDACC__
#    define SL_FN static __host__ __device__ __forceinline__
#else
#    define SL_FN static inline __attribute__((always_inline))
#endif
#endif
