/* Two-dimensional convolution: x [n, h, w, c], w [kh, kw, c, filters]. */
#include "ops/ops.h"

/* Output size of one dimension; 0 where the window does not fit. */
static int64_t conv_size(int64_t in, int kernel, int stride, int pad, int dilation)
{
    const int64_t span = (int64_t)dilation * (kernel - 1) + 1, room = in + 2 * (int64_t)pad - span;
    return room < 0 ? 0 : room / stride + 1;
}

static bool output_shape(sl_node *node, const sl_conv_attr *attr, sl_shape *y)
{
    if (sl_needs_float(node, 0) || sl_needs_float(node, 1)) return false;
    const sl_shape x = node->in[0]->shape, w = node->in[1]->shape;
    if (x.n != 4) return sl_node_fail(node, "needs images [n, height, width, channels]");
    if (w.n != 4 || w.dim[2] != x.dim[3] || w.dim[0] != attr->kernel[0] || w.dim[1] != attr->kernel[1])
        return sl_node_fail(node, "the kernel must be [%d, %d, %lld, filters]", attr->kernel[0],
                            attr->kernel[1], (long long)x.dim[3]);
    *y = (sl_shape){4, {x.dim[0], 0, 0, w.dim[3]}};
    for (int i = 0; i < 2; i++) {
        y->dim[1 + i] =
            conv_size(x.dim[1 + i], attr->kernel[i], attr->stride[i], attr->pad[i], attr->dilation[i]);
        if (y->dim[1 + i] < 1)
            return sl_node_fail(
                node, "a %d×%d kernel with dilation %d and padding %d does not fit; pad by at least %lld",
                attr->kernel[0], attr->kernel[1], attr->dilation[i], attr->pad[i],
                (long long)(((int64_t)attr->dilation[i] * (attr->kernel[i] - 1) + 2 - x.dim[1 + i]) / 2));
    }
    return true;
}

static bool infer_conv(sl_node *node)
{
    sl_shape y;
    return output_shape(node, node->attr, &y) && sl_set_output(node, 0, SL_FLOAT, y);
}

static bool infer_conv_fused(sl_node *node)
{
    sl_shape y;
    if (!output_shape(node, &((sl_conv_fused_attr *)node->attr)->conv, &y)) return false;
    for (int k = 0; k < 2; k++) sl_set_output(node, k, SL_FLOAT, y);
    return true;
}

static bool infer_conv_pool(sl_node *node)
{
    sl_shape y;
    if (!output_shape(node, &((sl_conv_fused_attr *)node->attr)->conv, &y)) return false;
    sl_set_output(node, 2, SL_FLOAT, y);
    for (int i = 1; i <= 2; i++) y.dim[i] /= 2;
    sl_set_output(node, 0, SL_FLOAT, y);
    return sl_set_output(node, 1, SL_BYTE, y);
}

static bool infer_pool_slope(sl_node *node)
{
    sl_shape x = node->in[0]->shape;
    for (int i = 1; i <= 2; i++) x.dim[i] *= 2;
    sl_set_output(node, 0, SL_FLOAT, x);
    return sl_set_output(node, 1, SL_FLOAT, (sl_shape){1, {sl_shape_last(x)}});
}

static bool infer_vjp_input(sl_node *node) /* dy, w */
{
    const sl_conv_attr *attr = node->attr;
    const sl_shape dy = node->in[0]->shape, w = node->in[1]->shape;
    return sl_set_output(node, 0, SL_FLOAT,
                         (sl_shape){4, {dy.dim[0], attr->size[0], attr->size[1], w.dim[2]}});
}

static bool infer_vjp_weight(sl_node *node) /* x, dy */
{
    const sl_conv_attr *attr = node->attr;
    const sl_shape x = node->in[0]->shape, dy = node->in[1]->shape;
    return sl_set_output(node, 0, SL_FLOAT,
                         (sl_shape){4, {attr->kernel[0], attr->kernel[1], x.dim[3], dy.dim[3]}});
}

/* The three of them are linear in each input, and each other's derivatives. */
static sl_node *vjp_input(const sl_conv_attr *like, sl_node *dy, sl_node *w, const sl_node *x)
{
    sl_conv_attr attr = *like;
    for (int i = 0; i < 2; i++) attr.size[i] = (int)x->shape.dim[1 + i];
    return sl_node2(SL_OP_CONV2D_VJP_INPUT, &attr, dy, w);
}

static void vjp_conv(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    if (wanted[0]) dx[0] = vjp_input(node->attr, dy[0], node->in[1], node->in[0]);
    if (wanted[1]) dx[1] = sl_node2(SL_OP_CONV2D_VJP_WEIGHT, node->attr, node->in[0], dy[0]);
}

