/* Where every tensor lies: lifetimes, in-place operations, one arena. */
#include <stdlib.h>

#include "graph/plan.h"

enum { ALIGNMENT = 256 }; /* bytes: cache lines, and what CUDA's vector accesses like */

int sl_plan_buffer(sl_plan *plan, int64_t bytes, int first, int last)
{
    if (plan->n_buffers == plan->buffer_capacity) {
        const int capacity = plan->buffer_capacity ? 2 * plan->buffer_capacity : 64;
        sl_buffer *buffers = realloc(plan->buffers, (size_t)capacity * sizeof *buffers);
        if (!buffers) return -1;
        plan->buffers = buffers;
        plan->buffer_capacity = capacity;
    }
    plan->buffers[plan->n_buffers] = (sl_buffer){.bytes = bytes, .first = first, .last = last};
    return plan->n_buffers++;
}

/* --- lifetimes --- */

static void last_uses(const sl_plan *plan, int *last)
{
    for (int i = 0; i < plan->n_order; i++) {
        const sl_node *node = plan->order[i];
        last[node->id] = i;
        if (node->op == SL_OP_OUTPUT) last[node->id] = plan->position[node->in[0]->id];
    }
    for (int i = 0; i < plan->n_order; i++) {
        const sl_node *node = plan->order[i];
        if (node->op == SL_OP_OUTPUT) continue;
        for (int k = 0; k < node->n_in; k++)
            if (last[node->in[k]->id] < i) last[node->in[k]->id] = i;
    }
    for (int i = 0; i < plan->n_roots; i++) last[plan->roots[i]->id] = plan->n_order;
    if (plan->valid) last[plan->valid->id] = plan->n_order;
}

/* Gradients are computed right where the packed block wants them. */
static void place_packed(sl_plan *plan, bool *packed)
{
    const int64_t size = (int64_t)plan->ctx->backend->real_size;
    for (int i = 0; i < plan->n_order; i++) {
        const sl_node *pack = plan->order[i];
        if (pack->op != SL_OP_PACK || !pack->variable) continue;
        char *block = sl_plan_variable(plan, pack->variable);
        plan->data[pack->id] = block;
        packed[pack->id] = true;
        for (int k = 0; k < pack->n_in; k++) {
            const sl_node *node = pack->in[k];
            const int flags = sl_op_flags(node->op);
            const bool computed = node->op == SL_OP_OUTPUT || !(flags & (SL_FLAG_LEAF | SL_FLAG_VIEW));
            if (computed && !plan->data[node->id]) {
                plan->data[node->id] = block;
                packed[node->id] = true;
            }
            block += sl_packed_count(&node->shape, 1) * size;
        }
    }
}

/* Whether `node` may write over the buffer of its first input. */
static bool may_take_over(const sl_plan *plan, const sl_node *node, int i)
{
    if (!(sl_op_flags(node->op) & SL_FLAG_INPLACE)) return false;
    const sl_node *x = node->in[0];
    const int b = plan->buffer_of[x->id];
    if (b < 0 || x->op == SL_OP_INPUT) return false;
    if (plan->buffers[b].last != i || plan->buffers[b].bytes != sl_node_bytes(plan, node)) return false;
    for (int k = 1; k < node->n_in; k++)
        if (plan->buffer_of[node->in[k]->id] == b && !sl_shape_equal(node->in[k]->shape, node->shape))
            return false;
    return true;
}

static bool make_buffers(sl_plan *plan, const int *last, const bool *packed)
{
    for (int i = 0; i < plan->n_order; i++) {
        const sl_node *node = plan->order[i];
        plan->buffer_of[node->id] = -1;
        if (packed[node->id] || (node->n_out == 0 && node->op != SL_OP_OUTPUT)) continue;
        if (node->op == SL_OP_VARIABLE) {
            plan->data[node->id] = sl_plan_variable(plan, node->variable);
            continue;
        }
        const bool is_view = sl_op_flags(node->op) & SL_FLAG_VIEW;
        if (is_view || (!plan->guarded && may_take_over(plan, node, i))) {
            const int b = plan->buffer_of[node->in[0]->id];
            plan->buffer_of[node->id] = b;
            if (b >= 0 && plan->buffers[b].last < last[node->id]) plan->buffers[b].last = last[node->id];
            if (b < 0) plan->data[node->id] = plan->data[node->in[0]->id];
            continue;
        }
        /* Filled before the first run, not by it. */
        const bool is_kept = node->op == SL_OP_INPUT || node->op == SL_OP_FILL;
        const int first = is_kept ? -1 : node->op == SL_OP_OUTPUT ? plan->position[node->in[0]->id] : i;
        const int b =
            sl_plan_buffer(plan, sl_node_bytes(plan, node), first, is_kept ? plan->n_order : last[node->id]);
        if (b < 0) return false;
        plan->buffer_of[node->id] = b;
    }
    return true;
}

