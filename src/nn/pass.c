/* Passes over a data set: the graphs and plans that train, evaluate and predict. */
#include <math.h>
#include <stdlib.h>

#include "data/dataset.h"
#include "nn/model.h"
#include "ops/ops.h"

enum { SHUFFLE_STREAM = 0x51095e }; /* of the permutation; variables and dropout count up from 0 */

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

bool sl_model_takes(const sl_model *model, const sl_dataset *data)
{
    sl_context *ctx = model->ctx;
    const sl_shape want = model->image->shape;
    const int64_t size = (int64_t)data->height * data->width * data->channels;
    if (sl_shape_count(want) != size)
        sl_fail(ctx, SL_SHAPE, "the data set '%s' has %d×%d×%d samples, but input '%s' is %s", data->name,
                data->height, data->width, data->channels, model->image->name, sl_shape_print(want).text);
    else if (model->labels && !data->labels)
        sl_fail(ctx, SL_ARGUMENT, "the data set '%s' has no labels, but the loss needs them", data->name);
    else if (model->target && !data->targets)
        sl_fail(ctx, SL_ARGUMENT, "the data set '%s' has no targets, but the loss needs them", data->name);
    else if (model->target && sl_shape_count(model->target->shape) != data->outputs)
        sl_fail(ctx, SL_SHAPE, "the data set '%s' has %d targets a sample, but input '%s' is %s", data->name,
                data->outputs, model->target->name, sl_shape_print(model->target->shape).text);
    else if (model->has_accuracy && sl_shape_last(model->prediction->shape) > 1 &&
             data->classes > sl_shape_last(model->prediction->shape))
        sl_fail(ctx, SL_SHAPE, "the data set '%s' has %d classes, but '%s' has only %lld outputs", data->name,
                data->classes, model->prediction->name, (long long)sl_shape_last(model->prediction->shape));
    return sl_ok(ctx);
}

static sl_node *scratch(builder *b, const char *name, sl_dtype dtype, sl_shape shape)
{
    return sl_variable_new(
        b->graph, &(sl_variable){.name = name, .kind = SL_VARIABLE_SCRATCH, .dtype = dtype, .shape = shape});
}

static sl_node *data_node(builder *b, const char *name, sl_dtype dtype, sl_shape shape, const void *host)
{
    return sl_variable_new(
        b->graph,
        &(sl_variable){.name = name, .kind = SL_VARIABLE_DATA, .dtype = dtype, .shape = shape, .host = host});
}

/* The batch, drawn on the device from data that lies there. */
static void draw(builder *b, const sl_dataset *data, bool shuffle)
{
    const sl_model *model = b->model;
    sl_shape shape = model->image->shape;
    shape.dim[0] = data->count;
    const bool bytes = data->bytes != NULL;
    sl_node *images = data_node(b, "images", bytes ? SL_BYTE : SL_FLOAT, shape,
                                bytes ? (void *)data->bytes : (void *)data->floats);
    sl_node *answers;
    if (model->target) {
        sl_shape target = model->target->shape;
        target.dim[0] = data->count;
        answers = data_node(b, "targets", SL_FLOAT, target, data->targets);
    } else {
        answers = data_node(b, "labels", SL_INT, (sl_shape){1, {data->count}}, data->labels);
    }
    const sl_draw_attr attr = {.samples = data->count,
                               .batch = model->options.batch,
                               .shuffle = shuffle,
                               .scale = sl_float_or(model->options.input_scale, bytes ? 1 / 255.0f : 1),
                               .seed = model->ctx->options.seed,
                               .stream = SHUFFLE_STREAM};
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
    const sl_replacement replace[2] = {{model->image, b->x},
                                       {model->target ? model->target : model->labels, b->target}};
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
    if (b->model->has_accuracy)
        correct = sl_node2(SL_OP_COUNT_CORRECT, NULL, b->prediction, b->target);
    else
        correct = sl_constant(b->graph, (sl_shape){1, {1}}, 0);
    if (history) pass->history = history->variable;
    return sl_node_new(b->graph, SL_OP_RECORD, NULL, 5,
                       (sl_node *[]){history, b->step, b->loss, correct, b->valid});
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
            .graph = b->graph,
            .roots = b->roots,
            .n = b->n_roots,
            .valid = b->valid,
            .store = model->store,
            .options = {.batch = model->options.batch, .training = true, .checked = model->options.checked}});
    else
        sl_graph_free(b->graph);
    if (pass->plan)
        sl_disown(&pass->plan->owned); /* the model's now */
    else
        sl_pass_drop(pass);
    return pass->plan != NULL;
}

