/* Trains a small residual convnet on MNIST: on the GPU if there is one, else on the CPU. */
#include <slope/slope.h>
#include <stdio.h>

static sl_node *block(sl_node *x, int channels, sl_activation act) /* two 3×3 convolutions and a shortcut */
{
    sl_node *y = sl_conv2d(x, .filters = channels, .kernel = 3, .pad = 1, .activation = act);
    y = sl_conv2d(y, .filters = channels, .kernel = 3, .pad = 1);
    return sl_activate(sl_add(x, y), act);
}

int main(void)
{
    sl_context *ctx = sl_open(.device = SL_AUTO, .seed = 42);
    sl_dataset *train = sl_mnist(ctx, NULL, SL_TRAIN); /* or a folder */
    sl_dataset *test = sl_mnist(ctx, NULL, SL_TEST);

    sl_graph *g = sl_graph_new(ctx);
    sl_node *h = sl_input(g, "image", 28, 28, 1);
    h = sl_conv2d(h, .filters = 16, .kernel = 3, .pad = 1, .activation = SL_SWISH);
    h = block(h, 16, SL_SWISH);
    h = sl_max_pool2d(h, .kernel = 2);
    h = sl_dense(h, .units = 128, .activation = SL_SWISH);
    h = sl_dropout(h, .rate = 0.25f);
    sl_node *loss = sl_softmax_cross_entropy(sl_dense(h, .units = 10), sl_labels(g, "digit"));

    sl_model *m = sl_compile(loss, .batch = 128, .clip_norm = 1.0f, .optimizer = sl_adam(.rate = 1e-3f));
    sl_fit(m, train, .epochs = 1, .validation = test, .progress = stderr);
    sl_report r = sl_evaluate(m, test);
    sl_save(m, "mnist_cnn.safetensors");
    if (sl_error(ctx))
        fprintf(stderr, "%s\n", sl_error(ctx));
    else
        printf("accuracy %.2f %%\n", 100 * r.accuracy);
    int failed = sl_error(ctx) != NULL;
    sl_close(ctx);
    return failed;
}
