/* Compiling: from a loss to the plans that train, evaluate and predict. */
#include "nn/model.h"

#include <math.h>
#include <stdlib.h>

#include "data/dataset.h"

enum { SHUFFLE_STREAM = 0x51095e }; /* of the permutation; variables and dropout count up from 0 */

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
        if (node->op == SL_OP_INPUT && node->dtype == SL_INT) model->labels = node;
        else if (node->op == SL_OP_INPUT && !model->image) model->image = node;
        else if (node->op == SL_OP_INPUT) model->target = node;
        if (!node->variable) continue;
        if (node->variable->kind == SL_VARIABLE_PARAMETER) {
            model->parameters[model->n_parameters++] = node;
            model->parameter_count += sl_shape_count(node->shape);
        } else if (node->variable->kind == SL_VARIABLE_STATE && node != graph->step) {
            model->statistics[model->n_statistics++] = node;
        }
    }
    if (!model->image || !reads_input(model->loss)) sl_fail(model->ctx, SL_ARGUMENT, "sl_compile: the loss does not depend on an input");
    else if (model->n_parameters == 0) sl_fail(model->ctx, SL_ARGUMENT, "sl_compile: there is no parameter to learn");
    return sl_ok(model->ctx);
}

static sl_variable *new_variable(sl_model *model, const char *name, sl_variable_kind kind, sl_dtype dtype, int64_t count,
                                 double fill)
{
    const sl_node *node = sl_variable_new(model->graph, &(sl_variable){.name = name, .kind = kind, .dtype = dtype,
                                                                       .shape = {1, {count}}, .fill = fill});
    return node ? node->variable : NULL;
}

