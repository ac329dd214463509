/* Pooling over windows of [n, h, w, c] images, along the channels. A window of 2 × 2 that moves by 2
 * without padding has its own loops, which give the same bits. */
#include "cpu/pool_panel.h"

typedef struct geometry {
    const sl_call *call;
    const sl_pool_attr *attr;
    int64_t h, w, oh, ow, c;
} geometry;

static geometry geometry_of(const sl_call *call, sl_shape image, sl_shape windows)
{
    return (geometry){call,           call->attr,     image.dim[1], image.dim[2],
                      windows.dim[1], windows.dim[2], image.dim[3]};
}

static bool is_two_by_two(const geometry *g)
{
    const sl_pool_attr *a = g->attr;
    return a->kernel[0] == 2 && a->kernel[1] == 2 && a->stride[0] == 2 && a->stride[1] == 2 &&
           a->pad[0] == 0 && a->pad[1] == 0;
}

/* The part [first, last) of a window's taps that lies inside the image. */
typedef struct taps {
    int64_t first, last, origin; /* origin: the image position of tap 0 */
} taps;

static inline taps taps_of(int64_t output, int kernel, int stride, int pad, int64_t size)
{
    taps t = {.origin = output * stride - pad};
    t.first = t.origin < 0 ? -t.origin : 0;
    t.last = t.origin + kernel > size ? size - t.origin : kernel;
    return t;
}

/* The windows [first, last) that hold image position `i`. */
static inline taps windows_of(int64_t i, int kernel, int stride, int pad, int64_t windows)
{
    taps t = {0};
    const int64_t end = i + pad,
                  begin = end - kernel + 1; /* window o begins at o·stride, in padded positions */
    t.first = begin <= 0 ? 0 : (begin + stride - 1) / stride;
    t.last = end / stride + 1 < windows ? end / stride + 1 : windows;
    return t;
}

static void run_rows(const geometry *g, sl_task *task, int64_t rows, int64_t row_cost)
{
    sl_parallel(g->call, task, (void *)g, rows, (1 << 15) / (row_cost + 1) + 1);
}

/* `image` points to the panel's first channel; index may be NULL. */
INLINE void max_window(const geometry *g, const real *image, taps row, taps column, real *y, int32_t *index,
                       int64_t width)
{
    panel best = {0};
    flags at = {0};
    bool started = false;
    for (int64_t ky = row.first; ky < row.last; ky++)
        for (int64_t kx = column.first; kx < column.last; kx++) {
            const int64_t tap = ky * g->attr->kernel[1] + kx;
            panel x;
            load(&x, image + ((row.origin + ky) * g->w + column.origin + kx) * g->c, width);
            if (!started)
                best = x, at = (flags){0} + (flag)tap;
            else
                take_tap(&best, &at, &x, tap);
            started = true;
        }
    if (y) store(y, &best, width);
    if (index) store_indices(index, &at, width);
}

static void max_pool_task(void *arg, int64_t first, int64_t last, int worker)
{
    const geometry *g = arg;
    const sl_pool_attr *a = g->attr;
    real *values = sl_out(g->call, 0); /* NULL where nobody reads them, and so the indices */
    int32_t *index = g->call->out[1].data;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *image = sl_in(g->call, 0) + r / g->oh * g->h * g->w * g->c;
        const taps row = taps_of(r % g->oh, a->kernel[0], a->stride[0], a->pad[0], g->h);
        for (int64_t ox = 0; ox < g->ow; ox++) {
            const int64_t at = (r * g->ow + ox) * g->c;
            const taps column = taps_of(ox, a->kernel[1], a->stride[1], a->pad[1], g->w);
            real *y = values ? values + at : NULL;
            EACH_PANEL(g->c, max_window(g, image + f, row, column, y ? y + f : NULL,
                                        index ? index + at + f : NULL, WIDTH))
        }
    }
}

INLINE void largest_of_four(const real *a, const real *b, const real *d, const real *e, real *y,
                            int32_t *index, int64_t width)
{
    panel best;
    flags at;
    max_of_four(a, b, d, e, &best, &at, width);
    if (y) store(y, &best, width);
    if (index) store_indices(index, &at, width);
}

static void max_pool_2x2_task(void *arg, int64_t first, int64_t last, int worker)
{
    const geometry *g = arg;
    const int64_t c = g->c;
    real *values = sl_out(g->call, 0); /* NULL where nobody reads them, and so the indices */
    int32_t *index = g->call->out[1].data;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *x = sl_in(g->call, 0) + (r / g->oh * g->h + r % g->oh * 2) * g->w * c,
                   *below = x + g->w * c;
        for (int64_t ox = 0; ox < g->ow; ox++, x += 2 * c, below += 2 * c) {
            const int64_t at = (r * g->ow + ox) * c;
            real *y = values ? values + at : NULL;
            EACH_PANEL(c, largest_of_four(x + f, x + c + f, below + f, below + c + f, y ? y + f : NULL,
                                          index ? index + at + f : NULL, WIDTH))
        }
    }
}

