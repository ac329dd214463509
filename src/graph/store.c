/* The memory behind variables. Several plans (training, evaluation) share one store. */
#include <stdlib.h>

#include "graph/graph.h"

typedef struct entry {
    const sl_variable *variable;
    void *data;
} entry;

struct sl_store {
    sl_context *ctx;
    entry *entries;
    int n, capacity;
    void **blocks; /* what sl_store_free gives back */
    int n_blocks, block_capacity;
};

sl_store *sl_store_new(sl_context *ctx)
{
    sl_store *store = sl_new(ctx, 1, sizeof *store, "a store");
    if (store) store->ctx = ctx;
    return store;
}

void sl_store_free(sl_store *store)
{
    if (!store) return;
    for (int i = 0; i < store->n_blocks; i++) store->ctx->backend->free(store->ctx->device, store->blocks[i]);
    free(store->blocks);
    free(store->entries);
    free(store);
}

void *sl_store_data(const sl_store *store, const sl_variable *variable)
{
    for (int i = 0; i < store->n; i++)
        if (store->entries[i].variable == variable) return store->entries[i].data;
    return NULL;
}

/* --- copying with conversion --- */

sl_status sl_to_device(sl_context *ctx, void *to, sl_dtype dtype, const void *host, size_t host_real,
                       int64_t count)
{
    const size_t real_size = ctx->backend->real_size;
    if (dtype != SL_FLOAT || host_real == real_size) {
        ctx->backend->upload(ctx->device, to, host, (size_t)count * sl_dtype_size(dtype, real_size));
        return ctx->code;
    }
    void *converted = sl_new(ctx, (size_t)count, real_size, "a copy to the device");
    if (!converted) return ctx->code;
    for (int64_t i = 0; i < count; i++)
        if (real_size == sizeof(double))
            ((double *)converted)[i] = ((const float *)host)[i];
        else
            ((float *)converted)[i] = (float)((const double *)host)[i];
    ctx->backend->upload(ctx->device, to, converted, (size_t)count * real_size);
    free(converted);
    return ctx->code;
}

sl_status sl_to_host(sl_context *ctx, void *host, size_t host_real, sl_dtype dtype, const void *from,
                     int64_t count)
{
    const size_t real_size = ctx->backend->real_size;
    if (dtype != SL_FLOAT || host_real == real_size) {
        ctx->backend->download(ctx->device, host, from, (size_t)count * sl_dtype_size(dtype, real_size));
        return ctx->code;
    }
    void *raw = sl_new(ctx, (size_t)count, real_size, "a copy from the device");
    if (!raw) return ctx->code;
    ctx->backend->download(ctx->device, raw, from, (size_t)count * real_size);
    for (int64_t i = 0; i < count; i++)
        if (host_real == sizeof(double))
            ((double *)host)[i] = ((const float *)raw)[i];
        else
            ((float *)host)[i] = (float)((const double *)raw)[i];
    free(raw);
    return ctx->code;
}

/* --- adding variables --- */

static void *new_block(sl_store *store, size_t bytes)
{
    if (store->n_blocks == store->block_capacity) {
        const int capacity = store->block_capacity ? 2 * store->block_capacity : 8;
        void **blocks = realloc(store->blocks, (size_t)capacity * sizeof *blocks);
        if (!blocks) return NULL;
        store->blocks = blocks;
        store->block_capacity = capacity;
    }
    void *memory = store->ctx->backend->alloc(store->ctx->device, bytes);
    if (memory) store->blocks[store->n_blocks++] = memory;
    return memory;
}

static bool add_entry(sl_store *store, const sl_variable *variable, void *data)
{
    if (store->n == store->capacity) {
        const int capacity = store->capacity ? 2 * store->capacity : 32;
        entry *entries = realloc(store->entries, (size_t)capacity * sizeof *entries);
        if (!entries) return false;
        store->entries = entries;
        store->capacity = capacity;
    }
    store->entries[store->n++] = (entry){variable, data};
    return true;
}

/* Data that lies in host memory already in the device's own form need not be copied. */
static bool bind_host_data(sl_store *store, sl_variable *variable)
{
    const sl_backend *backend = store->ctx->backend;
    return variable->kind == SL_VARIABLE_DATA && backend->host_memory &&
           (variable->dtype != SL_FLOAT || backend->real_size == sizeof(float)) &&
           add_entry(store, variable, (void *)variable->host);
}

static bool is_new(const sl_store *store, const sl_variable *variable, bool parameter)
{
    return (variable->kind == SL_VARIABLE_PARAMETER) == parameter && !sl_store_data(store, variable);
}

