/* Activations as values: SL_RELU, SL_SWISH, … one constant for each row of activations.def, with its
 * parameters; and any other function, from an expression. */
#ifndef SLOPE_ACTIVATION_H
#define SLOPE_ACTIVATION_H

#include "slope/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sl_learn {
    SL_LEARN_DEFAULT, /* as the row says: prelu learns, the others do not */
    SL_FIXED,
    SL_LEARN,             /* one parameter for the layer */
    SL_LEARN_PER_CHANNEL, /* one for each channel or unit */
} sl_learn;

/* Which activation, with which parameters. All zero: the identity. */
typedef struct sl_activation {
    int row;        /* of activations.def, counted from 0 */
    float a, b;     /* the row's parameters in order; 0 = the row's default, SL_ZERO = 0 */
    sl_learn learn; /* the first parameter; its value is where learning starts */
    const struct sl_formula
        *formula; /* from an expression: then it alone counts, and row is SL_ACTIVATION_COUNT */
} sl_activation;

enum {
#define ACTIVATION(id, ...) SL_ACTIVATION_##id,
#include "slope/activations.def"
#undef ACTIVATION
    SL_ACTIVATION_COUNT
};
#if defined(__GNUC__)
#    pragma GCC diagnostic push
#    pragma GCC diagnostic ignored "-Wunused-variable"
#endif
#define ACTIVATION(id, ...)                                                                                  \
    static const sl_activation SL_##id = {SL_ACTIVATION_##id, 0, 0, SL_LEARN_DEFAULT, 0};
#include "slope/activations.def"
#undef ACTIVATION
#if defined(__GNUC__)
#    pragma GCC diagnostic pop
#endif

/* From text: "relu", "leaky_relu(0.001)", "swish(learn)", "prelu(0.25, channel)", or an expression. On an
 * unknown name or a wrong parameter the context gets an error that names what exists, and the identity is
 * returned. */
SL_API sl_activation sl_activation_parse(sl_context *ctx, const char *text);

/* From an expression in x: "x*sigmoid(1.5*x)", "max(x, 0.1*x)", "x > 0 ? x : b*expm1(x); b=1 learn".
 *
 *   x, numbers, pi, e; + - * / ^ and brackets; < <= > >= == != (1 or 0) and c ? u : v
 *   abs sign square sqrt exp expm1 log log1p sin cos erf; max(u,v) min(u,v)
 *   every row of activations.def as a function of one argument, with the parameters it has by default
 *   behind semicolons the values of up to 8 parameters, b=1, of which 4 may be learned: b=1 learn (one for
 * the layer), b=1 channel (one for each channel or unit)
 *
 * Its slope is derived symbolically and compared with differences. Where the arguments of max or min are
 * equal, and for abs at 0, it is the smallest in size between the slopes of the two sides, as relu has it; c
 * ? u : v has the slope of the branch that is taken. NaN comes out as NaN; 0·infinity is 0, all else at
 * infinity is IEEE arithmetic. u^v with a v that is no constant whole number needs u >= 0. sin and cos are 0
 * beyond ±2^22.
 *
 * The function belongs to the context, lives as long, and serves no other. On an error, which names the
 * character and the reason, the identity is returned. Texts have at most SL_ACTIVATION_TEXT - 1 bytes. */
SL_API sl_activation sl_activation_from_expression(sl_context *ctx, const char *text);

enum { SL_ACTIVATION_TEXT = 512 };
/* The text of an activation, as sl_activation_parse reads it, into buffer[size]; SL_ACTIVATION_TEXT bytes are
 * always enough. Returns buffer. */
SL_API const char *sl_activation_print(sl_activation activation, char *buffer, int size);

/* The name of row number `row`, NULL past the last one: for listing all. */
SL_API const char *sl_activation_name(int row);

/* Value and slope at x in double precision, from the row's own formulas or the expression; its learned
 * parameters are at their first values. */
SL_API double sl_activation_value(sl_activation activation, double x);
SL_API double sl_activation_slope(sl_activation activation, double x);

/* The factor that keeps the variance: 1/sqrt(E[f(z)²]) for z ~ N(0, 1), by quadrature. */
SL_API double sl_activation_gain_of(sl_activation activation);

#ifdef __cplusplus
}
#endif
#endif
