/* Gradients against central differences, in double precision on the reference device. */
#include "slope/check.h"

#include <math.h>
#include <stdlib.h>

#include "data/dataset.h"
#include "nn/model.h"
#include "slope/custom.h"

enum { SAMPLES = 8, ELEMENTS = 24 };

typedef struct check {
    sl_model *model;
    sl_context *ctx; /* the reference's */
    sl_plan *plan;
    sl_node *loss, **parameters, **gradients;
    double step, tolerance;
} check;

/* The model's graph again, with the gradient of every parameter. */
static bool build(check *c, sl_graph *graph, sl_node **copies, int batch)
{
    sl_model *model = c->model;
    const int n = model->n_parameters;
    sl_node *root = model->loss;
    if (sl_lower(graph, &root, 1, true, NULL, 0, copies) != SL_OK) return false;
    c->loss = root;
    for (int i = 0; i < n; i++) c->parameters[i] = copies[model->parameters[i]->id];
    if (sl_differentiate(root, c->parameters, n, c->gradients) != SL_OK) return false;
    sl_node **outputs = sl_graph_alloc(graph, (size_t)(n + 1) * sizeof *outputs);
    if (!outputs) return false;
    int n_outputs = 0;
    outputs[n_outputs++] = root;
    for (int i = 0; i < n; i++)
        if (c->gradients[i]) outputs[n_outputs++] = c->gradients[i];
    c->plan = sl_plan_new(outputs, n_outputs, &(sl_plan_options){.batch = batch, .training = true});
    return c->plan != NULL;
}

static void set_sample(check *c, sl_node *const *copies, const sl_dataset *data, int batch)
{
    const sl_model *model = c->model;
    const sl_node *image = copies[model->image->id],
                  *answer = copies[(model->target ? model->target : model->labels)->id];
    const int64_t pixels = sl_shape_count(model->image->shape);
    float *values = sl_new(c->ctx, (size_t)(batch * pixels), sizeof *values, "a gradient check");
    int32_t labels[SAMPLES];
    if (!values) return;
    for (int i = 0; i < batch; i++) labels[i] = sl_dataset_sample(data, i, values + i * pixels);
    if (image) sl_plan_set(c->plan, image, values, batch * pixels);
    if (model->target)
        sl_plan_set(c->plan, answer, data->targets, batch * (int64_t)data->outputs);
    else
        sl_plan_set_int(c->plan, answer, labels, batch);
    free(values);
}

/* (L(w + h) - L(w - h)) / 2h for one element. */
static double difference(check *c, const sl_node *parameter, double *w, int64_t count, int64_t element,
                         double h)
{
    const double before = w[element];
    double side[2] = {0, 0};
    for (int s = 0; s < 2; s++) {
        w[element] = before + (s ? -h : h);
        sl_plan_set_double(c->plan, parameter, w, count);
        sl_plan_run(c->plan);
        sl_plan_get_double(c->plan, c->loss, &side[s], 1);
    }
    w[element] = before;
    return (side[0] - side[1]) / (2 * h);
}

/* Looks at one element; a kink near it makes the difference wrong, and a smaller step passes it by. */
static void look(check *c, sl_gradient_row *row, const sl_node *parameter, double *w, const double *gradient,
                 int64_t element, double scale, double *worst)
{
    const int64_t count = sl_shape_count(parameter->shape);
    double seen = 0, error = INFINITY;
    for (double h = c->step; h >= c->step / 100 && !(error <= c->tolerance * scale); h /= 10) {
        const double d = difference(c, parameter, w, count, element, h), e = fabs(d - gradient[element]);
        if (e < error || !isfinite(error)) seen = d, error = e;
    }
    row->looked_at++;
    row->agrees = row->agrees && error <= c->tolerance * scale;
    if (error > *worst || row->looked_at == 1) {
        *worst = error;
        row->element = element;
        row->gradient = gradient[element];
        row->difference = seen;
    }
}

