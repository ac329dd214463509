/* The weight gradient of a convolution by tiles: a tile's rows are weights (tap, channel), its columns
 * filters, and k runs over the pixels of the result. There are many chunks and few weights, so threads share
 * out the chunks: blocks of 2^shift chunks are summed each by itself (a block is a subtree of the tree in
 * core/sum.h), and their sums are then combined. Where there are few blocks, the weights are shared out too.
 *
 * Included by conv_fast.c alone. */
#ifndef SL_CPU_PRODUCT_WEIGHT_H
#define SL_CPU_PRODUCT_WEIGHT_H

#include "cpu/product_shape.h"
#include "cpu/tile.h"

#define MOST_BLOCKS  32
#define BLOCK_SUMS   (1 << 20) /* floats for the sums of all blocks */
#define GROUP_FLOATS 65536     /* sums that a worker keeps levels of */

/* A stretch of one row of the result: `n` pixels from number k of the chunk on, the first at (y, x). */
typedef struct stretch {
    int64_t
        a; /* where tap (0, 0) of its first pixel reads, from the start of the input; may be in the padding */
    int64_t k, n, y, x;
} stretch;

/* Result columns [first, last) at which the rows in the set read inside the image. */
typedef struct span {
    int64_t first, last;
    uint32_t rows;
} span;

typedef struct weight_job {
    conv_shape s;
    const float *x, *dy;
    float *dw;
    int64_t weights, padded; /* rows; columns with those that fill the last panel */
    int64_t pixels, chunks;  /* k, and its chunks */
    bool padding;            /* taps may fall off the image */
    int64_t unit; /* rows that tiles do not straddle: with padding and enough channels, those of one tap */
    int64_t groups, group_rows, level_stride;
    int shift;
    int64_t blocks, most_blocks;
    int64_t *from; /* of each weight: where its tap and channel lie behind the first tap's first */
    float *sums;   /* [blocks][panel][weight][column] */
    char *space;   /* of worker 0; the others' follow */
    size_t space_each;
} weight_job;

typedef struct weight_space {
    float *packed; /* dy of the chunk, in panels */
    float *levels;
    tile_run *runs;
    stretch *stretches;
    span *spans;
} weight_space;

static size_t weight_space_cut(const weight_job *job, char *base, weight_space *s)
{
    const size_t sizes[] = {(size_t)(SL_CHUNK * job->padded) * sizeof *s->packed,
                            (size_t)(job->shift * job->level_stride) * sizeof *s->levels,
                            SL_CHUNK * sizeof *s->runs, SL_CHUNK * sizeof *s->stretches,
                            (2 * TILE_MAX_ROWS + 1) * sizeof *s->spans};
    void *at[5];
    size_t bytes = 0;
    for (int i = 0; i < 5; i++) {
        at[i] = base ? base + bytes : NULL;
        bytes += tile_rounded(sizes[i]);
    }
    if (base) *s = (weight_space){at[0], at[1], at[2], at[3], at[4]};
    return bytes;
}

/* --- runs ------------------------------------------------------------------------------------------------
 */

/* The stretches of chunk c, in order of k. */
static int64_t cut_stretches(const weight_job *job, int64_t c, stretch *out)
{
    const conv_shape *s = &job->s;
    const int *stride = s->attr->stride, *pad = s->attr->pad;
    int64_t at = c * SL_CHUNK, n = 0;
    const int64_t end = tile_smaller(at + SL_CHUNK, job->pixels);
    int64_t x = at % s->ow, y = at / s->ow % s->oh, image = at / s->ow / s->oh;
    for (int64_t k = 0; at + k < end; n++) {
        const int64_t length = tile_smaller(s->ow - x, end - at - k);
        const int64_t a = ((image * s->h + y * stride[0] - pad[0]) * s->w + x * stride[1] - pad[1]) * s->c;
        out[n] = (stretch){a, k, length, y, x};
        k += length;
        x = 0;
        if (++y == s->oh) y = 0, image++;
    }
    return n;
}

/* Without padding every row takes part everywhere; stretches that follow each other in memory become one run.
 */
