/* What the operations' rules share. */
#ifndef SL_OPS_OPS_H
#define SL_OPS_OPS_H

#include "core/activation.h"
#include "core/formula.h"
#include "graph/graph.h"

#define SL_SHAPE_(...)                                                                                       \
    {                                                                                                        \
        sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t),                                                  \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define SL_ANY(...)                                                                                          \
    {                                                                                                        \
        SL_SHAPE_(__VA_ARGS__), SL_SAMPLE_ANY, 0                                                             \
    }
#define SL_POSITIVE(...)                                                                                     \
    {                                                                                                        \
        SL_SHAPE_(__VA_ARGS__), SL_SAMPLE_POSITIVE, 0                                                        \
    }
#define SL_DISTINCT(...)                                                                                     \
    {                                                                                                        \
        SL_SHAPE_(__VA_ARGS__), SL_SAMPLE_DISTINCT, 0                                                        \
    }
#define SL_CLASS(limit, ...)                                                                                 \
    {                                                                                                        \
        SL_SHAPE_(__VA_ARGS__), SL_SAMPLE_CLASS, limit                                                       \
    }
#define SL_STEP                                                                                              \
    {                                                                                                        \
        {1, {1}}, SL_SAMPLE_STEP, 0                                                                          \
    }

/* y has x's type and shape. */
bool sl_infer_same(sl_node *node);
/* True after a message unless input i holds floats. */
bool sl_needs_float(sl_node *node, int i);
/* dx reduced to the shape of a broadcast input. */
sl_node *sl_unbroadcast(sl_node *dx, const sl_node *input);
/* a + b, where NULL is zero. */
sl_node *sl_add_nodes(sl_node *a, sl_node *b);
/* The forward rule of an operation that is linear in input 0 and has no other: the same operation on the
 * tangent. */
void sl_jvp_linear(sl_node *node, sl_node *const *tx, sl_node **ty);
/* That of one that is linear in input 0 and in input 1. */
void sl_jvp_bilinear(sl_node *node, sl_node *const *tx, sl_node **ty);
sl_node *sl_affine_node(sl_node *x, double scale, double shift);
/* The inputs of an activation's slope: dy, then x or y as its row says, then its learned parameters. */
enum { SL_MAX_SLOPE_INPUTS = 2 + SL_FORMULA_PARAMETERS };
int sl_slope_inputs(sl_node *activation, sl_node *dy, sl_node **in);
#endif
