/* The public builders: one node each, or a few. */
#include "slope/ops.h"

#include "core/activation.h"
#include "ops/ops.h"

sl_node *sl_add(sl_node *a, sl_node *b)
{
    return sl_node2(SL_OP_ADD, NULL, a, b);
}

sl_node *sl_sub(sl_node *a, sl_node *b)
{
    return sl_node2(SL_OP_SUB, NULL, a, b);
}

sl_node *sl_mul(sl_node *a, sl_node *b)
{
    return sl_node2(SL_OP_MUL, NULL, a, b);
}

sl_node *sl_div(sl_node *a, sl_node *b)
{
    return sl_node2(SL_OP_DIV, NULL, a, b);
}

sl_node *sl_neg(sl_node *x)
{
    return sl_affine_node(x, -1, 0);
}

sl_node *sl_scale(sl_node *x, double scale, double shift)
{
    return sl_affine_node(x, scale, shift);
}

sl_node *sl_exp(sl_node *x)
{
    return sl_node1(SL_OP_EXP, NULL, x);
}

sl_node *sl_log(sl_node *x)
{
    return sl_node1(SL_OP_LOG, NULL, x);
}

sl_node *sl_reciprocal(sl_node *x)
{
    return sl_node1(SL_OP_RECIPROCAL, NULL, x);
}

sl_node *sl_square(sl_node *x)
{
    return sl_node1(SL_OP_SQUARE, NULL, x);
}

sl_node *sl_sqrt(sl_node *x)
{
    return sl_node1(SL_OP_SQRT, NULL, x);
}

sl_node *sl_softmax(sl_node *x)
{
    return sl_node1(SL_OP_SOFTMAX, NULL, x);
}

sl_node *sl_log_softmax(sl_node *x)
{
    return sl_node1(SL_OP_LOG_SOFTMAX, NULL, x);
}

sl_node *sl_matmul(sl_node *a, sl_node *b, bool transpose_a, bool transpose_b)
{
    return sl_node2(SL_OP_MATMUL, &(sl_matmul_attr){transpose_a, transpose_b}, a, b);
}

sl_node *sl_bias(sl_node *x, sl_node *b)
{
    return sl_node2(SL_OP_BIAS, NULL, x, b);
}

sl_node *sl_sum_to(sl_node *x, sl_shape shape)
{
    return sl_node1(SL_OP_SUM_TO, &(sl_shape_attr){.shape = shape}, x);
}

sl_node *sl_sum(sl_node *x)
{
    return sl_sum_to(x, (sl_shape){1, {1}});
}

sl_node *sl_mean(sl_node *x)
{
    return sl_node1(SL_OP_MEAN, &(sl_mean_attr){.per_sample = false}, x);
}

sl_node *sl_reshape(sl_node *x, sl_shape shape)
{
    return sl_node1(SL_OP_RESHAPE, &(sl_shape_attr){.shape = shape}, x);
}

sl_node *sl_flatten(sl_node *x)
{
    if (!x || x->shape.n <= 2) return x;
    return sl_reshape(
        x,
        (sl_shape){2, {x->shape.dim[0], sl_shape_count(x->shape) / (sl_batched(x) ? 1 : x->shape.dim[0])}});
}

/* --- activation --- */

static bool learns(const sl_activation_info *row, sl_learn learn)
{
    if (learn == SL_LEARN_DEFAULT) return row->n_parameters > 0 && row->parameter[0].learned;
    return learn != SL_FIXED;
}

sl_node *sl_activate(sl_node *x, sl_activation activation)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    const sl_activation_info *row = sl_activation_row_info(activation.row);
    if (!row) {
        sl_fail(x->graph->ctx, SL_ARGUMENT, "sl_activate: %d is no row of the activation table",
                activation.row);
        return NULL;
    }
    const sl_activation_attr attr = {row->id, sl_float_or(activation.a, row->parameter[0].value),
                                     sl_float_or(activation.b, row->parameter[1].value)};
    if (row->id == SL_ROW_LINEAR && attr.a == 1) return x;
    const char *name = sl_graph_text(x->graph, "%s%d", row->name, ++x->graph->activations);
    sl_node *y = NULL;
    if (learns(row, activation.learn)) {
        if (row->n_parameters == 0 || !row->parameter[0].learnable) {
            sl_fail(x->graph->ctx, SL_ARGUMENT, "sl_activate: %s has no parameter that can be learned",
                    row->name);
            return NULL;
        }
        const int64_t count = activation.learn == SL_LEARN_PER_CHANNEL ? sl_shape_last(x->shape) : 1;
        sl_node *a = sl_parameter_with(
            x->graph, sl_graph_text(x->graph, "%s.%s", name, row->parameter[0].name), (sl_shape){1, {count}},
            &(sl_parameter_options){.init = {SL_INIT_CONSTANT, attr.a == 0 ? SL_ZERO : attr.a}});
        y = sl_node2(SL_OP_ACTIVATION, &attr, x, a);
    } else {
        y = sl_node1(SL_OP_ACTIVATION, &attr, x);
    }
    sl_node_rename(y, name);
    return y;
}
