/* Operations about shape and memory: fill, broadcast, reshape, pack, random. */
#include "ops/ops.h"

static bool infer_attr_shape(sl_node *node)
{
    return sl_set_output(node, 0, SL_FLOAT, ((sl_shape_attr *)node->attr)->shape);
}

static bool infer_random(sl_node *node)
{
    return sl_set_output(node, 0, SL_FLOAT, ((sl_random_attr *)node->attr)->shape);
}

sl_node *sl_constant(sl_graph *graph, sl_shape shape, double value)
{
    return sl_node_new(graph, SL_OP_FILL, &(sl_shape_attr){shape, value}, 0, NULL);
}

static bool infer_broadcast(sl_node *node)
{
    const sl_shape x = node->in[0]->shape, y = ((sl_shape_attr *)node->attr)->shape;
    bool fits = x.n <= y.n;
    for (int i = 1; i <= x.n && fits; i++) fits = x.dim[x.n - i] == y.dim[y.n - i] || x.dim[x.n - i] == 1;
    if (!fits) return sl_node_fail(node, "cannot be broadcast to %s", sl_shape_print(y).text);
    return !sl_needs_float(node, 0) && sl_set_output(node, 0, SL_FLOAT, y);
}

static void vjp_broadcast(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_unbroadcast(dy[0], node->in[0]);
}

static bool infer_reshape(sl_node *node)
{
    const sl_shape y = ((sl_shape_attr *)node->attr)->shape;
    const bool batch = y.n > 0 && y.dim[0] == SL_BATCH;
    if (batch != sl_batched(node->in[0]) || sl_shape_count(y) != sl_shape_count(node->in[0]->shape))
        return sl_node_fail(node, "cannot be reshaped to %s: the number of elements differs",
                            sl_shape_print(y).text);
    return sl_set_output(node, 0, node->in[0]->dtype, y);
}

static void vjp_reshape(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node1(SL_OP_RESHAPE, &(sl_shape_attr){.shape = node->in[0]->shape}, dy[0]);
}

/* The inputs one behind another, each at a multiple of SL_ALIGN elements; the gaps are not touched. */
static bool infer_pack(sl_node *node)
{
    int64_t count = 0;
    for (int i = 0; i < node->n_in; i++) {
        if (sl_batched(node->in[i])) return sl_node_fail(node, "'%s' is batched", node->in[i]->name);
        count += sl_packed_count(&node->in[i]->shape, 1);
    }
    return sl_set_output(node, 0, SL_FLOAT, (sl_shape){1, {count}});
}

const sl_op_rules sl_rules_FILL = {
    .attr_size = sizeof(sl_shape_attr), .infer = infer_attr_shape, .samples = (const sl_sample[]){{0}}};
const sl_op_rules sl_rules_RANDOM = {.attr_size = sizeof(sl_random_attr), .infer = infer_random};
const sl_op_rules sl_rules_BROADCAST = {
    .attr_size = sizeof(sl_shape_attr),
    .infer = infer_broadcast,
    .vjp = vjp_broadcast,
    .jvp = sl_jvp_linear,
    .samples = (const sl_sample[]){
        {1, {SL_ANY(1)}, &(sl_shape_attr){.shape = SL_SHAPE_(3, 5)}},
        {1, {SL_ANY(4, 1)}, &(sl_shape_attr){.shape = SL_SHAPE_(2, 4, 9)}},
        {1, {SL_ANY(SL_BATCH, 1, 3)}, &(sl_shape_attr){.shape = SL_SHAPE_(SL_BATCH, 7, 3)}},
        {0}}};
const sl_op_rules sl_rules_RESHAPE = {
    .attr_size = sizeof(sl_shape_attr),
    .infer = infer_reshape,
    .vjp = vjp_reshape,
    .jvp = sl_jvp_linear,
    .samples = (const sl_sample[]){
        {1, {SL_ANY(SL_BATCH, 2, 3)}, &(sl_shape_attr){.shape = SL_SHAPE_(SL_BATCH, 6)}}, {0}}};
const sl_op_rules sl_rules_PACK = {
    .infer = infer_pack, .samples = (const sl_sample[]){{3, {SL_ANY(16), SL_ANY(4, 8), SL_ANY(48)}}, {0}}};
