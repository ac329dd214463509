/* The kernels of one copy of the CPU back end, fast ones before the reference. */
#include "cpu/cpu.h"

// clang-format off
#define SL_FAMILIES(FAMILY)                                                                                  \
    FAMILY(matmul)                                                                                           \
    FAMILY(conv)                                                                                             \
    FAMILY(activation)                                                                                       \
    FAMILY(elementwise) FAMILY(reduce) FAMILY(pool) FAMILY(norm) FAMILY(softmax) FAMILY(loss)                \
        FAMILY(random) FAMILY(statistics) FAMILY(step) FAMILY(update)
#define SL_FAST_FAMILIES(FAMILY) FAMILY(matmul_fast) FAMILY(conv_fast)
// clang-format on

#define FAMILY(name) extern const sl_kernel SL_KERNELS(name)[];
SL_FAMILIES(FAMILY)
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
        SL_FAMILIES(FAMILY) NULL};
