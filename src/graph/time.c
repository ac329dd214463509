/* What each call of a plan costs, measured by itself. */
#include <stdlib.h>
#include <time.h>

#include "graph/plan.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Pairs (output, kernel element) of one dimension that lie inside the image. */
static int64_t window_pairs(const sl_conv_attr *a, int d, int64_t size, int64_t out)
{
    int64_t n = 0;
    for (int64_t y = 0; y < out; y++)
        for (int k = 0; k < a->kernel[d]; k++) {
            const int64_t at = y * a->stride[d] - a->pad[d] + (int64_t)k * a->dilation[d];
            n += at >= 0 && at < size;
        }
    return n;
}

double sl_call_operations(const sl_call *call)
{
    const char *name = sl_op_name(call->op);
    if (strncmp(name, "matmul", 6) == 0) { /* the attribute begins with the product's own, fused or not */
        const sl_matmul_attr *a = call->attr;
        const int64_t k = call->in[0].shape.dim[a && a->transpose_a ? 0 : call->in[0].shape.n - 1];
        return 2.0 * (double)k * (double)sl_shape_count(call->out[0].shape);
    }
    if (strncmp(name, "conv2d", 6) != 0) return 0;
    const bool pooled = call->op == SL_OP_CONV2D_BIAS_ACTIVATION_POOL;
    const sl_shape in0 = call->in[0].shape, in1 = call->in[1].shape, out = call->out[pooled ? 2 : 0].shape;
    const bool input = call->op == SL_OP_CONV2D_VJP_INPUT, weight = call->op == SL_OP_CONV2D_VJP_WEIGHT;
    const sl_shape x = input ? out : in0, y = input ? in0 : weight ? in1 : out;
    const double pairs = (double)window_pairs(call->attr, 0, x.dim[1], y.dim[1]) *
                         (double)window_pairs(call->attr, 1, x.dim[2], y.dim[2]);
    return 2.0 * pairs * (double)(x.dim[0] * x.dim[3] * y.dim[3]);
}

/* Of the tensors that it reads and writes; an input that is read twice counts once. */
static double call_bytes(const sl_call *call, size_t real_size)
{
    double bytes = 0;
    for (int k = 0; k < call->n_in + call->n_out; k++) {
        const sl_tensor *t = k < call->n_in ? &call->in[k] : &call->out[k - call->n_in];
        bool counted = !t->data;
        for (int i = 0; i < k && k < call->n_in; i++) counted = counted || call->in[i].data == t->data;
        if (!counted) bytes += (double)sl_shape_count(t->shape) * (double)sl_dtype_size(t->dtype, real_size);
    }
    return bytes;
}

/* Waits until the device has done all that it was given. */
static void wait_for(const sl_plan *plan, const sl_call *call)
{
    char byte;
    const void *memory = call->n_out && call->out[0].data ? call->out[0].data : call->in[0].data;
    plan->ctx->backend->download(plan->ctx->device, &byte, memory, sizeof byte);
}

/* Seconds of the call, mean of the repeats. On a device they are one graph of launches. */
static double time_call(const sl_plan *plan, const sl_call *call, int repeats, sl_call *repeated)
{
    const sl_backend *backend = plan->ctx->backend;
    void *handle = NULL;
    for (int i = 0; i < repeats; i++) repeated[i] = *call;
    if (!backend->host_memory) { /* captures and warms up */
        backend->run(plan->ctx->device, plan->ctx, repeated, repeats, &handle);
        wait_for(plan, call);
    }
    const double start = now();
    backend->run(plan->ctx->device, plan->ctx, repeated, repeats, &handle);
    if (!backend->host_memory) wait_for(plan, call);
    const double seconds = (now() - start) / repeats;
    if (handle) backend->release(plan->ctx->device, handle);
    return seconds;
}

sl_status sl_plan_time(sl_plan *plan, int repeats, sl_call_time *calls)
{
    if (!plan || !calls) return SL_ARGUMENT;
    sl_context *ctx = plan->ctx;
    if (!sl_ok(ctx)) return ctx->code;
    if (repeats < 1)
        return sl_fail(ctx, SL_ARGUMENT, "sl_plan_time: repeats is %d; it must be at least 1", repeats);
    if (plan->guarded)
        return sl_fail(ctx, SL_UNSUPPORTED, "sl_plan_time: with SLOPE_GUARD the times would mean nothing");
    sl_call *repeated = sl_new(ctx, (size_t)repeats, sizeof *repeated, "timing a plan");
    if (!repeated) return ctx->code;
    /* In order, so that each finds what it reads. */
    for (int c = 0; c < plan->n_calls && sl_ok(ctx); c++) {
        const sl_call *call = &plan->calls[c];
        calls[c] = (sl_call_time){.node = call->name,
                                  .operation = sl_op_name(call->op),
                                  .kernel = call->kernel->name,
                                  .seconds = time_call(plan, call, repeats, repeated),
                                  .flops = sl_call_operations(call),
                                  .bytes = call_bytes(call, ctx->backend->real_size)};
    }
    free(repeated);
    return ctx->code;
}
