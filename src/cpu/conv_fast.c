/* Convolutions and their input gradients by tiles: a tile's rows are pixels of the result, its columns
 * channels.
 *
 * Both gather: every pixel of the result reads, for each tap that falls on the source image, all channels of
 * one source pixel. Pixels that see the same taps form a class (the interior, each kind of border, and for
 * gradients with a stride each phase of it); a tile takes pixels of one class, so that all its rows share one
 * list of runs and no tap is ever multiplied by padding. Weights are packed once a call, for the input
 * gradient with the taps reversed and each transposed, which makes k run as core/sum.h says. */
#include "cpu/conv_line.h"
#include "cpu/conv_pool.h"
#include "cpu/product_after.h"
#include "cpu/product_shape.h"
#include "cpu/product_weight.h"
#include "cpu/tile.h"

#define MOST_TAPS    64    /* along one axis: a class is a set of taps in 64 bits */
#define BLOCK_FLOATS 49152 /* of source and result: what a block of pixels may take of L2 */
#define SHORT_RUN    24    /* mean length below which steps are faster */
#define LEAST_PIXELS 256
#define MOST_PIXELS  2048
#define PART_PACKED  16384 /* weights, too */

/* One axis of the result. Position p reads source position first[p] + offset[tap] for each tap in its class.
 */
typedef struct axis {
    int64_t positions, taps, source;
    int64_t offset[MOST_TAPS];
    int classes;
    int64_t *first;
    int64_t *class_of;
    uint64_t *set;            /* of each class: its taps, bit t = tap number t in order of k */
    int64_t *members, *start; /* the positions of class c: members[start[c]] … */
} axis;

typedef struct gather_job {
    axis y, x;
    int64_t images, from_channels, to_channels;
    int64_t k, chunks, block_rows;
    const float *from, *packed;
    const float *weights;
    bool reversed, line;
    bool pooled; /* a block lies in a worker's space, and only what its windows keep is stored */
    float *to, *pack_to;
    uint8_t *codes;
    char *space; /* of worker 0; the others' follow */
    size_t space_each;
    struct result_pixel *pixels; /* of a row, class by class as in x.members */
    product_after after;
} gather_job;

/* --- classes ---------------------------------------------------------------------------------------------
 */

static size_t axis_space(int64_t positions)
{
    return tile_rounded((size_t)(5 * positions + 1) * sizeof(int64_t));
}

/* Taps that position p sees. */
static uint64_t axis_taps(const axis *a, const sl_conv_attr *attr, int d, bool reversed, int64_t p)
{
    uint64_t set = 0;
    for (int64_t t = 0; t < a->taps; t++) {
        int64_t at;
        if (reversed) {
            const int64_t scaled = p + attr->pad[d] - (a->taps - 1 - t) * attr->dilation[d];
            if (scaled < 0 || scaled % attr->stride[d] != 0) continue;
            at = scaled / attr->stride[d];
        } else
            at = p * attr->stride[d] - attr->pad[d] + t * attr->dilation[d];
        if (at >= 0 && at < a->source) set |= (uint64_t)1 << t;
    }
    return set;
}

static void axis_set(axis *a, const sl_conv_attr *attr, int d, bool reversed, int64_t *space)
{
    a->first = space;
    a->class_of = a->first + a->positions;
    a->members = a->class_of + a->positions;
    a->set = (uint64_t *)(a->members + a->positions);
    a->start = (int64_t *)a->set + a->positions;
    a->classes = 0;
    /* A position and a tap of a gradient are of the same phase of the stride, so their quotients may be
     * subtracted. */
    for (int64_t t = 0; t < a->taps; t++)
        a->offset[t] =
            reversed ? -((a->taps - 1 - t) * attr->dilation[d] / attr->stride[d]) : t * attr->dilation[d];
    int64_t c = 0;
    for (int64_t p = 0; p < a->positions; p++) {
        a->first[p] = reversed ? (p + attr->pad[d]) / attr->stride[d] : p * attr->stride[d] - attr->pad[d];
        const uint64_t set = axis_taps(a, attr, d, reversed, p);
        if (c >= a->classes || a->set[c] != set)
            for (c = 0; c < a->classes && a->set[c] != set;) c++;
        if (c == a->classes) a->set[a->classes++] = set;
        a->class_of[p] = c;
    }
    int64_t n = 0;
    for (c = 0; c < a->classes; c++) {
        a->start[c] = n;
        for (int64_t p = 0; p < a->positions; p++)
            if (a->class_of[p] == c) a->members[n++] = p;
    }
    a->start[a->classes] = n;
}

