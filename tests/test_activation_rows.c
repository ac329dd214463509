/* Every row of activations.def: its data, limits, accuracy, and its slopes against differences of its value.
 * All tests run over all rows; a new row is tested by standing in the table. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend.h"
#include "core/activation.h"

#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
#    define STRIDE 65537u
#else
#    define STRIDE 257u
#endif

typedef const sl_activation_info row_info;

#define EACH_ROW(row)                                                                                        \
    (row_info *row = sl_activation_row_info(0); row; row = sl_activation_row_info(row->id + 1))

/* Parameters that each row is tried with: its defaults first. */
enum { TRIES = 5 };
static bool parameters(row_info *row, int try, float *a, float *b)
{
    const float as[TRIES] = {0, 0.3f, 2, 0, -1.5f}, bs[TRIES] = {0, 1, 2, 1, 0.5f};
    *a = try == 0 ? row->parameter[0].value : as[try];
    *b = try == 0 || row->n_parameters < 2 ? row->parameter[1].value : bs[try];
    return try == 0 || (row->n_parameters > 0 && *a >= row->parameter[0].lowest);
}

static float largest(float a, float b)
{
    return fmaxf(1, fmaxf(fabsf(a), fabsf(b)));
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |got - want|; an infinite float stands for 2^128; NaN or infinity on one side alone is an infinite error.
 */
static double distance(float got, double want)
{
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want) ? 0 : INFINITY;
    if (isinf(want)) return isinf(got) && got * want > 0 ? 0 : INFINITY;
    if (fabs(want) > 0x1p128) want = copysign(0x1p128, want);
    return fabs((isinf(got) ? copysign(0x1p128, got) : got) - want);
}

