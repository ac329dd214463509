/* Operations on every element, with broadcasting; fills and copies. Outputs may lie where an input lies. */
#include <string.h>

#include "core/walk.h"
#include "cpu/cpu.h"

enum { GRAIN = 1 << 14, TILE = 256 };

typedef struct binary_loops {
    void (*both)(real *y, const real *a, const real *b, int64_t n);
    void (*left)(real *y, const real *a, real b, int64_t n);  /* b repeats */
    void (*right)(real *y, real a, const real *b, int64_t n); /* a repeats */
} binary_loops;

typedef struct binary_job {
    sl_walk w;
    const real *a, *b;
    real *y;
    const binary_loops *loops;
} binary_job;

/* n elements from element `at` of the fast dimension on. */
static void binary_piece(const binary_job *job, real *y, const real *a, const real *b, int64_t at, int64_t n)
{
    const int64_t step_a = job->w.a[job->w.n - 1], step_b = job->w.b[job->w.n - 1];
    if (step_a && step_b)
        job->loops->both(y, a + at, b + at, n);
    else if (step_b)
        job->loops->right(y, *a, b + at, n);
    else if (step_a)
        job->loops->left(y, a + at, *b, n);
    else {
        job->loops->left(y, a, *b, 1);
        for (int64_t i = 1; i < n; i++) y[i] = y[0];
    }
}

static void binary_task(void *arg, int64_t first, int64_t last, int worker)
{
    const binary_job *job = arg;
    const sl_walk *w = &job->w;
    const int fast = w->n - 1;
    (void)worker;
    while (first < last) {
        int64_t rest = first, offset_a = 0, offset_b = 0, at = rest % w->dim[fast];
        rest /= w->dim[fast];
        for (int d = fast - 1; d >= 0; d--) {
            int64_t i = rest % w->dim[d];
            rest /= w->dim[d];
            offset_a += i * w->a[d];
            offset_b += i * w->b[d];
        }
        int64_t n = w->dim[fast] - at < last - first ? w->dim[fast] - at : last - first;
        binary_piece(job, job->y + first, job->a + offset_a, job->b + offset_b, at, n);
        first += n;
    }
}

/* A short vector repeated along the rows is written out a few times, so that the loops get long. */
static void rows_task(void *arg, int64_t first, int64_t last, int worker)
{
    const binary_job *job = arg;
    const int64_t k = job->w.dim[1], rows = TILE / k, whole = rows * k;
    const bool b_repeats = job->w.b[0] == 0;
    real tile[TILE];
    (void)worker;
    for (int64_t i = 0; i < whole; i++) tile[i] = (b_repeats ? job->b : job->a)[i % k];
    for (int64_t i = first * k; i < last * k; i += whole) {
        int64_t n = last * k - i < whole ? last * k - i : whole;
        if (b_repeats)
            job->loops->both(job->y + i, job->a + i, tile, n);
        else
            job->loops->both(job->y + i, tile, job->b + i, n);
    }
}

static void binary_run(const sl_call *call, const binary_loops *loops)
{
    const sl_shape out = call->out[0].shape;
    binary_job job = {sl_walk_of(call->in[0].shape, call->in[1].shape, out), sl_in(call, 0), sl_in(call, 1),
                      sl_out(call, 0), loops};
    const sl_walk *w = &job.w;
    const int64_t count = sl_shape_count(out);
    if (count == 0) return;
    if (w->n == 2 && w->dim[1] <= TILE / 4 && w->a[1] && w->b[1] && (!w->a[0] || !w->b[0]))
        sl_parallel(call, rows_task, &job, w->dim[0], GRAIN / w->dim[1]);
    else
        sl_parallel(call, binary_task, &job, count, GRAIN);
}

