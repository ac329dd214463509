/* The workloads of bench_train.c in KANN (github.com/attractivechaos/kann).
 *
 *     kann_train --model softmax|mlp|lenet|cnn-plain [--threads N] [--rounds N]
 *
 * KANN shares a batch out over its threads; its products go to BLAS. Its own optimiser is RMSprop; momentum
 * and Adam are written here as loops over its flat arrays. The samples of an epoch lie in memory and are
 * gathered into the batch in a new random order each round. Prints one line of JSON. Built by peers/build.sh.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kann.h"

enum { PIXELS = 28 * 28, CLASSES = 10 };

static const struct {
    const char *name;
    int batch, steps, adam;
} workloads[] = {
    {"softmax", 128, 468, 0}, {"mlp", 128, 468, 0}, {"lenet", 64, 300, 1}, {"cnn-plain", 128, 12, 1}};

static kad_node_t *image(void)
{
    kad_node_t *t = kad_feed(4, 1, 1, 28, 28);
    t->ext_flag |= KANN_F_IN;
    return t;
}

static kann_t *network(const char *name)
{
    kad_node_t *t;
    if (strcmp(name, "softmax") == 0 || strcmp(name, "mlp") == 0) {
        t = kann_layer_input(PIXELS);
        if (name[0] == 'm') t = kad_relu(kann_layer_dense(t, 128));
    } else if (strcmp(name, "lenet") == 0) {
        t = kad_relu(kann_layer_conv2d(image(), 8, 5, 5, 1, 1, 0, 0));
        t = kad_max2d(t, 2, 2, 2, 2, 0, 0);
        t = kad_relu(kann_layer_conv2d(t, 16, 5, 5, 1, 1, 0, 0));
        t = kad_max2d(t, 2, 2, 2, 2, 0, 0);
    } else {
        t = kad_relu(kann_layer_conv2d(image(), 32, 3, 3, 1, 1, 0, 0));
        t = kad_relu(kann_layer_conv2d(t, 64, 3, 3, 1, 1, 0, 0));
        t = kad_max2d(t, 2, 2, 2, 2, 0, 0);
        t = kad_relu(kann_layer_dense(t, 128));
    }
    return kann_new(kann_layer_cost(t, CLASSES, KANN_C_CEM), 0);
}

static void momentum(int n, float rate, const float *g, float *x, float *v)
{
    for (int i = 0; i < n; i++) {
        v[i] = 0.9f * v[i] + g[i];
        x[i] -= rate * v[i];
    }
}

static void adam(int n, float rate, int step, const float *g, float *x, float *m, float *v)
{
    const float c1 = 1 - powf(0.9f, (float)step), c2 = 1 - powf(0.999f, (float)step);
    for (int i = 0; i < n; i++) {
        m[i] = 0.9f * m[i] + 0.1f * g[i];
        v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
        x[i] -= rate * (m[i] / c1) / (sqrtf(v[i] / c2) + 1e-8f);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *room(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory) return memory;
    fputs("out of memory\n", stderr);
    exit(1);
}

int main(int argc, char **argv)
{
    const char *model = "mlp";
    int threads = 1, rounds = 5, w = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--model") == 0) model = argv[i + 1];
        if (strcmp(argv[i], "--threads") == 0) threads = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--rounds") == 0) rounds = atoi(argv[i + 1]);
    }
    while (w < 4 && strcmp(workloads[w].name, model) != 0) w++;
    if (w == 4) {
        printf("{\"framework\": \"kann\", \"model\": \"%s\", \"failed\": \"not written for KANN\"}\n", model);
        return 0;
    }
    const int batch = workloads[w].batch, steps = workloads[w].steps, samples = batch * steps;
    kann_srand(1);
    kann_t *net = network(model);
    const int n = kann_size_var(net);
    float *images = room((size_t)samples * PIXELS, sizeof *images),
          *x = room((size_t)batch * PIXELS, sizeof *x);
    float *y = room((size_t)batch * CLASSES, sizeof *y), *m = room((size_t)n, sizeof *m),
          *v = room((size_t)n, sizeof *v);
    int *labels = room((size_t)samples, sizeof *labels), *order = room((size_t)samples, sizeof *order),
        step = 0;
    for (size_t i = 0; i < (size_t)samples * PIXELS; i++) images[i] = (float)kann_drand();
    for (int i = 0; i < samples; i++) labels[i] = (int)(kann_drand() * CLASSES);
    if (threads > 1) kann_mt(net, threads, batch);
    kann_feed_bind(net, KANN_F_IN, 0, &x);
    kann_feed_bind(net, KANN_F_TRUTH, 0, &y);
    kann_switch(net, 1);
    kann_set_batch_size(net, batch);
    printf("{\"framework\": \"kann %s\", \"mode\": \"blas, %d threads\", \"model\": \"%s\", "
           "\"samples_per_second\": [",
           KANN_VERSION, threads, model);
    for (int round = 0; round <= rounds; round++) { /* the first warms up */
        const double start = now();
        kann_shuffle(samples, order);
        for (int s = 0; s < steps; s++) {
            memset(y, 0, (size_t)batch * CLASSES * sizeof *y);
            for (int b = 0; b < batch; b++) {
                const int sample = order[s * batch + b];
                memcpy(x + (size_t)b * PIXELS, images + (size_t)sample * PIXELS, PIXELS * sizeof *x);
                y[b * CLASSES + labels[sample]] = 1;
            }
            kann_cost(net, 0, 1);
            if (workloads[w].adam)
                adam(n, 1e-3f, ++step, net->g, net->x, m, v);
            else
                momentum(n, 0.01f, net->g, net->x, v);
        }
        if (round > 0) printf("%s%.0f", round > 1 ? ", " : "", samples / (now() - start));
    }
    printf("]}\n");
    return 0;
}
