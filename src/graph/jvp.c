/* Forward mode: the derivative along a direction, appended to the graph as ordinary nodes. */
#include <stdlib.h>

#include "graph/graph.h"

/* Nodes that some y is computed from. */
static void mark_needed(const sl_graph *graph, int n, sl_node *const *y, int n_y, bool *needed)
{
    for (int i = 0; i < n_y; i++) needed[y[i]->id] = true;
    for (int id = n - 1; id >= 0; id--) {
        const sl_node *node = graph->nodes[id];
        for (int k = 0; k < node->n_in && needed[id]; k++) needed[node->in[k]->id] = true;
    }
}

/* Sets the tangents of a node's outputs from those of its inputs. */
static bool push(sl_node *node, sl_node **tangent)
{
    sl_node *tx[SL_MAX_INPUTS] = {NULL}, *ty[SL_MAX_OUTPUTS] = {NULL};
    bool any = false;
    for (int i = 0; i < node->n_in && i < SL_MAX_INPUTS; i++) {
        tx[i] = tangent[node->in[i]->id];
        any = any || tx[i];
    }
    if (!any) return true;
    const sl_op_rules *rules = sl_rules(node->op);
    if (!rules->jvp) {
        sl_fail(node->graph->ctx, SL_UNSUPPORTED, "sl_jvp: %s ('%s') has no forward derivative",
                sl_op_name(node->op), node->name);
        return false;
    }
    rules->jvp(node, tx, ty);
    for (int k = 0; k < node->n_out; k++)
        if (!tangent[node->outputs[k]->id]) tangent[node->outputs[k]->id] = ty[k];
    return sl_ok(node->graph->ctx);
}

static void push_all(sl_graph *graph, int n, sl_node *const *y, int n_y, sl_node **tangent, sl_node **out)
{
    bool *needed = sl_new(graph->ctx, (size_t)n, sizeof *needed, "tangents");
    if (!needed) return;
    mark_needed(graph, n, y, n_y, needed);
    bool good = true;
    for (int id = 0; id < n && good; id++)
        if (needed[id] && !tangent[id] && graph->nodes[id]->op != SL_OP_OUTPUT)
            good = push(graph->nodes[id], tangent);
    for (int i = 0; i < n_y && good; i++) out[i] = tangent[y[i]->id];
    free(needed);
}

sl_status sl_jvp(sl_node *const *y, int n_y, sl_node *const *wrt, sl_node *const *along, int n_wrt,
                 sl_node **out)
{
    for (int i = 0; i < n_y; i++) out[i] = NULL;
    if (n_y < 1 || !y[0]) return SL_ARGUMENT;
    sl_graph *graph = y[0]->graph;
    sl_context *ctx = graph->ctx;
    if (!sl_ok(ctx)) return ctx->code;
    for (int i = 0; i < n_y; i++)
        if (!y[i] || y[i]->graph != graph)
            return sl_fail(ctx, SL_ARGUMENT, "sl_jvp: y[%d] is NULL or of another graph", i);
    for (int i = 0; i < n_wrt; i++) {
        if (!wrt[i] || !along[i] || wrt[i]->graph != graph || along[i]->graph != graph)
            return sl_fail(ctx, SL_ARGUMENT, "sl_jvp: node %d is NULL or of another graph", i);
        if (along[i]->dtype != SL_FLOAT || !sl_shape_equal(wrt[i]->shape, along[i]->shape))
            return sl_fail(ctx, SL_SHAPE, "sl_jvp: '%s' is %s, but its tangent '%s' is %s", wrt[i]->name,
                           sl_shape_print(wrt[i]->shape).text, along[i]->name,
                           sl_shape_print(along[i]->shape).text);
    }
    const int before = graph->n;
    sl_node **tangent = sl_new(ctx, (size_t)before, sizeof *tangent, "tangents");
    if (tangent) {
        for (int i = 0; i < n_wrt; i++) tangent[wrt[i]->id] = along[i];
        push_all(graph, before, y, n_y, tangent, out);
    }
    free(tangent);
    for (int i = 0; i < n_y && sl_ok(ctx); i++)
        if (!out[i])
            sl_fail(ctx, SL_ARGUMENT, "sl_jvp: %s does not depend on what the tangents belong to",
                    y[i]->name);
    return ctx->code;
}
