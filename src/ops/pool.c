/* Pooling over windows: x [n, h, w, c]. */
#include "ops/ops.h"

static bool pooled_shape(sl_node *node, sl_shape *y)
{
    const sl_pool_attr *attr = node->attr;
    const sl_shape x = node->in[0]->shape;
    if (sl_needs_float(node, 0)) return false;
    if (x.n != 4) return sl_node_fail(node, "needs images [n, height, width, channels]");
    *y = x;
    for (int i = 0; i < 2; i++) {
        const int64_t room = x.dim[1 + i] + 2 * attr->pad[i] - attr->kernel[i];
        if (room < 0)
            return sl_node_fail(node, "a %d×%d window does not fit %lld×%lld images", attr->kernel[0],
                                attr->kernel[1], (long long)x.dim[1], (long long)x.dim[2]);
        if (2 * attr->pad[i] > attr->kernel[i])
            return sl_node_fail(node, "padding %d is more than half of the window %d", attr->pad[i],
                                attr->kernel[i]);
        y->dim[1 + i] = room / attr->stride[i] + 1;
    }
    return true;
}

static bool infer_max_pool(sl_node *node)
{
    sl_shape y;
    if (!pooled_shape(node, &y)) return false;
    sl_set_output(node, 0, SL_FLOAT, y);
    return sl_set_output(node, 1, SL_INT, y);
}

static bool infer_avg_pool(sl_node *node)
{
    sl_shape y;
    return pooled_shape(node, &y) && sl_set_output(node, 0, SL_FLOAT, y);
}

static bool infer_pool_vjp(sl_node *node)
{
    const sl_pool_attr *attr = node->attr;
    const sl_shape dy = node->in[0]->shape;
    return sl_set_output(node, 0, SL_FLOAT,
                         (sl_shape){4, {dy.dim[0], attr->size[0], attr->size[1], dy.dim[3]}});
}

static sl_pool_attr with_size(const sl_node *node)
{
    sl_pool_attr attr = *(sl_pool_attr *)node->attr;
    for (int i = 0; i < 2; i++) attr.size[i] = (int)node->in[0]->shape.dim[1 + i];
    return attr;
}

static void vjp_max_pool(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    const sl_pool_attr attr = with_size(node);
    if (dy[0]) dx[0] = sl_node2(SL_OP_MAX_POOL2D_VJP, &attr, dy[0], node->outputs[1]);
}

/* The tangents of the elements that won. */
static void jvp_max_pool(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    ty[0] = sl_node2(SL_OP_MAX_POOL2D_JVP, node->attr, tx[0], node->outputs[1]);
}

static void vjp_avg_pool(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    const sl_pool_attr attr = with_size(node);
    dx[0] = sl_node1(SL_OP_AVG_POOL2D_VJP, &attr, dy[0]);
}

static void vjp_avg_pool_vjp(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node1(SL_OP_AVG_POOL2D, node->attr, dy[0]);
}

static const sl_pool_attr two = {{2, 2}, {2, 2}, {0, 0}, {0, 0}};
static const sl_pool_attr overlapping = {{3, 2}, {2, 1}, {1, 1}, {0, 0}};
static const sl_pool_attr whole = {{5, 4}, {1, 1}, {0, 0}, {0, 0}};
static const sl_pool_attr back_two = {{2, 2}, {2, 2}, {0, 0}, {7, 6}};

static const sl_sample samples[] = {
    {1, {SL_DISTINCT(SL_BATCH, 7, 6, 3)}, &two},
    {1, {SL_DISTINCT(SL_BATCH, 5, 4, 9)}, &overlapping},
    {1, {SL_DISTINCT(SL_BATCH, 5, 4, 2)}, &whole},
    {1, {SL_DISTINCT(SL_BATCH, 2, 2, 1)}, &two},
    {0},
};

const sl_op_rules sl_rules_MAX_POOL2D = {.attr_size = sizeof(sl_pool_attr),
                                         .infer = infer_max_pool,
                                         .vjp = vjp_max_pool,
                                         .jvp = jvp_max_pool,
                                         .samples = samples};
const sl_op_rules sl_rules_MAX_POOL2D_VJP = {
    .attr_size = sizeof(sl_pool_attr), .infer = infer_pool_vjp, .jvp = sl_jvp_linear};
const sl_op_rules sl_rules_MAX_POOL2D_JVP = {
    .attr_size = sizeof(sl_pool_attr), .infer = infer_avg_pool, .jvp = sl_jvp_linear};
const sl_op_rules sl_rules_AVG_POOL2D = {.attr_size = sizeof(sl_pool_attr),
                                         .infer = infer_avg_pool,
                                         .vjp = vjp_avg_pool,
                                         .jvp = sl_jvp_linear,
                                         .samples = samples};
const sl_op_rules sl_rules_AVG_POOL2D_VJP = {
    .attr_size = sizeof(sl_pool_attr),
    .infer = infer_pool_vjp,
    .vjp = vjp_avg_pool_vjp,
    .jvp = sl_jvp_linear,
    .samples = (const sl_sample[]){{1, {SL_ANY(SL_BATCH, 3, 3, 5)}, &back_two}, {0}}};