/* Memory for parameters, statistics and the optimiser's state. */
static bool make_store(sl_model *model)
{
    sl_context *ctx = model->ctx;
    model->store = sl_store_new(ctx);
    sl_variable **all = sl_new(ctx, (size_t)(model->n_parameters + model->n_statistics) + 16, sizeof *all, "a model");
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
            model->slots[i] = new_variable(model, sl_graph_text(model->graph, "optimizer.state%d", i), SL_VARIABLE_STATE,
                                           SL_FLOAT, count, 0);
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
        sl_fail(ctx, SL_SHAPE, "sl_compile: '%s' is %s; a loss is a scalar", loss->name, sl_shape_print(loss->shape).text);
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
        if (from->line && from->prediction == from->line_end) model->graph->line = sl_graph_text(model->graph, "%s", from->line);
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

/* --- passes --- */

void sl_pass_drop(sl_pass *pass)
{
    sl_plan_free(pass->plan);
    *pass = (sl_pass){0};
}

/* A graph under construction for one pass. */
typedef struct builder {
    sl_model *model;
    sl_graph *graph;
    sl_node **copies;
    sl_node *x, *target, *valid, *step, *loss, *prediction;
    sl_node **roots;
    int n_roots, root_capacity;
} builder;

static void add_root(builder *b, sl_node *node)
{
    if (!node) return;
    if (b->n_roots == b->root_capacity) {
        b->root_capacity = b->root_capacity ? 2 * b->root_capacity : 16;
        sl_node **roots = sl_graph_alloc(b->graph, (size_t)b->root_capacity * sizeof *roots);
        if (!roots) return;
        if (b->n_roots) memcpy(roots, b->roots, (size_t)b->n_roots * sizeof *roots);
        b->roots = roots;
    }
    b->roots[b->n_roots++] = node;
}

static bool check_data(const sl_model *model, const sl_dataset *data)
{
    sl_context *ctx = model->ctx;
    const sl_shape want = model->image->shape;
    const int64_t size = (int64_t)data->height * data->width * data->channels;
    if (sl_shape_count(want) != size)
        sl_fail(ctx, SL_SHAPE, "the data set '%s' has %d×%d×%d samples, but input '%s' is %s", data->name, data->height,
                data->width, data->channels, model->image->name, sl_shape_print(want).text);
    else if (model->labels && !data->labels)
        sl_fail(ctx, SL_ARGUMENT, "the data set '%s' has no labels, but the loss needs them", data->name);
    else if (model->target && !data->targets)
        sl_fail(ctx, SL_ARGUMENT, "the data set '%s' has no targets, but the loss needs them", data->name);
    else if (model->target && sl_shape_count(model->target->shape) != data->outputs)
        sl_fail(ctx, SL_SHAPE, "the data set '%s' has %d targets a sample, but input '%s' is %s", data->name, data->outputs,
                model->target->name, sl_shape_print(model->target->shape).text);
    else if (model->has_accuracy && sl_shape_last(model->prediction->shape) > 1 &&
             data->classes > sl_shape_last(model->prediction->shape))
        sl_fail(ctx, SL_SHAPE, "the data set '%s' has %d classes, but '%s' has only %lld outputs", data->name, data->classes,
                model->prediction->name, (long long)sl_shape_last(model->prediction->shape));
    return sl_ok(ctx);
}

static sl_node *scratch(builder *b, const char *name, sl_dtype dtype, sl_shape shape)
{
    return sl_variable_new(b->graph, &(sl_variable){.name = name, .kind = SL_VARIABLE_SCRATCH, .dtype = dtype, .shape = shape});
}

static sl_node *data_node(builder *b, const char *name, sl_dtype dtype, sl_shape shape, const void *host)
{
    return sl_variable_new(b->graph, &(sl_variable){.name = name, .kind = SL_VARIABLE_DATA, .dtype = dtype, .shape = shape,
                                                    .host = host});
}

/* The batch, drawn on the device from data that lies there. */
static void draw(builder *b, const sl_dataset *data, bool shuffle)
{
    const sl_model *model = b->model;
    sl_shape shape = model->image->shape;
    shape.dim[0] = data->count;
    const bool bytes = data->bytes != NULL;
    sl_node *images = data_node(b, "images", bytes ? SL_BYTE : SL_FLOAT, shape, bytes ? (void *)data->bytes : (void *)data->floats);
    sl_node *answers;
    if (model->target) {
        sl_shape target = model->target->shape;
        target.dim[0] = data->count;
        answers = data_node(b, "targets", SL_FLOAT, target, data->targets);
    } else {
        answers = data_node(b, "labels", SL_INT, (sl_shape){1, {data->count}}, data->labels);
    }
    const sl_draw_attr attr = {.samples = data->count, .batch = model->options.batch, .shuffle = shuffle,
                               .scale = sl_float_or(model->options.input_scale, bytes ? 1 / 255.0f : 1),
                               .seed = model->ctx->options.seed, .stream = SHUFFLE_STREAM};
    sl_node *drawn = sl_node3(SL_OP_DRAW_BATCH, &attr, images, answers, b->step);
    if (!drawn) return;
    b->x = drawn;
    b->target = drawn->outputs[1];
    b->valid = drawn->outputs[2];
    sl_node_rename(drawn, "batch");
}

static bool copy_forward(builder *b, bool training)
{
    sl_model *model = b->model;
    const sl_replacement replace[2] = {{model->image, b->x}, {model->target ? model->target : model->labels, b->target}};
    sl_node *roots[2] = {model->loss, model->prediction ? model->prediction : model->loss};
    const int n = model->target || model->labels ? 2 : 1;
    if (sl_lower(b->graph, roots, 2, training, replace, n, b->copies) != SL_OK) return false;
    b->loss = roots[0];
    b->prediction = model->prediction ? roots[1] : NULL;
    return true;
}

static sl_node *record(builder *b, sl_pass *pass)
{
    sl_node *history = scratch(b, "history", SL_FLOAT, (sl_shape){2, {pass->steps, 3}});
    sl_node *correct = NULL;
    if (b->model->has_accuracy) correct = sl_node2(SL_OP_COUNT_CORRECT, NULL, b->prediction, b->target);
    else correct = sl_constant(b->graph, (sl_shape){1, {1}}, 0);
    if (history) pass->history = history->variable;
    return sl_node_new(b->graph, SL_OP_RECORD, NULL, 5, (sl_node *[]){history, b->step, b->loss, correct, b->valid});
}

static builder begin(sl_model *model)
{
    builder b = {.model = model, .graph = sl_graph_new(model->ctx)};
    b.copies = sl_new(model->ctx, (size_t)model->graph->n, sizeof *b.copies, "a pass");
    return b;
}

static bool finish(builder *b, sl_pass *pass)
{
    sl_model *model = b->model;
    free(b->copies);
    if (sl_ok(model->ctx) && b->graph)
        pass->plan = sl_plan_build(&(sl_plan_request){
            .graph = b->graph, .roots = b->roots, .n = b->n_roots, .valid = b->valid, .store = model->store,
            .options = {.batch = model->options.batch, .training = true, .checked = model->options.checked}});
    else sl_graph_free(b->graph);
    if (pass->plan) sl_disown(&pass->plan->owned); /* the model's now */
    else sl_pass_drop(pass);
    return pass->plan != NULL;
}

static sl_schedule_attr schedule_attr(const sl_model *model, int64_t steps, int epochs)
{
    const sl_optimizer *o = &model->options.optimizer;
    return (sl_schedule_attr){.kind = (int)o->schedule.kind, .rate = o->rate, .factor = o->schedule.factor,
                              .warmup = (int64_t)llround((double)o->schedule.warmup * (double)steps),
                              .period = steps * o->schedule.period, .total = steps * epochs};
}

static const sl_segment *make_segments(builder *b)
{
    const sl_model *model = b->model;
    sl_segment *segments = sl_graph_alloc(b->graph, (size_t)model->n_parameters * sizeof *segments);
    if (!segments) return NULL;
    int64_t first = 0;
    for (int i = 0; i < model->n_parameters; i++) {
        const sl_variable *p = model->parameters[i]->variable;
        segments[i] = (sl_segment){first, sl_shape_count(p->shape), p->l2, p->decay ? model->options.optimizer.weight_decay : 0};
        first += sl_packed_count(&p->shape, 1);
    }
    return segments;
}

/* Beside the training itself, one row of numbers a step: the gradient's norm for every weight, then four statistics for
 * every activation. */
static void diagnose(builder *b, sl_pass *pass, sl_node *const *gradients)
{
    const sl_model *model = b->model;
    const int nodes = b->graph->n;
    sl_node **in = sl_graph_alloc(b->graph, (size_t)(nodes + 2) * sizeof *in);
    if (!in) return;
    int n = 2, width = 0;
    for (int i = 0; i < model->n_parameters; i++)
        if (model->parameters[i]->variable->decay) in[n++] = sl_node1(SL_OP_NORM, NULL, gradients[i]), width++;
    for (int id = 0; id < model->graph->n; id++) {
        sl_node *y = model->graph->nodes[id]->op == SL_OP_ACTIVATION ? b->copies[id] : NULL;
        if (!y) continue;
        sl_node *one = sl_constant(b->graph, (sl_shape){1, {1}}, 1);
        sl_node *dy = sl_node1(SL_OP_BROADCAST, &(sl_shape_attr){.shape = y->shape}, one), *slope = NULL;
        const bool wanted[2] = {true, false};
        sl_node *dx[2] = {NULL};
        if (dy) sl_rules(SL_OP_ACTIVATION)->vjp(y, &dy, wanted, dx);
        slope = dx[0];
        in[n++] = sl_node2(SL_OP_ACTIVATION_STATISTICS, NULL, y, slope);
        width += 4;
    }
    sl_node *history = in[0] = scratch(b, "diagnosis", SL_FLOAT, (sl_shape){2, {pass->steps, width}});
    in[1] = b->step;
    if (history) pass->diagnosis = history->variable;
    add_root(b, sl_node_new(b->graph, SL_OP_RECORD, NULL, n, in));
}

/* Gradients, packed into one block; clipping; the learning rate; the update; the counters. */
static void append_update(builder *b, sl_pass *pass)
{
    sl_model *model = b->model;
    const sl_optimizer *o = &model->options.optimizer;
    sl_node **wrt = sl_graph_alloc(b->graph, (size_t)model->n_parameters * sizeof *wrt);
    sl_node **gradients = sl_graph_alloc(b->graph, (size_t)model->n_parameters * sizeof *gradients);
    if (!wrt || !gradients) return;
    for (int i = 0; i < model->n_parameters; i++) wrt[i] = b->copies[model->parameters[i]->id];
    if (sl_gradients(b->loss, wrt, model->n_parameters, gradients) != SL_OK) return;
    for (int i = 0; i < model->n_parameters; i++)
        sl_node_rename(gradients[i], sl_graph_text(b->graph, "d %s", model->parameters[i]->name));
    sl_node *pack = sl_node_new(b->graph, SL_OP_PACK, NULL, model->n_parameters, gradients);
    if (!pack) return;
    pack->variable = model->gradients;
    sl_node_rename(pack, "gradients");
    if (model->options.diagnose) diagnose(b, pass, gradients);
    sl_node *plateau = sl_variable_node(b->graph, model->plateau);
    const sl_schedule_attr schedule = schedule_attr(model, pass->steps, pass->epochs);
    sl_node *rate = sl_node2(SL_OP_SCHEDULE, &schedule, b->step, plateau);
    sl_node *scale = NULL;
    if (model->options.clip_norm > 0)
        scale = sl_node1(SL_OP_CLIP_SCALE, &(sl_clip_scale_attr){model->options.clip_norm}, sl_node1(SL_OP_NORM, NULL, pack));
    else
        scale = sl_variable_new(b->graph, &(sl_variable){.name = "one", .kind = SL_VARIABLE_SCRATCH, .shape = {1, {1}}, .fill = 1});
    const sl_update_attr attr = {.optimizer = o->row, .momentum = o->momentum, .beta1 = o->beta1, .beta2 = o->beta2,
                                 .epsilon = o->epsilon, .clip_value = model->options.clip_value,
                                 .n_segments = model->n_parameters, .segments = make_segments(b)};
    sl_node *in[16] = {sl_variable_node(b->graph, model->block), pack, rate, scale};
    int n = 4;
    for (int i = 0; i < model->n_slots; i++) in[n++] = sl_variable_node(b->graph, model->slots[i]);
    sl_node *products = in[n++] = sl_variable_node(b->graph, model->products);
    add_root(b, sl_node_new(b->graph, SL_OP_UPDATE, &attr, n, in));
    add_root(b, sl_node2(SL_OP_ADVANCE, &attr, b->step, products));
    add_root(b, rate);
}

static void append_tracking(builder *b)
{
    const int n = b->graph->n;
    for (int id = 0; id < n; id++) {
        sl_node *node = b->graph->nodes[id];
        if (node->op != SL_OP_BATCH_NORM) continue;
        sl_node *in[5] = {node->outputs[1], node->outputs[2], node->in[3], node->in[4], node->in[0]};
        add_root(b, sl_node_new(b->graph, SL_OP_BATCH_NORM_TRACK, node->attr, 5, in));
    }
}

sl_pass *sl_training_pass(sl_model *model, sl_dataset *data, int last_epoch)
{
    sl_pass *pass = &model->training;
    if (pass->plan && pass->data_serial == data->owned.serial && pass->epochs == last_epoch) return pass;
    sl_pass_drop(pass);
    if (!check_data(model, data)) return NULL;
    pass->steps = (data->count + model->options.batch - 1) / model->options.batch;
    pass->epochs = last_epoch;
    pass->data_serial = data->owned.serial;
    pass->step = model->step;
    builder b = begin(model);
    if (b.graph && b.copies) {
        b.step = sl_variable_node(b.graph, model->step);
        b.copies[model->graph->step->id] = b.step;
        draw(&b, data, true);
        if (b.valid && copy_forward(&b, true)) {
            append_tracking(&b);
            add_root(&b, record(&b, pass));
            append_update(&b, pass);
        }
    }
    return finish(&b, pass) ? pass : NULL;
}

sl_pass *sl_evaluation_pass(sl_model *model, sl_dataset *data)
{
    sl_pass *pass = &model->evaluation;
    if (pass->plan && pass->data_serial == data->owned.serial) return pass;
    sl_pass_drop(pass);
    if (!check_data(model, data)) return NULL;
    pass->steps = (data->count + model->options.batch - 1) / model->options.batch;
    pass->data_serial = data->owned.serial;
    builder b = begin(model);
    if (b.graph && b.copies) {
        b.step = scratch(&b, "evaluation step", SL_INT, (sl_shape){1, {1}});
        if (b.step) pass->step = b.step->variable;
        draw(&b, data, false);
        if (b.valid && copy_forward(&b, false)) {
            add_root(&b, record(&b, pass));
            add_root(&b, sl_node1(SL_OP_ADVANCE, &(sl_update_attr){0}, b.step));
        }
    }
    return finish(&b, pass) ? pass : NULL;
}

/* --- predicting --- */

static bool build_predictor(sl_model *model, int batch)
{
    if (model->predictor && model->predictor_batch == batch) return true;
    sl_plan_free(model->predictor);
    model->predictor = NULL;
    builder b = begin(model);
    if (b.graph && b.copies) {
        sl_node *root = model->prediction;
        if (sl_lower(b.graph, &root, 1, false, NULL, 0, b.copies) == SL_OK) {
            if (model->graph->prediction_op == SL_OP_SOFTMAX) root = sl_node1(SL_OP_SOFTMAX, NULL, root);
            if (model->graph->prediction_op == SL_OP_ACTIVATION)
                root = sl_node1(SL_OP_ACTIVATION, &(sl_activation_attr){.id = SL_ROW_SIGMOID}, root);
            add_root(&b, root);
        }
    }
    sl_node *image = b.copies ? b.copies[model->image->id] : NULL;
    if (image) add_root(&b, image);
    free(b.copies);
    if (sl_ok(model->ctx) && b.n_roots == 2)
        model->predictor = sl_plan_build(&(sl_plan_request){.graph = b.graph, .roots = b.roots, .n = 2, .store = model->store,
                                                            .options = {.batch = batch}});
    else sl_graph_free(b.graph);
    if (model->predictor) sl_disown(&model->predictor->owned);
    model->predictor_batch = batch;
    return model->predictor != NULL;
}

int sl_model_outputs(const sl_model *model)
{
    return model && model->prediction ? (int)sl_shape_count(model->prediction->shape) : 0;
}

sl_status sl_predict(sl_model *model, const float *samples, int64_t count, float *out)
{
    if (!model) return SL_ARGUMENT;
    sl_context *ctx = model->ctx;
    if (!sl_ok(ctx)) return ctx->code;
    if (!model->prediction) return sl_fail(ctx, SL_UNSUPPORTED, "sl_predict: the loss was not built by a call of loss.h");
    if (!samples || !out || count < 0) return sl_fail(ctx, SL_ARGUMENT, "sl_predict: samples and out must not be NULL");
    const int64_t in = sl_shape_count(model->image->shape), outputs = sl_model_outputs(model);
    const int batch = (int)(count < model->options.batch ? (count > 0 ? count : 1) : model->options.batch);
    if (!build_predictor(model, batch)) return ctx->code;
    sl_plan *plan = model->predictor;
    for (int64_t first = 0; first < count && sl_ok(ctx); first += batch) {
        const int64_t n = count - first < batch ? count - first : batch;
        sl_plan_set_valid(plan, (int)n);
        sl_to_device(ctx, sl_plan_data(plan, plan->roots[1]), SL_FLOAT, samples + first * in, sizeof(float), n * in);
        sl_plan_run(plan);
        sl_to_host(ctx, out + first * outputs, sizeof(float), SL_FLOAT, sl_plan_data(plan, plan->roots[0]), n * outputs);
    }
    return ctx->code;
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
        const sl_node *node = i < model->n_parameters ? model->parameters[i] : model->statistics[i - model->n_parameters];
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

void sl_model_print(sl_model *model, FILE *to)
{
    if (!model) return;
    if (!model->training.plan && !model->evaluation.plan) build_predictor(model, model->options.batch);
    const sl_plan *plan = model->training.plan ? model->training.plan : model->evaluation.plan;
    sl_plan_print(plan ? plan : model->predictor, to);
}