static sl_schedule_attr schedule_attr(const sl_model *model, int64_t steps, int epochs)
{
    const sl_optimizer *o = &model->options.optimizer;
    return (sl_schedule_attr){.kind = (int)o->schedule.kind,
                              .rate = o->rate,
                              .factor = o->schedule.factor,
                              .warmup = (int64_t)llround((double)o->schedule.warmup * (double)steps),
                              .period = steps * o->schedule.period,
                              .total = steps * epochs};
}

static const sl_segment *make_segments(builder *b)
{
    const sl_model *model = b->model;
    sl_segment *segments = sl_graph_alloc(b->graph, (size_t)model->n_parameters * sizeof *segments);
    if (!segments) return NULL;
    int64_t first = 0;
    for (int i = 0; i < model->n_parameters; i++) {
        const sl_variable *p = model->parameters[i]->variable;
        segments[i] = (sl_segment){first, sl_shape_count(p->shape), p->l2,
                                   p->decay ? model->options.optimizer.weight_decay : 0};
        first += sl_packed_count(&p->shape, 1);
    }
    return segments;
}

/* What a diagnosis records in every step: two numbers for each weight, then four for each activation. */
typedef struct diagnosis {
    sl_node *before; /* a copy of the parameter block, in front of the update */
    sl_node **in;    /* of the record; [0] and [1] are the history and the step */
    int n;
} diagnosis;

/* In front of the update: slopes read learned parameters as they were. */
static diagnosis diagnose_forward(builder *b)
{
    const sl_model *model = b->model;
    diagnosis d = {.n = 3};
    d.in = sl_graph_alloc(b->graph, (size_t)(b->graph->n + d.n) * sizeof *d.in);
    d.before = sl_node1(SL_OP_PACK, NULL, sl_variable_node(b->graph, model->block));
    for (int id = 0; id < model->graph->n && d.in && sl_ok(model->ctx); id++) {
        sl_node *y = model->graph->nodes[id]->op == SL_OP_ACTIVATION ? b->copies[id] : NULL, *in[8];
        if (!y) continue;
        const int n = sl_slope_inputs(y, y, in);
        sl_node *state = sl_node_new(b->graph, SL_OP_ACTIVATION_STATISTICS, y->attr, n, in);
        if (state) state->rank = y->rank; /* right behind it: its values are still in cache */
        d.in[d.n++] = state;
    }
    return d;
}

static sl_stretches_attr weights(builder *b)
{
    const sl_model *model = b->model;
    sl_segment *stretch = sl_graph_alloc(b->graph, (size_t)model->n_parameters * sizeof *stretch);
    sl_stretches_attr attr = {0, stretch};
    int64_t first = 0;
    for (int i = 0; i < model->n_parameters && stretch; i++) {
        const sl_variable *p = model->parameters[i]->variable;
        if (p->decay) stretch[attr.n++] = (sl_segment){.first = first, .count = sl_shape_count(p->shape)};
        first += sl_packed_count(&p->shape, 1);
    }
    return attr;
}

/* Behind the update, and so behind the counter's advance: the row of step s is s + 1. */
static void diagnose_update(builder *b, sl_pass *pass, diagnosis *d, sl_node *pack)
{
    const sl_stretches_attr attr = weights(b);
    if (!d->in) return;
    d->in[2] = sl_node3(SL_OP_WEIGHT_STATISTICS, &attr, d->before,
                        sl_variable_node(b->graph, b->model->block), pack);
    const int64_t width = 2 * attr.n + 4 * (d->n - 3);
    d->in[0] = scratch(b, "diagnosis", SL_FLOAT, (sl_shape){2, {pass->steps, width}});
    d->in[1] = b->step;
    if (d->in[0]) pass->diagnosis = d->in[0]->variable;
    add_root(b, sl_node_new(b->graph, SL_OP_RECORD, NULL, d->n, d->in));
}

