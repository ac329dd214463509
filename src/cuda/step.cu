/* What surrounds a training step: the batch, the learning rate, the clipping factor, the record, the counter.
 * All but the batch are single values, and their launches cost what a launch costs. Bytes per element of a
 * batch: 4 and its share of the image, 1 or 4. */
#include "cuda/step.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* Block: a part of one row of the batch. */
template <class Image, int V>
static __global__ void __launch_bounds__(SL_BLOCK)
    draw_kernel(const __grid_constant__ draw_job j, int64_t parts)
{
    sl_cuda_begin();
    SL_SHARED(int64_t, chosen);
    draw_rows<Image, V>(j, blockIdx.x / parts, 1, blockIdx.x % parts, parts, chosen);
}

template <class Image, int V> static void launch_draw(const sl_call *call, const draw_job &j)
{
    const int64_t vectors = (j.size + V - 1) / V;
    const unsigned threads = vectors < 1          ? 32
                             : vectors < SL_BLOCK ? (unsigned)((vectors + 31) / 32 * 32)
                                                  : SL_BLOCK;
    const int64_t parts = vectors < 4 * SL_BLOCK ? 1 : vectors / (4 * SL_BLOCK);
    SL_LAUNCH((draw_kernel<Image, V>), (unsigned)(j.a.batch * parts), threads, sizeof(int64_t), call, j,
              parts);
}

static void draw_batch(const sl_call *call)
{
    const draw_job j = draw_job_of(call);
    const bool bytes = call->in[0].dtype == SL_BYTE;
    if (bytes && j.size % 16 == 0)
        launch_draw<uint8_t, 16>(call, j);
    else if (bytes && j.size % 4 == 0)
        launch_draw<uint8_t, 4>(call, j);
    else if (bytes)
        launch_draw<uint8_t, 1>(call, j);
    else if (j.size % 4 == 0)
        launch_draw<float, 4>(call, j);
    else
        launch_draw<float, 1>(call, j);
}

static __global__ void clip_scale_kernel(const __grid_constant__ clip_job j)
{
    sl_cuda_begin();
    if (sl_cuda_thread() == 0) clip_scale_of(j);
}

static void clip_scale(const sl_call *call)
{
    SL_LAUNCH(clip_scale_kernel, 1, 32, 0, call, clip_job_of(call));
}

static __global__ void __launch_bounds__(SL_BLOCK) record_kernel(const __grid_constant__ record_job j)
{
    sl_cuda_begin();
    record_parts(j);
}

static void record(const sl_call *call)
{
    int64_t first = 0;
    for (int input = 2; input < call->n_in;) {
        const record_job j = record_job_of(call, &input, &first);
        SL_LAUNCH(record_kernel, 1, 32, 0, call, j);
    }
}

static __global__ void advance_kernel(const __grid_constant__ advance_job j)
{
    sl_cuda_begin();
    if (sl_cuda_thread() == 0) advance_step(j);
}

static void advance(const sl_call *call)
{
    SL_LAUNCH(advance_kernel, 1, 32, 0, call, advance_job_of(call));
}

} // namespace

SL_CUDA_KERNELS(step) = {
    {SL_OP_DRAW_BATCH, "rows", nullptr, nullptr, draw_batch},
    {SL_OP_CLIP_SCALE, "plain", nullptr, nullptr, clip_scale},
    {SL_OP_RECORD, "plain", nullptr, nullptr, record},
    {SL_OP_ADVANCE, "plain", nullptr, nullptr, advance},
    {},
};