/* --- one block of rows -----------------------------------------------------------------------------------
 */

/* A row of the result: the image it is made from, the source row under offset 0, its first pixel. */
typedef struct result_row {
    const float *image;
    int64_t first;
    float *to;
} result_row;

/* A pixel of a row, in floats: the source pixel under offset 0, the result. */
typedef struct result_pixel {
    int64_t from, to;
} result_pixel;

/* What a worker has for itself. */
typedef struct gather_space {
    const float **from; /* of each pixel of a class: its first source pixel, and the result */
    float **to;
    result_row *rows; /* of a class */
    tile_run *runs;
    int64_t *chunk_runs; /* runs of chunk c: from chunk_runs[c] */
    int64_t *steps;      /* the same k by k */
    float *levels;
    float *block;
    int32_t *taken; /* taps of a row of windows */
    bool by_steps;
} gather_space;

/* Bytes; cuts the worker's part of the workspace where there is one. */
static size_t gather_space_cut(const gather_job *job, char *base, gather_space *s)
{
    const size_t rows = (size_t)job->block_rows, pixels = rows * (size_t)job->x.positions;
    const size_t runs = (size_t)(job->y.taps * job->x.taps + job->chunks);
    const size_t steps = job->from_channels < SHORT_RUN ? (size_t)job->k : 0;
    const size_t sizes[] = {pixels * sizeof *s->from,
                            pixels * sizeof *s->to,
                            rows * sizeof *s->rows,
                            runs * sizeof *s->runs,
                            (size_t)(job->chunks + 1) * sizeof *s->chunk_runs,
                            steps * sizeof *s->steps,
                            (size_t)(tile_levels(job->chunks) * TILE_MOST) * sizeof *s->levels,
                            job->pooled ? pixels * (size_t)job->to_channels * sizeof *s->block : 0,
                            job->pooled ? (size_t)(job->x.positions / 2 * job->to_channels) * sizeof *s->taken
                                        : 0};
    void *at[9];
    size_t bytes = 0;
    for (int i = 0; i < 9; i++) {
        at[i] = base ? base + bytes : NULL;
        bytes += tile_rounded(sizes[i]);
    }
    if (base) *s = (gather_space){at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8]};
    return bytes;
}

/* The runs of a class of pixels. Returns the offset of its first source pixel, from which theirs are counted:
 * a position outside the image is never formed. */
static int64_t class_runs(const gather_job *job, uint64_t ys, uint64_t xs, gather_space *s)
{
    const int64_t channels = job->from_channels;
    int64_t origin = 0, n = 0, chunk = 0;
    s->chunk_runs[0] = 0;
    if (ys && xs)
        origin = (job->y.offset[__builtin_ctzll(ys)] * job->x.source + job->x.offset[__builtin_ctzll(xs)]) *
                 channels;
    for (uint64_t y = ys; y; y &= y - 1)
        for (uint64_t x = xs; x; x &= x - 1) {
            const int ty = __builtin_ctzll(y), tx = __builtin_ctzll(x);
            int64_t a = (job->y.offset[ty] * job->x.source + job->x.offset[tx]) * channels - origin;
            int64_t k = (ty * job->x.taps + tx) * channels;
            for (const int64_t end = k + channels; k < end;) {
                while (k >= (chunk + 1) * SL_CHUNK) s->chunk_runs[++chunk] = n;
                const int64_t length = tile_smaller(end, (chunk + 1) * SL_CHUNK) - k;
                tile_run *last = n > s->chunk_runs[chunk] ? &s->runs[n - 1] : NULL;
                if (last && last->a + last->n == a && last->k + last->n == k)
                    last->n += length;
                else
                    s->runs[n++] = (tile_run){a, k, length, TILE_ALL};
                a += length;
                k += length;
            }
        }
    while (chunk < job->chunks) s->chunk_runs[++chunk] = n;
    /* Where no tap is missing, k runs on through the weights, and short runs need not be run by run. */
    const int64_t taps = (int64_t)__builtin_popcountll(ys) * __builtin_popcountll(xs);
    s->by_steps = job->line || (taps * channels == job->k && job->k < n * SHORT_RUN && channels < SHORT_RUN);
    if (s->by_steps)
        for (const tile_run *run = s->runs; run < s->runs + n; run++)
            for (int64_t i = 0; i < run->n; i++) s->steps[run->k + i] = run->a + i;
    return origin;
}

