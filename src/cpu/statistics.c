/* What a diagnosis reads: the state of activations, and how far a step moves the weights. */
#include "cpu/activation.h"
#include "cpu/reduce.h"

/* --- activations --- */

/* For every leaf block of the values: their sum, the sum of squares around the block's own mean, and how many
 * slopes pass a gradient. So the values are read from memory once. */
typedef struct state_job {
    const sl_call *call;
    int64_t n, units, blocks;
    real *sums, *means, *squares; /* of each block */
    int64_t *active;              /* of each block */
    uint8_t *passing;             /* [thread][unit]: a slope was not 0 */
} state_job;

static int64_t block_size(int64_t n, int64_t block)
{
    return n - block * SL_LEAF < SL_LEAF ? n - block * SL_LEAF : SL_LEAF;
}

/* Notes which units have a slope that is not 0; the first slope is that of `unit`. Whole rows are laid over
 * each other, as long as there are several. Destroys the slopes. */
static void note_passing(int64_t n, real *slope, int64_t unit, int64_t units, uint8_t *passing)
{
    while (n > 2 * units) {
        const int64_t kept = (n / 2 + units - 1) / units * units;
        real *restrict to = slope;
        const real *restrict from = slope + kept;
        for (int64_t i = 0; i < n - kept; i++) to[i] = r_abs(to[i]) > 0 ? to[i] : from[i];
        n = kept;
    }
    for (int64_t i = 0; i < n; i++, unit = unit + 1 < units ? unit + 1 : 0)
        passing[unit] |= r_abs(slope[i]) > 0;
}

/* The sum of one leaf block of (y - mean)². */
static real squares_around(real mean, const real *y, int64_t n)
{
    real acc[SL_LANES] = {0};
    int64_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        for (int l = 0; l < SL_LANES; l++) acc[l] += (y[i + l] - mean) * (y[i + l] - mean);
    for (int l = 0; i + l < n; l++) acc[l] += (y[i + l] - mean) * (y[i + l] - mean);
    sl_lanes_fold(acc, 1);
    return acc[0];
}

static void state_task(void *arg, int64_t first, int64_t last, int worker)
{
    const state_job *job = arg;
    uint8_t *passing = job->passing + worker * job->units;
    real slope[SL_LEAF];
    for (int64_t b = first; b < last; b++) {
        const int64_t start = b * SL_LEAF, n = block_size(job->n, b);
        const real *y = sl_in(job->call, 0) + start;
        job->sums[b] = sl_leaf_sum(y, n);
        const real mean = job->means[b] = job->sums[b] / (real)n;
        job->squares[b] = squares_around(mean, y, n);
        SL_JOIN(sl_slopes, SL_SUFFIX)(job->call, start, n, slope);
        int32_t active = 0;
        for (int64_t i = 0; i < n; i++) active += r_abs(slope[i]) >= R(0.01);
        job->active[b] = active;
        note_passing(n, slope, start % job->units, job->units, passing);
    }
}

/* Cut from the workspace; without one, the bytes that it needs. */
static size_t state_cut(state_job *job, const sl_call *call, char *workspace)
{
    const int64_t blocks = sl_blocks(sl_shape_count(call->in[0].shape));
    const size_t threads = (size_t)sl_pool_threads(sl_cpu_pool(call->device)), of = (size_t)blocks;
    job->active = (int64_t *)workspace;
    job->sums = (real *)(workspace + of * sizeof *job->active);
    job->means = job->sums + blocks;
    job->squares = job->means + blocks;
    job->passing = (uint8_t *)(job->squares + blocks);
    return of * (sizeof *job->active + 3 * sizeof *job->sums) + threads * (size_t)job->units;
}

