/* Matrix products and convolutions on the CUDA device, real or simulated: those of the exact device, and the
 * tiles of the default one, have the bits of the CPU's reference kernels; cuBLAS keeps within the bound of a
 * sum's error. */
#include "check.h"

#include "backend.h"
#include "core/context.h"

enum { GUARD = 64, EXACT = 0, DEFAULT = 1, TF32 = 2, DEVICES = 3 };

static sl_context *devices[DEVICES], *host;

static int open_contexts(void **state)
{
    (void)state;
    host = sl_open(.device = SL_CPU, .threads = 1);
    devices[EXACT] = sl_open(.device = SL_CUDA, .exact = true);
    setenv("SLOPE_SIMT_SMS", "132",
           1); /* where the device is simulated: chunks go to more blocks than on 4 */
    devices[DEFAULT] = sl_open(.device = SL_CUDA);
    unsetenv("SLOPE_SIMT_SMS");
    devices[TF32] = sl_open(.device = SL_CUDA, .precision = SL_TF32);
    for (int i = 0; i < DEVICES; i++) assert_ok(devices[i]);
    return 0;
}

static int close_contexts(void **state)
{
    (void)state;
    for (int i = 0; i < DEVICES; i++) sl_close(devices[i]);
    sl_close(host);
    return 0;
}

/* --- numbers --- */

static uint32_t state_of_random = 7;

static uint32_t random_word(void)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 17;
    return state_of_random ^= state_of_random << 5;
}

static int64_t up_to(int64_t most)
{
    return 1 + random_word() % (uint32_t)most;
}

/* Some zeros, subnormal numbers and sums, huge ones, infinities, and NaN with the bits that tiles use as a
 * mark. */
static float random_float(bool special)
{
    const float x = (float)(int32_t)random_word() * 0x1p-31f;
    const uint32_t mark = 0x7fe5c0deu;
    float nan;
    memcpy(&nan, &mark, sizeof nan);
    switch (special ? random_word() % 64 : 63) {
    case 0: return -0.0f;
    case 1: return 0.0f;
    case 2: return x * 0x1p-140f;
    case 3:
    case 4: return x * 0x1p-75f; /* products of two are subnormal, or lost, with their sign */
    case 5: return x * 0x1p90f;
    case 6: return random_word() % 16 ? 1.0f : INFINITY;
    case 7: return random_word() % 32 ? x : nan;
    default: return x;
    }
}

