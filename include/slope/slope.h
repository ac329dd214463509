/* Slope: deep learning in C, with the activation function and its slope at the centre.
 *
 * A ten-minute tour
 *
 * 1. Open a context. It holds the device, the seed, and the first error; closing it frees everything.
 *        sl_context *ctx = sl_open(.device = SL_AUTO, .seed = 42);
 * 2. Get data: sl_mnist(ctx, NULL, SL_TRAIN), sl_digits, or arrays of your own (data.h).
 * 3. Describe the network as a graph of nodes. A layer is a function from node to node (layers.h); anything
 * can be said with the operations of ops.h; an activation is a value such as SL_SWISH (activation.h).
 *        sl_graph *g = sl_graph_new(ctx);
 *        sl_node *x = sl_input(g, "image", 28, 28, 1);
 *        x = sl_dense(x, .units = 128, .activation = SL_RELU);
 *        sl_node *loss = sl_softmax_cross_entropy(sl_dense(x, .units = 10), sl_labels(g, "digit"));
 * 4. Compile and train (model.h, optim.h).
 *        sl_model *m = sl_compile(loss, .batch = 128, .optimizer = sl_adam(.rate = 1e-3f));
 *        sl_fit(m, train, .epochs = 5, .validation = test, .progress = stderr);
 * 5. Use it: sl_evaluate, sl_predict, sl_save, sl_load.
 * 6. Look for an error once, at the end: sl_error(ctx) is NULL or a sentence. After an error every call does
 * nothing.
 *
 * Options are named members; one left out takes its default, and a real zero is written SL_ZERO (floats) or
 * SL_NONE (integers). Tensors have the channels last: images are height, width, channels; weights are [in,
 * out]. Gradients of any scalar: sl_gradients (graph.h); running a graph by hand: sl_plan_new (graph.h). */
#ifndef SLOPE_SLOPE_H
#define SLOPE_SLOPE_H

#include "slope/activation.h"
#include "slope/check.h"
#include "slope/context.h"
#include "slope/custom.h"
#include "slope/data.h"
#include "slope/graph.h"
#include "slope/layers.h"
#include "slope/loss.h"
#include "slope/model.h"
#include "slope/ops.h"
#include "slope/optim.h"
#include "slope/status.h"
#include "slope/tensor.h"
#endif
