/* Elements in fours: loads and stores of 16 bytes, and the loop of every kernel that makes element i of its
 * output from elements i of its inputs and from what belongs to a column. Such a kernel is bound by memory;
 * each says the bytes per element that it must move. In place is allowed: a thread reads its elements before
 * it writes them. */
#ifndef SL_CUDA_ELEMENTWISE_CUH
#define SL_CUDA_ELEMENTWISE_CUH

#include "cuda/cuda.cuh"

static constexpr int SL_BLOCK = 256;  /* threads */
static constexpr int SL_RESIDENT = 8; /* blocks that fill an SM */
static constexpr int SL_WAVES =
    128; /* blocks for every SM at most: many, so that the last ones leave it idle briefly */

template <int V> struct sl_vec {
    float v[V];
};

/* Elements i … i+V-1 of p, those below `end`; the others are 0. i is a multiple of V, p of 16 bytes. */
template <int V>
static __device__ __forceinline__ sl_vec<V> sl_vec_load(const float *p, int64_t i, int64_t end)
{
    sl_vec<V> r;
    if (V == 4 && i + V <= end) {
        const float4 four = *reinterpret_cast<const float4 *>(p + i);
        r.v[0] = four.x, r.v[1 % V] = four.y, r.v[2 % V] = four.z, r.v[3 % V] = four.w;
    } else {
#pragma unroll
        for (int j = 0; j < V; j++) r.v[j] = i + j < end ? p[i + j] : 0.0f;
    }
    return r;
}

template <int V>
static __device__ __forceinline__ void sl_vec_store(float *p, int64_t i, int64_t end, const sl_vec<V> &r)
{
    if (V == 4 && i + V <= end) {
        *reinterpret_cast<float4 *>(p + i) = make_float4(r.v[0], r.v[1 % V], r.v[2 % V], r.v[3 % V]);
    } else {
#pragma unroll
        for (int j = 0; j < V; j++)
            if (i + j < end) p[i + j] = r.v[j];
    }
}

/* Values of the columns from `column` on, going round behind the last; `wide` false: one value for all. */
template <int V>
static __device__ __forceinline__ sl_vec<V> sl_vec_columns(const float *p, bool wide, int64_t column,
                                                           int64_t columns)
{
    sl_vec<V> r;
    if (wide && V == 4 && columns % 4 == 0) return sl_vec_load<V>(p, column, columns);
#pragma unroll
    for (int j = 0; j < V; j++) {
        r.v[j] = p[wide ? column : 0];
        column = column + 1 < columns ? column + 1 : 0;
    }
    return r;
}

/* Calls f for all elements in fours. f has
 *   Column at(column)            what belongs to the columns from this one on
 *   Raw load(i, end)             elements i … i+3, those below end
 *   void run(column, raw, i, end)
 * `step`: columns between two fours of a thread, 0 where it stays in its columns. */
template <class F>
static __global__ void __launch_bounds__(SL_BLOCK)
    sl_each_kernel(F f, int64_t count, int64_t columns, int64_t step)
{
    sl_cuda_begin();
    const int64_t stride = 4 * sl_cuda_threads();
    int64_t i = 4 * sl_cuda_thread();
    if (i >= count) return;
    int64_t column = columns > 1 ? i % columns : 0;
    typename F::Column here = f.at(column);
    while (i < count) {
        const int64_t next = i + stride;
        const bool two = step == 0 && next < count;
        const typename F::Raw first = f.load(i, count);
        typename F::Raw second = first;
        if (two) second = f.load(next, count);
        f.run(here, first, i, count);
        if (two) f.run(here, second, next, count);
        i = two ? next + stride : next;
        if (step == 0 || i >= count) continue;
        column += step;
        if (column >= columns) column -= columns;
        here = f.at(column);
    }
}

static inline int64_t sl_common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* columns: 1 where nothing belongs to a column. */
template <class F> static void sl_each(const sl_call *call, const F &f, int64_t count, int64_t columns)
{
    if (count == 0) return;
    /* Two fours a thread where the SMs are full all the same: their loads are under way together. */
    const bool full = count > (int64_t)sl_cuda_sms(call->device) * SL_RESIDENT * 4 * SL_BLOCK;
    int64_t blocks = sl_cuda_grid(call, count, (full ? 8 : 4) * SL_BLOCK, SL_WAVES);
    const int64_t period = columns / sl_common_divisor(columns, 4 * SL_BLOCK);
    if (blocks * 4 * SL_BLOCK < count && period <= blocks) blocks -= blocks % period;
    const int64_t step = blocks * 4 * SL_BLOCK % columns;
    SL_LAUNCH((sl_each_kernel<F>), (unsigned)blocks, SL_BLOCK, 0, call, f, count, columns, step);
}

/* For functions of the elements alone. */
struct sl_no_column {
};
#endif
