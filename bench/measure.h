/* What the benchmarks share: the command's clock and medians, the machine's peak of multiply-add in
 * registers, and its copy. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/timing.h"
#include "cpu/threads.h"

/* --- the peak ----------------------------------------------------------------------------------------- */

enum { PEAK_TURNS = 200000, PEAK_CHAINS = 10 };

#if defined(__x86_64__)
/* Ten chains of dependent multiply-adds: two units with a latency of 4 or 5 are always busy. */
#    define PEAK_LOOP(isa, register_)                                                                        \
        __attribute__((target(isa))) static inline void peak_loop_##register_(void)                          \
        {                                                                                                    \
            int64_t turns = PEAK_TURNS;                                                                      \
            __asm__ volatile(                                                                                \
                PEAK_CLEAR(register_, 0) PEAK_CLEAR(register_, 1) PEAK_CLEAR(register_, 2)                   \
                    PEAK_CLEAR(register_, 3) PEAK_CLEAR(register_, 4) PEAK_CLEAR(register_, 5)               \
                        PEAK_CLEAR(register_, 6) PEAK_CLEAR(register_, 7) PEAK_CLEAR(register_, 8)           \
                            PEAK_CLEAR(register_, 9) "1:\n\t" PEAK_ADD(register_, 0) PEAK_ADD(register_, 1)  \
                                PEAK_ADD(register_, 2) PEAK_ADD(register_, 3) PEAK_ADD(register_, 4)         \
                                    PEAK_ADD(register_, 5) PEAK_ADD(register_, 6) PEAK_ADD(register_, 7)     \
                                        PEAK_ADD(register_, 8) PEAK_ADD(register_, 9) "dec %0\n\tjnz 1b\n\t" \
                : "+r"(turns)                                                                                \
                :                                                                                            \
                : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9");     \
        }
#    define PEAK_CLEAR(register_, i) "vpxor %%xmm" #    i ", %%xmm" #    i ", %%xmm" #    i "\n\t"
#    define PEAK_ADD(register_, i)                                                                           \
        "vfmadd231ps %%" #register_ #i ", %%" #register_ #i ", %%" #register_ #i "\n\t"
PEAK_LOOP("avx2,fma", ymm)
PEAK_LOOP("avx512f", zmm)
#    undef PEAK_LOOP
#    undef PEAK_CLEAR
#    undef PEAK_ADD
#endif

static inline void peak_task(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    for (int64_t i = first; i < last; i++) (*(void (**)(void))arg)();
}

/* GFLOP/s of all threads of the pool with the widest registers of this machine, or those that SLOPE_ISA names
 * (as for the kernels); 0 where there is no FMA. */
static inline double peak_gflops(sl_pool *pool)
{
    void (*loop)(void) = NULL;
    double lanes = 0;
#if defined(__x86_64__)
    const char *isa = getenv("SLOPE_ISA");
    const bool any = !isa || !*isa;
    if ((any && __builtin_cpu_supports("avx512f")) || (!any && strcmp(isa, "avx512") == 0))
        loop = peak_loop_zmm, lanes = 16;
    else if ((any && __builtin_cpu_supports("fma")) || (!any && strcmp(isa, "avx2") == 0))
        loop = peak_loop_ymm, lanes = 8;
#endif
    if (!loop) return 0;
    const int threads = sl_pool_threads(pool);
    sl_pool_run(pool, peak_task, &loop, threads, 1); /* wakes the workers */
    const double start = seconds_now();
    sl_pool_run(pool, peak_task, &loop, 4 * threads, 1);
    return 2.0 * 4 * threads * PEAK_TURNS * PEAK_CHAINS * lanes / (seconds_now() - start) * 1e-9;
}

/* --- the copy ----------------------------------------------------------------------------------------- */

/* In pieces that memcpy does not stream past the caches, as the kernels do not. */
typedef struct copy_job {
    char *to;
    const char *from;
    int64_t bytes;
} copy_job;
enum { COPY_PIECE = 64 << 10 };

static inline void copy_task_of(void *arg, int64_t first, int64_t last, int worker)
{
    const copy_job *job = arg;
    (void)worker;
    for (int64_t at = first * COPY_PIECE; at < last * COPY_PIECE && at < job->bytes; at += COPY_PIECE) {
        const int64_t left = job->bytes - at;
        memcpy(job->to + at, job->from + at, (size_t)(left < COPY_PIECE ? left : COPY_PIECE));
    }
}

/* Bytes read and written a second where all threads copy the first half of `memory` onto the second, again
 * and again for some milliseconds: the rate of the caches where `bytes` fits into them. */
static inline double copy_rate_of(sl_pool *pool, char *memory, int64_t bytes)
{
    copy_job job = {memory + bytes / 2, memory, bytes / 2};
    const int64_t pieces = (job.bytes + COPY_PIECE - 1) / COPY_PIECE;
    sl_pool_run(pool, copy_task_of, &job, pieces, 1);
    const double start = seconds_now();
    double moved = 0, seconds = 0;
    for (; seconds < 5e-3; seconds = seconds_now() - start) {
        sl_pool_run(pool, copy_task_of, &job, pieces, 1);
        moved += 2 * (double)job.bytes;
    }
    return moved / seconds;
}
#endif
