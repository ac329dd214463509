/* Random numbers as a pure function of (seed, stream, step, element): Philox4x32-10 of Salmon, Moraes, Dror
 * and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Element i of a stream at a step is word i
 * mod 4 of the block with key (low, high word of seed) and counter (i/4 in 64 bits, stream, step): what a
 * cuRAND Philox state initialised with curand_init(seed, stream | step << 32, i) gives first. */
#ifndef SL_CORE_PHILOX_H
#define SL_CORE_PHILOX_H

#include <stdint.h>

#include "core/math.h"

typedef struct sl_words {
    uint32_t w[4];
} sl_words;

SL_FN sl_words sl_philox(sl_words c, uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c.w[0], b = (uint64_t)0xCD9E8D57u * c.w[2];
        sl_words next = {{(uint32_t)(b >> 32) ^ c.w[1] ^ key0, (uint32_t)b,
                          (uint32_t)(a >> 32) ^ c.w[3] ^ key1, (uint32_t)a}};
        c = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

/* Elements 4·block … 4·block + 3. */
SL_FN sl_words sl_random_words4(uint64_t seed, uint32_t stream, uint32_t step, uint64_t block)
{
    sl_words counter = {{(uint32_t)block, (uint32_t)(block >> 32), stream, step}};
    return sl_philox(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

SL_FN uint32_t sl_random_word(uint64_t seed, uint32_t stream, uint32_t step, uint64_t i)
{
    sl_words words = sl_random_words4(seed, stream, step, i / 4);
    return words.w[i % 4];
}

/* In (0, 1], as cuRAND makes it; words >= ffffff80 give 1. The product is exact, so the value is the same
 * with and without contraction. It is a float in the double-precision reference too: both precisions draw the
 * same values. */
SL_FN float sl_uniform(uint32_t word)
{
    return (float)word * 0x1p-32f + 0x1p-33f;
}

/* Two standard normal values from two words by Box and Muller's formula, sine first as cuRAND has it. The
 * reference computes the formula in double precision from the same two floats. */
SL_FN void sl_normals(uint32_t word0, uint32_t word1, real *z0, real *z1)
{
    const real radius = r_sqrt(R(-2) * r_log((real)sl_uniform(word0))), turn = R(2) * (real)sl_uniform(word1);
    *z0 = radius * r_sin_pi(turn);
    *z1 = radius * r_cos_pi(turn);
}

/* A bijection of [0, n), n < 2^62, that looks random: a Feistel network on the cells of a table with 2^shift
 * columns and just enough rows for n, walked until it lands inside (Black and Rogaway, "Ciphers with
 * arbitrary finite domains", CT-RSA 2002). At most 2^ceil(bits/2) cells lie outside, so a second walk is
 * rare. */
#define SL_PERMUTATION_ROUNDS 12

typedef struct sl_permutation {
    uint64_t n;
    uint32_t rows, shift;
    uint32_t key[SL_PERMUTATION_ROUNDS];
} sl_permutation;

SL_FN sl_permutation sl_permutation_of(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t n)
{
    sl_permutation p;
    uint32_t bits = 0;
    while (bits < 62 && (uint64_t)1 << bits < n) bits++;
    p.n = n;
    p.shift = (bits + 1) / 2;
    p.rows = (uint32_t)((n + ((uint64_t)1 << p.shift) - 1) >> p.shift);
    for (int i = 0; i < SL_PERMUTATION_ROUNDS; i += 4) {
        sl_words words = sl_random_words4(seed, stream, epoch, (uint64_t)i / 4);
        for (int j = 0; j < 4; j++) p.key[i + j] = words.w[j];
    }
    return p;
}

SL_FN uint32_t sl_permutation_mix(uint32_t x, uint32_t key)
{
    x = (x ^ key) * 0x9E3779B1u;
    x = (x ^ x >> 15) * 0x85EBCA77u;
    x = (x ^ x >> 13) * 0xC2B2AE3Du;
    return x ^ x >> 16;
}

/* Where the permutation sends i < n. */
SL_FN uint64_t sl_permuted(const sl_permutation *p, uint64_t i)
{
    const uint32_t mask = ((uint32_t)1 << p->shift) - 1;
    do {
        uint32_t column = (uint32_t)i & mask, row = (uint32_t)(i >> p->shift);
        for (int round = 0; round < SL_PERMUTATION_ROUNDS; round += 2) {
            column = (column + (sl_permutation_mix(row, p->key[round]) >> (31 - p->shift) >> 1)) & mask;
            uint64_t turn = (uint64_t)sl_permutation_mix(column, p->key[round + 1]) * p->rows;
            row += (uint32_t)(turn >> 32);
            row -= row >= p->rows ? p->rows : 0;
        }
        i = (uint64_t)row << p->shift | column;
    } while (i >= p->n);
    return i;
}

SL_FN uint64_t sl_permute(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t n, uint64_t i)
{
    sl_permutation p = sl_permutation_of(seed, stream, epoch, n);
    return sl_permuted(&p, i);
}
/* How many words give a value that is not above `rate`: just the words below this number, for the value grows
 * with the word. */
static inline uint64_t sl_words_dropped(float rate)
{
    uint64_t low = 0, high = (uint64_t)1 << 32;
    while (low < high) {
        const uint64_t middle = (low + high) / 2;
        if (sl_uniform((uint32_t)middle) > rate)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}
#endif
