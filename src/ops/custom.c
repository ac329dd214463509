/* The user's operations: one row of ops.def for all of them; what they are stands in the attribute. */
#include "slope/custom.h"

#include "ops/ops.h"

sl_node *sl_custom(const sl_custom_op *op, const void *data, sl_node *const *in, int n_in)
{
    for (int i = 0; i < n_in; i++)
        if (!in[i]) return NULL;
    if (n_in < 1 || !sl_ok(in[0]->graph->ctx)) return NULL;
    sl_graph *graph = in[0]->graph;
    if (!op || !op->name || n_in > SL_CUSTOM_INPUTS) {
        sl_fail(graph->ctx, SL_ARGUMENT,
                "sl_custom: an operation needs a name and 1 to %d inputs, but got %d", SL_CUSTOM_INPUTS,
                n_in);
        return NULL;
    }
    const int before = graph->n;
    sl_node *y = sl_node_new(graph, SL_OP_CUSTOM, &(sl_custom_attr){op, data}, n_in, in);
    if (y) sl_node_rename(y, sl_graph_text(graph, "%s%d", op->name, before));
    return y;
}

static const sl_custom_op *op_of(const sl_node *node)
{
    return ((const sl_custom_attr *)node->attr)->op;
}

static bool infer_custom(sl_node *node)
{
    const sl_custom_attr *attr = node->attr;
    sl_shape in[SL_CUSTOM_INPUTS], out = node->in[0]->shape;
    for (int i = 0; i < node->n_in; i++) in[i] = node->in[i]->shape;
    const char *wrong = attr->op->shape ? attr->op->shape(in, node->n_in, attr->data, &out) : NULL;
    if (wrong) return sl_node_fail(node, "'%s': %s", attr->op->name, wrong);
    return sl_set_output(node, 0, SL_FLOAT, out);
}

/* A derivative must have the shape of what it belongs to, or later operations would read past its end. */
static sl_node *checked(const sl_node *node, sl_node *d, const sl_node *of, const char *mode)
{
    if (!d || sl_shape_equal(d->shape, of->shape)) return d;
    sl_fail(node->graph->ctx, SL_SHAPE, "custom operation '%s': its %s is %s where '%s' is %s",
            op_of(node)->name, mode, sl_shape_print(d->shape).text, of->name, sl_shape_print(of->shape).text);
    return NULL;
}

static void vjp_custom(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    sl_node *all[SL_CUSTOM_INPUTS] = {NULL};
    if (!op_of(node)->vjp) {
        sl_fail(node->graph->ctx, SL_UNSUPPORTED, "custom operation '%s' has no vjp", op_of(node)->name);
        return;
    }
    op_of(node)->vjp(node, dy[0], all);
    for (int i = 0; i < node->n_in; i++)
        if (wanted[i]) dx[i] = checked(node, all[i], node->in[i], "vjp");
}

static void jvp_custom(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    if (op_of(node)->jvp)
        ty[0] = checked(node, op_of(node)->jvp(node, tx), node, "jvp");
    else
        sl_fail(node->graph->ctx, SL_UNSUPPORTED, "custom operation '%s' has no jvp", op_of(node)->name);
}

/* Its samples are tests/test_custom.c's. */
const sl_op_rules sl_rules_CUSTOM = {
    .attr_size = sizeof(sl_custom_attr), .infer = infer_custom, .vjp = vjp_custom, .jvp = jvp_custom};