static void *memory(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

static sl_tensor make(sl_shape shape, bool special)
{
    const int64_t n = sl_shape_count(shape);
    sl_tensor t = {.shape = shape, .dtype = SL_FLOAT, .data = memory((size_t)n * sizeof(float))};
    for (int64_t i = 0; i < n; i++) ((float *)t.data)[i] = random_float(special);
    return t;
}

/* --- running --- */

/* On the device: the tensor's copy, or NaN, and behind it a guard of ones. */
static void *to_device(const sl_context *ctx, const void *from, size_t bytes)
{
    unsigned char *copy = memory(bytes + GUARD);
    memset(copy, 0xff, bytes + GUARD);
    if (from) memcpy(copy, from, bytes);
    void *at = ctx->backend->alloc(ctx->device, bytes + GUARD);
    assert_non_null(at);
    ctx->backend->upload(ctx->device, at, copy, bytes + GUARD);
    free(copy);
    return at;
}

static void from_device(const sl_context *ctx, void *to, const void *at, size_t bytes, const char *what)
{
    unsigned char *copy = memory(bytes + GUARD);
    ctx->backend->download(ctx->device, copy, at, bytes + GUARD);
    for (int i = 0; i < GUARD; i++)
        if (copy[bytes + (size_t)i] != 0xff) fail_msg("%s: byte %d behind the end was written", what, i + 1);
    if (to) memcpy(to, copy, bytes);
    free(copy);
}

static size_t bytes_of(const sl_tensor *t)
{
    return (size_t)sl_shape_count(t->shape) * sizeof(float);
}

typedef struct results {
    float *out[2]; /* NULL: not asked for */
} results;

static void release(results *r)
{
    free(r->out[0]);
    free(r->out[1]);
}

static results run(sl_context *ctx, const sl_kernel *kernel, sl_call call, const char *what)
{
    const sl_backend *backend = ctx->backend;
    sl_tensor in[4], out[2];
    results r = {{NULL, NULL}};
    call.kernel = kernel;
    call.device = ctx->device;
    for (int i = 0; i < call.n_in; i++) {
        in[i] = call.in[i];
        in[i].data = to_device(ctx, in[i].data, bytes_of(&in[i]));
    }
    for (int i = 0; i < call.n_out; i++) {
        out[i] = call.out[i];
        if (out[i].data) out[i].data = to_device(ctx, NULL, bytes_of(&out[i]));
    }
    void *valid = NULL;
    if (call.valid) call.valid = valid = to_device(ctx, call.valid, sizeof *call.valid);
    call.in = in;
    call.out = out;
    const size_t space = kernel->workspace ? kernel->workspace(&call) : 0;
    if (space) call.workspace = to_device(ctx, NULL, space);
    void *handle = NULL;
    backend->run(ctx->device, ctx, &call, 1, &handle);
    if (handle) backend->release(ctx->device, handle);
    if (sl_error(ctx)) fail_msg("%s, %s: %s", what, kernel->name, sl_error(ctx));
    for (int i = 0; i < call.n_in; i++) {
        from_device(ctx, NULL, in[i].data, bytes_of(&in[i]), what);
        backend->free(ctx->device, in[i].data);
    }
    for (int i = 0; i < call.n_out; i++) {
        if (!out[i].data) continue;
        r.out[i] = memory(bytes_of(&out[i]));
        from_device(ctx, r.out[i], out[i].data, bytes_of(&out[i]), what);
        backend->free(ctx->device, out[i].data);
    }
    if (space) {
        from_device(ctx, NULL, call.workspace, space, what);
        backend->free(ctx->device, call.workspace);
    }
    if (valid) backend->free(ctx->device, valid);
    return r;
}

/* By the CPU's last kernel of the operation, which is the reference. */
static results expect(sl_call call)
{
    const sl_kernel *kernel = NULL;
    for (const sl_kernel *const *family = host->backend->kernels(host->device); *family; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == call.op) kernel = k;
    assert_non_null(kernel);
    sl_tensor out[2];
    results r = {{NULL, NULL}};
    for (int i = 0; i < call.n_out; i++) {
        out[i] = call.out[i];
        if (out[i].data) out[i].data = r.out[i] = memory(bytes_of(&out[i]));
    }
    call.out = out;
    call.device = host->device;
    kernel->run(&call);
    return r;
}

static void check_same(const char *what, const char *kernel, const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const bool same = want[i] != want[i] ? got[i] != got[i] : memcmp(&got[i], &want[i], sizeof *got) == 0;
        if (!same)
            fail_msg("%s, %s: element %lld of %lld is %.9g, not %.9g", what, kernel, (long long)i,
                     (long long)n, (double)got[i], (double)want[i]);
    }
}

static bool is_library(const sl_kernel *kernel)
{
    return strcmp(kernel->name, "cublas") == 0;
}

/* Every kernel that supports the call, on the exact device and on the default one. */
static void check(sl_call call, const char *what)
{
    results want = expect(call);
    for (int d = EXACT; d <= DEFAULT; d++) {
        const sl_context *ctx = devices[d];
        int ran = 0;
        for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family; family++)
            for (const sl_kernel *k = *family; k->run; k++) {
                call.device = ctx->device;
                if (k->op != call.op || is_library(k) || (k->supports && !k->supports(&call))) continue;
                results got = run(devices[d], k, call, what);
                for (int i = 0; i < call.n_out; i++)
                    if (want.out[i])
                        check_same(what, k->name, got.out[i], want.out[i], sl_shape_count(call.out[i].shape));
                release(&got);
                ran++;
            }
        if (ran == 0) fail_msg("%s: no kernel supports it", what);
    }
    release(&want);
}

