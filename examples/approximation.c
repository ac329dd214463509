/* Universal approximation: one hidden layer comes as close to a function as one likes, if it is wide enough.
 * The wider, the smaller the error; the widest is drawn over the function. */
#include <math.h>
#include <slope/slope.h>
#include <stdio.h>

enum { POINTS = 256, COLUMNS = 64, ROWS = 17 };

static float target(float x)
{
    return sinf(3 * x) + 0.5f * cosf(7 * x);
}

int main(void)
{
    static float x[POINTS], t[POINTS], y[POINTS];
    for (int i = 0; i < POINTS; i++) {
        x[i] = -2 + 4 * (float)i / (POINTS - 1);
        t[i] = target(x[i]);
    }
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 5);
    sl_dataset *data = sl_dataset_from_targets(ctx, x, t, POINTS, 1, 1, 1, 1);
    for (int units = 2; units <= 32 && !sl_error(ctx); units *= 4) {
        sl_graph *g = sl_graph_new(ctx);
        sl_node *h =
            sl_dense(sl_input(g, "x", 1), .units = units, .activation = SL_TANH, .init = {SL_INIT_NORMAL, 2});
        sl_node *loss = sl_mean_squared_error(sl_dense(h, .units = 1), sl_input(g, "t", 1));
        sl_model *m = sl_compile(loss, .batch = 64,
                                 .optimizer = sl_adam(.rate = 0.02f, .schedule = {.kind = SL_COSINE}));
        sl_fit(m, data, .epochs = 4000);
        const sl_report r = sl_evaluate(m, data);
        sl_predict(m, x, POINTS, y);
        printf("%2d hidden units: root of the mean squared error %.4f\n", units, sqrt(r.loss));
    }
    char picture[ROWS][COLUMNS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) picture[r][c] = ' ';
    for (int i = 0; i < POINTS; i++) {
        const int c = i * COLUMNS / POINTS, f = (int)lroundf((1.6f - t[i]) / 3.2f * (ROWS - 1)),
                  n = (int)lroundf((1.6f - y[i]) / 3.2f * (ROWS - 1));
        if (f >= 0 && f < ROWS && picture[f][c] == ' ') picture[f][c] = '.';
        if (n >= 0 && n < ROWS) picture[n][c] = n == f ? '*' : 'o';
    }
    for (int r = 0; r < ROWS && !sl_error(ctx); r++) printf("%.*s\n", COLUMNS, picture[r]);
    puts("*: function and network, .: function alone, o: network alone; x from -2 to 2");
    if (sl_error(ctx)) fprintf(stderr, "%s\n", sl_error(ctx));
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
