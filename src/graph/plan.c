/* From nodes to a plan: the stages in order, and what the user sees of it. */
#include "graph/plan.h"

#include <stdlib.h>

sl_shape sl_concrete(const sl_plan *plan, sl_shape shape)
{
    for (int i = 0; i < shape.n; i++)
        if (shape.dim[i] == SL_BATCH) shape.dim[i] = plan->batch;
    return shape;
}

int64_t sl_node_bytes(const sl_plan *plan, const sl_node *node)
{
    const size_t size = sl_dtype_size(node->dtype, plan->ctx->backend->real_size);
    return sl_shape_count(sl_concrete(plan, node->shape)) * (int64_t)size;
}

/* --- collecting --- */

static int by_rank(const void *a, const void *b)
{
    const sl_node *x = *(sl_node *const *)a, *y = *(sl_node *const *)b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

bool sl_plan_collect(sl_plan *plan)
{
    const int n = plan->graph->n;
    free(plan->position);
    free(plan->order);
    plan->order = sl_new(plan->ctx, (size_t)n, sizeof *plan->order, "the order of execution");
    plan->position = sl_new(plan->ctx, (size_t)n, sizeof *plan->position, "the order of execution");
    sl_node **stack = sl_new(plan->ctx, (size_t)n + 1, sizeof *stack, "the order of execution");
    if (!plan->order || !plan->position || !stack) {
        free(stack);
        return false;
    }
    for (int id = 0; id < n; id++) plan->position[id] = -1;
    int depth = 0;
    plan->n_order = 0;
#define PUSH(node)                                                                                           \
    if (plan->position[(node)->id] < 0) plan->position[(node)->id] = 0, stack[depth++] = (node)
    for (int i = 0; i < plan->n_roots; i++) PUSH(plan->roots[i]);
    if (plan->valid) PUSH(plan->valid);
    while (depth > 0) {
        sl_node *node = stack[--depth];
        plan->order[plan->n_order++] = node;
        for (int k = 0; k < node->n_in; k++) PUSH(node->in[k]);
        for (int k = 1; k < node->n_out; k++) PUSH(node->outputs[k]);
    }
#undef PUSH
    free(stack);
    qsort(plan->order, (size_t)plan->n_order, sizeof *plan->order, by_rank);
    for (int i = 0; i < plan->n_order; i++) plan->position[plan->order[i]->id] = i;
    return true;
}

/* --- building --- */

static void plan_destroy(sl_owned *owned)
{
    sl_plan *plan = (sl_plan *)owned;
    const sl_backend *backend = plan->ctx->backend;
    if (plan->handle) backend->release(plan->ctx->device, plan->handle);
    for (int i = 0; i < plan->n_buffers; i++)
        if (plan->buffers[i].offset < 0 && plan->buffers[i].data)
            backend->free(plan->ctx->device, plan->buffers[i].data);
    if (plan->arena) backend->free(plan->ctx->device, plan->arena);
    if (plan->owns_valid && plan->valid_data) backend->free(plan->ctx->device, plan->valid_data);
    if (plan->owns_store) sl_store_free(plan->store);
    sl_store_free(plan->own);
    sl_graph_free(plan->graph);
    free(plan->roots);
    free(plan->order);
    free(plan->position);
    free(plan->buffers);
    free(plan->buffer_of);
    free(plan->data);
    free(plan->calls);
    free(plan->call_nodes);
    free(plan->call_buffer);
    free(plan->tensors);
    free(plan->fusions);
    free(plan->copies);
    free(plan);
}

void sl_plan_free(sl_plan *plan)
{
    if (!plan) return;
    sl_disown(&plan->owned);
    plan_destroy(&plan->owned);
}

static bool on(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value && strcmp(value, "0") != 0;
}

static bool gather_variables(sl_plan *plan)
{
    sl_variable **shared = sl_new(plan->ctx, (size_t)plan->n_order * 2, sizeof *shared, "variables");
    if (!shared) return false;
    sl_variable **own = shared + plan->n_order;
    int n_shared = 0, n_own = 0;
    for (int i = 0; i < plan->n_order; i++) {
        sl_variable *variable = plan->order[i]->variable;
        if (!variable) continue;
        if (variable->kind == SL_VARIABLE_DATA || variable->kind == SL_VARIABLE_SCRATCH)
            own[n_own++] = variable;
        else
            shared[n_shared++] = variable;
    }
    plan->own = sl_store_new(plan->ctx);
    if (plan->own) sl_store_add(plan->own, own, n_own);
    sl_store_add(plan->store, shared, n_shared);
    free(shared);
    return sl_ok(plan->ctx);
}

void *sl_plan_variable(const sl_plan *plan, const sl_variable *variable)
{
    void *data = sl_store_data(plan->own, variable);
    return data ? data : sl_store_data(plan->store, variable);
}

sl_plan *sl_plan_build(const sl_plan_request *request)
{
    sl_context *ctx = request->graph->ctx;
    sl_plan *plan = sl_ok(ctx) ? sl_new(ctx, 1, sizeof *plan, "a plan") : NULL;
    if (!plan) {
        sl_graph_free(request->graph);
        return NULL;
    }
    plan->ctx = ctx;
    plan->graph = request->graph;
    sl_disown(&plan->graph->owned); /* the plan's now */
    plan->store = request->store;
    plan->options = request->options;
    plan->batch = request->options.batch;
    plan->valid = request->valid;
    plan->guarded = on("SLOPE_GUARD");
    if (on("SLOPE_REFERENCE_KERNELS")) plan->options.reference_kernels = true;
    sl_own(ctx, &plan->owned, plan_destroy);
    plan->roots = sl_new(ctx, (size_t)request->n, sizeof *plan->roots, "a plan");
    bool good = plan->roots != NULL;
    for (int i = 0; i < request->n && good; i++) plan->roots[plan->n_roots++] = request->roots[i];
    good = good && sl_plan_collect(plan) && (plan->options.no_fuse || sl_plan_fuse(plan)) &&
           gather_variables(plan) && sl_plan_assign(plan) && sl_plan_place(plan);
    if (!good) {
        sl_fail(ctx, SL_MEMORY, "out of memory while planning");
        sl_plan_free(plan);
        return NULL;
    }
    return plan;
}

sl_plan *sl_plan_new(sl_node *const *outputs, int n, const sl_plan_options *options)
{
    if (n < 1 || !outputs || !outputs[0]) return NULL;
    sl_graph *graph = outputs[0]->graph;
    sl_context *ctx = graph->ctx;
    if (!sl_ok(ctx)) return NULL;
    sl_plan_options filled = options ? *options : (sl_plan_options){0};
    filled.batch = sl_int_or(filled.batch, 1);
    if (filled.batch < 1) {
        sl_fail(ctx, SL_ARGUMENT, "sl_plan_new: batch is %d; it must be at least 1", filled.batch);
        return NULL;
    }
    for (int i = 0; i < n; i++)
        if (!outputs[i] || outputs[i]->graph != graph) {
            sl_fail(ctx, SL_ARGUMENT, "sl_plan_new: output %d is NULL or belongs to another graph", i);
            return NULL;
        }
    sl_init_resolve(graph);
    sl_graph *lowered = sl_graph_new(ctx);
    sl_node **copies = sl_new(ctx, (size_t)graph->n, sizeof *copies, "a plan");
    sl_node **roots = sl_new(ctx, (size_t)n, sizeof *roots, "a plan");
    sl_store *store = sl_store_new(ctx);
    sl_plan *plan = NULL;
    if (lowered && copies && roots && store) {
        memcpy(roots, outputs, (size_t)n * sizeof *roots);
        if (sl_lower(lowered, roots, n, filled.training, NULL, 0, copies) == SL_OK)
            plan = sl_plan_build(&(sl_plan_request){
                .graph = lowered, .roots = roots, .n = n, .store = store, .options = filled});
        else
            sl_graph_free(lowered);
    }
    free(roots);
    if (plan) {
        plan->owns_store = true;
        plan->user_graph = graph;
        plan->copies = copies;
        plan->n_copies = graph->n;
        return plan;
    }
    free(copies);
    sl_store_free(store);
    return NULL;
}

/* --- values in and out --- */

static void *locate(sl_plan *plan, const sl_node *node, const char *call, bool writing, int64_t count)
{
    if (!plan || !node || !sl_ok(plan->ctx)) return NULL;
    const sl_node *copy = NULL;
    if (node->graph == plan->user_graph && node->id < plan->n_copies) copy = plan->copies[node->id];
    while (copy && copy->fused_into) copy = copy->fused_into;
    void *data = copy ? sl_plan_data(plan, copy) : NULL;
    bool reachable = data && (copy->op == SL_OP_INPUT || copy->op == SL_OP_VARIABLE);
    if (!writing && data)
        for (int i = 0; i < plan->n_roots; i++)
            if (plan->roots[i] == copy) reachable = true;
    if (!reachable) {
        sl_fail(plan->ctx, SL_ARGUMENT, "%s: '%s' is no %s of this plan", call, node->name,
                writing ? "input or parameter" : "output, input or parameter");
        return NULL;
    }
    const int64_t wanted = sl_shape_count(sl_concrete(plan, node->shape));
    if (count != wanted) {
        sl_fail(plan->ctx, SL_SHAPE, "%s: '%s' is %s, %lld elements, but %lld were given", call, node->name,
                sl_shape_print(sl_concrete(plan, node->shape)).text, (long long)wanted, (long long)count);
        return NULL;
    }
    return data;
}

static sl_status set(sl_plan *plan, const sl_node *node, const void *values, sl_dtype dtype, size_t size,
                     int64_t count)
{
    void *data = locate(plan, node, "sl_plan_set", true, count);
    if (!data) return plan ? plan->ctx->code : SL_ARGUMENT;
    if (node->dtype != dtype)
        return sl_fail(plan->ctx, SL_ARGUMENT, "sl_plan_set: '%s' holds %s", node->name,
                       node->dtype == SL_INT ? "integers: use sl_plan_set_int" : "floats: use sl_plan_set");
    return sl_to_device(plan->ctx, data, dtype, values, size, count);
}

sl_status sl_plan_set(sl_plan *plan, const sl_node *node, const float *values, int64_t count)
{
    return set(plan, node, values, SL_FLOAT, sizeof *values, count);
}

sl_status sl_plan_set_double(sl_plan *plan, const sl_node *node, const double *values, int64_t count)
{
    return set(plan, node, values, SL_FLOAT, sizeof *values, count);
}

sl_status sl_plan_set_int(sl_plan *plan, const sl_node *node, const int32_t *values, int64_t count)
{
    return set(plan, node, values, SL_INT, sizeof *values, count);
}

static sl_status get(sl_plan *plan, const sl_node *node, void *values, size_t size, int64_t count)
{
    const void *data = locate(plan, node, "sl_plan_get", false, count);
    if (!data) return plan ? plan->ctx->code : SL_ARGUMENT;
    return sl_to_host(plan->ctx, values, size, node->dtype, data, count);
}

sl_status sl_plan_get(sl_plan *plan, const sl_node *node, float *values, int64_t count)
{
    return get(plan, node, values, sizeof *values, count);
}

sl_status sl_plan_get_double(sl_plan *plan, const sl_node *node, double *values, int64_t count)
{
    return get(plan, node, values, sizeof *values, count);
}

sl_status sl_plan_set_valid(sl_plan *plan, int samples)
{
    if (!plan) return SL_ARGUMENT;
    if (!sl_ok(plan->ctx)) return plan->ctx->code;
    if (samples < 1 || samples > plan->batch)
        return sl_fail(plan->ctx, SL_ARGUMENT, "sl_plan_set_valid: %d samples do not fit a batch of %lld",
                       samples, (long long)plan->batch);
    if (!plan->owns_valid)
        return sl_fail(plan->ctx, SL_ARGUMENT, "sl_plan_set_valid: this plan draws its own batches");
    const int32_t value = samples;
    return sl_to_device(plan->ctx, plan->valid_data, SL_INT, &value, 0, 1);
}

void *sl_plan_data(const sl_plan *plan, const sl_node *lowered)
{
    if (!lowered || lowered->graph != plan->graph || plan->position[lowered->id] < 0) return NULL;
    return plan->data[lowered->id];
}
