/* Matrix products and convolutions: every copy of every kernel (plain, AVX2, AVX-512, and the 64-byte vectors
 * on whatever this machine has), with 1, 2 and 3 threads, gives the bits of core/sum.h written out literally.
 */
#if defined(__x86_64__)
/* The tiles of 64-byte vectors, torn into what AVX2 has: slow, but the same code as for AVX-512. */
#    pragma GCC push_options
#    pragma GCC target("avx2,fma")
#    define SL_SUFFIX  wide
#    define TILE_LANES 16
#    include "cpu/conv_fast.c"
#    include "cpu/matmul_fast.c"
#    undef SL_SUFFIX
#    pragma GCC pop_options
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "backend.h"
#include "core/context.h"

enum { GUARD = 64, THREADS = 3 };

/* --- kernels ---------------------------------------------------------------------------------------------
 */

#define EPILOGUE(suffix)                                                                                     \
    void sl_epilogue_##suffix(int64_t n, const float *z, const float *bias, int bias_stride,                 \
                              const sl_activation_attr *attr, const float *parameter, int parameter_stride,  \
                              float *y, float *z_out);
EPILOGUE(plain)
EPILOGUE(wide)

#define COPY(suffix)                                                                                         \
    extern const sl_kernel sl_cpu_matmul_##suffix[], sl_cpu_conv_##suffix[], sl_cpu_matmul_fast_##suffix[],  \
        sl_cpu_conv_fast_##suffix[];
COPY(plain)
#if defined(__x86_64__)
COPY(avx2)
COPY(avx512)

void sl_epilogue_wide(int64_t n, const float *z, const float *bias, int bias_stride,
                      const sl_activation_attr *attr, const float *parameter, int parameter_stride, float *y,
                      float *z_out)
{
    sl_epilogue_plain(n, z, bias, bias_stride, attr, parameter, parameter_stride, y, z_out);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif

static bool always(void)
{
    return true;
}

static const struct {
    const char *name;
    const sl_kernel *list;
    bool (*runs)(void);
} lists[] = {
    {"plain reference", sl_cpu_matmul_plain, always},
    {"plain reference", sl_cpu_conv_plain, always},
    {"plain tiles", sl_cpu_matmul_fast_plain, always},
    {"plain tiles", sl_cpu_conv_fast_plain, always},
#if defined(__x86_64__)
    {"avx2 reference", sl_cpu_matmul_avx2, has_avx2},
    {"avx2 reference", sl_cpu_conv_avx2, has_avx2},
    {"avx2 tiles", sl_cpu_matmul_fast_avx2, has_avx2},
    {"avx2 tiles", sl_cpu_conv_fast_avx2, has_avx2},
    {"wide tiles", sl_cpu_matmul_fast_wide, has_avx2},
    {"wide tiles", sl_cpu_conv_fast_wide, has_avx2},
    {"avx512 tiles", sl_cpu_matmul_fast_avx512, has_avx512},
    {"avx512 tiles", sl_cpu_conv_fast_avx512, has_avx512},
#endif
};

/* --- numbers ---------------------------------------------------------------------------------------------
 */

static uint32_t state_of_random = 1;

static uint32_t random_word(void)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 17;
    return state_of_random ^= state_of_random << 5;
}

static float random_float(bool special)
{
    const float x = (float)(int32_t)random_word() * 0x1p-31f;
    if (!special) return x;
    switch (random_word() % 64) {
    case 0: return -0.0f;
    case 1: return 0.0f;
    case 2: return x * 0x1p-140f; /* subnormal */
    case 3: return x * 0x1p-75f;  /* products of two are subnormal, or lost */
    case 4: return x * 0x1p90f;
    case 5: return random_word() % 16 ? 1.0f : INFINITY;
    case 6: return random_word() % 16 ? -1.0f : -INFINITY;
    case 7: return random_word() % 32 ? x : NAN;
    default: return x;
    }
}

/* The guard behind the end is NaN, so that reading it shows, and is compared, so that writing does. */
static float *room(int64_t n)
{
    float *p = aligned_alloc(64, ((size_t)(n + GUARD) * sizeof *p + 63) / 64 * 64);
    assert_non_null(p);
    memset(p, 0xff, (size_t)(n + GUARD) * sizeof *p);
    return p;
}

