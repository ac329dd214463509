/* Losses: scalars [1], means over the samples that count. */
#ifndef SLOPE_LOSS_H
#define SLOPE_LOSS_H

#include "slope/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -log softmax(logits)[label], mean over samples. logits [n, classes], labels [n] (sl_labels). */
SL_API sl_node *sl_softmax_cross_entropy(sl_node *logits, sl_node *labels);
/* Binary cross-entropy of sigmoid(logits), mean over all elements: max(z,0) - z·t + ln(1+e^-|z|). Targets of
 * the logits' shape in [0, 1], or labels [n] in {0, 1} for logits [n, 1]. */
SL_API sl_node *sl_binary_cross_entropy(sl_node *logits, sl_node *targets);
/* Mean of (y-t)² over all elements. */
SL_API sl_node *sl_mean_squared_error(sl_node *y, sl_node *targets);
/* ½Σ(y-t)² over a sample's outputs, mean over samples. */
SL_API sl_node *sl_half_squared_error(sl_node *y, sl_node *targets);

#ifdef __cplusplus
}
#endif
#endif
