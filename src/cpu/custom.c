/* The user's kernels. */
#include "slope/custom.h"

#include "cpu/cpu.h"

static const sl_custom_op *op_of(const sl_call *call)
{
    return ((const sl_custom_attr *)call->attr)->op;
}

static bool supports(const sl_call *call)
{
    return op_of(call)->cpu != NULL;
}

static sl_custom_call open_call(const sl_call *call)
{
    sl_custom_call c = {.n_in = call->n_in,
                        .out = call->out[0].data,
                        .out_shape = call->out[0].shape,
                        .valid = call->valid,
                        .data = ((const sl_custom_attr *)call->attr)->data,
                        .in_double = sizeof(real) == sizeof(double)};
    for (int i = 0; i < call->n_in; i++) {
        c.in[i] = call->in[i].data;
        c.in_shape[i] = call->in[i].shape;
    }
    return c;
}

#ifdef SL_DOUBLE
/* Floats for a kernel that knows no doubles. */
static bool converts(const sl_call *call)
{
    return !op_of(call)->doubles;
}

static size_t workspace(const sl_call *call)
{
    int64_t count = sl_shape_count(call->out[0].shape);
    for (int i = 0; i < call->n_in; i++) count += sl_shape_count(call->in[i].shape);
    return converts(call) ? (size_t)count * sizeof(float) : 0;
}

static void run(const sl_call *call)
{
    sl_custom_call c = open_call(call);
    const int64_t count = sl_shape_count(call->out[0].shape);
    float *out = call->workspace, *room = out + count;
    if (!converts(call)) {
        op_of(call)->cpu(&c);
        return;
    }
    for (int i = 0; i < call->n_in; i++) {
        const int64_t n = sl_shape_count(call->in[i].shape);
        if (call->in[i].dtype != SL_FLOAT) continue;
        for (int64_t k = 0; k < n; k++) room[k] = (float)sl_in(call, i)[k];
        c.in[i] = room;
        room += n;
    }
    c.out = out;
    c.in_double = false;
    op_of(call)->cpu(&c);
    for (int64_t k = 0; k < count; k++) sl_out(call, 0)[k] = (double)out[k];
}
#else
#    define workspace NULL
static void run(const sl_call *call)
{
    const sl_custom_call c = open_call(call);
    op_of(call)->cpu(&c);
}
#endif

const sl_kernel SL_KERNELS(custom)[] = {
    {SL_OP_CUSTOM, "user", supports, workspace, run},
    {0},
};
