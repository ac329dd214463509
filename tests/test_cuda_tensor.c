/* Convolutions on the tensor cores of a CUDA device, real or simulated, in TF32 and BF16, and training with
 * them. Results are held against double precision twice: against the products of rounded factors, where only
 * float32 sums are left to err, and within what rounding may cost against the products themselves. The
 * simulated device has 132 SMs here, so that small shapes too are shared out over many blocks. */
#include "cuda_case.h"
#include "rounding.h"

#include "core/activation.h"
#include "slope/layers.h"

typedef struct convolution {
    int n, h, w, c, f, kernel, stride, pad, dilation;
    int valid; /* samples that count; 0: all */
} convolution;

static const convolution cases[] = {
    {1, 5, 5, 1, 1, 3, 1, 0, 1, 0},      {1, 6, 7, 5, 3, 3, 1, 1, 1, 0},
    {2, 9, 8, 17, 33, 3, 2, 1, 1, 1},    {3, 11, 11, 33, 17, 3, 1, 2, 2, 2},
    {2, 12, 12, 4, 8, 5, 1, 0, 1, 0},    {2, 14, 14, 32, 64, 3, 1, 1, 1, 1},
    {4, 27, 26, 8, 16, 3, 1, 0, 1, 3},   {5, 4, 4, 3, 40, 1, 1, 0, 1, 4},
    {2, 13, 9, 12, 20, 3, 3, 2, 2, 1},   {1, 20, 20, 64, 5, 2, 2, 0, 1, 0},
    {300, 3, 3, 4, 36, 3, 1, 1, 1, 299},
};
enum { CASES = sizeof cases / sizeof *cases };

static const sl_precision precisions[] = {SL_TF32, SL_BF16};
static const char *const names[] = {"tf32", "bf16"};
static const sl_op ops[] = {SL_OP_CONV2D_BIAS_ACTIVATION, SL_OP_CONV2D, SL_OP_CONV2D_VJP_INPUT,
                            SL_OP_CONV2D_VJP_WEIGHT};
enum { FUSED, FORWARD, INPUT, WEIGHT, OPS };
static sl_context *devices[2];

/* x, weights and y, or their gradients; what is computed is one of the three, from the others. */
typedef struct problem {
    const convolution *c;
    int op, oh, ow;
    sl_tensor x, weights, y, bias;
    sl_conv_fused_attr attr;
} problem;

static int size_after(int size, const convolution *c)
{
    return (size + 2 * c->pad - c->dilation * (c->kernel - 1) - 1) / c->stride + 1;
}

static problem problem_of(const convolution *c, int op)
{
    problem p = {.c = c, .op = op, .oh = size_after(c->h, c), .ow = size_after(c->w, c)};
    p.x = reals(1, -1, 1, DIMS(c->n, c->h, c->w, c->c));
    p.weights = reals(2, -1, 1, DIMS(c->kernel, c->kernel, c->c, c->f));
    p.y = reals(3, -1, 1, DIMS(c->n, p.oh, p.ow, c->f));
    p.bias = reals(4, -1, 1, DIMS(c->f));
    p.attr = (sl_conv_fused_attr){{{c->kernel, c->kernel},
                                   {c->stride, c->stride},
                                   {c->pad, c->pad},
                                   {c->dilation, c->dilation},
                                   {c->h, c->w}},
                                  {SL_ROW_LINEAR, 1, 1}};
    return p;
}

static const sl_tensor *result_of(const problem *p)
{
    return p->op == INPUT ? &p->x : p->op == WEIGHT ? &p->weights : &p->y;
}

/* Σab and Σ|a||b| of every element, with factors rounded like this; the number of terms of most. */
typedef struct sums {
    double *sum, *size, terms;
} sums;

