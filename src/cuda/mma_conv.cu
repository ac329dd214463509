/* Convolutions and their derivatives on tensor cores, in TF32 or BF16: implicit products, as in conv.cu, of
 * the sizes that conv_sizes_of gives. */
#include "cuda/conv.cuh"
#include "cuda/mma_tile.cuh"

/* --- factors --- */

enum { NOWHERE = -(1 << 30) }; /* a position that, with anything added to it, lies outside of all images */

/* What gathered factors share. `outers` pixels or channels, `inners` places in a window or kernel. */
struct gathered {
    conv_shape s;
    const float *data;
    int64_t outers, inners;
    bool whole; /* four neighbouring places belong to one tap and can be read at once */
};

/* An image, or none where it was not to be found; a position in it. */
struct corner {
    const float *image;
    int y, x;
};

/* Of a window or kernel: a tap, in steps of the image, and a channel or filter there. */
struct tap_place {
    int y, x, channel;
    int64_t number;
};

template <class FACTOR>
static __device__ __forceinline__ four gather(const FACTOR &f, const typename FACTOR::outer &o,
                                              const typename FACTOR::inner &i)
{
    four r = four_of(0.0f);
    const float *p = f.at(o, i);
    if (f.whole) return p ? four_read(p, 4, true) : r;
    if (p) r.v[0] = *p;
#pragma unroll
    for (int e = 1; e < 4; e++)
        if ((p = f.at(o, f.inner_at(i.number + e)))) r.v[e] = *p;
    return r;
}

/* Kernel row, kernel column and the rest of place `number`, each with its dilation. */
static __device__ __forceinline__ tap_place place_of(const conv_shape &s, int64_t number, divisor by)
{
    uint32_t channel, kx;
    const uint32_t tap = divide((uint32_t)number, by, &channel), ky = divide(tap, s.by_kw, &kx);
    return tap_place{(int)ky * s.dilation[0], (int)kx * s.dilation[1], (int)channel, number};
}

/* Elements of x under the windows of the result's pixels. */
template <bool ALONG_> struct windows : gathered {
    static constexpr bool ALONG = ALONG_;
    typedef corner outer;
    typedef tap_place inner;
    __device__ __forceinline__ outer outer_at(int64_t number) const
    {
        if (number >= outers) return outer{data, NOWHERE, 0};
        const conv_pixel to = conv_pixel_of(number, s.by_oh, s.by_ow);
        return outer{data + to.image * (s.h * s.w * s.c), to.y * s.stride[0] - s.pad[0],
                     to.x * s.stride[1] - s.pad[1]};
    }
    __device__ __forceinline__ inner inner_at(int64_t number) const
    {
        return number < inners ? place_of(s, number, s.by_c) : inner{NOWHERE, 0, 0, number};
    }
    __device__ __forceinline__ const float *at(const outer &o, const inner &i) const
    {
        const int y = o.y + i.y, x = o.x + i.x, w = (int)s.w;
        if ((unsigned)y >= (unsigned)s.h || (unsigned)x >= (unsigned)w) return nullptr;
        return o.image + ((y * w + x) * (int)s.c + i.channel);
    }
    __device__ __forceinline__ four read(const outer &o, const inner &i) const
    {
        return gather(*this, o, i);
    }
};

/* Gradients of the results that saw the input's pixels. */
struct readers : gathered {
    static constexpr bool ALONG = true;
    typedef corner outer;
    typedef tap_place inner;
    __device__ __forceinline__ outer outer_at(int64_t number) const
    {
        if (number >= outers) return outer{data, NOWHERE, 0};
        const conv_pixel from = conv_pixel_of(number, s.by_h, s.by_w);
        return outer{data + from.image * (s.oh * s.ow * s.f), from.y + s.pad[0], from.x + s.pad[1]};
    }
    __device__ __forceinline__ inner inner_at(int64_t number) const
    {
        return number < inners ? place_of(s, number, s.by_f) : inner{-NOWHERE, 0, 0, number};
    }
    __device__ __forceinline__ const float *at(const outer &o, const inner &i) const
    {
        const int y = o.y - i.y, x = o.x - i.x;
        if (y < 0 || x < 0) return nullptr;
        uint32_t rest_y, rest_x;
        const uint32_t oy = divide((uint32_t)y, s.by_stride[0], &rest_y),
                       ox = divide((uint32_t)x, s.by_stride[1], &rest_x);
        if (rest_y != 0 || rest_x != 0 || oy >= (uint32_t)s.oh || ox >= (uint32_t)s.ow) return nullptr;
        return o.image + (((int)oy * (int)s.ow + (int)ox) * (int)s.f + i.channel);
    }
    __device__ __forceinline__ four read(const outer &o, const inner &i) const
    {
        return gather(*this, o, i);
    }
};

