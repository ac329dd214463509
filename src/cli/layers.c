/* The layers of a model line as a table: shapes, parameters, work. */
#include <stdlib.h>

#include "cli.h"

typedef struct table {
    const sl_model *model;
    bool *counted; /* of the model's parameters: a recurrent layer reads its own in every step */
    int64_t parameters;
    double work;
    /* the row that is being gathered: a product takes the bias behind it along */
    const sl_node *node;
    const char *operation;
    int64_t row_parameters;
    double row_work;
} table;

static int64_t elements(const sl_node *node)
{
    const sl_shape shape = sl_node_shape(node);
    int64_t n = 1;
    for (int i = 0; i < shape.n; i++) n *= shape.dim[i] == SL_BATCH ? 1 : shape.dim[i];
    return n;
}

static bool is(const sl_node *node, const char *operation)
{
    return strcmp(sl_node_operation(node), operation) == 0;
}

/* Learned numbers that the node is the first to read. */
static int64_t learned(const table *t, const sl_node *node)
{
    int64_t n = 0;
    for (int k = 0; sl_node_input(node, k); k++) {
        const sl_node *input = sl_node_input(node, k);
        sl_parameter_info info;
        for (int i = 0; is(input, "variable") && sl_model_parameter(t->model, i, &info); i++)
            if (info.learned && !t->counted[i] && strcmp(info.name, sl_node_name(input)) == 0) {
                n += elements(input);
                t->counted[i] = true;
            }
    }
    return n;
}

/* Multiplications and additions for one image. */
static double work(const sl_node *node)
{
    if (!is(node, "matmul") && !is(node, "conv2d")) return (double)elements(node);
    const sl_shape weight = sl_node_shape(sl_node_input(node, 1));
    const int64_t outputs = weight.dim[weight.n - 1];
    return 2 * (double)elements(node) * (double)elements(sl_node_input(node, 1)) / (double)outputs;
}

static const char *shape_text(const sl_node *node, char *text, size_t size)
{
    const sl_shape shape = sl_node_shape(node);
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < shape.n && used < size; i++)
        if (shape.dim[i] != SL_BATCH)
            used += (size_t)snprintf(text + used, size - used, "%s%lld", used ? " x " : "",
                                     (long long)shape.dim[i]);
    return text;
}

static const char *work_text(double flop, char *text, size_t size)
{
    if (flop >= 1e9)
        snprintf(text, size, "%.2f G", flop / 1e9);
    else if (flop >= 1e6)
        snprintf(text, size, "%.2f M", flop / 1e6);
    else if (flop >= 1e3)
        snprintf(text, size, "%.1f k", flop / 1e3);
    else
        snprintf(text, size, "%.0f  ", flop);
    return text;
}

/* The length of the name of the recurrent layer that a node is a step of; 0: of none. */
static int recurrent(const sl_node *node)
{
    const char *name = sl_node_name(node), *dot = strchr(name, '.');
    const bool layer = strncmp(name, "lstm", 4) == 0 || strncmp(name, "rnn", 3) == 0;
    return layer && dot ? (int)(dot - name) : 0;
}

static void print_row(table *t)
{
    char shape[64], flop[32], name[64];
    if (!t->node) return;
    const int layer = recurrent(t->node);
    snprintf(name, sizeof name, "%.*s", layer ? layer : 63, sl_node_name(t->node));
    printf("  %-20s %-14s %16s %12s %10s\n", name, layer ? "recurrence" : t->operation,
           shape_text(t->node, shape, sizeof shape),
           t->row_parameters ? cli_count(t->row_parameters).text : "",
           t->row_work > 0 ? work_text(t->row_work, flop, sizeof flop) : "");
    t->parameters += t->row_parameters;
    t->work += t->row_work;
    t->node = NULL;
}

static void add_node(table *t, const sl_node *node)
{
    const int layer = recurrent(node);
    if (layer && t->node && layer == recurrent(t->node) &&
        strncmp(sl_node_name(node), sl_node_name(t->node), (size_t)layer + 1) ==
            0) { /* one row for all steps */
        if (!is(node, "output") && !is(node, "variable")) t->node = node;
        t->row_parameters += learned(t, node);
        t->row_work += work(node);
        return;
    }
    if (is(node, "variable") || is(node, "output") || is(node, "reshape")) return;
    if (is(node, "bias") && t->node && sl_node_input(node, 0) == t->node) {
        t->node = node;
        t->row_parameters += learned(t, node);
        t->row_work += work(node);
        return;
    }
    print_row(t);
    t->node = node;
    t->operation = sl_node_operation(node);
    t->row_parameters = learned(t, node);
    t->row_work = is(node, "input") ? 0 : work(node);
}

int cli_print_layers(sl_context *ctx, const char *line, sl_activation activation, const int64_t *dims)
{
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *logits = sl_model_line(sl_input_dims(graph, "image", dims), line, activation, (sl_init){0});
    int nodes = 0;
    while (logits && sl_graph_node(graph, nodes)) nodes++; /* those of the loss do not count */
    sl_node *loss = sl_softmax_cross_entropy(logits, sl_labels(graph, "label"));
    sl_model *model = loss ? sl_compile(loss, .batch = 1) : NULL;
    if (!model) return sl_error_code(ctx) == SL_MEMORY ? CLI_FAILURE : CLI_USAGE;
    const char *preset = sl_model_preset(line);
    char work_all[32], act[SL_ACTIVATION_TEXT];
    int parameters = 0;
    for (sl_parameter_info info; sl_model_parameter(model, parameters, &info);) parameters++;
    table t = {.model = model, .counted = calloc((size_t)parameters + 1, sizeof(bool))};
    if (!t.counted) return CLI_FAILURE;
    printf("%s\n\n  %-20s %-14s %16s %12s %10s\n", preset ? preset : line, "layer", "operation", "output",
           "parameters", "FLOP");
    for (int i = 0; i < nodes; i++) add_node(&t, sl_graph_node(graph, i));
    print_row(&t);
    free(t.counted);
    printf("  %-20s %-14s %16s %12s %10s\n", "together", "", "", cli_count(t.parameters).text,
           work_text(t.work, work_all, sizeof work_all));
    printf("\nact is %s. FLOP: multiplications and additions for one image, forward; a\n"
           "training step takes about three times as many.\n",
           sl_activation_print(activation, act, sizeof act));
    return CLI_SUCCESS;
}
