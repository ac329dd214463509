/* Jobs become phases: two that meet in memory, one of them writing, lie in different phases, between which
 * all blocks wait for each other; those that do not meet share one. What meets within a block needs no such
 * wait: jobs that give the same rows to the same block, and jobs of one block each, which all go to the same
 * one. */
#ifndef SL_CUDA_PHASES_CUH
#define SL_CUDA_PHASES_CUH

#include "cuda/cuda.cuh"

enum sl_spread {
    SL_SPREAD_BLOCKS, /* any block may touch anything that the job touches */
    SL_SPREAD_ROWS,   /* block b touches group number b of the rows, and what has no rows */
    SL_SPREAD_ONE,    /* one block does it all */
};

struct sl_access {
    const void *from;
    int64_t bytes, row; /* bytes of a row; 0: it has none */
    bool writes;
};

enum { SL_JOB_ACCESSES = 16 };
struct sl_job_uses {
    sl_spread spread;
    int n, phase;
    sl_access access[SL_JOB_ACCESSES];
};

/* NULL and nothing are not touched. False: there is no room. */
static inline bool sl_job_touches(sl_job_uses *job, const void *from, int64_t bytes, int64_t row, bool writes)
{
    if (!from || bytes <= 0) return true;
    if (job->n == SL_JOB_ACCESSES) return false;
    job->access[job->n++] = {from, bytes, row, writes};
    return true;
}

static inline bool sl_accesses_meet(const sl_access &a, const sl_access &b)
{
    const uintptr_t x = (uintptr_t)a.from, y = (uintptr_t)b.from;
    return (a.writes || b.writes) && x < y + (uintptr_t)b.bytes && y < x + (uintptr_t)a.bytes;
}

enum sl_order { SL_ORDER_NONE, SL_ORDER_BLOCK, SL_ORDER_PHASE };

/* What `later` needs done before it: nothing, its own block's part of `first`, or all of it. */
static inline sl_order sl_job_order(const sl_job_uses &first, const sl_job_uses &later)
{
    const bool one = first.spread == SL_SPREAD_ONE && later.spread == SL_SPREAD_ONE;
    const bool rows = first.spread == SL_SPREAD_ROWS && later.spread == SL_SPREAD_ROWS;
    sl_order order = SL_ORDER_NONE;
    for (int i = 0; i < first.n; i++)
        for (int k = 0; k < later.n; k++) {
            const sl_access &a = first.access[i], &b = later.access[k];
            if (!sl_accesses_meet(a, b)) continue;
            if (!one && !(rows && a.row > 0 && a.from == b.from && a.row == b.row)) return SL_ORDER_PHASE;
            order = SL_ORDER_BLOCK;
        }
    return order;
}

/* Each job into the first phase that it can be in; returns how many there are. Within a phase the jobs keep
 * their order. */
static inline int sl_set_phases(sl_job_uses *jobs, int n)
{
    int phases = 0;
    for (int j = 0; j < n; j++) {
        jobs[j].phase = 0;
        for (int i = 0; i < j; i++) {
            const sl_order order = sl_job_order(jobs[i], jobs[j]);
            if (order == SL_ORDER_NONE) continue;
            const int first = jobs[i].phase + (order == SL_ORDER_PHASE);
            if (first > jobs[j].phase) jobs[j].phase = first;
        }
        if (jobs[j].phase + 1 > phases) phases = jobs[j].phase + 1;
    }
    return phases;
}
#endif
