/* Models as a line of words: "conv5-8 act pool2 conv5-16 act pool2 dense10". */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/activation.h"
#include "core/formula_parse.h"
#include "core/text.h"
#include "graph/graph.h"
#include "slope/layers.h"

static const struct {
    const char *name, *line;
} presets[] = {
    {"softmax", "dense10"},
    {"mlp", "dense128 act dense10"},
    {"lenet", "conv5-8 act pool2 conv5-16 act pool2 dense10"},
    {"cnn", "conv3-32 bn act conv3-64 bn act pool2 drop.25 dense128 bn act drop.5 dense10"},
};

const char *sl_model_preset(const char *name)
{
    for (size_t i = 0; name && i < sizeof presets / sizeof *presets; i++)
        if (strcmp(presets[i].name, name) == 0) return presets[i].line;
    return NULL;
}

typedef struct reader {
    sl_context *ctx;
    const char *line, *at; /* the whole, and the next character */
    sl_activation activation;
    sl_init init;
    int depth;
} reader;

static sl_node *fail(const reader *r, const char *word, const char *what)
{
    const int length = (int)strcspn(word, " \t");
    sl_fail(r->ctx, SL_ARGUMENT, "model line, character %d, '%.*s': %s", (int)(word - r->line) + 1, length,
            word, what);
    return NULL;
}

/* What a word may carry behind its name. */
typedef struct word {
    const char *start, *end;
    int numbers[2], count; /* conv3-32: 3 and 32 */
    int pad, stride, dilation;
    float l2;
} word;

static bool read_integer(const char **at, int *value)
{
    char *end = NULL;
    const long number = **at >= '0' && **at <= '9' ? strtol(*at, &end, 10) : -1;
    if (number < 0 || number > 1 << 24) return false;
    *value = (int)number;
    *at = end;
    return true;
}

static bool read_numbers(reader *r, word *w, const char *at, int wanted)
{
    for (w->count = 0; w->count < wanted; w->count++) {
        if (w->count > 0 && *at++ != '-') break;
        if (!read_integer(&at, &w->numbers[w->count])) break;
    }
    if (w->count < wanted)
        return fail(r, w->start,
                    wanted > 1 ? "expected kernel-filters, as in conv3-32"
                               : "expected a number behind the name");
    while (at < w->end) {
        const char letter = *at++;
        char *end = NULL;
        bool good = true;
        if (letter == 'p')
            good = read_integer(&at, &w->pad);
        else if (letter == 's')
            good = read_integer(&at, &w->stride) && w->stride > 0;
        else if (letter == 'd')
            good = read_integer(&at, &w->dilation) && w->dilation > 0;
        else if (letter == '~') {
            w->l2 = sl_text_to_float(at, &end);
            good = end != at && w->l2 >= 0 && isfinite(w->l2);
            at = end;
        } else
            good = false;
        if (!good)
            return fail(r, w->start,
                        "only p, s, d with a number (padding, stride, dilation) or ~ with an L2 may follow");
    }
    return true;
}

static sl_node *line_dense(reader *r, word *w, sl_node *x)
{
    if (!read_numbers(r, w, w->start + strlen("dense"), 1)) return NULL;
    if (w->numbers[0] < 1) return fail(r, w->start, "a layer needs at least one unit");
    return sl_dense(x, .units = w->numbers[0], .init = r->init, .l2 = w->l2);
}

/* The rows of an image are the steps. */
static sl_node *line_lstm(reader *r, word *w, sl_node *x)
{
    if (!read_numbers(r, w, w->start + strlen("lstm"), 1)) return NULL;
    if (w->numbers[0] < 1) return fail(r, w->start, "a layer needs at least one unit");
    return sl_lstm(x, .units = w->numbers[0], .init = r->init, .l2 = w->l2);
}

static sl_node *line_rnn(reader *r, word *w, sl_node *x)
{
    if (!read_numbers(r, w, w->start + strlen("rnn"), 1)) return NULL;
    if (w->numbers[0] < 1) return fail(r, w->start, "a layer needs at least one unit");
    return sl_rnn(x, .units = w->numbers[0], .activation = r->activation, .init = r->init, .l2 = w->l2);
}

static sl_node *line_conv(reader *r, word *w, sl_node *x)
{
    if (!read_numbers(r, w, w->start + strlen("conv"), 2)) return NULL;
    return sl_conv2d(x, .kernel = w->numbers[0], .filters = w->numbers[1], .pad = w->pad, .stride = w->stride,
                     .dilation = w->dilation, .init = r->init, .l2 = w->l2);
}

static sl_node *line_pool(reader *r, word *w, sl_node *x)
{
    if (!read_numbers(r, w, w->start + strlen("pool"), 1)) return NULL;
    return sl_max_pool2d(x, .kernel = w->numbers[0], .stride = w->stride, .pad = w->pad);
}

static sl_node *line_avgpool(reader *r, word *w, sl_node *x)
{
    if (!read_numbers(r, w, w->start + strlen("avgpool"), 1)) return NULL;
    return sl_avg_pool2d(x, .kernel = w->numbers[0], .stride = w->stride, .pad = w->pad);
}

static sl_node *line_drop(reader *r, word *w, sl_node *x)
{
    char *end = NULL;
    const float rate = sl_text_to_float(w->start + strlen("drop"), &end);
    if (end != w->end || !(rate >= 0 && rate < 1))
        return fail(r, w->start, "expected a rate in [0, 1), as in drop.25");
    return sl_dropout(x, .rate = rate == 0 ? SL_ZERO : rate);
}

