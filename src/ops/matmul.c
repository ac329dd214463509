/* Products and what follows them: bias and activation. */
#include "ops/ops.h"

static bool infer_matmul(sl_node *node)
{
    const sl_matmul_attr *attr = node->attr;
    const sl_shape a = node->in[0]->shape, b = node->in[1]->shape;
    if (sl_needs_float(node, 0) || sl_needs_float(node, 1)) return false;
    if (a.n != 2 || b.n != 2) return sl_node_fail(node, "needs two matrices; flatten images first");
    const int64_t m = a.dim[attr->transpose_a], ka = a.dim[!attr->transpose_a];
    const int64_t kb = b.dim[attr->transpose_b], n = b.dim[!attr->transpose_b];
    if (ka != kb) return sl_node_fail(node, "inner sizes %lld and %lld differ", (long long)ka, (long long)kb);
    if (n == SL_BATCH) return sl_node_fail(node, "the batch dimension would not come first");
    return sl_set_output(node, 0, SL_FLOAT, (sl_shape){2, {m, n}});
}

static sl_node *product(sl_node *a, sl_node *b, bool ta, bool tb)
{
    return sl_node2(SL_OP_MATMUL, &(sl_matmul_attr){ta, tb}, a, b);
}

/* Y = op(A)·op(B): dop(A) = dY·op(B)ᵀ, dop(B) = op(A)ᵀ·dY. */
static void vjp_matmul(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    const sl_matmul_attr *attr = node->attr;
    sl_node *a = node->in[0], *b = node->in[1];
    if (wanted[0])
        dx[0] = attr->transpose_a ? product(b, dy[0], attr->transpose_b, true)
                                  : product(dy[0], b, false, !attr->transpose_b);
    if (wanted[1])
        dx[1] = attr->transpose_b ? product(dy[0], a, true, attr->transpose_a)
                                  : product(a, dy[0], !attr->transpose_a, false);
}

/* --- bias: one number for each last index, or one for all --- */

static bool fits_last(const sl_node *x, const sl_node *b)
{
    const int64_t n = sl_shape_count(b->shape);
    return b->shape.n == 1 && (n == 1 || n == sl_shape_last(x->shape)) && !sl_batched(b);
}

static bool infer_bias(sl_node *node)
{
    if (sl_needs_float(node, 0) || sl_needs_float(node, 1)) return false;
    if (!fits_last(node->in[0], node->in[1]))
        return sl_node_fail(node, "the bias must be [%lld] or [1]",
                            (long long)sl_shape_last(node->in[0]->shape));
    return sl_set_output(node, 0, SL_FLOAT, node->in[0]->shape);
}

/* Batch norm takes out what a bias in front of it adds to a channel: that gradient is 0, not the rounding
 * noise of a sum. */
static sl_node *bias_vjp(sl_node *dy, const sl_node *bias)
{
    if (dy && dy->op == SL_OP_BATCH_NORM_VJP) return sl_constant(dy->graph, bias->shape, 0);
    sl_shape_attr attr = {.shape = bias->shape};
    return sl_node1(SL_OP_BIAS_VJP, &attr, dy);
}

static void vjp_bias(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    if (wanted[0]) dx[0] = dy[0];
    if (wanted[1]) dx[1] = bias_vjp(dy[0], node->in[1]);
}

static void jvp_bias(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    const sl_shape_attr all = {.shape = node->shape};
    ty[0] = !tx[1]  ? tx[0]
            : tx[0] ? sl_node2(SL_OP_BIAS, NULL, tx[0], tx[1])
                    : sl_node1(SL_OP_BROADCAST, &all, tx[1]);
}

static bool infer_bias_vjp(sl_node *node)
{
    return !sl_needs_float(node, 0) && sl_set_output(node, 0, SL_FLOAT, ((sl_shape_attr *)node->attr)->shape);
}

