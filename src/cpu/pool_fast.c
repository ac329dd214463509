/* The way back through the largest of every 2 × 2 pixels and the activation in front of it, with the bias
 * gradient, in one pass over the gradient that is written. */
#include <math.h>

#include "cpu/activation.h"
#include "cpu/pool_panel.h"
#include "cpu/reduce.h"

enum {
    GRAIN = 1 << 14, /* elements that are worth a thread */
    LOADED = 1024,   /* elements of windows that are held, unless a row has more */
};

typedef struct job {
    const sl_activation_attr *activation;
    const float *dy, *at; /* at: what the slope reads, of every pixel or, `pooled`, of every window */
    const uint8_t *code;  /* of every window, as the forward pass left them */
    bool pooled;
    int64_t row, columns; /* pixels of an image row, channels */
    int64_t pixels, summed;
    float *dz, *sums; /* sums: one row for each leaf block */
    char *space;      /* of worker 0; the others' follow */
    int64_t loaded;   /* elements of windows that a worker holds */
} job;

/* A leaf block of pixels, a panel of channels, and the rows of windows [first, last) that are held. Rows of
 * pixels are even and a leaf block is, so that a window's two pixels of a row always belong together. */
typedef struct strip {
    int64_t column, width, first, last;
    float *windows;
    int32_t *taken; /* the windows' taps */
    bool has_nan;   /* in a tap that was not taken */
    float acc[SL_LANES * SL_PANEL];
} strip;

static size_t space_each(const job *j)
{
    return (size_t)j->loaded * (sizeof(float) + sizeof(int32_t));
}

/* n elements of windows from number `at` on to number `to` of the strip. -0 becomes +0, as in a sum. Returns
 * the codes, all joined by or. */
static int load_windows(const job *j, int64_t at, int64_t n, strip *s, int64_t to)
{
    const float *restrict dy = j->dy + at;
    const uint8_t *restrict code = j->code + at;
    float *restrict windows = s->windows + to;
    int32_t *restrict taken = s->taken + to;
    int joined = 0;
    for (int64_t i = 0; i < n; i++) windows[i] = 0 + dy[i];
    for (int64_t i = 0; i < n; i++) taken[i] = code[i] & 3;
    for (int64_t i = 0; i < n; i++) joined |= code[i];
    if (j->pooled) SL_JOIN(sl_epilogue_slope, SL_SUFFIX)(n, windows, j->at + at, j->activation, windows);
    return joined;
}

/* Rows of windows from `row` on, at most up to `last`. */
static void load_rows(const job *j, int64_t row, int64_t last, strip *s)
{
    const int64_t windows = j->row / 2, whole = s->width == j->columns;
    const int64_t most = whole ? j->loaded / (windows * s->width) : 1;
    s->first = row;
    s->last = last - row < most ? last : row + most;
    int64_t at = row * windows * j->columns + s->column;
    int joined = 0;
    if (whole)
        joined = load_windows(j, at, (s->last - row) * windows * s->width, s, 0);
    else
        for (int64_t i = 0; i < windows; i++, at += j->columns)
            joined |= load_windows(j, at, s->width, s, i * s->width);
    s->has_nan = j->pooled && joined > 3;
}

/* A window's gradient to the two pixels that are its taps `tap` and tap + 1, and to their sums. */
INLINE void spread(const float *window, const int32_t *taken, flag tap, float *left, float *right, float *acc,
                   int64_t stride, int64_t width)
{
    panel value, sum;
    flags at;
    load(&value, window, width);
    load_indices(&at, taken, width);
    const panel a = WHERE(at == tap, value), b = WHERE(at == tap + 1, value);
    store(left, &a, width);
    store(right, &b, width);
    if (!acc) return;
    load(&sum, acc, width);
    sum += a;
    store(acc, &sum, width);
    load(&sum, acc + stride, width);
    sum += b;
    store(acc + stride, &sum, width);
}

/* 0 times the slope at NaN. */
static void spread_nan(const uint8_t *code, int tap, float *to, int64_t width)
{
    for (int64_t i = 0; i < width; i++)
        if (code[i] >> (4 + tap) & 1) to[i] = NAN;
}

/* n pixels of one row, the first of them number `term` of the leaf block, at dz element `at`. */
static void add_pixels(const job *j, strip *s, int64_t at, int64_t n, int64_t term)
{
    for (int64_t i = 0; i < n; i++) {
        float *restrict lane = s->acc + (term + i) % SL_LANES * s->width;
        const float *restrict terms = j->dz + at + i * j->columns;
        for (int64_t c = 0; c < s->width; c++) lane[c] += terms[c];
    }
}

static void slope_pixels(const job *j, const strip *s, int64_t at, int64_t n)
{
    const int64_t parts = s->width == j->columns ? 1 : n;
    for (int64_t i = 0; i < parts; i++, at += j->columns) SL_JOIN(sl_epilogue_slope, SL_SUFFIX)
    (n / parts * s->width, j->dz + at, j->at ? j->at + at : NULL, j->activation, j->dz + at);
}

/* n pixels of dz from `left` on, of one row of pixels. acc: their sums, the first pixel's lane number `lane`;
 * NULL: none. */