static void vjp_of_vjp_input(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    if (wanted[0]) dx[0] = sl_node2(SL_OP_CONV2D, node->attr, dy[0], node->in[1]);
    if (wanted[1]) dx[1] = sl_node2(SL_OP_CONV2D_VJP_WEIGHT, node->attr, dy[0], node->in[0]);
}

static void vjp_of_vjp_weight(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx)
{
    if (wanted[0]) dx[0] = vjp_input(node->attr, node->in[1], dy[0], node->in[0]);
    if (wanted[1]) dx[1] = sl_node2(SL_OP_CONV2D, node->attr, node->in[0], dy[0]);
}

static const sl_conv_attr plain3 = {{3, 3}, {1, 1}, {0, 0}, {1, 1}, {0, 0}};
static const sl_conv_attr odd = {{3, 2}, {2, 1}, {1, 2}, {1, 2}, {0, 0}};
static const sl_conv_attr five = {{5, 5}, {1, 1}, {2, 2}, {1, 1}, {0, 0}};
static const sl_conv_attr point = {{1, 1}, {3, 3}, {0, 0}, {1, 1}, {0, 0}};
static const sl_conv_attr back_plain3 = {{3, 3}, {1, 1}, {0, 0}, {1, 1}, {7, 6}};
static const sl_conv_attr back_odd = {{3, 2}, {2, 1}, {1, 2}, {1, 2}, {6, 5}};

static const sl_sample forward[] = {
    {2, {SL_ANY(SL_BATCH, 7, 6, 2), SL_ANY(3, 3, 2, 5)}, &plain3},
    {2, {SL_ANY(SL_BATCH, 6, 5, 3), SL_ANY(3, 2, 3, 4)}, &odd},
    {2, {SL_ANY(SL_BATCH, 4, 4, 1), SL_ANY(5, 5, 1, 9)}, &five},
    {2, {SL_ANY(SL_BATCH, 5, 4, 3), SL_ANY(1, 1, 3, 2)}, &point},
    {2, {SL_ANY(SL_BATCH, 5, 5, 60), SL_ANY(3, 3, 60, 17)}, &plain3},
    {0},
};
static const sl_sample backward_input[] = {
    {2, {SL_ANY(SL_BATCH, 5, 4, 5), SL_ANY(3, 3, 2, 5)}, &back_plain3},
    {2, {SL_ANY(SL_BATCH, 3, 7, 4), SL_ANY(3, 2, 3, 4)}, &back_odd},
    {0},
};
static const sl_sample backward_weight[] = {
    {2, {SL_ANY(SL_BATCH, 7, 6, 2), SL_ANY(SL_BATCH, 5, 4, 5)}, &back_plain3},
    {2, {SL_ANY(SL_BATCH, 6, 5, 3), SL_ANY(SL_BATCH, 3, 7, 4)}, &back_odd},
    {2, {SL_ANY(SL_BATCH, 25, 24, 1), SL_ANY(SL_BATCH, 23, 22, 3)}, &plain3},
    {0},
};

const sl_op_rules sl_rules_CONV2D = {.attr_size = sizeof(sl_conv_attr),
                                     .infer = infer_conv,
                                     .vjp = vjp_conv,
                                     .jvp = sl_jvp_bilinear,
                                     .samples = forward};
const sl_op_rules sl_rules_CONV2D_VJP_INPUT = {.attr_size = sizeof(sl_conv_attr),
                                               .infer = infer_vjp_input,
                                               .vjp = vjp_of_vjp_input,
                                               .jvp = sl_jvp_bilinear,
                                               .samples = backward_input};
const sl_op_rules sl_rules_CONV2D_VJP_WEIGHT = {.attr_size = sizeof(sl_conv_attr),
                                                .infer = infer_vjp_weight,
                                                .vjp = vjp_of_vjp_weight,
                                                .jvp = sl_jvp_bilinear,
                                                .samples = backward_weight};
const sl_op_rules sl_rules_CONV2D_BIAS_ACTIVATION = {.attr_size = sizeof(sl_conv_fused_attr),
                                                     .infer = infer_conv_fused};
const sl_op_rules sl_rules_CONV2D_BIAS_ACTIVATION_POOL = {.attr_size = sizeof(sl_conv_fused_attr),
                                                          .infer = infer_conv_pool};
const sl_op_rules sl_rules_POOL_ACTIVATION_VJP_BIAS = {.attr_size = sizeof(sl_activation_attr),
                                                       .infer = infer_pool_slope};
