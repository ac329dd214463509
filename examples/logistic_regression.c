/* Logistic regression: the chance of passing an exam after some hours of study, as the sigmoid of a line. */
#include <slope/slope.h>
#include <stdio.h>

enum { STUDENTS = 20 };

int main(void)
{
    static const float hours[STUDENTS] = {0.5f,  0.75f, 1.0f,  1.25f, 1.5f, 1.75f, 1.75f, 2.0f,  2.25f, 2.5f,
                                          2.75f, 3.0f,  3.25f, 3.5f,  4.0f, 4.25f, 4.5f,  4.75f, 5.0f,  5.5f};
    static const int32_t passed[STUDENTS] = {0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1};

    sl_context *ctx = sl_open(.device = SL_CPU);
    sl_dataset *data = sl_dataset_from_labels(ctx, hours, passed, STUDENTS, 1, 1, 1, 2);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *logit = sl_dense(sl_input(g, "hours", 1), .units = 1);
    sl_node *loss = sl_binary_cross_entropy(logit, sl_labels(g, "passed"));

    sl_model *m = sl_compile(loss, .batch = STUDENTS, .optimizer = sl_adam(.rate = 0.05f));
    sl_fit(m, data, .epochs = 2000);
    float w = 0, b = 0, chance[3];
    sl_model_get(m, "dense1.weight", &w, 1);
    sl_model_get(m, "dense1.bias", &b, 1);
    sl_predict(m, (const float[]){1, 2.71f, 5}, 3, chance);
    sl_report r = sl_evaluate(m, data);
    if (sl_error(ctx))
        fprintf(stderr, "%s\n", sl_error(ctx));
    else
        printf("chance of passing = sigmoid(%.4f hours %+.4f)\n"
               "after 1 hour %.0f %%, after 2.71 hours %.0f %%, after 5 hours %.0f %%\n"
               "mean loss %.4f; the best possible is 0.4015\n",
               (double)w, (double)b, 100 * (double)chance[0], 100 * (double)chance[1],
               100 * (double)chance[2], r.loss);
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