/* One block for all new parameters; false where memory ran out. */
static bool add_parameters(sl_store *store, sl_variable *const *variables, int n)
{
    const size_t real_size = store->ctx->backend->real_size;
    int64_t count = 0;
    for (int i = 0; i < n; i++)
        if (is_new(store, variables[i], true)) count += sl_packed_count(&variables[i]->shape, 1);
    if (count == 0) return true;
    char *block = new_block(store, (size_t)count * real_size);
    void *zeros = calloc((size_t)count, real_size);
    if (block && zeros)
        store->ctx->backend->upload(store->ctx->device, block, zeros, (size_t)count * real_size);
    free(zeros);
    if (!block || !zeros) return false;
    for (int i = 0; i < n; i++) {
        if (!is_new(store, variables[i], true)) continue;
        if (!add_entry(store, variables[i], block) || sl_store_initialise(store, variables[i]) != SL_OK)
            return false;
        block += (size_t)sl_packed_count(&variables[i]->shape, 1) * real_size;
    }
    return true;
}

sl_status sl_store_add(sl_store *store, sl_variable *const *variables, int n)
{
    sl_context *ctx = store->ctx;
    if (!sl_ok(ctx)) return ctx->code;
    bool good = add_parameters(store, variables, n);
    for (int i = 0; i < n && good; i++) {
        if (!is_new(store, variables[i], false) || bind_host_data(store, variables[i])) continue;
        const int64_t count = sl_shape_count(variables[i]->shape);
        void *memory =
            new_block(store, (size_t)count * sl_dtype_size(variables[i]->dtype, ctx->backend->real_size));
        good = memory && add_entry(store, variables[i], memory) &&
               sl_store_initialise(store, variables[i]) == SL_OK;
    }
    if (!good)
        sl_fail(ctx, SL_MEMORY, "out of memory for the parameters and data of a model on the %s",
                ctx->backend->name);
    return ctx->code;
}

sl_status sl_store_alias(sl_store *store, const sl_variable *variable, void *data)
{
    if (!add_entry(store, variable, data))
        sl_fail(store->ctx, SL_MEMORY, "out of memory for a variable's name");
    return store->ctx->code;
}

/* Random numbers are made where they are wanted. */
static bool made_on_device(sl_context *ctx, const sl_variable *variable, void *data)
{
    const sl_backend *backend = ctx->backend;
    sl_random_attr attr;
    if (backend->real_size != sizeof(float) || variable->kind != SL_VARIABLE_PARAMETER) return false;
    if (!sl_init_random(ctx, variable, &attr)) return false;
    const sl_tensor out = {data, variable->shape, SL_FLOAT};
    sl_call call = {.kernel = sl_find_kernel(ctx, SL_OP_RANDOM),
                    .op = SL_OP_RANDOM,
                    .out = &out,
                    .n_out = 1,
                    .attr = &attr,
                    .batch = 1,
                    .device = ctx->device,
                    .name = variable->name};
    void *handle = NULL;
    if (!call.kernel) return false;
    backend->run(ctx->device, ctx, &call, 1, &handle);
    if (handle) backend->release(ctx->device, handle);
    return true;
}

sl_status sl_store_initialise(sl_store *store, sl_variable *variable)
{
    sl_context *ctx = store->ctx;
    void *data = sl_store_data(store, variable);
    const int64_t count = sl_shape_count(variable->shape);
    if (variable->kind == SL_VARIABLE_DATA)
        return sl_to_device(ctx, data, variable->dtype, variable->host, sizeof(float), count);
    if (made_on_device(ctx, variable, data)) return ctx->code;
    float *values = sl_new(ctx, (size_t)count, sizeof *values, "initial values");
    if (!values) return ctx->code;
    if (variable->kind == SL_VARIABLE_PARAMETER) {
        sl_init_values(ctx, variable, values);
    } else if (variable->fill != 0) {
        for (int64_t i = 0; i < count; i++) values[i] = (float)variable->fill;
    } /* integer counters start at 0, whose bits are those of 0.0f */
    if (sl_ok(ctx)) sl_to_device(ctx, data, variable->dtype, values, sizeof(float), count);
    free(values);
    return ctx->code;
}

sl_status sl_store_set(sl_store *store, const sl_variable *variable, const void *host, sl_dtype dtype,
                       size_t real_size)
{
    void *data = sl_store_data(store, variable);
    if (!data) return sl_fail(store->ctx, SL_ARGUMENT, "'%s' is no variable of this model", variable->name);
    if (dtype != variable->dtype)
        return sl_fail(store->ctx, SL_ARGUMENT, "'%s' holds another element type than the values given",
                       variable->name);
    return sl_to_device(store->ctx, data, dtype, host, real_size, sl_shape_count(variable->shape));
}

sl_status sl_store_get(const sl_store *store, const sl_variable *variable, void *host, size_t real_size)
{
    const void *data = sl_store_data(store, variable);
    if (!data) return sl_fail(store->ctx, SL_ARGUMENT, "'%s' is no variable of this model", variable->name);
    return sl_to_host(store->ctx, host, real_size, variable->dtype, data, sl_shape_count(variable->shape));
}
