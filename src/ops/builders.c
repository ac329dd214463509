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

/* The activation's node on x and n learned parameters, which follow in[0]. */
static sl_node *activation_node(const sl_activation_attr *attr, int n, sl_node **in, const char *name)
{
    for (int i = 0; i <= n; i++)
        if (!in[i]) return NULL;
    sl_node *y = sl_node_new(in[0]->graph, SL_OP_ACTIVATION, attr, n + 1, in);
    sl_node_rename(y, name);
    return y;
}

static sl_node *learned_parameter(sl_node *x, const char *activation, const char *name, bool per_channel,
                                  float start)
{
    return sl_parameter_with(
        x->graph, sl_graph_text(x->graph, "%s.%s", activation, name),
        (sl_shape){1, {per_channel ? sl_shape_last(x->shape) : 1}},
        &(sl_parameter_options){.init = {SL_INIT_CONSTANT, start == 0 ? SL_ZERO : start}});
}

static sl_node *activate_by_formula(sl_node *x, const sl_activation *activation)
{
    const sl_formula *formula = activation->formula;
    sl_graph *graph = x->graph;
    if (formula->ctx != graph->ctx || activation->a != 0 || activation->b != 0 || activation->learn) {
        sl_fail(graph->ctx, SL_ARGUMENT, "sl_activate: an expression %s",
                formula->ctx != graph->ctx ? "serves only the context that it was made in"
                                           : "says itself what is learned; a, b and learn must be 0");
        return NULL;
    }
    const sl_activation_attr attr = {.id = SL_ROW_COUNT, .formula = formula};
    const char *name = sl_graph_text(graph, "formula%d", ++graph->activations);
    sl_node *in[1 + SL_FORMULA_PARAMETERS] = {x};
    for (int k = 0; k < formula->n_parameters; k++)
        in[1 + k] = learned_parameter(x, name, formula->parameter[k].name, formula->parameter[k].per_channel,
                                      formula->parameter[k].start);
    return activation_node(&attr, formula->n_parameters, in, name);
}

static bool learns(const sl_activation_info *row, sl_learn learn)
{
    if (learn == SL_LEARN_DEFAULT) return row->n_parameters > 0 && row->parameter[0].learned;
    return learn != SL_FIXED;
}

sl_node *sl_activate(sl_node *x, sl_activation activation)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    if (activation.formula) return activate_by_formula(x, &activation);
    const sl_activation_info *row = sl_activation_row_info(activation.row);
    if (!row) {
        sl_fail(x->graph->ctx, SL_ARGUMENT, "sl_activate: %d is no row of the activation table",
                activation.row);
        return NULL;
    }
    const sl_activation_attr attr = {.id = row->id,
                                     .a = sl_float_or(activation.a, row->parameter[0].value),
                                     .b = sl_float_or(activation.b, row->parameter[1].value)};
    if (row->id == SL_ROW_LINEAR && attr.a == 1) return x;
    const char *name = sl_graph_text(x->graph, "%s%d", row->name, ++x->graph->activations);
    const bool learned = learns(row, activation.learn);
    sl_node *in[2] = {x};
    if (learned) {
        if (row->n_parameters == 0 || !row->parameter[0].learnable) {
            sl_fail(x->graph->ctx, SL_ARGUMENT, "sl_activate: %s has no parameter that can be learned",
                    row->name);
            return NULL;
        }
        in[1] = learned_parameter(x, name, row->parameter[0].name, activation.learn == SL_LEARN_PER_CHANNEL,
                                  attr.a);
    }
    return activation_node(&attr, learned, in, name);
}
