/* Sums over whole tensors and over dimensions, by the reduction rule of core/sum.h. */
#include "cpu/reduce.h"

enum { BLOCK_GRAIN = 16 }; /* leaf blocks that are worth a thread's while */

/* The sum of `terms` values of a long vector: every leaf block by itself, then the counter. */
typedef struct flat {
    const real *x;
    real *sums; /* of the blocks */
    int64_t terms;
} flat;

static void flat_task(void *arg, int64_t first, int64_t last, int worker)
{
    const flat *f = arg;
    (void)worker;
    for (int64_t b = first; b < last; b++) {
        int64_t i = b * SL_LEAF;
        f->sums[b] = sl_leaf_sum(f->x + i, f->terms - i < SL_LEAF ? f->terms - i : SL_LEAF);
    }
}

static void flat_squares_task(void *arg, int64_t first, int64_t last, int worker)
{
    const flat *f = arg;
    (void)worker;
    for (int64_t b = first; b < last; b++) {
        real square[SL_LEAF];
        const real *x = f->x + b * SL_LEAF;
        int64_t n = f->terms - b * SL_LEAF < SL_LEAF ? f->terms - b * SL_LEAF : SL_LEAF;
        for (int64_t i = 0; i < n; i++) square[i] = x[i] * x[i];
        f->sums[b] = sl_leaf_sum(square, n);
    }
}

static size_t flat_workspace(const sl_call *call)
{
    return (size_t)sl_blocks(sl_shape_count(call->in[0].shape)) * sizeof(real);
}

static real flat_sum(const sl_call *call, int64_t terms, sl_task *task)
{
    flat f = {sl_in(call, 0), call->workspace, terms};
    real total;
    sl_parallel(call, task, &f, sl_blocks(terms), BLOCK_GRAIN);
    sl_blocks_combine(f.sums, sl_blocks(terms), 1, 1, &total);
    return total;
}

/* Elements of a batched tensor that count. */
static int64_t valid_count(const sl_call *call, sl_shape shape)
{
    return sl_valid_rows(call, sl_shape_count(shape));
}

static void mean(const sl_call *call)
{
    sl_shape shape = call->in[0].shape;
    *sl_out(call, 0) = flat_sum(call, valid_count(call, shape), flat_task) / sl_mean_divisor(call, shape);
}

static void norm(const sl_call *call)
{
    *sl_out(call, 0) = r_sqrt(flat_sum(call, sl_shape_count(call->in[0].shape), flat_squares_task));
}

static void mean_vjp_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sl_call *call = arg;
    const real value = *sl_in(call, 0) / sl_mean_divisor(call, call->out[0].shape);
    const int64_t valid = valid_count(call, call->out[0].shape), middle = valid < last ? valid : last;
    real *dx = sl_out(call, 0);
    int64_t i = first;
    (void)worker;
    for (; i < middle; i++) dx[i] = value;
    for (; i < last; i++) dx[i] = 0;
}

static void mean_vjp(const sl_call *call)
{
    sl_parallel(call, mean_vjp_task, (void *)call, sl_shape_count(call->out[0].shape), 1 << 15);
}

static void count_correct(const sl_call *call)
{
    const int64_t k = sl_shape_last(call->in[0].shape);
    const int64_t rows = k > 0 ? sl_valid_rows(call, sl_shape_rows(call->in[0].shape)) : 0;
    *sl_out(call, 0) = sl_count_correct(sl_in(call, 0), call->in[1].data, rows, k);
}

/* SUM_TO. Neighbouring dimensions that are both kept or both summed are taken together; what is left are at
 * most four in turn. Padded to (kept, summed, kept, summed), with 1 where one is missing, or to (summed,
 * kept, summed, kept). In the first case the terms of a result are runs, in the second rows of results lie
 * side by side. */
typedef struct plan {
    int64_t keep[2], sum[2]; /* extents, slow and fast */
    bool rows;               /* the last dimension is kept */
    int64_t terms, blocks;   /* per result */
    int64_t width,
        panels; /* results that are summed together; how many such panels there are per slow kept index */
} plan;

static plan plan_of(const sl_call *call, bool valid_only)
{
    sl_shape in = call->in[0].shape, out = call->out[0].shape;
    plan p = {.keep = {1, 1}, .sum = {1, 1}};
    int level = 1; /* the fast pair first */
    bool kept = false, started = false;
    for (int d = in.n - 1; d >= 0; d--) {
        int o = d - (in.n - out.n);
        if (in.dim[d] == 1) continue;
        bool keep = o >= 0 && out.dim[o] == in.dim[d];
        if (!started)
            p.rows = keep;
        else if (keep != kept && keep == p.rows)
            level--;
        int64_t extent = in.dim[d];
        if (d == 0 && !keep && valid_only) extent = sl_valid_rows(call, extent);
        *(keep ? &p.keep[level] : &p.sum[level]) *= extent;
        kept = keep;
        started = true;
    }
    p.terms = p.sum[0] * p.sum[1];
    p.blocks = sl_blocks(p.terms);
    p.width = !p.rows ? 1 : p.keep[1] < SL_PANEL ? p.keep[1] : SL_PANEL;
    p.panels = p.width ? (p.keep[1] + p.width - 1) / p.width : 0;
    return p;
}

