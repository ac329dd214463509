/* One kernel call for tests, run on the CPU and on a CUDA device, real or simulated: the same bytes are
 * expected in every output, and in every input that the operation changes. On the simulated device under
 * three orders of threads and blocks. */
#ifndef TESTS_CUDA_CASE_H
#define TESTS_CUDA_CASE_H

#include "check.h"

#include "backend.h"
#include "core/context.h"
#include "core/philox.h"

enum { CASE_IN = 80, CASE_OUT = 3 };

typedef struct cuda_case {
    sl_op op;
    const void *attr;
    sl_tensor in[CASE_IN], out[CASE_OUT]; /* host memory */
    int n_in, n_out;
    bool absent[CASE_OUT]; /* an output nobody reads */
    bool in_place;         /* output 0 lies where input 0 does */
    int64_t batch;         /* 0: no tensor is batched */
    int32_t valid;
} cuda_case;

static sl_context *case_cpu, *case_cuda;
static bool case_simulated;
static void *case_memory[4096];
static int n_case_memory;

/* Under sanitizers: what only takes longer, and touches no memory that the rest does not, is left out. */
static inline bool case_quick(void)
{
    return getenv("SLOPE_TEST_QUICK") != NULL;
}

static inline void *case_room(size_t bytes)
{
    assert_true(n_case_memory < 4096);
    void *memory = malloc(bytes + 1);
    assert_non_null(memory);
    memset(memory, 0xCD, bytes + 1);
    return case_memory[n_case_memory++] = memory;
}

static inline void case_end(void)
{
    while (n_case_memory) free(case_memory[--n_case_memory]);
}

/* --- tensors --- */

#define DIMS(...)                                                                                            \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                             \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

static inline size_t bytes_of(const sl_tensor *t)
{
    return (size_t)sl_shape_count(t->shape) * sl_dtype_size(t->dtype, sizeof(float));
}

static inline sl_tensor space(sl_dtype dtype, int n, const int64_t *dims)
{
    sl_tensor t = {.shape = sl_shape_of(n, dims), .dtype = dtype};
    t.data = case_room(bytes_of(&t));
    return t;
}

/* Reals in (low, high], integers in [low, high), the same for the same seed. */
static inline sl_tensor reals(uint32_t seed, float low, float high, int n, const int64_t *dims)
{
    sl_tensor t = space(SL_FLOAT, n, dims);
    for (int64_t i = 0; i < sl_shape_count(t.shape); i++)
        ((float *)t.data)[i] = low + (high - low) * sl_uniform(sl_random_word(seed, 9, 0, (uint64_t)i));
    return t;
}

static inline sl_tensor integers(sl_dtype dtype, uint32_t seed, int low, int high, int n, const int64_t *dims)
{
    sl_tensor t = space(dtype, n, dims);
    for (int64_t i = 0; i < sl_shape_count(t.shape); i++) {
        const int value = low + (int)(sl_random_word(seed, 9, 0, (uint64_t)i) % (uint32_t)(high - low));
        if (dtype == SL_INT)
            ((int32_t *)t.data)[i] = value;
        else
            ((uint8_t *)t.data)[i] = (uint8_t)value;
    }
    return t;
}

static inline sl_tensor one_int(int32_t value)
{
    sl_tensor t = space(SL_INT, DIMS(1));
    *(int32_t *)t.data = value;
    return t;
}

static inline sl_tensor one_real(float value)
{
    sl_tensor t = space(SL_FLOAT, DIMS(1));
    *(float *)t.data = value;
    return t;
}

/* --- running --- */

static inline const sl_kernel *kernel_of(sl_context *ctx, const sl_call *call)
{
    for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == call->op && (!k->supports || k->supports(call))) return k;
    fail_msg("operation %d has no kernel", (int)call->op);
    return NULL;
}

/* Device memory with this content; 0xff, a NaN, where there is none. */
static inline void *device_copy(sl_context *ctx, const void *from, size_t bytes)
{
    void *memory = ctx->backend->alloc(ctx->device, bytes ? bytes : 1);
    assert_non_null(memory);
    void *filler = NULL;
    if (!from) from = filler = memset(malloc(bytes + 1), 0xff, bytes + 1);
    if (bytes) ctx->backend->upload(ctx->device, memory, from, bytes);
    free(filler);
    return memory;
}

typedef struct case_outcome {
    void *in[CASE_IN], *out[CASE_OUT];
} case_outcome;

/* Runs the call by itself, and then from the same state twice in a list, of which a CUDA device makes a
 * graph. */
