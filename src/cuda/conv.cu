/* Convolutions and their derivatives, the bits of core/sum.h, as products whose left factor is gathered on
 * the way (implicit matrix products; m, n and k below). Few input channels, as in a first layer, go without
 * tiles. */
#include "cuda/conv.cuh"
#include "cuda/tile_plan.cuh"

/* Elements at to at + 3 of x, of which only NaN with the bits of TILE_SKIPPED need care. */
static __device__ __forceinline__ four taken(four r)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (r_bits(r.v[i]) == TILE_SKIPPED) r.v[i] = r_from_bits(TILE_OTHER_NAN);
    return r;
}

/* One element, or TILE_SKIPPED where there is none. */
static __device__ __forceinline__ float taken_one(const float *p)
{
    if (!p) return r_from_bits(TILE_SKIPPED);
    const float x = *p;
    return r_bits(x) == TILE_SKIPPED ? r_from_bits(TILE_OTHER_NAN) : x;
}

static __device__ __forceinline__ four taken_four(const float *p)
{
    return p ? taken(four_read(p, 4, true)) : four_of(r_from_bits(TILE_SKIPPED));
}

/* Where tap (ky, kx) of result pixel `to` reads channel 0 of x; NULL in the padding. */
static __device__ __forceinline__ const float *source(const conv_shape &s, const float *x, conv_pixel to,
                                                      int ky, int kx)
{
    const int iy = to.y * s.stride[0] - s.pad[0] + ky * s.dilation[0],
              ix = to.x * s.stride[1] - s.pad[1] + kx * s.dilation[1];
    if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) return nullptr;
    return x + ((to.image * s.h + iy) * s.w + ix) * s.c;
}

/* What the gathered products share: `left` is gathered, `right` is not; both in fours where they can be. */
struct conv_terms {
    conv_shape s;
    const float *left, *right;
    int64_t m, n, k;
    bool left_whole, right_whole;
};

/* Elements of windows on the left, rows of filters on the right. */
struct window_terms : conv_terms {
    __device__ __forceinline__ bool b_along_k() const
    {
        return false;
    }
    /* `element` of the window at `to`: kernel row, kernel column, channel. */
    __device__ __forceinline__ const float *at(conv_pixel to, int64_t element) const
    {
        uint32_t channel, kx;
        const uint32_t tap = divide((uint32_t)element, s.by_c, &channel), ky = divide(tap, s.by_kw, &kx);
        const float *p = source(s, left, to, (int)ky, (int)kx);
        return p ? p + channel : nullptr;
    }
    __device__ __forceinline__ four b(int64_t element, int64_t column) const
    {
        return element < k ? four_read(right + element * n + column, n - column, right_whole) : four_of(0.0f);
    }
};

/* m: pixels of the result; n: filters; k: kernel row, kernel column, channel. */
struct forward_terms : window_terms {
    __device__ __forceinline__ bool a_along_k() const
    {
        return true;
    }
    __device__ __forceinline__ four a(int64_t row, int64_t element) const
    {
        four r = four_of(0.0f);
        if (row >= m || element >= k) return r;
        const conv_pixel to = conv_pixel_of(row, s.by_oh, s.by_ow);
        if (left_whole) return taken_four(at(to, element));
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (element + i < k) r.v[i] = taken_one(at(to, element + i));
        return r;
    }
};

