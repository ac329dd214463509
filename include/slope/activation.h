/* Activations as values: SL_RELU, SL_SWISH, … one constant for each row of activations.def, with its
 * parameters. */
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
#define ACTIVATION(id, ...) static const sl_activation SL_##id = {SL_ACTIVATION_##id, 0, 0, SL_LEARN_DEFAULT};
#include "slope/activations.def"
#undef ACTIVATION
#if defined(__GNUC__)
#    pragma GCC diagnostic pop
#endif

/* From text: "relu", "leaky_relu(0.001)", "swish(learn)", "prelu(0.25, channel)". On an unknown name or a
 * wrong parameter the context gets an error that names what exists, and the identity is returned. */
SL_API sl_activation sl_activation_parse(sl_context *ctx, const char *text);

/* The text of an activation, as sl_activation_parse reads it, into buffer[size]. Returns buffer. */
SL_API const char *sl_activation_print(sl_activation activation, char *buffer, int size);

/* The name of row number `row`, NULL past the last one: for listing all. */
SL_API const char *sl_activation_name(int row);

/* Value and slope at x in double precision, from the row's own formulas. */
SL_API double sl_activation_value(sl_activation activation, double x);
SL_API double sl_activation_slope(sl_activation activation, double x);

/* The factor that keeps the variance: 1/sqrt(E[f(z)²]) for z ~ N(0, 1), by quadrature. */
SL_API double sl_activation_gain_of(sl_activation activation);

#ifdef __cplusplus
}
#endif
#endif