typedef struct sum_to_job {
    plan p;
    const real *x;
    real *sums; /* [kept slow][kept fast][blocks] for runs; [kept slow][panel][block][width] for rows */
} sum_to_job;

/* Terms first … first+n-1 of result (slow, fast): side by side, or gathered into `buffer`. */
static const real *run_terms(const plan *p, const real *x, int64_t slow, int64_t fast, int64_t first,
                             int64_t n, real *buffer)
{
    const int64_t run = p->sum[1], stride = p->keep[1] * run;
    x += slow * p->sum[0] * stride + fast * run;
    int64_t outer = first / run, inner = first % run;
    if (inner + n <= run) return x + outer * stride + inner;
    for (int64_t i = 0; i < n;) {
        int64_t piece = run - inner < n - i ? run - inner : n - i;
        for (int64_t j = 0; j < piece; j++) buffer[i + j] = x[outer * stride + inner + j];
        i += piece;
        outer++;
        inner = 0;
    }
    return buffer;
}

static void runs_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sum_to_job *job = arg;
    const plan *p = &job->p;
    (void)worker;
    for (int64_t item = first; item < last; item++) {
        real buffer[SL_LEAF];
        int64_t block = item % p->blocks, result = item / p->blocks, term = block * SL_LEAF;
        int64_t n = p->terms - term < SL_LEAF ? p->terms - term : SL_LEAF;
        const real *x = run_terms(p, job->x, result / p->keep[1], result % p->keep[1], term, n, buffer);
        job->sums[item] = sl_leaf_sum(x, n);
    }
}

static void rows_task(void *arg, int64_t first, int64_t last, int worker)
{
    const sum_to_job *job = arg;
    const plan *p = &job->p;
    (void)worker;
    for (int64_t item = first; item < last; item++) {
        real acc[SL_LANES * SL_PANEL];
        int64_t block = item % p->blocks, panel = item / p->blocks % p->panels,
                slow = item / p->blocks / p->panels;
        int64_t column = panel * p->width,
                width = p->keep[1] - column < p->width ? p->keep[1] - column : p->width;
        int64_t end = p->terms < (block + 1) * SL_LEAF ? p->terms : (block + 1) * SL_LEAF;
        int64_t t = block * SL_LEAF, outer = t / p->sum[1], inner = t % p->sum[1];
        sl_lanes_clear(acc, width);
        for (; t < end; outer++, inner = 0)
            for (; inner < p->sum[1] && t < end; inner++, t++) {
                int64_t row = (outer * p->keep[0] + slow) * p->sum[1] + inner;
                sl_lanes_add(acc, t, job->x + row * p->keep[1] + column, width);
            }
        sl_lanes_fold(acc, width);
        memcpy(job->sums + item * p->width, acc, (size_t)width * sizeof *acc);
    }
}

static size_t sum_to_workspace(const sl_call *call)
{
    plan p = plan_of(call, false);
    return (size_t)(p.keep[0] * p.panels * p.blocks * (p.rows ? p.width : 1)) * sizeof(real);
}

static void sum_to(const sl_call *call)
{
    sum_to_job job = {plan_of(call, true), sl_in(call, 0), call->workspace};
    const plan *p = &job.p;
    real *y = sl_out(call, 0);
    int64_t groups = p->keep[0] * p->panels, cost = (p->terms < SL_LEAF ? p->terms : SL_LEAF) * p->width;
    if (p->blocks == 0)
        memset(y, 0, (size_t)sl_shape_count(call->out[0].shape) * sizeof *y);
    else
        sl_parallel(call, p->rows ? rows_task : runs_task, &job, groups * p->blocks,
                    (1 << 14) / (cost + 1) + 1);
    if (p->blocks == 0) return;
    for (int64_t g = 0; g < groups; g++) {
        int64_t column = g % p->panels * p->width;
        int64_t width = p->keep[1] - column < p->width ? p->keep[1] - column : p->width;
        sl_blocks_combine(job.sums + g * p->blocks * p->width, p->blocks, p->width, width,
                          y + g / p->panels * p->keep[1] + column);
    }
}

const sl_kernel SL_KERNELS(reduce)[] = {
    {SL_OP_SUM_TO, "blocks", NULL, sum_to_workspace, sum_to},
    {SL_OP_MEAN, "blocks", NULL, flat_workspace, mean},
    {SL_OP_MEAN_VJP, "plain", NULL, NULL, mean_vjp},
    {SL_OP_NORM, "blocks", NULL, flat_workspace, norm},
    {SL_OP_COUNT_CORRECT, "plain", NULL, NULL, count_correct},
    {0},
};