static void check_guard(const char *name, const float *p, int64_t n)
{
    const unsigned char *end = (const unsigned char *)(p + n);
    for (size_t i = 0; i < GUARD * sizeof *p; i++)
        if (end[i] != 0xff) fail_msg("%s wrote %zu bytes behind the end", name, i + 1);
}

static int64_t count_of(sl_shape shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape.n; i++) n *= shape.dim[i];
    return n;
}

static sl_tensor make(sl_shape shape, bool special)
{
    sl_tensor t = {.shape = shape, .dtype = SL_FLOAT, .data = room(count_of(shape))};
    for (int64_t i = 0; i < count_of(shape); i++) ((float *)t.data)[i] = random_float(special);
    return t;
}

/* --- the rule --------------------------------------------------------------------------------------------
 */

typedef struct rule {
    float chunk, stored[40];
    int64_t terms;
} rule;

static void close_chunk(rule *r)
{
    int level = 0;
    for (int64_t c = (r->terms - 1) / 512; c % 2 == 1; c /= 2) r->chunk = r->stored[level++] + r->chunk;
    r->stored[level] = r->chunk;
    r->chunk = 0;
}

static void term(rule *r, bool skipped, float a, float b)
{
    if (!skipped) r->chunk = fmaf(a, b, r->chunk);
    if (++r->terms % 512 == 0) close_chunk(r);
}

static float total(rule *r)
{
    if (r->terms % 512 != 0) close_chunk(r);
    const int64_t chunks = (r->terms + 511) / 512;
    bool started = false;
    float running = 0;
    for (int level = 0; chunks >> level; level++) {
        if ((chunks >> level & 1) == 0) continue;
        running = started ? r->stored[level] + running : r->stored[level];
        started = true;
    }
    return running;
}

/* --- running ---------------------------------------------------------------------------------------------
 */

static sl_context *contexts[THREADS];

static int open_contexts(void **state)
{
    (void)state;
    for (int i = 0; i < THREADS; i++) {
        contexts[i] = sl_open(.device = SL_CPU, .threads = i + 1);
        if (sl_error(contexts[i])) return -1;
    }
    return 0;
}

static int close_contexts(void **state)
{
    (void)state;
    for (int i = 0; i < THREADS; i++) sl_close(contexts[i]);
    return 0;
}

static void compare(const char *name, int threads, const char *what, const float *got, const float *want,
                    int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const bool same = want[i] != want[i] ? got[i] != got[i] : memcmp(&got[i], &want[i], sizeof *got) == 0;
        if (!same)
            fail_msg("%s, %s, %d threads: element %lld of %lld is %.9g, not %.9g", what, name, threads,
                     (long long)i, (long long)n, (double)got[i], (double)want[i]);
    }
}

/* Runs `call`, whose outputs' shapes are set, with every kernel; want[i] NULL: output i is not asked for. */
static void check(sl_call call, const char *what, const float *const *want)
{
    int ran = 0;
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        for (const sl_kernel *k = lists[l].list; k->run && lists[l].runs(); k++)
            for (int threads = 1; k->op == call.op && threads <= THREADS; threads++) {
                sl_tensor out[2] = {{0}};
                int64_t counts[2] = {0};
                for (int i = 0; i < call.n_out; i++) {
                    out[i] = call.out[i];
                    counts[i] = count_of(out[i].shape);
                    out[i].data = want[i] ? room(counts[i]) : NULL;
                }
                sl_call one = call;
                one.kernel = k;
                one.out = out;
                one.device = contexts[threads - 1]->device;
                if (k->supports && !k->supports(&one))
                    fail_msg("%s: not supported by %s", what, lists[l].name);
                const int64_t words = k->workspace ? (int64_t)((k->workspace(&one) + 3) / 4) : 0;
                one.workspace = room(words);
                k->run(&one);
                check_guard(lists[l].name, one.workspace, words);
                for (int i = 0; i < call.n_out; i++) {
                    if (!want[i]) continue;
                    check_guard(lists[l].name, out[i].data, counts[i]);
                    compare(lists[l].name, threads, what, out[i].data, want[i], counts[i]);
                    free(out[i].data);
                }
                free(one.workspace);
                ran++;
            }
    assert_true(ran > 0);
}

/* --- matmul ----------------------------------------------------------------------------------------------
 */

