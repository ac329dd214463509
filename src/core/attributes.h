/* What an operation knows beside its inputs. One struct per family; an operation without one has none. */
#ifndef SL_CORE_ATTRIBUTES_H
#define SL_CORE_ATTRIBUTES_H

#include <stdbool.h>
#include <stdint.h>

#include "slope/tensor.h"

/* ACTIVATION…, and the fused operations: which row of activations.def, and the values of its parameters where
 * these are not tensors (a learned one is an input of the node: shape [1] or [channels]). Or a formula
 * (core/formula.h): id is then SL_ROW_COUNT, and each of its learned parameters is an input. */
typedef struct sl_activation_attr {
    int id;
    float a, b;
    const struct sl_formula *formula; /* NULL: a row */
    int parameter;                    /* ACTIVATION_…_PARAMETER: by which of the learned ones */
} sl_activation_attr;

typedef struct sl_matmul_attr { /* y = op(A)·op(B) */
    bool transpose_a, transpose_b;
} sl_matmul_attr;

/* MATMUL_BIAS_ACTIVATION and CONV2D_BIAS_ACTIVATION: the product's own attribute, then what follows it.
 * Inputs: A, B, bias, then the activation's learned parameter, if any. Output 0: the activated value; output
 * 1: the value before the activation, with data NULL where nobody needs it. */
typedef struct sl_conv_attr {
    int kernel[2], stride[2], pad[2], dilation[2]; /* height, width */
    int size[2];                                   /* VJP_INPUT: input height and width */
} sl_conv_attr;

typedef struct sl_matmul_fused_attr {
    sl_matmul_attr matmul;
    sl_activation_attr activation;
} sl_matmul_fused_attr;

typedef struct sl_conv_fused_attr {
    sl_conv_attr conv;
    sl_activation_attr activation;
} sl_conv_fused_attr;

/* CONV2D_BIAS_ACTIVATION_POOL: the same, and of every 2×2 pixels the largest, output 0. Output 1, bytes: the
 * tap it came from, 0 … 3, and where output 2 is absent, 16 << t for each other tap t that is NaN; output 2:
 * the value before the activation, of every pixel. Outputs 1 and 2 are absent where nobody needs them. Height
 * and width before pooling are even.
 * POOL_ACTIVATION_VJP_BIAS, its way back (attribute: the activation): inputs dy, output 1, and what the slope
 * reads: the value before the activation of every pixel, or output 0 for rows that read y. Outputs: the
 * gradient in front of the activation, of every pixel, and the bias gradient. Whoever reads y from output 0
 * has a slope that is not negative, so that what flows to the other taps is +0, or NaN as the mark says. */

typedef struct sl_pool_attr {
    int kernel[2], stride[2], pad[2];
    int size[2]; /* …_VJP: input height and width */
} sl_pool_attr;

typedef struct sl_affine_attr { /* y = scale·x + shift, CLIP: y in [scale, shift] */
    double scale, shift;
} sl_affine_attr;

typedef struct sl_shape_attr { /* FILL (value), RESHAPE, BROADCAST, SUM_TO, PACK */
    sl_shape shape;
    double value;
} sl_shape_attr;

typedef struct sl_mean_attr { /* the sum is divided by the number of elements, or of samples */
    bool per_sample;
    sl_shape shape; /* VJP: of the input */
} sl_mean_attr;

typedef enum sl_random_kind { SL_RANDOM_UNIFORM, SL_RANDOM_NORMAL } sl_random_kind;
typedef struct sl_random_attr { /* element i: Philox4x32-10 with key seed, counter (i/4 in 64 bits, stream,
                                   step) */
    sl_random_kind kind;
    double low, high; /* uniform: the interval; normal: mean and standard deviation */
    uint64_t seed;
    uint32_t stream;
    sl_shape shape;
} sl_random_attr;

typedef struct sl_dropout_attr { /* inputs x, step; y = keep ? x/(1-rate) : 0; the same call on dy is its vjp
                                  */
    float rate;
    uint64_t seed;
    uint32_t stream;
} sl_dropout_attr;

typedef struct sl_batch_norm_attr {
    float epsilon, momentum; /* running = (1-momentum)·running + momentum·batch */
    /* By fusion. BATCH_NORM: f follows it; BATCH_NORM_VJP: dy is the cotangent of f's value, and beta is
     * input 5. */
    bool activated;
    sl_activation_attr activation;
    bool tracks; /* BATCH_NORM: changes the running statistics, inputs 3 and 4, as BATCH_NORM_TRACK does */
} sl_batch_norm_attr;

typedef struct sl_take_attr { /* element `index` of dimension 1, counted from 0; VJP: of `steps` */
    int index, steps;
} sl_take_attr;

typedef struct sl_lstm_attr {
    float forget_bias; /* added to the sum of the forget gate */
} sl_lstm_attr;

typedef struct sl_custom_attr {
    const struct sl_custom_op *op; /* slope/custom.h */
    const void *data;
} sl_custom_attr;

/* DRAW_BATCH: inputs images [n, …] (bytes or floats), labels [n] or targets [n, …], step. Outputs x =
 * scale·image + shift [batch, …], labels [batch], valid [1]. Batch number step mod ceil(n/batch) of epoch
 * step / ceil(n/batch). Rows at and beyond `valid` are zero. */
typedef struct sl_draw_attr {
    int64_t samples, batch;
    bool shuffle;
    float scale, shift;
    uint64_t seed;
    uint32_t stream;
} sl_draw_attr;

/* The learning rate as a function of the step and of the plateau factor. */
typedef struct sl_schedule_attr {
    int kind;              /* sl_schedule_kind */
    float rate;            /* base rate; one-cycle: the peak */
    float factor;          /* step: ×factor every `period`; cosine: rate at the end / rate */
    int64_t warmup;        /* steps of linear rise from 0 */
    int64_t period, total; /* steps */
} sl_schedule_attr;

/* ADVANCE, when nothing reads the step any more: inputs step, or step, plateau factor [1] and the optimiser's
 * running products [2]; output the rate [1] of this step. Adds 1 to the step and multiplies the products by
 * beta1 and beta2. */
typedef struct sl_advance_attr {
    sl_schedule_attr schedule;
    float beta1, beta2;
} sl_advance_attr;

/* One stretch of the parameter block with its own decay. */
typedef struct sl_segment {
    int64_t first, count;
    float l2, weight_decay;
} sl_segment;

/* UPDATE: inputs parameters, gradients (flat blocks), rate [1], scale [1] (of the gradient, from clipping),
 * then the optimiser's state blocks, then its running products [2], this step's factors among them. */
typedef struct sl_update_attr {
    int optimizer;                                     /* row of optimizers.def */
    float momentum, beta1, beta2, epsilon, clip_value; /* clip_value 0: none */
    int n_segments;
    const sl_segment *segments;
} sl_update_attr;

/* WEIGHT_STATISTICS: inputs parameters before the update, after it, gradients (flat blocks). Output [n, 2]:
 * of each stretch the gradient's norm, and the norm of the change by that of what was changed, 0 where that
 * was 0. */
typedef struct sl_stretches_attr {
    int n;
    const sl_segment *stretch;
} sl_stretches_attr;

typedef struct sl_clip_scale_attr { /* s = norm > limit ? limit/norm : 1 */
    float limit;
} sl_clip_scale_attr;
#endif