static sums sums_of(const problem *p, sl_precision precision)
{
    const convolution *c = p->c;
    const int64_t count = sl_shape_count(result_of(p)->shape);
    sums s = {case_room((size_t)count * sizeof(double)), case_room((size_t)count * sizeof(double)), 0};
    const int n = p->op == WEIGHT && c->valid ? c->valid : c->n;
    const float *x = p->x.data, *weights = p->weights.data, *y = p->y.data, *bias = p->bias.data;
    s.terms = p->op == WEIGHT  ? (double)n * p->oh * p->ow
              : p->op == INPUT ? c->kernel * c->kernel * c->f
                               : c->kernel * c->kernel * c->c;
    for (int64_t i = 0; i < count; i++) s.sum[i] = s.size[i] = 0;
    for (int64_t at = 0; at < (int64_t)n * p->oh * p->ow; at++)
        for (int tap = 0; tap < c->kernel * c->kernel; tap++) {
            const int64_t oy = at / p->ow % p->oh, ox = at % p->ow, image = at / p->ow / p->oh;
            const int64_t iy = oy * c->stride - c->pad + tap / c->kernel * c->dilation,
                          ix = ox * c->stride - c->pad + tap % c->kernel * c->dilation;
            if (iy < 0 || iy >= c->h || ix < 0 || ix >= c->w) continue;
            for (int channel = 0; channel < c->c; channel++) {
                const int64_t i = ((image * c->h + iy) * c->w + ix) * c->c + channel;
                const double a = rounded(x[i], precision);
                for (int f = 0; f < c->f; f++) {
                    const int64_t j = (tap * c->c + channel) * c->f + f, k = at * c->f + f;
                    const double b = rounded(weights[j], precision), d = rounded(y[k], precision);
                    const double term = p->op == INPUT ? b * d : p->op == WEIGHT ? a * d : a * b;
                    const int64_t to = p->op == INPUT ? i : p->op == WEIGHT ? j : k;
                    s.sum[to] += term;
                    s.size[to] += fabs(term);
                }
            }
        }
    for (int64_t i = 0; i < count && p->op == FUSED; i++) s.sum[i] += bias[i % c->f];
    return s;
}

/* By the kernel of this name, or by the one that is assigned. */
static float *run(sl_context *ctx, const problem *p, const char *name)
{
    const sl_backend *backend = ctx->backend;
    const sl_tensor *from[] = {p->op == INPUT ? &p->y : &p->x, p->op == WEIGHT ? &p->y : &p->weights,
                               &p->bias};
    const int n_in = p->op == FUSED ? 3 : 2;
    const size_t bytes = bytes_of(result_of(p));
    const int32_t valid = p->c->valid ? p->c->valid : p->c->n;
    sl_tensor in[3], out[2] = {*result_of(p), *result_of(p)};
    float *result = case_room(bytes);
    for (int i = 0; i < n_in; i++) {
        in[i] = *from[i];
        in[i].data = device_copy(ctx, from[i]->data, bytes_of(from[i]));
    }
    out[0].data = device_copy(ctx, NULL, bytes);
    out[1].data = NULL;
    int32_t *rows = device_copy(ctx, &valid, sizeof valid);
    sl_call call = {.op = ops[p->op],
                    .in = in,
                    .out = out,
                    .n_in = n_in,
                    .n_out = p->op == FUSED ? 2 : 1,
                    .attr = &p->attr, /* of which the convolution's own comes first */
                    .valid = rows,
                    .batch = p->c->n,
                    .device = ctx->device,
                    .name = "convolution"};
    for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family && name; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == call.op && strcmp(k->name, name) == 0) call.kernel = k;
    if (!name) call.kernel = kernel_of(ctx, &call);
    assert_non_null(call.kernel);
    const size_t workspace = call.kernel->workspace ? call.kernel->workspace(&call) : 0;
    if (workspace) call.workspace = device_copy(ctx, NULL, workspace);
    void *handle = NULL;
    backend->run(ctx->device, ctx, &call, 1, &handle);
    assert_ok(ctx);
    if (handle) backend->release(ctx->device, handle);
    backend->download(ctx->device, result, out[0].data, bytes);
    for (int i = 0; i < n_in; i++) backend->free(ctx->device, in[i].data);
    backend->free(ctx->device, out[0].data);
    backend->free(ctx->device, rows);
    if (workspace) backend->free(ctx->device, call.workspace);
    return result;
}

/* c·√K·2^-24·Σ|a||b|; a real device may cut off what it should round, once in eight terms. */
static double sum_bound(const sums *s, int64_t i)
{
    return (2 * sqrt(s->terms) * 0x1p-24 + (case_simulated ? 0 : s->terms / 8 * 0x1p-23)) * s->size[i] +
           0x1p-24 * fabs(s->sum[i]);
}

