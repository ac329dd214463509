/* How precise the matrix products of a CUDA device, real or simulated, are that need not be exact:
 * elementwise |error| <= c·√K·2^-24·Σ|a||b| in fp32, and in TF32 and BF16, whose factors have 11 and 8
 * significant bits, what rounding them costs besides. Numbers that all lean the same way within their last 13
 * bits make TF32's error grow with the sum, so that fp32's bound tells the two apart at any K. Our own
 * products are held to more: to the sum of the rounded factors' products, within fp32's bound. Every kernel
 * is called directly, whatever size it is meant for. */
#include "cuda_case.h"
#include "rounding.h"

#include "core/activation.h"

enum { FP32 = SL_FP32, TF32 = SL_TF32, BF16 = SL_BF16, PRECISIONS };

static sl_context *devices[PRECISIONS];

static const double fp32_factor = 2; /* c: without fma a term is rounded twice */

typedef struct product {
    const char *kernel;
    int64_t m, n, k;
    bool transpose_a, transpose_b;
    int activation; /* SL_ROW_…; -1: MATMUL */
    float a;        /* of the activation */
    bool parameter; /* a is a tensor, one per column */
    bool one_bias;  /* one for all columns */
    bool y, z;      /* wanted */
    bool leaning;   /* the numbers' last 13 bits are rounded down by TF32, and all are positive */
} product;

typedef struct numbers {
    sl_tensor in[4];
    double *sum, *size; /* with the bias: Σab, and Σ|a||b| without */
} numbers;

typedef struct result {
    float *y, *z;
} result;

/* --- numbers --- */

/* In [1, 2), between 1/16 and 7/16 of TF32's last bit above one of its numbers. */
static float leaning(uint32_t word)
{
    const uint32_t bits = 0x3f800000u | (word & 0x007fe000u) | (0x200u + word % 0xc00u);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static sl_tensor matrix(const product *p, uint32_t seed, int64_t rows, int64_t columns)
{
    sl_tensor t = reals(seed, -1, 1, DIMS(rows, columns));
    for (int64_t i = 0; p->leaning && i < rows * columns; i++)
        ((float *)t.data)[i] = leaning(sl_random_word(seed, 10, 0, (uint64_t)i));
    return t;
}

/* The sums of products whose factors are rounded like this. */
static void sum_up(const product *p, const numbers *all, int precision)
{
    const float *a = all->in[0].data, *b = all->in[1].data, *bias = all->in[2].data;
    for (int64_t i = 0; i < p->m; i++) {
        double *sum = all->sum + i * p->n, *size = all->size + i * p->n;
        for (int64_t j = 0; j < p->n; j++) sum[j] = size[j] = 0;
        for (int64_t l = 0; l < p->k; l++) {
            const double x = rounded(a[p->transpose_a ? l * p->m + i : i * p->k + l], precision);
            for (int64_t j = 0; j < p->n; j++) {
                const double term = x * rounded(b[p->transpose_b ? j * p->k + l : l * p->n + j], precision);
                sum[j] += term;
                size[j] += fabs(term);
            }
        }
        for (int64_t j = 0; j < p->n && p->activation >= 0; j++) sum[j] += bias[p->one_bias ? 0 : j];
    }
}

static numbers numbers_of(const product *p)
{
    numbers all = {.sum = case_room((size_t)(p->m * p->n) * sizeof(double)),
                   .size = case_room((size_t)(p->m * p->n) * sizeof(double))};
    all.in[0] = p->transpose_a ? matrix(p, 1, p->k, p->m) : matrix(p, 1, p->m, p->k);
    all.in[1] = p->transpose_b ? matrix(p, 2, p->n, p->k) : matrix(p, 2, p->k, p->n);
    all.in[2] = reals(3, -1, 1, DIMS(p->one_bias ? 1 : p->n));
    all.in[3] = reals(4, 0, 1, DIMS(p->n));
    sum_up(p, &all, FP32);
    return all;
}

static double fp32_bound(const product *p, const numbers *all, int64_t i)
{
    return fp32_factor * sqrt((double)p->k) * 0x1p-24 * all->size[i] +
           (p->activation >= 0 ? 0x1p-24 * fabs(all->sum[i]) : 0);
}

/* A factor that is rounded errs by the precision's unit; one whose other bits are cut off, which NVIDIA does
 * not rule out for its libraries, by twice as much. */
static double bound(const product *p, const numbers *all, int64_t i, int precision)
{
    const double unit = unit_of(precision) * (case_simulated ? 1 : 2);
    return fp32_bound(p, all, i) + (2 + unit) * unit * all->size[i];
}

/* --- running --- */

static const sl_kernel *named_kernel(const sl_context *ctx, sl_op op, const char *name)
{
    for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == op && strcmp(k->name, name) == 0) return k;
    fail_msg("there is no kernel %s", name);
    return NULL;
}

