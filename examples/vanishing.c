/* Twenty hidden layers: where the gradient vanishes on its way back, and what brings it through. Each network
 * is trained for two epochs on generated digits; the gradient norms are means over the last of them. */
#include <slope/slope.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH = 20 };

int main(void)
{
    static const struct {
        const char *what, *layer; /* repeated DEPTH times */
        sl_init init;
    } networks[] = {
        {"sigmoid, N(0, 0.01)", "dense32 sigmoid ", {SL_INIT_NORMAL, 0.01f}},
        {"sigmoid, Xavier", "dense32 sigmoid ", {SL_INIT_XAVIER, 0}},
        {"relu, N(0, 0.01)", "dense32 relu ", {SL_INIT_NORMAL, 0.01f}},
        {"relu, He", "dense32 relu ", {SL_INIT_HE, 0}},
        {"sigmoid, batch norm", "dense32 bn sigmoid ", {SL_INIT_XAVIER, 0}},
        {"tanh, residual", "res( dense32 tanh ) ", {SL_INIT_XAVIER, 0}},
    };
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 1);
    sl_dataset *train = sl_digits(ctx, 1, SL_TRAIN, 6000), *test = sl_digits(ctx, 1, SL_TEST, 1000);
    printf("%-22s %10s %14s %14s\n", "20 hidden layers", "accuracy", "gradient of 1", "gradient of 20");
    for (size_t i = 0; i < sizeof networks / sizeof *networks && !sl_error(ctx); i++) {
        char line[1024] = "dense32 tanh ";
        for (int layer = 1; layer < DEPTH; layer++) strcat(line, networks[i].layer);
        strcat(line, "dense10");
        if (i < 5) memcpy(line, "dense32 tanh ", 13);
        sl_graph *g = sl_graph_new(ctx);
        sl_node *logits = sl_model_line(sl_input(g, "image", 28, 28, 1), line, SL_RELU, networks[i].init);
        sl_model *m = sl_compile(sl_softmax_cross_entropy(logits, sl_labels(g, "digit")), .batch = 64,
                                 .diagnose = true, .optimizer = sl_adam(.rate = 1e-3f));
        sl_fit(m, train, .epochs = 2);
        double first = 0, last = 0;
        sl_diagnosis row;
        for (int k = 0; sl_model_diagnosis(m, k, &row); k++) {
            if (strcmp(row.name, "dense1.weight") == 0) first = row.gradient_norm;
            if (strcmp(row.name, "dense20.weight") == 0) last = row.gradient_norm;
        }
        printf("%-22s %8.1f %% %14.1e %14.1e\n", networks[i].what, 100 * sl_evaluate(m, test).accuracy, first,
               last);
    }
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
