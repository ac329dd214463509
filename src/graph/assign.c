/* Which kernel runs each node: the first of the back end's that supports the call. */
#include <stdlib.h>

#include "graph/plan.h"

const sl_kernel *sl_find_kernel(sl_context *ctx, sl_op op)
{
    for (const sl_kernel *const *family = ctx->backend->kernels(ctx->device); *family; family++)
        for (const sl_kernel *kernel = *family; kernel->run; kernel++)
            if (kernel->op == op) return kernel;
    return NULL;
}

static const sl_kernel *choose(const sl_plan *plan, const sl_call *call)
{
    const sl_kernel *chosen = NULL;
    for (const sl_kernel *const *family = plan->ctx->backend->kernels(plan->ctx->device); *family; family++)
        for (const sl_kernel *kernel = *family; kernel->run; kernel++) {
            if (kernel->op != call->op || (kernel->supports && !kernel->supports(call))) continue;
            chosen = kernel;
            if (!plan->options.reference_kernels)
                return chosen; /* fast ones stand first, the reference last */
        }
    return chosen;
}

static bool needs_call(const sl_node *node)
{
    return !(sl_op_flags(node->op) & (SL_FLAG_LEAF | SL_FLAG_VIEW));
}

static bool touches_batch(const sl_node *node)
{
    for (int i = 0; i < node->n_in; i++)
        if (sl_batched(node->in[i])) return true;
    for (int k = 0; k < node->n_out; k++)
        if (sl_batched(node->outputs[k])) return true;
    return false;
}

static bool is_read(const sl_plan *plan, const sl_node *output, const bool *read)
{
    for (int i = 0; i < plan->n_roots; i++)
        if (plan->roots[i] == output) return true;
    return read[output->id];
}

/* The node's call with no addresses yet; `tensors`: its inputs, then its outputs. */
static sl_call call_of(const sl_plan *plan, const sl_node *node, sl_tensor *tensors)
{
    /* Until addresses are known, a tensor's data only tells NULL (nobody reads it) from something. */
    static char something;
    sl_call call = {.op = node->op,
                    .n_in = node->n_in,
                    .n_out = node->n_out,
                    .attr = node->attr,
                    .batch = plan->batch,
                    .device = plan->ctx->device,
                    .name = node->name,
                    .in = tensors,
                    .out = tensors + node->n_in,
                    .valid = touches_batch(node) ? (const int32_t *)&something : NULL};
    for (int k = 0; k < node->n_in; k++)
        *tensors++ = (sl_tensor){&something, sl_concrete(plan, node->in[k]->shape), node->in[k]->dtype};
    for (int k = 0; k < node->n_out; k++)
        *tensors++ =
            (sl_tensor){&something, sl_concrete(plan, node->outputs[k]->shape), node->outputs[k]->dtype};
    return call;
}

bool sl_plan_supports(const sl_plan *plan, const sl_node *node)
{
    sl_tensor tensors[16];
    if (node->n_in + node->n_out > 16) return false;
    const sl_call call = call_of(plan, node, tensors);
    return choose(plan, &call) != NULL;
}

bool sl_plan_assign(sl_plan *plan)
{
    sl_context *ctx = plan->ctx;
    int tensors = 0, n = 0;
    for (int i = 0; i < plan->n_order; i++)
        if (needs_call(plan->order[i])) n++, tensors += plan->order[i]->n_in + plan->order[i]->n_out;
    plan->calls = sl_new(ctx, (size_t)n, sizeof *plan->calls, "kernel calls");
    plan->call_nodes = sl_new(ctx, (size_t)n, sizeof *plan->call_nodes, "kernel calls");
    plan->call_buffer = sl_new(ctx, (size_t)n, sizeof *plan->call_buffer, "kernel calls");
    plan->tensors = sl_new(ctx, (size_t)tensors, sizeof *plan->tensors, "kernel calls");
    bool *read = sl_new(ctx, (size_t)plan->graph->n, sizeof *read, "kernel calls");
    if (!plan->calls || !plan->call_nodes || !plan->call_buffer || !plan->tensors || !read) {
        free(read);
        return false;
    }
    for (int i = 0; i < plan->n_order; i++)
        for (int k = 0; k < plan->order[i]->n_in && plan->order[i]->op != SL_OP_OUTPUT; k++)
            read[plan->order[i]->in[k]->id] = true;
    sl_tensor *tensor = plan->tensors;
    for (int i = 0; i < plan->n_order && sl_ok(ctx); i++) {
        sl_node *node = plan->order[i];
        if (!needs_call(node)) continue;
        sl_call *call = &plan->calls[plan->n_calls];
        *call = call_of(plan, node, tensor);
        tensor += node->n_in;
        for (int k = 0; k < node->n_out; k++, tensor++)
            if (node->n_out > 1 && !is_read(plan, node->outputs[k], read)) tensor->data = NULL;
        call->kernel = choose(plan, call);
        if (!call->kernel) {
            sl_fail(ctx, SL_UNSUPPORTED, "operation '%s' (node '%s', %s) has no kernel on the %s back end",
                    sl_op_name(node->op), node->name, sl_shape_print(sl_concrete(plan, node->shape)).text,
                    ctx->backend->name);
            break;
        }
        plan->call_nodes[plan->n_calls++] = node;
    }
    free(read);
    return sl_ok(ctx);
}
