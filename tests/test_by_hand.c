/* Worked examples with known digits: the 2–2–2 network (its numbers recomputed in double; M. Mazur's "step by
 * step backpropagation example" states them to nine digits) and f = 1/(exp(-(w·x+b))+1) in elementary nodes.
 */
#include "check.h"

#include "graph/graph.h"
#include "nn/model.h"

static const double start[8] = {.15, .20, .25, .30, .40, .45, .50, .55};

enum biases { HELD, OWN, SHARED };

typedef struct network {
    sl_context *ctx;
    sl_node *w[2], *y, *loss;
    sl_model *model;
    sl_dataset *data;
} network;

static sl_node *layer(sl_graph *g, sl_node *x, int k, enum biases biases, sl_node **w)
{
    const double value = k == 0 ? .35 : .60;
    *w = sl_parameter(g, k == 0 ? "hidden" : "output", sl_dims(2, 2), .init = {SL_INIT_ZEROS, 0});
    sl_node *b = biases == HELD
                     ? sl_constant(g, sl_dims(1), value)
                     : sl_parameter(g, k == 0 ? "b1" : "b2", ((sl_shape){1, {biases == SHARED ? 1 : 2}}),
                                    .init = {SL_INIT_CONSTANT, (float)value});
    return sl_activate(sl_bias(sl_matmul(x, *w, false, false), b), SL_SIGMOID);
}

/* Weights lie [in, out]: w1 and w2 lead to the first neuron. Set in double, because .15 is no float. */
static void set(const sl_model *m, const char *name, const double *values, int64_t count)
{
    for (int i = 0; i < m->n_parameters; i++)
        if (strcmp(m->parameters[i]->name, name) == 0) {
            assert_int_equal(sl_shape_count(m->parameters[i]->shape), count);
            assert_int_equal(
                sl_store_set(m->store, m->parameters[i]->variable, values, SL_FLOAT, sizeof(double)), SL_OK);
            return;
        }
    fail_msg("no parameter %s", name);
}

static network open_network(sl_device_kind device, enum biases biases)
{
    network n = {.ctx = sl_open(.device = device)};
    sl_graph *g = sl_graph_new(n.ctx);
    sl_node *x = sl_input(g, "x", 2), *t = sl_input(g, "t", 2);
    n.y = layer(g, layer(g, x, 0, biases, &n.w[0]), 1, biases, &n.w[1]);
    n.loss = sl_half_squared_error(n.y, t);
    n.model = sl_compile(n.loss, .batch = 1, .optimizer = sl_sgd(.rate = 0.5f));
    /* Data sets hold floats; in double the example wants .05, .10 and .01, .99 themselves. */
    const float xs[2] = {.05f, .10f}, ts[2] = {.01f, .99f};
    n.data = sl_dataset_from_targets(n.ctx, xs, ts, 1, 1, 1, 2, 2);
    assert_ok(n.ctx);
    for (int k = 0; k < 2; k++) {
        const double *s = start + 4 * k;
        set(n.model, k == 0 ? "hidden" : "output", (double[]){s[0], s[2], s[1], s[3]}, 4);
    }
    if (biases != HELD)
        for (int k = 0; k < 2; k++) {
            const double b = k == 0 ? .35 : .60;
            set(n.model, k == 0 ? "b1" : "b2", (double[]){b, b}, biases == SHARED ? 1 : 2);
        }
    return n;
}

/* The data as doubles, where the plan keeps them. */
static void exact_data(network *n)
{
    if (strcmp(sl_device_name(n->ctx), "reference") != 0) return;
    const sl_plan *plan = n->model->training.plan;
    for (int i = 0; i < plan->n_order; i++) {
        const sl_variable *v = plan->order[i]->variable;
        if (!v || v->kind != SL_VARIABLE_DATA) continue;
        const double xs[2] = {.05, .10}, ts[2] = {.01, .99};
        sl_to_device(n->ctx, sl_plan_variable(plan, v), SL_FLOAT, strcmp(v->name, "images") == 0 ? xs : ts,
                     sizeof(double), 2);
    }
}

/* Trains `steps` steps and one more, whose record is the error after `steps`. */
static double error_after(network *n, int steps)
{
    sl_pass *pass = sl_training_pass(n->model, n->data, 1 << 20);
    assert_non_null(pass);
    exact_data(n);
    for (int i = 0; i <= steps; i++) assert_int_equal(sl_plan_run(pass->plan), SL_OK);
    double history[3];
    sl_to_host(n->ctx, history, sizeof *history, SL_FLOAT, sl_plan_variable(pass->plan, pass->history), 3);
    assert_ok(n->ctx);
    return history[0];
}

