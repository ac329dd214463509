/* The scalar functions of core/math.h against double-precision libm, and the emulated fma against the real
 * one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/math.h"

/* Every 257th bit pattern (257 is coprime to 2^32); fewer where the build is slow. */
#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
#    define STRIDE 65537u
#else
#    define STRIDE 257u
#endif

/* In units of the last place of the exact result; NaN where only one is NaN. */
static double ulps(float got, double want)
{
    int exponent = -125;
    if (isnan(got) && isnan(want)) return 0;
    if (isinf(got) && isinf(want) && got * want > 0) return 0;
    if (isinf(want)) return INFINITY;
    if (fabs(want) > 0x1p128) want = copysign(0x1p128, want);
    const double value = isinf(got) ? copysign(0x1p128, got) : got;
    if (want != 0) frexp(want, &exponent);
    return fabs(value - want) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static double sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double sigmoid_slope(double x)
{
    return sigmoid(x) * sigmoid(-x);
}
static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752);
}
static double normal_pdf(double x)
{
    return exp(-0.5 * x * x) * 0.39894228040143268;
}
static double softsign(double x)
{
    return isinf(x) ? copysign(1, x) : x / (1 + fabs(x));
}
/* Of |x|: these are for arguments >= 0. */
static double exp_of_minus(double x)
{
    return exp(-fabs(x));
}
static double expm1_of_minus(double x)
{
    return expm1(-fabs(x));
}
static float r_exp_of_minus(float x)
{
    return r_exp_minus(r_abs(x));
}
static float r_expm1_of_minus(float x)
{
    return r_expm1_minus(r_abs(x));
}
static double sin_pi(double x)
{
    const double r = remainder(x, 2), a = fabs(r);
    const double y = a <= 0.25 ? sin(M_PI * a) : a >= 0.75 ? sin(M_PI * (1 - a)) : cos(M_PI * (a - 0.5));
    return copysign(y, r);
}
static double cos_pi(double x)
{
    const double a = fabs(remainder(x, 2));
    return a <= 0.25 ? cos(M_PI * a) : a >= 0.75 ? -cos(M_PI * (1 - a)) : sin(M_PI * (0.5 - a));
}

