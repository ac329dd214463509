/* What the tests against PyTorch share: the golden files (tests/golden/make_golden.py), the inputs and
 * weights that both sides compute from their names, the comparison, and the devices. */
#ifndef TESTS_GOLDEN_FILE_H
#define TESTS_GOLDEN_FILE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/safetensors.h"
#include "graph/graph.h"
#include "slope/slope.h"

/* --- the files -------------------------------------------------------------------------------------- */

enum { SAMPLES = 1024, PROJECTIONS = 4 };

static sl_context *file_ctx;
static sl_safetensors *file;

static inline void open_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", SL_SOURCE_DIR, name);
    file_ctx = sl_open(.device = SL_REFERENCE);
    file = sl_safetensors_read(file_ctx, path);
    if (!file) fail_msg("%s", sl_error(file_ctx));
}

static inline void close_file(void)
{
    sl_safetensors_free(file);
    sl_close(file_ctx);
}

/* "<a><b>" */
static inline const sl_file_tensor *stored(const char *a, const char *b)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", a, b);
    const sl_file_tensor *t = sl_safetensors_find(file, name);
    if (!t) fail_msg("the file has no '%s'", name);
    return t;
}

static inline const double *stored_doubles(const char *a, const char *b)
{
    const sl_file_tensor *t = stored(a, b);
    assert_int_equal(t->dtype, SL_FILE_F64);
    return t->data;
}

/* As make_golden.py's `values`: multiples of 2^-15 in [-1, 1). */
static inline double value_at(uint32_t name_hash, int64_t i)
{
    uint32_t v = (uint32_t)i * 0x9E3779B9u + name_hash;
    v ^= v >> 16;
    v *= 0x85EBCA6Bu;
    v ^= v >> 13;
    v *= 0xC2B2AE35u;
    v ^= v >> 16;
    return ((double)(v >> 16) - 32768) / 32768;
}

static inline uint32_t hash_name(const char *a, const char *b)
{
    uint32_t h = 2166136261u;
    for (; *a; a++) h = (h ^ (uint8_t)*a) * 16777619u;
    for (; *b; b++) h = (h ^ (uint8_t)*b) * 16777619u;
    return h;
}

static inline double *values_scaled(const char *a, const char *b, int64_t count, double scale, double shift)
{
    double *x = malloc((size_t)count * sizeof *x);
    assert_non_null(x);
    const uint32_t h = hash_name(a, b);
    for (int64_t i = 0; i < count; i++) x[i] = value_at(h, i) * scale + shift;
    return x;
}

/* As floats, which these values are; frees the doubles. */
static inline float *singles(double *values, int64_t count)
{
    float *x = malloc((size_t)count * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) x[i] = (float)values[i];
    free(values);
    return x;
}

/* As make_golden.py's `parameter`. */
static inline double *parameter_values(const char *test, const char *name, sl_shape shape)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", test, name);
    const int64_t count = sl_shape_count(shape), fan_in = count / sl_shape_last(shape);
    const char *what = strrchr(name, '.') + 1;
    const char *norm = strstr(name, "norm");
    if (strcmp(what, "running_var") == 0 || (strcmp(what, "weight") == 0 && norm))
        return values_scaled(full, "", count, 0.5, 1);
    double size = 0.5;
    while (size * size * (double)fan_in > 2) size /= 2;
    return values_scaled(full, "", count, size, 0);
}

/* --- comparing -------------------------------------------------------------------------------------- */

/* |got - expected| <= scaled·(largest expected) + relative·|expected| + absolute */
typedef struct bound {
    double scaled, relative, absolute;
} bound;

static const char *where; /* "cpu, fused": for messages */

static inline void check(const char *name, int64_t i, double got, double expected, double limit)
{
    if (!(fabs(got - expected) <= limit))
        fail_msg("%s: '%s', element %lld is %.17g; PyTorch has %.17g (differs by %.3g, allowed %.3g)", where,
                 name, (long long)i, got, expected, fabs(got - expected), limit);
}

static inline void compare(const char *a, const char *b, const double *got, int64_t count, bound limit)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", a, b);
    const sl_file_tensor *t = stored(name, "");
    const double *expected = t->data;
    const int64_t n = sl_shape_count(t->shape);
    assert_int_equal(t->dtype, SL_FILE_F64);
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fabs(expected[i]) > largest ? fabs(expected[i]) : largest;
    const bool whole = n == count;
    if (!whole && !(n == SAMPLES && count > n))
        fail_msg("'%s' has %lld elements, %lld were computed", name, (long long)n, (long long)count);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = whole ? i : i * 7919 % count;
        check(name, at, got[at], expected[i],
              limit.scaled * largest + limit.relative * fabs(expected[i]) + limit.absolute);
    }
    if (whole) return;
    /* Sums over all elements with weights below 1: independent errors add up as their root. */
    const double *sums = stored_doubles(name, "#");
    for (int k = 0; k < PROJECTIONS; k++) {
        char seed[16];
        snprintf(seed, sizeof seed, "#%d", k);
        const uint32_t h = hash_name(name, seed);
        double sum = 0;
        for (int64_t i = 0; i < count; i++) sum += got[i] * value_at(h, i);
        check(name, -1 - k, sum, sums[k], (limit.scaled * largest + limit.absolute) * sqrt((double)count));
    }
}

/* --- devices ---------------------------------------------------------------------------------------- */

typedef struct setting {
    const char *name;
    sl_device_kind device;
    int threads;
    bool no_fuse, reference_kernels;
    bound limit;
} setting;

/* Single precision: sums over up to some 10 000 terms, in trees of chunks, err by a few 2^-24 of the largest;
 * 1e-6 is 16·2^-24. In double precision the same is 2e-15; PyTorch sums in another order. */
#define DOUBLE_SCALED 1e-11
#define SINGLE_SCALED 1e-6
static const setting settings[] = {
    {"reference", SL_REFERENCE, 1, false, false, {DOUBLE_SCALED, 0, 0}},
    {"reference, not fused", SL_REFERENCE, 1, true, false, {DOUBLE_SCALED, 0, 0}},
    {"cpu", SL_CPU, 2, false, false, {SINGLE_SCALED, 0, 0}},
    {"cpu, not fused", SL_CPU, 1, true, false, {SINGLE_SCALED, 0, 0}},
    {"cpu, plain kernels", SL_CPU, 2, false, true, {SINGLE_SCALED, 0, 0}},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static inline void expect_no_error(const char *test, const sl_context *ctx)
{
    if (sl_error(ctx)) fail_msg("%s: '%s': %s", where, test, sl_error(ctx));
}

/* --- shapes ----------------------------------------------------------------------------------------- */

static inline sl_shape input_shape(const char *name)
{
    const sl_file_tensor *t = stored(name, ".shape");
    assert_int_equal(t->dtype, SL_FILE_I32);
    sl_shape shape = {.n = (int)sl_shape_count(t->shape)};
    for (int i = 0; i < shape.n; i++) shape.dim[i] = ((const int32_t *)t->data)[i];
    return shape;
}

static inline sl_node *input_like(sl_graph *graph, const char *name, sl_shape shape)
{
    int64_t dims[SL_MAX_DIMS] = {0};
    for (int i = 1; i < shape.n; i++) dims[i - 1] = shape.dim[i];
    return sl_input_dims(graph, name, dims);
}

#endif
