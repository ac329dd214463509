/* Weights must not start equal: hidden units that start the same get the same gradient and stay the same for
 * ever, so a layer of 32 works like one unit. With weights of 0 nothing even reaches the first layer in the
 * first step. */
#include <slope/slope.h>
#include <stdio.h>

enum { PIXELS = 28 * 28, UNITS = 32 };

static float w[PIXELS][UNITS];

int main(void)
{
    static const sl_init starts[3] = {{SL_INIT_ZEROS, 0}, {SL_INIT_CONSTANT, 0.01f}, {SL_INIT_XAVIER, 0}};
    static const char *const names[3] = {"zeros", "all 0.01", "xavier"};
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 1);
    sl_dataset *train = sl_digits(ctx, 1, SL_TRAIN, 6000), *test = sl_digits(ctx, 1, SL_TEST, 1000);
    printf("start      accuracy   different hidden units\n");
    for (int i = 0; i < 3 && !sl_error(ctx); i++) {
        sl_graph *g = sl_graph_new(ctx);
        sl_node *h = sl_dense(sl_input(g, "image", 28, 28, 1), .units = UNITS, .activation = SL_TANH,
                              .init = starts[i]);
        sl_node *logits = sl_dense(h, .units = 10, .init = starts[i]);
        sl_model *m = sl_compile(sl_softmax_cross_entropy(logits, sl_labels(g, "digit")), .batch = 64,
                                 .optimizer = sl_adam(.rate = 1e-3f));
        sl_fit(m, train, .epochs = 3);
        const sl_report r = sl_evaluate(m, test);
        sl_model_get(m, "dense1.weight", &w[0][0], PIXELS * UNITS);
        int different = 0;
        for (int u = 0; u < UNITS; u++) { /* count a unit unless an earlier one has all its weights */
            int like = 0;
            for (int v = 0; v < u && !like; v++) {
                like = 1;
                for (int p = 0; p < PIXELS && like; p++) like = w[p][u] == w[p][v];
            }
            different += !like;
        }
        printf("%-10s %6.1f %%   %d of %d\n", names[i], 100 * r.accuracy, different, UNITS);
    }
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