/* An output that nobody reads needs no memory where the kernel may leave it out: it has NULL in the call. */
static void drop_unread(sl_plan *plan)
{
    for (int c = 0; c < plan->n_calls; c++)
        for (int k = 0; k < plan->calls[c].n_out; k++) {
            const sl_node *output = plan->call_nodes[c]->outputs[k];
            const int b = plan->position[output->id] < 0 ? -1 : plan->buffer_of[output->id];
            if (!plan->calls[c].out[k].data && b >= 0) plan->buffers[b].bytes = 0;
        }
}

/* --- the arena --- */

static int by_size(const void *a, const void *b)
{
    const sl_buffer *x = *(sl_buffer *const *)a, *y = *(sl_buffer *const *)b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Where little memory is needed, a device that runs calls side by side gets it without any used twice: calls
 * that share nothing else need not wait for each other. */
enum { APART_BYTES = 4 << 20 };
static bool lies_apart(const sl_plan *plan)
{
    int64_t bytes = 0;
    for (int b = 0; b < plan->n_buffers; b++) bytes += plan->buffers[b].bytes;
    return !plan->ctx->backend->host_memory && bytes <= APART_BYTES;
}

/* Largest first, each at the lowest place that is free during its whole life. */
static bool lay_out(sl_plan *plan)
{
    const bool apart = lies_apart(plan);
    sl_buffer **sorted = sl_new(plan->ctx, (size_t)plan->n_buffers * 2, sizeof *sorted, "the arena's layout");
    if (!sorted) return false;
    sl_buffer **placed = sorted + plan->n_buffers;
    for (int i = 0; i < plan->n_buffers; i++) sorted[i] = &plan->buffers[i];
    qsort(sorted, (size_t)plan->n_buffers, sizeof *sorted, by_size);
    for (int i = 0; i < plan->n_buffers; i++) {
        sl_buffer *buffer = sorted[i];
        int64_t offset = 0;
        for (int k = 0; k < i; k++) { /* placed[] is sorted by offset */
            const sl_buffer *other = placed[k];
            if (!apart && (other->last < buffer->first || buffer->last < other->first)) continue;
            if (offset + buffer->bytes <= other->offset) break;
            const int64_t end = (other->offset + other->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            if (end > offset) offset = end;
        }
        buffer->offset = offset;
        int at = i;
        for (; at > 0 && placed[at - 1]->offset > offset; at--) placed[at] = placed[at - 1];
        placed[at] = buffer;
        if (offset + buffer->bytes > plan->arena_bytes) plan->arena_bytes = offset + buffer->bytes;
    }
    free(sorted);
    for (int i = 0; i < plan->n_order; i++) {
        int64_t live = 0;
        for (int b = 0; b < plan->n_buffers; b++)
            if (plan->buffers[b].first <= i && i <= plan->buffers[b].last) live += plan->buffers[b].bytes;
        if (live > plan->live_bytes) plan->live_bytes = live;
    }
    return true;
}

static bool allocate(sl_plan *plan)
{
    const sl_backend *backend = plan->ctx->backend;
    sl_device *device = plan->ctx->device;
    if (plan->guarded) {
        for (int b = 0; b < plan->n_buffers; b++) {
            plan->buffers[b].offset = -1;
            plan->buffers[b].data = backend->alloc(device, (size_t)plan->buffers[b].bytes);
            if (!plan->buffers[b].data) return false;
        }
    } else {
        plan->arena = backend->alloc(device, (size_t)plan->arena_bytes);
        if (!plan->arena) {
            sl_fail(plan->ctx, SL_MEMORY,
                    "out of memory: a batch of %lld needs %.1f MiB on the %s; try a smaller batch",
                    (long long)plan->batch, (double)plan->arena_bytes / (1 << 20), backend->name);
            return false;
        }
        for (int b = 0; b < plan->n_buffers; b++)
            plan->buffers[b].data = plan->arena + plan->buffers[b].offset;
    }
    if (plan->valid) return true;
    plan->valid_data = backend->alloc(device, sizeof *plan->valid_data);
    plan->owns_valid = true;
    const int32_t all = (int32_t)plan->batch;
    if (plan->valid_data) sl_to_device(plan->ctx, plan->valid_data, SL_INT, &all, 0, 1);
    return plan->valid_data != NULL;
}

/* --- addresses --- */

static void fill_addresses(sl_plan *plan)
{
    for (int i = 0; i < plan->n_order; i++) {
        const sl_node *node = plan->order[i];
        const int b = plan->buffer_of[node->id];
        if (b >= 0)
            plan->data[node->id] = plan->buffers[b].data;
        else if (sl_op_flags(node->op) & SL_FLAG_VIEW)
            plan->data[node->id] = plan->data[node->in[0]->id];
    }
    if (plan->valid) plan->valid_data = plan->data[plan->valid->id];
    for (int c = 0; c < plan->n_calls; c++) {
        sl_call *call = &plan->calls[c];
        const sl_node *node = plan->call_nodes[c];
        for (int k = 0; k < call->n_in; k++) ((sl_tensor *)call->in)[k].data = plan->data[node->in[k]->id];
        for (int k = 0; k < call->n_out; k++)
            if (call->out[k].data) ((sl_tensor *)call->out)[k].data = plan->data[node->outputs[k]->id];
        if (call->valid) call->valid = plan->valid_data;
        call->workspace = plan->call_buffer[c] >= 0 ? plan->buffers[plan->call_buffer[c]].data : NULL;
    }
}

/* A pack whose inputs all lie in place already. */
static bool is_idle_pack(const sl_call *call, size_t real_size)
{
    if (call->op != SL_OP_PACK) return false;
    const char *expected = call->out[0].data;
    for (int k = 0; k < call->n_in; k++) {
        if (call->in[k].data != expected) return false;
        expected += (size_t)sl_packed_count(&call->in[k].shape, 1) * real_size;
    }
    return true;
}

/* Takes out what no step has to do: packs of what lies in place, and constants, which are made here. */
static void drop_idle_calls(sl_plan *plan)
{
    const sl_backend *backend = plan->ctx->backend;
    int kept = 0;
    for (int c = 0; c < plan->n_calls; c++) {
        const sl_call *call = &plan->calls[c];
        if (is_idle_pack(call, backend->real_size)) continue;
        if (call->op == SL_OP_FILL) {
            void *handle = NULL;
            backend->run(plan->ctx->device, plan->ctx, call, 1, &handle);
            if (handle) backend->release(plan->ctx->device, handle);
            continue;
        }
        plan->calls[kept] = plan->calls[c];
        plan->call_nodes[kept] = plan->call_nodes[c];
        plan->call_buffer[kept++] = plan->call_buffer[c];
    }
    plan->n_calls = kept;
}

bool sl_plan_place(sl_plan *plan)
{
    sl_context *ctx = plan->ctx;
    const size_t n = (size_t)plan->graph->n;
    plan->buffer_of = sl_new(ctx, n, sizeof *plan->buffer_of, "the arena's layout");
    plan->data = sl_new(ctx, n, sizeof *plan->data, "the arena's layout");
    int *last = sl_new(ctx, n, sizeof *last, "the arena's layout");
    bool *packed = sl_new(ctx, n, sizeof *packed, "the arena's layout");
    bool good = plan->buffer_of && plan->data && last && packed;
    if (good) {
        last_uses(plan, last);
        place_packed(plan, packed);
        for (int c = 0; c < plan->n_calls; c++) plan->call_buffer[c] = -1;
        good = make_buffers(plan, last, packed);
    }
    for (int c = 0; c < plan->n_calls && good; c++) {
        const size_t bytes =
            plan->calls[c].kernel->workspace ? plan->calls[c].kernel->workspace(&plan->calls[c]) : 0;
        if (bytes == 0) continue;
        const int at = plan->position[plan->call_nodes[c]->id];
        plan->call_buffer[c] = sl_plan_buffer(plan, (int64_t)bytes, at, at);
        good = plan->call_buffer[c] >= 0;
    }
    if (good) {
        drop_unread(plan);
        good = lay_out(plan) && allocate(plan);
    }
    if (good) {
        /* Packed gradients: `data` held the block's or the piece's address already. */
        fill_addresses(plan);
        drop_idle_calls(plan);
    }
    free(last);
    free(packed);
    return good && sl_ok(ctx);
}