/* --- matrix products --- */

static char asked[1]; /* what an output that is wanted points to before it has memory */

static void check_matmul(int64_t m, int64_t n, int64_t k, int flags, int32_t valid, bool special)
{
    const sl_matmul_attr attr = {flags & 1, flags & 2};
    const sl_shape a = {2, {flags & 1 ? k : m, flags & 1 ? m : k}},
                   b = {2, {flags & 2 ? n : k, flags & 2 ? k : n}};
    const sl_tensor in[2] = {make(a, special), make(b, special)};
    const sl_tensor out = {.shape = {2, {m, n}}, .dtype = SL_FLOAT, .data = asked};
    sl_call call = {
        .op = SL_OP_MATMUL, .in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &attr, .name = "product"};
    if (valid >= 0) call.valid = &valid, call.batch = flags & 1 ? k : m;
    char what[96];
    snprintf(what, sizeof what, "matmul %lldx%lldx%lld form %d valid %d", (long long)m, (long long)n,
             (long long)k, flags, valid);
    check(call, what);
    free(in[0].data);
    free(in[1].data);
}

static void matmuls(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {
        {1, 1, 1},      {1, 10, 784},    {7, 3, 5},      {6, 16, 512},  {13, 33, 513},        {37, 75, 1024},
        {5, 9, 1025},   {3, 2, 5000},    {17, 8, 64},    {25, 24, 31},  {12, 32, 100},        {64, 10, 256},
        {2, 130, 1537}, {1, 1, 513},     {133, 17, 40},  {31, 1, 20},   {140, 100, 36},       {11, 65, 3},
        {1, 300, 2},    {300, 1, 7},     {15, 64, 9},    {520, 68, 20}, {600, 30, 12},        {40, 40, 4100},
        {9, 5, 16400},  {129, 260, 530}, {65, 20, 2600}, {3, 4, 20000}, {2, 3, 70 * 512 + 1},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int flags = 0; flags < 4; flags++) {
            if (shapes[i][0] * shapes[i][1] * shapes[i][2] > 400000 && flags != (int)(i % 4)) continue;
            check_matmul(shapes[i][0], shapes[i][1], shapes[i][2], flags, -1, flags % 2);
        }
    for (int i = 0; i < 20; i++) check_matmul(up_to(40), up_to(70), up_to(600), random_word() & 3, -1, true);
}

static void matmul_valid(void **state)
{
    (void)state;
    static const int32_t valid[] = {0, 1, 9, 511, 512, 513, 600};
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        check_matmul(9, 21, 600, i % 2 ? 1 : 3, valid[i], i % 2);
    for (int32_t v = 0; v <= 6000; v += 1111) check_matmul(9, 10, 6000, 1, v, true); /* parts are cut away */
    check_matmul(10, 17, 33, 0, 3, true);
    check_matmul(10, 17, 33, 2, 0, true);
}

/* The error of a product against its terms' sizes, in double. */
static void check_bound(const sl_call *call, const float *got, int64_t m, int64_t n, int64_t k, double bound)
{
    const sl_matmul_attr *attr = call->attr;
    const float *a = call->in[0].data, *b = call->in[1].data;
    for (int64_t i = 0; i < m; i += 17)
        for (int64_t j = 0; j < n; j += 13) {
            double sum = 0, size = 0;
            for (int64_t l = 0; l < k; l++) {
                const double x = attr->transpose_a ? a[l * m + i] : a[i * k + l],
                             y = attr->transpose_b ? b[j * k + l] : b[l * n + j];
                sum += x * y;
                size += fabs(x * y);
            }
            if (!(fabs(got[i * n + j] - sum) <= bound * sqrt((double)k) * size))
                fail_msg("element (%lld, %lld) is %.9g, not %.9g", (long long)i, (long long)j,
                         (double)got[i * n + j], sum);
        }
}

