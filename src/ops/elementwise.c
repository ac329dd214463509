/* Elementwise operations, with broadcasting for those of two inputs. */
#include "ops/ops.h"

bool sl_needs_float(sl_node *node, int i)
{
    if (node->in[i]->dtype == SL_FLOAT) return false;
    sl_node_fail(node, "input '%s' holds integers; floats are needed", node->in[i]->name);
    return true;
}

bool sl_infer_same(sl_node *node)
{
    return !sl_needs_float(node, 0) && sl_set_output(node, 0, SL_FLOAT, node->in[0]->shape);
}

sl_node *sl_affine_node(sl_node *x, double scale, double shift)
{
    return sl_node1(SL_OP_AFFINE, &(sl_affine_attr){scale, shift}, x);
}

sl_node *sl_unbroadcast(sl_node *dx, const sl_node *input)
{
    if (!dx || sl_shape_equal(dx->shape, input->shape)) return dx;
    return sl_node1(SL_OP_SUM_TO, &(sl_shape_attr){.shape = input->shape}, dx);
}

sl_node *sl_add_nodes(sl_node *a, sl_node *b)
{
    return a && b ? sl_node2(SL_OP_ADD, NULL, a, b) : a ? a : b;
}

void sl_jvp_linear(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_node *in[SL_MAX_INPUTS] = {tx[0]};
    for (int i = 1; i < node->n_in; i++) in[i] = node->in[i];
    ty[0] = sl_node_new(node->graph, node->op, node->attr, node->n_in, in);
}

void sl_jvp_bilinear(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_node *first = tx[0] ? sl_node2(node->op, node->attr, tx[0], node->in[1]) : NULL;
    sl_node *second = tx[1] ? sl_node2(node->op, node->attr, node->in[0], tx[1]) : NULL;
    ty[0] = sl_add_nodes(first, second);
}

/* An elementwise function of one number: its slope is diagonal, so both modes multiply by it. */
static void jvp_diagonal(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    sl_rules(node->op)->vjp(node, tx, &(bool){true}, ty);
}

/* The tangent of one input, spread over the shape that broadcasting gives the result. */
static sl_node *spread(sl_node *t, const sl_node *result)
{
    if (!t || sl_shape_equal(t->shape, result->shape)) return t;
    return sl_node1(SL_OP_BROADCAST, &(sl_shape_attr){.shape = result->shape}, t);
}

static void jvp_add(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    ty[0] = spread(sl_add_nodes(tx[0], tx[1]), node);
}

static void jvp_sub(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    ty[0] = spread(!tx[1]  ? tx[0]
                   : tx[0] ? sl_node2(SL_OP_SUB, NULL, tx[0], tx[1])
                           : sl_affine_node(tx[1], -1, 0),
                   node);
}

static void jvp_div(sl_node *node, sl_node *const *tx, sl_node **ty) /* (ta - y·tb)/b */
{
    sl_node *t = tx[1] ? sl_affine_node(sl_node2(SL_OP_MUL, NULL, node, tx[1]), -1, 0) : NULL;
    ty[0] = sl_node2(SL_OP_DIV, NULL, sl_add_nodes(t, tx[0]), node->in[1]);
}

static void jvp_affine(sl_node *node, sl_node *const *tx, sl_node **ty)
{
    ty[0] = sl_affine_node(tx[0], ((sl_affine_attr *)node->attr)->scale, 0);
}

static bool infer_two(sl_node *node)
{
    if (sl_needs_float(node, 0) || sl_needs_float(node, 1)) return false;
    const sl_shape a = node->in[0]->shape, b = node->in[1]->shape;
    sl_shape y = {.n = a.n > b.n ? a.n : b.n};
    for (int i = 0; i < y.n; i++) { /* from the last dimension */
        const int64_t da = i < a.n ? a.dim[a.n - 1 - i] : 1, db = i < b.n ? b.dim[b.n - 1 - i] : 1;
        if (da != db && da != 1 && db != 1)
            return sl_node_fail(
                node, "dimensions differ; counted from the last, each pair must be equal or have a 1");
        y.dim[y.n - 1 - i] = da == 1 ? db : da;
    }
    for (int i = 1; i < y.n; i++)
        if (y.dim[i] == SL_BATCH) return sl_node_fail(node, "the batch dimension would not come first");
    return sl_set_output(node, 0, SL_FLOAT, y);
}

static void vjp_add(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    for (int i = 0; i < 2; i++)
        if (wanted[i]) dx[i] = sl_unbroadcast(dy[0], node->in[i]);
}

static void vjp_sub(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    if (wanted[0]) dx[0] = sl_unbroadcast(dy[0], node->in[0]);
    if (wanted[1]) dx[1] = sl_unbroadcast(sl_affine_node(dy[0], -1, 0), node->in[1]);
}

static void vjp_mul(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    for (int i = 0; i < 2; i++)
        if (wanted[i]) dx[i] = sl_unbroadcast(sl_node2(SL_OP_MUL, NULL, dy[0], node->in[1 - i]), node->in[i]);
}

