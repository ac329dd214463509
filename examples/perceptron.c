/* Rosenblatt's perceptron (1958): a step of a weighted sum, and a rule that learns only from mistakes, w +=
 * (t - y)·x. The step has slope 0, so no gradient could train it; the rule is written as nodes of the graph
 * instead. */
#include <slope/slope.h>
#include <stdio.h>

enum { POINTS = 8 };

int main(void)
{
    /* Petal length and width of irises in cm (Fisher 1936): setosa 0, versicolor 1. */
    static const float x[POINTS][2] = {{1.4f, .2f}, {4.7f, 1.4f}, {1.3f, .2f}, {4.5f, 1.5f},
                                       {1.7f, .4f}, {3.3f, 1.0f}, {1.6f, .6f}, {3.5f, 1.0f}};
    static const float t[POINTS] = {0, 1, 0, 1, 0, 1, 0, 1};

    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *image = sl_input(g, "x", 2), *target = sl_input(g, "t", 1);
    sl_node *w = sl_parameter(g, "w", sl_dims(2, 1), .init = {SL_INIT_ZEROS, 0});
    sl_node *b = sl_parameter(g, "b", sl_dims(1), .init = {SL_INIT_ZEROS, 0});
    sl_node *y = sl_activate(sl_bias(sl_matmul(image, w, false, false), b), SL_STEP);
    sl_node *mistake = sl_sub(target, y);
    sl_node *next_w = sl_add(w, sl_matmul(image, mistake, true, false)), *next_b = sl_add(b, sl_sum(mistake));

    sl_plan *plan = sl_plan_new((sl_node *[]){mistake, next_w, next_b}, 3, NULL); /* one point at a time */
    float weights[2] = {0, 0}, bias = 0, wrong;
    for (int epoch = 1, mistakes = 1; mistakes > 0 && epoch <= 50 && !sl_error(ctx); epoch++) {
        mistakes = 0;
        for (int i = 0; i < POINTS; i++) {
            sl_plan_set(plan, image, x[i], 2);
            sl_plan_set(plan, target, &t[i], 1);
            sl_plan_set(plan, w, weights, 2);
            sl_plan_set(plan, b, &bias, 1);
            sl_plan_run(plan);
            sl_plan_get(plan, mistake, &wrong, 1);
            sl_plan_get(plan, next_w, weights, 2);
            sl_plan_get(plan, next_b, &bias, 1);
            mistakes += wrong != 0;
        }
        printf("epoch %d: mistakes %d, versicolor where %.1f length %+.1f width %+.0f >= 0\n", epoch,
               mistakes, (double)weights[0], (double)weights[1], (double)bias);
    }
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
