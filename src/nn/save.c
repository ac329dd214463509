/* Models in files: weights, statistics, the training state, and the description that rebuilds the model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/text.h"
#include "data/safetensors.h"
#include "nn/model.h"
#include "slope/layers.h"
#include "slope/loss.h"

/* --- writing --- */

enum { MAX_KEYS = 64 };

typedef struct writer {
    sl_model *model;
    sl_file_tensor *tensors;
    int n;
    const char *metadata[2 * MAX_KEYS + 1];
    int n_metadata;
    sl_graph *texts; /* owns the metadata's strings */
} writer;

static void put_text(writer *w, const char *key, const char *value)
{
    if (w->n_metadata + 2 > 2 * MAX_KEYS) return;
    w->metadata[w->n_metadata++] = key;
    w->metadata[w->n_metadata++] = sl_graph_text(w->texts, "%s", value);
}

static void put_integer(writer *w, const char *key, long long value)
{
    put_text(w, key, sl_graph_text(w->texts, "%lld", value));
}

static void put_float(writer *w, const char *key, double value)
{
    put_text(w, key, sl_float_text(value).text);
}

static bool put_copy(writer *w, const char *name, sl_shape shape, const float *from)
{
    const size_t count = (size_t)sl_shape_count(shape);
    float *values = sl_new(w->model->ctx, count, sizeof *values, "saving a model");
    if (!values) return false;
    memcpy(values, from, count * sizeof *values);
    w->tensors[w->n++] = (sl_file_tensor){name, SL_FILE_F32, shape, values};
    return true;
}

static bool put_values(writer *w, const char *name, sl_shape shape, sl_dtype dtype, const void *from)
{
    sl_context *ctx = w->model->ctx;
    const int64_t count = sl_shape_count(shape);
    void *values = sl_new(ctx, (size_t)count, sizeof(float), "saving a model");
    if (!values) return false;
    w->tensors[w->n++] = (sl_file_tensor){name, dtype == SL_INT ? SL_FILE_I32 : SL_FILE_F32, shape, values};
    return sl_to_host(ctx, values, sizeof(float), dtype, from, count) == SL_OK;
}

static bool put_variable(writer *w, const sl_variable *v)
{
    return put_values(w, v->name, v->shape, v->dtype, sl_store_data(w->model->store, v));
}

static const char *loss_name(const sl_graph *graph)
{
    return graph->prediction_op == SL_OP_SOFTMAX      ? "softmax_cross_entropy"
           : graph->prediction_op == SL_OP_ACTIVATION ? "binary_cross_entropy"
                                                      : "squared_error";
}

static void describe(writer *w)
{
    const sl_model *model = w->model;
    const sl_optimizer *o = &model->options.optimizer;
    char text[SL_ACTIVATION_TEXT];
    put_text(w, "format", "slope 1");
    put_text(w, "layout",
             "dense weights [in, out]; kernels [height, width, in, out]; images [height, width, channels]");
    if (model->graph->line) {
        put_text(w, "line", model->graph->line);
        put_text(w, "activation", sl_activation_print(model->graph->line_activation, text, sizeof text));
    }
    sl_shape input = model->image->shape;
    snprintf(text, sizeof text, "%lld", (long long)input.dim[1]);
    for (int i = 2; i < input.n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), ",%lld", (long long)input.dim[i]);
    put_text(w, "input", text);
    put_text(w, "loss", loss_name(model->graph));
    if (model->options.input_scale != 0)
        put_float(w, "input_scale", (double)sl_float_or(model->options.input_scale, 0));
    put_integer(w, "seed", (long long)model->ctx->options.seed);
    put_integer(w, "batch", model->options.batch);
    put_text(w, "optimizer", sl_optimizer_name(o->row));
    const struct {
        const char *key;
        float value;
    } numbers[] = {{"rate", o->rate},
                   {"momentum", o->momentum},
                   {"beta1", o->beta1},
                   {"beta2", o->beta2},
                   {"epsilon", o->epsilon},
                   {"weight_decay", o->weight_decay},
                   {"clip_norm", model->options.clip_norm},
                   {"clip_value", model->options.clip_value},
                   {"schedule_factor", o->schedule.factor},
                   {"schedule_warmup", o->schedule.warmup},
                   {"schedule_lowest", o->schedule.lowest}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        put_float(w, numbers[i].key, (double)numbers[i].value);
    put_text(w, "schedule", sl_schedule_name(o->schedule.kind));
    put_integer(w, "schedule_period", o->schedule.period);
    put_integer(w, "schedule_patience", o->schedule.patience);
    put_integer(w, "goal", model->goal);
    put_integer(w, "epoch_steps", model->epoch_steps);
    if (isfinite(model->best_loss)) put_text(w, "best_loss", sl_double_text(model->best_loss).text);
    put_integer(w, "epochs_since_best", model->epochs_since_best);
}