/* Gradients, packed into one block; clipping; the learning rate and the counters; the update. */
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
    diagnosis d = {0};
    if (model->options.diagnose) d = diagnose_forward(b);
    sl_node *plateau = sl_variable_node(b->graph, model->plateau);
    sl_node *products = sl_variable_node(b->graph, model->products);
    const sl_advance_attr advance = {schedule_attr(model, pass->steps, pass->epochs), o->beta1, o->beta2};
    sl_node *rate = sl_node3(SL_OP_ADVANCE, &advance, b->step, plateau, products);
    sl_node *scale = NULL;
    if (model->options.clip_norm > 0)
        scale = sl_node1(SL_OP_CLIP_SCALE, &(sl_clip_scale_attr){model->options.clip_norm},
                         sl_node1(SL_OP_NORM, NULL, pack));
    else
        scale = sl_variable_new(
            b->graph,
            &(sl_variable){.name = "one", .kind = SL_VARIABLE_SCRATCH, .shape = {1, {1}}, .fill = 1});
    const sl_update_attr attr = {.optimizer = o->row,
                                 .momentum = o->momentum,
                                 .beta1 = o->beta1,
                                 .beta2 = o->beta2,
                                 .epsilon = o->epsilon,
                                 .clip_value = model->options.clip_value,
                                 .n_segments = model->n_parameters,
                                 .segments = make_segments(b)};
    sl_node *in[16] = {sl_variable_node(b->graph, model->block), pack, rate, scale};
    int n = 4;
    for (int i = 0; i < model->n_slots; i++) in[n++] = sl_variable_node(b->graph, model->slots[i]);
    in[n++] = products;
    add_root(b, sl_node_new(b->graph, SL_OP_UPDATE, &attr, n, in));
    if (model->options.diagnose) diagnose_update(b, pass, &d, pack);
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
    if (!sl_model_takes(model, data)) return NULL;
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

sl_plan_info sl_model_plan(sl_model *model, sl_dataset *train)
{
    if (!model || !train || !sl_ok(model->ctx)) return (sl_plan_info){0};
    const sl_pass *pass = sl_training_pass(model, train, model->training.plan ? model->training.epochs : 1);
    return sl_plan_describe(pass ? pass->plan : NULL);
}

sl_pass *sl_evaluation_pass(sl_model *model, sl_dataset *data)
{
    sl_pass *pass = &model->evaluation;
    if (pass->plan && pass->data_serial == data->owned.serial) return pass;
    sl_pass_drop(pass);
    if (!sl_model_takes(model, data)) return NULL;
    pass->steps = (data->count + model->options.batch - 1) / model->options.batch;
    pass->data_serial = data->owned.serial;
    builder b = begin(model);
    if (b.graph && b.copies) {
        b.step = scratch(&b, "evaluation step", SL_INT, (sl_shape){1, {1}});
        if (b.step) pass->step = b.step->variable;
        draw(&b, data, false);
        if (b.valid && copy_forward(&b, false)) {
            add_root(&b, record(&b, pass));
            add_root(&b, sl_node1(SL_OP_ADVANCE, &(sl_advance_attr){0}, b.step));
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
        model->predictor = sl_plan_build(&(sl_plan_request){
            .graph = b.graph, .roots = b.roots, .n = 2, .store = model->store, .options = {.batch = batch}});
    else
        sl_graph_free(b.graph);
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
    if (!model->prediction)
        return sl_fail(ctx, SL_UNSUPPORTED, "sl_predict: the loss was not built by a call of loss.h");
    if (!samples || !out || count < 0)
        return sl_fail(ctx, SL_ARGUMENT, "sl_predict: samples and out must not be NULL");
    const int64_t in = sl_shape_count(model->image->shape), outputs = sl_model_outputs(model);
    const int batch = (int)(count < model->options.batch ? (count > 0 ? count : 1) : model->options.batch);
    if (!build_predictor(model, batch)) return ctx->code;
    sl_plan *plan = model->predictor;
    for (int64_t first = 0; first < count && sl_ok(ctx); first += batch) {
        const int64_t n = count - first < batch ? count - first : batch;
        sl_plan_set_valid(plan, (int)n);
        sl_to_device(ctx, sl_plan_data(plan, plan->roots[1]), SL_FLOAT, samples + first * in, sizeof(float),
                     n * in);
        sl_plan_run(plan);
        sl_to_host(ctx, out + first * outputs, sizeof(float), SL_FLOAT, sl_plan_data(plan, plan->roots[0]),
                   n * outputs);
    }
    return ctx->code;
}

void sl_model_print(sl_model *model, FILE *to)
{
    if (!model) return;
    if (!model->training.plan && !model->evaluation.plan) build_predictor(model, model->options.batch);
    const sl_plan *plan = model->training.plan ? model->training.plan : model->evaluation.plan;
    sl_plan_print(plan ? plan : model->predictor, to);
}