static double ulp(double y)
{
    int exponent = -125;
    if (y != 0) frexp(y, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static float slope_of(row_info *row, float x, float a, float b)
{
    return row->slope_float(row->reads == SL_READS_Y ? row->value_float(x, a, b) : x, a, b);
}

static void test_table(void **state)
{
    (void)state;
    assert_int_equal(sl_activation_count(), SL_ROW_COUNT);
    assert_null(sl_activation_row_info(-1));
    assert_null(sl_activation_row_info(SL_ROW_COUNT));
    assert_null(sl_activation_find_row("gelu "));
    assert_null(sl_activation_find_row(""));
    assert_null(sl_activation_find_row(NULL));
    assert_int_equal(SL_ROW_LINEAR,
                     0); /* an attribute of zeros is the identity but for c, which is 1 by default */
    int id = 0;
    for
        EACH_ROW(row)
        {
            assert_int_equal(row->id, id++);
            assert_ptr_equal(sl_activation_find_row(row->name), row);
            assert_in_range(row->n_parameters, 0, 2);
            for (const char *c = row->name; *c; c++)
                assert_true((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_');
            for (int i = 0; i < 2; i++) {
                const sl_activation_parameter *p = &row->parameter[i];
                assert_int_equal(p->name != NULL, i < row->n_parameters);
                assert_true(p->value >= p->lowest || !p->name);
                assert_true(p->learnable || !p->learned);
                if (i == 1) assert_false(p->learnable); /* there is no slope by b */
            }
            double at[SL_MAX_KINKS] = {0};
            const int kinks = row->kinks(row->parameter[0].value, row->parameter[1].value, at);
            assert_in_range(kinks, 0, SL_MAX_KINKS);
            for (int i = 1; i < kinks; i++) assert_true(at[i - 1] < at[i]);
            if (row->parameter[0].learnable) assert_int_not_equal(row->reads, SL_READS_NOTHING);
        }
    assert_int_equal(id, SL_ROW_COUNT);
    const sl_activation_parameter *prelu = sl_activation_find_row("prelu")->parameter;
    assert_true(prelu->learned && prelu->value == 0.25f);
    const sl_activation_info *swish = sl_activation_find_row("swish");
    assert_string_equal(swish->parameter[0].name, "beta");
    assert_string_equal(swish->parameter[1].name, "scale");
    assert_true(swish->parameter[0].learnable && !swish->parameter[0].learned);
}

static void check_point(row_info *row, float x, float a, float b)
{
    const float size = largest(a, b), y = row->value_float(x, a, b);
    const float slope = row->slope_float(row->reads == SL_READS_Y ? y : x, a, b);
    const double want = row->value(x, a, b), error = distance(y, want);
    if (!(error <= 1e-7 * size || error <= 4 * ulp(want)))
        fail_msg("%s(%g, %g) at %.9g: %.9g, should be %.9g", row->name, a, b, x, y, want);
    const double want_slope = row->reads == SL_READS_Y ? row->slope_at(want, a, b) : row->slope(x, a, b);
    if (!(distance(slope, want_slope) <= 2.5e-7 * size))
        fail_msg("slope of %s(%g, %g) at %.9g: %.9g, should be %.9g", row->name, a, b, x, slope, want_slope);
    if (row->reads == SL_READS_Y && !(distance(slope, row->slope_at(y, a, b)) <= 2.5e-7 * size))
        fail_msg("slope of %s(%g, %g) at y = %.9g: %.9g", row->name, a, b, y, slope);
    if (row->parameter[0].learnable) {
        const double want_a = row->slope_a(x, a, b);
        const float slope_a = row->slope_a_float(x, a, b);
        if (!(distance(slope_a, want_a) <= 1e-6 * fmax(size, fabs(want_a))))
            fail_msg("slope by a of %s(%g, %g) at %.9g: %.9g, should be %.9g", row->name, a, b, x, slope_a,
                     want_a);
    }
}

static void test_special_points(void **state)
{
    (void)state;
    const float at[] = {0,          0x1p-149f, 1e-40f,        0x1p-126f,  1e-30f,      1e-8f,      1,
                        2.9999998f, 3,         3.0000002f,    5.9999995f, 6,           6.0000005f, 20,
                        88.7f,      89,        100,           104,        1e4f,        1e10f,      1e19f,
                        1e30f,      1e38f,     3.4028235e38f, INFINITY,   0.99999994f, 1.0000001f};
    for
        EACH_ROW(row)
    for (int try = 0; try < TRIES; try++) {
        float a, b;
        if (!parameters(row, try, &a, &b)) continue;
        for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
            check_point(row, at[i], a, b);
            check_point(row, -at[i], a, b);
        }
        const float y = row->value_float(NAN, a, b);
        assert_true(isnan(y) && isnan(row->value(NAN, a, b)));
        if (row->reads != SL_READS_NOTHING) assert_true(isnan(slope_of(row, NAN, a, b)));
        if (strcmp(row->name, "prelu") != 0 && row->parameter[0].learnable)
            assert_true(isnan(row->slope_a_float(NAN, a, b)));
    }
}

/* The limits, and the slopes at kinks, as they are documented: not as the oracle computes them. */
static void test_documented_points(void **state)
{
    (void)state;
    const float inf = INFINITY;
    const struct {
        const char *name;
        float x, y, slope;
    } points[] = {
        {"linear", -inf, -inf, 1},
        {"linear", 2, 2, 1},
        {"step", -inf, 0, 0},
        {"step", 0, 1, 0},
        {"step", -0.0f, 1, 0},
        {"step", -1e-38f, 0, 0},
        {"step_ste", 1, 1, 1},
        {"step_ste", -1, 0, 1},
        {"step_ste", 1.0001f, 1, 0},
        {"step_ste", -inf, 0, 0},
        {"sigmoid", -inf, 0, 0},
        {"sigmoid", inf, 1, 0},
        {"sigmoid", 0, 0.5f, 0.25f},
        {"tanh", -inf, -1, 0},
        {"tanh", inf, 1, 0},
        {"tanh", 0, 0, 1},
        {"relu", -inf, 0, 0},
        {"relu", inf, inf, 1},
        {"relu", 0, 0, 0},
        {"leaky_relu", -100, -1, 0.01f},
        {"leaky_relu", 0, 0, 0.01f},
        {"leaky_relu", -inf, -inf, 0.01f},
        {"prelu", 0, 0, 0.25f},
        {"prelu", -4, -1, 0.25f},
        {"prelu", inf, inf, 1},
        {"elu", -inf, -1, 0},
        {"elu", inf, inf, 1},
        {"elu", 0, 0, 1},
        {"selu", inf, inf, 1.05070099f},
        {"selu", -inf, -1.75809934f, 0},
        {"selu", 0, 0, 1.75809934f},
        {"softplus", -inf, 0, 0},
        {"softplus", inf, inf, 1},
        {"softplus", 0, 0.693147181f, 0.5f},
        {"softsign", -inf, -1, 0},
        {"softsign", inf, 1, 0},
        {"softsign", 0, 0, 1},
        {"swish", -inf, 0, 0},
        {"swish", inf, inf, 1},
        {"swish", 0, 0, 0.5f},
        {"gelu", -inf, 0, 0},
        {"gelu", inf, inf, 1},
        {"gelu", 0, 0, 0.5f},
        {"gelu_tanh", -inf, 0, 0},
        {"gelu_tanh", inf, inf, 1},
        {"gelu_tanh", 0, 0, 0.5f},
        {"mish", -inf, 0, 0},
        {"mish", inf, inf, 1},
        {"mish", 0, 0, 0.6f},
        {"hard_sigmoid", -3, 0, 0},
        {"hard_sigmoid", 3, 1, 0},
        {"hard_sigmoid", 0, 0.5f, 0.166666667f},
        {"hard_sigmoid", -inf, 0, 0},
        {"hard_sigmoid", inf, 1, 0},
        {"hard_swish", -3, 0, 0},
        {"hard_swish", 3, 3, 1},
        {"hard_swish", 0, 0, 0.5f},
        {"hard_swish", -inf, 0, 0},
        {"hard_swish", inf, inf, 1},
        {"hard_tanh", -1, -1, 0},
        {"hard_tanh", 1, 1, 0},
        {"hard_tanh", 0.5f, 0.5f, 1},
        {"hard_tanh", inf, 1, 0},
        {"relu6", 0, 0, 0},
        {"relu6", 6, 6, 0},
        {"relu6", 5, 5, 1},
        {"relu6", inf, 6, 0},
        {"relu6", -inf, 0, 0},
    };
    bool seen[SL_ROW_COUNT] = {false};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        row_info *row = sl_activation_find_row(points[i].name);
        assert_non_null(row);
        seen[row->id] = true;
        const float a = row->parameter[0].value, b = row->parameter[1].value;
        const float y = row->value_float(points[i].x, a, b), slope = slope_of(row, points[i].x, a, b);
        if (!(distance(y, points[i].y) <= 1e-7 && distance(slope, points[i].slope) <= 2e-7))
            fail_msg("%s at %g: %.9g, slope %.9g", row->name, points[i].x, y, slope);
    }
    for (int id = 0; id < SL_ROW_COUNT; id++) assert_true(seen[id]);
}

static void test_accuracy(void **state)
{
    (void)state;
    for
        EACH_ROW(row)
        {
            const float a = row->parameter[0].value, b = row->parameter[1].value;
            for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STRIDE)
                check_point(row, float_of((uint32_t)bits), a, b);
            for (int try = 1; try < TRIES; try++) {
                float c, d;
                if (!parameters(row, try, &c, &d)) continue;
                for (uint64_t bits = try; bits <= UINT32_MAX; bits += 128 * STRIDE + 3)
                    check_point(row, float_of((uint32_t)bits), c, d);
            }
        }
}

static bool near_kink(row_info *row, double x, double a, double b)
{
    double at[SL_MAX_KINKS];
    const int n = row->kinks(a, b, at);
    for (int i = 0; i < n; i++)
        if (fabs(x - at[i]) < 0.01) return true;
    return false;
}

static void test_differences(void **state)
{
    (void)state;
    const double h = 1e-5;
    for
        EACH_ROW(row)
        {
            if (strcmp(row->name, "step_ste") == 0) continue; /* its slope is a surrogate */
            for (int try = 0; try < TRIES; try++) {
                float a, b;
                if (!parameters(row, try, &a, &b)) continue;
                for (double x = -12; x < 12; x += 0.0371) {
                    if (near_kink(row, x, a, b)) continue;
                    const double slope = row->slope(x, a, b);
                    const double difference = (row->value(x + h, a, b) - row->value(x - h, a, b)) / (2 * h);
                    if (!(fabs(slope - difference) <= 2e-9 * (1 + fabs(slope))))
                        fail_msg("%s(%g, %g) at %g: slope %.12g, difference %.12g", row->name, a, b, x, slope,
                                 difference);
                    const double slope_a = row->slope_a(x, a, b);
                    const double difference_a = (row->value(x, a + h, b) - row->value(x, a - h, b)) / (2 * h);
                    if (row->parameter[0].learnable &&
                        !(fabs(slope_a - difference_a) <= 1e-7 * (1 + fabs(slope_a))))
                        fail_msg("%s(%g, %g) at %g: slope by a %.12g, difference %.12g", row->name, a, b, x,
                                 slope_a, difference_a);
                }
            }
        }
}

/* E[f(z)²] by another way than the library's: the trapezoid rule in many small steps. */
static double gain_of(int id, double a, double b)
{
    return sl_activation_gain(&(sl_activation_attr){.id = id, .a = (float)a, .b = (float)b});
}

static double gain_by_trapezoids(row_info *row, double a, double b)
{
    const double h = 1e-4;
    double sum = 0;
    for (double z = -10 + h / 2; z < 10; z += h) { /* no point on a kink */
        const double y = row->value(z, a, b);
        sum += y * y * exp(-0.5 * z * z) * h;
    }
    return 1 / sqrt(sum / sqrt(2 * M_PI));
}

static void test_gain(void **state)
{
    (void)state;
    const struct {
        const char *name;
        double gain;
    } known[] = {
        {"linear", 1},
        {"relu", 1.4142135623731},
        {"leaky_relu", 1.4141428569978},
        {"step", 1.4142135623731},
        {"prelu", 1.3719886811400},
        {"selu", 1}, /* f's mean square under N(0, 1) is 1 by construction */
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        row_info *row = sl_activation_find_row(known[i].name);
        const double gain = gain_of(row->id, row->parameter[0].value, row->parameter[1].value);
        if (!(fabs(gain - known[i].gain) <= 1e-8)) fail_msg("gain of %s is %.12g", row->name, gain);
    }
    for
        EACH_ROW(row)
        {
            const double a = row->parameter[0].value, b = row->parameter[1].value;
            assert_true(row->slope(0.7, a, b) == (row->reads == SL_READS_Y
                                                      ? row->slope_at(row->value(0.7, a, b), a, b)
                                                      : row->slope_at(0.7, a, b)));
            const double gain = gain_of(row->id, a, b), other = gain_by_trapezoids(row, a, b);
            print_message("gain of %s: %.10g\n", row->name, gain);
            if (!(fabs(gain - other) <= 1e-6))
                fail_msg("gain of %s: %.12g, by trapezoids %.12g", row->name, gain, other);
        }
    assert_true(fabs(gain_of(SL_ROW_TANH, 0, 0) - 1.5925374197) < 1e-8);
    assert_true(fabs(gain_of(SL_ROW_SIGMOID, 0, 0) - 1.8462285452) < 1e-8);
    assert_true(fabs(gain_of(SL_ROW_LINEAR, 2, 0) - 0.5) < 1e-12);
    assert_true(gain_of(SL_ROW_LINEAR, 0, 0) == 1); /* the mean square is 0 */
}

static void test_identities(void **state)
{
    (void)state;
    row_info *sigmoid = sl_activation_find_row("sigmoid"), *tanh_row = sl_activation_find_row("tanh");
    row_info *swish = sl_activation_find_row("swish"), *linear = sl_activation_find_row("linear");
    for (float x = -110; x < 110; x += 0.093f) {
        assert_true(fabsf(sigmoid->value_float(-x, 0, 0) - (1 - sigmoid->value_float(x, 0, 0))) <= 1.2e-7f);
        assert_true(fabsf(tanh_row->value_float(x, 0, 0) - (2 * sigmoid->value_float(2 * x, 0, 0) - 1)) <=
                    2.4e-7f);
        assert_true(swish->value_float(x, 0, 2) ==
                    linear->value_float(x, 1, 0)); /* beta 0: half of x, twice */
        assert_true(fabsf(swish->value_float(x, 1e4f, 1) - (x > 0 ? x : 0)) <= 3e-5f); /* tends to relu */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_special_points),
        cmocka_unit_test(test_documented_points),
        cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_gain),
        cmocka_unit_test(test_identities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
