/* The kernels of cpu/activation.c: every copy gives the bytes that the rows give one by one, at odd sizes, in
 * place, for one parameter and one per channel; fused equals unfused; sums follow the rule of core/sum.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend.h"
#include "core/activation.h"
#include "core/context.h"
#include "core/sum.h"

extern const sl_kernel sl_cpu_activation_f64[], sl_cpu_activation_plain[];
typedef void epilogue(int64_t n, const float *z, const float *bias, int bias_stride,
                      const sl_activation_attr *attr, const float *parameter, int parameter_stride, float *y,
                      float *z_out);
epilogue sl_epilogue_plain;
#ifdef __x86_64__
extern const sl_kernel sl_cpu_activation_avx2[], sl_cpu_activation_avx512[];
epilogue sl_epilogue_avx2, sl_epilogue_avx512;
#endif

typedef struct copy {
    const char *name;
    const sl_kernel *kernels;
    epilogue *epilogue;
} copy;

static int copies(copy list[3])
{
    int n = 0;
    list[n++] = (copy){"plain", sl_cpu_activation_plain, sl_epilogue_plain};
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        list[n++] = (copy){"avx2", sl_cpu_activation_avx2, sl_epilogue_avx2};
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        list[n++] = (copy){"avx512", sl_cpu_activation_avx512, sl_epilogue_avx512};
#endif
    return n;
}

static sl_context *ctx; /* of the test: two threads */

static int setup(void **state)
{
    (void)state;
    ctx = sl_open(.device = SL_CPU, .threads = 2);
    return sl_error(ctx) != NULL;
}

static int teardown(void **state)
{
    (void)state;
    sl_close(ctx);
    return 0;
}

/* --- one call
 * ---------------------------------------------------------------------------------------------------- */

typedef struct args {
    sl_op op;
    sl_activation_attr attr;
    int64_t rows, columns;
    int32_t valid; /* rows that count */
    const void *in[4];
    int64_t in_wide[4]; /* 0: the whole tensor, else the elements of a vector */
    void *out[2];
    int64_t out_wide[2];
} args;

static sl_tensor tensor(void *data, int64_t wide, const args *a)
{
    const int64_t dims[2] = {a->rows, a->columns};
    return (sl_tensor){data, wide ? sl_shape_of(1, &wide) : sl_shape_of(2, dims), SL_FLOAT};
}

static void run(const sl_kernel *kernels, const args *a)
{
    sl_tensor in[4], out[2];
    const sl_kernel *kernel = kernels;
    while (kernel->run && kernel->op != a->op) kernel++;
    assert_non_null(kernel->run);
    sl_call call = {.kernel = kernel,
                    .op = a->op,
                    .in = in,
                    .out = out,
                    .attr = &a->attr,
                    .valid = &a->valid,
                    .batch = a->rows > 0 ? a->rows : 1,
                    .device = ctx->device};
    for (; call.n_in < 4 && a->in[call.n_in]; call.n_in++)
        in[call.n_in] = tensor((void *)(uintptr_t)a->in[call.n_in], a->in_wide[call.n_in], a);
    call.n_out = a->op == SL_OP_BIAS_ACTIVATION || a->op == SL_OP_ACTIVATION_VJP_BIAS ? 2 : 1;
    for (int i = 0; i < call.n_out; i++) out[i] = tensor(a->out[i], a->out_wide[i], a);
    const size_t bytes = kernel->workspace ? kernel->workspace(&call) : 0;
    call.workspace = malloc(bytes + 1);
    memset(call.workspace, 0xff, bytes); /* NaN: nothing is to be read before it is written */
    kernel->run(&call);
    free(call.workspace);
}

static uint64_t seed;
static float uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(seed >> 40) / 8388608 - 1;
}