static bool put_state(writer *w)
{
    const sl_model *model = w->model;
    bool good =
        put_variable(w, model->step) && put_variable(w, model->products) && put_variable(w, model->plateau);
    for (int i = 0; i < model->n_slots && good; i++) good = put_variable(w, model->slots[i]);
    const sl_pass *pass = &model->training;
    const int64_t step = sl_read_counter(w->model, model->step, NULL);
    if (good && pass->plan && step % pass->steps != 0)
        good = put_values(w, "history", (sl_shape){2, {pass->steps, 3}}, SL_FLOAT,
                          sl_plan_variable(pass->plan, pass->history));
    else if (good && model->unfinished) /* restored and not yet trained on */
        good = put_copy(w, "history", (sl_shape){2, {model->n_unfinished / 3, 3}}, model->unfinished);
    return good;
}

sl_status sl_save(sl_model *model, const char *path)
{
    if (!model) return SL_ARGUMENT;
    sl_context *ctx = model->ctx;
    if (!sl_ok(ctx)) return ctx->code;
    if (!path || !*path) return sl_fail(ctx, SL_ARGUMENT, "sl_save: the path is empty");
    writer w = {.model = model, .texts = sl_graph_new(ctx)};
    w.tensors = sl_new(ctx, (size_t)(model->n_parameters + model->n_statistics) + 16, sizeof *w.tensors,
                       "saving a model");
    bool good = w.texts && w.tensors;
    for (int i = 0; i < model->n_parameters && good; i++)
        good = put_variable(&w, model->parameters[i]->variable);
    for (int i = 0; i < model->n_statistics && good; i++)
        good = put_variable(&w, model->statistics[i]->variable);
    good = good && put_state(&w);
    if (good) describe(&w);
    if (good && sl_ok(ctx)) sl_safetensors_write(ctx, path, w.tensors, w.n, w.metadata);
    for (int i = 0; i < w.n; i++) free((void *)w.tensors[i].data);
    free(w.tensors);
    sl_graph_free(w.texts);
    return ctx->code;
}

/* --- reading --- */

static const char *get_text(const sl_safetensors *file, const char *key, const char *otherwise)
{
    const char *value = sl_safetensors_metadata(file, key);
    return value ? value : otherwise;
}

static long long get_integer(const sl_safetensors *file, const char *key, long long otherwise)
{
    const char *value = sl_safetensors_metadata(file, key);
    char *end = NULL;
    const long long number = value ? strtoll(value, &end, 10) : otherwise;
    return value && (end == value || *end) ? otherwise : number;
}

static float get_float(const sl_safetensors *file, const char *key, float otherwise)
{
    const char *value = sl_safetensors_metadata(file, key);
    char *end = NULL;
    const float number = value ? sl_text_to_float(value, &end) : otherwise;
    return value && (end == value || *end) ? otherwise : number;
}

static float option_value(float value)
{
    return value == 0 ? SL_ZERO : value;
}