/* The weights of an input channel, over kernel and filters. */
struct channel_weights : gathered {
    static constexpr bool ALONG = true;
    struct outer {
        const float *channel; /* NULL: beyond the last */
    };
    struct inner {
        int64_t offset, number; /* offset < 0: beyond the last */
    };
    __device__ __forceinline__ outer outer_at(int64_t number) const
    {
        return outer{number < outers ? data + number * s.f : nullptr};
    }
    __device__ __forceinline__ inner inner_at(int64_t number) const
    {
        if (number >= inners) return inner{-1, number};
        uint32_t filter;
        const uint32_t tap = divide((uint32_t)number, s.by_f, &filter);
        return inner{(int64_t)tap * (s.c * s.f) + filter, number};
    }
    __device__ __forceinline__ const float *at(const outer &o, const inner &i) const
    {
        return o.channel && i.offset >= 0 ? o.channel + i.offset : nullptr;
    }
    __device__ __forceinline__ four read(const outer &o, const inner &i) const
    {
        return gather(*this, o, i);
    }
};

struct mma_forward {
    windows<true> a;
    mma_matrix<false> b;
};
struct mma_input {
    readers a;
    channel_weights b;
};
struct mma_weight {
    windows<false> a;
    mma_matrix<false> b;
};

/* --- on the host --- */

/* Windows of up to three channels are left to conv.cu: its direct kernel reads them once and multiplies
 * little, and here they would be read one by one and fill no tile. Sizes within an image have 31 bits, and
 * positions 30. */
enum { FEW_CHANNELS = 3 };

static bool supports(const sl_call *call)
{
    const conv_shape s = conv_shape_of(call);
    const conv_sizes p = conv_sizes_of(s, call->op);
    const int64_t most = INT32_MAX, reach = s.h + s.w + 2 * (int64_t)(s.pad[0] + s.pad[1]);
    return s.c > FEW_CHANNELS && mma_pays(call, p.m, p.n, p.k) && s.h * s.w * s.c < most &&
           s.oh * s.ow * s.f < most && reach < -NOWHERE;
}

static size_t workspace(const sl_call *call)
{
    const conv_sizes p = conv_sizes_of(conv_shape_of(call), call->op);
    return mma_workspace(call, p.m, p.n, p.k);
}

/* Input `i`, gathered over `channels` per tap. */
template <class FACTOR>
static FACTOR factor_of(const sl_call *call, const conv_shape &s, int i, int64_t outers, int64_t inners,
                        int64_t channels)
{
    FACTOR f;
    f.s = s;
    f.data = sl_in(call, i);
    f.outers = outers, f.inners = inners;
    f.whole = four_fits(f.data, channels);
    return f;
}

static void conv2d(const sl_call *call)
{
    const conv_shape s = conv_shape_of(call);
    const conv_sizes p = conv_sizes_of(s, call->op);
    const mma_forward terms = {factor_of<windows<true>>(call, s, 0, p.m, p.k, s.c),
                               mma_matrix_of<false>(&call->in[1], p.k, p.n)};
    mma_run<mma_forward, true>(call, p.m, p.n, p.k, false, conv_activation_of(call), terms);
}

static void conv2d_vjp_input(const sl_call *call)
{
    const conv_shape s = conv_shape_of(call);
    const conv_sizes p = conv_sizes_of(s, call->op);
    const mma_input terms = {factor_of<readers>(call, s, 0, p.m, p.k, s.f),
                             factor_of<channel_weights>(call, s, 1, p.n, p.k, s.f)};
    mma_run<mma_input, false>(call, p.m, p.n, p.k, false, nullptr, terms);
}

static void conv2d_vjp_weight(const sl_call *call)
{
    const conv_shape s = conv_shape_of(call);
    const conv_sizes p = conv_sizes_of(s, call->op);
    const mma_weight terms = {factor_of<windows<false>>(call, s, 0, p.k, p.m, s.c),
                              mma_matrix_of<false>(&call->in[1], p.k, p.n)};
    mma_run<mma_weight, false>(call, p.m, p.n, p.k, true, nullptr, terms);
}

SL_CUDA_KERNELS(mma_conv) = {
    {SL_OP_CONV2D, "mma", supports, workspace, conv2d},
    {SL_OP_CONV2D_BIAS_ACTIVATION, "mma", supports, workspace, conv2d},
    {SL_OP_CONV2D_VJP_INPUT, "mma", supports, workspace, conv2d_vjp_input},
    {SL_OP_CONV2D_VJP_WEIGHT, "mma", supports, workspace, conv2d_vjp_weight},
    {},
};
