/* Speed of the matrix products and convolutions of mlp, lenet and cnn, beside the machine's peak of
 * multiply-add measured in the same rounds. Every figure is the median of the rounds.
 *
 *     bench_products [--threads N] [--rounds N] [--milliseconds N] [PART OF A NAME]
 *
 * SLOPE_ISA=plain|avx2|avx512 chooses the kernels. */
#define _POSIX_C_SOURCE 200809L
#include "backend.h"
#include "core/context.h"
#include "measure.h"
#include "options.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { MOST_ROUNDS = 101 };

/* --- the cases --- */

typedef enum kind { NN, TN, NT, FORWARD, VJP_INPUT, VJP_WEIGHT } kind;

typedef struct measured {
    const char *name;
    kind kind;
    int64_t m, n, k;           /* products */
    int64_t batch, size, c, f; /* convolutions of square images */
    int kernel, pad;
} measured;

static const measured cases[] = {
    {"mlp dense1 fwd", NN, .m = 128, .n = 128, .k = 784},
    {"mlp dense1 dW", TN, .m = 784, .n = 128, .k = 128},
    {"mlp dense2 fwd", NN, .m = 128, .n = 10, .k = 128},
    {"mlp dense2 dX", NT, .m = 128, .n = 128, .k = 10},
    {"mlp dense2 dW", TN, .m = 128, .n = 10, .k = 128},
    {"lenet conv1 fwd", FORWARD, .batch = 64, .size = 28, .c = 1, .f = 8, .kernel = 5},
    {"lenet conv1 dW", VJP_WEIGHT, .batch = 64, .size = 28, .c = 1, .f = 8, .kernel = 5},
    {"lenet conv2 fwd", FORWARD, .batch = 64, .size = 12, .c = 8, .f = 16, .kernel = 5},
    {"lenet conv2 dX", VJP_INPUT, .batch = 64, .size = 12, .c = 8, .f = 16, .kernel = 5},
    {"lenet conv2 dW", VJP_WEIGHT, .batch = 64, .size = 12, .c = 8, .f = 16, .kernel = 5},
    {"lenet dense fwd", NN, .m = 64, .n = 10, .k = 256},
    {"lenet dense dX", NT, .m = 64, .n = 256, .k = 10},
    {"lenet dense dW", TN, .m = 256, .n = 10, .k = 64},
    {"cnn conv1 fwd", FORWARD, .batch = 128, .size = 28, .c = 1, .f = 32, .kernel = 3},
    {"cnn conv1 dW", VJP_WEIGHT, .batch = 128, .size = 28, .c = 1, .f = 32, .kernel = 3},
    {"cnn conv2 fwd", FORWARD, .batch = 128, .size = 26, .c = 32, .f = 64, .kernel = 3},
    {"cnn conv2 dX", VJP_INPUT, .batch = 128, .size = 26, .c = 32, .f = 64, .kernel = 3},
    {"cnn conv2 dW", VJP_WEIGHT, .batch = 128, .size = 26, .c = 32, .f = 64, .kernel = 3},
    {"cnn dense fwd", NN, .m = 128, .n = 128, .k = 9216},
    {"cnn dense dX", NT, .m = 128, .n = 9216, .k = 128},
    {"cnn dense dW", TN, .m = 9216, .n = 128, .k = 128},
    {"padded c1 fwd", FORWARD, .batch = 64, .size = 28, .c = 1, .f = 16, .kernel = 3, .pad = 1},
    {"padded c1 dW", VJP_WEIGHT, .batch = 64, .size = 28, .c = 1, .f = 16, .kernel = 3, .pad = 1},
    {"padded c16 fwd", FORWARD, .batch = 64, .size = 28, .c = 16, .f = 16, .kernel = 3, .pad = 1},
    {"padded c16 dX", VJP_INPUT, .batch = 64, .size = 28, .c = 16, .f = 16, .kernel = 3, .pad = 1},
    {"padded c16 dW", VJP_WEIGHT, .batch = 64, .size = 28, .c = 16, .f = 16, .kernel = 3, .pad = 1},
    {"square 1024", NN, .m = 1024, .n = 1024, .k = 1024},
    {"batch 1 784x128", NN, .m = 1, .n = 128, .k = 784},
};
enum { CASES = sizeof cases / sizeof *cases };

/* A case as a call, and its multiplications (without padding). */
typedef struct prepared {
    sl_tensor in[2], out[1];
    sl_matmul_attr matmul;
    sl_conv_attr conv;
    sl_call call;
    double products;
    double rates[MOST_ROUNDS];
} prepared;

static void fail(const char *what)
{
    fprintf(stderr, "bench_products: %s\n", what);
    exit(1);
}

static sl_tensor random_tensor(sl_shape shape)
{
    sl_tensor t = {.shape = shape, .dtype = SL_FLOAT};
    int64_t count = 1;
    for (int i = 0; i < shape.n; i++) count *= shape.dim[i];
    float *x = aligned_alloc(64, ((size_t)count * sizeof *x + 63) / 64 * 64);
    if (!x) fail("out of memory");
    uint32_t state = 1;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    t.data = x;
    return t;
}

/* Pairs of output position and tap along one axis that fall on the image. */
static double inside(int64_t size, int64_t out, int kernel, int pad)
{
    double count = 0;
    for (int64_t y = 0; y < out; y++)
        for (int t = 0; t < kernel; t++) count += y - pad + t >= 0 && y - pad + t < size;
    return count;
}