static sl_node *line_bn(reader *r, word *w, sl_node *x)
{
    float momentum = 0, epsilon = 0;
    if (w->end - w->start > 2) { /* bn(momentum,epsilon) */
        char *at = (char *)w->start + 2;
        bool good = *at == '(';
        if (good) momentum = sl_text_to_float(at + 1, &at);
        good = good && *at == ',';
        if (good) epsilon = sl_text_to_float(at + 1, &at);
        if (!good || *at != ')' || at + 1 != w->end)
            return fail(r, w->start, "expected bn or bn(momentum,epsilon)");
    }
    return sl_batch_norm(x, .momentum = momentum, .epsilon = epsilon);
}

static sl_node *line_gap(reader *r, word *w, sl_node *x)
{
    return w->end - w->start == 3 ? sl_global_avg_pool(x) : fail(r, w->start, "nothing may follow gap");
}

static sl_node *line_flatten(reader *r, word *w, sl_node *x)
{
    return w->end - w->start == 7 ? sl_flatten(x) : fail(r, w->start, "nothing may follow flatten");
}

static sl_node *line_act(reader *r, word *w, sl_node *x)
{
    return w->end - w->start == 3 ? sl_activate(x, r->activation)
                                  : fail(r, w->start, "nothing may follow act");
}

static sl_node *sequence(reader *r, sl_node *x);

/* res( … ): x + f(x); where f changes the shape, x passes through a 1×1 convolution. */
static sl_node *line_res(reader *r, word *w, sl_node *x)
{
    if (w->end - w->start != 4) return fail(r, w->start, "expected res( … ) with spaces inside the brackets");
    if (++r->depth > 32) return fail(r, w->start, "blocks are nested too deeply");
    sl_node *y = sequence(r, x);
    r->depth--;
    if (!y) return NULL;
    if (*r->at != ')') return fail(r, w->start, "its closing bracket is missing");
    r->at++;
    if (!sl_shape_equal(x->shape, y->shape)) {
        if (x->shape.n != 4 || y->shape.n != 4) return fail(r, w->start, "what is inside changes the shape");
        const int64_t sh = (x->shape.dim[1] + y->shape.dim[1] - 1) / y->shape.dim[1];
        const int64_t sw = (x->shape.dim[2] + y->shape.dim[2] - 1) / y->shape.dim[2];
        x = sl_conv2d(x, .kernel = 1, .filters = (int)y->shape.dim[3], .stride = (int)sh,
                      .stride_width = (int)sw, .init = r->init);
    }
    return sl_add(x, y);
}

static const struct {
    const char *name;
    sl_node *(*build)(reader *r, word *w, sl_node *x);
} words[] = {
    {"dense", line_dense}, {"conv", line_conv}, {"pool", line_pool}, {"avgpool", line_avgpool},
    {"drop", line_drop},   {"bn", line_bn},     {"gap", line_gap},   {"flatten", line_flatten},
    {"act", line_act},     {"res(", line_res},  {"lstm", line_lstm}, {"rnn", line_rnn},
};

static sl_node *build_word(reader *r, word *w, sl_node *x)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp(w->start, words[i].name, strlen(words[i].name)) == 0) return words[i].build(r, w, x);
    char name[64];
    const size_t length = (size_t)(w->end - w->start), bare = strcspn(w->start, "( ");
    snprintf(name, sizeof name, "%.*s", (int)bare, w->start);
    char text[SL_ACTIVATION_TEXT];
    snprintf(text, sizeof text, "%.*s", (int)length, w->start);
    if (length >= sizeof text || (!sl_activation_find_row(name) && !sl_formula_is_expression(text)))
        return fail(
            r, w->start,
            "unknown word; there are dense, conv, pool, avgpool, gap, bn, drop, flatten, lstm, rnn, act, "
            "res( … ), the activations, and expressions in x without spaces");
    return sl_activate(x, sl_activation_parse(r->ctx, text));
}

static sl_node *sequence(reader *r, sl_node *x)
{
    while (x) {
        r->at += strspn(r->at, " \t");
        if (*r->at == 0 || *r->at == ')') return x;
        word w = {.start = r->at, .end = r->at + strcspn(r->at, " \t")};
        if (strncmp(w.start, "res(", 4) == 0)
            w.end = w.start + 4;
        else /* the bracket that closes a block belongs to the block: "dense10)" */
            for (int open = 0; w.end > w.start && w.end[-1] == ')'; w.end--) {
                open = 0;
                for (const char *c = w.start; c < w.end; c++) open += *c == '(' ? 1 : *c == ')' ? -1 : 0;
                if (open >= 0) break;
            }
        if (w.end == w.start) return fail(r, w.start, "a bracket that nothing opened");
        r->at = w.end;
        x = build_word(r, &w, x);
    }
    return NULL;
}

sl_node *sl_model_line(sl_node *x, const char *line, sl_activation activation, sl_init init)
{
    if (!x || !sl_ok(x->graph->ctx)) return NULL;
    const char *preset = sl_model_preset(line);
    if (preset) line = preset;
    sl_graph *graph = x->graph;
    reader r = {.ctx = graph->ctx, .activation = activation, .init = init};
    r.line = r.at = line ? line : "";
    if (r.line[strspn(r.line, " \t")] == 0) {
        sl_fail(graph->ctx, SL_ARGUMENT,
                "the model line is empty; try mlp, lenet, cnn or \"dense128 act dense10\"");
        return NULL;
    }
    sl_node *y = sequence(&r, x);
    if (y && *r.at == ')') return fail(&r, r.at, "a bracket that nothing opened");
    if (y && x->op == SL_OP_INPUT) {
        graph->line_end = y;
        graph->line = sl_graph_text(graph, "%s", r.line);
        graph->line_activation = activation;
    }
    return y;
}
