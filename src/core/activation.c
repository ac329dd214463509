#include "core/activation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/activation_rows.h"
#include "core/formula.h"
#include "slope/activation.h"

const float sl_limit_exp = 104, sl_limit_expm1 = 20, sl_limit_gauss = 14.5f; /* core/math.h */

/* Kinks: one small function per row. */
#define NO_KINK return 0;
#define KINK(first)                                                                                          \
    at[0] = first;                                                                                           \
    return 1;
#define TWO_KINKS(first, second)                                                                             \
    at[0] = first;                                                                                           \
    at[1] = second;                                                                                          \
    return 2;
#define ACTIVATION(id, name, parameters, reads, value, slope, slope_a, kinks)                                \
    static int kinks_##id(double a, double b, double at[SL_MAX_KINKS])                                       \
    {                                                                                                        \
        (void)a, (void)b, (void)at;                                                                          \
        kinks                                                                                                \
    }                                                                                                        \
    static float value_##id(float x, float a, float b)                                                       \
    {                                                                                                        \
        return sl_value_##id(x, a, b);                                                                       \
    }                                                                                                        \
    static float slope_##id(float at, float a, float b)                                                      \
    {                                                                                                        \
        return sl_slope_##id(at, a, b);                                                                      \
    }                                                                                                        \
    static float slope_a_##id(float at, float a, float b)                                                    \
    {                                                                                                        \
        return sl_slope_a_##id(at, a, b);                                                                    \
    }
#include "slope/activations.def"
#undef ACTIVATION

#define ANY                                 -INFINITY
#define FIXED                               false, false
#define LEARNABLE                           true, false
#define LEARNED                             true, true
#define NO_PARAMETER                        .n_parameters = 0,
#define PARAMETER(name, value, how, lowest) .n_parameters = 1, .parameter = {{#name, value, lowest, how}},
#define TWO_PARAMETERS(name, value, how, lowest, name_b, value_b, how_b, lowest_b)                           \
    .n_parameters = 2, .parameter = {{#name, value, lowest, how}, {#name_b, value_b, lowest_b, how_b}},
#define READS_NOTHING SL_READS_NOTHING
#define READS_X       SL_READS_X
#define READS_Y       SL_READS_Y

static const sl_activation_info rows[SL_ACTIVATION_COUNT] = {
#define ACTIVATION(row, text, parameters, what, F, G, H, K)                                                  \
    {                                                                                                        \
        .name = text,                                                                                        \
        .id = SL_ACTIVATION_##row,                                                                           \
        .reads = what,                                                                                       \
        parameters.kinks = kinks_##row,                                                                      \
        .value = sl_oracle_value_##row,                                                                      \
        .slope = sl_oracle_slope_##row,                                                                      \
        .slope_a = sl_oracle_slope_a_##row,                                                                  \
        .value_float = value_##row,                                                                          \
        .slope_float = slope_##row,                                                                          \
        .slope_a_float = slope_a_##row,                                                                      \
        .slope_at = sl_oracle_slope_at_##row,                                                                \
    },
#include "slope/activations.def"
#undef ACTIVATION
};

int sl_activation_count(void)
{
    return SL_ACTIVATION_COUNT;
}

const sl_activation_info *sl_activation_row_info(int id)
{
    return id >= 0 && id < SL_ACTIVATION_COUNT ? &rows[id] : NULL;
}

const sl_activation_info *sl_activation_find_row(const char *name)
{
    for (int id = 0; name && id < SL_ACTIVATION_COUNT; id++)
        if (strcmp(rows[id].name, name) == 0) return &rows[id];
    return NULL;
}

const char *sl_activation_word(const sl_activation_attr *attr)
{
    return attr->formula ? "formula" : rows[attr->id].name;
}

sl_activation_reads sl_activation_slope_reads(const sl_activation_attr *attr)
{
    return attr->formula ? SL_READS_X : rows[attr->id].reads;
}

double sl_activation_at(const sl_activation_attr *attr, double x)
{
    if (attr->formula) return sl_formula_run_double(attr->formula, &attr->formula->value, x, NULL);
    return rows[attr->id].value(x, attr->a, attr->b);
}

double sl_activation_slope_of(const sl_activation_attr *attr, double x)
{
    if (attr->formula) return sl_formula_run_double(attr->formula, &attr->formula->slope, x, NULL);
    return rows[attr->id].slope(x, attr->a, attr->b);
}

/* --- gain --- */

/* Integral of f(z)²·exp(-z²/2) over [from, to] by three-point Gauss-Legendre. No point lies on an end. */
static double mean_square(const sl_activation_attr *attr, double from, double to)
{
    const double node[3] = {-0.77459666924148338, 0, 0.77459666924148338};
    const double weight[3] = {5.0 / 9, 8.0 / 9, 5.0 / 9};
    const double half = (to - from) / 2, middle = (to + from) / 2;
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        const double z = middle + node[i] * half, y = sl_activation_at(attr, z);
        sum += weight[i] * half * y * y * exp(-0.5 * z * z);
    }
    return sum;
}

/* The same in halves, and these in halves, where it makes a difference: next to a kink or a jump. `left` is
 * how often that may be. */
static double mean_square_refined(const sl_activation_attr *attr, double from, double to, double whole,
                                  int *left)
{
    const double middle = (from + to) / 2;
    const double low = mean_square(attr, from, middle), high = mean_square(attr, middle, to);
    const bool agree = !(fabs(low + high - whole) > 1e-14 + 1e-12 * fabs(whole));
    if (agree || to - from < 1e-12 || --*left < 0) return low + high;
    return mean_square_refined(attr, from, middle, low, left) +
           mean_square_refined(attr, middle, to, high, left);
}

double sl_activation_gain(const sl_activation_attr *attr)
{
    enum { PIECES = 1000, HALVINGS = 20000 };
    int left = HALVINGS;
    const double end = 12; /* beyond, phi is below 1e-31 */
    double sum = 0;
    for (int i = 0; i < PIECES; i++) {
        const double from = end * (2.0 * i / PIECES - 1), to = end * (2.0 * (i + 1) / PIECES - 1);
        sum += mean_square_refined(attr, from, to, mean_square(attr, from, to), &left);
    }
    const double gain = 1 / sqrt(sum * 0.39894228040143268);
    return isfinite(gain) && gain > 0 ? gain : 1;
}