static inline case_outcome case_run_on(sl_context *ctx, const cuda_case *c)
{
    const sl_backend *backend = ctx->backend;
    sl_tensor in[CASE_IN], out[CASE_OUT];
    case_outcome result = {{NULL}, {NULL}};
    for (int i = 0; i < c->n_in; i++) {
        in[i] = c->in[i];
        in[i].data = device_copy(ctx, c->in[i].data, bytes_of(&c->in[i]));
    }
    for (int i = 0; i < c->n_out; i++) {
        out[i] = c->out[i];
        out[i].data = c->absent[i]            ? NULL
                      : i == 0 && c->in_place ? in[0].data
                                              : device_copy(ctx, NULL, bytes_of(&c->out[i]));
    }
    int32_t *valid = device_copy(ctx, &c->valid, sizeof *valid);
    sl_call call = {.op = c->op,
                    .in = in,
                    .out = out,
                    .n_in = c->n_in,
                    .n_out = c->n_out,
                    .attr = c->attr,
                    .valid = c->batch ? valid : NULL,
                    .batch = c->batch ? c->batch : 1,
                    .device = ctx->device,
                    .name = "case"};
    call.kernel = kernel_of(ctx, &call);
    const size_t workspace = call.kernel->workspace ? call.kernel->workspace(&call) : 0;
    if (workspace) call.workspace = device_copy(ctx, NULL, workspace);
    const sl_call calls[2] = {call, call};
    for (int n = 1; n <= 2; n++) {
        void *handle = NULL;
        for (int i = 0; i < c->n_in && n > 1; i++)
            if (bytes_of(&c->in[i]))
                backend->upload(ctx->device, in[i].data, c->in[i].data, bytes_of(&c->in[i]));
        backend->run(ctx->device, ctx, calls, n, &handle);
        if (sl_error(ctx)) fail_msg("operation %d: %s", (int)c->op, sl_error(ctx));
        if (handle) backend->release(ctx->device, handle);
    }
    for (int i = 0; i < c->n_in; i++) {
        result.in[i] = case_room(bytes_of(&in[i]));
        if (bytes_of(&in[i])) backend->download(ctx->device, result.in[i], in[i].data, bytes_of(&in[i]));
        backend->free(ctx->device, in[i].data);
    }
    for (int i = 0; i < c->n_out; i++) {
        if (c->absent[i]) continue;
        if (i == 0 && c->in_place) {
            result.out[0] = result.in[0];
            continue;
        }
        result.out[i] = case_room(bytes_of(&out[i]));
        if (bytes_of(&out[i])) backend->download(ctx->device, result.out[i], out[i].data, bytes_of(&out[i]));
        backend->free(ctx->device, out[i].data);
    }
    backend->free(ctx->device, valid);
    if (workspace) backend->free(ctx->device, call.workspace);
    return result;
}

static inline void case_compare(const cuda_case *c, const sl_tensor *t, const void *want, const void *got,
                                const char *what, int number, const char *order)
{
    const int64_t n = want ? sl_shape_count(t->shape) : 0;
    const float *a = want, *b = got;
    if (t->dtype != SL_FLOAT) {
        if (n && memcmp(want, got, bytes_of(t)) != 0)
            fail_msg("operation %d, %s %d, %s: integers differ", (int)c->op, what, number, order);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        if (a[i] != a[i] ? b[i] == b[i] : memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("operation %d, %s %d, %s: element %lld of %s is %.9g, on the CPU %.9g", (int)c->op, what,
                     number, order, (long long)i, sl_shape_print(t->shape).text, (double)b[i], (double)a[i]);
}

static inline void case_check(const cuda_case *c)
{
    static const char *const orders[] = {"forward", "reverse", "shuffled"};
    const case_outcome want = case_run_on(case_cpu, c);
    for (int o = 0; o < (case_simulated ? 3 : 1); o++) {
        if (case_simulated) setenv("SLOPE_SIMT_ORDER", orders[o], 1);
        const case_outcome got = case_run_on(case_cuda, c);
        for (int i = 0; i < c->n_in; i++)
            case_compare(c, &c->in[i], want.in[i], got.in[i], "input", i, orders[o]);
        for (int i = 0; i < c->n_out; i++)
            case_compare(c, &c->out[i], want.out[i], got.out[i], "output", i, orders[o]);
    }
}

/* Opens both devices. 0, or what the program returns: 77, skipped, where there is no CUDA device; 1, an
 * error, where SLOPE_REQUIRE_GPU says that there must be one. */
static inline int case_open(void)
{
    case_cuda = sl_open(.device = SL_CUDA, .exact = true);
    if (sl_error(case_cuda)) {
        const char *required = getenv("SLOPE_REQUIRE_GPU");
        fprintf(stderr, "no CUDA device to test: %s\n", sl_error(case_cuda));
        return required && strcmp(required, "1") == 0 ? 1 : 77;
    }
    case_simulated = strstr(sl_device_description(case_cuda), "simulated") != NULL;
    case_cpu = sl_open(.device = SL_CPU, .threads = 1);
    return 0;
}

static inline int case_close(int failed)
{
    sl_close(case_cpu);
    sl_close(case_cuda);
    return failed;
}
#endif