INLINE void spread_pixels(const strip *s, int64_t window, flag tap, float *left, int64_t n, int64_t columns,
                          float *acc, int64_t lane, int64_t width)
{
    const float *value = s->windows + window * width;
    const int32_t *taken = s->taken + window * width;
    for (int64_t i = 0; i < n; i += 2, value += width, taken += width, left += 2 * columns) {
        float *right = left + columns, *sums = acc ? acc + (lane + i) % SL_LANES * width : NULL;
        EACH_PANEL(width, spread(value + f, taken + f, tap, left + f, right + f, sums ? sums + f : NULL,
                                 width, WIDTH))
    }
}

/* n pixels from number `pixel` on, of one row; the first is number `term` of the leaf block. */
static void spread_row(const job *j, strip *s, int64_t pixel, int64_t n, int64_t term)
{
    const int64_t row = pixel / j->row, x = pixel % j->row, at = pixel * j->columns + s->column;
    const int64_t window = (row / 2 - s->first) * (j->row / 2) + x / 2;
    const flag tap = (flag)(row % 2 * 2);
    const bool sums = pixel < j->summed;
    if (j->pooled && !s->has_nan && sums) {
        if (s->width == PANEL && j->columns == PANEL)
            spread_pixels(s, window, tap, j->dz + at, n, PANEL, s->acc, term, PANEL);
        else
            spread_pixels(s, window, tap, j->dz + at, n, j->columns, s->acc, term, s->width);
        return;
    }
    spread_pixels(s, window, tap, j->dz + at, n, j->columns, NULL, 0, s->width);
    if (s->has_nan)
        for (int64_t i = 0; i < n; i++)
            spread_nan(j->code + (row / 2 * (j->row / 2) + (x + i) / 2) * j->columns + s->column,
                       tap + (int)(i % 2), j->dz + at + i * j->columns, s->width);
    if (!j->pooled) slope_pixels(j, s, at, n);
    if (sums) add_pixels(j, s, at, n, term);
}

static void strips(void *arg, int64_t begin, int64_t end, int worker)
{
    const job *j = arg;
    const int64_t panels = (j->columns + SL_PANEL - 1) / SL_PANEL;
    strip s;
    s.windows = (float *)(j->space + (size_t)worker * space_each(j));
    s.taken = (int32_t *)(s.windows + j->loaded);
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t block = unit / panels, start = block * SL_LEAF;
        const int64_t stop = start + SL_LEAF < j->pixels ? start + SL_LEAF : j->pixels;
        s.column = unit % panels * SL_PANEL;
        s.width = j->columns - s.column < SL_PANEL ? j->columns - s.column : SL_PANEL;
        s.first = s.last = -1;
        sl_lanes_clear(s.acc, s.width);
        for (int64_t pixel = start, n; pixel < stop; pixel += n) {
            const int64_t left = j->row - pixel % j->row, row = pixel / j->row / 2;
            n = left < stop - pixel ? left : stop - pixel;
            if (row >= s.last) load_rows(j, row, (stop - 1) / j->row / 2 + 1, &s);
            spread_row(j, &s, pixel, n, pixel - start);
        }
        sl_lanes_fold(s.acc, s.width);
        memcpy(j->sums + block * j->columns + s.column, s.acc, (size_t)s.width * sizeof *s.acc);
    }
}

static job job_of(const sl_call *call)
{
    const sl_shape shape = call->out[0].shape;
    job j = {.activation = call->attr,
             .dy = sl_in(call, 0),
             .code = call->in[1].data,
             .at = call->n_in > 2 ? sl_in(call, 2) : NULL,
             .pooled = call->n_in > 2 && call->in[2].shape.dim[1] != shape.dim[1],
             .row = shape.dim[2],
             .columns = shape.dim[3],
             .pixels = shape.dim[0] * shape.dim[1] * shape.dim[2],
             .dz = sl_out(call, 0)};
    const int64_t row = (j.row / 2 * (j.columns < SL_PANEL ? j.columns : SL_PANEL) + 15) / 16 * 16;
    j.loaded = row > LOADED ? row : LOADED;
    return j;
}

/* A bias of one number for all channels is summed in another order. */
static bool supports(const sl_call *call)
{
    return sl_shape_count(call->out[1].shape) == sl_shape_last(call->out[0].shape);
}

static size_t workspace(const sl_call *call)
{
    const job j = job_of(call);
    const int threads = sl_pool_threads(sl_cpu_pool(call->device));
    return (size_t)(threads)*space_each(&j) + (size_t)(sl_blocks(j.pixels) * j.columns) * sizeof(float);
}

static void pool_activation_vjp_bias(const sl_call *call)
{
    job j = job_of(call);
    j.summed = sl_valid_rows(call, j.pixels);
    j.space = call->workspace;
    j.sums = (float *)(j.space + (size_t)sl_pool_threads(sl_cpu_pool(call->device)) * space_each(&j));
    const int64_t panels = (j.columns + SL_PANEL - 1) / SL_PANEL;
    const int64_t unit = SL_LEAF * (j.columns < SL_PANEL ? j.columns : SL_PANEL);
    sl_parallel(call, strips, &j, sl_blocks(j.pixels) * panels, GRAIN / unit + 1);
    sl_blocks_combine(j.sums, sl_blocks(j.summed), j.columns, j.columns, sl_out(call, 1));
}

extern const sl_kernel SL_KERNELS(pool_fast)[];
const sl_kernel SL_KERNELS(pool_fast)[] = {
    {SL_OP_POOL_ACTIVATION_VJP_BIAS, "strips", supports, workspace, pool_activation_vjp_bias},
    {0},
};
