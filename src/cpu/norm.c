/* Batch normalisation over all dimensions but the last. With invstd = 1/sqrt(var + epsilon), xhat = (x -
 * mean)·invstd: y = xhat·gamma + beta dbeta = Σ dy,  dgamma = Σ dy·xhat dx = (gamma·invstd)·((dy -
 * dbeta/rows) - xhat·(dgamma/rows))   with the batch's own mean and variance dx = (gamma·invstd)·dy with mean
 * and variance as constants Each operation is rounded by itself. Sums and statistics are over the rows that
 * count. */
#include "cpu/activation.h"
#include "cpu/reduce.h"

typedef struct norm_job {
    const sl_call *call;
    int64_t c, rows, valid, blocks, panels;
    const real *x, *dy, *gamma, *beta;
    real *mean, *invstd;  /* [c] */
    real *sums, *sums2;   /* [panel][block][SL_PANEL] */
    real *total, *total2; /* [c] */
    real *out;
} norm_job;

static int64_t blocks_bound(const sl_call *call)
{
    return sl_blocks(sl_shape_rows(call->in[0].shape)) + 1;
}

/* Four vectors and two sets of block sums. */
static size_t norm_workspace(const sl_call *call)
{
    const int64_t c = sl_shape_last(call->in[0].shape), panels = (c + SL_PANEL - 1) / SL_PANEL;
    return (size_t)(4 * c + 2 * panels * blocks_bound(call) * SL_PANEL) * sizeof(real);
}

static norm_job job_of(const sl_call *call)
{
    const int64_t c = sl_shape_last(call->in[0].shape);
    norm_job job = {.call = call, .c = c, .rows = sl_shape_rows(call->in[0].shape)};
    job.valid = sl_valid_rows(call, job.rows);
    job.blocks = sl_blocks(job.valid);
    job.panels = (c + SL_PANEL - 1) / SL_PANEL;
    real *w = call->workspace;
    if (!w) return job;
    job.mean = w;
    job.invstd = w + c;
    job.total = w + 2 * c;
    job.total2 = w + 3 * c;
    job.sums = w + 4 * c;
    job.sums2 = job.sums + job.panels * blocks_bound(call) * SL_PANEL;
    return job;
}

/* Adds `terms` of every row of a leaf block up, for one panel of channels; `f` is the panel's first channel.
 */
