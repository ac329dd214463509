/* What the kernels of convolutions share: sizes, and which pixel a number means. */
#ifndef SL_CUDA_CONV_CUH
#define SL_CUDA_CONV_CUH

#include "cuda/cuda.cuh"
#include "cuda/divide.cuh"

/* A convolution x[n, h, w, c], weights [kh, kw, c, f], y[n, oh, ow, f]. */
struct conv_shape {
    int64_t n, h, w, c, oh, ow, f;
    int kh, kw, stride[2], pad[2], dilation[2];
    divisor by_h, by_w, by_c, by_oh, by_ow, by_f, by_kw, by_stride[2];
};

struct conv_pixel {
    int64_t image;
    int y, x;
};

/* Number `at` of the pixels of all images. */
static __device__ __forceinline__ conv_pixel conv_pixel_of(int64_t at, divisor height, divisor width)
{
    uint32_t x, y;
    const uint32_t row = divide((uint32_t)at, width, &x), image = divide(row, height, &y);
    return conv_pixel{(int64_t)image, (int)y, (int)x};
}

/* --- on the host --- */

static inline conv_shape conv_shape_of(const sl_call *call)
{
    const bool fused = call->op == SL_OP_CONV2D_BIAS_ACTIVATION;
    const sl_conv_attr *attr = fused ? &static_cast<const sl_conv_fused_attr *>(call->attr)->conv
                                     : static_cast<const sl_conv_attr *>(call->attr);
    const bool input = call->op == SL_OP_CONV2D_VJP_INPUT, weight = call->op == SL_OP_CONV2D_VJP_WEIGHT;
    const int64_t *x = (input ? call->out[0] : call->in[0]).shape.dim;
    const int64_t *y = (input ? call->in[0] : weight ? call->in[1] : call->out[0]).shape.dim;
    conv_shape s = {};
    s.n = x[0], s.h = x[1], s.w = x[2], s.c = x[3];
    s.oh = y[1], s.ow = y[2], s.f = y[3];
    s.kh = attr->kernel[0], s.kw = attr->kernel[1];
    for (int d = 0; d < 2; d++) {
        s.stride[d] = attr->stride[d], s.pad[d] = attr->pad[d], s.dilation[d] = attr->dilation[d];
        s.by_stride[d] = divisor_of(s.stride[d]);
    }
    s.by_h = divisor_of(s.h), s.by_w = divisor_of(s.w), s.by_c = divisor_of(s.c);
    s.by_oh = divisor_of(s.oh), s.by_ow = divisor_of(s.ow), s.by_f = divisor_of(s.f);
    s.by_kw = divisor_of(s.kw);
    return s;
}

/* As an implicit product. Forward: pixels of the result x filters over the window; input gradient: pixels of
 * the input x channels over kernel and filters; weight gradient: window x filters over pixels of the result.
 */
struct conv_sizes {
    int64_t m, n, k;
};

static inline conv_sizes conv_sizes_of(const conv_shape &s, sl_op op)
{
    const int64_t pixels = s.n * s.oh * s.ow, taps = (int64_t)s.kh * s.kw;
    if (op == SL_OP_CONV2D_VJP_INPUT) return conv_sizes{s.n * s.h * s.w, s.c, taps * s.f};
    if (op == SL_OP_CONV2D_VJP_WEIGHT) return conv_sizes{taps * s.c, s.f, pixels};
    return conv_sizes{pixels, s.f, taps * s.c};
}

/* Positions and pixels are counted in 31 bits. */
static inline bool conv_fits(const conv_shape &s, const conv_sizes &p)
{
    const int64_t reach = s.h + s.w + 2 * (int64_t)(s.pad[0] + s.pad[1]);
    return p.m < INT32_MAX && p.n < INT32_MAX && p.k < INT32_MAX && reach < INT32_MAX;
}

static inline const sl_activation_attr *conv_activation_of(const sl_call *call)
{
    if (call->op != SL_OP_CONV2D_BIAS_ACTIVATION) return nullptr;
    return &static_cast<const sl_conv_fused_attr *>(call->attr)->activation;
}
#endif
