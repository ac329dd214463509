/* Stands in for cuRAND's header of this name: the Philox function, after Salmon, Moraes, Dror and Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Written apart from core/philox.h, so that one
 * checks the other. */
#ifndef SL_SIMT_CURAND_PHILOX4X32_X_H
#define SL_SIMT_CURAND_PHILOX4X32_X_H

#include <cuda_runtime.h>

static inline uint4 curand_Philox4x32_10(uint4 c, uint2 key)
{
    for (int round = 0; round < 10; round++, key.x += 0x9E3779B9u, key.y += 0xBB67AE85u) {
        const unsigned low0 = 0xD2511F53u * c.x, high0 = __umulhi(0xD2511F53u, c.x);
        const unsigned low1 = 0xCD9E8D57u * c.z, high1 = __umulhi(0xCD9E8D57u, c.z);
        c = make_uint4(high1 ^ c.y ^ key.x, low1, high0 ^ c.w ^ key.y, low0);
    }
    return c;
}
#endif
