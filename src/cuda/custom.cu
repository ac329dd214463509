/* The user's kernels. */
#include "slope/custom.h"

#include "cuda/cuda.cuh"

/* Types too: those of two files may have one name. */
namespace
{

static const sl_custom_attr *attr_of(const sl_call *call)
{
    return static_cast<const sl_custom_attr *>(call->attr);
}

static bool supports(const sl_call *call)
{
    return attr_of(call)->op->cuda != nullptr;
}

static void run(const sl_call *call)
{
    sl_custom_call c = {};
    c.n_in = call->n_in;
    for (int i = 0; i < call->n_in; i++) {
        c.in[i] = call->in[i].data;
        c.in_shape[i] = call->in[i].shape;
    }
    c.out = call->out[0].data;
    c.out_shape = call->out[0].shape;
    c.valid = call->valid;
    c.data = attr_of(call)->data;
    c.stream = sl_cuda_stream(call->device);
    attr_of(call)->op->cuda(&c);
    sl_cuda_note(call->device, cudaGetLastError(), "a custom operation", call->name);
}

} // namespace

SL_CUDA_KERNELS(custom) = {
    {SL_OP_CUSTOM, "user", supports, nullptr, run},
    {},
};
