/* Copies the part of a graph that some nodes need, for training or for evaluating. */
#include <stdlib.h>

#include "graph/graph.h"

static void mark(const sl_node *node, bool *needed, const sl_replacement *replace, int n_replace)
{
    if (needed[node->id]) return;
    needed[node->id] = true;
    for (int i = 0; i < n_replace; i++)
        if (replace[i].old == node) return;
    for (int i = 0; i < node->n_in; i++) mark(node->in[i], needed, replace, n_replace);
}

static sl_node *copy_leaf(sl_graph *into, const sl_node *node)
{
    if (node->op == SL_OP_VARIABLE) return sl_variable_node(into, node->variable);
    sl_node *copy = sl_node_new(into, node->op, NULL, 0, NULL);
    return copy ? (sl_set_output(copy, 0, node->dtype, node->shape), copy) : NULL;
}

static sl_node *copy_node(sl_graph *into, const sl_node *node, sl_node **copies, bool training)
{
    if (node->op == SL_OP_OUTPUT) {
        const sl_node *producer = copies[node->in[0]->id];
        return producer && node->output_index < producer->n_out ? producer->outputs[node->output_index]
                                                                : NULL;
    }
    if (sl_op_flags(node->op) & SL_FLAG_LEAF) return copy_leaf(into, node);
    sl_node *in[16];
    for (int i = 0; i < node->n_in; i++) in[i] = copies[node->in[i]->id];
    const sl_op_rules *rules = sl_rules(node->op);
    if (!training && rules->evaluate) return rules->evaluate(into, node, in);
    return sl_node_new(into, node->op, node->attr, node->n_in, in);
}

sl_status sl_lower(sl_graph *into, sl_node **roots, int n, bool training, const sl_replacement *replace,
                   int n_replace, sl_node **copies)
{
    sl_context *ctx = into->ctx;
    const sl_graph *from = roots[0]->graph;
    bool *needed = sl_new(ctx, (size_t)from->n, sizeof *needed, "a copy of the graph");
    if (needed) {
        for (int i = 0; i < n; i++) mark(roots[i], needed, replace, n_replace);
        into->streams = from->streams;
        for (int id = 0; id < from->n && sl_ok(ctx); id++) {
            const sl_node *node = from->nodes[id];
            if (!needed[id]) continue;
            for (int i = 0; i < n_replace; i++)
                if (replace[i].old == node) copies[id] = replace[i].new_node;
            if (!copies[id]) {
                const int before = into->n;
                copies[id] = copy_node(into, node, copies, training);
                if (!copies[id])
                    sl_fail(ctx, SL_UNSUPPORTED,
                            "'%s' (%s) exists in training only; plan it with .training = true", node->name,
                            sl_op_name(node->op));
                else if (copies[id]->id >= before)
                    sl_node_rename(copies[id], node->name);
            }
            if (node == from->step) into->step = copies[id];
        }
        for (int i = 0; i < n && sl_ok(ctx); i++) roots[i] = copies[roots[i]->id];
    }
    free(needed);
    return ctx->code;
}
