/* The workloads of bench_train.c in ggml (github.com/ggml-org/ggml), by its own training interface, ggml-opt.
 *
 *     ggml_train --model softmax|mlp|lenet|cnn-plain [--threads N] [--rounds N]
 *
 * Graphs are allocated once (ggml-opt's "static graphs"). ggml has no SGD with momentum: softmax and mlp take
 * its plain SGD, which is less work. lenet and cnn-plain take its AdamW without decay. Prints one line of
 * JSON. Built by peers/build.sh. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml-opt.h"
#include "ggml.h"

namespace
{

constexpr int64_t side = 28, pixels = side * side, classes = 10;

struct workload {
    const char *name;
    int batch, steps;
    bool adam;
};
constexpr workload workloads[] = {{"softmax", 128, 468, false},
                                  {"mlp", 128, 468, false},
                                  {"lenet", 64, 300, true},
                                  {"cnn-plain", 128, 12, true}};

/* Parameters and the input lie in one context, everything that is computed in another. */
struct builder {
    ggml_context *fixed, *computed;
    std::vector<ggml_tensor *> parameters;

    ggml_tensor *parameter(int64_t a, int64_t b, int64_t c, int64_t d)
    {
        ggml_tensor *t = ggml_new_tensor_4d(fixed, GGML_TYPE_F32, a, b, c, d);
        ggml_set_param(t);
        parameters.push_back(t);
        return t;
    }
    ggml_tensor *dense(ggml_tensor *x, int64_t units)
    {
        ggml_tensor *y = ggml_mul_mat(computed, parameter(x->ne[0], units, 1, 1), x);
        return ggml_add(computed, y, parameter(units, 1, 1, 1));
    }
    /* Windows as float32: ggml_conv_2d would lay them out as float16, whose backward pass is several times
     * slower. */
    ggml_tensor *conv(ggml_tensor *x, int64_t kernel, int64_t filters)
    {
        ggml_tensor *w = parameter(kernel, kernel, x->ne[2], filters);
        ggml_tensor *windows = ggml_im2col(computed, w, x, 1, 1, 0, 0, 1, 1, true, GGML_TYPE_F32);
        const int64_t k = windows->ne[0], width = windows->ne[1], height = windows->ne[2], n = windows->ne[3];
        ggml_tensor *rows = ggml_reshape_2d(computed, windows, k, width * height * n);
        ggml_tensor *y = ggml_mul_mat(computed, rows, ggml_reshape_2d(computed, w, k, filters));
        y = ggml_permute(computed, ggml_reshape_4d(computed, y, width, height, n, filters), 0, 1, 3, 2);
        return ggml_relu(computed, ggml_add(computed, ggml_cont(computed, y), parameter(1, 1, filters, 1)));
    }
    ggml_tensor *pool(ggml_tensor *x)
    {
        return ggml_pool_2d(computed, x, GGML_OP_POOL_MAX, 2, 2, 2, 2, 0, 0);
    }
    ggml_tensor *flat(ggml_tensor *x)
    {
        return ggml_reshape_2d(computed, ggml_cont(computed, x), x->ne[0] * x->ne[1] * x->ne[2], x->ne[3]);
    }
    ggml_tensor *network(const char *name, ggml_tensor *images)
    {
        ggml_tensor *x = images;
        if (strcmp(name, "mlp") == 0) x = ggml_relu(computed, dense(x, 128));
        if (strcmp(name, "lenet") == 0) {
            x = ggml_reshape_4d(computed, x, side, side, 1, x->ne[1]);
            x = flat(pool(conv(pool(conv(x, 5, 8)), 5, 16)));
        }
        if (strcmp(name, "cnn-plain") == 0) {
            x = ggml_reshape_4d(computed, x, side, side, 1, x->ne[1]);
            x = flat(pool(conv(conv(x, 3, 32), 3, 64)));
            x = ggml_relu(computed, dense(x, 128));
        }
        return dense(x, classes);
    }
};

ggml_opt_optimizer_params rates(void *)
{
    ggml_opt_optimizer_params p = ggml_opt_get_default_optimizer_params(nullptr);
    p.adamw.alpha = 1e-3f;
    p.adamw.wd = 0;
    p.sgd.alpha = 0.01f;
    p.sgd.wd = 0;
    return p;
}

