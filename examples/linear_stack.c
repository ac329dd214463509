/* Why a network needs an activation that bends: three linear layers, one behind the other, are one linear
 * layer. */
#include <slope/slope.h>
#include <stdio.h>

enum { IN = 4, WIDE = 16, OUT = 3, SAMPLES = 5 };

int main(void)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 3);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *x = sl_input(g, "x", IN);
    sl_node *w1 = sl_parameter(g, "w1", sl_dims(IN, WIDE)), *w2 = sl_parameter(g, "w2", sl_dims(WIDE, WIDE));
    sl_node *w3 = sl_parameter(g, "w3", sl_dims(WIDE, OUT)),
            *b1 = sl_parameter(g, "b1", sl_dims(WIDE), .init = {SL_INIT_CONSTANT, .5f});

    /* x → x·W1 + b1 → ·W2 → ·W3, and the single layer x·(W1·W2·W3) + b1·W2·W3 */
    sl_node *h = sl_bias(sl_matmul(x, w1, false, false), b1);
    sl_node *stack = sl_matmul(sl_matmul(h, w2, false, false), w3, false, false);
    sl_node *w23 = sl_matmul(w2, w3, false, false), *row = sl_reshape(b1, sl_dims(1, WIDE));
    sl_node *b = sl_reshape(sl_matmul(row, w23, false, false), sl_dims(OUT));
    sl_node *single = sl_bias(sl_matmul(x, sl_matmul(w1, w23, false, false), false, false), b);
    /* With a relu behind the first layer no single layer can follow. */
    sl_node *bent = sl_matmul(sl_matmul(sl_activate(h, SL_RELU), w2, false, false), w3, false, false);

    sl_plan *plan = sl_plan_new((sl_node *[]){stack, single, bent}, 3, &(sl_plan_options){.batch = SAMPLES});
    float samples[SAMPLES][IN], y[3][SAMPLES][OUT], difference[2] = {0, 0};
    for (int i = 0; i < SAMPLES * IN; i++) (&samples[0][0])[i] = (float)(i * 7 % 11) / 5 - 1;
    sl_plan_set(plan, x, &samples[0][0], SAMPLES * IN);
    sl_plan_run(plan);
    sl_plan_get(plan, stack, &y[0][0][0], SAMPLES * OUT);
    sl_plan_get(plan, single, &y[1][0][0], SAMPLES * OUT);
    sl_plan_get(plan, bent, &y[2][0][0], SAMPLES * OUT);
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    for (int k = 0; k < 2 && !failed; k++)
        for (int i = 0; i < SAMPLES * OUT; i++) {
            const float d = (&y[k == 0 ? 1 : 2][0][0])[i] - (&y[0][0][0])[i], size = d < 0 ? -d : d;
            if (size > difference[k]) difference[k] = size;
        }
    if (!failed)
        printf("first sample, three layers: %9.5f %9.5f %9.5f\n"
               "first sample, one layer:    %9.5f %9.5f %9.5f\n"
               "largest difference over %d samples: %s; with a relu in between: %.3f\n",
               (double)y[0][0][0], (double)y[0][0][1], (double)y[0][0][2], (double)y[1][0][0],
               (double)y[1][0][1], (double)y[1][0][2], SAMPLES,
               difference[0] < 1e-5f ? "rounding alone" : "too large", (double)difference[1]);
    sl_close(ctx);
    return failed;
}