static sl_gradient_row check_parameter(check *c, int i)
{
    const sl_node *parameter = c->parameters[i];
    const int64_t count = sl_shape_count(parameter->shape);
    sl_gradient_row row = {
        .parameter = c->model->parameters[i]->name, .shape = parameter->shape, .agrees = true};
    double *w = sl_new(c->ctx, (size_t)count, sizeof *w, "a gradient check"), scale = 1e-6, worst = 0;
    double *gradient = sl_new(c->ctx, (size_t)count, sizeof *gradient, "a gradient check");
    if (w && gradient) {
        int64_t largest = 0;
        sl_plan_get_double(c->plan, parameter, w, count);
        sl_plan_run(c->plan);
        if (c->gradients[i]) sl_plan_get_double(c->plan, c->gradients[i], gradient, count);
        for (int64_t k = 0; k < count; k++) {
            if (fabs(gradient[k]) > fabs(gradient[largest])) largest = k;
            scale = fmax(scale, fabs(gradient[k]));
        }
        for (int64_t k = 0; k < count; k += (count + ELEMENTS - 1) / ELEMENTS)
            look(c, &row, parameter, w, gradient, k, scale, &worst);
        look(c, &row, parameter, w, gradient, largest, scale, &worst);
        sl_plan_set_double(c->plan, parameter, w, count);
    }
    free(w);
    free(gradient);
    return row;
}

/* Parameters as the model has them now. */
static void copy_parameters(check *c)
{
    for (int i = 0; i < c->model->n_parameters; i++) {
        const sl_node *node = c->model->parameters[i];
        const int64_t count = sl_shape_count(node->shape);
        double *values = sl_new(c->ctx, (size_t)count, sizeof *values, "a gradient check");
        if (!values) return;
        sl_store_get(c->model->store, node->variable, values, sizeof *values);
        sl_plan_set_double(c->plan, c->parameters[i], values, count);
        free(values);
    }
}

static bool in_float(const sl_graph *graph)
{
    for (int id = 0; id < graph->n; id++)
        if (graph->nodes[id]->op == SL_OP_CUSTOM &&
            !((const sl_custom_attr *)graph->nodes[id]->attr)->op->doubles)
            return true;
    return false;
}

static bool run(check *c, const sl_dataset *data, void (*each)(void *user, const sl_gradient_row *row),
                void *user)
{
    const sl_graph *from = c->model->graph;
    const int batch = data->count < SAMPLES ? (int)data->count : SAMPLES;
    sl_graph *graph = sl_graph_new(c->ctx);
    sl_node **copies = sl_new(c->ctx, (size_t)from->n, sizeof *copies, "a gradient check");
    const size_t n = (size_t)c->model->n_parameters;
    c->parameters = graph ? sl_graph_alloc(graph, n * sizeof(sl_node *)) : NULL;
    c->gradients = graph ? sl_graph_alloc(graph, n * sizeof(sl_node *)) : NULL;
    bool agrees = copies && c->parameters && c->gradients && build(c, graph, copies, batch);
    if (agrees) {
        set_sample(c, copies, data, batch);
        copy_parameters(c);
        c->step = in_float(graph) ? 1e-3 : 1e-5;
        c->tolerance = in_float(graph) ? 1e-2 : 1e-5;
    }
    for (int i = 0; i < c->model->n_parameters && c->plan && sl_ok(c->ctx); i++) {
        const sl_gradient_row row = check_parameter(c, i);
        agrees = agrees && row.agrees && sl_ok(c->ctx);
        if (each && sl_ok(c->ctx)) each(user, &row);
    }
    free(copies);
    return agrees;
}

bool sl_check_gradients(sl_model *model, sl_dataset *data,
                        void (*each)(void *user, const sl_gradient_row *row), void *user)
{
    if (!model || !data || !sl_ok(model->ctx)) return false;
    if (!sl_model_takes(model, data)) return false;
    check c = {.model = model, .ctx = sl_open(.device = SL_REFERENCE, .seed = model->ctx->options.seed)};
    const bool agrees = run(&c, data, each, user);
    if (sl_error(c.ctx)) sl_fail(model->ctx, sl_error_code(c.ctx), "sl_check_gradients: %s", sl_error(c.ctx));
    const bool good = sl_ok(c.ctx);
    sl_close(c.ctx);
    return agrees && good;
}