static bool read_variable(sl_model *model, const sl_safetensors *file, const char *path,
                          const sl_variable *variable)
{
    const sl_file_tensor *tensor = sl_safetensors_find(file, variable->name);
    const sl_file_dtype wanted = variable->dtype == SL_INT ? SL_FILE_I32 : SL_FILE_F32;
    if (!tensor)
        sl_fail(model->ctx, SL_FORMAT, "%s: the tensor '%s' is missing; the file holds another model", path,
                variable->name);
    else if (tensor->dtype != wanted)
        sl_fail(model->ctx, SL_FORMAT, "%s: '%s' holds %s, not %s", path, variable->name,
                sl_file_dtype_name(tensor->dtype), sl_file_dtype_name(wanted));
    else if (!sl_shape_equal(tensor->shape, variable->shape))
        sl_fail(model->ctx, SL_SHAPE,
                "%s: '%s' is %s in the file but %s in the model; the file holds another model", path,
                variable->name, sl_shape_print(tensor->shape).text, sl_shape_print(variable->shape).text);
    else
        sl_store_set(model->store, variable, tensor->data, variable->dtype, sizeof(float));
    return sl_ok(model->ctx);
}

static bool read_state(sl_model *model, const sl_safetensors *file, const char *path)
{
    sl_context *ctx = model->ctx;
    const unsigned long long seed = (unsigned long long)get_integer(file, "seed", 0);
    if (seed != ctx->options.seed) {
        sl_fail(ctx, SL_ARGUMENT,
                "%s was trained with seed %llu, but this context has seed %llu; a resumed run needs the same",
                path, seed, (unsigned long long)ctx->options.seed);
        return false;
    }
    const char *optimizer = get_text(file, "optimizer", "");
    if (strcmp(optimizer, sl_optimizer_name(model->options.optimizer.row)) != 0) {
        sl_fail(ctx, SL_ARGUMENT, "%s was trained with the optimizer %s, but this model has %s", path,
                optimizer, sl_optimizer_name(model->options.optimizer.row));
        return false;
    }
    bool good = read_variable(model, file, path, model->step) &&
                read_variable(model, file, path, model->products) &&
                read_variable(model, file, path, model->plateau);
    for (int i = 0; i < model->n_slots && good; i++) good = read_variable(model, file, path, model->slots[i]);
    if (!good) return false;
    model->goal = (int)get_integer(file, "goal", 0);
    model->epoch_steps = get_integer(file, "epoch_steps", 0);
    model->epochs_since_best = (int)get_integer(file, "epochs_since_best", 0);
    const char *best = sl_safetensors_metadata(file, "best_loss");
    model->best_loss = best ? sl_text_to_double(best, NULL) : INFINITY;
    const sl_file_tensor *history = sl_safetensors_find(file, "history");
    if (!history) return true;
    if (history->dtype != SL_FILE_F32 || history->shape.n != 2 || history->shape.dim[1] != 3) {
        sl_fail(ctx, SL_FORMAT, "%s: 'history' must be [steps, 3] floats", path);
        return false;
    }
    const int64_t count = sl_shape_count(history->shape);
    free(model->unfinished);
    model->unfinished = sl_new(ctx, (size_t)count, sizeof *model->unfinished, "an unfinished epoch");
    if (!model->unfinished) return false;
    memcpy(model->unfinished, history->data, (size_t)count * sizeof *model->unfinished);
    model->n_unfinished = count;
    return true;
}

static void fill(sl_model *model, const sl_safetensors *file, const char *path, bool training)
{
    bool good = true;
    for (int i = 0; i < model->n_parameters && good; i++)
        good = read_variable(model, file, path, model->parameters[i]->variable);
    for (int i = 0; i < model->n_statistics && good; i++)
        good = read_variable(model, file, path, model->statistics[i]->variable);
    if (good && training) read_state(model, file, path);
}

sl_status sl_restore(sl_model *model, const char *path, bool training)
{
    if (!model) return SL_ARGUMENT;
    if (!sl_ok(model->ctx)) return model->ctx->code;
    sl_safetensors *file = sl_safetensors_read(model->ctx, path);
    if (file) fill(model, file, path, training);
    sl_safetensors_free(file);
    return model->ctx->code;
}

