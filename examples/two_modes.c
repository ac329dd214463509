/* One derivative, two ways. f(x; w, b) = 1/(exp(-(w·x + b)) + 1) from its elementary nodes at x = 1, w = 0, b
 * = 0: forward mode carries the derivative by w along with the values, from h1 to h6; reverse mode carries
 * the derivative of h6 back, from h6 to h1. Both are nodes of the graph, and both find df/dw = 0.25. */
#include <slope/slope.h>
#include <stdio.h>

enum { NODES = 6 };

int main(void)
{
    sl_context *ctx = sl_open(.device = SL_REFERENCE); /* double precision */
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_constant(g, sl_dims(1), 1), *one = sl_constant(g, sl_dims(1), 1);
    sl_node *w = sl_parameter(g, "w", sl_dims(1), .init = {SL_INIT_ZEROS, 0});
    sl_node *b = sl_parameter(g, "b", sl_dims(1), .init = {SL_INIT_ZEROS, 0});
    sl_node *h[NODES] = {sl_mul(w, x)};
    h[1] = sl_add(h[0], b);
    h[2] = sl_neg(h[1]);
    h[3] = sl_exp(h[2]);
    h[4] = sl_scale(h[3], 1, 1); /* h4 + 1 */
    h[5] = sl_reciprocal(h[4]);

    sl_node *tangent[NODES], *adjoint[NODES + 1];
    sl_jvp(h, NODES, &w, &one, 1, tangent);
    sl_node *wrt[NODES + 1] = {h[0], h[1], h[2], h[3], h[4], h[5], w};
    sl_gradients(h[5], wrt, NODES + 1, adjoint);

    sl_node *outputs[3 * NODES + 1];
    for (int i = 0; i < NODES; i++) {
        outputs[i] = h[i];
        outputs[NODES + i] = tangent[i];
        outputs[2 * NODES + i] = adjoint[i];
    }
    outputs[3 * NODES] = adjoint[NODES];
    sl_plan *plan = sl_plan_new(outputs, 3 * NODES + 1, NULL);
    sl_plan_run(plan);
    static const char *const names[NODES] = {"h1 = w*x",     "h2 = h1 + b", "h3 = -h2",
                                             "h4 = exp(h3)", "h5 = h4 + 1", "h6 = 1/h5"};
    printf("%-14s %8s %8s %8s\n", "", "value", "dh/dw", "dh6/dh");
    for (int i = 0; i < NODES; i++) {
        double v[3] = {0};
        for (int k = 0; k < 3; k++) sl_plan_get_double(plan, outputs[k * NODES + i], &v[k], 1);
        printf("%-14s %8g %8g %8g\n", names[i], v[0], v[1], v[2]);
    }
    double both[2] = {0};
    sl_plan_get_double(plan, tangent[NODES - 1], &both[0], 1);
    sl_plan_get_double(plan, adjoint[NODES], &both[1], 1);
    printf("df/dw: forward %g, reverse %g\n", both[0], both[1]);
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