/* Numbers of all sizes, with some special ones where `special` is set. */
static float *numbers(int64_t n, bool special)
{
    const float odd[] = {0,  -0.0f, INFINITY, -INFINITY, NAN,    1e-40f, -1e-40f, 3,
                         -3, 100,   -100,     1e38f,     -1e38f, 1,      6};
    float *x = malloc(((size_t)n + 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = uniform() * (i % 3 ? 3.0f : 20.0f);
        if (special && i % 11 == 5) x[i] = odd[i / 11 % (int64_t)(sizeof odd / sizeof *odd)];
    }
    return x;
}

/* NaNs are equal to each other. */
static void same(const float *got, const float *want, int64_t n, const char *what, const char *copy)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s, %s: element %lld of %lld is %.9g (%a), should be %.9g (%a)", what, copy,
                     (long long)i, (long long)n, got[i], got[i], want[i], want[i]);
}

/* The reduction of core/sum.h, written down as it is defined there. */
static float sum_by_rule(const float *terms, int64_t n, int64_t stride)
{
    float level[SL_LEVELS], total = 0;
    bool full[SL_LEVELS] = {false}, any = false;
    for (int64_t start = 0; start < n; start += SL_LEAF) {
        float lane[SL_LANES] = {0};
        for (int64_t i = start; i < n && i < start + SL_LEAF; i++)
            lane[(i - start) % SL_LANES] += terms[i * stride];
        for (int half = SL_LANES / 2; half > 0; half /= 2)
            for (int l = 0; l < half; l++) lane[l] += lane[l + half];
        float block = lane[0];
        int t = 0;
        for (; full[t]; t++) {
            block = level[t] + block;
            full[t] = false;
        }
        level[t] = block;
        full[t] = true;
    }
    for (int t = 0; t < SL_LEVELS; t++)
        if (full[t]) {
            total = any ? level[t] + total : level[t];
            any = true;
        }
    return total;
}

/* --- tests
 * ------------------------------------------------------------------------------------------------------- */

static const int64_t shapes[][2] = {{1, 1},     {3, 1},     {1, 7},    {33, 3},   {5, 64},
                                    {7, 65},    {1025, 10}, {2, 300},  {3, 600},  {2, 1500},
                                    {700, 130}, {2100, 8},  {5000, 1}, {1, 4099}, {0, 5}};
#define EACH_SHAPE(s) (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)

typedef struct scene { /* tensors of one row at one shape */
    const sl_activation_info *row;
    sl_activation_attr attr;
    int64_t rows, columns, n;
    int64_t wide; /* learned parameter: elements, 0: none */
    float *x, *y, *z, *dy, *bias, *a;
} scene;

static float parameter(const scene *s, int64_t i)
{
    return s->wide == 0 ? s->attr.a : s->a[s->wide > 1 ? i % s->columns : 0];
}

static const float *at(const scene *s)
{
    return s->row->reads == SL_READS_Y ? s->y : s->row->reads == SL_READS_X ? s->z : NULL;
}

/* in[] of a slope: dy, what the row reads, the learned parameter */
static void slope_inputs(args *a, const scene *s, const float *dy)
{
    int n = 0;
    a->in[n++] = dy;
    if (at(s)) a->in[n++] = at(s);
    if (s->wide) a->in_wide[n] = s->wide, a->in[n] = s->a;
}

static scene make_scene(const sl_activation_info *row, const int64_t *shape, int64_t wide)
{
    scene s = {row,
               {row->id, row->parameter[0].value, row->parameter[1].value},
               shape[0],
               shape[1],
               shape[0] * shape[1]};
    s.wide = wide;
    seed = (uint64_t)(row->id * 1000 + shape[0] * 10 + shape[1]);
    s.x = numbers(s.n, true);
    s.dy = numbers(s.n, false);
    s.bias = numbers(s.columns, false);
    s.a = numbers(s.columns, false);
    s.y = numbers(s.n, false);
    s.z = numbers(s.n, false);
    for (int64_t i = 0; i < s.n; i++) { /* what BIAS_ACTIVATION should give */
        s.z[i] = s.x[i] + s.bias[i % s.columns];
        s.y[i] = row->value_float(s.z[i], parameter(&s, i), s.attr.b);
    }
    return s;
}

