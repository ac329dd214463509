/* Models: compiling a loss, and questions about what came of it. */
#include "nn/model.h"

#include <math.h>
#include <stdlib.h>

/* --- compiling --- */

static void model_free(sl_owned *owned)
{
    sl_model *model = (sl_model *)owned;
    sl_pass_drop(&model->training);
    sl_pass_drop(&model->evaluation);
    sl_plan_free(model->predictor);
    sl_store_free(model->store);
    sl_graph_free(model->graph);
    free(model->parameters);
    free(model->statistics);
    free(model->unfinished);
    free(model);
}

void sl_model_free(sl_model *model)
{
    if (!model) return;
    sl_disown(&model->owned);
    model_free(&model->owned);
}

static bool check_options(sl_context *ctx, const sl_compile_options *o)
{
    if (o->batch < 1 || o->batch > 1 << 20)
        sl_fail(ctx, SL_ARGUMENT, "sl_compile: batch is %d; it must be between 1 and %d", o->batch, 1 << 20);
    if (!(o->clip_norm >= 0) || !(o->clip_value >= 0) || isinf(o->clip_norm) || isinf(o->clip_value))
        sl_fail(ctx, SL_ARGUMENT, "sl_compile: clip_norm %g and clip_value %g must be positive numbers",
                (double)o->clip_norm, (double)o->clip_value);
    return sl_ok(ctx) && sl_optimizer_check(ctx, &o->optimizer);
}

static bool reads_input(const sl_node *node)
{
    bool found = node->op == SL_OP_INPUT;
    for (int i = 0; i < node->n_in && !found; i++) found = reads_input(node->in[i]);
    return found;
}

/* Which nodes are inputs, which parameters, which statistics. */
static bool take_inventory(sl_model *model)
{
    sl_graph *graph = model->graph;
    model->parameters = sl_new(model->ctx, (size_t)graph->n, sizeof *model->parameters, "a model");
    model->statistics = sl_new(model->ctx, (size_t)graph->n, sizeof *model->statistics, "a model");
    if (!model->parameters || !model->statistics) return false;
    for (int id = 0; id < graph->n; id++) {
        sl_node *node = graph->nodes[id];
        if (node->op == SL_OP_INPUT && node->dtype == SL_INT)
            model->labels = node;
        else if (node->op == SL_OP_INPUT && !model->image)
            model->image = node;
        else if (node->op == SL_OP_INPUT)
            model->target = node;
        if (!node->variable) continue;
        if (node->variable->kind == SL_VARIABLE_PARAMETER) {
            model->parameters[model->n_parameters++] = node;
            model->parameter_count += sl_shape_count(node->shape);
        } else if (node->variable->kind == SL_VARIABLE_STATE && node != graph->step) {
            model->statistics[model->n_statistics++] = node;
        }
    }
    if (!model->image || !reads_input(model->loss))
        sl_fail(model->ctx, SL_ARGUMENT, "sl_compile: the loss does not depend on an input");
    else if (model->n_parameters == 0)
        sl_fail(model->ctx, SL_ARGUMENT, "sl_compile: there is no parameter to learn");
    return sl_ok(model->ctx);
}

static sl_variable *new_variable(sl_model *model, const char *name, sl_variable_kind kind, sl_dtype dtype,
                                 int64_t count, double fill)
{
    const sl_node *node = sl_variable_new(
        model->graph,
        &(sl_variable){.name = name, .kind = kind, .dtype = dtype, .shape = {1, {count}}, .fill = fill});
    return node ? node->variable : NULL;
}

