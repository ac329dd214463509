/* Making graphs and nodes. */
#include <stdarg.h>
#include <stdlib.h>

#include "graph/graph.h"

/* --- memory: blocks that are freed together --- */

struct sl_block {
    struct sl_block *next;
    size_t used, size;
    max_align_t data[];
};

void *sl_graph_alloc(sl_graph *graph, size_t bytes)
{
    bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct sl_block *block = graph->memory;
    if (!block || block->size - block->used < bytes) {
        const size_t size = bytes > 16384 ? bytes : 16384;
        block = sl_new(graph->ctx, 1, sizeof *block + size, "graph nodes");
        if (!block) return NULL;
        block->size = size;
        block->next = graph->memory;
        graph->memory = block;
    }
    void *memory = (char *)block->data + block->used;
    block->used += bytes;
    return memory;
}

const char *sl_graph_text(sl_graph *graph, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : sl_graph_alloc(graph, (size_t)length + 1);
    if (!text) return "";
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

/* --- graphs --- */

static void graph_free(sl_owned *owned)
{
    sl_graph *graph = (sl_graph *)owned;
    for (struct sl_block *block = graph->memory, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(graph->nodes);
    free(graph);
}

sl_graph *sl_graph_new(sl_context *ctx)
{
    if (!sl_ok(ctx)) return NULL;
    sl_graph *graph = sl_new(ctx, 1, sizeof *graph, "a graph");
    if (!graph) return NULL;
    graph->ctx = ctx;
    sl_own(ctx, &graph->owned, graph_free);
    return graph;
}

void sl_graph_free(sl_graph *graph)
{
    if (!graph) return;
    sl_disown(&graph->owned);
    graph_free(&graph->owned);
}

/* --- nodes --- */

static const struct {
    const char *name;
    int outputs, flags;
} op_table[] = {
#define NONE                      SL_FLAG_NONE
#define LEAF                      SL_FLAG_LEAF
#define VIEW                      SL_FLAG_VIEW
#define INPLACE                   SL_FLAG_INPLACE
#define EFFECT                    SL_FLAG_EFFECT
#define OP(id, text, count, flag) [SL_OP_##id] = {text, count, flag},
#include "slope/ops.def"
#undef OP
#undef NONE
#undef LEAF
#undef VIEW
#undef INPLACE
#undef EFFECT
};

const char *sl_op_name(sl_op op)
{
    return op_table[op].name;
}

int sl_op_flags(sl_op op)
{
    return op_table[op].flags;
}

bool sl_node_fail(sl_node *node, const char *format, ...)
{
    char what[512], inputs[384] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    size_t used = 0;
    for (int i = 0; i < node->n_in && used < sizeof inputs; i++)
        used += (size_t)snprintf(inputs + used, sizeof inputs - used, "%s%s %s", i ? ", " : "",
                                 node->in[i]->name, sl_shape_print(node->in[i]->shape).text);
    sl_fail(node->graph->ctx, SL_SHAPE, "%s: %s (inputs: %s)", sl_op_name(node->op), what, inputs);
    return false;
}

bool sl_set_output(sl_node *node, int k, sl_dtype dtype, sl_shape shape)
{
    node->outputs[k]->dtype = dtype;
    node->outputs[k]->shape = shape;
    return true;
}

static sl_node *append(sl_graph *graph, sl_op op, int n_in, sl_node *const *in)
{
    if (graph->n == graph->capacity) {
        const int capacity = graph->capacity ? 2 * graph->capacity : 64;
        sl_node **nodes = realloc(graph->nodes, (size_t)capacity * sizeof *nodes);
        if (!nodes) {
            sl_fail(graph->ctx, SL_MEMORY, "out of memory for %d graph nodes", capacity);
            return NULL;
        }
        graph->nodes = nodes;
        graph->capacity = capacity;
    }
    sl_node *node = sl_graph_alloc(graph, sizeof *node + (size_t)n_in * sizeof *node->in);
    if (!node) return NULL;
    node->graph = graph;
    node->op = op;
    node->id = node->rank = graph->n;
    node->in = (sl_node **)(node + 1);
    node->n_in = n_in;
    for (int i = 0; i < n_in; i++) node->in[i] = in[i];
    node->n_out = 1;
    node->outputs[0] = node;
    node->name = sl_graph_text(graph, "%s%d", sl_op_name(op), node->id);
    graph->nodes[graph->n++] = node;
    return node;
}

sl_node *sl_node_new(sl_graph *graph, sl_op op, const void *attr, int n_in, sl_node *const *in)
{
    if (!graph || !sl_ok(graph->ctx)) return NULL;
    for (int i = 0; i < n_in; i++) {
        if (!in[i]) return NULL;
        if (in[i]->graph != graph) {
            sl_fail(graph->ctx, SL_ARGUMENT, "%s: input %s belongs to another graph", sl_op_name(op),
                    in[i]->name);
            return NULL;
        }
    }
    const sl_op_rules *rules = sl_rules(op);
    const int before = graph->n;
    sl_node *node = append(graph, op, n_in, in);
    if (!node) return NULL;
    if (rules->attr_size) {
        node->attr = sl_graph_alloc(graph, rules->attr_size);
        if (!node->attr) return NULL;
        memcpy(node->attr, attr, rules->attr_size);
    }
    for (int k = 1; k < op_table[op].outputs; k++) {
        sl_node *output = append(graph, SL_OP_OUTPUT, 1, &node);
        if (!output) return NULL;
        output->output_index = k;
        output->name = sl_graph_text(graph, "%s.%d", node->name, k);
        node->outputs[k] = output;
        node->n_out = k + 1;
    }
    if (op_table[op].outputs == 0) node->n_out = 0;
    if (!rules->infer(node) || !sl_ok(graph->ctx)) {
        graph->n = before;
        return NULL;
    }
    return node;
}

sl_node *sl_node1(sl_op op, const void *attr, sl_node *a)
{
    return a ? sl_node_new(a->graph, op, attr, 1, &a) : NULL;
}

sl_node *sl_node2(sl_op op, const void *attr, sl_node *a, sl_node *b)
{
    return a ? sl_node_new(a->graph, op, attr, 2, (sl_node *[]){a, b}) : NULL;
}

sl_node *sl_node3(sl_op op, const void *attr, sl_node *a, sl_node *b, sl_node *c)
{
    return a ? sl_node_new(a->graph, op, attr, 3, (sl_node *[]){a, b, c}) : NULL;
}

/* --- leaves --- */

static bool infer_leaf(sl_node *node)
{
    (void)node; /* whoever makes a leaf sets its shape */
    return true;
}
const sl_op_rules sl_rules_INPUT = {.infer = infer_leaf};
const sl_op_rules sl_rules_VARIABLE = {.infer = infer_leaf};
const sl_op_rules sl_rules_OUTPUT = {.infer = infer_leaf};

static sl_node *leaf(sl_graph *graph, sl_op op, const char *name, sl_dtype dtype, sl_shape shape)
{
    sl_node *node = sl_node_new(graph, op, NULL, 0, NULL);
    if (!node) return NULL;
    sl_set_output(node, 0, dtype, shape);
    if (name) node->name = sl_graph_text(graph, "%s", name);
    return node;
}

sl_node *sl_input_dims(sl_graph *graph, const char *name, const int64_t *dims)
{
    if (!graph || !sl_ok(graph->ctx)) return NULL;
    sl_shape shape = {.n = 1, .dim = {SL_BATCH}};
    for (; dims && *dims != 0; dims++) {
        if (*dims < 0 || shape.n == SL_MAX_DIMS) {
            sl_fail(graph->ctx, SL_SHAPE,
                    "sl_input '%s': an input has at most %d dimensions per sample, each at least 1",
                    name ? name : "", SL_MAX_DIMS - 1);
            return NULL;
        }
        shape.dim[shape.n++] = *dims;
    }
    return leaf(graph, SL_OP_INPUT, name, SL_FLOAT, shape);
}

sl_node *sl_labels(sl_graph *graph, const char *name)
{
    return leaf(graph, SL_OP_INPUT, name, SL_INT, (sl_shape){1, {SL_BATCH}});
}

sl_node *sl_variable_node(sl_graph *graph, sl_variable *variable)
{
    sl_node *node = leaf(graph, SL_OP_VARIABLE, variable->name, variable->dtype, variable->shape);
    if (node) node->variable = variable;
    return node;
}

sl_node *sl_variable_new(sl_graph *graph, const sl_variable *like)
{
    if (!graph || !sl_ok(graph->ctx)) return NULL;
    sl_variable *variable = sl_graph_alloc(graph, sizeof *variable);
    if (!variable) return NULL;
    *variable = *like;
    variable->name = sl_graph_text(graph, "%s", like->name);
    variable->stream = graph->streams++;
    if (!sl_ok(graph->ctx)) return NULL;
    return sl_variable_node(graph, variable);
}

sl_node *sl_step_node(sl_graph *graph)
{
    if (graph && !graph->step)
        graph->step = sl_variable_new(
            graph,
            &(sl_variable){.name = "step", .kind = SL_VARIABLE_STATE, .dtype = SL_INT, .shape = {1, {1}}});
    return graph ? graph->step : NULL;
}

sl_node *sl_parameter_with(sl_graph *graph, const char *name, sl_shape shape,
                           const sl_parameter_options *options)
{
    if (!graph || !sl_ok(graph->ctx)) return NULL;
    for (int i = 0; i < shape.n; i++)
        if (shape.dim[i] < 1) {
            sl_fail(graph->ctx, SL_SHAPE, "sl_parameter '%s': dimension %d is %lld; it must be at least 1",
                    name ? name : "", i, (long long)shape.dim[i]);
            return NULL;
        }
    const int64_t last = sl_shape_last(shape);
    return sl_variable_new(graph, &(sl_variable){.name = name ? name : "parameter",
                                                 .kind = SL_VARIABLE_PARAMETER,
                                                 .shape = shape,
                                                 .init = options->init,
                                                 .gain = 1,
                                                 .l2 = options->l2,
                                                 .decay = options->decay,
                                                 .fan_in = sl_shape_count(shape) / last,
                                                 .fan_out = last});
}

/* --- looking at nodes --- */

sl_shape sl_node_shape(const sl_node *node)
{
    return node ? node->shape : (sl_shape){0};
}

const char *sl_node_name(const sl_node *node)
{
    return node ? node->name : "none";
}

void sl_node_rename(sl_node *node, const char *name)
{
    if (node && name) node->name = sl_graph_text(node->graph, "%s", name);
}

sl_context *sl_node_context(const sl_node *node)
{
    return node ? node->graph->ctx : NULL;
}

void sl_graph_print(const sl_graph *graph, FILE *to)
{
    if (!graph || !to) return;
    for (int i = 0; i < graph->n; i++) {
        const sl_node *node = graph->nodes[i];
        fprintf(to, "%4d  %-26s %-24s %-14s", node->id, sl_op_name(node->op), node->name,
                sl_shape_print(node->shape).text);
        for (int k = 0; k < node->n_in; k++) fprintf(to, "%s%s", k ? ", " : "  ← ", node->in[k]->name);
        fputc('\n', to);
    }
}
