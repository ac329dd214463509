/* Stands in for cuRAND's device header: the Philox generator with its state. */
#ifndef SL_SIMT_CURAND_KERNEL_H
#define SL_SIMT_CURAND_KERNEL_H

#include <curand_philox4x32_x.h>

struct curandStatePhilox4_32_10_t {
    uint4 ctr, output;
    uint2 key;
    unsigned STATE; /* which word of `output` comes next */
};

/* The counter is 128 bits, lowest word first. */
static inline void simt_philox_next_block(uint4 &c)
{
    if (++c.x == 0 && ++c.y == 0 && ++c.z == 0) ++c.w;
}

static inline void skipahead(unsigned long long n, curandStatePhilox4_32_10_t *s)
{
    s->STATE += (unsigned)(n & 3);
    n /= 4;
    if (s->STATE > 3) {
        n++;
        s->STATE -= 4;
    }
    const unsigned long long low = ((unsigned long long)s->ctr.y << 32 | s->ctr.x), sum = low + n;
    s->ctr.x = (unsigned)sum;
    s->ctr.y = (unsigned)(sum >> 32);
    if (sum < low && ++s->ctr.z == 0) ++s->ctr.w;
    s->output = curand_Philox4x32_10(s->ctr, s->key);
}

static inline void curand_init(unsigned long long seed, unsigned long long subsequence,
                               unsigned long long offset, curandStatePhilox4_32_10_t *s)
{
    s->key = make_uint2((unsigned)seed, (unsigned)(seed >> 32));
    s->ctr = make_uint4(0, 0, (unsigned)subsequence, (unsigned)(subsequence >> 32));
    s->STATE = 0;
    skipahead(offset, s);
}

static inline unsigned curand(curandStatePhilox4_32_10_t *s)
{
    const unsigned words[4] = {s->output.x, s->output.y, s->output.z, s->output.w};
    const unsigned word = words[s->STATE];
    if (++s->STATE == 4) {
        simt_philox_next_block(s->ctr);
        s->output = curand_Philox4x32_10(s->ctr, s->key);
        s->STATE = 0;
    }
    return word;
}

/* The next four words, across two blocks where the generator stands inside of one. */
static inline uint4 curand4(curandStatePhilox4_32_10_t *s)
{
    const uint4 a = s->output;
    simt_philox_next_block(s->ctr);
    s->output = curand_Philox4x32_10(s->ctr, s->key);
    const unsigned words[8] = {a.x, a.y, a.z, a.w, s->output.x, s->output.y, s->output.z, s->output.w};
    const unsigned *at = words + s->STATE;
    return make_uint4(at[0], at[1], at[2], at[3]);
}

/* In (0, 1]. */
static inline float curand_uniform(curandStatePhilox4_32_10_t *s)
{
    return (float)curand(s) * 0x1p-32f + 0x1p-33f;
}
static inline float4 curand_uniform4(curandStatePhilox4_32_10_t *s)
{
    const uint4 w = curand4(s);
    return make_float4((float)w.x * 0x1p-32f + 0x1p-33f, (float)w.y * 0x1p-32f + 0x1p-33f,
                       (float)w.z * 0x1p-32f + 0x1p-33f, (float)w.w * 0x1p-32f + 0x1p-33f);
}
#endif
