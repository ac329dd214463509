/* Operations as builders: each appends one node (and its kin) and returns it. y = f(x) in the comments. */
#ifndef SLOPE_OPS_H
#define SLOPE_OPS_H

#include "slope/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Elementwise. Two inputs broadcast as in NumPy: shapes are aligned at the last dimension, and a size of 1
 * stretches. */
SL_API sl_node *sl_add(sl_node *a, sl_node *b);
SL_API sl_node *sl_sub(sl_node *a, sl_node *b);
SL_API sl_node *sl_mul(sl_node *a, sl_node *b);
SL_API sl_node *sl_div(sl_node *a, sl_node *b);
SL_API sl_node *sl_neg(sl_node *x);                               /* -x */
SL_API sl_node *sl_scale(sl_node *x, double scale, double shift); /* scale·x + shift */
SL_API sl_node *sl_exp(sl_node *x);
SL_API sl_node *sl_log(sl_node *x);
SL_API sl_node *sl_reciprocal(sl_node *x); /* 1/x */
SL_API sl_node *sl_square(sl_node *x);
SL_API sl_node *sl_sqrt(sl_node *x);

/* y = f(x) for a row of activations.def, with its parameters; a learned one becomes a parameter of the graph.
 */
SL_API sl_node *sl_activate(sl_node *x, sl_activation activation);

/* Over the last dimension. Stable for any finite logits. */
SL_API sl_node *sl_softmax(sl_node *x);
SL_API sl_node *sl_log_softmax(sl_node *x);

/* y = op(A)·op(B) for matrices; a batched A gives a batched y. */
SL_API sl_node *sl_matmul(sl_node *a, sl_node *b, bool transpose_a, bool transpose_b);
/* y = x + b with b [last dimension] or [1] (shared by all). */
SL_API sl_node *sl_bias(sl_node *x, sl_node *b);

/* Sums over all dimensions in which `shape` has 1 or nothing; sl_sum gives a scalar [1]. Over a batch only
 * the samples that count. */
SL_API sl_node *sl_sum_to(sl_node *x, sl_shape shape);
SL_API sl_node *sl_sum(sl_node *x);
SL_API sl_node *sl_mean(sl_node *x); /* over all elements of the samples that count; [1] */

SL_API sl_node *sl_reshape(sl_node *x, sl_shape shape);
/* [n, …] → [n, product]: memory order, for images height, width, channel. */
SL_API sl_node *sl_flatten(sl_node *x);

#ifdef __cplusplus
}
#endif
#endif
