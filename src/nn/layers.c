/* Layers: compositions of operations with their own parameters. */
#include "slope/layers.h"

#include <stdio.h>

#include "core/activation.h"
#include "graph/graph.h"
#include "slope/loss.h"

enum { KIND_DENSE, KIND_CONV, KIND_NORM, KIND_LSTM, KIND_RNN };

/* "dense1", "dense2", … unless the user named it. */
static const char *layer_name(sl_graph *graph, const char *given, int kind, const char *word)
{
    if (given) return given;
    return sl_graph_text(graph, "%s%d", word, ++graph->numbers[kind]);
}

static sl_node *parameter(sl_graph *graph, const char *layer, const char *what, sl_shape shape,
                          const sl_parameter_options *options)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", layer, what);
    return sl_parameter_with(graph, name, shape, options);
}

/* A layer refuses an option with its own name in front. */
static sl_node *refuse(sl_node *x, const char *layer, const char *what, int value)
{
    sl_fail(x->graph->ctx, SL_ARGUMENT, "%s: %s is %d; it must be at least %d", layer, what, value,
            what[0] == 'p' ? 0 : 1);
    return NULL;
}

static sl_node *finish(sl_node *y, const char *layer, sl_node *bias, sl_activation activation)
{
    if (bias) {
        sl_node_rename(y, sl_graph_text(y->graph, "%s.product", layer));
        y = sl_bias(y, bias);
    }
    if (y) sl_node_rename(y, layer);
    sl_node *f = sl_activate(y, activation);
    if (f && f != y) sl_node_rename(f, sl_graph_text(f->graph, "%s.%s", layer, sl_activation_word(f->attr)));
    return f;
}

sl_node *sl_dense_with(sl_node *x, const sl_dense_options *options)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    sl_graph *graph = x->graph;
    const char *name = layer_name(graph, options->name, KIND_DENSE, "dense");
    if (options->units < 1) return refuse(x, name, "units", options->units);
    x = sl_flatten(x);
    if (!x) return NULL;
    const int64_t in = sl_shape_last(x->shape), out = options->units;
    sl_node *w = parameter(graph, name, "weight", (sl_shape){2, {in, out}},
                           &(sl_parameter_options){.init = options->init, .l2 = options->l2, .decay = true});
    sl_node *b = NULL;
    if (!options->no_bias)
        b = parameter(graph, name, "bias", (sl_shape){1, {options->shared_bias ? 1 : out}},
                      &(sl_parameter_options){.init = {SL_INIT_ZEROS, 0}});
    if (!w || (!b && !options->no_bias)) return NULL;
    sl_node *y = sl_matmul(x, w, false, false);
    return y ? finish(y, name, b, options->activation) : NULL;
}

sl_node *sl_conv2d_with(sl_node *x, const sl_conv2d_options *o)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    sl_graph *graph = x->graph;
    const char *name = layer_name(graph, o->name, KIND_CONV, "conv");
    const int stride = sl_int_or(o->stride, 1), dilation = sl_int_or(o->dilation, 1);
    const sl_conv_attr attr = {.kernel = {o->kernel, sl_int_or(o->kernel_width, o->kernel)},
                               .stride = {stride, sl_int_or(o->stride_width, stride)},
                               .pad = {o->pad, sl_int_or(o->pad_width, o->pad)},
                               .dilation = {dilation, sl_int_or(o->dilation_width, dilation)}};
    if (o->filters < 1) return refuse(x, name, "filters", o->filters);
    for (int i = 0; i < 2; i++) {
        if (attr.kernel[i] < 1) return refuse(x, name, "kernel", attr.kernel[i]);
        if (attr.stride[i] < 1) return refuse(x, name, "stride", attr.stride[i]);
        if (attr.dilation[i] < 1) return refuse(x, name, "dilation", attr.dilation[i]);
        if (attr.pad[i] < 0) return refuse(x, name, "padding", attr.pad[i]);
    }
    if (x->shape.n != 4) {
        sl_fail(graph->ctx, SL_SHAPE,
                "%s: '%s' is %s; a convolution needs images [n, height, width, channels]", name, x->name,
                sl_shape_print(x->shape).text);
        return NULL;
    }
    sl_node *w = parameter(graph, name, "weight",
                           (sl_shape){4, {attr.kernel[0], attr.kernel[1], x->shape.dim[3], o->filters}},
                           &(sl_parameter_options){.init = o->init, .l2 = o->l2, .decay = true});
    if (w) w->variable->fan_out = (int64_t)attr.kernel[0] * attr.kernel[1] * o->filters;
    sl_node *b = o->no_bias ? NULL
                            : parameter(graph, name, "bias", (sl_shape){1, {o->filters}},
                                        &(sl_parameter_options){.init = {SL_INIT_ZEROS, 0}});
    sl_node *y = sl_node2(SL_OP_CONV2D, &attr, x, w);
    return y ? finish(y, name, b, o->activation) : NULL;
}

/* --- recurrence: one graph for all steps, with the same parameters in each --- */

typedef struct recurrence {
    const char *name;
    sl_node *sequence, *w, *u, *b; /* of the input, of h, bias */
} recurrence;

