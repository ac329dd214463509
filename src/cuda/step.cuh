/* What the kernels of a training step do, for their launches and for the resident kernel: the batch, the
 * record, the learning rate and the counters. */
#ifndef SL_CUDA_STEP_CUH
#define SL_CUDA_STEP_CUH

#include "core/philox.h"
#include "core/schedule.h"
#include "cuda/elementwise.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* --- the batch --- */

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

/* Rows first … first + rows - 1 of the batch, as many as there are; the block makes one part in `parts` of
 * them. Every block finds its samples by itself; room for them in `chosen`. */
template <class Image, int V>
static __device__ __forceinline__ void draw_rows(const draw_job &j, int64_t first, int rows, int64_t part,
                                                 int64_t parts, int64_t *chosen)
{
    const int64_t step = *j.step, batches = (j.a.samples + j.a.batch - 1) / j.a.batch;
    const int64_t begin = step % batches * j.a.batch;
    const int64_t valid = j.a.samples - begin < j.a.batch ? j.a.samples - begin : j.a.batch;
    if ((int)threadIdx.x < rows) {
        const int64_t row = first + threadIdx.x;
        int64_t sample = begin + row;
        if (row < valid && j.a.shuffle) {
            const sl_permutation order =
                sl_permutation_of(j.a.seed, j.a.stream, (uint32_t)(step / batches), (uint64_t)j.a.samples);
            sample = (int64_t)sl_permuted(&order, (uint64_t)sample);
        }
        chosen[threadIdx.x] = sample;
        if (row == 0 && part == 0 && j.valid) *j.valid = (int32_t)valid;
    }
    __syncthreads();
    const int64_t vectors = (j.size + V - 1) / V;
    for (int64_t at = part * blockDim.x + threadIdx.x; at < rows * vectors; at += parts * blockDim.x) {
        const int64_t r = rows == 1 ? 0 : at / vectors, i = (at - r * vectors) * V;
        sl_vec<V> v = {};
        if (first + r < valid) {
            v = load_image<V>(static_cast<const Image *>(j.images) + chosen[r] * j.size + i);
#pragma unroll
            for (int k = 0; k < V; k++) v.v[k] = j.a.scale * v.v[k] + j.a.shift;
        }
        float *to = j.x + (first + r) * j.size + i;
        if (V == 1) to[0] = v.v[0];
#pragma unroll
        for (int k = 0; k + 3 < V; k += 4)
            *reinterpret_cast<float4 *>(to + k) = make_float4(v.v[k], v.v[k + 1], v.v[k + 2], v.v[k + 3]);
    }
    if (part > 0 || !j.targets_out) return;
    for (int64_t at = threadIdx.x; at < rows * j.target_size; at += blockDim.x) {
        const int64_t r = rows == 1 ? 0 : at / j.target_size;
        const int64_t from = chosen[r] * j.target_size + (at - r * j.target_size);
        const int64_t to = first * j.target_size + at;
        const bool counts = first + r < valid;
        if (j.labels)
            static_cast<int32_t *>(j.targets_out)[to] =
                counts ? static_cast<const int32_t *>(j.targets)[from] : 0;
        else
            static_cast<float *>(j.targets_out)[to] =
                counts ? static_cast<const float *>(j.targets)[from] : 0.0f;
    }
}

static draw_job draw_job_of(const sl_call *call)
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
    return j;
}

/* --- the clipping factor --- */

struct clip_job {
    const float *norm;
    float limit, *scale;
};

/* By one thread. A norm that is NaN leaves the gradient as it is. */
static __device__ __forceinline__ void clip_scale_of(const clip_job &j)
{
    *j.scale = *j.norm > j.limit ? j.limit / *j.norm : 1.0f;
}

static clip_job clip_job_of(const sl_call *call)
{
    return {sl_in(call, 0), static_cast<const sl_clip_scale_attr *>(call->attr)->limit, sl_out(call, 0)};
}

/* --- the record --- */

/* Up to 64 tensors, one behind another in the step's row of the history. */
enum { RECORDED = 64 };
struct recorded {
    const void *from;
    int64_t first, count;
    bool whole; /* integers */
};
struct record_job {
    float *history;
    const int32_t *step;
    int64_t capacity, width;
    int n;
    recorded part[RECORDED];
};

/* By one block. */
static __device__ __forceinline__ void record_parts(const record_job &j)
{
    float *row = j.history + *j.step % j.capacity * j.width;
    for (int p = 0; p < j.n; p++)
        for (int64_t k = threadIdx.x; k < j.part[p].count; k += blockDim.x)
            row[j.part[p].first + k] = j.part[p].whole
                                           ? (float)static_cast<const int32_t *>(j.part[p].from)[k]
                                           : static_cast<const float *>(j.part[p].from)[k];
}

/* The inputs from number *input on, as many as fit; *first: the place of the next in the history's row. */
static record_job record_job_of(const sl_call *call, int *input, int64_t *first)
{
    record_job j = {};
    j.history = static_cast<float *>(call->in[0].data);
    j.step = static_cast<const int32_t *>(call->in[1].data);
    j.capacity = call->in[0].shape.dim[0];
    j.width = call->in[0].shape.dim[1];
    for (; *input < call->n_in && j.n < RECORDED; ++*input) {
        const sl_tensor *from = &call->in[*input];
        const int64_t count = sl_shape_count(from->shape);
        j.part[j.n++] = {from->data, *first, count, from->dtype == SL_INT};
        *first += count;
    }
    return j;
}

/* --- the step's number and rate --- */

struct advance_job {
    sl_advance_attr attr;
    int32_t *step;
    const float *plateau;
    float *products, *rate;
};

/* By one thread. */
static __device__ __forceinline__ void advance_step(const advance_job &j)
{
    *j.rate = sl_scheduled_rate(&j.attr.schedule, *j.step, j.plateau ? *j.plateau : 1.0f);
    *j.step += 1;
    if (!j.products) return;
    j.products[0] *= j.attr.beta1;
    j.products[1] *= j.attr.beta2;
}

static advance_job advance_job_of(const sl_call *call)
{
    const bool trains = call->n_in > 1;
    return {*static_cast<const sl_advance_attr *>(call->attr), static_cast<int32_t *>(call->in[0].data),
            trains ? sl_in(call, 1) : nullptr, trains ? static_cast<float *>(call->in[2].data) : nullptr,
            sl_out(call, 0)};
}

} // namespace
#endif
