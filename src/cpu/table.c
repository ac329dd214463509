/* The kernels of one copy of the CPU back end, fast ones before the reference. */
#include "cpu/cpu.h"

#define SL_FAST_FAMILIES(FAMILY) FAMILY(matmul_fast) FAMILY(conv_fast) FAMILY(pool_fast)

#define FAMILY(name) extern const sl_kernel SL_KERNELS(name)[];
SL_KERNEL_FAMILIES(FAMILY)
#ifndef SL_DOUBLE
SL_FAST_FAMILIES(FAMILY)
#endif
#undef FAMILY

extern const sl_kernel *const SL_KERNELS(table)[];
#define FAMILY(name) SL_KERNELS(name),
const sl_kernel *const SL_KERNELS(table)[] = {
#ifndef SL_DOUBLE
    SL_FAST_FAMILIES(FAMILY)
#endif
        SL_KERNEL_FAMILIES(FAMILY) NULL};