static void activation_statistics(const sl_call *call)
{
    state_job job = {.call = call, .units = sl_shape_last(call->in[0].shape)};
    state_cut(&job, call, call->workspace);
    const int64_t rows = sl_valid_rows(call, sl_shape_count(call->in[0].shape) / job.units);
    const int threads = sl_pool_threads(sl_cpu_pool(call->device));
    job.n = rows * job.units;
    job.blocks = sl_blocks(job.n);
    memset(job.passing, 0, (size_t)(threads * job.units));
    sl_parallel(call, state_task, &job, job.blocks, 16);
    real *out = sl_out(call, 0), sum, square;
    sl_blocks_combine(job.sums, job.blocks, 1, 1, &sum);
    const real mean = rows > 0 ? sum / (real)job.n : 0;
    int64_t active = 0, dead = 0;
    for (int64_t b = 0; b < job.blocks; b++) {
        const real d = job.means[b] - mean;
        job.squares[b] += (real)block_size(job.n, b) * (d * d);
        active += job.active[b];
    }
    sl_blocks_combine(job.squares, job.blocks, 1, 1, &square);
    for (int64_t u = 0; u < job.units; u++) {
        bool passes = false;
        for (int t = 0; t < threads; t++) passes |= job.passing[t * job.units + u];
        dead += !passes;
    }
    out[0] = mean;
    out[1] = rows > 0 ? r_sqrt(square / (real)job.n) : 0;
    out[2] = rows > 0 ? (real)active / (real)job.n : 0;
    out[3] = (real)dead / (real)job.units;
}

static size_t statistics_workspace(const sl_call *call)
{
    state_job job = {.units = sl_shape_last(call->in[0].shape)};
    return state_cut(&job, call, NULL);
}

/* --- weights --- */

enum { NORMS = 3 }; /* of the gradient, of the weight before the step, of the step */

typedef struct norms_job {
    const sl_stretches_attr *attr;
    const real *before, *after, *gradient;
    real *sums; /* [block][NORMS] */
} norms_job;

static inline void add_squares(real acc[NORMS][SL_LANES], int64_t lanes, const real *w, const real *to,
                               const real *g)
{
    for (int64_t l = 0; l < lanes; l++) {
        const real d = to[l] - w[l];
        acc[0][l] += g[l] * g[l];
        acc[1][l] += w[l] * w[l];
        acc[2][l] += d * d;
    }
}

static void norms_block(const norms_job *job, int64_t first, int64_t n, real *sums)
{
    const real *w = job->before + first, *to = job->after + first, *g = job->gradient + first;
    real acc[NORMS][SL_LANES] = {{0}};
    int64_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) add_squares(acc, SL_LANES, w + i, to + i, g + i);
    add_squares(acc, n - i, w + i, to + i, g + i);
    for (int k = 0; k < NORMS; k++) {
        sl_lanes_fold(acc[k], 1);
        sums[k] = acc[k][0];
    }
}

/* The blocks of all stretches are counted through. */
static void norms_task(void *arg, int64_t first, int64_t last, int worker)
{
    const norms_job *job = arg;
    int64_t before = 0;
    (void)worker;
    for (int s = 0; s < job->attr->n; s++) {
        const sl_segment *stretch = &job->attr->stretch[s];
        const int64_t blocks = sl_blocks(stretch->count);
        for (int64_t b = first; b < last && b < before + blocks; b++, first++) {
            const int64_t at = (b - before) * SL_LEAF;
            norms_block(job, stretch->first + at, block_size(stretch->count, b - before),
                        job->sums + b * NORMS);
        }
        before += blocks;
    }
}

static int64_t norms_blocks(const sl_call *call)
{
    const sl_stretches_attr *attr = call->attr;
    int64_t blocks = 0;
    for (int s = 0; s < attr->n; s++) blocks += sl_blocks(attr->stretch[s].count);
    return blocks;
}

static size_t norms_workspace(const sl_call *call)
{
    return (size_t)(norms_blocks(call) * NORMS) * sizeof(real);
}

static void weight_statistics(const sl_call *call)
{
    const norms_job job = {call->attr, sl_in(call, 0), sl_in(call, 1), sl_in(call, 2), call->workspace};
    real *sums = job.sums, *out = sl_out(call, 0);
    sl_parallel(call, norms_task, (void *)&job, norms_blocks(call), 16);
    for (int s = 0; s < job.attr->n; s++) {
        const int64_t blocks = sl_blocks(job.attr->stretch[s].count);
        real total[NORMS];
        sl_blocks_combine(sums, blocks, NORMS, NORMS, total);
        *out++ = r_sqrt(total[0]);
        *out++ = total[1] == 0 ? 0 : r_sqrt(total[2]) / r_sqrt(total[1]);
        sums += blocks * NORMS;
    }
}

const sl_kernel SL_KERNELS(statistics)[] = {
    {SL_OP_ACTIVATION_STATISTICS, "blocks", NULL, statistics_workspace, activation_statistics},
    {SL_OP_WEIGHT_STATISTICS, "blocks", NULL, norms_workspace, weight_statistics},
    {0}};