static void prepare(prepared *p, const measured *m, sl_device *device, const sl_backend *backend)
{
    static const sl_op ops[] = {SL_OP_MATMUL, SL_OP_MATMUL,           SL_OP_MATMUL,
                                SL_OP_CONV2D, SL_OP_CONV2D_VJP_INPUT, SL_OP_CONV2D_VJP_WEIGHT};
    p->call =
        (sl_call){.op = ops[m->kind], .in = p->in, .out = p->out, .n_in = 2, .n_out = 1, .device = device};
    p->call.name = m->name;
    if (m->kind <= NT) {
        p->matmul = (sl_matmul_attr){m->kind == TN, m->kind == NT};
        p->call.attr = &p->matmul;
        p->in[0] = random_tensor((sl_shape){2, {m->kind == TN ? m->k : m->m, m->kind == TN ? m->m : m->k}});
        p->in[1] = random_tensor((sl_shape){2, {m->kind == NT ? m->n : m->k, m->kind == NT ? m->k : m->n}});
        p->out[0] = random_tensor((sl_shape){2, {m->m, m->n}});
        p->products = (double)m->m * (double)m->n * (double)m->k;
    } else {
        const int64_t out = m->size + 2 * m->pad - m->kernel + 1;
        const sl_shape x = {4, {m->batch, m->size, m->size, m->c}}, y = {4, {m->batch, out, out, m->f}};
        const sl_shape w = {4, {m->kernel, m->kernel, m->c, m->f}};
        p->conv = (sl_conv_attr){.kernel = {m->kernel, m->kernel},
                                 .stride = {1, 1},
                                 .pad = {m->pad, m->pad},
                                 .dilation = {1, 1},
                                 .size = {(int)m->size, (int)m->size}};
        p->call.attr = &p->conv;
        p->in[0] = random_tensor(m->kind == VJP_INPUT ? y : x);
        p->in[1] = random_tensor(m->kind == VJP_WEIGHT ? y : w);
        p->out[0] = random_tensor(m->kind == FORWARD ? y : m->kind == VJP_INPUT ? x : w);
        const double one = inside(m->size, out, m->kernel, m->pad);
        p->products = (double)(m->batch * m->c * m->f) * one * one;
    }
    for (const sl_kernel *const *family = backend->kernels(device); *family && !p->call.kernel; family++)
        for (const sl_kernel *k = *family; k->run && !p->call.kernel; k++)
            if (k->op == p->call.op && (!k->supports || k->supports(&p->call))) p->call.kernel = k;
    if (!p->call.kernel) fail("no kernel");
    const size_t bytes = p->call.kernel->workspace ? p->call.kernel->workspace(&p->call) : 0;
    p->call.workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (!p->call.workspace) fail("out of memory");
}

static void release(prepared *p)
{
    free(p->in[0].data);
    free(p->in[1].data);
    free(p->out[0].data);
    free(p->call.workspace);
}

/* --- measuring --- */

static double rate(prepared *p, double least)
{
    const double start = seconds_now();
    double end = start;
    int64_t runs = 0;
    for (int64_t step = 1; end - start < least; step *= 2) {
        for (int64_t i = 0; i < step; i++) p->call.kernel->run(&p->call);
        runs += step;
        end = seconds_now();
    }
    return 2 * p->products * (double)runs / (end - start) * 1e-9;
}

static void measure(int threads, int rounds, double least, const char *part)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = threads);
    if (sl_error(ctx)) fail(sl_error(ctx));
    sl_pool *pool = sl_cpu_pool(ctx->device);
    static prepared all[CASES];
    double peaks[MOST_ROUNDS];
    memset(all, 0, sizeof all);
    for (int i = 0; i < CASES; i++)
        if (strstr(cases[i].name, part)) prepare(&all[i], &cases[i], ctx->device, ctx->backend);
    for (int round = 0; round < rounds; round++) {
        peaks[round] = peak_gflops(pool);
        for (int i = 0; i < CASES; i++)
            if (all[i].call.kernel) all[i].rates[round] = rate(&all[i], least);
    }
    const double top = median_of(peaks, rounds);
    printf("%s: peak %.1f GFLOP/s\n", sl_device_description(ctx), top);
    printf("%-18s %-10s %10s %12s %8s\n", "product", "kernel", "GFLOP/s", "us", "of peak");
    for (int i = 0; i < CASES; i++) {
        prepared *p = &all[i];
        if (!p->call.kernel) continue;
        const double m = median_of(p->rates, rounds);
        printf("%-18s %-10s %10.1f %12.1f", cases[i].name, p->call.kernel->name, m,
               2 * p->products / m * 1e-3);
        if (top > 0) printf(" %6.0f %%", 100 * m / top);
        printf("\n");
        release(p);
    }
    printf("\n");
    sl_close(ctx);
}

int main(int argc, char **argv)
{
    int threads = 0, rounds = 7, milliseconds = 20;
    const char *part = "";
    const bench_option options[] = {
        {"--threads", "N", .number = &threads, .least = 1, .most = 1024},
        {"--rounds", "N", .number = &rounds, .least = 1, .most = MOST_ROUNDS},
        {"--milliseconds", "N", .number = &milliseconds, .least = 1, .most = 1000},
        {"", "PART OF A NAME", .text = &part},
        {0}};
    bench_options("bench_products", argc, argv, NULL, options);
    if (threads > 0) {
        measure(threads, rounds, 1e-3 * milliseconds, part);
        return 0;
    }
    for (threads = 1; threads <= 2; threads++) measure(threads, rounds, 1e-3 * milliseconds, part);
    return 0;
}
