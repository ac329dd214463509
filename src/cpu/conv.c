/* Convolutions and their derivatives, as they are defined. */
#include "cpu/product_shape.h"
#include "cpu/product_sum.h"

typedef struct conv_job {
    conv_shape shape;
    const real *in[2];
    real *out;
    int64_t samples; /* that count */
} conv_job;

/* Input position that tap `tap` of output position `at` reads; may lie in the padding. */
static int64_t position(const sl_conv_attr *attr, int axis, int64_t at, int64_t tap)
{
    return at * attr->stride[axis] - attr->pad[axis] + tap * attr->dilation[axis];
}

/* Output position whose tap `tap` reads input position `at`, or -1. */
static int64_t reader(const sl_conv_attr *attr, int axis, int64_t at, int64_t tap, int64_t size)
{
    const int64_t scaled = at + attr->pad[axis] - tap * attr->dilation[axis];
    if (scaled < 0 || scaled % attr->stride[axis] != 0) return -1;
    return scaled / attr->stride[axis] < size ? scaled / attr->stride[axis] : -1;
}

static void forward_rows(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const conv_job *job = arg;
    const conv_shape s = job->shape;
    const int kh = s.attr->kernel[0], kw = s.attr->kernel[1];
    for (int64_t row = first; row < last; row++)
        for (int64_t i = 0; i < s.ow * s.f; i++) {
            const int64_t n = row / s.oh, oy = row % s.oh, ox = i / s.f, f = i % s.f;
            product_sum sum;
            product_clear(&sum);
            for (int ky = 0; ky < kh; ky++)
                for (int kx = 0; kx < kw; kx++) {
                    const int64_t iy = position(s.attr, 0, oy, ky), ix = position(s.attr, 1, ox, kx);
                    const bool inside = iy >= 0 && iy < s.h && ix >= 0 && ix < s.w;
                    for (int64_t c = 0; c < s.c; c++)
                        if (inside)
                            product_add(&sum, job->in[0][((n * s.h + iy) * s.w + ix) * s.c + c],
                                        job->in[1][((ky * kw + kx) * s.c + c) * s.f + f]);
                        else
                            product_skip(&sum);
                }
            job->out[row * s.ow * s.f + i] = product_total(&sum);
        }
}

static void input_rows(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const conv_job *job = arg;
    const conv_shape s = job->shape;
    const int kh = s.attr->kernel[0], kw = s.attr->kernel[1];
    for (int64_t row = first; row < last; row++)
        for (int64_t i = 0; i < s.w * s.c; i++) {
            const int64_t n = row / s.h, iy = row % s.h, ix = i / s.c, c = i % s.c;
            product_sum sum;
            product_clear(&sum);
            for (int ky = kh - 1; ky >= 0; ky--)
                for (int kx = kw - 1; kx >= 0; kx--) {
                    const int64_t oy = reader(s.attr, 0, iy, ky, s.oh), ox = reader(s.attr, 1, ix, kx, s.ow);
                    for (int64_t f = 0; f < s.f; f++)
                        if (oy >= 0 && ox >= 0)
                            product_add(&sum, job->in[0][((n * s.oh + oy) * s.ow + ox) * s.f + f],
                                        job->in[1][((ky * kw + kx) * s.c + c) * s.f + f]);
                        else
                            product_skip(&sum);
                }
            job->out[row * s.w * s.c + i] = product_total(&sum);
        }
}

static void weight_rows(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const conv_job *job = arg;
    const conv_shape s = job->shape;
    const int kw = s.attr->kernel[1];
    for (int64_t row = first; row < last; row++) /* (ky, kx, c) */
        for (int64_t f = 0; f < s.f; f++) {
            const int64_t ky = row / s.c / kw, kx = row / s.c % kw, c = row % s.c;
            product_sum sum;
            product_clear(&sum);
            for (int64_t n = 0; n < job->samples; n++)
                for (int64_t oy = 0; oy < s.oh; oy++)
                    for (int64_t ox = 0; ox < s.ow; ox++) {
                        const int64_t iy = position(s.attr, 0, oy, ky), ix = position(s.attr, 1, ox, kx);
                        if (iy >= 0 && iy < s.h && ix >= 0 && ix < s.w)
                            product_add(&sum, job->in[0][((n * s.h + iy) * s.w + ix) * s.c + c],
                                        job->in[1][((n * s.oh + oy) * s.ow + ox) * s.f + f]);
                        else
                            product_skip(&sum);
                    }
            job->out[row * s.f + f] = product_total(&sum);
        }
}

static conv_job prepare(const sl_call *call)
{
    conv_job job = {
        .shape = conv_shape_of(call), .in = {sl_in(call, 0), sl_in(call, 1)}, .out = sl_out(call, 0)};
    job.samples = sl_valid_rows(call, job.shape.n);
    return job;
}

static void conv2d(const sl_call *call)
{
    conv_job job = prepare(call);
    sl_parallel(call, forward_rows, &job, job.shape.n * job.shape.oh, 1);
}

static void conv2d_bias_activation(const sl_call *call)
{
    conv_job job = prepare(call);
    const sl_conv_fused_attr *attr = call->attr;
    sl_parallel(call, forward_rows, &job, job.shape.n * job.shape.oh, 1);
    product_epilogue(call, &attr->activation, job.shape.n * job.shape.oh * job.shape.ow, job.shape.f);
}

static void conv2d_vjp_input(const sl_call *call)
{
    conv_job job = prepare(call);
    sl_parallel(call, input_rows, &job, job.shape.n * job.shape.h, 1);
}

static void conv2d_vjp_weight(const sl_call *call)
{
    conv_job job = prepare(call);
    sl_parallel(call, weight_rows, &job, job.shape.attr->kernel[0] * job.shape.attr->kernel[1] * job.shape.c,
                1);
}

extern const sl_kernel SL_KERNELS(conv)[];
const sl_kernel SL_KERNELS(conv)[] = {
    {SL_OP_CONV2D, "reference", NULL, NULL, conv2d},
    {SL_OP_CONV2D_VJP_INPUT, "reference", NULL, NULL, conv2d_vjp_input},
    {SL_OP_CONV2D_VJP_WEIGHT, "reference", NULL, NULL, conv2d_vjp_weight},
    {SL_OP_CONV2D_BIAS_ACTIVATION, "reference", NULL, NULL, conv2d_bias_activation},
    {0},
};
