/* Softmax regression on digits, and what it has learned: its ten columns of weights as one picture,
 * softmax_weights.pgm, bright where ink speaks for the digit and dark where it speaks against it.
 *
 *     softmax_weights [DATA]      mnist, a folder with IDX files, …; by default generated digits */
#include <slope/slope.h>
#include <stdio.h>

enum { SIDE = 28, DIGITS = 10 };

static int write_picture(const char *path, float w[SIDE][SIDE][DIGITS])
{
    float largest = 0;
    for (int i = 0; i < SIDE * SIDE * DIGITS; i++) {
        const float v = (&w[0][0][0])[i] < 0 ? -(&w[0][0][0])[i] : (&w[0][0][0])[i];
        if (v > largest) largest = v;
    }
    FILE *file = fopen(path, "wb");
    if (!file) return 1;
    fprintf(file, "P5 %d %d 255\n", SIDE * DIGITS, SIDE);
    for (int y = 0; y < SIDE; y++)
        for (int digit = 0; digit < DIGITS; digit++)
            for (int x = 0; x < SIDE; x++) fputc((int)(127.5f + 127.5f * w[y][x][digit] / largest), file);
    return fclose(file);
}

int main(int argc, char **argv)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 1);
    sl_dataset *train =
        argc > 1 ? sl_dataset_named(ctx, argv[1], SL_TRAIN) : sl_digits(ctx, 1, SL_TRAIN, 10000);
    sl_dataset *test = argc > 1 ? sl_dataset_named(ctx, argv[1], SL_TEST) : sl_digits(ctx, 1, SL_TEST, 2000);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *logits = sl_dense(sl_input(g, "image", SIDE, SIDE, 1), .units = DIGITS, .l2 = 1e-3f);
    sl_model *m = sl_compile(sl_softmax_cross_entropy(logits, sl_labels(g, "digit")), .batch = 128,
                             .optimizer = sl_adam(.rate = 3e-3f));
    sl_fit(m, train, .epochs = 5);
    sl_report r = sl_evaluate(m, test);
    static float w[SIDE][SIDE][DIGITS];
    sl_model_get(m, "dense1.weight", &w[0][0][0], SIDE * SIDE * DIGITS);
    if (sl_error(ctx))
        fprintf(stderr, "%s\n", sl_error(ctx));
    else
        printf("test accuracy %.2f %%; the weights are in softmax_weights.pgm\n", 100 * r.accuracy);
    int failed = sl_error(ctx) != NULL || write_picture("softmax_weights.pgm", w) != 0;
    sl_close(ctx);
    return failed;
}
