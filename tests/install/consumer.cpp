// Slope from C++20: learns a few generated digits, saves the model, loads it again.
#include <cstdio>
#include <slope/slope.h>

int main(int argc, char **argv)
{
    sl_context *ctx = sl_open({.device = SL_CPU, .seed = 7});
    sl_dataset *train = sl_digits(ctx, 1, SL_TRAIN, 1024);
    sl_dataset *test = sl_digits(ctx, 1, SL_TEST, 256);

    sl_graph *graph = sl_graph_new(ctx);
    sl_node *x = sl_input(graph, "image", 28, 28, 1);
    sl_node *loss = sl_softmax_cross_entropy(sl_model_line(x, "mlp", SL_RELU, {}), sl_labels(graph, "digit"));
    sl_model *model = sl_compile(loss, {.batch = 64, .optimizer = {.row = SL_OPTIMIZER_ADAM, .rate = 2e-3f}});
    sl_fit(model, train, {.epochs = 4});
    const sl_report report = sl_evaluate(model, test);
    sl_save(model, argc > 1 ? argv[1] : "consumer.safetensors");
    const sl_report again = sl_evaluate(sl_load(ctx, argc > 1 ? argv[1] : "consumer.safetensors"), test);

    const char *error = sl_error(ctx);
    if (error)
        std::fprintf(stderr, "%s\n", error);
    else
        std::printf("accuracy %.4f\n", report.accuracy);
    const bool failed = error || !(report.accuracy > 0.5) || again.accuracy != report.accuracy;
    sl_close(ctx);
    return failed;
}