static const sl_kernel *chosen(const sl_context *ctx, const sl_call *call)
{
    for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == call->op && (!k->supports || k->supports(call))) return k;
    return NULL;
}

/* Large products go to the library, but not on an exact device, and not where k may be cut. Tensor cores of
 * our own serve what is smaller. */
static void library(void **state)
{
    (void)state;
    for (int d = EXACT; d < DEVICES; d++)
        for (int flags = 0; flags < 4; flags++) {
            const bool tf32 = d == TF32;
            const int64_t m = 640, n = tf32 ? 1300 : 650, k = 653;
            const sl_matmul_attr attr = {flags & 1, flags & 2};
            const sl_tensor in[2] = {make((sl_shape){2, {flags & 1 ? k : m, flags & 1 ? m : k}}, false),
                                     make((sl_shape){2, {flags & 2 ? n : k, flags & 2 ? k : n}}, false)};
            const sl_tensor out = {.shape = {2, {m, n}}, .dtype = SL_FLOAT, .data = asked};
            sl_call call = {.op = SL_OP_MATMUL,
                            .in = in,
                            .out = &out,
                            .n_in = 2,
                            .n_out = 1,
                            .attr = &attr,
                            .device = devices[d]->device,
                            .name = "large"};
            const int32_t valid = (int32_t)(flags & 1 ? k : m);
            if (flags & 1) {
                call.valid = &valid, call.batch = k;
                assert_string_equal(chosen(devices[d], &call)->name, tf32 && !(flags & 2) ? "mma" : "tiles");
                call.valid = NULL;
            }
            const sl_kernel *kernel = chosen(devices[d], &call);
            assert_string_equal(kernel->name, d == EXACT ? "tiles" : "cublas");
            if (d != EXACT) {
                results got = run(devices[d], kernel, call, "large");
                check_bound(&call, got.out[0], m, n, k, d == TF32 ? 0x1p-11 : 0x1p-24);
                release(&got);
            }
            free(in[0].data);
            free(in[1].data);
        }
}

/* With bias and relu, against the CPU: relu moves no result by more than the sum has moved. */
static void library_fused(void **state)
{
    (void)state;
    const int64_t m = 640, n = 650, k = 653;
    const sl_matmul_fused_attr attr = {.activation = {.id = SL_ROW_RELU}};
    for (int wide = 0; wide < 2; wide++) {
        const sl_tensor in[3] = {make((sl_shape){2, {m, k}}, false), make((sl_shape){2, {k, n}}, false),
                                 make((sl_shape){1, {wide ? n : 1}}, false)};
        const sl_tensor out[2] = {{.shape = {2, {m, n}}, .data = asked},
                                  {.shape = {2, {m, n}}, .data = wide ? asked : NULL}};
        const sl_call call = {.op = SL_OP_MATMUL_BIAS_ACTIVATION,
                              .in = in,
                              .out = out,
                              .n_in = 3,
                              .n_out = 2,
                              .attr = &attr,
                              .device = devices[DEFAULT]->device,
                              .name = "large"};
        const sl_kernel *kernel = chosen(devices[DEFAULT], &call);
        assert_string_equal(kernel->name, wide ? "cublaslt" : "cublas");
        results got = run(devices[DEFAULT], kernel, call, "large"), want = expect(call);
        for (int64_t i = 0; i < m * n; i++) {
            assert_near(got.out[0][i], want.out[0][i], 1e-4);
            if (wide) assert_true(got.out[1][i] > 0 ? got.out[0][i] == got.out[1][i] : got.out[0][i] == 0);
        }
        release(&got);
        release(&want);
        for (int i = 0; i < 3; i++) free(in[i].data);
    }
}

