/* Matrix products: every copy of every kernel gives the bits of core/sum.h written out literally. */
#if defined(__x86_64__)
/* The tiles of 64-byte vectors, torn into what AVX2 has: slow, but the same code as for AVX-512. */
#    pragma GCC push_options
#    pragma GCC target("avx2,fma")
#    define SL_SUFFIX  wide
#    define TILE_LANES 16
#    include "cpu/matmul_fast.c"
#    undef SL_SUFFIX
#    pragma GCC pop_options
#endif
#define FAMILY matmul
#include "product_case.h"

/* --- matmul ----------------------------------------------------------------------------------------------
 */

static float element(const sl_tensor *t, bool transposed, int64_t row, int64_t column)
{
    const float *x = t->data;
    return transposed ? x[column * t->shape.dim[1] + row] : x[row * t->shape.dim[1] + column];
}

static void expect_product(const sl_tensor *in, sl_matmul_attr attr, int64_t m, int64_t n, int64_t k,
                           float *want)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            rule r = {0};
            for (int64_t l = 0; l < k; l++)
                term(&r, false, element(&in[0], attr.transpose_a, i, l),
                     element(&in[1], attr.transpose_b, l, j));
            want[i * n + j] = total(&r);
        }
}

/* The batch is m, but k where A is transposed; then only `valid` of it count. */
static void check_matmul(int64_t m, int64_t n, int64_t k, bool ta, bool tb, int32_t valid, bool special)
{
    const sl_matmul_attr attr = {ta, tb};
    const sl_shape a = {2, {ta ? k : m, ta ? m : k}}, b = {2, {tb ? n : k, tb ? k : n}};
    const sl_tensor in[2] = {make(a, special), make(b, special)};
    const sl_tensor out = {.shape = {2, {m, n}}, .dtype = SL_FLOAT};
    float *want = room(m * n);
    expect_product(in, attr, m, n, ta && valid >= 0 ? valid : k, want);
    sl_call call = {.op = SL_OP_MATMUL, .in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &attr};
    if (valid >= 0) {
        call.valid = &valid;
        call.batch = ta ? k : m;
    }
    char what[96];
    snprintf(what, sizeof what, "matmul %lldx%lldx%lld %c%c valid %d", (long long)m, (long long)n,
             (long long)k, ta ? 'T' : 'N', tb ? 'T' : 'N', valid);
    check(call, what, (const float *const[]){want});
    free(in[0].data);
    free(in[1].data);
    free(want);
}

static void matmuls(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {
        {1, 1, 1},      {1, 10, 784}, {7, 3, 5},     {6, 16, 512}, {13, 33, 513},   {37, 75, 1024},
        {5, 9, 1025},   {3, 2, 5000}, {17, 8, 64},   {25, 24, 31}, {12, 32, 100},   {64, 10, 256},
        {2, 130, 1537}, {1, 1, 513},  {133, 17, 40}, {31, 1, 20},  {140, 100, 520}, {11, 65, 3},
        {1, 300, 2},    {300, 1, 7},  {15, 64, 9},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int flags = 0; flags < 4; flags++)
            check_matmul(shapes[i][0], shapes[i][1], shapes[i][2], flags & 1, flags & 2, -1,
                         flags == (int)(i % 4));
    for (int i = 0; i < 40; i++)
        check_matmul(1 + random_word() % 30, 1 + random_word() % 70, 1 + random_word() % 600,
                     random_word() & 1, random_word() & 1, -1, true);
}

/* Reductions over the batch stop at the samples that count; everything else is computed for all rows. */
static void matmul_valid(void **state)
{
    (void)state;
    static const int32_t valid[] = {0, 1, 2, 9, 511, 512, 513, 599, 600};
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        check_matmul(9, 21, 600, true, false, valid[i], i % 2);
        check_matmul(9, 21, 600, true, true, valid[i], false);
    }
    check_matmul(10, 17, 33, false, false, 3, true);
    check_matmul(10, 17, 33, false, true, 0, true);
}

static void fused(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{5, 10, 40}, {130, 33, 7}, {1, 1, 600}, {40, 200, 20}, {3, 1500, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int prelu = 0; prelu < 2; prelu++) {
            const int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
            const sl_matmul_fused_attr attr = {.matmul = {.transpose_b = i % 2},
                                               .activation = {.id = prelu ? SL_ROW_PRELU : SL_ROW_RELU}};
            const sl_tensor in[2] = {make((sl_shape){2, {m, k}}, false),
                                     make((sl_shape){2, {i % 2 ? n : k, i % 2 ? k : n}}, false)};
            float *sums = room(m * n);
            expect_product(in, attr.matmul, m, n, k, sums);
            check_fused(SL_OP_MATMUL_BIAS_ACTIVATION, &attr, in, (sl_shape){2, {m, n}}, sums, prelu);
            free(in[0].data);
            free(in[1].data);
            free(sums);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmuls),
        cmocka_unit_test(matmul_valid),
        cmocka_unit_test(fused),
    };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
