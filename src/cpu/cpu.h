/* Shared by the CPU kernels. Every kernel file in src/cpu/ is compiled several times: as the double-precision
 * reference (SL_DOUBLE) and for each instruction set, with SL_SUFFIX naming the copy: f64, plain, avx2,
 * avx512. Files named *_fast.c are left out of the reference. Nothing in a kernel file may have external
 * linkage but its list of kernels. */
#ifndef SL_CPU_CPU_H
#define SL_CPU_CPU_H

#include "backend.h"
#include "core/math.h"
#include "core/sum.h"
#include "cpu/threads.h"

#define SL_JOIN_(a, b) a##_##b
#define SL_JOIN(a, b)  SL_JOIN_(a, b)
#define SL_KERNELS(family)                                                                                   \
    SL_JOIN(sl_cpu_##family, SL_SUFFIX) /* const sl_kernel SL_KERNELS(gemm)[] = {…, {0}}; */

sl_pool *sl_cpu_pool(const sl_device *device);

/* Threads the call's device has, and its workspace per thread. */
static inline void sl_parallel(const sl_call *call, sl_task *task, void *arg, int64_t n, int64_t grain)
{
    sl_pool_run(sl_cpu_pool(call->device), task, arg, n, grain);
}

/* Data of input and output number i. */
static inline const real *sl_in(const sl_call *call, int i)
{
    return (const real *)call->in[i].data;
}
static inline real *sl_out(const sl_call *call, int i)
{
    return (real *)call->out[i].data;
}
#endif
