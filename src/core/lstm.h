/* One unit of an LSTM cell (Hochreiter and Schmidhuber 1997; with the forget gate of Gers et al. 2000), and
 * the derivatives of its step. The same operations in the same order on every back end. */
#ifndef SL_CORE_LSTM_H
#define SL_CORE_LSTM_H

#include "core/math.h"

typedef struct sl_lstm_gates {
    real in, forget, candidate, out;
} sl_lstm_gates;

/* From the four sums before their activations. */
SL_FN sl_lstm_gates sl_lstm_open(const sl_lstm_gates z, real forget_bias)
{
    const sl_lstm_gates a = {r_sigmoid(z.in), r_sigmoid(z.forget + forget_bias), r_tanh(z.candidate),
                             r_sigmoid(z.out)};
    return a;
}

SL_FN real sl_lstm_cell(const sl_lstm_gates a, real cell)
{
    return a.forget * cell + a.in * a.candidate;
}

/* Given the new cell, the cotangents dh and dc of the step's results: returns those of the four sums, and
 * through `dcell` that of the cell before. */
SL_FN sl_lstm_gates sl_lstm_back(const sl_lstm_gates a, real cell, real new_cell, real dh, real dc,
                                 real *dcell)
{
    const real t = r_tanh(new_cell), d = dc + dh * a.out * (1 - t * t);
    const sl_lstm_gates dz = {d * a.candidate * a.in * (1 - a.in), d * cell * a.forget * (1 - a.forget),
                              d * a.in * (1 - a.candidate * a.candidate), dh * t * a.out * (1 - a.out)};
    *dcell = d * a.forget;
    return dz;
}

/* Given tangents of the four sums and of the cell before: returns that of h, and through `tc` that of the
 * cell. */
SL_FN real sl_lstm_forward(const sl_lstm_gates a, real cell, real new_cell, const sl_lstm_gates tz,
                           real tcell, real *tc)
{
    const real t = r_tanh(new_cell);
    *tc = tz.forget * a.forget * (1 - a.forget) * cell + a.forget * tcell +
          tz.in * a.in * (1 - a.in) * a.candidate + a.in * tz.candidate * (1 - a.candidate * a.candidate);
    return tz.out * a.out * (1 - a.out) * t + a.out * (1 - t * t) * *tc;
}
#endif