/* Parameters for `blocks` sums of each unit. W as Xavier has it, U orthogonal. */
static bool recurrence_open(recurrence *r, sl_node *x, const sl_recurrent_options *o, int kind,
                            const char *word, int blocks)
{
    sl_graph *graph = x->graph;
    r->name = layer_name(graph, o->name, kind, word);
    if (o->units < 1) return refuse(x, r->name, "units", o->units);
    if (x->shape.n < 3 || !sl_batched(x)) {
        sl_fail(graph->ctx, SL_SHAPE, "%s: '%s' is %s; a sequence [n, steps, features] is needed", r->name,
                x->name, sl_shape_print(x->shape).text);
        return false;
    }
    const int64_t steps = x->shape.dim[1], features = sl_shape_count(x->shape) / steps,
                  sums = (int64_t)blocks * o->units;
    const sl_init start = o->init.kind == SL_INIT_DEFAULT ? (sl_init){SL_INIT_XAVIER, 0} : o->init;
    r->sequence = sl_reshape(x, (sl_shape){3, {SL_BATCH, steps, features}});
    r->w = parameter(graph, r->name, "weight", (sl_shape){2, {features, sums}},
                     &(sl_parameter_options){.init = start, .l2 = o->l2, .decay = true});
    if (r->w) r->w->variable->fan_out = o->units;
    r->u = parameter(graph, r->name, "recurrent", (sl_shape){2, {o->units, sums}},
                     &(sl_parameter_options){.init = {SL_INIT_ORTHOGONAL, 0}, .l2 = o->l2, .decay = true});
    r->b = parameter(graph, r->name, "bias", (sl_shape){1, {sums}},
                     &(sl_parameter_options){.init = {SL_INIT_ZEROS, 0}});
    return r->sequence && r->w && r->u && r->b;
}

static sl_node *name_step(const recurrence *r, sl_node *node, const char *what, int64_t t)
{
    if (node) sl_node_rename(node, sl_graph_text(node->graph, "%s.%s%lld", r->name, what, (long long)t + 1));
    return node;
}

/* x_t·W + b + h·U; h NULL: zero. */
static sl_node *recurrence_sums(const recurrence *r, int64_t t, sl_node *h)
{
    sl_node *x = name_step(r, sl_node1(SL_OP_TAKE, &(sl_take_attr){(int)t, 0}, r->sequence), "x", t);
    sl_node *z = name_step(r, sl_matmul(x, r->w, false, false), "product", t);
    z = name_step(r, sl_bias(z, r->b), "biased", t);
    if (!h) return z;
    return name_step(r, sl_add(z, name_step(r, sl_matmul(h, r->u, false, false), "recurrence", t)), "sum", t);
}

sl_node *sl_lstm_with(sl_node *x, const sl_recurrent_options *options)
{
    recurrence r;
    if (!x || !sl_ok(x->graph->ctx) || !recurrence_open(&r, x, options, KIND_LSTM, "lstm", 4)) return NULL;
    const sl_shape state = {2, {SL_BATCH, options->units}};
    sl_node *h = NULL, *c = name_step(&r, sl_constant(x->graph, state, 0), "c", -1);
    const sl_lstm_attr attr = {.forget_bias = sl_float_or(options->forget_bias, 1)};
    for (int64_t t = 0; t < x->shape.dim[1] && c; t++) {
        h = name_step(&r, sl_node2(SL_OP_LSTM_CELL, &attr, recurrence_sums(&r, t, h), c), "h", t);
        c = h ? h->outputs[1] : NULL;
    }
    return h;
}

sl_node *sl_rnn_with(sl_node *x, const sl_recurrent_options *options)
{
    recurrence r;
    if (!x || !sl_ok(x->graph->ctx) || !recurrence_open(&r, x, options, KIND_RNN, "rnn", 1)) return NULL;
    const bool chosen = options->activation.row != SL_ACTIVATION_LINEAR;
    sl_node *h = NULL;
    for (int64_t t = 0; t < x->shape.dim[1] && (h || t == 0); t++) {
        sl_node *z = recurrence_sums(&r, t, h);
        h = name_step(&r, sl_activate(z, chosen ? options->activation : SL_TANH), "h", t);
    }
    return h;
}

static bool pool_attr(sl_node *x, const sl_pool2d_options *o, sl_pool_attr *attr)
{
    *attr = (sl_pool_attr){.kernel = {o->kernel, sl_int_or(o->kernel_width, o->kernel)},
                           .pad = {o->pad, sl_int_or(o->pad_width, o->pad)}};
    attr->stride[0] = sl_int_or(o->stride, attr->kernel[0]);
    attr->stride[1] = sl_int_or(o->stride_width, o->stride ? attr->stride[0] : attr->kernel[1]);
    for (int i = 0; i < 2; i++) {
        if (attr->kernel[i] < 1) return refuse(x, "pooling", "kernel", attr->kernel[i]);
        if (attr->stride[i] < 1) return refuse(x, "pooling", "stride", attr->stride[i]);
        if (attr->pad[i] < 0) return refuse(x, "pooling", "padding", attr->pad[i]);
    }
    return true;
}

