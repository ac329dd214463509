/* slope bench kernels: activations and their slopes, and the calls of a layer's forward and backward pass,
 * each by itself, beside a copy and a large product in the same rounds. */
#define _DEFAULT_SOURCE
#include "bench.h"

static double seconds_of(const sl_call_time *calls, int n, const char *operation)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        if (strcmp(calls[i].operation, operation) == 0) sum += calls[i].seconds;
    return sum;
}

static double bytes_of(const sl_call_time *calls, int n, const char *operation)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        if (strcmp(calls[i].operation, operation) == 0) sum += calls[i].bytes;
    return sum;
}

/* --- activations --- */

enum { CHANNELS = 128, INPUTS = 784 };

/* Where the calls of an activation stand: plan 0 call by call, plan 1 fused, behind a bias; plans 2 and 3 the
 * same behind a dense layer. */
static sl_plan *bias_plan(bench *b, bench_case *c, bool fuse)
{
    sl_node *x = sl_input(c->graph, "x", CHANNELS);
    sl_node *bias = sl_parameter(c->graph, "bias", sl_dims(CHANNELS));
    sl_node *z = sl_bias(x, bias), *y = sl_activate(z, c->activation);
    const sl_plan_options options = {.batch = (int)(b->elements / CHANNELS), .no_fuse = !fuse};
    /* The adjoint of y and, call by call, z are outputs, so that nothing works in place. */
    sl_node *outputs[5] = {NULL}, *const wrt[] = {y, z, bias};
    if (sl_gradients(sl_sum(y), wrt, 3, outputs) != SL_OK) return NULL;
    outputs[3] = y, outputs[4] = z;
    sl_plan *plan = sl_plan_new(outputs, fuse ? 4 : 5, &options);
    bench_fill(b, plan, x, b->elements);
    return plan;
}

static sl_plan *dense_plan(bench *b, bench_case *c, bool fuse)
{
    sl_node *x = sl_input(c->graph, "x", INPUTS);
    sl_node *y = sl_dense(x, .units = CHANNELS, .activation = c->activation);
    sl_plan *plan = sl_plan_new(&y, 1, &(sl_plan_options){.batch = (int)b->batch, .no_fuse = !fuse});
    bench_fill(b, plan, x, b->batch * INPUTS);
    return plan;
}

static bool open_activation(bench *b, bench_case *c)
{
    c->graph = sl_graph_new(b->ctx);
    for (int i = 0; i < 2; i++) c->plan[i] = bias_plan(b, c, i);
    for (int i = 0; i < 2; i++) c->plan[2 + i] = dense_plan(b, c, i);
    for (int i = 0; i < 4; i++) sl_plan_run(c->plan[i]);
    return !sl_error(b->ctx);
}

static void note_bytes(bench *b, const bench_case *c, const char *form, double seconds, double bytes,
                       double copy)
{
    bench_figure *f = seconds > 0 ? bench_figure_of(b, c, form) : NULL;
    if (!f) return;
    f->yardstick = BENCH_COPY;
    f->bytes = bytes;
    bench_note(b, f, seconds, copy);
}

static bool time_alone(bench *b, const bench_case *c, double copy)
{
    int n = 0;
    sl_call_time *calls = bench_time(b, c->plan[0], 1, &n);
    if (!calls) return false;
    const double value = seconds_of(calls, n, "activation"), slope = seconds_of(calls, n, "activation_vjp");
    note_bytes(b, c, "value", value, bytes_of(calls, n, "activation"), copy);
    note_bytes(b, c, "slope", slope, bytes_of(calls, n, "activation_vjp"), copy);
    note_bytes(b, c, "bias, value in two", value + seconds_of(calls, n, "bias"), 0, 0);
    note_bytes(b, c, "slope, bias gradient in two", slope + seconds_of(calls, n, "bias_vjp"), 0, 0);
    free(calls);
    return true;
}

static bool time_fused(bench *b, const bench_case *c, double copy)
{
    int n = 0;
    sl_call_time *calls = bench_time(b, c->plan[1], 1, &n);
    if (!calls) return false;
    note_bytes(b, c, "bias, value", seconds_of(calls, n, "bias_activation"),
               bytes_of(calls, n, "bias_activation"), copy);
    note_bytes(b, c, "slope, bias gradient", seconds_of(calls, n, "activation_vjp_bias"),
               bytes_of(calls, n, "activation_vjp_bias"), copy);
    free(calls);
    return true;
}

/* The whole of the plan: a product, or product, bias and activation one after another. */
static bool time_dense(bench *b, const bench_case *c, sl_plan *plan, const char *form)
{
    enum { REPEATS = 8 };
    int n = 0;
    double seconds = 0;
    sl_plan_run(plan); /* into the caches */
    sl_call_time *calls = bench_time(b, plan, REPEATS, &n);
    if (!calls) return false;
    for (int i = 0; i < n; i++) seconds += calls[i].seconds;
    note_bytes(b, c, form, seconds, 0, 0);
    free(calls);
    return true;
}