static void check(int d, const convolution *c, int op)
{
    static const char *const orders[] = {"forward", "reverse", "shuffled"};
    problem p = problem_of(c, op);
    if (op == WEIGHT && c->valid) { /* what lies behind the samples that count is not for reading */
        const int64_t x = sl_shape_count(p.x.shape) / c->n, y = sl_shape_count(p.y.shape) / c->n;
        for (int64_t i = x * c->valid; i < x * c->n; i++) ((float *)p.x.data)[i] = NAN;
        for (int64_t i = y * c->valid; i < y * c->n; i++) ((float *)p.y.data)[i] = NAN;
    }
    const double unit = unit_of(precisions[d]);
    const sums s = sums_of(&p, SL_FP32), less = sums_of(&p, precisions[d]);
    float *first = NULL;
    for (int o = 0; o < (case_quick() ? 1 : case_simulated ? 3 : 2); o++) {
        if (case_simulated) setenv("SLOPE_SIMT_ORDER", orders[o], 1);
        float *got = run(devices[d], &p, "mma");
        for (int64_t i = 0; i < sl_shape_count(result_of(&p)->shape); i++) {
            if (!(fabs(got[i] - less.sum[i]) <= sum_bound(&less, i)))
                fail_msg("%s, case %d, operation %d: element %lld is %.9g, with rounded factors %.9g ± %.2g",
                         names[d], (int)(c - cases), op, (long long)i, (double)got[i], less.sum[i],
                         sum_bound(&less, i));
            if (!(fabs(got[i] - s.sum[i]) <= (2 + unit) * unit * s.size[i] + sum_bound(&s, i)))
                fail_msg("%s, case %d, operation %d: element %lld is %.9g, not %.9g", names[d],
                         (int)(c - cases), op, (long long)i, (double)got[i], s.sum[i]);
        }
        if (first && memcmp(first, got, bytes_of(result_of(&p))) != 0)
            fail_msg("%s, case %d, operation %d: two runs differ", names[d], (int)(c - cases), op);
        first = got;
    }
    unsetenv("SLOPE_SIMT_ORDER");
    case_end();
}

static void test_convolutions(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < CASES; i++)
            for (int op = 0; op < OPS; op++) check(d, &cases[i], op);
}

/* --- NaN and infinity --- */

/* One input element is spoilt: what it takes part in is, and nothing else. */
static void test_not_finite(void **state)
{
    (void)state;
    const float values[] = {NAN, INFINITY, -INFINITY};
    for (int d = 0; d < 2; d++)
        for (int op = 0; op < OPS; op++)
            for (int v = 0; v < 3; v++) {
                const problem p = problem_of(&cases[3], op);
                const int64_t count = sl_shape_count(result_of(&p)->shape);
                float *const spoilt = (float *)(op == INPUT ? &p.y : &p.x)->data + 2077;
                const float sound = *spoilt;
                *spoilt = 1e30f;
                const sums s = sums_of(&p, SL_FP32);
                *spoilt = values[v];
                const float *got = run(devices[d], &p, "mma");
                int64_t seen = 0;
                for (int64_t i = 0; i < count; i++) {
                    const bool touched = s.size[i] > 1e10, expected = !isfinite(got[i]);
                    if (touched != expected)
                        fail_msg("%s, operation %d: element %lld is %g", names[d], op, (long long)i,
                                 (double)got[i]);
                    if (touched && v == 0) assert_true(isnan(got[i]));
                    if (touched && v > 0) assert_true(isinf(got[i]));
                    seen += touched;
                }
                assert_true(seen > 0 && seen < count);
                *spoilt = sound;
                case_end();
            }
}

/* --- which kernel is assigned --- */