/* Memory for parameters, statistics and the optimiser's state. */
static bool make_store(sl_model *model)
{
    sl_context *ctx = model->ctx;
    model->store = sl_store_new(ctx);
    sl_variable **all =
        sl_new(ctx, (size_t)(model->n_parameters + model->n_statistics) + 16, sizeof *all, "a model");
    sl_shape *shapes = sl_new(ctx, (size_t)model->n_parameters, sizeof *shapes, "a model");
    if (model->store && all && shapes) {
        int n = 0;
        for (int i = 0; i < model->n_parameters; i++) {
            all[n++] = model->parameters[i]->variable;
            shapes[i] = model->parameters[i]->shape;
        }
        const int64_t count = sl_packed_count(shapes, model->n_parameters);
        model->step = sl_step_node(model->graph) ? model->graph->step->variable : NULL;
        model->products = new_variable(model, "optimizer.products", SL_VARIABLE_STATE, SL_FLOAT, 2, 1);
        model->plateau = new_variable(model, "optimizer.plateau", SL_VARIABLE_STATE, SL_FLOAT, 1, 1);
        model->n_slots = sl_optimizer_states(model->options.optimizer.row);
        for (int i = 0; i < model->n_slots; i++)
            model->slots[i] = new_variable(model, sl_graph_text(model->graph, "optimizer.state%d", i),
                                           SL_VARIABLE_STATE, SL_FLOAT, count, 0);
        model->block = new_variable(model, "parameters", SL_VARIABLE_STATE, SL_FLOAT, count, 0);
        model->gradients = new_variable(model, "gradients", SL_VARIABLE_SCRATCH, SL_FLOAT, count, 0);
        for (int i = 0; i < model->n_statistics; i++) all[n++] = model->statistics[i]->variable;
        if (sl_ok(ctx)) {
            all[n++] = model->step;
            all[n++] = model->products;
            all[n++] = model->plateau;
            for (int i = 0; i < model->n_slots; i++) all[n++] = model->slots[i];
            if (sl_store_add(model->store, all, n) == SL_OK)
                sl_store_alias(model->store, model->block, sl_store_data(model->store, all[0]));
        }
    }
    free(all);
    free(shapes);
    return sl_ok(ctx);
}

sl_model *sl_compile_with(sl_node *loss, const sl_compile_options *options)
{
    if (!loss) return NULL;
    sl_context *ctx = loss->graph->ctx;
    if (!sl_ok(ctx)) return NULL;
    if (sl_shape_count(loss->shape) != 1 || sl_batched(loss)) {
        sl_fail(ctx, SL_SHAPE, "sl_compile: '%s' is %s; a loss is a scalar", loss->name,
                sl_shape_print(loss->shape).text);
        return NULL;
    }
    sl_compile_options o = *options;
    o.batch = sl_int_or(o.batch, 32);
    if (options->batch == SL_NONE) o.batch = 0;
    o.clip_norm = sl_float_or(o.clip_norm, 0);
    o.clip_value = sl_float_or(o.clip_value, 0);
    o.optimizer = sl_optimizer_complete(o.optimizer);
    if (!check_options(ctx, &o)) return NULL;
    sl_model *model = sl_new(ctx, 1, sizeof *model, "a model");
    if (!model) return NULL;
    model->ctx = ctx;
    model->options = o;
    model->best_loss = INFINITY;
    sl_own(ctx, &model->owned, model_free);
    model->graph = sl_graph_new(ctx);
    sl_node **copies = sl_new(ctx, (size_t)loss->graph->n, sizeof *copies, "a model");
    sl_node *roots[2] = {loss, loss->graph->prediction ? loss->graph->prediction : loss};
    if (model->graph) sl_disown(&model->graph->owned); /* the model's now */
    if (model->graph && copies) {
        const sl_graph *from = loss->graph;
        sl_init_resolve(loss->graph);
        model->graph->prediction_op = from->prediction_op;
        model->graph->line_activation = from->line_activation;
        if (from->line && from->prediction == from->line_end)
            model->graph->line = sl_graph_text(model->graph, "%s", from->line);
        if (sl_lower(model->graph, roots, 2, true, NULL, 0, copies) == SL_OK) {
            model->loss = roots[0];
            model->prediction = from->prediction ? roots[1] : NULL;
            /* The variables live in the caller's graph; the model keeps its own. */
            for (int id = 0; id < model->graph->n; id++) {
                sl_node *node = model->graph->nodes[id];
                if (!node->variable) continue;
                sl_variable *own = sl_graph_alloc(model->graph, sizeof *own);
                if (!own) break;
                *own = *node->variable;
                own->name = node->name;
                node->variable = own;
            }
        }
    }
    free(copies);
    if (!sl_ok(ctx) || !take_inventory(model) || !make_store(model)) {
        sl_model_free(model);
        return NULL;
    }
    model->has_accuracy = model->labels && model->prediction && model->prediction->shape.n == 2;
    return model;
}