static sl_optimizer read_optimizer(sl_context *ctx, const sl_safetensors *file)
{
    sl_optimizer o = sl_optimizer_named(ctx, get_text(file, "optimizer", "sgd"));
    o.rate = option_value(get_float(file, "rate", 0));
    o.momentum = option_value(get_float(file, "momentum", 0.9f));
    o.beta1 = option_value(get_float(file, "beta1", 0.9f));
    o.beta2 = option_value(get_float(file, "beta2", 0.999f));
    o.epsilon = option_value(get_float(file, "epsilon", 1e-8f));
    o.weight_decay = get_float(file, "weight_decay", 0);
    o.schedule = sl_schedule_parse(ctx, get_text(file, "schedule", "constant"));
    o.schedule.factor = option_value(get_float(file, "schedule_factor", 0));
    o.schedule.warmup = get_float(file, "schedule_warmup", 0);
    o.schedule.lowest = get_float(file, "schedule_lowest", 0);
    o.schedule.period = (int)get_integer(file, "schedule_period", 0);
    o.schedule.patience = (int)get_integer(file, "schedule_patience", 0);
    if (o.schedule.patience == 0) o.schedule.patience = SL_NONE;
    return o;
}

static sl_node *build(sl_graph *graph, const sl_safetensors *file, const char *path)
{
    sl_context *ctx = graph->ctx;
    int64_t dims[SL_MAX_DIMS] = {0};
    const char *at = get_text(file, "input", "");
    for (int i = 0; i < SL_MAX_DIMS - 1 && *at; i++) {
        char *end = NULL;
        dims[i] = strtoll(at, &end, 10);
        if (end == at || dims[i] < 1 || dims[i] > 1 << 24 || (*end && *end != ',')) dims[0] = 0;
        if (dims[0] == 0) break;
        at = end + (*end == ',');
    }
    if (dims[0] == 0) {
        sl_fail(ctx, SL_FORMAT, "%s: the description of the input is missing or malformed", path);
        return NULL;
    }
    sl_node *x = sl_input_dims(graph, "image", dims);
    sl_node *y =
        sl_model_line(x, get_text(file, "line", ""),
                      sl_activation_parse(ctx, get_text(file, "activation", "linear")), (sl_init){0});
    const char *loss = get_text(file, "loss", "");
    if (strcmp(loss, "softmax_cross_entropy") == 0)
        return sl_softmax_cross_entropy(y, sl_labels(graph, "label"));
    const int64_t outputs[] = {y ? sl_shape_last(y->shape) : 1, 0};
    sl_node *target = sl_input_dims(graph, "target", outputs);
    if (strcmp(loss, "binary_cross_entropy") == 0) return sl_binary_cross_entropy(y, target);
    return sl_mean_squared_error(y, target);
}

sl_model *sl_load(sl_context *ctx, const char *path)
{
    if (!sl_ok(ctx)) return NULL;
    sl_safetensors *file = sl_safetensors_read(ctx, path);
    sl_graph *graph = file ? sl_graph_new(ctx) : NULL;
    sl_model *model = NULL;
    if (graph) {
        if (!sl_safetensors_metadata(file, "format"))
            sl_fail(ctx, SL_FORMAT, "%s: this safetensors file was not written by slope", path);
        else if (strcmp(get_text(file, "format", ""), "slope 1") != 0)
            sl_fail(ctx, SL_UNSUPPORTED, "%s: format '%s' is not known to this version", path,
                    get_text(file, "format", ""));
        else if (!sl_safetensors_metadata(file, "line"))
            sl_fail(ctx, SL_UNSUPPORTED,
                    "%s: the model was built by calls, not from a line; build it again and use sl_restore",
                    path);
        sl_node *loss = sl_ok(ctx) ? build(graph, file, path) : NULL;
        const long long batch = get_integer(file, "batch", 32);
        if (loss)
            model = sl_compile(
                loss, .batch = batch > 0 && batch < 1 << 20 ? (int)batch : 32,
                .optimizer = read_optimizer(ctx, file), .input_scale = get_float(file, "input_scale", 0),
                .clip_norm = get_float(file, "clip_norm", 0), .clip_value = get_float(file, "clip_value", 0));
        if (model) fill(model, file, path, get_integer(file, "seed", 0) == (long long)ctx->options.seed);
    }
    if (model && !sl_ok(ctx)) {
        sl_model_free(model);
        model = NULL;
    }
    sl_graph_free(graph);
    sl_safetensors_free(file);
    return model;
}