static bool round_activation(bench *b, bench_case *c)
{
    const double copy = bench_copy_rate(b);
    return time_alone(b, c, copy) && time_fused(b, c, copy) &&
           time_dense(b, c, c->plan[2], "dense in three") && time_dense(b, c, c->plan[3], "dense");
}

const bench_kind bench_activations = {"activations", 1, open_activation, round_activation, NULL};

/* --- the calls of a layer --- */

static const char input_gradient[] = "input gradient", weight_gradient[] = "weight gradient",
                  parameter_gradient[] = "parameter gradient";

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), e = strlen(end);
    return n >= e && strcmp(text + n - e, end) == 0;
}

/* Forward and backward through the layers of a line, for an adjoint of ones; plan 0 is both, plan 1 the
 * forward pass alone. */
bool bench_open_line(bench *b, bench_case *c)
{
    enum { MOST = 16 };
    sl_node *wrt[MOST], *outputs[MOST + 1];
    int n = 0;
    c->graph = sl_graph_new(b->ctx);
    const int64_t *image = c->image, row[] = {image[2], 0}, dims[] = {image[0], image[1], image[2], 0};
    sl_node *x = sl_input_dims(c->graph, "x", image[0] * image[1] == 1 ? row : dims);
    sl_node *y = sl_model_line(x, c->line, c->activation, (sl_init){0});
    if (!y) return false;
    const sl_plan_options options = {.batch = (int)b->batch, .training = true};
    c->plan[1] = sl_plan_new(&y, 1, &options);
    wrt[n++] = x;
    for (int i = 0; sl_graph_node(c->graph, i) && n < MOST; i++) {
        sl_node *node = sl_graph_node(c->graph, i);
        const char *name = sl_node_name(node);
        /* "dense1.weight"; but no running statistic, and no counter of steps */
        if (strcmp(sl_node_operation(node), "variable") == 0 && strchr(name, '.') && !strstr(name, "running"))
            wrt[n++] = node;
    }
    if (sl_gradients(sl_sum(y), wrt, n, outputs) != SL_OK) return false;
    for (int i = 0; i < n; i++)
        sl_node_rename(outputs[i], i == 0                                       ? input_gradient
                                   : ends_with(sl_node_name(wrt[i]), ".weight") ? weight_gradient
                                                                                : parameter_gradient);
    outputs[n] = y;
    c->plan[0] = sl_plan_new(outputs, n + 1, &options);
    for (int i = 0; i < 2; i++) bench_fill(b, c->plan[i], x, b->batch * image[0] * image[1] * image[2]);
    return !sl_error(b->ctx);
}

/* What a call does, NULL where it is not the layer's. Of several products the first is the forward pass. */
static const char *form_of(const sl_call_time *call, bool after_product)
{
    const char *operation = call->operation;
    if (strcmp(operation, "broadcast") == 0 || strcmp(operation, "fill") == 0) return NULL;
    if (strcmp(operation, "bias_vjp") == 0) return "bias gradient";
    if (call->flops > 0 && after_product)
        return strstr(operation, "vjp_weight") || strcmp(call->node, weight_gradient) == 0 ? weight_gradient
                                                                                           : input_gradient;
    if (strstr(operation, "_vjp") || strcmp(call->node, input_gradient) == 0) return "backward";
    return "forward";
}

/* So that a round of a small layer takes some milliseconds. */
static bool choose_repeats(bench *b, bench_case *c)
{
    double seconds = 0;
    int n = 0;
    c->repeats = 1;
    if (b->simulated) return true;
    sl_plan_run(c->plan[0]);
    sl_call_time *calls = bench_time(b, c->plan[0], 1, &n);
    for (int i = 0; calls && i < n; i++) seconds += calls[i].seconds;
    free(calls);
    const double wanted = 4e-3 / (seconds + 1e-9);
    c->repeats = wanted < 1 ? 1 : wanted > 32 ? 32 : (int)wanted;
    return calls != NULL;
}

static bool open_kernels(bench *b, bench_case *c)
{
    return bench_open_line(b, c) && choose_repeats(b, c);
}

static bool round_kernels(bench *b, bench_case *c)
{
    int n = 0;
    const double copy = bench_copy_rate(b), product = bench_product_rate(b);
    sl_plan_run(c->plan[0]); /* into the caches */
    sl_call_time *calls = bench_time(b, c->plan[0], c->repeats, &n);
    bool after_product = false;
    for (int i = 0; calls && i < n; i++) {
        const char *form = form_of(&calls[i], after_product);
        after_product = after_product || calls[i].flops > 0;
        bench_figure *f = form ? bench_figure_of(b, c, form) : NULL;
        if (!f) continue;
        f->flops = calls[i].flops;
        f->bytes = calls[i].bytes;
        f->yardstick = f->flops > 0 ? BENCH_PRODUCT : BENCH_COPY;
        bench_note(b, f, calls[i].seconds, f->flops > 0 ? product : copy);
    }
    const bool good = calls != NULL;
    free(calls);
    return good;
}

const bench_kind bench_kernels = {"kernels", 1, open_kernels, round_kernels, NULL};
