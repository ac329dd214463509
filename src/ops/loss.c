/* Softmax and the losses built on it. */
#include "ops/ops.h"

/* Σ over the last dimension, which stays as 1. */
static sl_node *row_sum(sl_node *x)
{
    sl_shape_attr attr = {.shape = x ? x->shape : (sl_shape){0}};
    if (x) attr.shape.dim[x->shape.n - 1] = 1;
    return sl_node1(SL_OP_SUM_TO, &attr, x);
}

static sl_node *times(sl_node *a, sl_node *b)
{
    return sl_node2(SL_OP_MUL, NULL, a, b);
}

static sl_node *minus(sl_node *a, sl_node *b)
{
    return sl_node2(SL_OP_SUB, NULL, a, b);
}

static void vjp_softmax(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node2(SL_OP_SOFTMAX_VJP, NULL, dy[0], node);
}

static void vjp_log_softmax(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node2(SL_OP_LOG_SOFTMAX_VJP, NULL, dy[0], node);
}

static void jvp_softmax(sl_node *node, sl_node *const *tx, sl_node **ty) /* its Jacobian is symmetric */
{
    ty[0] = sl_node2(SL_OP_SOFTMAX_VJP, NULL, tx[0], node);
}

static void jvp_log_softmax(sl_node *node, sl_node *const *tx, sl_node **ty) /* t - Σ softmax·t */
{
    ty[0] = minus(tx[0], row_sum(times(sl_node1(SL_OP_EXP, NULL, node), tx[0])));
}

/* y·(dy - Σ dy·y) */
static void jvp_softmax_vjp(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_node *dy = node->in[0], *y = node->in[1], *t = tx[1];
    sl_node *first = tx[0] ? sl_node2(SL_OP_SOFTMAX_VJP, NULL, tx[0], y) : NULL;
    sl_node *second =
        t ? minus(times(t, minus(dy, row_sum(times(dy, y)))), times(y, row_sum(times(dy, t)))) : NULL;
    ty[0] = sl_add_nodes(first, second);
}

/* dy - e^y·Σ dy */
static void jvp_log_softmax_vjp(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_node *dy = node->in[0], *y = node->in[1];
    sl_node *first = tx[0] ? sl_node2(SL_OP_LOG_SOFTMAX_VJP, NULL, tx[0], y) : NULL;
    sl_node *second =
        tx[1] ? sl_affine_node(times(times(sl_node1(SL_OP_EXP, NULL, y), tx[1]), row_sum(dy)), -1, 0) : NULL;
    ty[0] = sl_add_nodes(first, second);
}

/* logits [n, classes], labels [n] → loss [n], probabilities [n, classes] */
static bool infer_cross_entropy(sl_node *node)
{
    const sl_node *logits = node->in[0], *labels = node->in[1];
    if (sl_needs_float(node, 0)) return false;
    if (logits->shape.n != 2)
        return sl_node_fail(node, "the logits must be [n, classes]; flatten or add a dense layer");
    if (labels->dtype != SL_INT || labels->shape.n != 1 || labels->shape.dim[0] != logits->shape.dim[0])
        return sl_node_fail(node, "the labels must be integers [n] (sl_labels)");
    sl_set_output(node, 0, SL_FLOAT, (sl_shape){1, {logits->shape.dim[0]}});
    return sl_set_output(node, 1, SL_FLOAT, logits->shape);
}

static void vjp_cross_entropy(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    if (dy[1]) {
        sl_fail(node->graph->ctx, SL_UNSUPPORTED,
                "%s: its probabilities are for reading; use softmax to train through them", node->name);
        return;
    }
    dx[0] = sl_node3(SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, NULL, dy[0], node->outputs[1], node->in[1]);
}

static void jvp_cross_entropy(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_node *p = node->outputs[1], *one = sl_constant(node->graph, node->shape, 1);
    sl_node *slope = sl_node3(SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, NULL, one, p, node->in[1]);
    ty[0] = sl_node1(SL_OP_RESHAPE, &(sl_shape_attr){.shape = node->shape}, row_sum(times(slope, tx[0])));
    ty[1] = sl_node2(SL_OP_SOFTMAX_VJP, NULL, tx[0], p);
}

/* dloss·(probabilities - [label]) */
static void jvp_cross_entropy_vjp(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    const sl_shape_attr column = {.shape = {2, {node->shape.dim[0], 1}}};
    sl_node *first =
        tx[0] ? sl_node3(SL_OP_SOFTMAX_CROSS_ENTROPY_VJP, NULL, tx[0], node->in[1], node->in[2]) : NULL;
    sl_node *second = tx[1] ? times(sl_node1(SL_OP_RESHAPE, &column, node->in[0]), tx[1]) : NULL;
    ty[0] = sl_add_nodes(first, second);
}

static bool infer_cross_entropy_vjp(sl_node *node) /* dloss, probabilities, labels */
{
    return sl_set_output(node, 0, SL_FLOAT, node->in[1]->shape);
}

/* Made by fusion. Logits, labels → mean loss [1], probabilities, samples that are right [1]; the attribute is
 * the mean's. */
static bool infer_cross_entropy_mean(sl_node *node)
{
    const sl_shape one = {1, {1}};
    sl_set_output(node, 0, SL_FLOAT, one);
    sl_set_output(node, 1, SL_FLOAT, node->in[0]->shape);
    return sl_set_output(node, 2, SL_FLOAT, one);
}

