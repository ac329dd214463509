/* How tensor cores round their factors, as src/cuda/mma.cuh has it, for finite numbers. */
#ifndef SL_TESTS_ROUNDING_H
#define SL_TESTS_ROUNDING_H

#include <stdint.h>
#include <string.h>

#include "slope/context.h"

/* Half the distance of neighbours, relative: 11 significant bits, and 8. */
#define UNIT_TF32 0x1p-11
#define UNIT_BF16 0x1p-8

/* To `bits` fewer bits, ties away from zero or to even. */
static inline float without_bits(float x, int bits, bool even)
{
    uint32_t word, half = 1u << (bits - 1);
    memcpy(&word, &x, sizeof word);
    word += even ? half - 1 + (word >> bits & 1) : half;
    word &= ~((1u << bits) - 1);
    memcpy(&x, &word, sizeof x);
    return x;
}

static inline float rounded(float x, sl_precision precision)
{
    return precision == SL_TF32   ? without_bits(x, 13, false)
           : precision == SL_BF16 ? without_bits(x, 16, true)
                                  : x;
}

static inline double unit_of(sl_precision precision)
{
    return precision == SL_TF32 ? UNIT_TF32 : precision == SL_BF16 ? UNIT_BF16 : 0;
}
#endif