static void max_pool(const sl_call *call)
{
    const geometry g = geometry_of(call, call->in[0].shape, call->out[0].shape);
    const int64_t taps = (int64_t)g.attr->kernel[0] * g.attr->kernel[1];
    run_rows(&g, is_two_by_two(&g) ? max_pool_2x2_task : max_pool_task, call->in[0].shape.dim[0] * g.oh,
             g.ow * g.c * taps);
}

/* The windows that hold an image pixel. */
typedef struct holders {
    taps rows, columns;
    int64_t y, x; /* the pixel, in padded positions */
    int64_t image;
} holders;

INLINE void max_pixel(const geometry *g, const holders *p, int64_t f, real *dx, int64_t width)
{
    const sl_pool_attr *a = g->attr;
    panel sum = {0};
    for (int64_t oy = p->rows.first; oy < p->rows.last; oy++)
        for (int64_t ox = p->columns.first; ox < p->columns.last; ox++) {
            const int64_t at = ((p->image * g->oh + oy) * g->ow + ox) * g->c + f;
            const int64_t tap = (p->y - oy * a->stride[0]) * a->kernel[1] + p->x - ox * a->stride[1];
            panel dy;
            flags index;
            load(&dy, sl_in(g->call, 0) + at, width);
            load_indices(&index, (const int32_t *)g->call->in[1].data + at, width);
            sum += WHERE(index == (flag)tap, dy);
        }
    store(dx, &sum, width);
}

/* The sum is divided once. */
INLINE void avg_pixel(const geometry *g, const holders *p, int64_t f, real *dx, int64_t width)
{
    panel sum = {0};
    for (int64_t oy = p->rows.first; oy < p->rows.last; oy++)
        for (int64_t ox = p->columns.first; ox < p->columns.last; ox++) {
            panel dy;
            load(&dy, sl_in(g->call, 0) + ((p->image * g->oh + oy) * g->ow + ox) * g->c + f, width);
            sum += dy;
        }
    sum = sum / (real)(g->attr->kernel[0] * g->attr->kernel[1]);
    store(dx, &sum, width);
}

/* Every image pixel gathers from the windows that hold it, in order of output row and column. */
#define GATHER(name, pixel)                                                                                  \
    static void name(void *arg, int64_t first, int64_t last, int worker)                                     \
    {                                                                                                        \
        const geometry *g = arg;                                                                             \
        const sl_pool_attr *a = g->attr;                                                                     \
        (void)worker;                                                                                        \
        for (int64_t r = first; r < last; r++) {                                                             \
            const int64_t iy = r % g->h;                                                                     \
            holders p = {.y = iy + a->pad[0], .image = r / g->h};                                            \
            p.rows = windows_of(iy, a->kernel[0], a->stride[0], a->pad[0], g->oh);                           \
            for (int64_t ix = 0; ix < g->w; ix++) {                                                          \
                real *dx = sl_out(g->call, 0) + (r * g->w + ix) * g->c;                                      \
                p.columns = windows_of(ix, a->kernel[1], a->stride[1], a->pad[1], g->ow);                    \
                p.x = ix + a->pad[1];                                                                        \
                EACH_PANEL(g->c, pixel(g, &p, f, dx + f, WIDTH))                                             \
            }                                                                                                \
        }                                                                                                    \
    }

GATHER(max_pool_vjp_task, max_pixel)
GATHER(avg_pool_vjp_task, avg_pixel)

INLINE void spread_to_four(real *a, real *b, real *d, real *e, const real *dy, const int32_t *index,
                           int64_t width)
{
    panel value, part;
    flags at;
    load(&value, dy, width);
    load_indices(&at, index, width);
    value = (panel){0} + value; /* -0 becomes +0, as in a sum */
    real *const to[] = {a, b, d, e};
    for (int i = 0; i < 4; i++) {
        part = WHERE(at == (flag)i, value);
        store(to[i], &part, width);
    }
}

/* Rows of windows; the image's odd last row and column, which no window holds, belong to the last ones. */
static void max_pool_vjp_2x2_task(void *arg, int64_t first, int64_t last, int worker)
{
    const geometry *g = arg;
    const int64_t c = g->c, row = g->w * c;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        real *dx = sl_out(g->call, 0) + (r / g->oh * g->h + r % g->oh * 2) * row;
        const real *dy = sl_in(g->call, 0) + r * g->ow * c;
        const int32_t *index = (const int32_t *)g->call->in[1].data + r * g->ow * c;
        for (int64_t ox = 0; ox < g->ow; ox++) {
            real *a = dx + 2 * ox * c, *d = a + row;
            EACH_PANEL(c, spread_to_four(a + f, a + c + f, d + f, d + c + f, dy + ox * c + f,
                                         index + ox * c + f, WIDTH))
        }
        if (g->w & 1)
            for (int64_t i = row - c; i < row; i++) dx[i] = dx[row + i] = 0;
        if (g->h & 1 && r % g->oh == g->oh - 1) memset(dx + 2 * row, 0, (size_t)row * sizeof *dx);
    }
}