/* Cotangent of the mean, probabilities, labels → that of the logits, and its sum over the samples. */
static bool infer_cross_entropy_mean_vjp(sl_node *node)
{
    const sl_shape z = node->in[1]->shape;
    sl_set_output(node, 0, SL_FLOAT, z);
    return sl_set_output(node, 1, SL_FLOAT, (sl_shape){1, {sl_shape_last(z)}});
}

/* z, t of the same shape; or labels [n] with z [n, 1] */
static bool infer_logistic(sl_node *node)
{
    const sl_node *z = node->in[0], *t = node->in[1];
    if (sl_needs_float(node, 0)) return false;
    const bool labels = t->dtype == SL_INT && t->shape.n == 1 && z->shape.n == 2 && z->shape.dim[1] == 1 &&
                        t->shape.dim[0] == z->shape.dim[0];
    if (!labels && (t->dtype != SL_FLOAT || !sl_shape_equal(z->shape, t->shape)))
        return sl_node_fail(node, "targets must have the logits' shape, or be labels [n] for logits [n, 1]");
    return sl_set_output(node, 0, SL_FLOAT, z->shape);
}

static void vjp_logistic(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    if (wanted[0]) dx[0] = sl_node3(SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, NULL, dy[0], node->in[0], node->in[1]);
    if (wanted[1]) dx[1] = sl_affine_node(sl_node2(SL_OP_MUL, NULL, dy[0], node->in[0]), -1, 0);
}

/* softplus(z) - z·t: t may have a tangent too */
static void jvp_logistic(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_node *first =
        tx[0] ? sl_node3(SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, NULL, tx[0], node->in[0], node->in[1]) : NULL;
    ty[0] = sl_add_nodes(first, tx[1] ? sl_affine_node(times(tx[1], node->in[0]), -1, 0) : NULL);
}

/* dy·(σ(z) - t) */
static void jvp_logistic_vjp(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    const sl_activation_attr sigmoid = {.id = SL_ROW_SIGMOID};
    sl_node *dy = node->in[0], *z = node->in[1], *sum = NULL;
    if (tx[0]) sum = sl_node3(SL_OP_LOGISTIC_CROSS_ENTROPY_VJP, NULL, tx[0], z, node->in[2]);
    if (tx[1])
        sum = sl_add_nodes(sum, sl_node2(SL_OP_ACTIVATION_VJP, &sigmoid, times(dy, tx[1]),
                                         sl_node1(SL_OP_ACTIVATION, &sigmoid, z)));
    if (tx[2]) sum = sl_add_nodes(sum, sl_affine_node(times(dy, tx[2]), -1, 0));
    ty[0] = sum;
}

static const sl_sample rows[] = {
    {1, {SL_ANY(SL_BATCH, 10)}}, {1, {SL_ANY(SL_BATCH, 1)}}, {1, {SL_ANY(SL_BATCH, 2, 37)}}, {0}};

const sl_op_rules sl_rules_SOFTMAX = {
    .infer = sl_infer_same, .vjp = vjp_softmax, .jvp = jvp_softmax, .samples = rows};
const sl_op_rules sl_rules_SOFTMAX_VJP = {.infer = sl_infer_same, .jvp = jvp_softmax_vjp};
const sl_op_rules sl_rules_LOG_SOFTMAX = {
    .infer = sl_infer_same, .vjp = vjp_log_softmax, .jvp = jvp_log_softmax, .samples = rows};
const sl_op_rules sl_rules_LOG_SOFTMAX_VJP = {.infer = sl_infer_same, .jvp = jvp_log_softmax_vjp};
const sl_op_rules sl_rules_SOFTMAX_CROSS_ENTROPY = {
    .infer = infer_cross_entropy,
    .vjp = vjp_cross_entropy,
    .jvp = jvp_cross_entropy,
    .samples = (const sl_sample[]){{2, {SL_ANY(SL_BATCH, 10), SL_CLASS(10, SL_BATCH)}},
                                   {2, {SL_ANY(SL_BATCH, 3), SL_CLASS(3, SL_BATCH)}},
                                   {2, {SL_ANY(SL_BATCH, 1), SL_CLASS(1, SL_BATCH)}},
                                   {0}}};
const sl_op_rules sl_rules_SOFTMAX_CROSS_ENTROPY_VJP = {.infer = infer_cross_entropy_vjp,
                                                        .jvp = jvp_cross_entropy_vjp};
const sl_op_rules sl_rules_SOFTMAX_CROSS_ENTROPY_MEAN = {.attr_size = sizeof(sl_mean_attr),
                                                         .infer = infer_cross_entropy_mean};
const sl_op_rules sl_rules_SOFTMAX_CROSS_ENTROPY_MEAN_VJP = {.attr_size = sizeof(sl_mean_attr),
                                                             .infer = infer_cross_entropy_mean_vjp};
const sl_op_rules sl_rules_LOGISTIC_CROSS_ENTROPY = {
    .infer = infer_logistic,
    .vjp = vjp_logistic,
    .jvp = jvp_logistic,
    .samples = (const sl_sample[]){{2, {SL_ANY(SL_BATCH, 5), SL_ANY(SL_BATCH, 5)}},
                                   {2, {SL_ANY(SL_BATCH, 1), SL_CLASS(2, SL_BATCH)}},
                                   {0}}};
const sl_op_rules sl_rules_LOGISTIC_CROSS_ENTROPY_VJP = {.infer = sl_infer_same, .jvp = jvp_logistic_vjp};
