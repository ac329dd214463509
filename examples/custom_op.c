/* An operation of one's own, without touching the library: the Gaussian bump y = exp(-x²), with its kernel
 * and its derivative, trained in a network and held against differences; then the same with an error
 * planted in its vjp. */
#include <math.h>
#include <slope/slope.h>
#include <stdio.h>

static void run(const sl_custom_call *call)
{
    const float *x = call->in[0];
    for (int64_t i = 0, n = sl_shape_count(call->out_shape); i < n; i++)
        ((float *)call->out)[i] = expf(-x[i] * x[i]);
}

static sl_node *slope(sl_node *y, sl_node *d) /* d·(-2xy) */
{
    return sl_mul(d, sl_scale(sl_mul(sl_node_input(y, 0), y), -2, 0));
}
static void vjp(sl_node *y, sl_node *dy, sl_node **dx)
{
    dx[0] = slope(y, dy);
}
static void wrong(sl_node *y, sl_node *dy, sl_node **dx)
{
    dx[0] = sl_neg(slope(y, dy));
}

static void show(void *user, const sl_gradient_row *row)
{
    (void)user;
    printf("  %-14s %s", row->parameter, row->agrees ? "agrees\n" : "");
    if (!row->agrees)
        printf("element %lld: computed %.6f, the difference says %.6f\n", (long long)row->element,
               row->gradient, row->difference);
}

int main(void)
{
    static const sl_custom_op bumps[2] = {{.name = "bump", .cpu = run, .vjp = vjp},
                                          {.name = "bump", .cpu = run, .vjp = wrong}};
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 1);
    sl_dataset *train = sl_digits(ctx, 1, SL_TRAIN, 5000), *test = sl_digits(ctx, 1, SL_TEST, 1000);
    for (int i = 0; i < 2 && !sl_error(ctx); i++) {
        sl_graph *g = sl_graph_new(ctx);
        sl_node *h = sl_dense(sl_input(g, "image", 28, 28, 1), .units = 64, .init = {SL_INIT_XAVIER, 0});
        h = sl_custom(&bumps[i], NULL, &h, 1);
        sl_model *m = sl_compile(sl_softmax_cross_entropy(sl_dense(h, .units = 10), sl_labels(g, "digit")),
                                 .batch = 64, .optimizer = sl_adam(.rate = 1e-3f));
        printf("%s:\n", i == 0 ? "the bump" : "with the sign of its slope turned round");
        if (!sl_check_gradients(m, train, show, NULL)) continue;
        sl_fit(m, train, .epochs = 3);
        printf("  test accuracy after 3 epochs %.1f %%\n", 100 * sl_evaluate(m, test).accuracy);
    }
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
