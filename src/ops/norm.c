/* Dropout and batch normalisation. */
#include "ops/ops.h"

static bool infer_dropout(sl_node *node) /* x, step */
{
    return sl_infer_same(node);
}

static void vjp_dropout(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted; /* linear and diagonal: the same call drops the same elements of dy */
    dx[0] = sl_node2(SL_OP_DROPOUT, node->attr, dy[0], node->in[1]);
}

static sl_node *evaluate_dropout(sl_graph *graph, const sl_node *node, sl_node *const *in)
{
    (void)graph, (void)node;
    return in[0];
}

/* --- batch norm: x, gamma, beta, running mean, running variance → y, mean, variance of the batch --- */

static bool per_channel(sl_node *node, int first, int last)
{
    const int64_t channels = sl_shape_last(node->in[0]->shape);
    for (int i = first; i <= last; i++)
        if (node->in[i]->shape.n != 1 || node->in[i]->shape.dim[0] != channels)
            return sl_node_fail(node, "'%s' must be [%lld]", node->in[i]->name, (long long)channels);
    return !sl_needs_float(node, 0);
}

static bool infer_batch_norm(sl_node *node)
{
    if (!per_channel(node, 1, node->n_in - 1)) return false;
    sl_set_output(node, 0, SL_FLOAT, node->in[0]->shape);
    for (int k = 1; k < node->n_out; k++) sl_set_output(node, k, SL_FLOAT, node->in[1]->shape);
    return true;
}

static bool infer_batch_norm_vjp(sl_node *node) /* dy, x, gamma, mean, variance → dx, dgamma, dbeta */
{
    sl_set_output(node, 0, SL_FLOAT, node->in[1]->shape);
    for (int k = 1; k < 3; k++) sl_set_output(node, k, SL_FLOAT, node->in[2]->shape);
    return true;
}

static void batch_norm_vjp(sl_node *node, sl_op op, sl_node *dy, sl_node *mean, sl_node *variance,
                           const bool *wanted, sl_node **dx)
{
    if (!dy) return; /* the statistics are read by batch_norm_track only */
    sl_node *in[5] = {dy, node->in[0], node->in[1], mean, variance};
    sl_node *all = sl_node_new(node->graph, op, node->attr, 5, in);
    for (int i = 0; i < 3 && all; i++)
        if (wanted[i]) dx[i] = all->outputs[i];
}

static void vjp_batch_norm(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    batch_norm_vjp(node, SL_OP_BATCH_NORM_VJP, dy[0], node->outputs[1], node->outputs[2], wanted, dx);
}

static void vjp_batch_norm_apply(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    batch_norm_vjp(node, SL_OP_BATCH_NORM_APPLY_VJP, dy[0], node->in[3], node->in[4], wanted, dx);
}

/* gamma's and beta's tangents take their places in the same formula. That of x: the slope of a channel by
 * itself is symmetric, so the reverse rule serves. */
static void batch_norm_jvp(sl_node *node, sl_op reverse, sl_node *mean, sl_node *variance, sl_node *const *tx,
                           sl_node **ty)
{
    const sl_shape channels = node->in[1]->shape;
    sl_node *first = NULL, *second = NULL;
    if (tx[0]) {
        sl_node *in[5] = {tx[0], node->in[0], node->in[1], mean, variance};
        first = sl_node_new(node->graph, reverse, node->attr, 5, in);
    }
    if (tx[1] || tx[2]) {
        sl_node *in[5] = {node->in[0], tx[1] ? tx[1] : sl_constant(node->graph, channels, 0),
                          tx[2] ? tx[2] : sl_constant(node->graph, channels, 0), mean, variance};
        second = sl_node_new(node->graph, SL_OP_BATCH_NORM_APPLY, node->attr, 5, in);
    }
    ty[0] = sl_add_nodes(first, second);
}

static void jvp_batch_norm(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    batch_norm_jvp(node, SL_OP_BATCH_NORM_VJP, node->outputs[1], node->outputs[2], tx, ty);
}

static void jvp_batch_norm_apply(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    batch_norm_jvp(node, SL_OP_BATCH_NORM_APPLY_VJP, node->in[3], node->in[4], tx, ty);
}

static sl_node *evaluate_batch_norm(sl_graph *graph, const sl_node *node, sl_node *const *in)
{
    return sl_node_new(graph, SL_OP_BATCH_NORM_APPLY, node->attr, 5, in);
}

static bool infer_nothing(sl_node *node)
{
    (void)node;
    return true;
}

static const sl_dropout_attr third = {1 / 3.0f, 7, 3};
static const sl_batch_norm_attr usual = {1e-5f, 0.1f};
#define CHANNELS(n) SL_ANY(n), SL_ANY(n), SL_ANY(n), SL_POSITIVE(n)
static const sl_sample norms[] = {{5, {SL_ANY(SL_BATCH, 5), CHANNELS(5)}, &usual},
                                  {5, {SL_ANY(SL_BATCH, 3, 4, 7), CHANNELS(7)}, &usual},
                                  {0}};

const sl_op_rules sl_rules_DROPOUT = {
    .attr_size = sizeof(sl_dropout_attr),
    .infer = infer_dropout,
    .vjp = vjp_dropout,
    .jvp = sl_jvp_linear,
    .evaluate = evaluate_dropout,
    .samples = (const sl_sample[]){
        {2, {SL_ANY(SL_BATCH, 5), SL_STEP}, &third}, {2, {SL_ANY(SL_BATCH, 3, 5, 7), SL_STEP}, &third}, {0}}};
const sl_op_rules sl_rules_BATCH_NORM = {.attr_size = sizeof(sl_batch_norm_attr),
                                         .infer = infer_batch_norm,
                                         .vjp = vjp_batch_norm,
                                         .jvp = jvp_batch_norm,
                                         .evaluate = evaluate_batch_norm,
                                         .samples = norms};
const sl_op_rules sl_rules_BATCH_NORM_VJP = {.attr_size = sizeof(sl_batch_norm_attr),
                                             .infer = infer_batch_norm_vjp};
const sl_op_rules sl_rules_BATCH_NORM_APPLY = {.attr_size = sizeof(sl_batch_norm_attr),
                                               .infer = infer_batch_norm,
                                               .vjp = vjp_batch_norm_apply,
                                               .jvp = jvp_batch_norm_apply,
                                               .samples = norms};
const sl_op_rules sl_rules_BATCH_NORM_APPLY_VJP = {.attr_size = sizeof(sl_batch_norm_attr),
                                                   .infer = infer_batch_norm_vjp};
const sl_op_rules sl_rules_BATCH_NORM_TRACK = {.attr_size = sizeof(sl_batch_norm_attr),
                                               .infer = infer_nothing};