static void free_scene(scene *s)
{
    free(s->x), free(s->y), free(s->z), free(s->dy), free(s->bias), free(s->a);
}

static void check_forward(const scene *s, const copy *c, const char *what)
{
    float *y = numbers(s->n, false), *z = numbers(s->n, false);
    /* BIAS, then ACTIVATION, in place */
    memcpy(y, s->x, (size_t)s->n * sizeof *y);
    run(c->kernels,
        &(args){SL_OP_BIAS, s->attr, s->rows, s->columns, 0, {y, s->bias}, {0, s->columns}, {y}, {0}});
    same(y, s->z, s->n, what, c->name);
    run(c->kernels, &(args){SL_OP_ACTIVATION,
                            s->attr,
                            s->rows,
                            s->columns,
                            0,
                            {y, s->wide ? s->a : NULL},
                            {0, s->wide},
                            {y},
                            {0}});
    same(y, s->y, s->n, what, c->name);
    /* both at once, with and without x + b */
    for (int keep = 0; keep < 2; keep++) {
        memset(y, 0, (size_t)s->n * sizeof *y);
        run(c->kernels, &(args){SL_OP_BIAS_ACTIVATION,
                                s->attr,
                                s->rows,
                                s->columns,
                                0,
                                {s->x, s->bias, s->wide ? s->a : NULL},
                                {0, s->columns, s->wide},
                                {y, keep ? z : NULL},
                                {0}});
        same(y, s->y, s->n, what, c->name);
        if (keep) same(z, s->z, s->n, what, c->name);
    }
    /* the epilogue of products, row by row: z kept in place, then y in place */
    for (int64_t r = 0; r < s->rows; r++) {
        const int64_t o = r * s->columns;
        memcpy(z + o, s->x + o, (size_t)s->columns * sizeof *z);
        c->epilogue(s->columns, z + o, s->bias, 1, &s->attr, s->wide ? s->a : NULL, s->wide > 1, y + o,
                    z + o);
        memcpy(y + o, s->x + o, (size_t)s->columns * sizeof *y);
        same(z + o, s->z + o, s->columns, what, c->name);
        c->epilogue(s->columns, y + o, s->bias, 1, &s->attr, s->wide ? s->a : NULL, s->wide > 1, y + o, NULL);
        same(y + o, s->y + o, s->columns, what, c->name);
        c->epilogue(s->columns, s->z + o, NULL, 0, &s->attr, s->wide ? s->a : NULL, s->wide > 1, y + o,
                    z + o);
        same(y + o, s->y + o, s->columns, what, c->name);
    }
    free(y), free(z);
}

