/* One kernel call for tests: run by every copy of the kernels (plain, AVX2, AVX-512, double) and by 1 to 3
 * threads. The float copies must give the same bytes, the double copy the same values within a tolerance;
 * nothing may be written beside the outputs, and inputs may change only where the operation says so. */
#ifndef TESTS_KERNEL_CASE_H
#define TESTS_KERNEL_CASE_H

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
#include "core/philox.h"

/* Under AddressSanitizer the guard behind every array may not even be read. */
#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#else
#    define ASAN_POISON_MEMORY_REGION(memory, bytes)   ((void)(memory), (void)(bytes))
#    define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) ((void)(memory), (void)(bytes))
#endif

enum { MAX_IN = 8, MAX_OUT = 3, GUARD = 64 };

typedef struct kernel_case {
    sl_op op;
    sl_tensor in[MAX_IN], out[MAX_OUT]; /* an output with `absent` set gets no data */
    int n_in, n_out;
    const void *attr;
    bool batched, in_place, effect;
    bool absent[MAX_OUT];
    int64_t batch;
    int32_t valid;
    double tolerance;    /* of the double copy, times 1 + |value|; 0: 1e-6; negative: not compared */
    void *after[MAX_IN]; /* the inputs after the call */
} kernel_case;

#define FAMILY(name)                                                                                         \
    extern const sl_kernel sl_cpu_##name##_plain[], sl_cpu_##name##_avx2[], sl_cpu_##name##_avx512[],        \
        sl_cpu_##name##_f64[];
SL_KERNEL_FAMILIES(FAMILY)
#undef FAMILY

typedef enum kernel_copy { COPY_PLAIN, COPY_AVX2, COPY_AVX512, COPY_F64, COPIES } kernel_copy;