/* m: pixels of the input; n: its channels; k: kernel row and column from the last, filter. */
struct input_terms : conv_terms {
    __device__ __forceinline__ bool a_along_k() const
    {
        return true;
    }
    __device__ __forceinline__ bool b_along_k() const
    {
        return true;
    }
    /* Position of the result whose tap reads position `at`, or -1. */
    __device__ __forceinline__ int64_t reader(int axis, int at, int tap, int64_t size) const
    {
        const int scaled = at + s.pad[axis] - tap * s.dilation[axis];
        uint32_t rest;
        if (scaled < 0) return -1;
        const uint32_t to = divide((uint32_t)scaled, s.by_stride[axis], &rest);
        return rest == 0 && to < size ? (int64_t)to : -1;
    }
    __device__ __forceinline__ const float *at(conv_pixel from, int64_t element) const
    {
        uint32_t filter, rx;
        const uint32_t tap = divide((uint32_t)element, s.by_f, &filter), ry = divide(tap, s.by_kw, &rx);
        const int64_t oy = reader(0, from.y, s.kh - 1 - (int)ry, s.oh),
                      ox = reader(1, from.x, s.kw - 1 - (int)rx, s.ow);
        return oy < 0 || ox < 0 ? nullptr : left + ((from.image * s.oh + oy) * s.ow + ox) * s.f + filter;
    }
    __device__ __forceinline__ four a(int64_t row, int64_t element) const
    {
        four r = four_of(0.0f);
        if (row >= m || element >= k) return r;
        const conv_pixel from = conv_pixel_of(row, s.by_h, s.by_w);
        if (left_whole) return taken_four(at(from, element));
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (element + i < k) r.v[i] = taken_one(at(from, element + i));
        return r;
    }
    __device__ __forceinline__ const float *weight(int64_t element, int64_t channel) const
    {
        uint32_t filter;
        const int64_t tap = (int64_t)s.kh * s.kw - 1 - divide((uint32_t)element, s.by_f, &filter);
        return right + (tap * s.c + channel) * s.f + filter;
    }
    __device__ __forceinline__ four b(int64_t element, int64_t channel) const
    {
        four r = four_of(0.0f);
        if (channel >= n || element >= k) return r;
        if (right_whole) return four_read(weight(element, channel), 4, true);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (element + i < k) r.v[i] = *weight(element + i, channel);
        return r;
    }
};

/* m: kernel row, kernel column, channel; n: filters; k: pixels of the result. */
struct weight_terms : window_terms {
    __device__ __forceinline__ bool a_along_k() const
    {
        return false;
    }
    __device__ __forceinline__ four a(int64_t row, int64_t element) const
    {
        four r = four_of(0.0f);
        if (row >= m || element >= k) return r;
        const conv_pixel to = conv_pixel_of(element, s.by_oh, s.by_ow);
        if (left_whole) return taken_four(at(to, row));
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (row + i < m) r.v[i] = taken_one(at(to, row + i));
        return r;
    }
};

/* --- without tiles --- */

enum { DIRECT_BLOCK = 256, DIRECT_CHANNELS = 3, DIRECT_WEIGHTS = 8192 };

/* A thread makes four filters of a pixel at a time; the weights lie in shared memory, rows of them filled up
 * with zeros to whole fours. k is one chunk at most. */
static __global__ void __launch_bounds__(DIRECT_BLOCK)
    conv_direct(conv_shape s, const float *x, const float *weights, tile_after after, divisor by_fours)
{
    sl_cuda_begin();
    SL_SHARED(float, packed);
    const int k = (int)(s.kh * s.kw * s.c), fours = (int)by_fours.by;
    for (int i = (int)threadIdx.x; i < k * fours * 4; i += DIRECT_BLOCK) {
        const int f = i % (fours * 4);
        packed[i] = f < s.f ? weights[i / (fours * 4) * s.f + f] : 0.0f;
    }
    __syncthreads();
    const int64_t all = s.n * s.oh * s.ow * fours;
    for (int64_t at = sl_cuda_thread(); at < all; at += sl_cuda_threads()) {
        uint32_t part;
        const int64_t number = divide((uint32_t)at, by_fours, &part);
        const conv_pixel to = conv_pixel_of(number, s.by_oh, s.by_ow);
        float sum[4] = {0, 0, 0, 0};
        const float *w = packed + part * 4;
        for (int ky = 0; ky < s.kh; ky++)
            for (int kx = 0; kx < s.kw; kx++) {
                const float *p = source(s, x, to, ky, kx);
                for (int c = 0; c < s.c; c++, w += fours * 4) {
                    if (!p) continue;
                    float y[4];
                    tile_pick(w, y);
#pragma unroll
                    for (int i = 0; i < 4; i++) sum[i] = r_fma(p[c], y[i], sum[i]);
                }
            }
        tile_finish<true>(after, number, part * 4, s.f, sum);
    }
}

