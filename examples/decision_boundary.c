/* A shallow network, one hidden layer of tanh, learns where two half-moons part, and draws the boundary it
 * found. */
#include <math.h>
#include <slope/slope.h>
#include <stdio.h>

enum { POINTS = 400, WIDTH = 72, HEIGHT = 24 };

int main(void)
{
    static float xy[POINTS][2], grid[HEIGHT][WIDTH][2], chance[HEIGHT][WIDTH];
    static int32_t moon[POINTS];
    static char picture[HEIGHT][WIDTH];
    for (int i = 0; i < POINTS; i++) { /* two arcs that reach into each other, a little out of line */
        const float angle = 3.14159265f * (float)(i / 2) / (POINTS / 2),
                    off = 0.15f * (float)(i * 37 % 100 - 50) / 50;
        moon[i] = i % 2;
        xy[i][0] = moon[i] ? 1 - cosf(angle) + off : cosf(angle) + off;
        xy[i][1] = moon[i] ? 0.5f - sinf(angle) - off : sinf(angle) - off;
    }
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 2);
    sl_dataset *data = sl_dataset_from_labels(ctx, &xy[0][0], moon, POINTS, 1, 1, 2, 2);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *h = sl_dense(sl_input(g, "xy", 2), .units = 16, .activation = SL_TANH);
    sl_node *loss = sl_binary_cross_entropy(sl_dense(h, .units = 1), sl_labels(g, "moon"));
    sl_model *m = sl_compile(loss, .batch = 40, .optimizer = sl_adam(.rate = 0.02f));
    sl_fit(m, data, .epochs = 100);

    for (int r = 0; r < HEIGHT; r++)
        for (int c = 0; c < WIDTH; c++) {
            grid[r][c][0] = -1.5f + 4.0f * (float)c / (WIDTH - 1);
            grid[r][c][1] = 1.4f - 2.3f * (float)r / (HEIGHT - 1);
        }
    sl_predict(m, &grid[0][0][0], HEIGHT * WIDTH, &chance[0][0]);
    sl_report report = sl_evaluate(m, data);
    for (int r = 0; r < HEIGHT; r++)
        for (int c = 0; c < WIDTH; c++) picture[r][c] = chance[r][c] > 0.5f ? '.' : ' ';
    for (int i = 0; i < POINTS; i++) {
        const int c = (int)((xy[i][0] + 1.5f) / 4.0f * (WIDTH - 1) + 0.5f),
                  r = (int)((1.4f - xy[i][1]) / 2.3f * (HEIGHT - 1) + 0.5f);
        if (r >= 0 && r < HEIGHT && c >= 0 && c < WIDTH) picture[r][c] = moon[i] ? 'o' : 'x';
    }
    for (int r = 0; r < HEIGHT && !sl_error(ctx); r++) printf("%.*s\n", WIDTH, picture[r]);
    if (sl_error(ctx))
        fprintf(stderr, "%s\n", sl_error(ctx));
    else
        printf("%.1f %% of the points lie on their side (dots: where the network says o)\n",
               100 * report.accuracy);
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
