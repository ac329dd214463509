/* What an activation is doing: mean and spread of its values, how many of them still pass a gradient. */
#include "cpu/reduce.h"

typedef struct moments_job {
    const real *x;
    real mean, *sums;
    bool centred;
    int64_t n;
} moments_job;

static void moments_task(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const moments_job *job = arg;
    real terms[SL_LEAF];
    for (int64_t b = first; b < last; b++) {
        const int64_t start = b * SL_LEAF, n = job->n - start < SL_LEAF ? job->n - start : SL_LEAF;
        for (int64_t i = 0; i < n; i++) {
            const real d = job->x[start + i] - job->mean;
            terms[i] = job->centred ? d * d : job->x[start + i];
        }
        job->sums[b] = sl_leaf_sum(terms, n);
    }
}

static real mean_of(const sl_call *call, moments_job *job)
{
    real sum = 0;
    sl_parallel(call, moments_task, job, sl_blocks(job->n), 16);
    sl_blocks_combine(job->sums, sl_blocks(job->n), 1, 1, &sum);
    return job->n > 0 ? sum / (real)job->n : 0;
}

static void activation_statistics(const sl_call *call)
{
    const int64_t units = sl_shape_last(call->in[0].shape);
    const int64_t rows = sl_valid_rows(call, sl_shape_count(call->in[0].shape) / units);
    const real *slope = sl_in(call, 1);
    moments_job job = {.x = sl_in(call, 0), .sums = call->workspace, .n = rows * units};
    job.mean = mean_of(call, &job);
    job.centred = true;
    real *out = sl_out(call, 0);
    out[0] = job.mean;
    out[1] = r_sqrt(mean_of(call, &job));
    int64_t active = 0, dead = 0;
    for (int64_t u = 0; u < units; u++) {
        int64_t passing = 0, nonzero = 0;
        for (int64_t r = 0; r < rows; r++) {
            const real size = r_abs(slope[r * units + u]);
            passing += size >= R(0.01);
            nonzero += size > 0;
        }
        active += passing;
        dead += nonzero == 0;
    }
    out[2] = rows > 0 ? (real)active / (real)(rows * units) : 0;
    out[3] = (real)dead / (real)units;
}

static size_t statistics_workspace(const sl_call *call)
{
    return (size_t)sl_blocks(sl_shape_count(call->in[0].shape)) * sizeof(real);
}

const sl_kernel SL_KERNELS(statistics)[] = {
    {SL_OP_ACTIVATION_STATISTICS, "plain", NULL, statistics_workspace, activation_statistics}, {0}};