/* --- on the host --- */

/* Whether some tap falls into the padding. */
static bool padded(const conv_shape &s)
{
    return s.pad[0] > 0 || s.pad[1] > 0;
}

static conv_terms terms_of(const sl_call *call)
{
    conv_terms t = {};
    const conv_shape s = t.s = conv_shape_of(call);
    const conv_sizes sizes = conv_sizes_of(s, call->op);
    t.m = sizes.m, t.n = sizes.n, t.k = sizes.k;
    t.left = sl_in(call, 0);
    t.right = sl_in(call, 1);
    t.left_whole = four_fits(t.left, call->op == SL_OP_CONV2D_VJP_INPUT ? s.f : s.c);
    t.right_whole = four_fits(t.right, s.f);
    return t;
}

static bool supports(const sl_call *call)
{
    const conv_shape s = conv_shape_of(call);
    return conv_fits(s, conv_sizes_of(s, call->op));
}

static bool direct_supports(const sl_call *call)
{
    const conv_terms t = terms_of(call);
    const int64_t fours = (t.n + 3) / 4;
    return supports(call) && t.s.c <= DIRECT_CHANNELS && t.k <= SL_CHUNK &&
           t.k * fours * 4 <= DIRECT_WEIGHTS && t.m * fours < INT32_MAX;
}

static size_t workspace(const sl_call *call)
{
    const conv_terms t = terms_of(call);
    return tile_workspace(tile_plan_of(call, t.m, t.n, t.k), t.m, t.n);
}

template <class TERMS, bool SKIP, bool FUSED>
static void product(const sl_call *call, bool cut, const sl_activation_attr *activation)
{
    const conv_terms t = terms_of(call);
    const tile_plan p = tile_plan_of(call, t.m, t.n, t.k);
    TERMS terms;
    static_cast<conv_terms &>(terms) = t;
    tile_run<TERMS, SKIP, FUSED>(call, p, tile_job_of(call, p, t.m, t.n, t.k, cut, activation), terms);
}

static void conv2d(const sl_call *call)
{
    if (padded(conv_shape_of(call)))
        product<forward_terms, true, true>(call, false, conv_activation_of(call));
    else
        product<forward_terms, false, true>(call, false, conv_activation_of(call));
}

static void conv2d_direct(const sl_call *call)
{
    const conv_terms t = terms_of(call);
    const int64_t fours = (t.n + 3) / 4;
    if (t.m == 0 || t.n == 0) return;
    SL_LAUNCH(conv_direct, sl_cuda_grid(call, t.m * fours, DIRECT_BLOCK, 8), DIRECT_BLOCK,
              (size_t)(t.k * fours * 4) * sizeof(float), call, t.s, t.left, t.right,
              tile_after_of(call, conv_activation_of(call), t.n), divisor_of(fours));
}

/* Without padding too, pixels at the edge are read by a part of the kernel. */
static void conv2d_vjp_input(const sl_call *call)
{
    product<input_terms, true, false>(call, false, nullptr);
}

static void conv2d_vjp_weight(const sl_call *call)
{
    if (padded(conv_shape_of(call)))
        product<weight_terms, true, false>(call, true, nullptr);
    else
        product<weight_terms, false, false>(call, true, nullptr);
}

SL_CUDA_KERNELS(conv) = {
    {SL_OP_CONV2D, "direct", direct_supports, nullptr, conv2d_direct},
    {SL_OP_CONV2D_BIAS_ACTIVATION, "direct", direct_supports, nullptr, conv2d_direct},
    {SL_OP_CONV2D, "tiles", supports, workspace, conv2d},
    {SL_OP_CONV2D_BIAS_ACTIVATION, "tiles", supports, workspace, conv2d},
    {SL_OP_CONV2D_VJP_INPUT, "tiles", supports, workspace, conv2d_vjp_input},
    {SL_OP_CONV2D_VJP_WEIGHT, "tiles", supports, workspace, conv2d_vjp_weight},
    {},
};
