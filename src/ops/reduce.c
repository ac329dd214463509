/* Reductions. */
#include "ops/ops.h"

static bool infer_sum_to(sl_node *node)
{
    const sl_shape x = node->in[0]->shape, y = ((sl_shape_attr *)node->attr)->shape;
    bool fits = y.n <= x.n;
    for (int i = 1; i <= y.n && fits; i++) fits = x.dim[x.n - i] == y.dim[y.n - i] || y.dim[y.n - i] == 1;
    if (!fits) return sl_node_fail(node, "cannot be summed to %s", sl_shape_print(y).text);
    return !sl_needs_float(node, 0) && sl_set_output(node, 0, SL_FLOAT, y);
}

static void vjp_sum_to(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node1(SL_OP_BROADCAST, &(sl_shape_attr){.shape = node->in[0]->shape}, dy[0]);
}

static bool infer_scalar(sl_node *node)
{
    return !sl_needs_float(node, 0) && sl_set_output(node, 0, SL_FLOAT, (sl_shape){1, {1}});
}

static void vjp_mean(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    sl_mean_attr attr = *(sl_mean_attr *)node->attr;
    attr.shape = node->in[0]->shape;
    dx[0] = sl_node1(SL_OP_MEAN_VJP, &attr, dy[0]);
}

static bool infer_mean_vjp(sl_node *node)
{
    return sl_set_output(node, 0, SL_FLOAT, ((sl_mean_attr *)node->attr)->shape);
}

static void vjp_mean_vjp(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node1(SL_OP_MEAN, node->attr, dy[0]);
}

static bool infer_count_correct(sl_node *node)
{
    const sl_node *scores = node->in[0], *labels = node->in[1];
    if (scores->shape.n != 2 || labels->dtype != SL_INT || labels->shape.n != 1 ||
        labels->shape.dim[0] != scores->shape.dim[0])
        return sl_node_fail(node, "needs scores [n, classes] and labels [n]");
    return sl_set_output(node, 0, SL_FLOAT, (sl_shape){1, {1}});
}

const sl_op_rules sl_rules_SUM_TO = {
    .attr_size = sizeof(sl_shape_attr),
    .infer = infer_sum_to,
    .vjp = vjp_sum_to,
    .jvp = sl_jvp_linear,
    .samples = (const sl_sample[]){{1, {SL_ANY(3, 5)}, &(sl_shape_attr){.shape = SL_SHAPE_(1)}},
                                   {1, {SL_ANY(SL_BATCH, 4, 9)}, &(sl_shape_attr){.shape = SL_SHAPE_(9)}},
                                   {1, {SL_ANY(2, 4, 1, 9)}, &(sl_shape_attr){.shape = SL_SHAPE_(4, 1, 1)}},
                                   {1, {SL_ANY(1100, 3)}, &(sl_shape_attr){.shape = SL_SHAPE_(1, 3)}},
                                   {0}}};
const sl_op_rules sl_rules_MEAN = {
    .attr_size = sizeof(sl_mean_attr),
    .infer = infer_scalar,
    .vjp = vjp_mean,
    .jvp = sl_jvp_linear,
    .samples = (const sl_sample[]){{1, {SL_ANY(SL_BATCH, 4, 9)}, &(sl_mean_attr){false, {0}}},
                                   {1, {SL_ANY(SL_BATCH, 700)}, &(sl_mean_attr){true, {0}}},
                                   {1, {SL_ANY(1)}, &(sl_mean_attr){false, {0}}},
                                   {0}}};
const sl_op_rules sl_rules_MEAN_VJP = {
    .attr_size = sizeof(sl_mean_attr),
    .infer = infer_mean_vjp,
    .vjp = vjp_mean_vjp,
    .jvp = sl_jvp_linear,
    .samples = (const sl_sample[]){{1, {SL_ANY(1)}, &(sl_mean_attr){false, SL_SHAPE_(SL_BATCH, 4, 9)}},
                                   {1, {SL_ANY(1)}, &(sl_mean_attr){true, SL_SHAPE_(SL_BATCH, 7)}},
                                   {0}}};
/* y and what the activation's slope reads beside dy → mean, standard deviation, share of elements with
 * |slope| >= 0.01, share of units with slope 0 throughout */
static bool infer_statistics(sl_node *node)
{
    return sl_set_output(node, 0, SL_FLOAT, (sl_shape){1, {4}});
}

static bool infer_weight_statistics(sl_node *node)
{
    const int n = ((sl_stretches_attr *)node->attr)->n;
    return sl_set_output(node, 0, SL_FLOAT, (sl_shape){2, {n, 2}});
}

/* Norm of gradients and hits: read by the step, not differentiated. */
const sl_op_rules sl_rules_NORM = {
    .infer = infer_scalar, .samples = (const sl_sample[]){{1, {SL_ANY(5)}}, {1, {SL_ANY(3, 1500)}}, {0}}};
const sl_op_rules sl_rules_ACTIVATION_STATISTICS = {
    .attr_size = sizeof(sl_activation_attr),
    .infer = infer_statistics,
    .samples = (const sl_sample[]){
        {2, {SL_ANY(SL_BATCH, 5), SL_ANY(SL_BATCH, 5)}, &(sl_activation_attr){.id = SL_ROW_RELU}},
        {1, {SL_ANY(SL_BATCH, 7)}, &(sl_activation_attr){.id = SL_ROW_LINEAR, .a = 1}},
        {3,
         {SL_ANY(SL_BATCH, 20, 20, 3), SL_ANY(SL_BATCH, 20, 20, 3), SL_ANY(3)},
         &(sl_activation_attr){.id = SL_ROW_SWISH, .b = 1}},
        {0}}};
const sl_op_rules sl_rules_WEIGHT_STATISTICS = {
    .attr_size = sizeof(sl_stretches_attr),
    .infer = infer_weight_statistics,
    .samples = (const sl_sample[]){
        {3,
         {SL_ANY(5120), SL_ANY(5120), SL_ANY(5120)},
         &(sl_stretches_attr){3, (const sl_segment[]){{0, 5, 0, 0}, {16, 3001, 0, 0}, {3040, 2080, 0, 0}}}},
        {0}}};
const sl_op_rules sl_rules_COUNT_CORRECT = {
    .infer = infer_count_correct,
    .samples = (const sl_sample[]){{2, {SL_ANY(SL_BATCH, 10), SL_CLASS(10, SL_BATCH)}},
                                   {2, {SL_ANY(SL_BATCH, 1), SL_CLASS(2, SL_BATCH)}},
                                   {0}}};