static sl_matmul_fused_attr attr_of(const product *p)
{
    return (sl_matmul_fused_attr){{p->transpose_a, p->transpose_b}, {p->activation, p->a, 1}};
}

/* By itself, and twice in a captured list. */
static result run(int precision, const product *p, const numbers *all)
{
    sl_context *ctx = devices[precision];
    const sl_backend *backend = ctx->backend;
    const bool fused = p->activation >= 0;
    const sl_matmul_fused_attr attr = attr_of(p);
    const size_t bytes = (size_t)(p->m * p->n) * sizeof(float);
    sl_tensor in[4], out[2];
    result r = {p->y ? case_room(bytes) : NULL, p->z ? case_room(bytes) : NULL};
    for (int i = 0; i < 4; i++) {
        in[i] = all->in[i];
        in[i].data = device_copy(ctx, in[i].data, bytes_of(&in[i]));
    }
    for (int i = 0; i < 2; i++)
        out[i] = (sl_tensor){(i ? p->z : p->y) ? device_copy(ctx, NULL, bytes) : NULL,
                             sl_shape_of(DIMS(p->m, p->n)), SL_FLOAT};
    sl_call call = {.op = fused ? SL_OP_MATMUL_BIAS_ACTIVATION : SL_OP_MATMUL,
                    .in = in,
                    .out = out,
                    .n_in = fused ? 3 + p->parameter : 2,
                    .n_out = fused ? 2 : 1,
                    .attr = fused ? (const void *)&attr : &attr.matmul,
                    .batch = 1,
                    .device = ctx->device,
                    .name = "product"};
    call.kernel = named_kernel(ctx, call.op, p->kernel);
    const size_t workspace = call.kernel->workspace ? call.kernel->workspace(&call) : 0;
    if (workspace) call.workspace = device_copy(ctx, NULL, workspace);
    const sl_call calls[2] = {call, call};
    for (int n = 1; n <= 2; n++) {
        void *handle = NULL;
        backend->run(ctx->device, ctx, calls, n, &handle);
        assert_ok(ctx);
        if (handle) backend->release(ctx->device, handle);
    }
    if (r.y) backend->download(ctx->device, r.y, out[0].data, bytes);
    if (r.z) backend->download(ctx->device, r.z, out[1].data, bytes);
    for (int i = 0; i < 4; i++) backend->free(ctx->device, in[i].data);
    for (int i = 0; i < 2; i++) backend->free(ctx->device, out[i].data);
    if (workspace) backend->free(ctx->device, call.workspace);
    return r;
}

/* --- judging --- */

static const char *text_of(const product *p, int precision)
{
    static char text[256];
    static const char *const names[] = {"fp32", "tf32", "bf16"};
    snprintf(text, sizeof text, "%s in %s, %lld x %lld x %lld%s%s, %s, y %d, z %d, %s numbers", p->kernel,
             names[precision], (long long)p->m, (long long)p->n, (long long)p->k,
             p->transpose_a ? ", a transposed" : "", p->transpose_b ? ", b transposed" : "",
             p->activation < 0 ? "no bias" : sl_activation_row_info(p->activation)->name, p->y, p->z,
             p->leaning ? "leaning" : "random");
    return text;
}

static bool within(double got, double want, double most)
{
    return fabs(got - want) <= most; /* NaN is not */
}

/* f changes by at most so many times what its argument changes by; its own rounding. */
static double after_activation(const product *p, double error, double y)
{
    return (p->activation == SL_ROW_LINEAR ? fabs((double)p->a) : 1.2) * error + 0x1p-20 * (1 + fabs(y));
}

/* What comes out before the activation; NULL: not to be seen. */
static const float *sums_of(const product *p, const result *r)
{
    const bool none = p->activation < 0 || (p->activation == SL_ROW_LINEAR && p->a == 1);
    return p->z ? r->z : none ? r->y : NULL;
}