static void max_pool_vjp(const sl_call *call)
{
    const geometry g = geometry_of(call, call->out[0].shape, call->in[0].shape);
    const int64_t n = call->out[0].shape.dim[0], both = g.w * g.c * 4;
    if (is_two_by_two(&g) && g.oh > 0)
        run_rows(&g, max_pool_vjp_2x2_task, n * g.oh, both);
    else
        run_rows(&g, max_pool_vjp_task, n * g.h, both);
}

/* Of samples that do not count the index may be anything. */
static void max_pool_jvp_task(void *arg, int64_t first, int64_t last, int worker)
{
    const geometry *g = arg;
    const sl_pool_attr *a = g->attr;
    const int32_t *index = g->call->in[1].data;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *image = sl_in(g->call, 0) + r / g->oh * g->h * g->w * g->c;
        for (int64_t i = r * g->ow * g->c; i < (r + 1) * g->ow * g->c; i++) {
            const int64_t ox = i / g->c % g->ow;
            const int64_t y = r % g->oh * a->stride[0] - a->pad[0] + index[i] / a->kernel[1];
            const int64_t x = ox * a->stride[1] - a->pad[1] + index[i] % a->kernel[1];
            const bool inside = y >= 0 && y < g->h && x >= 0 && x < g->w;
            sl_out(g->call, 0)[i] = inside ? image[(y * g->w + x) * g->c + i % g->c] : 0;
        }
    }
}

INLINE void avg_window(const geometry *g, const real *image, taps row, taps column, real *y, int64_t width)
{
    panel sum = {0};
    for (int64_t ky = row.first; ky < row.last; ky++)
        for (int64_t kx = column.first; kx < column.last; kx++) {
            panel x;
            load(&x, image + ((row.origin + ky) * g->w + column.origin + kx) * g->c, width);
            sum += x;
        }
    sum = sum / (real)(g->attr->kernel[0] * g->attr->kernel[1]);
    store(y, &sum, width);
}

static void avg_pool_task(void *arg, int64_t first, int64_t last, int worker)
{
    const geometry *g = arg;
    const sl_pool_attr *a = g->attr;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *image = sl_in(g->call, 0) + r / g->oh * g->h * g->w * g->c;
        const taps row = taps_of(r % g->oh, a->kernel[0], a->stride[0], a->pad[0], g->h);
        for (int64_t ox = 0; ox < g->ow; ox++) {
            const taps column = taps_of(ox, a->kernel[1], a->stride[1], a->pad[1], g->w);
            real *y = sl_out(g->call, 0) + (r * g->ow + ox) * g->c;
            EACH_PANEL(g->c, avg_window(g, image + f, row, column, y + f, WIDTH))
        }
    }
}

static void max_pool_jvp(const sl_call *call)
{
    const geometry g = geometry_of(call, call->in[0].shape, call->out[0].shape);
    run_rows(&g, max_pool_jvp_task, call->in[0].shape.dim[0] * g.oh, g.ow * g.c * 8);
}

static void avg_pool(const sl_call *call)
{
    const geometry g = geometry_of(call, call->in[0].shape, call->out[0].shape);
    const int64_t taps = (int64_t)g.attr->kernel[0] * g.attr->kernel[1];
    run_rows(&g, avg_pool_task, call->in[0].shape.dim[0] * g.oh, g.ow * g.c * taps);
}

static void avg_pool_vjp(const sl_call *call)
{
    const geometry g = geometry_of(call, call->out[0].shape, call->in[0].shape);
    run_rows(&g, avg_pool_vjp_task, call->out[0].shape.dim[0] * g.h, g.w * g.c * 4);
}

const sl_kernel SL_KERNELS(pool)[] = {
    {SL_OP_MAX_POOL2D, "panels", NULL, NULL, max_pool},
    {SL_OP_MAX_POOL2D_VJP, "gather", NULL, NULL, max_pool_vjp},
    {SL_OP_MAX_POOL2D_JVP, "gather", NULL, NULL, max_pool_jvp},
    {SL_OP_AVG_POOL2D, "panels", NULL, NULL, avg_pool},
    {SL_OP_AVG_POOL2D_VJP, "gather", NULL, NULL, avg_pool_vjp},
    {0},
};
