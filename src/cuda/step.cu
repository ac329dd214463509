/* What surrounds a training step: the batch, the learning rate, the clipping factor, the record, the counter.
 * All but the batch are single values, and their launches cost what a launch costs. Bytes per element of a
 * batch: 4 and its share of the image, 1 or 4. */
#include "core/philox.h"
#include "core/schedule.h"
#include "cuda/elementwise.cuh"

/* Types too: those of two files may have one name. */
namespace
{

struct draw_job {
    sl_draw_attr a;
    const void *images;
    const void *targets; /* or labels */
    void *targets_out;   /* NULL: not wanted */
    const int32_t *step;
    float *x;
    int32_t *valid;
    int64_t size, target_size; /* elements of an image, of a target */
    bool labels;
};

/* V values from `from`, V bytes or 4·V; 16 bytes at once where they are aligned. */
template <int V> static __device__ __forceinline__ sl_vec<V> load_image(const float *from)
{
    sl_vec<V> r;
#pragma unroll
    for (int k = 0; k < V; k++) r.v[k] = from[k];
    return r;
}

template <> __device__ __forceinline__ sl_vec<4> load_image<4>(const float *from)
{
    return sl_vec_load<4>(from, 0, 4);
}

template <int V> static __device__ __forceinline__ sl_vec<V> load_image(const uint8_t *from)
{
    constexpr int words = V < 4 ? 1 : V / 4;
    uint32_t word[words];
    if (V == 16) {
        const uint4 four = *reinterpret_cast<const uint4 *>(from);
        word[0] = four.x, word[1 % words] = four.y, word[2 % words] = four.z, word[3 % words] = four.w;
    } else if (V == 4) {
        word[0] = *reinterpret_cast<const uint32_t *>(from);
    } else {
        word[0] = *from;
    }
    sl_vec<V> r;
#pragma unroll
    for (int k = 0; k < V; k++) r.v[k] = (float)(word[k / 4] >> k % 4 * 8 & 255);
    return r;
}

/* Block: a part of one row of the batch. Every block finds its sample by itself. */
template <class Image, int V>
static __global__ void __launch_bounds__(SL_BLOCK)
    draw_kernel(const __grid_constant__ draw_job j, int64_t parts)
{
    SL_SHARED(int64_t, chosen);
    const int64_t row = blockIdx.x / parts, part = blockIdx.x % parts, step = *j.step;
    const int64_t batches = (j.a.samples + j.a.batch - 1) / j.a.batch, first = step % batches * j.a.batch;
    const int64_t valid = j.a.samples - first < j.a.batch ? j.a.samples - first : j.a.batch;
    const bool counts = row < valid;
    if (threadIdx.x == 0) {
        *chosen = first + row;
        if (counts && j.a.shuffle) {
            const sl_permutation order =
                sl_permutation_of(j.a.seed, j.a.stream, (uint32_t)(step / batches), (uint64_t)j.a.samples);
            *chosen = (int64_t)sl_permuted(&order, (uint64_t)*chosen);
        }
        if (blockIdx.x == 0 && j.valid) *j.valid = (int32_t)valid;
    }
    __syncthreads();
    const int64_t sample = *chosen;
    const Image *image = static_cast<const Image *>(j.images) + sample * j.size;
    for (int64_t i = (part * blockDim.x + threadIdx.x) * V; i < j.size; i += parts * blockDim.x * V) {
        sl_vec<V> v = {};
        if (counts) {
            v = load_image<V>(image + i);
#pragma unroll
            for (int k = 0; k < V; k++) v.v[k] = j.a.scale * v.v[k] + j.a.shift;
        }
        float *to = j.x + row * j.size + i;
        if (V == 1) to[0] = v.v[0];
#pragma unroll
        for (int k = 0; k + 3 < V; k += 4)
            *reinterpret_cast<float4 *>(to + k) = make_float4(v.v[k], v.v[k + 1], v.v[k + 2], v.v[k + 3]);
    }
    if (part > 0 || !j.targets_out) return;
    for (int64_t i = threadIdx.x; i < j.target_size; i += blockDim.x) {
        const int64_t from = sample * j.target_size + i, to = row * j.target_size + i;
        if (j.labels)
            static_cast<int32_t *>(j.targets_out)[to] =
                counts ? static_cast<const int32_t *>(j.targets)[from] : 0;
        else
            static_cast<float *>(j.targets_out)[to] =
                counts ? static_cast<const float *>(j.targets)[from] : 0.0f;
    }
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
    draw_job j = {};
    j.a = *static_cast<const sl_draw_attr *>(call->attr);
    j.images = call->in[0].data;
    j.targets = call->in[1].data;
    j.targets_out = call->out[1].data;
    j.labels = call->in[1].dtype == SL_INT;
    j.step = static_cast<const int32_t *>(call->in[2].data);
    j.x = sl_out(call, 0);
    j.valid = static_cast<int32_t *>(call->out[2].data);
    j.size = sl_shape_count(call->out[0].shape) / j.a.batch;
    j.target_size = j.labels ? 1 : sl_shape_count(call->out[1].shape) / j.a.batch;
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

/* A norm that is NaN leaves the gradient as it is. */
static __global__ void clip_scale_kernel(const float *norm, float limit, float *scale)
{
    if (sl_cuda_thread() == 0) *scale = *norm > limit ? limit / *norm : 1.0f;
}

static void clip_scale(const sl_call *call)
{
    const float limit = static_cast<const sl_clip_scale_attr *>(call->attr)->limit;
    SL_LAUNCH(clip_scale_kernel, 1, 32, 0, call, sl_in(call, 0), limit, sl_out(call, 0));
}

/* Up to 64 tensors, one behind another in the step's row of the history. */
enum { RECORDED = 64 };
struct record_job {
    float *history;
    const int32_t *step;
    int64_t capacity, width;
    int n;
    struct {
        const void *from;
        int64_t first, count;
        bool whole; /* integers */
    } part[RECORDED];
};

static __global__ void __launch_bounds__(SL_BLOCK) record_kernel(const __grid_constant__ record_job j)
{
    float *row = j.history + *j.step % j.capacity * j.width;
    for (int p = 0; p < j.n; p++)
        for (int64_t k = threadIdx.x; k < j.part[p].count; k += blockDim.x)
            row[j.part[p].first + k] = j.part[p].whole
                                           ? (float)static_cast<const int32_t *>(j.part[p].from)[k]
                                           : static_cast<const float *>(j.part[p].from)[k];
}

static void record(const sl_call *call)
{
    record_job j = {};
    j.history = static_cast<float *>(call->in[0].data);
    j.step = static_cast<const int32_t *>(call->in[1].data);
    j.capacity = call->in[0].shape.dim[0];
    j.width = call->in[0].shape.dim[1];
    int64_t first = 0;
    for (int i = 2; i < call->n_in; i++) {
        const int64_t count = sl_shape_count(call->in[i].shape);
        j.part[j.n++] = {call->in[i].data, first, count, call->in[i].dtype == SL_INT};
        first += count;
        if (j.n < RECORDED && i + 1 < call->n_in) continue;
        SL_LAUNCH(record_kernel, 1, 32, 0, call, j);
        j.n = 0;
    }
}

static __global__ void advance_kernel(const __grid_constant__ sl_advance_attr attr, int32_t *step,
                                      const float *plateau, float *products, float *rate)
{
    if (sl_cuda_thread() > 0) return;
    *rate = sl_scheduled_rate(&attr.schedule, *step, plateau ? *plateau : 1.0f);
    *step += 1;
    if (!products) return;
    products[0] *= attr.beta1;
    products[1] *= attr.beta2;
}

static void advance(const sl_call *call)
{
    const bool trains = call->n_in > 1;
    SL_LAUNCH(advance_kernel, 1, 32, 0, call, *static_cast<const sl_advance_attr *>(call->attr),
              static_cast<int32_t *>(call->in[0].data), trains ? sl_in(call, 1) : nullptr,
              trains ? static_cast<float *>(call->in[2].data) : nullptr, sl_out(call, 0));
}

} // namespace

SL_CUDA_KERNELS(step) = {
    {SL_OP_DRAW_BATCH, "rows", nullptr, nullptr, draw_batch},
    {SL_OP_CLIP_SCALE, "plain", nullptr, nullptr, clip_scale},
    {SL_OP_RECORD, "plain", nullptr, nullptr, record},
    {SL_OP_ADVANCE, "plain", nullptr, nullptr, advance},
    {},
};
