/* Backpropagation one can follow with a pencil: a 2–2–2 network of sigmoids, one sample, gradient descent
 * with rate 0.5. The gradients are nodes of the graph like any other, so every intermediate value can be
 * read. */
#include <slope/slope.h>
#include <stdio.h>

static sl_node *layer(sl_graph *g, sl_node *x, const char *name, double bias, sl_node **w)
{
    *w = sl_parameter(g, name, sl_dims(2, 2)); /* [in, out] */
    return sl_activate(sl_bias(sl_matmul(x, *w, false, false), sl_constant(g, sl_dims(1), bias)), SL_SIGMOID);
}

int main(void)
{
    sl_context *ctx = sl_open(.device = SL_REFERENCE); /* double precision */
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", 2), *t = sl_input(g, "t", 2), *w[2], *d[2];
    sl_node *y = layer(g, layer(g, x, "hidden", 0.35, &w[0]), "output", 0.60, &w[1]);
    sl_node *error = sl_half_squared_error(y, t);
    sl_gradients(error, w, 2, d);
    sl_node *next[2] = {sl_sub(w[0], sl_scale(d[0], 0.5, 0)), sl_sub(w[1], sl_scale(d[1], 0.5, 0))};

    sl_node *outputs[] = {error, y, d[0], d[1], next[0], next[1]};
    sl_plan *plan = sl_plan_new(outputs, 6, NULL);
    double weights[2][4] = {{.15, .25, .20, .30}, {.40, .50, .45, .55}}, e, out[2];
    sl_plan_set_double(plan, x, (double[]){.05, .10}, 2);
    sl_plan_set_double(plan, t, (double[]){.01, .99}, 2);
    for (int step = 0; step <= 10000 && !sl_error(ctx); step++) {
        for (int k = 0; k < 2; k++) sl_plan_set_double(plan, w[k], weights[k], 4);
        sl_plan_run(plan);
        sl_plan_get_double(plan, error, &e, 1);
        sl_plan_get_double(plan, y, out, 2);
        if (step < 2 || step == 10000)
            printf("step %5d  error %.12g  output %.10f %.10f\n", step, e, out[0], out[1]);
        for (int k = 0; k < 2; k++) sl_plan_get_double(plan, next[k], weights[k], 4);
        for (int k = 0; k < 2 && step == 0; k++)
            printf("  w%d..w%d after the first step: %.12f %.12f %.12f %.12f\n", 4 * k + 1, 4 * k + 4,
                   weights[k][0], weights[k][2], weights[k][1], weights[k][3]);
    }

    /* f = 1/(exp(-(w·x+b))+1) from its elementary nodes, and the adjoint of each of them. */
    sl_node *one = sl_constant(g, sl_dims(1), 1),
            *v = sl_parameter(g, "w", sl_dims(1), .init = {SL_INIT_ZEROS, 0});
    sl_node *b = sl_parameter(g, "b", sl_dims(1), .init = {SL_INIT_ZEROS, 0}), *h1 = sl_mul(v, one),
            *h2 = sl_add(h1, b);
    sl_node *h3 = sl_neg(h2), *h4 = sl_exp(h3), *h5 = sl_scale(h4, 1, 1), *h6 = sl_reciprocal(h5);
    sl_node *wrt[] = {h5, h4, h3, h2, h1, v}, *adjoint[6];
    sl_gradients(h6, wrt, 6, adjoint);
    plan = sl_plan_new(adjoint, 6, NULL);
    sl_plan_run(plan);
    printf("adjoints of h5, h4, h3, h2, h1, w:");
    for (int i = 0; i < 6 && sl_plan_get_double(plan, adjoint[i], &e, 1) == SL_OK; i++) printf(" %g", e);
    printf("\n");
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