static void check_backward(const scene *s, const copy *c, const char *what)
{
    const int32_t valid = (int32_t)(s->rows > 2 ? s->rows - s->rows / 3 : s->rows);
    float *dz = numbers(s->n, false), *want = numbers(s->n, false), *terms = numbers(s->n, false);
    float *sums = numbers(s->columns, false), *want_sums = numbers(s->columns, false);
    for (int64_t i = 0; i < s->n; i++) {
        const float p = parameter(s, i), here = at(s) ? at(s)[i] : 0;
        want[i] = s->dy[i] * s->row->slope_float(here, p, s->attr.b);
        terms[i] = s->dy[i] * s->row->slope_a_float(here, p, s->attr.b);
    }
    args a = {SL_OP_ACTIVATION_VJP, s->attr, s->rows, s->columns, valid};
    memcpy(dz, s->dy, (size_t)s->n * sizeof *dz);
    slope_inputs(&a, s, dz);
    a.out[0] = dz; /* in place */
    run(c->kernels, &a);
    same(dz, want, s->n, what, c->name);

    for (int one = 0; one < 2; one++) { /* sums per column, and one sum */
        const int64_t wide = one ? 1 : s->columns, n = one ? valid * s->columns : valid,
                      step = one ? 1 : s->columns;
        for (int64_t i = 0; i < wide; i++) want_sums[i] = sum_by_rule(want + i, n, step);
        a = (args){SL_OP_BIAS_VJP, s->attr, s->rows, s->columns, valid, {want}, {0}, {sums}, {wide}};
        run(c->kernels, &a);
        same(sums, want_sums, wide, what, c->name);
        for (int64_t i = 0; i < wide; i++) sums[i] = NAN;
        a = (args){
            SL_OP_ACTIVATION_VJP_BIAS, s->attr, s->rows, s->columns, valid, {0}, {0}, {dz, sums}, {0, wide}};
        slope_inputs(&a, s, s->dy);
        memset(dz, 0, (size_t)s->n * sizeof *dz);
        run(c->kernels, &a);
        same(dz, want, s->n, what, c->name);
        same(sums, want_sums, wide, what, c->name);
        if (!s->wide || (s->wide == 1) != one) continue;
        for (int64_t i = 0; i < wide; i++) want_sums[i] = sum_by_rule(terms + i, n, step);
        a = (args){
            SL_OP_ACTIVATION_VJP_PARAMETER, s->attr, s->rows, s->columns, valid, {0}, {0}, {sums}, {wide}};
        slope_inputs(&a, s, s->dy);
        run(c->kernels, &a);
        same(sums, want_sums, wide, what, c->name);
    }
    free(dz), free(want), free(terms), free(sums), free(want_sums);
}

static void test_kernels(void **state)
{
    (void)state;
    copy list[3];
    const int n = copies(list);
    for (int id = 0; id < SL_ROW_COUNT; id++)
        for
            EACH_SHAPE(k)
            {
                const sl_activation_info *row = sl_activation_row_info(id);
                for (int learned = 0; learned < (row->parameter[0].learnable ? 3 : 1); learned++) {
                    if (learned == 2 && shapes[k][1] == 1) continue;
                    scene s = make_scene(row, shapes[k], learned == 2 ? shapes[k][1] : learned);
                    char what[64];
                    snprintf(what, sizeof what, "%s %lldx%lld, parameter [%lld]", row->name,
                             (long long)s.rows, (long long)s.columns, (long long)s.wide);
                    for (int c = 0; c < n; c++) {
                        check_forward(&s, &list[c], what);
                        check_backward(&s, &list[c], what);
                    }
                    free_scene(&s);
                }
            }
}

/* A bias of shape [1], alone and before an activation, and in the epilogue. */
static void test_one_bias(void **state)
{
    (void)state;
    copy list[3];
    const int n = copies(list);
    for
        EACH_SHAPE(k)
        {
            const int64_t rows = shapes[k][0], columns = shapes[k][1], count = rows * columns;
            float *x = numbers(count, true), *y = numbers(count, false), *want = numbers(count, false),
                  bias = 0.7f;
            const sl_activation_attr attr = {SL_ROW_TANH, 0, 0};
            for (int c = 0; c < n; c++) {
                for (int64_t i = 0; i < count; i++) want[i] = x[i] + bias;
                run(list[c].kernels,
                    &(args){SL_OP_BIAS, attr, rows, columns, 0, {x, &bias}, {0, 1}, {y}, {0}});
                same(y, want, count, "bias [1]", list[c].name);
                for (int64_t i = 0; i < count; i++)
                    want[i] = sl_activation_row_info(SL_ROW_TANH)->value_float(want[i], 0, 0);
                run(list[c].kernels,
                    &(args){
                        SL_OP_BIAS_ACTIVATION, attr, rows, columns, 0, {x, &bias}, {0, 1}, {y, NULL}, {0}});
                same(y, want, count, "bias [1], tanh", list[c].name);
                memset(y, 0, (size_t)count * sizeof *y);
                list[c].epilogue(count, x, &bias, 0, &attr, NULL, 0, y, NULL);
                same(y, want, count, "epilogue, bias [1]", list[c].name);
            }
            free(x), free(y), free(want);
        }
}