static void judge(int precision, const product *p, const numbers *all, const result *r)
{
    const sl_activation_info *f = p->activation >= 0 ? sl_activation_row_info(p->activation) : NULL;
    const float *sums = sums_of(p, r);
    for (int64_t i = 0; i < p->m * p->n; i++) {
        const double most = bound(p, all, i, precision);
        const float a = p->parameter ? ((const float *)all->in[3].data)[i % p->n] : p->a;
        if (sums && !within(sums[i], all->sum[i], most))
            fail_msg("%s: element %lld is %.9g, not %.9g ± %.3g", text_of(p, precision), (long long)i,
                     (double)sums[i], all->sum[i], most);
        if (!p->y || !f) continue;
        const double y = f->value(all->sum[i], a, 1);
        if (p->z ? r->y[i] != f->value_float(r->z[i], a, 1)
                 : !within(r->y[i], y, after_activation(p, most, y)))
            fail_msg("%s: activated element %lld is %.9g, near %.9g", text_of(p, precision), (long long)i,
                     (double)r->y[i], y);
    }
}

/* How many elements lie beyond the bound of fp32. */
static double share_beyond_fp32(const product *p, const numbers *all, const float *sums)
{
    int64_t beyond = 0;
    for (int64_t i = 0; i < p->m * p->n; i++) beyond += !within(sums[i], all->sum[i], fp32_bound(p, all, i));
    return (double)beyond / (double)(p->m * p->n);
}

/* The bound of fp32 is one that TF32 breaks. */
static void judge_bound(const product *p, const numbers *all)
{
    const size_t count = (size_t)(p->m * p->n);
    float *result_in_tf32 = case_room(count * sizeof(float));
    numbers less = *all;
    product bare = *p;
    for (int t = 0; t < 2; t++) {
        const int64_t n = sl_shape_count(all->in[t].shape);
        less.in[t] = space(SL_FLOAT, DIMS(n));
        for (int64_t i = 0; i < n; i++)
            ((float *)less.in[t].data)[i] = rounded(((const float *)all->in[t].data)[i], SL_TF32);
    }
    const float *a = less.in[0].data, *b = less.in[1].data, *bias = all->in[2].data;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = p->activation < 0 ? 0 : bias[p->one_bias ? 0 : j];
            for (int64_t l = 0; l < p->k; l++)
                sum += (double)a[p->transpose_a ? l * p->m + i : i * p->k + l] *
                       (double)b[p->transpose_b ? j * p->k + l : l * p->n + j];
            result_in_tf32[i * p->n + j] = (float)sum;
        }
    bare.z = true;
    assert_true(share_beyond_fp32(&bare, all, result_in_tf32) == 1);
    judge(TF32, &(product){"the host", p->m, p->n, p->k, .activation = -1, .z = true, .leaning = true},
          &(numbers){.sum = all->sum, .size = all->size}, &(result){NULL, result_in_tf32});
}

/* Our own products on tensor cores round factors one by one and add up exact products. The order is not
 * ours, and a real device may cut off what it should round: once in eight or sixteen terms. */
static void judge_own(int precision, const product *p, const numbers *all, const result *r)
{
    numbers less = *all;
    less.sum = case_room((size_t)(p->m * p->n) * sizeof(double));
    less.size = case_room((size_t)(p->m * p->n) * sizeof(double));
    sum_up(p, &less, precision);
    const double cut = case_simulated ? 0 : (double)p->k / 8 * 0x1p-23;
    const float *sums = sums_of(p, r);
    for (int64_t i = 0; sums && i < p->m * p->n; i++)
        if (!within(sums[i], less.sum[i], fp32_bound(p, &less, i) + cut * less.size[i]))
            fail_msg("%s: element %lld is %.9g, with rounded factors %.9g", text_of(p, precision),
                     (long long)i, (double)sums[i], less.sum[i]);
}

static void check(const product *p)
{
    const numbers all = numbers_of(p);
    const bool tiles = strcmp(p->kernel, "tiles") == 0, own = strcmp(p->kernel, "mma") == 0;
    for (int precision = own ? TF32 : FP32; precision < PRECISIONS; precision++) {
        const result r = run(precision, p, &all);
        judge(tiles ? FP32 : precision, p, &all, &r);
        if (own) judge_own(precision, p, &all, &r);
        /* What a library does with TF32 where rows cannot be read in fours is its own affair. */
        const bool sure =
            own || case_simulated || (p->m % 8 == 0 && p->n % 8 == 0 && p->k % 8 == 0 && p->k >= 256);
        const float *sums = sums_of(p, &r);
        if (precision == TF32 && !tiles && p->leaning && sums && sure)
            assert_true(share_beyond_fp32(p, &all, sums) > 0.99);
    }
    case_end();
}

/* --- tests --- */

