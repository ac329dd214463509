#include "core/activation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/activation_rows.h"
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

/* Integral of f(z)²·phi(z) over [from, to]: three-point Gauss-Legendre on equal pieces. No point lies on an
 * end, so a jump there does no harm. */
static double mean_square(const sl_activation_info *row, double a, double b, double from, double to)
{
    enum { PIECES = 1000 };
    const double node[3] = {-0.77459666924148338, 0, 0.77459666924148338};
    const double weight[3] = {5.0 / 9, 8.0 / 9, 5.0 / 9};
    const double half = (to - from) / PIECES / 2;
    double sum = 0;
    for (int piece = 0; piece < PIECES; piece++)
        for (int i = 0; i < 3; i++) {
            const double z = from + (2 * piece + 1 + node[i]) * half, y = row->value(z, a, b);
            sum += weight[i] * half * y * y * exp(-0.5 * z * z);
        }
    return sum * 0.39894228040143268;
}

double sl_activation_gain(int id, double a, double b)
{
    const sl_activation_info *row = sl_activation_row_info(id);
    const double end = 12; /* beyond, phi is below 1e-31 */
    double at[SL_MAX_KINKS], sum = 0, from = -end;
    if (!row) return 1;
    const int n = row->kinks(a, b, at);
    for (int i = 0; i < n; i++) { /* in rising order: checked by a test */
        if (!(at[i] > from && at[i] < end)) continue;
        sum += mean_square(row, a, b, from, at[i]);
        from = at[i];
    }
    sum += mean_square(row, a, b, from, end);
    const double gain = 1 / sqrt(sum);
    return isfinite(gain) && gain > 0 ? gain : 1;
}