static int64_t whole_runs(const weight_job *job, const stretch *stretches, int64_t n, tile_run *runs)
{
    const int64_t step = job->s.attr->stride[1] * job->s.c;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        tile_run *last = count > 0 ? &runs[count - 1] : NULL;
        if (last && last->a + last->n * step == stretches[i].a)
            last->n += stretches[i].n;
        else
            runs[count++] = (tile_run){stretches[i].a, stretches[i].k, stretches[i].n, TILE_ALL};
    }
    return count;
}

static int64_t quotient_up(int64_t a, int64_t b)
{
    return a > 0 ? (a + b - 1) / b : 0;
}

/* Cuts the row of the result where one of weights [row, row + rows) starts or stops to read inside the image.
 */
static int cut_spans(const weight_job *job, int64_t row, int rows, span *out)
{
    const conv_shape *s = &job->s;
    const sl_conv_attr *attr = s->attr;
    int64_t first[TILE_MAX_ROWS], last[TILE_MAX_ROWS];
    for (int r = 0; r < rows; r++) {
        const int64_t shift = attr->pad[1] - (row + r) / s->c % attr->kernel[1] * attr->dilation[1];
        first[r] = quotient_up(shift, attr->stride[1]);
        last[r] = tile_smaller(quotient_up(s->w + shift, attr->stride[1]), s->ow);
    }
    int n = 0;
    for (int64_t at = 0; at < s->ow; at = out[n++].last) {
        out[n] = (span){at, s->ow, 0};
        for (int r = 0; r < rows; r++) {
            if (at >= first[r] && at < last[r]) out[n].rows |= 1u << r;
            const int64_t next = at < first[r] ? first[r] : at < last[r] ? last[r] : s->ow;
            if (next < out[n].last) out[n].last = next;
        }
    }
    return n;
}

/* The runs of weights [row, row + rows) where there is padding. */
static int64_t part_runs(const weight_job *job, int64_t row, int rows, const stretch *stretches, int64_t n,
                         const weight_space *space)
{
    const conv_shape *s = &job->s;
    const sl_conv_attr *attr = s->attr;
    const uint32_t full = (1u << rows) - 1;
    const int64_t step = attr->stride[1] * s->c;
    const int spans = cut_spans(job, row, rows, space->spans);
    int64_t tap_y[TILE_MAX_ROWS], count = 0, y = -1;
    for (int r = 0; r < rows; r++)
        tap_y[r] = (row + r) / s->c / attr->kernel[1] * attr->dilation[0] - attr->pad[0];
    uint32_t inside = 0;
    for (const stretch *t = stretches; t < stretches + n; t++) {
        if (t->y != y) {
            y = t->y;
            inside = 0;
            for (int r = 0; r < rows; r++) {
                const int64_t at = y * attr->stride[0] + tap_y[r];
                if (at >= 0 && at < s->h) inside |= 1u << r;
            }
        }
        for (const span *p = space->spans; inside && p < space->spans + spans; p++) {
            const int64_t first = p->first > t->x ? p->first : t->x,
                          last = tile_smaller(p->last, t->x + t->n);
            const uint32_t take = p->rows & inside;
            if (first >= last || !take) continue;
            space->runs[count++] = (tile_run){t->a + (first - t->x) * step, t->k + first - t->x, last - first,
                                              take == full ? TILE_ALL : take};
        }
    }
    return count;
}

/* --- one block of chunks ---------------------------------------------------------------------------------
 */

static void pack_gradient(const weight_job *job, int64_t c, float *packed)
{
    const int64_t k = tile_smaller(job->pixels - c * SL_CHUNK, SL_CHUNK), f = job->s.f;
    for (int64_t p = 0; p < tile_panels(f); p++) {
        const int64_t column = p * TILE_WIDTH, width = tile_vectors(p, f) * TILE_LANES;
        tile_pack(packed + column * SL_CHUNK, width, job->dy + c * SL_CHUNK * f + column, f, k,
                  tile_smaller(width, f - column));
    }
}

