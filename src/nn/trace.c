/* A step run node by node, with a fingerprint of every output: how two runs are compared. */
#include "nn/trace.h"

#include <stdlib.h>

static uint64_t mix(uint64_t hash, const uint32_t *words, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        hash = (hash ^ words[i]) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    return hash;
}

/* Bytes of raw images are never an output of a kernel, so every element fills a word. */
static uint64_t fingerprint(sl_plan *plan, const sl_call *call, const sl_tensor *tensor)
{
    int64_t count = sl_shape_count(tensor->shape);
    if (call->valid && tensor->shape.n > 0 && tensor->shape.dim[0] == plan->batch) {
        int32_t valid = 0;
        sl_to_host(plan->ctx, &valid, 0, SL_INT, plan->valid_data, 1);
        count = count / plan->batch * valid; /* rows that do not count may hold anything */
    }
    uint32_t *words = sl_new(plan->ctx, (size_t)count, sizeof *words, "tracing a step");
    if (!words) return 0;
    sl_to_host(plan->ctx, words, sizeof(float), tensor->dtype, tensor->data, count);
    const uint64_t hash = mix(0x9e3779b97f4a7c15u, words, count);
    free(words);
    return hash;
}

sl_status sl_plan_trace(sl_plan *plan, sl_trace *trace, void *data)
{
    const sl_backend *backend = plan->ctx->backend;
    for (int c = 0; c < plan->n_calls && sl_ok(plan->ctx); c++) {
        const sl_call *call = &plan->calls[c];
        void *handle = NULL;
        if (backend->run(plan->ctx->device, plan->ctx, call, 1, &handle) != SL_OK) break;
        if (handle) backend->release(plan->ctx->device, handle);
        for (int k = 0; k < call->n_out; k++) {
            const sl_tensor *out = &call->out[k];
            if (!out->data || out->dtype == SL_BYTE) continue;
            const sl_node *node = plan->call_nodes[c];
            trace(data, node->outputs[k]->name, sl_op_name(call->op), fingerprint(plan, call, out));
        }
    }
    return plan->ctx->code;
}
