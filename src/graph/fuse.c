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

static const sl_activation_attr identity = {.id = SL_ROW_LINEAR, .a = 1};

/* True where the activation can be done with what makes its argument: kernels take one learned parameter. */
static bool can_follow(const sl_node *activation)
{
    return activation->n_in <= 2 && (activation->n_in < 2 || is_leaf(activation->in[1]));
}

/* product → bias → activation, at the bias. The value before the activation stays available as output 1. */
static sl_node *fuse_product(sl_plan *plan, sl_node *bias, const int *count)
{
    sl_node *product = bias->in[0];
    const bool conv = product->op == SL_OP_CONV2D;
    if ((product->op != SL_OP_MATMUL && !conv) || count[product->id] != 1 || !is_leaf(bias->in[1]))
        return NULL;
    sl_node *activation = only_consumer(plan, bias, SL_OP_ACTIVATION);
    if (activation && !can_follow(activation)) activation = NULL;
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
    if (!activation || !can_follow(activation)) return NULL;
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

static sl_node *only_user(const sl_plan *plan, const sl_node *node, const int *count, sl_op op)
{
    return count[node->id] == 1 ? only_consumer(plan, node, op) : NULL;
}

/* The one node `op` that reads a and b as its first inputs; NULL: none, or several. */
static sl_node *consumer_of_both(const sl_plan *plan, const sl_node *a, const sl_node *b, sl_op op)
{
    sl_node *found = only_consumer(plan, a, op);
    return found && found->in[1] == b ? found : NULL;
}

/* cross-entropy → mean, and the count of right samples, at the cross-entropy. */
static sl_node *fuse_loss(sl_plan *plan, sl_node *loss, const int *count)
{
    sl_node *mean = only_user(plan, loss, count, SL_OP_MEAN);
    if (!mean) return NULL;
    sl_node *node = fused(plan, SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN, mean->attr, loss->n_in, loss->in, loss);
    if (!node) return NULL;
    sl_node *right = consumer_of_both(plan, loss->in[0], loss->in[1], SL_OP_COUNT_CORRECT);
    replace(plan, mean, node);
    replace(plan, loss->outputs[1], node->outputs[1]);
    if (right) replace(plan, right, node->outputs[2]);
    return node;
}

/* mean's gradient → cross-entropy's gradient → bias gradient, at the cross-entropy's. */
static sl_node *fuse_loss_gradient(sl_plan *plan, sl_node *slope, const int *count)
{
    sl_node *mean = slope->in[0];
    if (mean->op != SL_OP_MEAN_VJP || count[mean->id] != 1) return NULL;
    sl_node *in[3] = {mean->in[0], slope->in[1], slope->in[2]};
    sl_node *node = fused(plan, SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP, mean->attr, 3, in, slope);
    if (!node) return NULL;
    sl_node *sum = only_consumer(plan, slope, SL_OP_BIAS_VJP);
    replace(plan, slope, node);
    if (sum && sl_shape_equal(sum->shape, node->outputs[1]->shape)) replace(plan, sum, node->outputs[1]);
    return node;
}

/* What batch norm's value feeds in the forward and in the backward pass, where it feeds nothing else: an
 * activation, and its slope on the way into the norm's own gradient. */
typedef struct norm_chain {
    sl_node *activation, *slope, *gradient; /* the last two NULL where nothing is differentiated */
} norm_chain;

static bool norm_chain_of(const sl_plan *plan, const sl_node *norm, const int *count, norm_chain *chain)
{
    *chain = (norm_chain){.activation = only_consumer(plan, norm, SL_OP_ACTIVATION)};
    if (!chain->activation || chain->activation->n_in > 1) return false;
    for (int i = 0; i < plan->n_order && !chain->gradient; i++) {
        sl_node *node = plan->order[i];
        if (node->op == SL_OP_BATCH_NORM_VJP && node->in[3] == norm->outputs[1]) chain->gradient = node;
    }
    int uses = 1;
    if (chain->gradient) {
        sl_node *slope = chain->slope = chain->gradient->in[0];
        if (slope->op != SL_OP_ACTIVATION_VJP || count[slope->id] != 1) return false;
        if (slope->n_in > 1 && slope->in[1] != norm && slope->in[1] != chain->activation) return false;
        uses += slope->n_in > 1 && slope->in[1] == norm;
    }
    return count[norm->id] == uses;
}

/* batch norm → activation, forward and backward; the slope finds the value between the two again. */
static sl_node *fuse_norm(sl_plan *plan, sl_node *norm, const int *count)
{
    norm_chain chain;
    if (!norm_chain_of(plan, norm, count, &chain)) return NULL;
    sl_batch_norm_attr attr = *(sl_batch_norm_attr *)norm->attr;
    attr.activated = true;
    attr.activation = *(sl_activation_attr *)chain.activation->attr;
    sl_node *node = fused(plan, SL_OP_BATCH_NORM, &attr, norm->n_in, norm->in, norm);
    if (!node) return NULL;
    if (chain.gradient) {
        sl_node *const *old = chain.gradient->in;
        sl_node *in[6] = {chain.slope->in[0], old[1], old[2], old[3], old[4], norm->in[2]};
        sl_node *gradient = fused(plan, SL_OP_BATCH_NORM_VJP, &attr, 6, in, chain.gradient);
        if (!gradient) return NULL;
        for (int k = 0; k < 3; k++) replace(plan, chain.gradient->outputs[k], gradient->outputs[k]);
    }
    replace(plan, chain.activation, node);
    for (int k = 1; k < 3; k++) replace(plan, norm->outputs[k], node->outputs[k]);
    return node;
}

/* batch norm → its running statistics, at the latter: an effect of the norm itself. */
static sl_node *fuse_tracking(sl_plan *plan, sl_node *track, const int *count)
{
    (void)count;
    sl_node *norm = track->in[0]->op == SL_OP_OUTPUT ? track->in[0]->in[0] : NULL;
    if (!norm || norm->op != SL_OP_BATCH_NORM) return NULL;
    ((sl_batch_norm_attr *)norm->attr)->tracks = true;
    int kept = 0;
    for (int i = 0; i < plan->n_roots; i++)
        if (plan->roots[i] != track) plan->roots[kept++] = plan->roots[i];
    plan->n_roots = kept;
    return norm;
}

/* What pooling feeds in the backward pass: its own gradient, and behind that the slope with the bias
 * gradient. False where it feeds something else. */
static bool pool_chain_of(const sl_plan *plan, const sl_node *pool, const int *count, sl_node **spread,
                          sl_node **slope)
{
    const sl_node *taps = pool->outputs[1];
    *spread = *slope = NULL;
    for (int i = 0; i < plan->n_order && !*spread; i++)
        if (plan->order[i]->op == SL_OP_MAX_POOL2D_VJP && plan->order[i]->in[1] == taps)
            *spread = plan->order[i];
    if (*spread) *slope = only_user(plan, *spread, count, SL_OP_ACTIVATION_VJP_BIAS);
    return count[taps->id] == (*slope != NULL);
}

/* Every second pixel of both axes starts a window of 2 × 2, and the windows cover all pixels. */
static bool halves(const sl_node *pool)
{
    const sl_pool_attr *attr = pool->attr;
    const int64_t *size = pool->in[0]->shape.dim;
    for (int i = 0; i < 2; i++)
        if (attr->kernel[i] != 2 || attr->stride[i] != 2 || attr->pad[i] != 0 || size[1 + i] % 2 != 0)
            return false;
    return true;
}

/* convolution + bias + activation → largest of every 2 × 2 pixels, and its gradient → slope + bias gradient,
 * at the pooling. The gradient reads x in front of the activation, or y behind the pooling. */
static sl_node *fuse_pool(sl_plan *plan, sl_node *pool, const int *count)
{
    sl_node *conv = pool->in[0], *spread, *slope;
    if (plan->options.reference_kernels) return NULL; /* it has none */
    if (conv->op != SL_OP_CONV2D_BIAS_ACTIVATION || !halves(pool) ||
        !pool_chain_of(plan, pool, count, &spread, &slope))
        return NULL;
    const sl_node *at = slope && slope->n_in > 1 ? slope->in[1] : NULL, *x = conv->outputs[1];
    if (slope && (slope->n_in > 2 || (at && at != conv && at != x))) return NULL;
    if (count[conv->id] != 1 + (at == conv) || count[x->id] != (at == x)) return NULL;
    sl_node *node = fused(plan, SL_OP_CONV2D_BIAS_ACTIVATION_POOL, conv->attr, conv->n_in, conv->in, pool);
    if (!node || !sl_plan_supports(plan, node)) return NULL;
    if (slope) {
        sl_node *in[3] = {spread->in[0], node->outputs[1], at == x ? node->outputs[2] : node};
        sl_node *gradient = fused(plan, SL_OP_POOL_ACTIVATION_VJP_BIAS, slope->attr, at ? 3 : 2, in, slope);
        if (!gradient) return NULL;
        gradient->outputs[1]->shape = slope->outputs[1]->shape;
        if (!sl_plan_supports(plan, gradient)) return NULL;
        sl_node_rename(gradient->outputs[1], slope->outputs[1]->name);
        for (int k = 0; k < 2; k++) replace(plan, slope->outputs[k], gradient->outputs[k]);
    }
    sl_node_rename(node->outputs[1], pool->outputs[1]->name);
    sl_node_rename(node->outputs[2], x->name);
    replace(plan, pool, node);
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
    {"cross-entropy + mean + right samples",
     SL_OP_SOFTMAX_CROSS_ENTROPY,
     {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN, SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP},
     fuse_loss},
    {"gradients of mean and cross-entropy + bias gradient",
     SL_OP_SOFTMAX_CROSS_ENTROPY_VJP,
     {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP, SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP},
     fuse_loss_gradient},
    {"batch norm + activation", SL_OP_BATCH_NORM, {SL_OP_BATCH_NORM, SL_OP_BATCH_NORM_VJP}, fuse_norm},
    {"batch norm + running statistics",
     SL_OP_BATCH_NORM_TRACK,
     {SL_OP_BATCH_NORM, SL_OP_BATCH_NORM},
     fuse_tracking},
    {"convolution + bias + activation + pooling",
     SL_OP_MAX_POOL2D,
     {SL_OP_CONV2D_BIAS_ACTIVATION_POOL, SL_OP_POOL_ACTIVATION_VJP_BIAS},
     fuse_pool},
};

bool sl_plan_fuse(sl_plan *plan)
{
    plan->fusions = sl_new(plan->ctx, (size_t)plan->n_order, sizeof *plan->fusions, "the list of fusions");
    /* Fusing adds at most three nodes for each old one. */
    int *count = sl_new(plan->ctx, (size_t)plan->graph->n * 4 + 16, sizeof *count, "use counts");
    bool good = plan->fusions && count;
    for (size_t row = 0; row < sizeof table / sizeof *table && good; row++) {
        if (!sl_find_kernel(plan->ctx, table[row].needs[0]) ||
            !sl_find_kernel(plan->ctx, table[row].needs[1]))
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