ggml_opt_dataset_t random_samples(int64_t samples)
{
    ggml_opt_dataset_t data =
        ggml_opt_dataset_init(GGML_TYPE_F32, GGML_TYPE_F32, pixels, classes, samples, 1);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> value(0, 1);
    float *x = ggml_get_data_f32(ggml_opt_dataset_data(data)),
          *y = ggml_get_data_f32(ggml_opt_dataset_labels(data));
    for (int64_t i = 0; i < samples * pixels; i++) x[i] = value(random);
    memset(y, 0, static_cast<size_t>(samples * classes) * sizeof *y);
    for (int64_t i = 0; i < samples; i++) y[i * classes + static_cast<int64_t>(random() % classes)] = 1;
    return data;
}

ggml_context *context(size_t tensors)
{
    return ggml_init(
        {tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(GGML_DEFAULT_GRAPH_SIZE, true) * 3,
         nullptr, true});
}

} // namespace

int main(int argc, char **argv)
{
    const char *model = "mlp";
    int threads = 1, rounds = 5;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--model") == 0) model = argv[i + 1];
        if (strcmp(argv[i], "--threads") == 0) threads = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--rounds") == 0) rounds = atoi(argv[i + 1]);
    }
    const workload *w = nullptr;
    for (const workload &one : workloads)
        if (strcmp(one.name, model) == 0) w = &one;
    if (!w) {
        printf("{\"framework\": \"ggml\", \"model\": \"%s\", \"failed\": \"not written for ggml\"}\n", model);
        return 0;
    }
    ggml_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    ggml_backend_t cpu = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(cpu, threads);
    ggml_backend_sched_t scheduler =
        ggml_backend_sched_new(&cpu, nullptr, 1, GGML_DEFAULT_GRAPH_SIZE, false, true);

    builder b = {context(64), context(4096), {}};
    ggml_tensor *images = ggml_new_tensor_2d(b.fixed, GGML_TYPE_F32, pixels, w->batch);
    ggml_set_input(images);
    ggml_tensor *logits = b.network(model, images);
    ggml_set_output(logits);
    ggml_backend_buffer_t memory = ggml_backend_alloc_ctx_tensors(b.fixed, cpu);
    std::mt19937 random(2);
    for (ggml_tensor *t : b.parameters) {
        std::vector<float> values(static_cast<size_t>(ggml_nelements(t)));
        std::normal_distribution<float> normal(0, 0.03f);
        for (float &v : values) v = normal(random);
        ggml_backend_tensor_set(t, values.data(), 0, ggml_nbytes(t));
    }
    ggml_opt_params params = ggml_opt_default_params(scheduler, GGML_OPT_LOSS_TYPE_CROSS_ENTROPY);
    params.ctx_compute = b.computed;
    params.inputs = images;
    params.outputs = logits;
    params.get_opt_pars = rates;
    params.optimizer = w->adam ? GGML_OPT_OPTIMIZER_TYPE_ADAMW : GGML_OPT_OPTIMIZER_TYPE_SGD;
    ggml_opt_context_t training = ggml_opt_init(params);
    const int64_t samples = static_cast<int64_t>(w->batch) * w->steps;
    ggml_opt_dataset_t data = random_samples(samples);
    ggml_opt_result_t result = ggml_opt_result_init();

    printf(
        "{\"framework\": \"ggml %s\", \"mode\": \"%d threads\", \"model\": \"%s\", \"samples_per_second\": [",
        ggml_version(), threads, model);
    for (int round = 0; round <= rounds; round++) { /* the first warms up */
        const int64_t start = ggml_time_us();
        ggml_opt_dataset_shuffle(training, data, -1);
        ggml_opt_epoch(training, data, result, nullptr, samples, nullptr, nullptr);
        ggml_opt_result_reset(result);
        const double seconds = 1e-6 * static_cast<double>(ggml_time_us() - start);
        if (round > 0) printf("%s%.0f", round > 1 ? ", " : "", static_cast<double>(samples) / seconds);
    }
    printf("]}\n");
    ggml_opt_result_free(result);
    ggml_opt_free(training);
    ggml_backend_buffer_free(memory);
    return 0;
}