/* Chunk c = block·2^shift + number of `numbers`, weights [top, bottom). */
static void weight_chunk(const weight_job *job, weight_space *space, int64_t block, int64_t number,
                         int64_t numbers, int64_t top, int64_t bottom)
{
    const conv_shape *s = &job->s;
    const sl_conv_attr *attr = s->attr;
    const int64_t c = (block << job->shift) + number;
    tile t = {.runs = space->runs, .a_step = attr->stride[1] * s->c, .level_stride = job->level_stride};
    tile_set_chunk(&t, number, numbers);
    const bool direct = job->padded == s->f && tile_panels(s->f) == 1;
    const bool on_the_way = !direct && !job->padding && job->padded == s->f; /* by each panel's first tile */
    if (!direct && !on_the_way) pack_gradient(job, c, space->packed);
    const int64_t stretches = cut_stretches(job, c, space->stretches);
    if (!job->padding) t.n_runs = whole_runs(job, space->stretches, stretches, space->runs);
    for (int64_t unit = top; unit < bottom; unit += job->unit) {
        const int64_t rows = tile_smaller(job->unit, bottom - unit);
        const bool one_tap = job->padding && job->unit == s->c;
        if (one_tap) t.n_runs = part_runs(job, unit, 1, space->stretches, stretches, space);
        for (int64_t p = 0; p < tile_panels(s->f); p++) {
            const int vectors = tile_vectors(p, s->f);
            const int64_t width = vectors * TILE_LANES, column = p * TILE_WIDTH;
            const tile_cut cut = tile_cut_rows(rows, TILE_ROWS(vectors));
            t.b = direct ? job->dy + c * SL_CHUNK * s->f : space->packed + column * SL_CHUNK;
            t.b_step = width;
            if (on_the_way && unit == top) {
                t.b = job->dy + c * SL_CHUNK * s->f + column;
                t.b_step = s->f;
                t.pack = space->packed; /* the panel before is done with */
            }
            t.column = job->blocks > 1 ? 0 : column;
            t.columns = job->blocks > 1 ? width : tile_smaller(width, s->f - column);
            for (int64_t i = 0, first = unit, n; i < cut.tiles; i++, first += n) {
                n = cut.rows + (i < cut.higher);
                const float *from[TILE_MAX_ROWS];
                float *out[TILE_MAX_ROWS];
                for (int64_t r = 0; r < n; r++) {
                    from[r] = job->x + job->from[first + r];
                    out[r] = job->blocks > 1 ? job->sums + (block * job->padded + column) * job->weights +
                                                   (first + r) * width
                                             : job->dw + (first + r) * s->f;
                }
                if (job->padding && !one_tap)
                    t.n_runs = part_runs(job, first, (int)n, space->stretches, stretches, space);
                t.levels = space->levels + column * job->group_rows + (first - top) * width;
                tile_functions[vectors][n](&t, from, out);
                tile_packed(&t, width);
            }
        }
    }
}

/* Items are (block, group of weights). */
static void weight_items(void *arg, int64_t first, int64_t last, int worker)
{
    const weight_job *job = arg;
    weight_space space = {0};
    weight_space_cut(job, job->space + (size_t)worker * job->space_each, &space);
    for (int64_t item = first; item < last; item++) {
        const int64_t block = item / job->groups, top = item % job->groups * job->group_rows;
        const int64_t bottom = tile_smaller(top + job->group_rows, job->weights);
        const int64_t numbers = tile_smaller((int64_t)1 << job->shift, job->chunks - (block << job->shift));
        for (int64_t number = 0; number < numbers && top < bottom; number++)
            weight_chunk(job, &space, block, number, numbers, top, bottom);
    }
}

/* Combines the blocks' sums of weights [first, last). */
static void weight_combine(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const weight_job *job = arg;
    float level[6][TILE_WIDTH], sum[TILE_WIDTH]; /* 2^5 blocks */
    for (int64_t p = 0; p < tile_panels(job->s.f); p++) {
        const int64_t column = p * TILE_WIDTH, width = tile_vectors(p, job->s.f) * TILE_LANES;
        for (int64_t row = first; row < last; row++) {
            for (int64_t b = 0; b < job->blocks; b++) {
                memcpy(sum, job->sums + (b * job->padded + column) * job->weights + row * width,
                       (size_t)width * sizeof *sum);
                tile t;
                tile_set_chunk(&t, b, job->blocks);
                for (uint64_t carry = t.carry; carry; carry &= carry - 1)
                    for (int64_t j = 0; j < width; j++) sum[j] = level[__builtin_ctzll(carry)][j] + sum[j];
                if (t.store >= 0) memcpy(level[t.store], sum, (size_t)width * sizeof *sum);
            }
            memcpy(job->dw + row * job->s.f + column, sum,
                   (size_t)tile_smaller(width, job->s.f - column) * sizeof *sum);
        }
    }
}

