/* Fusion: a table of patterns over the nodes of a plan. Each replaces a few nodes by one that does the same.
 */
#include <stdlib.h>

#include "graph/plan.h"

static void count_uses(const sl_plan *plan, int *count)
{
    for (int id = 0; id < plan->graph->n; id++) count[id] = 0;
    for (int i = 0; i < plan->n_order; i++) {
        const sl_node *node = plan->order[i];
        if (node->op == SL_OP_OUTPUT) continue;
        for (int k = 0; k < node->n_in; k++) count[node->in[k]->id]++;
    }
    for (int i = 0; i < plan->n_roots; i++) count[plan->roots[i]->id]++;
}

static void replace(sl_plan *plan, sl_node *old, sl_node *by)
{
    old->fused_into = by;
    for (int id = 0; id < plan->graph->n; id++) {
        sl_node *node = plan->graph->nodes[id];
        if (node == by || (node->op == SL_OP_OUTPUT && node->in[0] == by)) continue;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] == old && node->op != SL_OP_OUTPUT) node->in[k] = by;
    }
    for (int i = 0; i < plan->n_roots; i++)
        if (plan->roots[i] == old) plan->roots[i] = by;
}

static sl_node *only_consumer(const sl_plan *plan, const sl_node *node, sl_op op)
{
    sl_node *found = NULL;
    for (int i = 0; i < plan->n_order; i++) {
        sl_node *user = plan->order[i];
        if (user->op != op || user->in[0] != node) continue;
        if (found) return NULL;
        found = user;
    }
    return found;
}

static bool is_leaf(const sl_node *node)
{
    return (sl_op_flags(node->op) & SL_FLAG_LEAF) && node->op != SL_OP_OUTPUT;
}

static sl_node *fused(sl_plan *plan, sl_op op, const void *attr, int n_in, sl_node *const *in,
                      const sl_node *place)
{
    sl_node *node = sl_node_new(plan->graph, op, attr, n_in, in);
    if (!node) return NULL;
    for (int k = 0; k < node->n_out; k++) node->outputs[k]->rank = place->rank;
    sl_node_rename(node, place->name);
    return node;
}

static const sl_activation_attr identity = {SL_ROW_LINEAR, 1, 0};

/* product → bias → activation, at the bias. The value before the activation stays available as output 1. */
static sl_node *fuse_product(sl_plan *plan, sl_node *bias, const int *count)
{
    sl_node *product = bias->in[0];
    const bool conv = product->op == SL_OP_CONV2D;
    if ((product->op != SL_OP_MATMUL && !conv) || count[product->id] != 1 || !is_leaf(bias->in[1]))
        return NULL;
    sl_node *activation = only_consumer(plan, bias, SL_OP_ACTIVATION);
    if (activation && activation->n_in > 1 && !is_leaf(activation->in[1])) activation = NULL;
    sl_node *in[4] = {product->in[0], product->in[1], bias->in[1], NULL};
    int n_in = 3;
    if (activation && activation->n_in > 1) in[n_in++] = activation->in[1];
    const sl_activation_attr act = activation ? *(sl_activation_attr *)activation->attr : identity;
    sl_node *node = NULL;
    if (conv) {
        const sl_conv_fused_attr attr = {*(sl_conv_attr *)product->attr, act};
        node = fused(plan, SL_OP_CONV2D_BIAS_ACTIVATION, &attr, n_in, in, product);
    } else {
        const sl_matmul_fused_attr attr = {*(sl_matmul_attr *)product->attr, act};
        node = fused(plan, SL_OP_MATMUL_BIAS_ACTIVATION, &attr, n_in, in, product);
    }
    if (!node) return NULL;
    if (activation) {
        replace(plan, activation, node);
        replace(plan, bias, node->outputs[1]);
    } else {
        replace(plan, bias, node);
    }
    return node;
}

/* bias → activation behind something else than a product, at the bias. */
static sl_node *fuse_bias_activation(sl_plan *plan, sl_node *bias, const int *count)
{
    (void)count;
    sl_node *activation = only_consumer(plan, bias, SL_OP_ACTIVATION);
    if (!activation || (activation->n_in > 1 && !is_leaf(activation->in[1]))) return NULL;
    sl_node *in[3] = {bias->in[0], bias->in[1], activation->n_in > 1 ? activation->in[1] : NULL};
    sl_node *node = fused(plan, SL_OP_BIAS_ACTIVATION, activation->attr, 1 + activation->n_in, in, bias);
    if (!node) return NULL;
    replace(plan, activation, node);
    replace(plan, bias, node->outputs[1]);
    return node;
}

/* slope → bias gradient, at the slope. */
static sl_node *fuse_slope_bias(sl_plan *plan, sl_node *slope, const int *count)
{
    (void)count;
    sl_node *sum = only_consumer(plan, slope, SL_OP_BIAS_VJP);
    if (!sum) return NULL;
    /* The shape of the bias gradient is the bias's own: [1] or [channels]. */
    sl_node *node = sl_node_new(plan->graph, SL_OP_ACTIVATION_VJP_BIAS, slope->attr, slope->n_in, slope->in);
    if (!node) return NULL;
    node->outputs[1]->shape = sum->shape;
    for (int k = 0; k < 2; k++) node->outputs[k]->rank = slope->rank;
    sl_node_rename(node, slope->name);
    replace(plan, slope, node);
    replace(plan, sum, node->outputs[1]);
    return node;
}

static const struct fusion {
    const char *name;
    sl_op at, needs[2];
    sl_node *(*apply)(sl_plan *plan, sl_node *node, const int *count);
} table[] = {
    {"product + bias + activation",
     SL_OP_BIAS,
     {SL_OP_MATMUL_BIAS_ACTIVATION, SL_OP_CONV2D_BIAS_ACTIVATION},
     fuse_product},
    {"bias + activation", SL_OP_BIAS, {SL_OP_BIAS_ACTIVATION, SL_OP_BIAS_ACTIVATION}, fuse_bias_activation},
    {"slope + bias gradient",
     SL_OP_ACTIVATION_VJP,
     {SL_OP_ACTIVATION_VJP_BIAS, SL_OP_ACTIVATION_VJP_BIAS},
     fuse_slope_bias},
};

bool sl_plan_fuse(sl_plan *plan)
{
    plan->fusions = sl_new(plan->ctx, (size_t)plan->n_order, sizeof *plan->fusions, "the list of fusions");
    /* Fusing adds at most three nodes for each old one. */
    int *count = sl_new(plan->ctx, (size_t)plan->graph->n * 4 + 16, sizeof *count, "use counts");
    bool good = plan->fusions && count;
    for (size_t row = 0; row < sizeof table / sizeof *table && good; row++) {
        if (!sl_has_kernel(plan->ctx, table[row].needs[0]) || !sl_has_kernel(plan->ctx, table[row].needs[1]))
            continue;
        count_uses(plan, count);
        const int n = plan->n_order;
        for (int i = 0; i < n && sl_ok(plan->ctx); i++) {
            sl_node *node = plan->order[i];
            if (node->op != table[row].at) continue;
            const char *name = node->name;
            const sl_node *made = table[row].apply(plan, node, count);
            if (made) plan->fusions[plan->n_fusions++] = (sl_fusion_note){table[row].name, name};
        }
        good = sl_plan_collect(plan);
    }
    free(count);
    return good && sl_ok(plan->ctx);
}