static void class_tiles(const gather_job *job, const gather_space *s, int64_t pixels)
{
    tile t = {.a_step = 1, .levels = s->levels, .level_stride = TILE_MOST};
    const int64_t panels = tile_panels(job->to_channels);
    for (int64_t p = 0; p < panels; p++) {
        const int vectors = tile_vectors(p, job->to_channels);
        const tile_cut cut = tile_cut_rows(pixels, TILE_ROWS(vectors));
        t.b = job->packed + p * TILE_WIDTH * job->k;
        t.b_step = vectors * TILE_LANES;
        t.column = p * TILE_WIDTH;
        t.columns = tile_smaller(t.b_step, job->to_channels - t.column);
        for (int64_t i = 0, first = 0, rows; i < cut.tiles; i++, first += rows) {
            rows = cut.rows + (i < cut.higher);
            for (int64_t c = 0; c < job->chunks; c++) {
                if (s->by_steps) {
                    t.first_k = c * SL_CHUNK;
                    t.steps = s->steps + t.first_k;
                    t.n_steps = tile_smaller(job->k - t.first_k, SL_CHUNK);
                } else {
                    t.runs = s->runs + s->chunk_runs[c];
                    t.n_runs = s->chunk_runs[c + 1] - s->chunk_runs[c];
                }
                tile_set_chunk(&t, c, job->chunks);
                tile_functions[vectors][rows](&t, s->from + first, s->to + first);
            }
        }
    }
}

static void line_block(const gather_job *job, gather_space *s, int64_t first, int64_t last, float *to)
{
    const axis *y = &job->y, *x = &job->x;
    for (int64_t row = first; row < last; row++)
        line_row(job->from + (row / y->positions * y->source + row % y->positions) * x->source, s->steps,
                 job->k, job->packed, to + (row - first) * x->positions * job->to_channels, x->positions,
                 job->to_channels);
}

static void class_blocks(const gather_job *job, gather_space *s, int64_t first, int64_t last, float *to_rows)
{
    const axis *y = &job->y, *x = &job->x;
    for (int cy = 0; cy < y->classes; cy++) {
        int64_t rows = 0, image = first / y->positions, p = first % y->positions;
        for (int64_t row = first; row < last; row++) {
            if (y->class_of[p] == cy)
                s->rows[rows++] =
                    (result_row){job->from + image * y->source * x->source * job->from_channels, y->first[p],
                                 to_rows + (row - first) * x->positions * job->to_channels};
            if (++p == y->positions) p = 0, image++;
        }
        for (int cx = 0; cx < x->classes && rows > 0; cx++) {
            const int64_t origin = class_runs(job, y->set[cy], x->set[cx], s);
            const bool empty = !y->set[cy] || !x->set[cx];
            const result_pixel *pixel = job->pixels + x->start[cx], *end = job->pixels + x->start[cx + 1];
            const float **restrict from = s->from;
            float **restrict to = s->to;
            for (int64_t i = 0; i < rows; i++) {
                const result_row row = s->rows[i];
                const int64_t at = row.first * x->source * job->from_channels + origin;
                for (const result_pixel *one = pixel; one < end; one++) {
                    *from++ = row.image + (empty ? 0 : at + one->from);
                    *to++ = row.to + one->to;
                }
            }
            class_tiles(job, s, rows * (end - pixel));
        }
    }
}