static void vjp_div(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    sl_node *da = sl_node2(SL_OP_DIV, NULL, dy[0], node->in[1]);
    if (wanted[0]) dx[0] = sl_unbroadcast(da, node->in[0]);
    if (wanted[1])
        dx[1] = sl_unbroadcast(sl_affine_node(sl_node2(SL_OP_MUL, NULL, da, node), -1, 0), node->in[1]);
}

static void vjp_affine(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_affine_node(dy[0], ((sl_affine_attr *)node->attr)->scale, 0);
}

static void vjp_exp(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node2(SL_OP_MUL, NULL, dy[0], node);
}

static void vjp_log(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node2(SL_OP_DIV, NULL, dy[0], node->in[0]);
}

static void vjp_reciprocal(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_affine_node(sl_node2(SL_OP_MUL, NULL, dy[0], sl_node1(SL_OP_SQUARE, NULL, node)), -1, 0);
}

static void vjp_square(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node2(SL_OP_MUL, NULL, dy[0], sl_affine_node(node->in[0], 2, 0));
}

static void vjp_sqrt(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    (void)wanted;
    dx[0] = sl_node2(SL_OP_DIV, NULL, dy[0], sl_affine_node(node, 2, 0));
}

static const sl_sample two[] = {
    {2, {SL_ANY(SL_BATCH, 5), SL_ANY(SL_BATCH, 5)}},   {2, {SL_ANY(SL_BATCH, 3, 2, 7), SL_ANY(7)}},
    {2, {SL_ANY(SL_BATCH, 3, 1, 7), SL_ANY(3, 5, 1)}}, {2, {SL_ANY(1), SL_ANY(4, 9)}},
    {2, {SL_ANY(SL_BATCH, 33), SL_ANY(SL_BATCH, 1)}},  {0},
};
static const sl_sample division[] = {
    {2, {SL_ANY(SL_BATCH, 5), SL_POSITIVE(SL_BATCH, 5)}},
    {2, {SL_ANY(SL_BATCH, 3, 1, 7), SL_POSITIVE(3, 5, 1)}},
    {2, {SL_ANY(1), SL_POSITIVE(4, 9)}},
    {0},
};
static const sl_sample one[] = {
    {1, {SL_ANY(SL_BATCH, 5)}}, {1, {SL_ANY(1)}}, {1, {SL_ANY(SL_BATCH, 3, 3, 17)}}, {0}};
static const sl_sample positive[] = {
    {1, {SL_POSITIVE(SL_BATCH, 5)}}, {1, {SL_POSITIVE(1)}}, {1, {SL_POSITIVE(3, 67)}}, {0}};
static const sl_sample affine[] = {{1, {SL_ANY(SL_BATCH, 5)}, &(sl_affine_attr){-1.5, 0.25}},
                                   {1, {SL_ANY(3, 67)}, &(sl_affine_attr){1, 1}},
                                   {0}};

const sl_op_rules sl_rules_ADD = {.infer = infer_two, .vjp = vjp_add, .jvp = jvp_add, .samples = two};
const sl_op_rules sl_rules_SUB = {.infer = infer_two, .vjp = vjp_sub, .jvp = jvp_sub, .samples = two};
const sl_op_rules sl_rules_MUL = {.infer = infer_two, .vjp = vjp_mul, .jvp = sl_jvp_bilinear, .samples = two};
const sl_op_rules sl_rules_DIV = {.infer = infer_two, .vjp = vjp_div, .jvp = jvp_div, .samples = division};
const sl_op_rules sl_rules_AFFINE = {.attr_size = sizeof(sl_affine_attr),
                                     .infer = sl_infer_same,
                                     .vjp = vjp_affine,
                                     .jvp = jvp_affine,
                                     .samples = affine};
const sl_op_rules sl_rules_EXP = {
    .infer = sl_infer_same, .vjp = vjp_exp, .jvp = jvp_diagonal, .samples = one};
const sl_op_rules sl_rules_LOG = {
    .infer = sl_infer_same, .vjp = vjp_log, .jvp = jvp_diagonal, .samples = positive};
const sl_op_rules sl_rules_RECIPROCAL = {
    .infer = sl_infer_same, .vjp = vjp_reciprocal, .jvp = jvp_diagonal, .samples = positive};
const sl_op_rules sl_rules_SQUARE = {
    .infer = sl_infer_same, .vjp = vjp_square, .jvp = jvp_diagonal, .samples = one};
const sl_op_rules sl_rules_SQRT = {
    .infer = sl_infer_same, .vjp = vjp_sqrt, .jvp = jvp_diagonal, .samples = positive};
/* Used on gradients only: it has no derivative of its own. */
const sl_op_rules sl_rules_CLIP = {
    .attr_size = sizeof(sl_affine_attr),
    .infer = sl_infer_same,
    .samples = (const sl_sample[]){{1, {SL_ANY(3, 67)}, &(sl_affine_attr){-0.5, 0.75}}, {0}}};
