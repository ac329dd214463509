/* The formulas of activations.def as inline functions of the file's `real`: sl_value_RELU(x, a, b),
 * sl_slope_RELU(at, a, b) and sl_slope_a_RELU(at, a, b), where `at` is x or y as the row's READS says. Each
 * is also there in its steps: sl_value_first_RELU(x, a, b) gives the e of sl_value_second_RELU(x, e, a, b),
 * and sl_value_steps_RELU is 1 where the formula uses no e. */
#ifndef SL_CORE_ACTIVATION_ROWS_H
#define SL_CORE_ACTIVATION_ROWS_H

#include "core/math.h"

#define IN_TWO(first, second)          first, second
#define SL_THIRD(one, two, three, ...) three
#define SL_ROW_FUNCTIONS(prefix, id, ...)                                                                    \
    SL_THIRD(__VA_ARGS__, SL_TWO_STEPS, SL_ONE_STEP, )(prefix, id, __VA_ARGS__)
#define SL_ONE_STEP(prefix, id, formula)        SL_STEPS(prefix, id, 1, R(0), formula)
#define SL_TWO_STEPS(prefix, id, first, second) SL_STEPS(prefix, id, 2, first, second)
#define SL_STEPS(prefix, id, n, first, second)                                                               \
    enum { prefix##steps_##id = n };                                                                         \
    SL_FN real prefix##first_##id(real at, real a, real b)                                                   \
    {                                                                                                        \
        const real x = at, y = at;                                                                           \
        (void)x, (void)y, (void)a, (void)b;                                                                  \
        return first;                                                                                        \
    }                                                                                                        \
    SL_FN real prefix##second_##id(real at, real e, real a, real b)                                          \
    {                                                                                                        \
        const real x = at, y = at;                                                                           \
        (void)x, (void)y, (void)e, (void)a, (void)b;                                                         \
        return second;                                                                                       \
    }                                                                                                        \
    SL_FN real prefix##id(real at, real a, real b)                                                           \
    {                                                                                                        \
        return prefix##second_##id(at, prefix##first_##id(at, a, b), a, b);                                  \
    }
#define ACTIVATION(id, name, parameters, reads, value, slope, slope_a, kinks)                                \
    SL_ROW_FUNCTIONS(sl_value_, id, value)                                                                   \
    SL_ROW_FUNCTIONS(sl_slope_, id, slope)                                                                   \
    SL_ROW_FUNCTIONS(sl_slope_a_, id, slope_a)
#include "slope/activations.def"
#undef ACTIVATION
#undef SL_STEPS
#undef SL_TWO_STEPS
#undef SL_ONE_STEP
#undef SL_ROW_FUNCTIONS
#undef SL_THIRD
#undef IN_TWO

/* The same in double precision, out of line: core/activation_oracle.c. */
#define ACTIVATION(id, ...)                                                                                  \
    double sl_oracle_value_##id(double x, double a, double b);                                               \
    double sl_oracle_slope_##id(double x, double a, double b);                                               \
    double sl_oracle_slope_a_##id(double x, double a, double b);                                             \
    double sl_oracle_slope_at_##id(double at, double a, double b);
#include "slope/activations.def"
#undef ACTIVATION
#endif