/* Two rows of the result at x -> one of windows, whose first element is number `at`. */
static void keep_windows(const gather_job *job, const float *x, int64_t at, int32_t *taken)
{
    const int64_t below = job->x.positions * job->to_channels, n = below / 2;
    pool_two_rows(x, below, job->to_channels, job->to + at, taken, !job->after.z);
    if (!job->codes) return;
    uint8_t *restrict codes = job->codes + at;
    for (int64_t i = 0; i < n; i++) codes[i] = (uint8_t)taken[i];
}

/* Rows [first, last) of the result, counted over all images. */
static void gather_block(const gather_job *job, gather_space *s, int64_t first, int64_t last)
{
    const int64_t row = job->x.positions * job->to_channels;
    product_after after = job->after;
    if (job->pooled)
        after.y = s->block;
    else
        after.y += first * row;
    if (after.z) after.z += first * row;
    (job->line ? line_block : class_blocks)(job, s, first, last, after.y);
    product_finish(&after, 0, (last - first) * job->x.positions, 0, job->to_channels, job->to_channels);
    for (int64_t r = first; job->pooled && r < last; r += 2)
        keep_windows(job, after.y + (r - first) * row, r / 2 * (row / 2), s->taken);
}

static void gather_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const gather_job *job = arg;
    gather_space space = {0};
    gather_space_cut(job, job->space + (size_t)worker * job->space_each, &space);
    if (job->line) class_runs(job, job->y.set[0], job->x.set[0], &space);
    const int64_t end = job->pooled ? 2 * last : last;
    for (int64_t row = job->pooled ? 2 * first : first; row < end; row += job->block_rows)
        gather_block(job, &space, row, tile_smaller(row + job->block_rows, end));
}

/* --- weights ---------------------------------------------------------------------------------------------
 */

/* Tap `unit % taps` of panel `unit / taps`. */
static void pack_taps(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const gather_job *job = arg;
    const int64_t taps = job->y.taps * job->x.taps, from = job->from_channels, to = job->to_channels;
    for (int64_t unit = first; unit < last; unit++) {
        const int64_t panel = unit / taps, tap = unit % taps, column = panel * TILE_WIDTH;
        const int64_t width = tile_vectors(panel, to) * TILE_LANES,
                      columns = tile_smaller(width, to - column);
        float *packed = job->pack_to + panel * TILE_WIDTH * job->k + tap * from * width;
        if (job->reversed) /* from [tap][to][from] */
            tile_pack_transposed(packed, width, job->weights + ((taps - 1 - tap) * to + column) * from, from,
                                 from, columns);
        else
            tile_pack(packed, width, job->weights + tap * from * to + column, to, from, columns);
    }
}

static gather_job gather_plan(const sl_call *call)
{
    const conv_shape s = conv_shape_of(call);
    gather_job job = {.reversed = call->op == SL_OP_CONV2D_VJP_INPUT, .images = s.n};
    job.pooled = call->op == SL_OP_CONV2D_BIAS_ACTIVATION_POOL;
    job.y = (axis){.positions = job.reversed ? s.h : s.oh,
                   .source = job.reversed ? s.oh : s.h,
                   .taps = s.attr->kernel[0]};
    job.x = (axis){.positions = job.reversed ? s.w : s.ow,
                   .source = job.reversed ? s.ow : s.w,
                   .taps = s.attr->kernel[1]};
    job.from_channels = job.reversed ? s.f : s.c;
    job.to_channels = job.reversed ? s.c : s.f;
    job.k = job.y.taps * job.x.taps * job.from_channels;
    job.chunks = tile_chunks(job.k);
    const sl_conv_attr *attr = s.attr;
    job.line = !job.reversed && job.from_channels == 1 && job.k > 0 && job.chunks == 1 &&
               attr->stride[0] == 1 && attr->stride[1] == 1 && attr->pad[0] == 0 && attr->pad[1] == 0 &&
               line_fits(job.x.positions, job.to_channels);
    int64_t pixels = BLOCK_FLOATS / (job.from_channels + job.to_channels + 1);
    pixels = pixels < LEAST_PIXELS ? LEAST_PIXELS : tile_smaller(pixels, MOST_PIXELS);
    job.block_rows = pixels / (job.x.positions + 1) + 1;
    /* Several images: as many as fill tiles with one pixel of each. */
    const int64_t fill = TILE_ROWS(TILE_VECTORS_FOR(job.to_channels)) * job.y.positions;
    if (job.reversed && job.block_rows > fill / 2) job.block_rows = (job.block_rows + fill / 2) / fill * fill;
    if (job.pooled) job.block_rows += job.block_rows % 2;
    job.block_rows = tile_smaller(job.block_rows, job.images * job.y.positions);
    job.space_each = gather_space_cut(&job, NULL, NULL);
    return job;
}