static float element(const sl_tensor *t, bool transposed, int64_t row, int64_t column)
{
    const float *x = t->data;
    return transposed ? x[column * t->shape.dim[1] + row] : x[row * t->shape.dim[1] + column];
}

static void expect_product(const sl_tensor *in, sl_matmul_attr attr, int64_t m, int64_t n, int64_t k,
                           float *want)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            rule r = {0};
            for (int64_t l = 0; l < k; l++)
                term(&r, false, element(&in[0], attr.transpose_a, i, l),
                     element(&in[1], attr.transpose_b, l, j));
            want[i * n + j] = total(&r);
        }
}

/* The batch is m, but k where A is transposed; then only `valid` of it count. */
static void check_matmul(int64_t m, int64_t n, int64_t k, bool ta, bool tb, int32_t valid, bool special)
{
    const sl_matmul_attr attr = {ta, tb};
    const sl_shape a = {2, {ta ? k : m, ta ? m : k}}, b = {2, {tb ? n : k, tb ? k : n}};
    const sl_tensor in[2] = {make(a, special), make(b, special)};
    const sl_tensor out = {.shape = {2, {m, n}}, .dtype = SL_FLOAT};
    float *want = room(m * n);
    expect_product(in, attr, m, n, ta && valid >= 0 ? valid : k, want);
    sl_call call = {.op = SL_OP_MATMUL, .in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &attr};
    if (valid >= 0) {
        call.valid = &valid;
        call.batch = ta ? k : m;
    }
    char what[96];
    snprintf(what, sizeof what, "matmul %lldx%lldx%lld %c%c valid %d", (long long)m, (long long)n,
             (long long)k, ta ? 'T' : 'N', tb ? 'T' : 'N', valid);
    check(call, what, (const float *const[]){want});
    free(in[0].data);
    free(in[1].data);
    free(want);
}

static void matmuls(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {
        {1, 1, 1},      {1, 10, 784}, {7, 3, 5},     {6, 16, 512}, {13, 33, 513},   {37, 75, 1024},
        {5, 9, 1025},   {3, 2, 5000}, {17, 8, 64},   {25, 24, 31}, {12, 32, 100},   {64, 10, 256},
        {2, 130, 1537}, {1, 1, 513},  {133, 17, 40}, {31, 1, 20},  {140, 100, 520}, {11, 65, 3},
        {1, 300, 2},    {300, 1, 7},  {15, 64, 9},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int flags = 0; flags < 4; flags++)
            check_matmul(shapes[i][0], shapes[i][1], shapes[i][2], flags & 1, flags & 2, -1,
                         flags == (int)(i % 4));
    for (int i = 0; i < 40; i++)
        check_matmul(1 + random_word() % 30, 1 + random_word() % 70, 1 + random_word() % 600,
                     random_word() & 1, random_word() & 1, -1, true);
}

/* Reductions over the batch stop at the samples that count; everything else is computed for all rows. */
static void matmul_valid(void **state)
{
    (void)state;
    static const int32_t valid[] = {0, 1, 2, 9, 511, 512, 513, 599, 600};
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        check_matmul(9, 21, 600, true, false, valid[i], i % 2);
        check_matmul(9, 21, 600, true, true, valid[i], false);
    }
    check_matmul(10, 17, 33, false, false, 3, true);
    check_matmul(10, 17, 33, false, true, 0, true);
}

/* --- convolution -----------------------------------------------------------------------------------------
 */

typedef struct conv_case {
    int64_t n, h, w, c, f;
    sl_conv_attr attr;
} conv_case;

#define CONV(n, h, w, c, f, kh, kw, sh, sw, ph, pw, dh, dw)                                                  \
    {                                                                                                        \
        n, h, w, c, f,                                                                                       \
        {                                                                                                    \
            .kernel = {kh, kw}, .stride = {sh, sw}, .pad = {ph, pw}, .dilation = {dh, dw}, .size = { h, w }  \
        }                                                                                                    \
    }