static void test_bounds(void **state)
{
    (void)state;
    static const int64_t depths[] = {1, 2, 3, 17, 256, 511, 513, 4096, 10000};
    static const char *const kernels[] = {"tiles", "cublas", "mma"};
    for (size_t d = 0; d < sizeof depths / sizeof *depths; d++)
        for (int kernel = 0; kernel < 3; kernel++)
            for (int variant = 0; variant < 8; variant++) {
                product p = {kernels[kernel],  33,          21,
                             depths[d],        variant & 1, variant & 2,
                             .activation = -1, .y = true,   .leaning = variant & 4};
                if (kernel == 2 && p.transpose_a && p.transpose_b) continue; /* not supported */
                check(&p);
            }
}

/* Every tile, with edges in every direction; k in one part, a few and many. */
static void test_tiles_of_tensor_cores(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {
        {1, 1, 1},     {16, 8, 16},    {17, 9, 33},    {128, 32, 32},   {129, 31, 95},  {130, 33, 65},
        {64, 64, 300}, {65, 130, 257}, {200, 16, 700}, {140, 70, 2400}, {40, 20, 4500}, {1024, 1100, 40},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int transposes = 0; transposes < 3; transposes++) {
            product p = {"mma",
                         shapes[s][0],
                         shapes[s][1],
                         shapes[s][2],
                         transposes & 1,
                         transposes & 2,
                         .activation = -1,
                         .y = true,
                         .leaning = (s + (size_t)transposes) & 1};
            if (p.m > 1000 && transposes) continue; /* wide ones are wide every way */
            check(&p);
        }
}

static void test_bias_and_activation(void **state)
{
    (void)state;
    static const struct {
        int row;
        float a;
        bool parameter;
    } functions[] = {{SL_ROW_LINEAR, 1, false}, {SL_ROW_LINEAR, 2.5f, false}, {SL_ROW_RELU, 0, false},
                     {SL_ROW_PRELU, 0, true},   {SL_ROW_TANH, 0, false},      {SL_ROW_GELU, 0, false}};
    static const char *const kernels[] = {"tiles", "cublas", "cublaslt", "mma"};
    static const int64_t shapes[][3] = {{1, 1, 1}, {5, 7, 3}, {17, 64, 100}, {64, 40, 1000}, {3, 10, 10000}};
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)
        for (int kernel = 0; kernel < 4; kernel++)
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                for (int wanted = 1; wanted < 4; wanted++) {
                    const int transposes = kernel < 3 ? (int)(f + s) & 3 : 0;
                    product p = {kernels[kernel],
                                 shapes[s][0],
                                 shapes[s][1],
                                 shapes[s][2],
                                 transposes & 1,
                                 transposes & 2,
                                 functions[f].row,
                                 functions[f].a,
                                 functions[f].parameter,
                                 .one_bias = kernel == 1 && f & 1,
                                 .y = wanted & 1,
                                 .z = wanted & 2,
                                 .leaning = (f + s + (size_t)wanted) & 1};
                    check(&p);
                }
}

/* The shapes that a library gives to its tensor cores. */
static void test_even_shapes(void **state)
{
    (void)state;
    static const char *const kernels[] = {"cublas", "cublaslt"};
    for (int kernel = 0; kernel < 2; kernel++)
        for (int transposes = 0; transposes < 4; transposes++)
            check(&(product){kernels[kernel], 128, 256, 512, transposes & 1, transposes & 2, SL_ROW_SWISH, 1,
                             .y = true, .z = true, .leaning = true});
}

/* The bounds themselves: fp32's is one that TF32 breaks, TF32's is one that it keeps, at every K. */
static void test_the_bounds_tell_apart(void **state)
{
    (void)state;
    static const int64_t depths[] = {1, 2, 3, 17, 512, 4096, 10000};
    for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
        const product p = {"the host", 9, 11, depths[d], .activation = -1, .leaning = true};
        const numbers all = numbers_of(&p);
        judge_bound(&p, &all);
        case_end();
    }
}

/* NaN goes through the library's products and whatever follows them, in its row and nowhere else. */
static void test_nan(void **state)
{
    (void)state;
    static const char *const kernels[] = {"tiles", "cublas", "cublaslt", "mma"};
    for (int kernel = 0; kernel < 4; kernel++)
        for (int z = 0; z < 2; z++)
            for (int precision = kernel < 3 ? FP32 : TF32; precision < PRECISIONS; precision++) {
                const product p = {kernels[kernel], 8, 16, 24, .activation = SL_ROW_RELU, .y = true, .z = z};
                numbers all = numbers_of(&p);
                ((float *)all.in[0].data)[3 * p.k + 5] = NAN;
                const result r = run(precision, &p, &all);
                for (int64_t i = 0; i < p.m * p.n; i++)
                    if (isnan(r.y[i]) != (i / p.n == 3))
                        fail_msg("%s: element %lld is %g", text_of(&p, precision), (long long)i,
                                 (double)r.y[i]);
                case_end();
            }
}

