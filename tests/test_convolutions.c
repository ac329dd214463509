/* Convolutions: every copy of every kernel gives the bits of core/sum.h written out literally. */
#if defined(__x86_64__)
/* The tiles of 64-byte vectors, torn into what AVX2 has: slow, but the same code as for AVX-512. */
#    pragma GCC push_options
#    pragma GCC target("avx2,fma")
#    define SL_SUFFIX  wide
#    define TILE_LANES 16
#    include "cpu/conv_fast.c"
#    undef SL_SUFFIX
#    pragma GCC pop_options
#endif
#define FAMILY conv
#include "product_case.h"

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

static void fused(void **state)
{
    (void)state;
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
        cmocka_unit_test(conv_forward),       cmocka_unit_test(conv_vjp_input),
        cmocka_unit_test(conv_vjp_weight),    cmocka_unit_test(conv_random),
        cmocka_unit_test(padding_is_skipped), cmocka_unit_test(fused),
    };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
