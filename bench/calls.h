/* What the calls of a plan have to do: operations of the products, bytes that must move. */
#ifndef BENCH_CALLS_H
#define BENCH_CALLS_H

#include <stdlib.h>

#include "graph/plan.h"

static inline double plan_operations(const sl_plan *plan)
{
    double sum = 0;
    for (int c = 0; c < plan->n_calls; c++) sum += sl_call_operations(&plan->calls[c]);
    return sum;
}

/* Bytes that a step must move at the least: every tensor that it reads once, every tensor that it writes
 * once, of a data set the rows that are drawn, of a record one row. */
static inline double plan_bytes(const sl_plan *plan)
{
    const size_t n = (size_t)plan->graph->n;
    bool *read = calloc(n, 1);
    double bytes = 0;
    for (int c = 0; c < plan->n_calls && read; c++) {
        const sl_call *call = &plan->calls[c];
        const sl_node *node = plan->call_nodes[c];
        for (int k = 0; k < call->n_in; k++) {
            const sl_node *from = node->in[k];
            while (sl_op_flags(from->op) & SL_FLAG_VIEW) from = from->in[0];
            const bool state = from->variable && from->variable->kind == SL_VARIABLE_STATE;
            const bool data = from->variable && from->variable->kind == SL_VARIABLE_DATA;
            if (read[from->id] || data || (call->op == SL_OP_RECORD && k == 0)) continue;
            read[from->id] = true;
            /* An effect writes the states that it reads. */
            const bool effect = state && (sl_op_flags(call->op) & SL_FLAG_EFFECT);
            bytes += (effect ? 2.0 : 1.0) * (double)sl_node_bytes(plan, from);
        }
        for (int k = 0; k < call->n_out; k++)
            if (call->out[k].data)
                bytes += (call->op == SL_OP_DRAW_BATCH ? 2.0 : 1.0) *
                         (double)sl_node_bytes(plan, node->outputs[k]);
    }
    free(read);
    return bytes;
}
#endif
