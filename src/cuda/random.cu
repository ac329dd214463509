/* Random tensors and dropout masks, by cuRAND's own function: the words of a Philox state with
 * curand_init(seed, stream | step << 32, element), those of core/philox.h. A thread makes the four elements
 * of one block of words: a state would carry an offset and a place in the block, which are known here. Bytes
 * per element: 4, dropout 8. */
#include "cuda/random.cuh"

/* Types too: those of two files may have one name. */
namespace
{

struct random_job {
    float low, span, deviation;
    bool normal;
    uint64_t seed;
    uint32_t stream;
    float *y;
};

static __global__ void __launch_bounds__(SL_BLOCK)
    random_kernel(const __grid_constant__ random_job j, int64_t count)
{
    sl_cuda_begin();
    for (int64_t i = 4 * sl_cuda_thread(); i < count; i += 4 * sl_cuda_threads()) {
        const sl_words words = random_words4(j.seed, j.stream, 0, (uint64_t)i / 4);
        sl_vec<4> value;
#pragma unroll
        for (int k = 0; k < 4; k++) value.v[k] = j.low + j.span * sl_uniform(words.w[k]);
#pragma unroll
        for (int k = 0; k < 4 && j.normal; k += 2) {
            float z0, z1;
            sl_normals(words.w[k], words.w[k + 1], &z0, &z1);
            value.v[k] = j.low + j.deviation * z0;
            value.v[k + 1] = j.low + j.deviation * z1;
        }
        sl_vec_store<4>(j.y, i, count, value);
    }
}

static void random_fill(const sl_call *call)
{
    const sl_random_attr *attr = static_cast<const sl_random_attr *>(call->attr);
    const int64_t count = sl_shape_count(call->out[0].shape);
    const random_job j = {(float)attr->low,  (float)(attr->high - attr->low),
                          (float)attr->high, attr->kind == SL_RANDOM_NORMAL,
                          attr->seed,        attr->stream,
                          sl_out(call, 0)};
    if (count)
        SL_LAUNCH(random_kernel, sl_cuda_grid(call, count, 4 * SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call, j,
                  count);
}

static __global__ void __launch_bounds__(SL_BLOCK)
    dropout_kernel(const __grid_constant__ dropout_job j, int64_t count)
{
    sl_cuda_begin();
    const uint32_t step = (uint32_t)*j.step;
    for (int64_t i = 4 * sl_cuda_thread(); i < count; i += 4 * sl_cuda_threads())
        dropout_four(j, step, i, count);
}

static void dropout(const sl_call *call)
{
    const int64_t count = sl_shape_count(call->out[0].shape);
    if (count)
        SL_LAUNCH(dropout_kernel, sl_cuda_grid(call, count, 4 * SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call,
                  dropout_job_of(call), count);
}

} // namespace

SL_CUDA_KERNELS(random) = {
    {SL_OP_RANDOM, "philox", nullptr, nullptr, random_fill},
    {SL_OP_DROPOUT, "philox", nullptr, nullptr, dropout},
    {},
};