static const char *assigned(sl_context *ctx, const convolution *c, int op)
{
    const int oh = size_after(c->h, c), ow = size_after(c->w, c);
    const sl_tensor x = {.shape = sl_shape_of(DIMS(c->n, c->h, c->w, c->c))},
                    weights = {.shape = sl_shape_of(DIMS(c->kernel, c->kernel, c->c, c->f))},
                    y = {.shape = sl_shape_of(DIMS(c->n, oh, ow, c->f))},
                    bias = {.shape = sl_shape_of(DIMS(c->f))};
    const sl_tensor in[] = {op == INPUT ? y : x, op == WEIGHT ? y : weights, bias};
    const sl_tensor out[] = {op == INPUT ? x : op == WEIGHT ? weights : y, y};
    static const int32_t rows = 1;
    const sl_conv_fused_attr attr = {{{c->kernel, c->kernel},
                                      {c->stride, c->stride},
                                      {c->pad, c->pad},
                                      {c->dilation, c->dilation},
                                      {c->h, c->w}},
                                     {SL_ROW_RELU, 0, 1}};
    const sl_call call = {.op = ops[op],
                          .in = in,
                          .out = out,
                          .n_in = op == FUSED ? 3 : 2,
                          .n_out = op == FUSED ? 2 : 1,
                          .attr = &attr,
                          .valid = &rows,
                          .batch = c->n,
                          .device = ctx->device};
    return kernel_of(ctx, &call)->name;
}

static void test_assignment(void **state)
{
    (void)state;
    const convolution cnn2 = {128, 26, 26, 32, 64, 3, 1, 0, 1, 0}, cnn1 = {128, 28, 28, 1, 32, 3, 1, 0, 1, 0},
                      tiny = {1, 5, 5, 8, 8, 3, 1, 0, 1, 0};
    sl_context *fp32 = sl_open(.device = SL_CUDA);
    for (int op = 0; op < OPS; op++) {
        for (int d = 0; d < 2; d++) {
            assert_string_equal(assigned(devices[d], &cnn2, op), "mma");
            assert_string_not_equal(assigned(devices[d], &cnn1, op), "mma");
            assert_string_not_equal(assigned(devices[d], &tiny, op), "mma");
        }
        assert_string_not_equal(assigned(fp32, &cnn2, op), "mma");
        assert_string_not_equal(assigned(case_cuda, &cnn2, op), "mma");
    }
    sl_close(fp32);
}

/* --- training --- */

static double accuracy(const char *line, int samples, sl_precision precision)
{
    sl_context *ctx = sl_open(.device = SL_CUDA, .seed = 3, .precision = precision);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), line, SL_RELU, (sl_init){0});
    sl_model *model = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = 16,
                                 .optimizer = {.row = SL_OPTIMIZER_ADAM});
    const sl_epoch epoch = sl_fit(model, sl_digits(ctx, 5, SL_TRAIN, samples), .epochs = 2,
                                  .validation = sl_digits(ctx, 5, SL_TEST, 500));
    assert_ok(ctx);
    sl_close(ctx);
    return epoch.validation.accuracy;
}

static void test_training(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int samples;
        double least;
    } nets[] = {{"mlp", 1000, 0.7}, {"lenet", 320, 0.4}};
    for (int l = 0; l < (case_quick() ? 0 : 2); l++) {
        const double want = accuracy(nets[l].line, nets[l].samples, SL_FP32);
        for (int d = 0; d < 2; d++) {
            const double seen = accuracy(nets[l].line, nets[l].samples, precisions[d]);
            print_message("%s, %s: %.1f %% of unseen digits, in fp32 %.1f %%\n", nets[l].line, names[d],
                          100 * seen, 100 * want);
            assert_true(want > nets[l].least);
            if (!(seen >= want - 0.02))
                fail_msg("%s, %s: accuracy %.3f, in fp32 %.3f", nets[l].line, names[d], seen, want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_assignment),
        cmocka_unit_test(test_training),
    };
    setenv("SLOPE_SIMT_SMS", "132", 1);
    const int skipped = case_open();
    if (skipped) return skipped;
    int failed = 0;
    for (int d = 0; d < 2; d++) {
        devices[d] = sl_open(.device = SL_CUDA, .precision = precisions[d]);
        if (sl_error(devices[d])) fprintf(stderr, "%s\n", sl_error(devices[d]));
        failed |= sl_error(devices[d]) != NULL;
    }
    if (!failed) failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int d = 0; d < 2; d++) sl_close(devices[d]);
    return case_close(failed);
}