/* Which kernel the plan assigns; nothing is run, so that the sizes cost nothing. */
static const char *assigned(sl_context *ctx, const product *p, bool valid)
{
    const sl_matmul_fused_attr attr = attr_of(p);
    const bool fused = p->activation >= 0;
    static const int32_t rows = 1;
    const sl_tensor in[3] = {
        {.shape = p->transpose_a ? sl_shape_of(DIMS(p->k, p->m)) : sl_shape_of(DIMS(p->m, p->k))},
        {.shape = p->transpose_b ? sl_shape_of(DIMS(p->n, p->k)) : sl_shape_of(DIMS(p->k, p->n))},
        {.shape = sl_shape_of(DIMS(p->one_bias ? 1 : p->n))}};
    const sl_tensor out[2] = {{.shape = sl_shape_of(DIMS(p->m, p->n))},
                              {.shape = sl_shape_of(DIMS(p->m, p->n))}};
    const sl_call call = {.op = fused ? SL_OP_MATMUL_BIAS_ACTIVATION : SL_OP_MATMUL,
                          .in = in,
                          .out = out,
                          .n_in = fused ? 3 : 2,
                          .n_out = fused ? 2 : 1,
                          .attr = fused ? (const void *)&attr : &attr.matmul,
                          .valid = valid ? &rows : NULL,
                          .batch = valid ? (p->transpose_a ? p->k : p->m) : 1,
                          .device = ctx->device};
    return kernel_of(ctx, &call)->name;
}

static void test_assignment(void **state)
{
    (void)state;
    const product large = {NULL, 1024, 1024, 512, .activation = SL_ROW_RELU};
    const product medium = {NULL, 256, 256, 512, .activation = SL_ROW_RELU};
    const product small = {NULL, 128, 10, 128, .activation = SL_ROW_RELU};
    product one_bias = large, bare = large, weights = large, turned = medium;
    one_bias.one_bias = true;
    bare.activation = weights.activation = turned.activation = -1;
    weights.transpose_a = turned.transpose_a = turned.transpose_b = true;
    for (int precision = 0; precision < PRECISIONS; precision++) {
        const char *own = precision == FP32 ? "tiles" : "mma";
        sl_context *ctx = devices[precision];
        assert_string_equal(assigned(ctx, &large, true), "cublaslt");
        assert_string_equal(assigned(ctx, &one_bias, true), "cublas");
        assert_string_equal(assigned(ctx, &bare, true), "cublas");
        assert_string_equal(assigned(ctx, &medium, true), own);
        assert_string_equal(assigned(ctx, &small, true), "tiles");
        assert_string_equal(assigned(ctx, &turned, true), "tiles");
        assert_string_equal(assigned(ctx, &weights, false), "cublas");
        assert_string_equal(assigned(ctx, &weights, true), own); /* k ends where the samples do */
    }
    for (int i = 0; i < 2; i++) assert_string_equal(assigned(case_cuda, i ? &bare : &large, true), "tiles");
}

/* Where cuBLASLt has no algorithm, cuBLAS and our own kernel do the same. Only a simulated device can be told
 * that it has none. */
static void test_no_algorithm(void **state)
{
    (void)state;
    if (!case_simulated) skip();
    setenv("SLOPE_SIMT_FAIL", "algorithm", 1);
    for (int wanted = 1; wanted < 4; wanted++)
        for (int leans = 0; leans < 2; leans++)
            check(&(product){"cublaslt", 20, 12, 300, .activation = SL_ROW_TANH, .y = wanted & 1,
                             .z = wanted & 2, .leaning = leans});
    unsetenv("SLOPE_SIMT_FAIL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_bounds_tell_apart),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_tiles_of_tensor_cores),
        cmocka_unit_test(test_bias_and_activation),
        cmocka_unit_test(test_even_shapes),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_assignment),
        cmocka_unit_test(test_no_algorithm),
    };
    const int skipped = case_open();
    if (skipped) return skipped;
    int failed = 0;
    for (int i = 0; i < PRECISIONS; i++) {
        devices[i] = sl_open(.device = SL_CUDA, .precision = (sl_precision)i);
        if (sl_error(devices[i])) fprintf(stderr, "%s\n", sl_error(devices[i]));
        failed |= sl_error(devices[i]) != NULL;
    }
    if (!failed) failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < PRECISIONS; i++) sl_close(devices[i]);
    return case_close(failed);
}
