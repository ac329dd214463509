/* Pooling over windows of [n, h, w, c] images. A thread makes V channels of one window or of one image pixel;
 * the gradients are gathered: a pixel looks at the windows that hold it, in order of output row and column.
 * Bytes for each window and channel, where windows of k taps lie side by side: max 4k + 8, its gradient 8 +
 * 4k, average 4k + 4, its gradient 4 + 4k. */
#include "cuda/elementwise.cuh"

/* Types too: those of two files may have one name. */
namespace
{

struct geometry {
    sl_pool_attr a;
    int h, w, oh, ow, c;
};

static geometry geometry_of(const sl_call *call, sl_shape image, sl_shape windows)
{
    return {*static_cast<const sl_pool_attr *>(call->attr),
            (int)image.dim[1],
            (int)image.dim[2],
            (int)windows.dim[1],
            (int)windows.dim[2],
            (int)image.dim[3]};
}

/* The part [first, last) of a window's taps that lies inside the image. */
struct taps {
    int first, last, origin; /* origin: the image position of tap 0 */
};

static __device__ __forceinline__ taps taps_of(int output, int kernel, int stride, int pad, int size)
{
    taps t;
    t.origin = output * stride - pad;
    t.first = t.origin < 0 ? -t.origin : 0;
    t.last = t.origin + kernel > size ? size - t.origin : kernel;
    return t;
}

/* The windows [first, last) that hold image position `i`. */
static __device__ __forceinline__ taps windows_of(int i, int kernel, int stride, int pad, int windows)
{
    const int end = i + pad, begin = end - kernel + 1; /* window o begins at o·stride, in padded positions */
    taps t;
    t.origin = end;
    t.first = begin <= 0 ? 0 : (begin + stride - 1) / stride;
    t.last = end / stride + 1 < windows ? end / stride + 1 : windows;
    return t;
}

/* Place number i among images of height × width pixels of c channels, taken V at a time. */
struct place {
    int64_t image;
    int y, x;
    int64_t channel;
};

template <int V, class Index>
static __device__ __forceinline__ place place_of(int64_t i, int height, int width, int c)
{
    const Index vectors = (Index)c / V, w = (Index)width, h = (Index)height;
    const Index pixel = (Index)i / vectors, row = pixel / w, image = row / h;
    return {(int64_t)image, (int)(row - image * h), (int)(pixel - row * w),
            (int64_t)((Index)i - pixel * vectors) * V};
}

template <int V> struct ints {
    int v[V];
};

template <int V> static __device__ __forceinline__ ints<V> load_ints(const int32_t *p)
{
    ints<V> r;
    if (V == 4) {
        const int4 four = *reinterpret_cast<const int4 *>(p);
        r.v[0] = four.x, r.v[1 % V] = four.y, r.v[2 % V] = four.z, r.v[3 % V] = four.w;
    } else {
        r.v[0] = *p;
    }
    return r;
}

template <int V> static __device__ __forceinline__ void store_ints(int32_t *p, const ints<V> &r)
{
    if (V == 4)
        *reinterpret_cast<int4 *>(p) = make_int4(r.v[0], r.v[1 % V], r.v[2 % V], r.v[3 % V]);
    else
        *p = r.v[0];
}

/* The kernels: what thread number i makes. */
struct max_window {
    template <int V, class Index>
    static __device__ __forceinline__ void run(const geometry &g, const float *x, const int32_t *, float *y,
                                               int32_t *index, int64_t i)
    {
        const place at = place_of<V, Index>(i, g.oh, g.ow, g.c);
        const taps row = taps_of(at.y, g.a.kernel[0], g.a.stride[0], g.a.pad[0], g.h);
        const taps column = taps_of(at.x, g.a.kernel[1], g.a.stride[1], g.a.pad[1], g.w);
        const float *image = x + at.image * g.h * g.w * g.c + at.channel;
        sl_vec<V> best = {};
        ints<V> from = {};
        bool started = false;
        for (int ky = row.first; ky < row.last; ky++)
            for (int kx = column.first; kx < column.last; kx++, started = true) {
                const int64_t to = ((int64_t)(row.origin + ky) * g.w + column.origin + kx) * g.c;
                const sl_vec<V> v = sl_vec_load<V>(image, to, to + V);
                const int tap = ky * g.a.kernel[1] + kx;
#pragma unroll
                for (int k = 0; k < V; k++) { /* the first of equals; a NaN is taken always */
                    const bool take = !started || v.v[k] > best.v[k] || v.v[k] != v.v[k];
                    best.v[k] = take ? v.v[k] : best.v[k];
                    from.v[k] = take ? tap : from.v[k];
                }
            }
        if (y) sl_vec_store<V>(y, i * V, i * V + V, best);
        if (index) store_ints<V>(index + i * V, from);
    }
};

struct average_window {
    template <int V, class Index>
    static __device__ __forceinline__ void run(const geometry &g, const float *x, const int32_t *, float *y,
                                               int32_t *, int64_t i)
    {
        const place at = place_of<V, Index>(i, g.oh, g.ow, g.c);
        const taps row = taps_of(at.y, g.a.kernel[0], g.a.stride[0], g.a.pad[0], g.h);
        const taps column = taps_of(at.x, g.a.kernel[1], g.a.stride[1], g.a.pad[1], g.w);
        const float *image = x + at.image * g.h * g.w * g.c + at.channel;
        const float all = (float)(g.a.kernel[0] * g.a.kernel[1]);
        sl_vec<V> sum = {};
        for (int ky = row.first; ky < row.last; ky++)
            for (int kx = column.first; kx < column.last; kx++) {
                const int64_t to = ((int64_t)(row.origin + ky) * g.w + column.origin + kx) * g.c;
                const sl_vec<V> v = sl_vec_load<V>(image, to, to + V);
#pragma unroll
                for (int k = 0; k < V; k++) sum.v[k] += v.v[k];
            }
#pragma unroll
        for (int k = 0; k < V; k++) sum.v[k] = sum.v[k] / all;
        sl_vec_store<V>(y, i * V, i * V + V, sum);
    }
};

struct max_pixel {
    template <int V, class Index>
    static __device__ __forceinline__ void run(const geometry &g, const float *dy, const int32_t *index,
                                               float *dx, int32_t *, int64_t i)
    {
        const place at = place_of<V, Index>(i, g.h, g.w, g.c);
        const taps row = windows_of(at.y, g.a.kernel[0], g.a.stride[0], g.a.pad[0], g.oh);
        const taps column = windows_of(at.x, g.a.kernel[1], g.a.stride[1], g.a.pad[1], g.ow);
        sl_vec<V> sum = {};
        for (int oy = row.first; oy < row.last; oy++)
            for (int ox = column.first; ox < column.last; ox++) {
                const int64_t from = ((at.image * g.oh + oy) * g.ow + ox) * g.c + at.channel;
                const int tap =
                    (row.origin - oy * g.a.stride[0]) * g.a.kernel[1] + column.origin - ox * g.a.stride[1];
                const sl_vec<V> v = sl_vec_load<V>(dy, from, from + V);
                const ints<V> chosen = load_ints<V>(index + from);
#pragma unroll
                for (int k = 0; k < V; k++) sum.v[k] += chosen.v[k] == tap ? v.v[k] : 0.0f;
            }
        sl_vec_store<V>(dx, i * V, i * V + V, sum);
    }
};

/* Of samples that do not count the index may be anything. */
struct max_tangent {
    template <int V, class Index>
    static __device__ __forceinline__ void run(const geometry &g, const float *tx, const int32_t *index,
                                               float *ty, int32_t *, int64_t i)
    {
        const place at = place_of<V, Index>(i, g.oh, g.ow, g.c);
        const float *image = tx + at.image * g.h * g.w * g.c + at.channel;
        const ints<V> tap = load_ints<V>(index + i * V);
        sl_vec<V> t = {};
#pragma unroll
        for (int k = 0; k < V; k++) {
            const int y = at.y * g.a.stride[0] - g.a.pad[0] + tap.v[k] / g.a.kernel[1];
            const int x = at.x * g.a.stride[1] - g.a.pad[1] + tap.v[k] % g.a.kernel[1];
            if (y >= 0 && y < g.h && x >= 0 && x < g.w) t.v[k] = image[((int64_t)y * g.w + x) * g.c + k];
        }
        sl_vec_store<V>(ty, i * V, i * V + V, t);
    }
};

struct average_pixel {
    template <int V, class Index>
    static __device__ __forceinline__ void run(const geometry &g, const float *dy, const int32_t *, float *dx,
                                               int32_t *, int64_t i)
    {
        const place at = place_of<V, Index>(i, g.h, g.w, g.c);
        const taps row = windows_of(at.y, g.a.kernel[0], g.a.stride[0], g.a.pad[0], g.oh);
        const taps column = windows_of(at.x, g.a.kernel[1], g.a.stride[1], g.a.pad[1], g.ow);
        const float all = (float)(g.a.kernel[0] * g.a.kernel[1]);
        sl_vec<V> sum = {};
        for (int oy = row.first; oy < row.last; oy++)
            for (int ox = column.first; ox < column.last; ox++) {
                const int64_t from = ((at.image * g.oh + oy) * g.ow + ox) * g.c + at.channel;
                const sl_vec<V> v = sl_vec_load<V>(dy, from, from + V);
#pragma unroll
                for (int k = 0; k < V; k++) sum.v[k] += v.v[k];
            }
#pragma unroll
        for (int k = 0; k < V; k++) sum.v[k] = sum.v[k] / all;
        sl_vec_store<V>(dx, i * V, i * V + V, sum);
    }
};

template <class What, int V, class Index>
static __global__ void __launch_bounds__(SL_BLOCK)
    pool_kernel(const __grid_constant__ geometry g, const float *in, const int32_t *index_in, float *out,
                int32_t *index_out, int64_t n)
{
    sl_cuda_begin();
    for (int64_t i = sl_cuda_thread(); i < n; i += sl_cuda_threads())
        What::template run<V, Index>(g, in, index_in, out, index_out, i);
}

template <class What, int V>
static void launch(const sl_call *call, const geometry &g, const int32_t *index_in, int32_t *index_out)
{
    const int64_t n = sl_shape_count(call->out[0].shape) / V;
    const unsigned blocks = sl_cuda_grid(call, n, SL_BLOCK, SL_WAVES);
    if (n == 0) return;
    if (n <= UINT32_MAX)
        SL_LAUNCH((pool_kernel<What, V, uint32_t>), blocks, SL_BLOCK, 0, call, g, sl_in(call, 0), index_in,
                  sl_out(call, 0), index_out, n);
    else
        SL_LAUNCH((pool_kernel<What, V, uint64_t>), blocks, SL_BLOCK, 0, call, g, sl_in(call, 0), index_in,
                  sl_out(call, 0), index_out, n);
}

template <class What>
static void run_pool(const sl_call *call, sl_shape image, sl_shape windows, const int32_t *index_in,
                     int32_t *index_out)
{
    const geometry g = geometry_of(call, image, windows);
    if (g.c % 4 == 0)
        launch<What, 4>(call, g, index_in, index_out);
    else
        launch<What, 1>(call, g, index_in, index_out);
}

static void max_pool(const sl_call *call)
{
    run_pool<max_window>(call, call->in[0].shape, call->out[0].shape, nullptr,
                         static_cast<int32_t *>(call->out[1].data));
}

static void max_pool_vjp(const sl_call *call)
{
    run_pool<max_pixel>(call, call->out[0].shape, call->in[0].shape,
                        static_cast<const int32_t *>(call->in[1].data), nullptr);
}

static void max_pool_jvp(const sl_call *call)
{
    run_pool<max_tangent>(call, call->in[0].shape, call->out[0].shape,
                          static_cast<const int32_t *>(call->in[1].data), nullptr);
}

static void avg_pool(const sl_call *call)
{
    run_pool<average_window>(call, call->in[0].shape, call->out[0].shape, nullptr, nullptr);
}

static void avg_pool_vjp(const sl_call *call)
{
    run_pool<average_pixel>(call, call->out[0].shape, call->in[0].shape, nullptr, nullptr);
}

} // namespace

SL_CUDA_KERNELS(pool) = {
    {SL_OP_MAX_POOL2D, "windows", nullptr, nullptr, max_pool},
    {SL_OP_MAX_POOL2D_VJP, "gather", nullptr, nullptr, max_pool_vjp},
    {SL_OP_MAX_POOL2D_JVP, "gather", nullptr, nullptr, max_pool_jvp},
    {SL_OP_AVG_POOL2D, "windows", nullptr, nullptr, avg_pool},
    {SL_OP_AVG_POOL2D_VJP, "gather", nullptr, nullptr, avg_pool_vjp},
    {},
};