static inline const sl_kernel *find_kernel(sl_op op, kernel_copy copy)
{
    const sl_kernel *const lists[][COPIES] = {
#if defined(__x86_64__)
#    define FAMILY(name)                                                                                     \
        {sl_cpu_##name##_plain, sl_cpu_##name##_avx2, sl_cpu_##name##_avx512, sl_cpu_##name##_f64},
#else
#    define FAMILY(name) {sl_cpu_##name##_plain, NULL, NULL, sl_cpu_##name##_f64},
#endif
        SL_KERNEL_FAMILIES(FAMILY)
#undef FAMILY
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const sl_kernel *k = lists[i][copy]; k->run; k++)
            if (k->op == op) return k;
    fail_msg("no kernel for operation %d", (int)op);
    return NULL;
}

static inline bool copy_runs(kernel_copy copy)
{
#if defined(__x86_64__)
    if (copy == COPY_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (copy == COPY_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    return true;
#else
    return copy == COPY_PLAIN || copy == COPY_F64;
#endif
}

/* --- memory of a test, freed by end_case
 * ------------------------------------------------------------------------ */

static void *case_blocks[4096];
static int n_case_blocks;

static inline void *case_memory(size_t bytes)
{
    assert_true(n_case_blocks < 4096);
    const size_t size = (bytes + GUARD + 63) / 64 * 64;
    unsigned char *block = aligned_alloc(64, size);
    assert_non_null(block);
    memset(block, 0xCD, size);
    ASAN_POISON_MEMORY_REGION(block + bytes, GUARD);
    return case_blocks[n_case_blocks++] = block;
}

static inline float *room(int64_t n)
{
    return case_memory((size_t)(n + !n) * sizeof(float));
}

static inline void end_case(void)
{
    while (n_case_blocks) free(case_blocks[--n_case_blocks]);
}

static inline void check_guard(const void *memory, size_t bytes)
{
    const unsigned char *p = memory;
    ASAN_UNPOISON_MEMORY_REGION(p + bytes, GUARD);
    for (int i = 0; i < GUARD; i++)
        if (p[bytes + (size_t)i] != 0xCD) fail_msg("wrote %d bytes behind the end", i + 1);
}

static inline sl_tensor tensor(sl_dtype dtype, int n, const int64_t *dims)
{
    sl_tensor t = {.shape = sl_shape_of(n, dims), .dtype = dtype};
    t.data = case_memory((size_t)sl_shape_count(t.shape) * sl_dtype_size(dtype, sizeof(float)));
    return t;
}

#define DIMS(...)                                                                                            \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                             \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }
#define SCALAR 0, NULL

/* Reals in [low, high], integers in [low, high), the same for the same seed. */
static inline sl_tensor reals(uint32_t seed, double low, double high, int n, const int64_t *dims)
{
    sl_tensor t = tensor(SL_FLOAT, n, dims);
    for (int64_t i = 0; i < sl_shape_count(t.shape); i++)
        ((float *)t.data)[i] =
            (float)(low + (high - low) * sl_uniform(sl_random_word(seed, 9, 0, (uint64_t)i)));
    return t;
}

static inline sl_tensor integers(sl_dtype dtype, uint32_t seed, int low, int high, int n, const int64_t *dims)
{
    sl_tensor t = tensor(dtype, n, dims);
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
    sl_tensor t = tensor(SL_INT, DIMS(1));
    *(int32_t *)t.data = value;
    return t;
}

static inline sl_tensor one_real(float value)
{
    sl_tensor t = tensor(SL_FLOAT, DIMS(1));
    *(float *)t.data = value;
    return t;
}

static inline float *floats(sl_tensor t)
{
    return t.data;
}

/* --- comparison
 * ------------------------------------------------------------------------------------------------- */

static inline bool same_bits(float a, float b)
{
    return a != a ? b != b : memcmp(&a, &b, sizeof a) == 0; /* NaNs compare as NaN, not by payload */
}

static inline void check_same(const char *what, const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!same_bits(got[i], want[i]))
            fail_msg("%s: element %lld of %lld is %.9g, not %.9g", what, (long long)i, (long long)n,
                     (double)got[i], (double)want[i]);
}

static inline void check_same_ints(const char *what, const int32_t *got, const int32_t *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s: element %lld is %d, not %d", what, (long long)i, (int)got[i], (int)want[i]);
}

static inline void check_output(const kernel_case *c, int output, const float *want)
{
    char what[64];
    snprintf(what, sizeof what, "operation %d, output %d", (int)c->op, output);
    check_same(what, floats(c->out[output]), want, sl_shape_count(c->out[output].shape));
}

/* --- running
 * ---------------------------------------------------------------------------------------------------- */

typedef struct kernel_run {
    void *in[MAX_IN], *out[MAX_OUT];
} kernel_run;

static inline void *copy_tensor(sl_tensor t, bool as_double)
{
    const int64_t n = sl_shape_count(t.shape);
    const size_t bytes = (size_t)n * sl_dtype_size(t.dtype, as_double ? sizeof(double) : sizeof(float));
    void *copy = case_memory(bytes);
    if (!as_double || t.dtype != SL_FLOAT)
        memcpy(copy, t.data, bytes);
    else
        for (int64_t i = 0; i < n; i++) ((double *)copy)[i] = floats(t)[i];
    return copy;
}

static inline kernel_run run_copy(const kernel_case *c, kernel_copy copy, sl_context *ctx)
{
    const bool as_double = copy == COPY_F64;
    const size_t real_size = as_double ? sizeof(double) : sizeof(float);
    kernel_run run = {{NULL}, {NULL}};
    sl_tensor in[MAX_IN], out[MAX_OUT];
    for (int i = 0; i < c->n_in; i++) {
        in[i] = c->in[i];
        in[i].data = run.in[i] = copy_tensor(c->in[i], as_double);
    }
    for (int i = 0; i < c->n_out; i++) {
        out[i] = c->out[i];
        const size_t bytes = (size_t)sl_shape_count(out[i].shape) * sl_dtype_size(out[i].dtype, real_size);
        out[i].data = run.out[i] = c->absent[i]            ? NULL
                                   : i == 0 && c->in_place ? run.in[0]
                                                           : case_memory(bytes);
    }
    int32_t *valid = case_memory(sizeof *valid);
    *valid = c->valid;
    sl_call call = {.kernel = find_kernel(c->op, copy),
                    .op = c->op,
                    .in = in,
                    .out = out,
                    .n_in = c->n_in,
                    .n_out = c->n_out,
                    .attr = c->attr,
                    .valid = c->batched ? valid : NULL,
                    .batch = c->batched ? c->batch : 1,
                    .device = ctx->device,
                    .name = "test"};
    const size_t workspace = call.kernel->workspace ? call.kernel->workspace(&call) : 0;
    if (workspace) call.workspace = case_memory(workspace);
    call.kernel->run(&call);
    if (workspace) check_guard(call.workspace, workspace);
    for (int i = 0; i < c->n_in; i++) {
        const size_t bytes = (size_t)sl_shape_count(in[i].shape) * sl_dtype_size(in[i].dtype, real_size);
        check_guard(in[i].data, bytes);
        if (c->effect || as_double || (i == 0 && c->in_place)) continue;
        assert_memory_equal(in[i].data, c->in[i].data, bytes);
    }
    for (int i = 0; i < c->n_out; i++)
        if (out[i].data)
            check_guard(out[i].data,
                        (size_t)sl_shape_count(out[i].shape) * sl_dtype_size(out[i].dtype, real_size));
    return run;
}

static inline void compare_runs(const kernel_case *c, sl_tensor t, const void *want, const void *got,
                                kernel_copy copy, const char *what)
{
    const int64_t n = sl_shape_count(t.shape);
    if (!want) return;
    if (copy != COPY_F64 || t.dtype != SL_FLOAT) {
        if (t.dtype == SL_FLOAT)
            check_same(what, got, want, n);
        else
            assert_memory_equal(got, want, (size_t)n * sl_dtype_size(t.dtype, 4));
        return;
    }
    static const unsigned char untouched_bytes[] = {0xCD, 0xCD, 0xCD, 0xCD, 0xCD, 0xCD, 0xCD, 0xCD};
    const double tolerance = c->tolerance == 0 ? 1e-6 : c->tolerance;
    for (int64_t i = 0; i < n && tolerance > 0; i++) {
        const double a = ((const float *)want)[i], b = ((const double *)got)[i];
        const bool untouched = memcmp((const float *)want + i, untouched_bytes, sizeof(float)) == 0 &&
                               memcmp((const double *)got + i, untouched_bytes, sizeof(double)) == 0;
        if (untouched || a == b || (a != a && b != b) || fabs(a - b) <= tolerance * (1 + fabs(b))) continue;
        fail_msg("%s of operation %d, element %lld: float %.9g, double %.17g", what, (int)c->op, (long long)i,
                 a, b);
    }
}

static sl_context *case_contexts[3]; /* with 1, 2 and 3 threads */

static inline int open_contexts(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        case_contexts[i] = sl_open(.device = SL_CPU, .threads = i + 1);
        if (sl_error(case_contexts[i])) return -1;
    }
    return 0;
}

static inline int close_contexts(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) sl_close(case_contexts[i]);
    return 0;
}

