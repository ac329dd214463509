/* Random tensors and dropout masks, from core/philox.h. */
#include <string.h>

#if defined(__SSE2__)
#    include <immintrin.h>
#endif

#include "core/philox.h"
#include "cpu/cpu.h"

enum { BLOCKS = 64, GRAIN = 1 << 10 }; /* blocks of four words: made at once, worth a thread's while */

/* The words of blocks first … first+BLOCKS-1 of a stream. A vector holds one counter word of several blocks
 * in the low halves of its 64-bit lanes: the multiplication reads just these, so the upper halves may hold
 * anything. */
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#    if defined(__AVX512F__)
enum { LANES = 8 };
typedef uint64_t lanes __attribute__((vector_size(64)));
#        define PRODUCT(a, b)   ((lanes)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#        define INTERLEAVE_LOW  0, 8, 1, 9, 2, 10, 3, 11
#        define INTERLEAVE_HIGH 4, 12, 5, 13, 6, 14, 7, 15
static const lanes lane_number = {0, 1, 2, 3, 4, 5, 6, 7};
#    elif defined(__AVX2__)
enum { LANES = 4 };
typedef uint64_t lanes __attribute__((vector_size(32)));
#        define PRODUCT(a, b)   ((lanes)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#        define INTERLEAVE_LOW  0, 4, 1, 5
#        define INTERLEAVE_HIGH 2, 6, 3, 7
static const lanes lane_number = {0, 1, 2, 3};
#    else
enum { LANES = 2 };
typedef uint64_t lanes __attribute__((vector_size(16)));
#        define PRODUCT(a, b)   ((lanes)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#        define INTERLEAVE_LOW  0, 2
#        define INTERLEAVE_HIGH 1, 3
static const lanes lane_number = {0, 1};
#    endif

static inline void words_of(uint32_t *restrict word, uint64_t seed, uint32_t stream, uint32_t step,
                            uint64_t first)
{
    const lanes zero = {0}, low = zero + 0xffffffffu;
    for (uint64_t j = 0; j < BLOCKS; j += LANES) {
        uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
        lanes c0 = lane_number + (first + j), c1 = c0 >> 32, c2 = zero + stream, c3 = zero + step;
#    pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const lanes a = PRODUCT(zero + 0xD2511F53u, c0), b = PRODUCT(zero + 0xCD9E8D57u, c2);
            c0 = (b >> 32) ^ c1 ^ (zero + key0);
            c1 = b;
            c2 = (a >> 32) ^ c3 ^ (zero + key1);
            c3 = a;
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        const lanes front = (c0 & low) | c1 << 32, back = (c2 & low) | c3 << 32;
        const lanes block[2] = {__builtin_shufflevector(front, back, INTERLEAVE_LOW),
                                __builtin_shufflevector(front, back, INTERLEAVE_HIGH)};
        memcpy(word + 4 * j, block, sizeof block);
    }
}
#else
static inline void words_of(uint32_t *restrict word, uint64_t seed, uint32_t stream, uint32_t step,
                            uint64_t first)
{
    for (uint64_t j = 0; j < BLOCKS; j++) {
        sl_words words = sl_random_words4(seed, stream, step, first + j);
        for (int l = 0; l < 4; l++) word[4 * j + (uint64_t)l] = words.w[l];
    }
}
#endif

static void random_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const sl_random_attr *attr = call->attr;
    const int64_t count = sl_shape_count(call->out[0].shape);
    const real low = (real)attr->low, span = (real)(attr->high - attr->low), deviation = (real)attr->high;
    (void)worker;
    for (int64_t b = first; b < last; b += BLOCKS) {
        uint32_t word[4 * BLOCKS];
        real value[4 * BLOCKS], *y = sl_out(call, 0) + 4 * b;
        const int64_t blocks = last - b < BLOCKS ? last - b : BLOCKS;
        const int64_t n = count - 4 * b < 4 * blocks ? count - 4 * b : 4 * blocks;
        words_of(word, attr->seed, attr->stream, 0, (uint64_t)b);
        if (attr->kind == SL_RANDOM_NORMAL)
            for (int64_t i = 0; i < 2 * BLOCKS; i++) {
                real z0, z1;
                sl_normals(word[2 * i], word[2 * i + 1], &z0, &z1);
                value[2 * i] = low + deviation * z0;
                value[2 * i + 1] = low + deviation * z1;
            }
        else
            for (int64_t i = 0; i < 4 * BLOCKS; i++) value[i] = low + span * (real)sl_uniform(word[i]);
        for (int64_t i = 0; i < n; i++) y[i] = value[i];
    }
}

static void random_fill(const sl_call *call)
{
    sl_parallel(call, random_task, (void *)call, (sl_shape_count(call->out[0].shape) + 3) / 4, GRAIN);
}

typedef struct dropout_job {
    const sl_call *call;
    uint64_t dropped;
} dropout_job;

static void dropout_task(void *arg, int64_t first, int64_t last, int worker)
{
    const dropout_job *job = arg;
    const sl_dropout_attr *attr = job->call->attr;
    const int64_t count = sl_shape_count(job->call->out[0].shape);
    const uint32_t step = (uint32_t) * (const int32_t *)job->call->in[1].data,
                   threshold = (uint32_t)job->dropped;
    const real gain = 1 / (1 - (real)attr->rate);
    (void)worker;
    for (int64_t b = first; b < last; b += BLOCKS) {
        uint32_t word[4 * BLOCKS];
        const real *x = sl_in(job->call, 0) + 4 * b;
        real *y = sl_out(job->call, 0) + 4 * b;
        const int64_t blocks = last - b < BLOCKS ? last - b : BLOCKS;
        const int64_t n = count - 4 * b < 4 * blocks ? count - 4 * b : 4 * blocks;
        words_of(word, attr->seed, attr->stream, step, (uint64_t)b);
#pragma GCC ivdep
        for (int64_t i = 0; i < n; i++) y[i] = word[i] >= threshold ? x[i] * gain : 0;
    }
}

static void dropout(const sl_call *call)
{
    const sl_dropout_attr *attr = call->attr;
    dropout_job job = {call, sl_words_dropped(attr->rate)};
    const int64_t count = sl_shape_count(call->out[0].shape);
    if (job.dropped >> 32) /* a rate of 1 */
        for (int64_t i = 0; i < count; i++) sl_out(call, 0)[i] = 0;
    else
        sl_parallel(call, dropout_task, &job, (count + 3) / 4, GRAIN);
}

const sl_kernel SL_KERNELS(random)[] = {
    {SL_OP_RANDOM, "philox", NULL, NULL, random_fill},
    {SL_OP_DROPOUT, "philox", NULL, NULL, dropout},
    {0},
};
