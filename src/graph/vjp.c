/* Reverse mode: the adjoints of a scalar, appended to the graph as ordinary nodes. */
#include <stdlib.h>

#include "graph/graph.h"

/* Which nodes' adjoints matter: those of `wrt` and everything computed from them. */
static void mark_dependent(const sl_graph *graph, int n, const sl_node *const *wrt, int n_wrt, bool *depends)
{
    for (int i = 0; i < n_wrt; i++) depends[wrt[i]->id] = true;
    for (int id = 0; id < n; id++) {
        const sl_node *node = graph->nodes[id];
        for (int k = 0; k < node->n_in && !depends[id]; k++) depends[id] = depends[node->in[k]->id];
    }
}

static sl_node *add_adjoint(sl_node *sum, sl_node *term)
{
    return sum ? sl_node2(SL_OP_ADD, NULL, sum, term) : term;
}

static bool propagate(sl_node *node, sl_node **adjoint, const bool *depends)
{
    sl_node *dy[SL_MAX_OUTPUTS] = {NULL};
    bool any = false;
    for (int k = 0; k < node->n_out; k++) {
        dy[k] = adjoint[node->outputs[k]->id];
        any = any || dy[k];
    }
    if (!any || node->n_in == 0) return true;
    const sl_op_rules *rules = sl_rules(node->op);
    if (!rules->vjp) {
        sl_fail(node->graph->ctx, SL_UNSUPPORTED, "sl_gradients: %s ('%s') has no derivative",
                sl_op_name(node->op), node->name);
        return false;
    }
    bool wanted[SL_MAX_INPUTS] = {false};
    sl_node *dx[SL_MAX_INPUTS] = {NULL};
    bool some = false;
    for (int i = 0; i < node->n_in; i++) {
        wanted[i] = depends[node->in[i]->id] && node->in[i]->dtype == SL_FLOAT;
        some = some || wanted[i];
    }
    if (!some) return true;
    rules->vjp(node, dy, wanted, dx);
    for (int i = 0; i < node->n_in; i++)
        if (wanted[i] && dx[i]) adjoint[node->in[i]->id] = add_adjoint(adjoint[node->in[i]->id], dx[i]);
    return sl_ok(node->graph->ctx);
}

sl_status sl_differentiate(sl_node *y, sl_node *const *wrt, int n, sl_node **out)
{
    sl_graph *graph = y->graph;
    const int before = graph->n;
    for (int i = 0; i < n; i++) out[i] = NULL;
    sl_node **adjoint = sl_new(graph->ctx, (size_t)before, sizeof *adjoint, "adjoints");
    bool *depends = sl_new(graph->ctx, (size_t)before, sizeof *depends, "adjoints");
    if (adjoint && depends) {
        mark_dependent(graph, before, (const sl_node *const *)wrt, n, depends);
        adjoint[y->id] = sl_constant(graph, y->shape, 1);
        bool good = adjoint[y->id] != NULL;
        for (int id = y->id; id >= 0 && good; id--) {
            sl_node *node = graph->nodes[id];
            if (node->op != SL_OP_OUTPUT && depends[id]) good = propagate(node, adjoint, depends);
        }
        for (int i = 0; i < n && good; i++) out[i] = adjoint[wrt[i]->id];
    }
    free(adjoint);
    free(depends);
    return graph->ctx->code;
}

sl_status sl_gradients(sl_node *y, sl_node *const *wrt, int n, sl_node **out)
{
    for (int i = 0; i < n; i++) out[i] = NULL;
    if (!y) return SL_ARGUMENT;
    sl_context *ctx = y->graph->ctx;
    if (!sl_ok(ctx)) return ctx->code;
    if (sl_shape_count(y->shape) != 1 || sl_batched(y))
        return sl_fail(ctx, SL_SHAPE,
                       "sl_gradients: %s is %s; only a scalar has a gradient (take a mean or a sum first)",
                       y->name, sl_shape_print(y->shape).text);
    for (int i = 0; i < n; i++) {
        if (!wrt[i]) return sl_fail(ctx, SL_ARGUMENT, "sl_gradients: node %d is NULL", i);
        if (wrt[i]->graph != y->graph)
            return sl_fail(ctx, SL_ARGUMENT, "sl_gradients: %s belongs to another graph", wrt[i]->name);
    }
    if (sl_differentiate(y, wrt, n, out) != SL_OK) return ctx->code;
    for (int i = 0; i < n; i++)
        if (!out[i])
            return sl_fail(ctx, SL_ARGUMENT, "sl_gradients: %s does not depend on %s", y->name, wrt[i]->name);
    return SL_OK;
}

sl_node *sl_gradient(sl_node *y, sl_node *wrt)
{
    sl_node *out = NULL;
    return sl_gradients(y, &wrt, 1, &out) == SL_OK ? out : NULL;
}