/* --- the call --------------------------------------------------------------------------------------------
 */

static weight_job weight_plan(const sl_call *call, int64_t samples)
{
    weight_job job = {.s = conv_shape_of(call)};
    const conv_shape *s = &job.s;
    const sl_conv_attr *attr = s->attr;
    const int threads = sl_pool_threads(sl_cpu_pool(call->device));
    job.weights = attr->kernel[0] * attr->kernel[1] * s->c;
    job.padded = tile_padded(s->f);
    job.padding = attr->pad[0] > 0 || attr->pad[1] > 0;
    job.unit = job.padding && s->c >= 4 ? s->c : job.weights;
    job.pixels = samples * s->oh * s->ow;
    job.chunks = tile_chunks(job.pixels);
    const int64_t sums = job.weights * job.padded, most = BLOCK_SUMS / (sums + 1);
    job.most_blocks = most > MOST_BLOCKS ? MOST_BLOCKS : most < 1 ? 1 : most;
    while ((job.chunks - 1) >> job.shift >= job.most_blocks) job.shift++;
    job.blocks = ((job.chunks - 1) >> job.shift) + 1;
    /* Groups are of whole taps where tiles may not straddle them. There are at least as many as the levels'
     * size asks for, and more where the threads would else be loaded unevenly. */
    const int64_t whole = job.padding && s->c >= 4 ? s->c : 1, units = job.weights / whole;
    int64_t groups = tile_smaller(sums / GROUP_FLOATS + 1, units > 0 ? units : 1);
    job.level_stride = (units + groups - 1) / groups * whole * job.padded;
    while (job.blocks * groups < 8 * threads && job.blocks * groups % threads != 0 && groups < units)
        groups++;
    job.groups = groups;
    job.group_rows = (units + groups - 1) / groups * whole;
    return job;
}

static size_t weight_sums_space(const weight_job *job)
{
    return tile_rounded((size_t)(job->most_blocks > 1 ? job->most_blocks * job->weights * job->padded : 0) *
                        sizeof(float));
}

static size_t weight_from_space(const weight_job *job)
{
    return tile_rounded((size_t)job->weights * sizeof *job->from);
}

/* For any number of samples up to the batch. */
static size_t weight_workspace(const sl_call *call)
{
    const weight_job job = weight_plan(call, conv_shape_of(call).n);
    const size_t threads = (size_t)sl_pool_threads(sl_cpu_pool(call->device));
    return weight_from_space(&job) + weight_sums_space(&job) + threads * weight_space_cut(&job, NULL, NULL);
}

static void weight_gradient(const sl_call *call)
{
    weight_job job = weight_plan(call, sl_valid_rows(call, conv_shape_of(call).n));
    job.x = sl_in(call, 0);
    job.dy = sl_in(call, 1);
    job.dw = sl_out(call, 0);
    char *space = call->workspace;
    job.from = (int64_t *)space;
    for (int64_t i = 0; i < job.weights; i++) {
        const int64_t tap = i / job.s.c, channel = i % job.s.c;
        const int64_t y = tap / job.s.attr->kernel[1] * job.s.attr->dilation[0];
        const int64_t x = tap % job.s.attr->kernel[1] * job.s.attr->dilation[1];
        job.from[i] = (y * job.s.w + x) * job.s.c + channel;
    }
    space += weight_from_space(&job);
    job.sums = (float *)space;
    job.space = space + weight_sums_space(&job);
    job.space_each = weight_space_cut(&job, NULL, NULL);
    const int64_t item = (tile_smaller(job.pixels, SL_CHUNK) << job.shift) * job.group_rows * job.padded;
    sl_parallel(call, weight_items, &job, job.blocks * job.groups, TILE_PART / (item + 1) + 1);
    if (job.blocks > 1)
        sl_parallel(call, weight_combine, &job, job.weights, TILE_PART / 8 / (job.blocks * job.padded) + 1);
}
#endif