/* Rows that do not count may hold anything. */
static void test_padding(void **state)
{
    (void)state;
    enum { ROWS = 1500, COLUMNS = 20, VALID = 1100 };
    copy list[3];
    const int n = copies(list);
    float *dy = numbers(ROWS * COLUMNS, false), *y = numbers(ROWS * COLUMNS, false),
          *dz = numbers(ROWS * COLUMNS, false);
    float sums[COLUMNS], want[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) want[i] = sum_by_rule(dy + i, VALID, COLUMNS);
    for (int i = VALID * COLUMNS; i < ROWS * COLUMNS; i++) dy[i] = i % 2 ? NAN : INFINITY;
    for (int i = 0; i < ROWS * COLUMNS; i++) y[i] = 2; /* relu: slope 1 */
    for (int c = 0; c < n; c++) {
        args a = {SL_OP_BIAS_VJP, {SL_ROW_RELU, 0, 0}, ROWS, COLUMNS, VALID, {dy}, {0}, {sums}, {COLUMNS}};
        run(list[c].kernels, &a);
        same(sums, want, COLUMNS, "bias_vjp, padded", list[c].name);
        a = (args){SL_OP_ACTIVATION_VJP_BIAS,
                   {SL_ROW_RELU, 0, 0},
                   ROWS,
                   COLUMNS,
                   VALID,
                   {dy, y},
                   {0},
                   {dz, sums},
                   {0, COLUMNS}};
        run(list[c].kernels, &a);
        same(sums, want, COLUMNS, "activation_vjp_bias, padded", list[c].name);
        same(dz, dy, ROWS * COLUMNS, "activation_vjp_bias, padded", list[c].name); /* padding goes through */
        a.valid = 0;
        run(list[c].kernels, &a);
        for (int i = 0; i < COLUMNS; i++) assert_true(sums[i] == 0);
    }
    free(dy), free(y), free(dz);
}

/* The reference copy: double precision, the oracle's numbers. */
static void test_reference(void **state)
{
    (void)state;
    enum { ROWS = 37, COLUMNS = 11, N = ROWS * COLUMNS };
    double x[N], dy[N], y[N], dx[N], bias[COLUMNS], sums[COLUMNS];
    seed = 7;
    for (int i = 0; i < N; i++) x[i] = uniform() * 5, dy[i] = uniform();
    for (int i = 0; i < COLUMNS; i++) bias[i] = uniform();
    for (int id = 0; id < SL_ROW_COUNT; id++) {
        const sl_activation_info *row = sl_activation_row_info(id);
        const sl_activation_attr attr = {id, row->parameter[0].value, row->parameter[1].value};
        double z[N], db[COLUMNS] = {0};
        run(sl_cpu_activation_f64,
            &(args){SL_OP_BIAS_ACTIVATION, attr, ROWS, COLUMNS, 0, {x, bias}, {0, COLUMNS}, {y, z}, {0}});
        args a = {SL_OP_ACTIVATION_VJP_BIAS,
                  attr,
                  ROWS,
                  COLUMNS,
                  ROWS,
                  {dy, row->reads == SL_READS_Y ? y : z},
                  {0},
                  {dx, sums},
                  {0, COLUMNS}};
        if (row->reads == SL_READS_NOTHING) a.in[1] = NULL;
        run(sl_cpu_activation_f64, &a);
        for (int i = 0; i < N; i++) {
            const double sum = x[i] + bias[i % COLUMNS], slope = dy[i] * row->slope(sum, attr.a, attr.b);
            assert_true(fabs(y[i] - row->value(sum, attr.a, attr.b)) < 1e-14);
            assert_true(fabs(dx[i] - slope) < 1e-14);
            db[i % COLUMNS] += slope;
        }
        for (int i = 0; i < COLUMNS; i++) assert_true(fabs(sums[i] - db[i]) < 1e-12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_one_bias),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