static bool gather_supports(const sl_call *call)
{
    const conv_shape s = conv_shape_of(call);
    return s.attr->kernel[0] <= MOST_TAPS && s.attr->kernel[1] <= MOST_TAPS;
}

static size_t packed_space(const gather_job *job)
{
    return tile_rounded((size_t)(job->k * tile_padded(job->to_channels)) * sizeof(float));
}

static size_t gather_workspace(const sl_call *call)
{
    const gather_job job = gather_plan(call);
    const size_t threads = (size_t)sl_pool_threads(sl_cpu_pool(call->device));
    return axis_space(job.y.positions) + axis_space(job.x.positions) +
           tile_rounded((size_t)job.x.positions * sizeof *job.pixels) + packed_space(&job) +
           tile_rounded((size_t)product_after_space(call, job.to_channels) * sizeof(float)) +
           threads * job.space_each;
}

static void gather(const sl_call *call, const sl_activation_attr *activation)
{
    gather_job job = gather_plan(call);
    const conv_shape shape = conv_shape_of(call);
    char *space = call->workspace;
    axis_set(&job.y, shape.attr, 0, job.reversed, (int64_t *)space);
    space += axis_space(job.y.positions);
    axis_set(&job.x, shape.attr, 1, job.reversed, (int64_t *)space);
    space += axis_space(job.x.positions);
    job.pixels = (result_pixel *)space;
    for (int64_t i = 0; i < job.x.positions; i++) {
        const int64_t p = job.x.members[i];
        job.pixels[i] = (result_pixel){job.x.first[p] * job.from_channels, p * job.to_channels};
    }
    space += tile_rounded((size_t)job.x.positions * sizeof *job.pixels);
    job.pack_to = (float *)space;
    space += packed_space(&job);
    job.after = product_after_of(call, activation, job.to_channels, (float *)space);
    job.space = space + tile_rounded((size_t)product_after_space(call, job.to_channels) * sizeof(float));
    job.from = sl_in(call, 0);
    job.weights = sl_in(call, 1);
    job.to = sl_out(call, 0);
    job.codes = job.pooled ? call->out[1].data : NULL;
    job.packed = job.pack_to;
    const int64_t panels = tile_panels(job.to_channels);
    if (panels == 1 && !job.reversed && tile_padded(job.to_channels) == job.to_channels)
        job.packed = job.weights;
    else
        sl_parallel(call, pack_taps, &job, panels * job.y.taps * job.x.taps,
                    PART_PACKED / (job.from_channels * TILE_WIDTH) + 1);
    const int64_t row = job.x.positions * job.k * job.to_channels;
    const int64_t rows = job.images * job.y.positions / (job.pooled ? 2 : 1);
    sl_parallel(call, gather_rows, &job, rows, TILE_PART / (row + 1) + 1);
}

static void conv2d(const sl_call *call)
{
    gather(call, NULL);
}

static void conv2d_bias_activation(const sl_call *call)
{
    gather(call, &((const sl_conv_fused_attr *)call->attr)->activation);
}

extern const sl_kernel SL_KERNELS(conv_fast)[];
const sl_kernel SL_KERNELS(conv_fast)[] = {
    {SL_OP_CONV2D, "tiles", gather_supports, gather_workspace, conv2d},
    {SL_OP_CONV2D_VJP_INPUT, "tiles", gather_supports, gather_workspace, conv2d},
    {SL_OP_CONV2D_BIAS_ACTIVATION, "tiles", gather_supports, gather_workspace, conv2d_bias_activation},
    {SL_OP_CONV2D_BIAS_ACTIVATION_POOL, "tiles", gather_supports, gather_workspace, conv2d_bias_activation},
    {SL_OP_CONV2D_VJP_WEIGHT, "tiles", NULL, weight_workspace, weight_gradient},
    {0},
};