/* --- small questions --- */

int64_t sl_read_counter(sl_model *model, const sl_variable *variable, const sl_plan *plan)
{
    int32_t value = 0;
    const void *data = plan ? sl_plan_variable(plan, variable) : sl_store_data(model->store, variable);
    sl_to_host(model->ctx, &value, 0, SL_INT, data, 1);
    return value;
}

void sl_write_counter(sl_model *model, const sl_variable *variable, const sl_plan *plan, int64_t value)
{
    const int32_t narrow = (int32_t)value;
    void *data = plan ? sl_plan_variable(plan, variable) : sl_store_data(model->store, variable);
    sl_to_device(model->ctx, data, SL_INT, &narrow, 0, 1);
}

int64_t sl_model_step(sl_model *model)
{
    return model && sl_ok(model->ctx) ? sl_read_counter(model, model->step, NULL) : 0;
}

int64_t sl_model_parameters(const sl_model *model)
{
    return model ? model->parameter_count : 0;
}

const char *sl_model_describe(const sl_model *model)
{
    return model && model->graph->line ? model->graph->line : "";
}

bool sl_model_interrupted(const sl_model *model)
{
    return model && model->interrupted;
}

bool sl_model_parameter(const sl_model *model, int i, sl_parameter_info *info)
{
    if (!model || i < 0 || i >= model->n_parameters + model->n_statistics) return false;
    const bool learned = i < model->n_parameters;
    const sl_node *node = learned ? model->parameters[i] : model->statistics[i - model->n_parameters];
    *info = (sl_parameter_info){node->name, node->shape, learned};
    return true;
}

static const sl_node *find(sl_model *model, const char *name, int64_t count)
{
    if (!model || !sl_ok(model->ctx)) return NULL;
    for (int i = 0; i < model->n_parameters + model->n_statistics; i++) {
        const sl_node *node =
            i < model->n_parameters ? model->parameters[i] : model->statistics[i - model->n_parameters];
        if (strcmp(node->name, name ? name : "") != 0) continue;
        if (sl_shape_count(node->shape) == count) return node;
        sl_fail(model->ctx, SL_SHAPE, "'%s' is %s, %lld elements, but %lld were given", name,
                sl_shape_print(node->shape).text, (long long)sl_shape_count(node->shape), (long long)count);
        return NULL;
    }
    sl_fail(model->ctx, SL_ARGUMENT, "the model has no parameter '%s'", name ? name : "");
    return NULL;
}

sl_status sl_model_get(sl_model *model, const char *name, float *values, int64_t count)
{
    const sl_node *node = find(model, name, count);
    if (node) return sl_store_get(model->store, node->variable, values, sizeof *values);
    return model ? model->ctx->code : SL_ARGUMENT;
}

sl_status sl_model_set(sl_model *model, const char *name, const float *values, int64_t count)
{
    const sl_node *node = find(model, name, count);
    if (node) return sl_store_set(model->store, node->variable, values, SL_FLOAT, sizeof *values);
    return model ? model->ctx->code : SL_ARGUMENT;
}

/* Mixes 32-bit words one by one into 64 bits: multiply and shift, as in MurmurHash's finaliser. */
uint64_t sl_model_fingerprint(sl_model *model)
{
    if (!model || !sl_ok(model->ctx)) return 0;
    uint64_t hash = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < model->n_parameters; i++) {
        const int64_t count = sl_shape_count(model->parameters[i]->shape);
        float *values = sl_new(model->ctx, (size_t)count, sizeof *values, "a fingerprint");
        if (!values) return 0;
        sl_store_get(model->store, model->parameters[i]->variable, values, sizeof *values);
        for (int64_t k = 0; k < count; k++) {
            uint32_t bits;
            memcpy(&bits, &values[k], sizeof bits);
            hash = (hash ^ bits) * 0xff51afd7ed558ccdu;
            hash ^= hash >> 32;
        }
        free(values);
    }
    return hash;
}
