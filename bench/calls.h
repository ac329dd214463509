/* What the calls of a plan have to do: operations of the products, bytes that must move. */
#ifndef BENCH_CALLS_H
#define BENCH_CALLS_H

#include <stdlib.h>

#include "graph/plan.h"

/* Pairs (output, kernel element) of one dimension that lie inside the image. */
static inline int64_t window_pairs(const sl_conv_attr *a, int d, int64_t size, int64_t out)
{
    int64_t n = 0;
    for (int64_t y = 0; y < out; y++)
        for (int k = 0; k < a->kernel[d]; k++) {
            const int64_t at = y * a->stride[d] - a->pad[d] + (int64_t)k * a->dilation[d];
            n += at >= 0 && at < size;
        }
    return n;
}

/* Multiplications and additions of a product; 0 for another operation. Padding is not counted: it is skipped.
 */
static inline double call_operations(const sl_call *call)
{
    const char *name = sl_op_name(call->op);
    if (strncmp(name, "matmul", 6) == 0) { /* the attribute begins with the product's own, fused or not */
        const sl_matmul_attr *a = call->attr;
        const int64_t k = call->in[0].shape.dim[a && a->transpose_a ? 0 : call->in[0].shape.n - 1];
        return 2.0 * (double)k * (double)sl_shape_count(call->out[0].shape);
    }
    if (strncmp(name, "conv2d", 6) != 0) return 0;
    const sl_shape in0 = call->in[0].shape, in1 = call->in[1].shape, out = call->out[0].shape;
    const bool input = call->op == SL_OP_CONV2D_VJP_INPUT, weight = call->op == SL_OP_CONV2D_VJP_WEIGHT;
    const sl_shape x = input ? out : in0, y = input ? in0 : weight ? in1 : out;
    const double pairs = (double)window_pairs(call->attr, 0, x.dim[1], y.dim[1]) *
                         (double)window_pairs(call->attr, 1, x.dim[2], y.dim[2]);
    return 2.0 * pairs * (double)(x.dim[0] * x.dim[3] * y.dim[3]);
}

static inline double plan_operations(const sl_plan *plan)
{
    double sum = 0;
    for (int c = 0; c < plan->n_calls; c++) sum += call_operations(&plan->calls[c]);
    return sum;
}

/* Bytes that a step must move at the least: every tensor that it reads once, every tensor that it writes
 * once, of a data set the rows that are drawn, of a record one row. */
static inline double plan_bytes(const sl_plan *plan)
{
    const size_t n = (size_t)plan->graph->n;
    bool *read = calloc(n, 1);
    double bytes = 0;
    for (int c = 0; c < plan->n_calls && read; c++) {
        const sl_call *call = &plan->calls[c];
        const sl_node *node = plan->call_nodes[c];
        for (int k = 0; k < call->n_in; k++) {
            const sl_node *from = node->in[k];
            while (sl_op_flags(from->op) & SL_FLAG_VIEW) from = from->in[0];
            const bool state = from->variable && from->variable->kind == SL_VARIABLE_STATE;
            const bool data = from->variable && from->variable->kind == SL_VARIABLE_DATA;
            if (read[from->id] || data || (call->op == SL_OP_RECORD && k == 0)) continue;
            read[from->id] = true;
            /* An effect writes the states that it reads. */
            const bool effect = state && (sl_op_flags(call->op) & SL_FLAG_EFFECT);
            bytes += (effect ? 2.0 : 1.0) * (double)sl_node_bytes(plan, from);
        }
        for (int k = 0; k < call->n_out; k++)
            if (call->out[k].data)
                bytes += (call->op == SL_OP_DRAW_BATCH ? 2.0 : 1.0) *
                         (double)sl_node_bytes(plan, node->outputs[k]);
    }
    free(read);
    return bytes;
}
#endif
