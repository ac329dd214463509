/* One call of a product or a convolution by every copy of its kernels (plain, AVX2, AVX-512, and the 64-byte
 * vectors on whatever this machine has), with 1, 2 and 3 threads. The file that includes this has defined
 * FAMILY, matmul or conv, and included that family's fast kernels with SL_SUFFIX wide. */
#ifndef TESTS_PRODUCT_CASE_H
#define TESTS_PRODUCT_CASE_H

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

#define JOIN_(a, b, c)    a##_##b##_##c
#define JOIN(a, b, c)     JOIN_(a, b, c)
#define REFERENCE(suffix) JOIN(sl_cpu, FAMILY, suffix)
#define TILES(suffix)     JOIN(sl_cpu, FAMILY, fast_##suffix)
#define COPY(suffix)      extern const sl_kernel REFERENCE(suffix)[], TILES(suffix)[];
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
    {"plain reference", REFERENCE(plain), always}, {"plain tiles", TILES(plain), always},
#if defined(__x86_64__)
    {"avx2 reference", REFERENCE(avx2), has_avx2}, {"avx2 tiles", TILES(avx2), has_avx2},
    {"wide tiles", TILES(wide), has_avx2},         {"avx512 tiles", TILES(avx512), has_avx512},
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
#endif