#define LEAF(name, lanes, ...)                                                                               \
    static inline __attribute__((always_inline)) void name##_leaf(                                           \
        const norm_job *job, int64_t first, int64_t last, int64_t f, int64_t width, real *acc, real *acc2)   \
    {                                                                                                        \
        const real *restrict mean = job->mean + f, *restrict invstd = job->invstd + f;                       \
        (void)mean, (void)invstd, (void)acc2;                                                                \
        for (int64_t r = first; r < last; r++) {                                                             \
            const real *restrict x = job->x + r * job->c + f, *restrict dy = job->dy + r * job->c + f;       \
            real *restrict lane = acc + r % SL_LANES * width, *restrict lane2 = acc2 + r % SL_LANES * width; \
            (void)x, (void)dy, (void)lane2;                                                                  \
            for (int64_t i = 0; i < width; i++) {                                                            \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
        }                                                                                                    \
    }                                                                                                        \
    static void name##_task(void *arg, int64_t from, int64_t to, int worker)                                 \
    {                                                                                                        \
        const norm_job *job = arg;                                                                           \
        (void)worker;                                                                                        \
        for (int64_t item = from; item < to; item++) {                                                       \
            real acc[SL_LANES * SL_PANEL], acc2[SL_LANES * SL_PANEL];                                        \
            const int64_t f = item / job->blocks * SL_PANEL, first = item % job->blocks * SL_LEAF;           \
            const int64_t last = first + SL_LEAF < job->valid ? first + SL_LEAF : job->valid;                \
            const int64_t width = job->c - f < SL_PANEL ? job->c - f : SL_PANEL;                             \
            sl_lanes_clear(acc, width);                                                                      \
            if ((lanes) > 1) sl_lanes_clear(acc2, width);                                                    \
            if (width == SL_PANEL)                                                                           \
                name##_leaf(job, first, last, f, SL_PANEL, acc, acc2);                                       \
            else if (width == SL_PANEL / 2)                                                                  \
                name##_leaf(job, first, last, f, SL_PANEL / 2, acc, acc2);                                   \
            else                                                                                             \
                name##_leaf(job, first, last, f, width, acc, acc2);                                          \
            sl_lanes_fold(acc, width);                                                                       \
            memcpy(job->sums + item * SL_PANEL, acc, (size_t)width * sizeof *acc);                           \
            if ((lanes) < 2) continue;                                                                       \
            sl_lanes_fold(acc2, width);                                                                      \
            memcpy(job->sums2 + item * SL_PANEL, acc2, (size_t)width * sizeof *acc2);                        \
        }                                                                                                    \
    }

LEAF(mean, 1, lane[i] += x[i];)
LEAF(variance, 1, const real d = x[i] - mean[i]; lane[i] += d * d;)
LEAF(gradient, 2, const real xhat = (x[i] - mean[i]) * invstd[i]; lane[i] += dy[i]; lane2[i] += dy[i] * xhat;)

enum { STRIP = 16 }; /* rows of a panel whose slopes are made before they are added */

/* out = dy·f'(z) for some rows of a panel, z being what f was given in the forward pass. */
static void slope_rows(const norm_job *job, int64_t first, int64_t last, int64_t f, int64_t width)
{
    const sl_batch_norm_attr *attr = job->call->attr;
    const real *restrict mean = job->mean + f, *restrict invstd = job->invstd + f;
    const real *restrict gamma = job->gamma + f, *restrict beta = job->beta + f;
    real z[STRIP * SL_PANEL], room[STRIP * SL_PANEL];
    for (int64_t r = first; r < last; r++) {
        const real *restrict x = job->x + r * job->c + f;
        real *restrict to = z + (r - first) * width;
        for (int64_t i = 0; i < width; i++) to[i] = (x[i] - mean[i]) * invstd[i] * gamma[i] + beta[i];
    }
    const int64_t together = width == job->c ? last - first : 1; /* rows that lie side by side */
    for (int64_t r = first; r < last; r += together) {
        const int64_t at = r * job->c + f;
        SL_JOIN(sl_epilogue_vjp, SL_SUFFIX)
        (together * width, job->dy + at, z + (r - first) * width, &attr->activation, room, job->out + at);
    }
}

/* The gradient's sums where an activation follows: its slopes go to `out`, from where they are read again. */
static void slope_gradient_task(void *arg, int64_t from, int64_t to, int worker)
{
    const norm_job *job = arg;
    norm_job behind = *job;
    behind.dy = job->out;
    (void)worker;
    for (int64_t item = from; item < to; item++) {
        real acc[SL_LANES * SL_PANEL], acc2[SL_LANES * SL_PANEL];
        const int64_t f = item / job->blocks * SL_PANEL, first = item % job->blocks * SL_LEAF;
        const int64_t last = first + SL_LEAF < job->valid ? first + SL_LEAF : job->valid;
        const int64_t width = job->c - f < SL_PANEL ? job->c - f : SL_PANEL;
        sl_lanes_clear(acc, width);
        sl_lanes_clear(acc2, width);
        for (int64_t r = first; r < last; r += STRIP) {
            const int64_t end = r + STRIP < last ? r + STRIP : last;
            slope_rows(job, r, end, f, width);
            gradient_leaf(&behind, r, end, f, width, acc, acc2);
        }
        sl_lanes_fold(acc, width);
        sl_lanes_fold(acc2, width);
        memcpy(job->sums + item * SL_PANEL, acc, (size_t)width * sizeof *acc);
        memcpy(job->sums2 + item * SL_PANEL, acc2, (size_t)width * sizeof *acc2);
    }
}

static void combine(const norm_job *job, real *sums, real *total)
{
    for (int64_t p = 0; p < job->panels; p++) {
        const int64_t f = p * SL_PANEL, width = job->c - f < SL_PANEL ? job->c - f : SL_PANEL;
        sl_blocks_combine(sums + p * job->blocks * SL_PANEL, job->blocks, SL_PANEL, width, total + f);
    }
}

static void run_sums(const norm_job *job, sl_task *task)
{
    const int64_t width = job->c < SL_PANEL ? job->c : SL_PANEL;
    const int64_t cost = (job->valid < SL_LEAF ? job->valid : SL_LEAF) * width;
    sl_parallel(job->call, task, (void *)job, job->panels * job->blocks, (1 << 14) / (cost + 1) + 1);
}

static void invert(norm_job *job, const real *variance)
{
    const sl_batch_norm_attr *attr = job->call->attr;
    for (int64_t i = 0; i < job->c; i++) job->invstd[i] = 1 / r_sqrt(variance[i] + (real)attr->epsilon);
}

/* What is done to every row, in stretches of rows. Names: i the channel, at the element. */
#define EVERY_ROW(name, ...)                                                                                 \
    static void name##_task(void *arg, int64_t first, int64_t last, int worker)                              \
    {                                                                                                        \
        const norm_job *job = arg;                                                                           \
        const int64_t c = job->c;                                                                            \
        const real *x = job->x, *dy = job->dy;                                                               \
        const real *restrict mean = job->mean, *restrict invstd = job->invstd, *restrict gamma = job->gamma; \
        const real *restrict beta = job->beta, *restrict total = job->total, *restrict total2 = job->total2; \
        real *out = job->out;                                                                                \
        (void)worker, (void)x, (void)dy, (void)mean, (void)invstd, (void)gamma, (void)beta, (void)total,     \
            (void)total2;                                                                                    \
        for (int64_t r = first; r < last; r++) _Pragma("GCC ivdep") for (int64_t i = 0; i < c; i++)          \
            {                                                                                                \
                const int64_t at = r * c + i;                                                                \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
    }

EVERY_ROW(normalise, out[at] = (x[at] - mean[i]) * invstd[i] * gamma[i] + beta[i];)
/* total: dbeta/rows, total2: dgamma/rows */
EVERY_ROW(gradient_x, const real xhat = (x[at] - mean[i]) * invstd[i];
          out[at] = gamma[i] * invstd[i] * (dy[at] - total[i] - xhat * total2[i]);)
EVERY_ROW(scale_gradient, out[at] = gamma[i] * invstd[i] * dy[at];)

/* The same with an activation behind it, a stretch of rows at a time. */
static void normalise_activate_task(void *arg, int64_t first, int64_t last, int worker)
{
    norm_job *job = arg;
    const sl_batch_norm_attr *attr = job->call->attr;
    const int64_t rows = job->c > 0 && job->c < 1024 ? 1024 / job->c : 1;
    for (int64_t r = first; r < last; r += rows) {
        const int64_t end = r + rows < last ? r + rows : last;
        real *y = job->out + r * job->c;
        normalise_task(job, r, end, worker);
        SL_JOIN(sl_epilogue, SL_SUFFIX)
        ((end - r) * job->c, y, NULL, 0, &attr->activation, NULL, 0, y, NULL);
    }
}

static void run_every_row(const norm_job *job, sl_task *task, int64_t rows)
{
    sl_parallel(job->call, task, (void *)job, rows, (1 << 14) / (job->c + 1) + 1);
}

static void copy_out(const sl_call *call, int output, const real *from, int64_t c)
{
    if (call->out[output].data) memcpy(call->out[output].data, from, (size_t)c * sizeof *from);
}

/* One row has no variance: the running values stay. */
static void track(const sl_call *call, const real *mean, const real *variance, real *running_mean,
                  real *running_variance, int64_t rows)
{
    const real momentum = (real)((const sl_batch_norm_attr *)call->attr)->momentum;
    if (rows < 2) return;
    const real unbias = (real)rows / (real)(rows - 1);
    for (int64_t i = 0; i < sl_shape_last(call->in[1].shape); i++) {
        running_mean[i] = (1 - momentum) * running_mean[i] + momentum * mean[i];
        running_variance[i] = (1 - momentum) * running_variance[i] + momentum * (variance[i] * unbias);
    }
}

static void batch_norm(const sl_call *call)
{
    norm_job job = job_of(call);
    const real rows = (real)(job.valid ? job.valid : 1);
    job.x = job.dy = sl_in(call, 0);
    job.gamma = sl_in(call, 1);
    job.beta = sl_in(call, 2);
    job.out = sl_out(call, 0);
    run_sums(&job, mean_task);
    combine(&job, job.sums, job.mean);
    for (int64_t i = 0; i < job.c; i++) job.mean[i] = job.mean[i] / rows;
    run_sums(&job, variance_task);
    combine(&job, job.sums, job.total);
    for (int64_t i = 0; i < job.c; i++) job.total[i] = job.total[i] / rows;
    invert(&job, job.total);
    copy_out(call, 1, job.mean, job.c);
    copy_out(call, 2, job.total, job.c);
    const sl_batch_norm_attr *attr = call->attr;
    if (job.out) run_every_row(&job, attr->activated ? normalise_activate_task : normalise_task, job.rows);
    if (attr->tracks) track(call, job.mean, job.total, call->in[3].data, call->in[4].data, job.valid);
}

static void batch_norm_apply(const sl_call *call)
{
    norm_job job = job_of(call);
    job.x = job.dy = sl_in(call, 0);
    job.gamma = sl_in(call, 1);
    job.beta = sl_in(call, 2);
    memcpy(job.mean, sl_in(call, 3), (size_t)job.c * sizeof(real));
    invert(&job, sl_in(call, 4));
    job.out = sl_out(call, 0);
    run_every_row(&job, normalise_task, job.rows);
}

/* Sums the gradients of gamma and beta, and prepares the rows' loop. */
static norm_job gradient_job(const sl_call *call)
{
    norm_job job = job_of(call);
    job.dy = sl_in(call, 0);
    job.x = sl_in(call, 1);
    job.gamma = sl_in(call, 2);
    memcpy(job.mean, sl_in(call, 3), (size_t)job.c * sizeof(real));
    invert(&job, sl_in(call, 4));
    job.out = sl_out(call, 0);
    const bool activated = ((const sl_batch_norm_attr *)call->attr)->activated;
    if (activated) job.beta = sl_in(call, 5);
    if (call->out[1].data || call->out[2].data || call->op == SL_OP_BATCH_NORM_VJP) {
        run_sums(&job, activated ? slope_gradient_task : gradient_task);
        if (activated) job.dy = job.out;
        combine(&job, job.sums, job.total);
        combine(&job, job.sums2, job.total2);
        copy_out(call, 1, job.total2, job.c);
        copy_out(call, 2, job.total, job.c);
    }
    return job;
}

static void run_gradient(const norm_job *job, sl_task *task)
{
    if (!job->out) return;
    run_every_row(job, task, job->valid);
    memset(job->out + job->valid * job->c, 0, (size_t)((job->rows - job->valid) * job->c) * sizeof *job->out);
}

static void batch_norm_vjp(const sl_call *call)
{
    norm_job job = gradient_job(call);
    for (int64_t i = 0; i < job.c && job.valid; i++) {
        job.total[i] = job.total[i] / (real)job.valid;
        job.total2[i] = job.total2[i] / (real)job.valid;
    }
    run_gradient(&job, gradient_x_task);
}

static void batch_norm_apply_vjp(const sl_call *call)
{
    norm_job job = gradient_job(call);
    run_gradient(&job, scale_gradient_task);
}

static void batch_norm_track(const sl_call *call)
{
    track(call, sl_in(call, 0), sl_in(call, 1), call->in[2].data, call->in[3].data,
          sl_valid_rows(call, sl_shape_rows(call->in[4].shape)));
}

const sl_kernel SL_KERNELS(norm)[] = {
    {SL_OP_BATCH_NORM, "panels", NULL, norm_workspace, batch_norm},
    {SL_OP_BATCH_NORM_VJP, "panels", NULL, norm_workspace, batch_norm_vjp},
    {SL_OP_BATCH_NORM_APPLY, "rows", NULL, norm_workspace, batch_norm_apply},
    {SL_OP_BATCH_NORM_APPLY_VJP, "panels", NULL, norm_workspace, batch_norm_apply_vjp},
    {SL_OP_BATCH_NORM_TRACK, "plain", NULL, NULL, batch_norm_track},
    {0},
};