/* bound in ulp; |x| < limit */
#define SWEEP(name, want, bound, limit)                                                                      \
    static void test_##name(void **state)                                                                    \
    {                                                                                                        \
        (void)state;                                                                                         \
        double worst = 0;                                                                                    \
        float at = 0;                                                                                        \
        for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STRIDE) {                                        \
            const float x = r_from_bits((uint32_t)bits);                                                     \
            if (fabsf(x) >= limit) continue;                                                                 \
            const double error = ulps(r_##name(x), want(x));                                                 \
            if (!(error <= worst)) worst = error, at = x;                                                    \
        }                                                                                                    \
        print_message("r_" #name ": %.2f ulp at %.9g\n", worst, at);                                         \
        assert_true(worst <= bound);                                                                         \
    }
#define EVERYWHERE NAN /* no |x| is beyond NaN */
SWEEP(exp, exp, 1, EVERYWHERE)
SWEEP(exp_of_minus, exp_of_minus, 1.03, EVERYWHERE) /* 1.021 over all floats */
SWEEP(expm1_of_minus, expm1_of_minus, 1, EVERYWHERE)
SWEEP(log, log, 4, EVERYWHERE)
SWEEP(log1p, log1p, 4, EVERYWHERE)
SWEEP(tanh, tanh, 2, EVERYWHERE)
SWEEP(sigmoid, sigmoid, 2, EVERYWHERE)
SWEEP(sigmoid_slope, sigmoid_slope, 4, EVERYWHERE)
SWEEP(softplus, softplus, 4, EVERYWHERE)
SWEEP(erf, erf, 4, EVERYWHERE)
SWEEP(normal_cdf, normal_cdf, 4, EVERYWHERE)
SWEEP(normal_pdf, normal_pdf, 4, EVERYWHERE)
SWEEP(softsign, softsign, 4, EVERYWHERE)
SWEEP(sqrt, sqrt, 0.5, EVERYWHERE)
SWEEP(sin_pi, sin_pi, 4, 2097152.0f)
SWEEP(cos_pi, cos_pi, 4, 2097152.0f)

static void test_limits(void **state)
{
    (void)state;
    const float inf = INFINITY;
    assert_true(r_exp(0) == 1 && r_exp(-inf) == 0 && r_exp(inf) == inf);
    assert_true(r_exp_minus(0) == 1 && r_exp_minus(inf) == 0 && r_exp_minus(103) > 0);
    assert_true(r_expm1_minus(inf) == -1 && r_expm1_minus(0) == 0 && r_expm1_minus(1e-45f) == -1e-45f);
    assert_true(r_log(0) == -inf && r_log(-0.0f) == -inf && r_log(inf) == inf && r_log(1) == 0);
    assert_true(isnan(r_log(-1)) && isnan(r_log(-inf)));
    assert_true(r_log1p(-1) == -inf && isnan(r_log1p(-2)) && r_bits(r_log1p(-0.0f)) == r_bits(-0.0f));
    assert_true(r_tanh(inf) == 1 && r_tanh(-inf) == -1 && r_bits(r_tanh(-0.0f)) == r_bits(-0.0f));
    assert_true(r_sigmoid(0) == 0.5f && r_sigmoid(-inf) == 0 && r_sigmoid(inf) == 1);
    assert_true(r_sigmoid(100) == 1 && r_sigmoid(-100) > 0 && r_sigmoid(-100) < 1e-43f);
    assert_true(r_softplus(-inf) == 0 && r_softplus(inf) == inf && r_softplus(1e30f) == 1e30f);
    assert_true(r_normal_cdf(-inf) == 0 && r_normal_cdf(inf) == 1 && r_normal_pdf(inf) == 0);
    assert_true(r_erf(inf) == 1 && r_erf(-inf) == -1);
    for (int n = -8; n <= 8; n++) { /* exact where sine and cosine are */
        assert_true(r_sin_pi((float)n) == 0 && r_cos_pi((float)n + 0.5f) == 0);
        assert_true(r_cos_pi((float)n) == (n % 2 ? -1 : 1) && r_sin_pi((float)n + 0.5f) == (n % 2 ? -1 : 1));
    }
    const uint32_t nans[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffffffffu};
    for (int i = 0; i < 4; i++) {
        const float x = r_from_bits(nans[i]);
        assert_true(isnan(r_exp(x)) && isnan(r_exp_minus(x)) && isnan(r_expm1_minus(x)) && isnan(r_log(x)) &&
                    isnan(r_log1p(x)));
        assert_true(isnan(r_tanh(x)) && isnan(r_sigmoid(x)) && isnan(r_softplus(x)) && isnan(r_erf(x)));
        assert_true(isnan(r_normal_cdf(x)) && isnan(r_normal_pdf(x)) && isnan(r_sin_pi(x)) &&
                    isnan(r_cos_pi(x)));
        assert_true(isnan(r_sqrt(x)) && isnan(r_softsign(x)) && isnan(r_gated(x, 0)) &&
                    isnan(r_gated(1, x)) && isnan(r_times(x, x)));
    }
}

static void test_identities(void **state)
{
    (void)state;
    for (float x = -30; x <= 30; x += 0.0137f) {
        assert_true(fabsf(r_sigmoid(-x) - (1 - r_sigmoid(x))) <= 1.2e-7f);
        assert_true(fabsf(r_tanh(x) - (2 * r_sigmoid(2 * x) - 1)) <= 2.4e-7f);
        assert_true(r_tanh(-x) == -r_tanh(x) && r_erf(-x) == -r_erf(x));
        assert_true(fabsf(r_normal_cdf(-x) - (1 - r_normal_cdf(x))) <= 1.2e-7f);
        assert_true(fabsf(r_softplus(x) - r_softplus(-x) - x) <= 4e-6f);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 32;
}

static bool same(float a, float b)
{
    return isnan(a) ? isnan(b) : r_bits(a) == r_bits(b);
}

static void check_fma(float a, float b, float c)
{
    const float got = r_fma_emulated(a, b, c), want = fmaf(a, b, c);
    if (!same(got, want)) fail_msg("fma(%a, %a, %a) = %a, should be %a", a, b, c, got, want);
}

static void test_fma(void **state)
{
    (void)state;
    const float special[] = {0,
                             1,
                             1.5f,
                             3,
                             0x1p-24f,
                             0x1.000002p0f,
                             0x1.fffffep0f,
                             0x1.fffffep-2f,
                             0x1.fffffep127f,
                             0x1p127f,
                             0x1p64f,
                             0x1p-64f,
                             0x1p-126f,
                             0x1p-149f,
                             0x1.8p-148f,
                             0x1.fffffcp-127f,
                             0x1.234568p-75f,
                             0x1p23f,
                             0x1.000002p24f,
                             INFINITY,
                             NAN};
    enum { N = 2 * (sizeof special / sizeof *special) };
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++)
                check_fma(i % 2 ? -special[i / 2] : special[i / 2], j % 2 ? -special[j / 2] : special[j / 2],
                          k % 2 ? -special[k / 2] : special[k / 2]);
    uint64_t random = 1;
    for (int i = 0; i < 2000000; i++) {
        const uint32_t a = (uint32_t)next_random(&random), b = (uint32_t)next_random(&random);
        uint32_t c = (uint32_t)next_random(&random);
        check_fma(r_from_bits(a), r_from_bits(b), r_from_bits(c));
        /* The addend near the product, or near half its last place, where the rounding is decided. */
        const float x = r_from_bits((a & 0x807fffffu) | 0x3f800000u),
                    y = r_from_bits((b & 0x807fffffu) | 0x3f800000u);
        c = (c & 0x80ffffffu) | ((102u + c % 50u) << 23);
        check_fma(x, y, r_from_bits(c));
        check_fma(x, y, -(x * y));
        /* Few bits set: ties are common. */
        check_fma(r_from_bits(r_bits(x) & 0xfffc0000u), r_from_bits(r_bits(y) & 0xfffc0000u),
                  r_from_bits(c & 0xfff80000u));
        /* Results that are subnormal or nearly so. */
        check_fma(x * 0x1p-70f, y * 0x1p-70f, r_from_bits(c & 0x80ffffffu));
    }
    for (int i = 0; i < 100000; i++) {
        const float x = r_from_bits((uint32_t)next_random(&random));
        assert_true(same(r_fma(x, 1.75f, 0.3f), fmaf(x, 1.75f, 0.3f)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_fma),           cmocka_unit_test(test_exp),
        cmocka_unit_test(test_exp_of_minus),  cmocka_unit_test(test_expm1_of_minus),
        cmocka_unit_test(test_log),           cmocka_unit_test(test_log1p),
        cmocka_unit_test(test_tanh),          cmocka_unit_test(test_sigmoid),
        cmocka_unit_test(test_sigmoid_slope), cmocka_unit_test(test_softplus),
        cmocka_unit_test(test_erf),           cmocka_unit_test(test_normal_cdf),
        cmocka_unit_test(test_normal_pdf),    cmocka_unit_test(test_softsign),
        cmocka_unit_test(test_sqrt),          cmocka_unit_test(test_sin_pi),
        cmocka_unit_test(test_cos_pi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