#define BINARY(name, formula)                                                                                \
    static void name##_both(real *y, const real *a, const real *b, int64_t n)                                \
    {                                                                                                        \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                                 \
        {                                                                                                    \
            const real u = a[i], v = b[i];                                                                   \
            y[i] = formula;                                                                                  \
        }                                                                                                    \
    }                                                                                                        \
    static void name##_left(real *y, const real *a, real v, int64_t n)                                       \
    {                                                                                                        \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                                 \
        {                                                                                                    \
            const real u = a[i];                                                                             \
            y[i] = formula;                                                                                  \
        }                                                                                                    \
    }                                                                                                        \
    static void name##_right(real *y, real u, const real *b, int64_t n)                                      \
    {                                                                                                        \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                                 \
        {                                                                                                    \
            const real v = b[i];                                                                             \
            y[i] = formula;                                                                                  \
        }                                                                                                    \
    }                                                                                                        \
    static void name(const sl_call *call)                                                                    \
    {                                                                                                        \
        static const binary_loops loops = {name##_both, name##_left, name##_right};                          \
        binary_run(call, &loops);                                                                            \
    }

BINARY(add, u + v)
BINARY(sub, u - v)
BINARY(mul, (u * v))
BINARY(divide, u / v)

/* BROADCAST: the walk with both inputs the same. */
static void copy_both(real *y, const real *a, const real *b, int64_t n)
{
    (void)b;
    memcpy(y, a, (size_t)n * sizeof *y);
}

static void copy_left(real *y, const real *a, real b, int64_t n)
{
    copy_both(y, a, &b, n);
}

static void broadcast(const sl_call *call)
{
    static const binary_loops loops = {copy_both, copy_left, NULL};
    const sl_shape in = call->in[0].shape, out = call->out[0].shape;
    binary_job job = {sl_walk_of(in, in, out), sl_in(call, 0), sl_in(call, 0), sl_out(call, 0), &loops};
    sl_parallel(call, binary_task, &job, sl_shape_count(out), GRAIN);
}

/* u: the element, scale and shift: the attribute's. */
#define UNARY(name, formula)                                                                                 \
    static void name##_task(void *arg, int64_t first, int64_t last, int worker)                              \
    {                                                                                                        \
        const sl_call *call = arg;                                                                           \
        const sl_affine_attr *attr = call->attr;                                                             \
        const real scale = attr ? (real)attr->scale : 1, shift = attr ? (real)attr->shift : 0;               \
        const real *x = sl_in(call, 0);                                                                      \
        real *y = sl_out(call, 0);                                                                           \
        (void)worker, (void)scale, (void)shift;                                                              \
        _Pragma("GCC ivdep") for (int64_t i = first; i < last; i++)                                          \
        {                                                                                                    \
            const real u = x[i];                                                                             \
            y[i] = formula;                                                                                  \
        }                                                                                                    \
    }                                                                                                        \
    static void name(const sl_call *call)                                                                    \
    {                                                                                                        \
        sl_parallel(call, name##_task, (void *)call, sl_shape_count(call->out[0].shape), GRAIN);             \
    }

UNARY(affine, (scale * u) + shift)
UNARY(exponential, r_exp(u))
UNARY(logarithm, r_log(u))
UNARY(reciprocal, R(1) / u)
UNARY(square, (u * u))
UNARY(root, r_sqrt(u))
UNARY(clip, (u < scale) ? scale : (u > shift) ? shift : u)

static void fill(const sl_call *call)
{
    const sl_shape_attr *attr = call->attr;
    const int64_t n = sl_shape_count(call->out[0].shape);
    if (call->out[0].dtype == SL_INT) {
        int32_t *y = call->out[0].data;
        for (int64_t i = 0; i < n; i++) y[i] = (int32_t)attr->value;
    } else {
        real *y = sl_out(call, 0);
        for (int64_t i = 0; i < n; i++) y[i] = (real)attr->value;
    }
}

static void pack(const sl_call *call)
{
    real *to = sl_out(call, 0);
    for (int i = 0; i < call->n_in; i++) {
        int64_t n = sl_shape_count(call->in[i].shape);
        if (call->in[i].data != to && n) memcpy(to, call->in[i].data, (size_t)n * sizeof *to);
        to += sl_packed_count(&call->in[i].shape, 1);
    }
}

const sl_kernel SL_KERNELS(elementwise)[] = {
    {SL_OP_FILL, "plain", NULL, NULL, fill},
    {SL_OP_ADD, "plain", NULL, NULL, add},
    {SL_OP_SUB, "plain", NULL, NULL, sub},
    {SL_OP_MUL, "plain", NULL, NULL, mul},
    {SL_OP_DIV, "plain", NULL, NULL, divide},
    {SL_OP_AFFINE, "plain", NULL, NULL, affine},
    {SL_OP_EXP, "plain", NULL, NULL, exponential},
    {SL_OP_LOG, "plain", NULL, NULL, logarithm},
    {SL_OP_RECIPROCAL, "plain", NULL, NULL, reciprocal},
    {SL_OP_SQUARE, "plain", NULL, NULL, square},
    {SL_OP_SQRT, "plain", NULL, NULL, root},
    {SL_OP_BROADCAST, "plain", NULL, NULL, broadcast},
    {SL_OP_CLIP, "plain", NULL, NULL, clip},
    {SL_OP_PACK, "plain", NULL, NULL, pack},
    {0},
};