static void vjp_bias_vjp(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node1(SL_OP_BROADCAST, &(sl_shape_attr){.shape = node->in[0]->shape}, dy[0]);
}

/* --- activation --- */

static bool infer_activation(sl_node *node)
{
    if (sl_needs_float(node, 0)) return false;
    for (int i = 1; i < node->n_in; i++)
        if (!fits_last(node->in[0], node->in[i]))
            return sl_node_fail(node, "%s's learned parameter must be [%lld] or [1]",
                                sl_activation_word(node->attr), (long long)sl_shape_last(node->in[0]->shape));
    return sl_set_output(node, 0, SL_FLOAT, node->in[0]->shape);
}

int sl_slope_inputs(sl_node *node, sl_node *dy, sl_node **in)
{
    const sl_activation_reads reads = sl_activation_slope_reads(node->attr);
    int n = 0;
    in[n++] = dy;
    if (reads == SL_READS_X) in[n++] = node->in[0];
    if (reads == SL_READS_Y) in[n++] = node;
    for (int i = 1; i < node->n_in; i++) in[n++] = node->in[i];
    return n;
}

static void vjp_activation(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    sl_node *in[SL_MAX_SLOPE_INPUTS];
    const int n = sl_slope_inputs(node, dy[0], in);
    if (wanted[0]) dx[0] = sl_node_new(node->graph, SL_OP_ACTIVATION_VJP, node->attr, n, in);
    sl_activation_attr attr = *(sl_activation_attr *)node->attr;
    for (attr.parameter = 0; attr.parameter < node->n_in - 1; attr.parameter++)
        if (wanted[1 + attr.parameter])
            dx[1 + attr.parameter] = sl_node_new(node->graph, SL_OP_ACTIVATION_VJP_PARAMETER, &attr, n, in);
}

/* tx·f' + Σ over the learned parameters of t·∂f/∂a */
static void jvp_activation(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    const sl_shape_attr all = {.shape = node->shape};
    sl_activation_attr attr = *(sl_activation_attr *)node->attr;
    sl_node *in[SL_MAX_SLOPE_INPUTS];
    if (tx[0])
        ty[0] = sl_node_new(node->graph, SL_OP_ACTIVATION_VJP, &attr, sl_slope_inputs(node, tx[0], in), in);
    for (attr.parameter = 0; attr.parameter < node->n_in - 1; attr.parameter++) {
        if (!tx[1 + attr.parameter]) continue;
        sl_node *t = sl_node1(SL_OP_BROADCAST, &all, tx[1 + attr.parameter]);
        const int n = sl_slope_inputs(node, t, in);
        ty[0] = sl_add_nodes(ty[0], sl_node_new(node->graph, SL_OP_ACTIVATION_JVP_PARAMETER, &attr, n, in));
    }
}

static bool infer_vjp_parameter(sl_node *node)
{
    const sl_activation_attr *attr = node->attr;
    const int learned = attr->formula ? attr->formula->n_parameters : 1;
    return sl_set_output(node, 0, SL_FLOAT, node->in[node->n_in - learned + attr->parameter]->shape);
}

/* --- fused --- */

static bool infer_fused_tail(sl_node *node, sl_shape y)
{
    for (int k = 0; k < 2; k++) sl_set_output(node, k, SL_FLOAT, y);
    return true;
}

static bool infer_matmul_fused(sl_node *node)
{
    const sl_matmul_attr *attr = &((sl_matmul_fused_attr *)node->attr)->matmul;
    const sl_shape a = node->in[0]->shape, b = node->in[1]->shape;
    return infer_fused_tail(node, (sl_shape){2, {a.dim[attr->transpose_a], b.dim[!attr->transpose_b]}});
}

static bool infer_bias_activation(sl_node *node)
{
    return infer_fused_tail(node, node->in[0]->shape);
}

static bool infer_activation_vjp_bias(sl_node *node)
{
    const sl_shape x = node->in[0]->shape;
    sl_set_output(node, 0, SL_FLOAT, x);
    return sl_set_output(node, 1, SL_FLOAT, (sl_shape){1, {sl_shape_last(x)}});
}

