/* What follows a matrix product or a convolution, on a stretch of one row while it is still in cache. */
#ifndef SL_CPU_ACTIVATION_H
#define SL_CPU_ACTIVATION_H

#include "cpu/cpu.h"

/* z + bias -> z_out, f(z + bias) -> y for n elements.
 *   bias       NULL: none; bias_stride 1: one per element, 0: one for all
 *   parameter  NULL: attr->a; else a learned parameter, parameter_stride as above
 *   y          may be z;  z_out  NULL where nobody needs it; may be z where y is another */
void SL_JOIN(sl_epilogue, SL_SUFFIX)(int64_t n, const real *z, const real *bias, int bias_stride,
                                     const sl_activation_attr *attr, const real *parameter,
                                     int parameter_stride, real *y, real *z_out);

/* dy·f' -> dx for n elements, `at` as the row reads. dx may be dy. */
void SL_JOIN(sl_epilogue_slope, SL_SUFFIX)(int64_t n, const real *dy, const real *at,
                                           const sl_activation_attr *attr, real *dx);

/* dy·f'(z) -> dx for n elements; `room` is for n more. dx may be dy. */
void SL_JOIN(sl_epilogue_vjp, SL_SUFFIX)(int64_t n, const real *dy, const real *z,
                                         const sl_activation_attr *attr, real *room, real *dx);

/* f'(..) -> to for elements first … first+n-1, at most 1024, of a call whose inputs are those of
 * ACTIVATION_VJP; its input 0, there dy, is not read. */
void SL_JOIN(sl_slopes, SL_SUFFIX)(const sl_call *call, int64_t first, int64_t n, real *to);
#endif