sl_node *sl_max_pool2d_with(sl_node *x, const sl_pool2d_options *options)
{
    sl_pool_attr attr;
    return x && sl_ok(x->graph->ctx) && pool_attr(x, options, &attr) ? sl_node1(SL_OP_MAX_POOL2D, &attr, x)
                                                                     : NULL;
}

sl_node *sl_avg_pool2d_with(sl_node *x, const sl_pool2d_options *options)
{
    sl_pool_attr attr;
    return x && sl_ok(x->graph->ctx) && pool_attr(x, options, &attr) ? sl_node1(SL_OP_AVG_POOL2D, &attr, x)
                                                                     : NULL;
}

sl_node *sl_global_avg_pool(sl_node *x)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    if (x->shape.n != 4) {
        sl_fail(x->graph->ctx, SL_SHAPE,
                "global average pooling: '%s' is %s; it needs images [n, height, width, channels]", x->name,
                sl_shape_print(x->shape).text);
        return NULL;
    }
    return sl_flatten(sl_avg_pool2d(x, .kernel = (int)x->shape.dim[1], .kernel_width = (int)x->shape.dim[2]));
}

sl_node *sl_dropout_with(sl_node *x, const sl_dropout_options *options)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    const float rate = sl_float_or(options->rate, 0);
    if (!(rate >= 0 && rate < 1)) {
        sl_fail(x->graph->ctx, SL_ARGUMENT, "dropout: the rate is %g; it must be in [0, 1)", (double)rate);
        return NULL;
    }
    if (rate == 0) return x;
    const sl_dropout_attr attr = {rate, x->graph->ctx->options.seed, x->graph->streams++};
    return sl_node2(SL_OP_DROPOUT, &attr, x, sl_step_node(x->graph));
}

sl_node *sl_batch_norm_with(sl_node *x, const sl_batch_norm_options *options)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    sl_graph *graph = x->graph;
    const char *name = layer_name(graph, options->name, KIND_NORM, "norm");
    const sl_batch_norm_attr attr = {sl_float_or(options->epsilon, 1e-5f),
                                     sl_float_or(options->momentum, 0.1f)};
    if (!(attr.epsilon > 0) || !(attr.momentum >= 0 && attr.momentum <= 1)) {
        sl_fail(graph->ctx, SL_ARGUMENT, "%s: epsilon %g must be positive and momentum %g in [0, 1]", name,
                (double)attr.epsilon, (double)attr.momentum);
        return NULL;
    }
    const sl_shape shape = {1, {sl_shape_last(x->shape)}};
    sl_node *in[5] = {x};
    in[1] = parameter(graph, name, "weight", shape, &(sl_parameter_options){.init = {SL_INIT_CONSTANT, 1}});
    in[2] = parameter(graph, name, "bias", shape, &(sl_parameter_options){.init = {SL_INIT_ZEROS, 0}});
    for (int i = 0; i < 2; i++)
        in[3 + i] = sl_variable_new(
            graph, &(sl_variable){.name = sl_graph_text(graph, "%s.running_%s", name, i ? "var" : "mean"),
                                  .kind = SL_VARIABLE_STATE,
                                  .shape = shape,
                                  .fill = i});
    sl_node *y = sl_node_new(graph, SL_OP_BATCH_NORM, &attr, 5, in);
    if (y) sl_node_rename(y, name);
    return y;
}

/* --- losses --- */

static sl_node *predicts(sl_node *y, sl_op op)
{
    if (y) {
        y->graph->prediction = y;
        y->graph->prediction_op = op;
    }
    return y;
}

sl_node *sl_softmax_cross_entropy(sl_node *logits, sl_node *labels)
{
    sl_node *each = sl_node2(SL_OP_SOFTMAX_CROSS_ENTROPY, NULL, predicts(logits, SL_OP_SOFTMAX), labels);
    return sl_mean(each);
}

sl_node *sl_binary_cross_entropy(sl_node *logits, sl_node *targets)
{
    return sl_mean(sl_node2(SL_OP_LOGISTIC_CROSS_ENTROPY, NULL, predicts(logits, SL_OP_ACTIVATION), targets));
}

/* Broadcasting would make a loss of a wrong pair of shapes, and hide the mistake. */
static sl_node *difference(sl_node *y, sl_node *targets)
{
    if (y && targets && !sl_shape_equal(y->shape, targets->shape)) {
        sl_fail(y->graph->ctx, SL_SHAPE, "squared error: outputs '%s' are %s but targets '%s' are %s",
                y->name, sl_shape_print(y->shape).text, targets->name, sl_shape_print(targets->shape).text);
        return NULL;
    }
    return sl_square(sl_sub(predicts(y, SL_OP_RESHAPE), targets));
}

sl_node *sl_mean_squared_error(sl_node *y, sl_node *targets)
{
    return sl_mean(difference(y, targets));
}

sl_node *sl_half_squared_error(sl_node *y, sl_node *targets)
{
    sl_node *half = sl_scale(difference(y, targets), 0.5, 0);
    return sl_node1(SL_OP_MEAN, &(sl_mean_attr){.per_sample = true}, half);
}