static void weights(const network *n, double *w)
{
    for (int k = 0; k < 2; k++) {
        double m[4];
        assert_int_equal(sl_store_get(n->model->store, n->model->parameters[k]->variable, m, sizeof(double)),
                         SL_OK);
        w[4 * k] = m[0], w[4 * k + 1] = m[2], w[4 * k + 2] = m[1], w[4 * k + 3] = m[3];
    }
}

static void test_one_step(void **state)
{
    (void)state;
    const double expected[8] = {.149780716133, .199561432266, .249751143632, .299502287265,
                                .358916479718, .408666186076, .511301270239, .561370121108};
    const struct {
        sl_device_kind device;
        double tolerance;
    } devices[] = {{SL_REFERENCE, 1e-9}, {SL_CPU, 1e-7}};
    for (int d = 0; d < 2; d++) {
        network n = open_network(devices[d].device, HELD);
        assert_near(error_after(&n, 0), 0.29837110876, devices[d].tolerance);
        double w[8];
        weights(&n, w); /* after the step that error_after ends with */
        for (int i = 0; i < 8; i++) assert_near(w[i], expected[i], devices[d].tolerance);
        sl_close(n.ctx);
    }
}

static void test_errors(void **state)
{
    (void)state;
    const struct {
        enum biases biases;
        double after_one, after_many;
    } rows[] = {{HELD, 0.291027773694, 3.510187783e-05},
                {OWN, 0.280471446791, 2.447562236e-06},
                {SHARED, 0.285750886699, 4.355321066e-06}};
    for (int i = 0; i < 3; i++) {
        network n = open_network(SL_REFERENCE, rows[i].biases);
        assert_near(error_after(&n, 1), rows[i].after_one, 1e-9);
        sl_close(n.ctx);
        n = open_network(SL_REFERENCE, rows[i].biases);
        assert_near(error_after(&n, 10000), rows[i].after_many, 1e-9 * rows[i].after_many + 1e-14);
        sl_close(n.ctx);
        n = open_network(SL_CPU, rows[i].biases);
        assert_near(error_after(&n, 1), rows[i].after_one, 1e-7);
        sl_close(n.ctx);
        n = open_network(SL_CPU, rows[i].biases);
        assert_near(error_after(&n, 10000), rows[i].after_many, 2e-3 * rows[i].after_many);
        sl_close(n.ctx);
    }
}

static void test_output(void **state)
{
    (void)state;
    network n = open_network(SL_CPU, HELD);
    const float x[2] = {.05f, .10f};
    float y[2];
    assert_int_equal(sl_predict(n.model, x, 1, y), SL_OK);
    assert_near(y[0], 0.7513650696, 1e-7);
    assert_near(y[1], 0.7729284653, 1e-7);
    sl_close(n.ctx);
}

/* h1 = w·x, h2 = h1 + b, h3 = -h2, h4 = exp(h3), h5 = h4 + 1, h6 = 1/h5 at x = 1, w = 0, b = 0. */
static void test_reverse_mode_node_by_node(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        sl_context *ctx = sl_open(.device = d ? SL_CPU : SL_REFERENCE);
        sl_graph *g = sl_graph_new(ctx);
        sl_node *x = sl_parameter(g, "x", sl_dims(1), .init = {SL_INIT_CONSTANT, 1});
        sl_node *w = sl_parameter(g, "w", sl_dims(1), .init = {SL_INIT_ZEROS, 0});
        sl_node *b = sl_parameter(g, "b", sl_dims(1), .init = {SL_INIT_ZEROS, 0});
        sl_node *h1 = sl_mul(w, x), *h2 = sl_add(h1, b), *h3 = sl_neg(h2), *h4 = sl_exp(h3),
                *h5 = sl_scale(h4, 1, 1);
        sl_node *h6 = sl_reciprocal(h5), *wrt[] = {h5, h4, h3, h2, h1, w}, *out[13];
        assert_int_equal(sl_gradients(h6, wrt, 6, out), SL_OK);
        sl_node *values[] = {h1, h2, h3, h4, h5, h6};
        memcpy(out + 6, values, sizeof values);
        sl_plan *plan = sl_plan_new(out, 12, NULL);
        assert_int_equal(sl_plan_run(plan), SL_OK);
        const double expected[12] = {-.25, -.25, -.25, .25, .25, .25, 0, 0, 0, 1, 2, .5};
        for (int i = 0; i < 12; i++) {
            double value;
            assert_int_equal(sl_plan_get_double(plan, out[i], &value, 1), SL_OK);
            assert_true(value == expected[i]); /* all are exact in binary */
        }
        sl_close(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_step),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_reverse_mode_node_by_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