/* --- convolutions --- */

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
    CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1),    CONV(2, 5, 5, 1, 8, 5, 5, 1, 1, 0, 0, 1, 1),
    CONV(3, 12, 12, 8, 16, 5, 5, 1, 1, 0, 0, 1, 1), CONV(1, 28, 28, 1, 8, 5, 5, 1, 1, 0, 0, 1, 1),
    CONV(2, 9, 7, 3, 5, 3, 3, 1, 1, 1, 1, 1, 1),    CONV(3, 8, 8, 1, 4, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(2, 7, 9, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1),  CONV(1, 6, 6, 64, 33, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(2, 11, 10, 2, 3, 3, 2, 2, 3, 1, 0, 1, 1),  CONV(2, 13, 12, 5, 7, 3, 3, 2, 2, 1, 1, 2, 2),
    CONV(1, 9, 9, 4, 6, 3, 3, 3, 3, 2, 2, 2, 1),    CONV(2, 4, 4, 3, 2, 5, 5, 1, 1, 2, 2, 1, 1),
    CONV(1, 3, 3, 2, 2, 3, 3, 1, 1, 3, 3, 1, 1),    CONV(5, 6, 5, 7, 9, 1, 1, 1, 1, 0, 0, 1, 1),
    CONV(4, 7, 7, 6, 20, 1, 1, 2, 2, 0, 0, 1, 1),   CONV(2, 10, 3, 2, 40, 7, 1, 1, 1, 3, 0, 1, 1),
    CONV(1, 2, 30, 1, 1, 2, 9, 1, 2, 1, 4, 1, 1),   CONV(1, 6, 6, 180, 12, 3, 3, 1, 1, 0, 0, 1, 1),
    CONV(1, 5, 4, 70, 65, 2, 2, 2, 2, 1, 1, 1, 1),  CONV(3, 9, 9, 3, 8, 3, 3, 1, 1, 0, 0, 3, 2),
    CONV(7, 4, 4, 1, 1, 2, 2, 2, 2, 0, 0, 1, 1),    CONV(1, 30, 30, 2, 3, 3, 3, 1, 1, 1, 1, 1, 1),
    CONV(2, 6, 6, 3, 4, 1, 1, 1, 1, 2, 2, 1, 1),    CONV(1, 8, 8, 2, 2, 2, 2, 5, 5, 0, 0, 1, 1),
    CONV(4, 12, 12, 4, 68, 3, 3, 1, 1, 1, 1, 1, 1), CONV(3, 14, 14, 8, 32, 3, 3, 1, 1, 1, 1, 1, 1),
};
enum { CONVS = sizeof convs / sizeof *convs };

static int64_t conv_size(const conv_case *s, int d)
{
    const sl_conv_attr *a = &s->attr;
    return (a->size[d] + 2 * a->pad[d] - a->dilation[d] * (a->kernel[d] - 1) - 1) / a->stride[d] + 1;
}

static void check_conv(const conv_case *s, sl_op op, int32_t valid, bool special)
{
    const sl_shape x = {4, {s->n, s->h, s->w, s->c}}, y = {4, {s->n, conv_size(s, 0), conv_size(s, 1), s->f}};
    const sl_shape w = {4, {s->attr.kernel[0], s->attr.kernel[1], s->c, s->f}};
    const bool input = op == SL_OP_CONV2D_VJP_INPUT, weight = op == SL_OP_CONV2D_VJP_WEIGHT;
    const sl_tensor in[2] = {make(input ? y : x, special), make(weight ? y : w, special)};
    const sl_tensor out = {.shape = input ? x : weight ? w : y, .dtype = SL_FLOAT, .data = asked};
    const sl_call call = {.op = op,
                          .in = in,
                          .out = &out,
                          .n_in = 2,
                          .n_out = 1,
                          .attr = &s->attr,
                          .valid = &valid,
                          .batch = s->n,
                          .name = "conv"};
    char what[160];
    snprintf(what, sizeof what, "op %d n %d %dx%dx%d f %d k %dx%d s %d,%d p %d,%d d %d,%d valid %d", (int)op,
             (int)s->n, (int)s->h, (int)s->w, (int)s->c, (int)s->f, s->attr.kernel[0], s->attr.kernel[1],
             s->attr.stride[0], s->attr.stride[1], s->attr.pad[0], s->attr.pad[1], s->attr.dilation[0],
             s->attr.dilation[1], valid);
    check(call, what);
    free(in[0].data);
    free(in[1].data);
}

static void conv_forward(void **state)
{
    (void)state;
    for (int i = 0; i < CONVS; i++)
        check_conv(&convs[i], SL_OP_CONV2D, i % 2 ? 0 : (int32_t)convs[i].n, i % 2);
}

static void conv_vjp_input(void **state)
{
    (void)state;
    for (int i = 0; i < CONVS; i++)
        check_conv(&convs[i], SL_OP_CONV2D_VJP_INPUT, i % 2 ? 0 : (int32_t)convs[i].n, i % 2 == 0);
}

static void conv_vjp_weight(void **state)
{
    (void)state;
    for (int i = 0; i < CONVS; i++)
        for (int32_t valid = 0; valid <= convs[i].n; valid += convs[i].n > 3 ? 3 : 1)
            check_conv(&convs[i], SL_OP_CONV2D_VJP_WEIGHT, valid, valid % 2);
    static const conv_case many[] = {
        /* chunks enough for parts, with levels inside them */
        CONV(23, 28, 28, 1, 3, 1, 1, 1, 1, 0, 0, 1, 1),
        CONV(11, 28, 28, 2, 9, 1, 2, 1, 1, 0, 1, 1, 1),
        CONV(9, 26, 25, 4, 5, 2, 1, 1, 1, 1, 0, 1, 1),
    };
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        for (int32_t valid = (int32_t)many[i].n; valid > 0; valid /= 3)
            check_conv(&many[i], SL_OP_CONV2D_VJP_WEIGHT, valid, valid % 2);
}

static void conv_random(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        conv_case s = {.n = up_to(4), .h = up_to(11), .w = up_to(11), .c = up_to(9), .f = up_to(19)};
        for (int d = 0; d < 2; d++) {
            s.attr.size[d] = (int)(d ? s.w : s.h);
            s.attr.stride[d] = (int)up_to(3);
            s.attr.pad[d] = (int)up_to(4) - 1;
            s.attr.dilation[d] = (int)up_to(2);
            const int64_t most = (s.attr.size[d] + 2 * s.attr.pad[d] - 1) / s.attr.dilation[d] + 1;
            s.attr.kernel[d] = (int)up_to(most < 5 ? most : 5);
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
    const sl_tensor in[2] = {make((sl_shape){4, {2, 1, 9, 3}}, false),
                             make((sl_shape){4, {3, 3, 3, 5}}, false)};
    for (int i = 0; i < 3 * 3 * 5; i++)
        ((float *)in[1].data)[i] = INFINITY, ((float *)in[1].data)[2 * 3 * 3 * 5 + i] = -INFINITY;
    const sl_tensor out = {.shape = {4, {2, 1, 9, 5}}, .dtype = SL_FLOAT, .data = asked};
    const sl_call call = {
        .op = SL_OP_CONV2D, .in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &s.attr, .name = "padding"};
    results want = expect(call);
    for (int i = 0; i < 2 * 9 * 5; i++) assert_true(isfinite(want.out[0][i]));
    release(&want);
    check(call, "infinite weights on padding");
    free(in[0].data);
    free(in[1].data);
}

/* --- fused --- */

/* `kind`: bit 0 bias for each column, bit 1 parameter for each column, bit 2 the value before the activation
 * is kept. */
static void check_fused(sl_op op, const void *attr, const sl_tensor *factors, sl_shape shape, bool learned,
                        int kind)
{
    const int64_t columns = shape.dim[shape.n - 1];
    const sl_tensor bias = make((sl_shape){1, {kind & 1 ? columns : 1}}, false);
    const sl_tensor a = make((sl_shape){1, {kind & 2 ? columns : 1}}, false);
    const sl_tensor in[4] = {factors[0], factors[1], bias, a};
    const sl_tensor out[2] = {{.shape = shape, .dtype = SL_FLOAT, .data = asked},
                              {.shape = shape, .dtype = SL_FLOAT, .data = kind & 4 ? asked : NULL}};
    const sl_call call = {
        .op = op, .in = in, .out = out, .n_in = learned ? 4 : 3, .n_out = 2, .attr = attr, .name = "fused"};
    char what[64];
    snprintf(what, sizeof what, "fused op %d columns %d kind %d", (int)op, (int)columns, kind);
    check(call, what);
    free(bias.data);
    free(a.data);
}

/* Whether a row's parameter can be an input. */
#define FIXED                                         0
#define LEARNABLE                                     1
#define LEARNED                                       1
#define NO_PARAMETER                                  0
#define PARAMETER(name, value, how, lowest)           how
#define TWO_PARAMETERS(name, value, how, lowest, ...) how
#define ACTIVATION(id, name, parameters, ...)         parameters,
static const bool learnable[] = {
#include "slope/activations.def"
};
#undef ACTIVATION

static void fused(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{5, 10, 40},  {130, 33, 7}, {1, 1, 600},
                                        {40, 96, 20}, {3, 300, 3},  {10, 12, 3000}};
    for (int row = 0; row < SL_ROW_COUNT; row++)
        for (int kind = row % 3; kind < 8; kind += 3) {
            const int64_t *s = shapes[(row + kind) % 6];
            const bool swap = (row + kind) % 2;
            const sl_matmul_fused_attr attr = {.matmul = {.transpose_b = swap},
                                               .activation = {.id = row, .a = 0.75f, .b = 1.5f}};
            const sl_tensor in[2] = {make((sl_shape){2, {s[0], s[2]}}, false),
                                     make((sl_shape){2, {swap ? s[1] : s[2], swap ? s[2] : s[1]}}, false)};
            check_fused(SL_OP_MATMUL_BIAS_ACTIVATION, &attr, in, (sl_shape){2, {s[0], s[1]}},
                        kind & 2 && learnable[row], kind);
            free(in[0].data);
            free(in[1].data);
        }
    for (int i = 1; i < CONVS; i++) {
        const conv_case *s = &convs[i];
        const sl_conv_fused_attr attr = {s->attr, {.id = i % SL_ROW_COUNT, .a = 0.5f, .b = 1}};
        const sl_tensor in[2] = {
            make((sl_shape){4, {s->n, s->h, s->w, s->c}}, false),
            make((sl_shape){4, {s->attr.kernel[0], s->attr.kernel[1], s->c, s->f}}, false)};
        check_fused(SL_OP_CONV2D_BIAS_ACTIVATION, &attr, in,
                    (sl_shape){4, {s->n, conv_size(s, 0), conv_size(s, 1), s->f}},
                    learnable[attr.activation.id], i % 8);
        free(in[0].data);
        free(in[1].data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmuls),         cmocka_unit_test(matmul_valid),
        cmocka_unit_test(conv_forward),    cmocka_unit_test(conv_vjp_input),
        cmocka_unit_test(conv_vjp_weight), cmocka_unit_test(conv_random),
        cmocka_unit_test(fused),           cmocka_unit_test(library),
        cmocka_unit_test(library_fused),   cmocka_unit_test(padding_is_skipped),
    };
    sl_context *ctx = sl_open(.device = SL_CUDA);
    const char *error = sl_error(ctx);
    const bool here = !error, required = getenv("SLOPE_REQUIRE_GPU") != NULL;
    if (!here) fprintf(stderr, "%s: %s\n", required ? "failed" : "skipped", error);
    sl_close(ctx);
    if (!here) return required ? 1 : 77;
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