static const conv_case convs[] = {
    CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1),
    CONV(2, 5, 5, 1, 8, 5, 5, 1, 1, 0, 0, 1, 1),
    CONV(3, 12, 12, 8, 16, 5, 5, 1, 1, 0, 0, 1, 1),
    CONV(2, 28, 28, 1, 8, 5, 5, 1, 1, 0, 0, 1, 1),
    CONV(2, 9, 7, 3, 5, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(3, 8, 8, 1, 4, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(2, 7, 9, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(1, 6, 6, 64, 33, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(2, 11, 10, 2, 3, 3, 2, 2, 3, 1, 0, 1, 1),
    CONV(2, 13, 12, 5, 7, 3, 3, 2, 2, 1, 1, 2, 2),
    CONV(1, 9, 9, 4, 6, 3, 3, 3, 3, 2, 2, 2, 1),
    CONV(2, 4, 4, 3, 2, 5, 5, 1, 1, 2, 2, 1, 1),
    CONV(1, 3, 3, 2, 2, 3, 3, 1, 1, 3, 3, 1, 1),
    CONV(5, 6, 5, 7, 9, 1, 1, 1, 1, 0, 0, 1, 1),
    CONV(4, 7, 7, 6, 20, 1, 1, 2, 2, 0, 0, 1, 1),
    CONV(2, 10, 3, 2, 40, 7, 1, 1, 1, 3, 0, 1, 1),
    CONV(1, 2, 30, 1, 1, 2, 9, 1, 2, 1, 4, 1, 1),
    CONV(2, 6, 6, 180, 12, 3, 3, 1, 1, 0, 0, 1, 1),
    CONV(1, 5, 4, 70, 65, 2, 2, 2, 2, 1, 1, 1, 1),
    CONV(3, 9, 9, 3, 8, 3, 3, 1, 1, 0, 0, 3, 2),
    CONV(7, 4, 4, 1, 1, 2, 2, 2, 2, 0, 0, 1, 1),
    CONV(1, 30, 30, 2, 3, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(2, 6, 6, 3, 4, 1, 1, 1, 1, 2, 2, 1, 1),
    CONV(1, 8, 8, 2, 2, 2, 2, 5, 5, 0, 0, 1, 1),
    /* one channel by lines: short, exact and overlapping tiles, one panel, several, ragged ones */
    CONV(2, 3, 12, 1, 5, 1, 1, 1, 1, 0, 0, 1, 1),
    CONV(2, 5, 16, 1, 17, 3, 3, 1, 1, 0, 0, 1, 1),
    CONV(1, 4, 27, 1, 40, 2, 3, 1, 1, 0, 0, 1, 2),
    CONV(2, 4, 8, 1, 32, 2, 2, 1, 1, 0, 0, 1, 1),
    CONV(1, 26, 40, 1, 64, 23, 22, 1, 1, 0, 0, 1, 1),
    CONV(1, 24, 40, 1, 3, 24, 22, 1, 1, 0, 0, 1, 1),
    /* gradients by several panels, packed on the way */
    CONV(9, 12, 11, 3, 64, 3, 3, 1, 1, 0, 0, 1, 1),
    CONV(9, 12, 11, 2, 48, 3, 2, 2, 1, 0, 0, 1, 1),
};

static int64_t conv_size(const conv_case *s, int d)
{
    const sl_conv_attr *a = &s->attr;
    return (a->size[d] + 2 * a->pad[d] - a->dilation[d] * (a->kernel[d] - 1) - 1) / a->stride[d] + 1;
}

/* Every triple (result pixel, tap, source pixel) is one line of these loops. */
static void expect_forward(const conv_case *s, const float *x, const float *w, float *y)
{
    const sl_conv_attr *a = &s->attr;
    const int64_t oh = conv_size(s, 0), ow = conv_size(s, 1);
    for (int64_t i = 0; i < s->n * oh * ow * s->f; i++) {
        const int64_t f = i % s->f, ox = i / s->f % ow, oy = i / s->f / ow % oh, n = i / s->f / ow / oh;
        rule r = {0};
        for (int64_t k = 0; k < a->kernel[0] * a->kernel[1] * s->c; k++) {
            const int64_t c = k % s->c, kx = k / s->c % a->kernel[1], ky = k / s->c / a->kernel[1];
            const int64_t iy = oy * a->stride[0] - a->pad[0] + ky * a->dilation[0];
            const int64_t ix = ox * a->stride[1] - a->pad[1] + kx * a->dilation[1];
            const bool outside = iy < 0 || iy >= s->h || ix < 0 || ix >= s->w;
            term(&r, outside, outside ? 0 : x[((n * s->h + iy) * s->w + ix) * s->c + c], w[k * s->f + f]);
        }
        y[i] = total(&r);
    }
}

static void expect_vjp_input(const conv_case *s, const float *dy, const float *w, float *dx)
{
    const sl_conv_attr *a = &s->attr;
    const int64_t oh = conv_size(s, 0), ow = conv_size(s, 1);
    for (int64_t i = 0; i < s->n * s->h * s->w * s->c; i++) {
        const int64_t c = i % s->c, ix = i / s->c % s->w, iy = i / s->c / s->w % s->h,
                      n = i / s->c / s->w / s->h;
        rule r = {0};
        for (int64_t k = 0; k < a->kernel[0] * a->kernel[1] * s->f; k++) {
            const int64_t f = k % s->f, tap = k / s->f;
            const int64_t kx = a->kernel[1] - 1 - tap % a->kernel[1],
                          ky = a->kernel[0] - 1 - tap / a->kernel[1];
            int64_t oy = -1, ox = -1; /* the result pixel that read this one through this tap */
            for (int64_t o = 0; o < oh; o++)
                if (o * a->stride[0] - a->pad[0] + ky * a->dilation[0] == iy) oy = o;
            for (int64_t o = 0; o < ow; o++)
                if (o * a->stride[1] - a->pad[1] + kx * a->dilation[1] == ix) ox = o;
            const bool none = oy < 0 || ox < 0;
            term(&r, none, none ? 0 : dy[((n * oh + oy) * ow + ox) * s->f + f],
                 w[((ky * a->kernel[1] + kx) * s->c + c) * s->f + f]);
        }
        dx[i] = total(&r);
    }
}

static void expect_vjp_weight(const conv_case *s, int64_t samples, const float *x, const float *dy, float *dw)
{
    const sl_conv_attr *a = &s->attr;
    const int64_t oh = conv_size(s, 0), ow = conv_size(s, 1);
    for (int64_t i = 0; i < a->kernel[0] * a->kernel[1] * s->c * s->f; i++) {
        const int64_t f = i % s->f, c = i / s->f % s->c, tap = i / s->f / s->c;
        const int64_t kx = tap % a->kernel[1], ky = tap / a->kernel[1];
        rule r = {0};
        for (int64_t k = 0; k < samples * oh * ow; k++) {
            const int64_t ox = k % ow, oy = k / ow % oh, n = k / ow / oh;
            const int64_t iy = oy * a->stride[0] - a->pad[0] + ky * a->dilation[0];
            const int64_t ix = ox * a->stride[1] - a->pad[1] + kx * a->dilation[1];
            const bool outside = iy < 0 || iy >= s->h || ix < 0 || ix >= s->w;
            term(&r, outside, outside ? 0 : x[((n * s->h + iy) * s->w + ix) * s->c + c], dy[k * s->f + f]);
        }
        dw[i] = total(&r);
    }
}

static void check_conv(const conv_case *s, sl_op op, int32_t valid, bool special)
{
    const int64_t oh = conv_size(s, 0), ow = conv_size(s, 1);
    const sl_shape x = {4, {s->n, s->h, s->w, s->c}}, y = {4, {s->n, oh, ow, s->f}};
    const sl_shape w = {4, {s->attr.kernel[0], s->attr.kernel[1], s->c, s->f}};
    const bool input = op == SL_OP_CONV2D_VJP_INPUT, weight = op == SL_OP_CONV2D_VJP_WEIGHT;
    const sl_tensor in[2] = {make(input ? y : x, special), make(weight ? y : w, special)};
    const sl_tensor out = {.shape = input ? x : weight ? w : y, .dtype = SL_FLOAT};
    float *want = room(count_of(out.shape));
    if (input)
        expect_vjp_input(s, in[0].data, in[1].data, want);
    else if (weight)
        expect_vjp_weight(s, valid, in[0].data, in[1].data, want);
    else
        expect_forward(s, in[0].data, in[1].data, want);
    const sl_call call = {.op = op,
                          .in = in,
                          .out = &out,
                          .n_in = 2,
                          .n_out = 1,
                          .attr = &s->attr,
                          .valid = &valid,
                          .batch = s->n};
    char what[160];
    snprintf(what, sizeof what, "op %d n %d %dx%dx%d f %d k %dx%d s %d,%d p %d,%d d %d,%d valid %d", (int)op,
             (int)s->n, (int)s->h, (int)s->w, (int)s->c, (int)s->f, s->attr.kernel[0], s->attr.kernel[1],
             s->attr.stride[0], s->attr.stride[1], s->attr.pad[0], s->attr.pad[1], s->attr.dilation[0],
             s->attr.dilation[1], valid);
    check(call, what, (const float *const[]){want});
    free(in[0].data);
    free(in[1].data);
    free(want);
}

static void conv_forward(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        for (int special = 0; special < 2; special++)
            check_conv(&convs[i], SL_OP_CONV2D, special ? 0 : (int32_t)convs[i].n, special);
}

static void conv_vjp_input(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        for (int special = 0; special < 2; special++)
            check_conv(&convs[i], SL_OP_CONV2D_VJP_INPUT, special ? 0 : (int32_t)convs[i].n, special);
}

static void conv_vjp_weight(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        for (int32_t valid = 0; valid <= convs[i].n; valid++)
            check_conv(&convs[i], SL_OP_CONV2D_VJP_WEIGHT, valid, valid % 2);
    /* Many chunks: more than the blocks that are kept, so that blocks have levels of their own. */
    static const conv_case many[] = {
        CONV(23, 28, 28, 1, 3, 1, 1, 1, 1, 0, 0, 1, 1),
        CONV(47, 28, 28, 2, 9, 1, 2, 1, 1, 0, 1, 1, 1),
        CONV(40, 26, 25, 4, 5, 2, 1, 1, 1, 1, 0, 1, 1),
    };
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        check_conv(&many[i], SL_OP_CONV2D_VJP_WEIGHT, (int32_t)many[i].n, false);
        check_conv(&many[i], SL_OP_CONV2D_VJP_WEIGHT, (int32_t)many[i].n / 2, false);
    }
    /* More sums than are kept for several blocks, so that the weights are shared out. */
    static const conv_case large = CONV(1, 14, 40, 150, 120, 3, 3, 1, 1, 1, 1, 1, 1);
    check_conv(&large, SL_OP_CONV2D_VJP_WEIGHT, 1, false);
}

static void conv_random(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        conv_case s = {.n = 1 + random_word() % 4,
                       .h = 1 + random_word() % 11,
                       .w = 1 + random_word() % 11,
                       .c = 1 + random_word() % 9,
                       .f = 1 + random_word() % 19};
        for (int d = 0; d < 2; d++) {
            s.attr.size[d] = (int)(d ? s.w : s.h);
            s.attr.stride[d] = 1 + (int)(random_word() % 3);
            s.attr.pad[d] = (int)(random_word() % 4);
            s.attr.dilation[d] = 1 + (int)(random_word() % 2);
            const int most = (s.attr.size[d] + 2 * s.attr.pad[d] - 1) / s.attr.dilation[d] + 1;
            s.attr.kernel[d] = 1 + (int)(random_word() % (uint32_t)(most < 5 ? most : 5));
        }
        check_conv(&s, SL_OP_CONV2D, (int32_t)s.n, true);
        check_conv(&s, SL_OP_CONV2D_VJP_INPUT, (int32_t)s.n, true);
        check_conv(&s, SL_OP_CONV2D_VJP_WEIGHT, (int32_t)s.n, true);
    }
}

/* A weight that only ever meets padding may be infinite: padding is skipped, not multiplied. */
static void padding_is_skipped(void **state)
{
    (void)state;
    const conv_case s =
        CONV(2, 1, 9, 3, 5, 3, 3, 1, 1, 1, 1, 1, 1); /* one row: the outer kernel rows see nothing */
    const sl_tensor x = make((sl_shape){4, {2, 1, 9, 3}}, false),
                    w = make((sl_shape){4, {3, 3, 3, 5}}, false);
    float *weights = w.data;
    for (int i = 0; i < 3 * 3 * 5; i++) weights[i] = INFINITY, weights[2 * 3 * 3 * 5 + i] = -INFINITY;
    const sl_tensor in[2] = {x, w}, out = {.shape = {4, {2, 1, 9, 5}}, .dtype = SL_FLOAT};
    float *want = room(2 * 9 * 5);
    expect_forward(&s, x.data, weights, want);
    for (int i = 0; i < 2 * 9 * 5; i++) assert_true(isfinite(want[i]));
    const sl_call call = {.op = SL_OP_CONV2D, .in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &s.attr};
    check(call, "infinite weights on padding", (const float *const[]){want});
    free(x.data);
    free(w.data);
    free(want);
}

/* --- fused -----------------------------------------------------------------------------------------------
 */

/* sums[rows, columns] -> z, y of relu or prelu; bias and parameter have one element per column or one for
 * all. */
static void expect_fused(const float *sums, int64_t rows, int64_t columns, const sl_tensor *bias,
                         const sl_tensor *a, float *z, float *y)
{
    for (int64_t i = 0; i < rows * columns; i++) {
        z[i] = sums[i] + ((float *)bias->data)[count_of(bias->shape) > 1 ? i % columns : 0];
        const float slope = a ? ((float *)a->data)[count_of(a->shape) > 1 ? i % columns : 0] : 0;
        y[i] = z[i] > 0 ? z[i] : a ? slope * z[i] : z[i] <= 0 ? 0 : z[i];
    }
}

static void check_fused(sl_op op, const void *attr, const sl_tensor *factors, sl_shape shape,
                        const float *sums, bool prelu)
{
    const int64_t columns = shape.dim[shape.n - 1], rows = count_of(shape) / columns;
    for (int wide = 0; wide < 2; wide++)
        for (int keep = 0; keep < 2; keep++) {
            const sl_tensor bias = make((sl_shape){1, {wide ? columns : 1}}, false);
            const sl_tensor a = make((sl_shape){1, {keep ? columns : 1}}, false);
            const sl_tensor in[4] = {factors[0], factors[1], bias, a};
            const sl_tensor out[2] = {{.shape = shape, .dtype = SL_FLOAT},
                                      {.shape = shape, .dtype = SL_FLOAT}};
            float *y = room(rows * columns), *z = room(rows * columns);
            expect_fused(sums, rows, columns, &bias, prelu ? &a : NULL, z, y);
            const sl_call call = {
                .op = op, .in = in, .out = out, .n_in = prelu ? 4 : 3, .n_out = 2, .attr = attr};
            check(call, "fused", (const float *const[]){y, keep ? z : NULL});
            free(bias.data);
            free(a.data);
            free(y);
            free(z);
        }
}

static void fused(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{5, 10, 40}, {130, 33, 7}, {1, 1, 600}, {40, 200, 20}, {3, 1500, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int prelu = 0; prelu < 2; prelu++) {
            const int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
            const sl_matmul_fused_attr attr = {.matmul = {.transpose_b = i % 2},
                                               .activation = {.id = prelu ? SL_ROW_PRELU : SL_ROW_RELU}};
            const sl_tensor in[2] = {make((sl_shape){2, {m, k}}, false),
                                     make((sl_shape){2, {i % 2 ? n : k, i % 2 ? k : n}}, false)};
            float *sums = room(m * n);
            expect_product(in, attr.matmul, m, n, k, sums);
            check_fused(SL_OP_MATMUL_BIAS_ACTIVATION, &attr, in, (sl_shape){2, {m, n}}, sums, prelu);
            free(in[0].data);
            free(in[1].data);
            free(sums);
        }
    for (size_t i = 1; i < sizeof convs / sizeof *convs; i += 2) {
        const conv_case *s = &convs[i];
        const sl_conv_fused_attr attr = {s->attr, {.id = i % 4 == 1 ? SL_ROW_PRELU : SL_ROW_RELU}};
        const sl_shape y = {4, {s->n, conv_size(s, 0), conv_size(s, 1), s->f}};
        const sl_tensor in[2] = {
            make((sl_shape){4, {s->n, s->h, s->w, s->c}}, false),
            make((sl_shape){4, {s->attr.kernel[0], s->attr.kernel[1], s->c, s->f}}, false)};
        float *sums = room(count_of(y));
        expect_forward(s, in[0].data, in[1].data, sums);
        check_fused(SL_OP_CONV2D_BIAS_ACTIVATION, &attr, in, y, sums, i % 4 == 1);
        free(in[0].data);
        free(in[1].data);
        free(sums);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmuls),         cmocka_unit_test(matmul_valid),
        cmocka_unit_test(conv_forward),    cmocka_unit_test(conv_vjp_input),
        cmocka_unit_test(conv_vjp_weight), cmocka_unit_test(conv_random),
        cmocka_unit_test(fused),           cmocka_unit_test(padding_is_skipped),
    };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