/* Runs everything; the plain copy's results are then in out[i].data and after[i]. */
static inline void run_case(kernel_case *c)
{
    const kernel_run first = run_copy(c, COPY_PLAIN, case_contexts[0]);
    for (int copy = 0; copy < COPIES; copy++)
        for (int threads = 0; threads < 3 && copy_runs((kernel_copy)copy); threads++) {
            const kernel_run run = run_copy(c, (kernel_copy)copy, case_contexts[threads]);
            for (int i = 0; i < c->n_out; i++)
                compare_runs(c, c->out[i], first.out[i], run.out[i], (kernel_copy)copy, "output");
            for (int i = 0; i < c->n_in && c->effect; i++)
                compare_runs(c, c->in[i], first.in[i], run.in[i], (kernel_copy)copy, "state");
        }
    for (int i = 0; i < c->n_out; i++) c->out[i].data = first.out[i];
    for (int i = 0; i < c->n_in; i++) c->after[i] = first.in[i];
}

/* --- literal sums
 * ----------------------------------------------------------------------------------------------- */

/* The reduction rule of core/sum.h, word for word. */
static inline float sum_by_rule(const float *term, int64_t n)
{
    float stored[40];
    int64_t blocks = 0;
    for (int64_t first = 0; first < n; first += 1024, blocks++) {
        float lane[32] = {0};
        for (int64_t i = first; i < n && i < first + 1024; i++) lane[(i - first) % 32] += term[i];
        for (int half = 16; half >= 1; half /= 2)
            for (int l = 0; l < half; l++) lane[l] += lane[l + half];
        float sum = lane[0];
        int level = 0;
        for (int64_t c = blocks; c % 2 == 1; c /= 2) sum = stored[level++] + sum;
        stored[level] = sum;
    }
    float running = 0;
    bool started = false;
    for (int level = 0; blocks >> level; level++) {
        if ((blocks >> level & 1) == 0) continue;
        running = started ? stored[level] + running : stored[level];
        started = true;
    }
    return running;
}
#endif