static const sl_sample products[] = {
    {2, {SL_ANY(SL_BATCH, 5), SL_ANY(5, 7)}, &(sl_matmul_attr){false, false}},
    {2, {SL_ANY(1, 1), SL_ANY(1, 1)}, &(sl_matmul_attr){false, false}},
    {2, {SL_ANY(SL_BATCH, 513), SL_ANY(513, 33)}, &(sl_matmul_attr){false, false}},
    {2, {SL_ANY(SL_BATCH, 37), SL_ANY(SL_BATCH, 17)}, &(sl_matmul_attr){true, false}},
    {2, {SL_ANY(SL_BATCH, 10), SL_ANY(130, 10)}, &(sl_matmul_attr){false, true}},
    {2, {SL_ANY(6, 3), SL_ANY(5, 6)}, &(sl_matmul_attr){true, true}},
    {0},
};
static const sl_sample biases[] = {{2, {SL_ANY(SL_BATCH, 5), SL_ANY(5)}},
                                   {2, {SL_ANY(SL_BATCH, 3, 3, 70), SL_ANY(70)}},
                                   {2, {SL_ANY(SL_BATCH, 9), SL_ANY(1)}},
                                   {0}};
static const sl_sample bias_sums[] = {
    {1, {SL_ANY(SL_BATCH, 5)}, &(sl_shape_attr){.shape = SL_SHAPE_(5)}},
    {1, {SL_ANY(SL_BATCH, 21, 21, 3)}, &(sl_shape_attr){.shape = SL_SHAPE_(3)}},
    {1, {SL_ANY(SL_BATCH, 9)}, &(sl_shape_attr){.shape = SL_SHAPE_(1)}},
    {0}};

const sl_op_rules sl_rules_MATMUL = {.attr_size = sizeof(sl_matmul_attr),
                                     .infer = infer_matmul,
                                     .vjp = vjp_matmul,
                                     .jvp = sl_jvp_bilinear,
                                     .samples = products};
const sl_op_rules sl_rules_BIAS = {.infer = infer_bias, .vjp = vjp_bias, .jvp = jvp_bias, .samples = biases};
const sl_op_rules sl_rules_BIAS_VJP = {.attr_size = sizeof(sl_shape_attr),
                                       .infer = infer_bias_vjp,
                                       .vjp = vjp_bias_vjp,
                                       .jvp = sl_jvp_linear,
                                       .samples = bias_sums};
/* Their samples come from activations.def: see tests/test_activation_ops.c. */
const sl_op_rules sl_rules_ACTIVATION = {.attr_size = sizeof(sl_activation_attr),
                                         .infer = infer_activation,
                                         .vjp = vjp_activation,
                                         .jvp = jvp_activation};
const sl_op_rules sl_rules_ACTIVATION_VJP = {.attr_size = sizeof(sl_activation_attr), .infer = sl_infer_same};
const sl_op_rules sl_rules_ACTIVATION_JVP_PARAMETER = {.attr_size = sizeof(sl_activation_attr),
                                                       .infer = sl_infer_same};
const sl_op_rules sl_rules_ACTIVATION_VJP_PARAMETER = {.attr_size = sizeof(sl_activation_attr),
                                                       .infer = infer_vjp_parameter};
const sl_op_rules sl_rules_MATMUL_BIAS_ACTIVATION = {.attr_size = sizeof(sl_matmul_fused_attr),
                                                     .infer = infer_matmul_fused};
const sl_op_rules sl_rules_BIAS_ACTIVATION = {.attr_size = sizeof(sl_activation_attr),
                                              .infer = infer_bias_activation};
const sl_op_rules sl_rules_ACTIVATION_VJP_BIAS = {.attr_size = sizeof(sl_activation_attr),
                                                  .infer = infer_activation_vjp_bias};
