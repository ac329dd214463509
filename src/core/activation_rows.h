/* The formulas of activations.def as inline functions of the file's `real`: sl_value_RELU(x, a, b),
 * sl_slope_RELU(at, a, b) and sl_slope_a_RELU(at, a, b), where `at` is x or y as the row's READS says. */
#ifndef SL_CORE_ACTIVATION_ROWS_H
#define SL_CORE_ACTIVATION_ROWS_H

#include "core/math.h"

#define SL_ROW_FUNCTION(prefix, id, formula)                                                                 \
    SL_FN real prefix##id(real at, real a, real b)                                                           \
    {                                                                                                        \
        const real x = at, y = at;                                                                           \
        (void)x, (void)y, (void)a, (void)b;                                                                  \
        return formula;                                                                                      \
    }
#define ACTIVATION(id, name, parameters, reads, value, slope, slope_a, kinks)                                \
    SL_ROW_FUNCTION(sl_value_, id, value)                                                                    \
    SL_ROW_FUNCTION(sl_slope_, id, slope)                                                                    \
    SL_ROW_FUNCTION(sl_slope_a_, id, slope_a)
#include "slope/activations.def"
#undef ACTIVATION
#undef SL_ROW_FUNCTION

/* The same in double precision, out of line: core/activation_oracle.c. */
#define ACTIVATION(id, ...)                                                                                  \
    double sl_oracle_value_##id(double x, double a, double b);                                               \
    double sl_oracle_slope_##id(double x, double a, double b);                                               \
    double sl_oracle_slope_a_##id(double x, double a, double b);                                             \
    double sl_oracle_slope_at_##id(double at, double a, double b);
#include "slope/activations.def"
#undef ACTIVATION
#endif
