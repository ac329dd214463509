/* Running a plan: all calls at once, or one by one where something is to be watched. */
#include <math.h>
#include <stdlib.h>

#include "graph/plan.h"

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#    define POISON(data, bytes)   __asan_poison_memory_region((data), (bytes))
#    define UNPOISON(data, bytes) __asan_unpoison_memory_region((data), (bytes))
#else
#    define POISON(data, bytes)   ((void)(data), (void)(bytes))
#    define UNPOISON(data, bytes) ((void)(data), (void)(bytes))
#endif

/* Guarded placement: a tensor is NaN until its life begins, and out of reach outside of it. */
static void set_life(const sl_plan *plan, const sl_buffer *buffer, bool begins)
{
    const sl_backend *backend = plan->ctx->backend;
    if (!backend->host_memory) {
        if (backend->life) backend->life(plan->ctx->device, buffer->data, (size_t)buffer->bytes, begins);
    } else if (begins) {
        UNPOISON(buffer->data, (size_t)buffer->bytes);
        memset(buffer->data, 0xff, (size_t)buffer->bytes); /* all ones: a NaN in float and in double */
    } else {
        POISON(buffer->data, (size_t)buffer->bytes);
    }
}

static void begin_life(sl_plan *plan, int position)
{
    for (int b = 0; b < plan->n_buffers; b++) {
        sl_buffer *buffer = &plan->buffers[b];
        if (buffer->first != position || buffer->bytes == 0) continue;
        set_life(plan, buffer, true);
    }
}

static void end_life(sl_plan *plan, int position)
{
    for (int b = 0; b < plan->n_buffers; b++)
        if (plan->buffers[b].last == position) set_life(plan, &plan->buffers[b], false);
}

static bool check_finite(sl_plan *plan, const sl_call *call, const sl_tensor *tensor)
{
    /* A diagnosis may overflow where what it looks at does not. */
    const bool diagnosis = call->op == SL_OP_ACTIVATION_STATISTICS || call->op == SL_OP_WEIGHT_STATISTICS;
    if (!tensor->data || tensor->dtype != SL_FLOAT || diagnosis) return true;
    int64_t count = sl_shape_count(tensor->shape);
    /* Rows of a batch that do not count may hold anything. */
    if (call->valid && tensor->shape.n > 0 && tensor->shape.dim[0] == plan->batch) {
        int32_t valid = 0;
        sl_to_host(plan->ctx, &valid, 0, SL_INT, plan->valid_data, 1);
        count = count / plan->batch * valid;
    }
    double *values = sl_new(plan->ctx, (size_t)count, sizeof *values, "checking values");
    if (!values) return false;
    sl_to_host(plan->ctx, values, sizeof *values, SL_FLOAT, tensor->data, count);
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i])) {
            sl_fail(plan->ctx, SL_NOT_FINITE, "node '%s' (%s): element %lld of %s is %s", call->name,
                    sl_op_name(call->op), (long long)i, sl_shape_print(tensor->shape).text,
                    isnan(values[i]) ? "NaN" : "infinite");
            break;
        }
    free(values);
    return sl_ok(plan->ctx);
}

static sl_status run_watched(sl_plan *plan)
{
    const sl_backend *backend = plan->ctx->backend;
    if (plan->guarded)
        for (int b = 0; b < plan->n_buffers; b++)
            if (plan->buffers[b].first >= 0) set_life(plan, &plan->buffers[b], false);
    int at = 0;
    for (int c = 0; c < plan->n_calls; c++) {
        const int position = plan->position[plan->call_nodes[c]->id];
        if (plan->guarded)
            for (; at <= position; at++) begin_life(plan, at);
        void *handle = NULL;
        if (backend->run(plan->ctx->device, plan->ctx, &plan->calls[c], 1, &handle) != SL_OK) break;
        if (handle) backend->release(plan->ctx->device, handle);
        if (plan->options.checked)
            for (int k = 0; k < plan->calls[c].n_out; k++)
                if (!check_finite(plan, &plan->calls[c], &plan->calls[c].out[k])) return plan->ctx->code;
        if (plan->guarded) {
            const int next =
                c + 1 < plan->n_calls ? plan->position[plan->call_nodes[c + 1]->id] : plan->n_order;
            for (int p = position; p < next; p++) end_life(plan, p);
        }
    }
    return plan->ctx->code;
}

sl_status sl_plan_run(sl_plan *plan)
{
    if (!plan) return SL_ARGUMENT;
    if (!sl_ok(plan->ctx)) return plan->ctx->code;
    if (plan->guarded || plan->options.checked) return run_watched(plan);
    return plan->ctx->backend->run(plan->ctx->device, plan->ctx, plan->calls, plan->n_calls, &plan->handle);
}
