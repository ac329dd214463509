/* The rows of activations.def in double precision. */
#define SL_DOUBLE
#include "core/activation_rows.h"

/* What a slope reads, given x. */
#define READS_NOTHING(id) x
#define READS_X(id)       x
#define READS_Y(id)       sl_value_##id(x, a, b)

#define ACTIVATION(id, name, parameters, reads, value, slope, slope_a, kinks)                                \
    double sl_oracle_value_##id(double x, double a, double b)                                                \
    {                                                                                                        \
        return sl_value_##id(x, a, b);                                                                       \
    }                                                                                                        \
    double sl_oracle_slope_##id(double x, double a, double b)                                                \
    {                                                                                                        \
        return sl_slope_##id(reads(id), a, b);                                                               \
    }                                                                                                        \
    double sl_oracle_slope_a_##id(double x, double a, double b)                                              \
    {                                                                                                        \
        return sl_slope_a_##id(reads(id), a, b);                                                             \
    }                                                                                                        \
    double sl_oracle_slope_at_##id(double at, double a, double b)                                            \
    {                                                                                                        \
        return sl_slope_##id(at, a, b);                                                                      \
    }
#include "slope/activations.def"
