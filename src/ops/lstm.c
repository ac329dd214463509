/* Recurrence: taking one step out of a sequence, and the LSTM cell. */
#include "ops/ops.h"

/* x [n, steps, …] → [n, …] */
static bool infer_take(sl_node *node)
{
    const sl_shape x = node->in[0]->shape;
    const int index = ((sl_take_attr *)node->attr)->index;
    if (sl_needs_float(node, 0)) return false;
    if (x.n < 3) return sl_node_fail(node, "needs a sequence [n, steps, features]");
    if (index < 0 || index >= x.dim[1]) return sl_node_fail(node, "there is no step %d", index);
    sl_shape y = {.n = x.n - 1, .dim = {x.dim[0]}};
    for (int i = 1; i < y.n; i++) y.dim[i] = x.dim[i + 1];
    return sl_set_output(node, 0, SL_FLOAT, y);
}

static void vjp_take(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    sl_take_attr attr = *(sl_take_attr *)node->attr;
    attr.steps = (int)node->in[0]->shape.dim[1];
    dx[0] = sl_node1(SL_OP_TAKE_VJP, &attr, dy[0]);
}

static bool infer_take_vjp(sl_node *node)
{
    const sl_shape dy = node->in[0]->shape;
    sl_shape x = {.n = dy.n + 1, .dim = {dy.dim[0], ((sl_take_attr *)node->attr)->steps}};
    for (int i = 2; i < x.n; i++) x.dim[i] = dy.dim[i - 1];
    return !sl_needs_float(node, 0) && sl_set_output(node, 0, SL_FLOAT, x);
}

static void vjp_take_vjp(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node1(SL_OP_TAKE, node->attr, dy[0]);
}

/* gates [n, 4·units] (in, forget, candidate, out), cell [n, units] → h, new cell */
static bool infer_cell(sl_node *node)
{
    const sl_shape z = node->in[0]->shape, c = node->in[1]->shape;
    if (sl_needs_float(node, 0) || sl_needs_float(node, 1)) return false;
    if (z.n != 2 || c.n != 2 || z.dim[0] != c.dim[0] || z.dim[1] != 4 * c.dim[1])
        return sl_node_fail(node, "needs gates [n, 4 units] and a cell [n, units]");
    sl_set_output(node, 0, SL_FLOAT, c);
    return sl_set_output(node, 1, SL_FLOAT, c);
}

static sl_node *or_zero(sl_node *d, const sl_node *like)
{
    return d ? d : sl_constant(like->graph, like->shape, 0);
}

static void vjp_cell(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    sl_node *in[5] = {or_zero(dy[0], node), or_zero(dy[1], node), node->in[0], node->in[1], node->outputs[1]};
    sl_node *all = sl_node_new(node->graph, SL_OP_LSTM_CELL_VJP, node->attr, 5, in);
    for (int i = 0; i < 2 && all; i++)
        if (wanted[i]) dx[i] = all->outputs[i];
}

static bool infer_cell_vjp(sl_node *node) /* dh, dc, gates, cell, new cell → dgates, dcell */
{
    sl_set_output(node, 0, SL_FLOAT, node->in[2]->shape);
    return sl_set_output(node, 1, SL_FLOAT, node->in[3]->shape);
}

static void jvp_cell(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_node *in[5] = {or_zero(tx[0], node->in[0]), or_zero(tx[1], node->in[1]), node->in[0], node->in[1],
                      node->outputs[1]};
    sl_node *all = sl_node_new(node->graph, SL_OP_LSTM_CELL_JVP, node->attr, 5, in);
    for (int k = 0; k < 2 && all; k++) ty[k] = all->outputs[k];
}

static bool
infer_cell_jvp(sl_node *node) /* tangents of gates and cell, gates, cell, new cell → of h, new cell */
{
    for (int k = 0; k < 2; k++) sl_set_output(node, k, SL_FLOAT, node->in[3]->shape);
    return true;
}

static const sl_lstm_attr forgetting = {1};
static const sl_take_attr second = {1, 0}, back_last = {2, 3};

const sl_op_rules sl_rules_TAKE = {.attr_size = sizeof(sl_take_attr),
                                   .infer = infer_take,
                                   .vjp = vjp_take,
                                   .jvp = sl_jvp_linear,
                                   .samples = (const sl_sample[]){{1, {SL_ANY(SL_BATCH, 3, 7)}, &second},
                                                                  {1, {SL_ANY(SL_BATCH, 2, 5, 4)}, &second},
                                                                  {0}}};
const sl_op_rules sl_rules_TAKE_VJP = {.attr_size = sizeof(sl_take_attr),
                                       .infer = infer_take_vjp,
                                       .vjp = vjp_take_vjp,
                                       .jvp = sl_jvp_linear,
                                       .samples =
                                           (const sl_sample[]){{1, {SL_ANY(SL_BATCH, 7)}, &back_last}, {0}}};
const sl_op_rules sl_rules_LSTM_CELL = {
    .attr_size = sizeof(sl_lstm_attr),
    .infer = infer_cell,
    .vjp = vjp_cell,
    .jvp = jvp_cell,
    .samples = (const sl_sample[]){{2, {SL_ANY(SL_BATCH, 20), SL_ANY(SL_BATCH, 5)}, &forgetting},
                                   {2, {SL_ANY(SL_BATCH, 4), SL_ANY(SL_BATCH, 1)}, &forgetting},
                                   {2, {SL_ANY(SL_BATCH, 268), SL_ANY(SL_BATCH, 67)}, &forgetting},
                                   {0}}};
const sl_op_rules sl_rules_LSTM_CELL_VJP = {.attr_size = sizeof(sl_lstm_attr), .infer = infer_cell_vjp};
const sl_op_rules sl_rules_LSTM_CELL_JVP = {.attr_size = sizeof(sl_lstm_attr), .infer = infer_cell_jvp};
