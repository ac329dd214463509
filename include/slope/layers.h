/* Layers: functions from node to node that make their own parameters. Options left out take the defaults
 * named. */
#ifndef SLOPE_LAYERS_H
#define SLOPE_LAYERS_H

#include "slope/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = f(x·W + b): x [n, in] (images are flattened first), W [in, units], b [units]. */
typedef struct sl_dense_options {
    int units;                /* required */
    sl_activation activation; /* default: none */
    bool no_bias;
    bool shared_bias; /* one bias for all units */
    sl_init init;     /* of W; b starts at 0 */
    float l2;         /* adds ½·l2·ΣW² */
    const char *name; /* default "dense1", "dense2", … */
    int end_;
} sl_dense_options;
SL_API sl_node *sl_dense_with(sl_node *x, const sl_dense_options *options);

/* y = f(x ∗ W + b), a cross-correlation as everywhere in deep learning: x [n, h, w, c], W [kh, kw, c,
 * filters]. Output height = (h + 2·pad - dilation·(kernel-1) - 1)/stride + 1. */
typedef struct sl_conv2d_options {
    int filters;                  /* required */
    int kernel, kernel_width;     /* required; width as height by default */
    int stride, stride_width;     /* 1 */
    int pad, pad_width;           /* 0 */
    int dilation, dilation_width; /* 1 */
    sl_activation activation;
    bool no_bias;
    sl_init init;
    float l2;
    const char *name;
    int end_;
} sl_conv2d_options;
SL_API sl_node *sl_conv2d_with(sl_node *x, const sl_conv2d_options *options);

/* Windows of kernel × kernel_width. Max: the first of equal values wins, padding never does. Average: over
 * the whole window, padding counted as 0. */
typedef struct sl_pool2d_options {
    int kernel, kernel_width; /* required */
    int stride, stride_width; /* as the kernel */
    int pad, pad_width;       /* 0 */
    int end_;
} sl_pool2d_options;
SL_API sl_node *sl_max_pool2d_with(sl_node *x, const sl_pool2d_options *options);
SL_API sl_node *sl_avg_pool2d_with(sl_node *x, const sl_pool2d_options *options);
/* [n, h, w, c] → [n, c] */
SL_API sl_node *sl_global_avg_pool(sl_node *x);

/* In training each element is dropped with probability `rate`, the others are divided by 1-rate. */
typedef struct sl_dropout_options {
    float rate; /* required, in [0, 1) */
    int end_;
} sl_dropout_options;
SL_API sl_node *sl_dropout_with(sl_node *x, const sl_dropout_options *options);

/* Per channel (last dimension): y = (x-mean)/sqrt(var+ε)·weight + bias; batch statistics in training, running
 * ones in evaluation (Ioffe & Szegedy 2015). */
typedef struct sl_batch_norm_options {
    float epsilon;  /* 1e-5 */
    float momentum; /* 0.1: running = 0.9·running + 0.1·batch */
    const char *name;
    int end_;
} sl_batch_norm_options;
SL_API sl_node *sl_batch_norm_with(sl_node *x, const sl_batch_norm_options *options);

/* Recurrence over x [n, steps, features] (images: their rows are the steps), from a state of 0: gives the
 * last h [n, units]. Unrolled when the graph is built; all steps share weight W [features, k·units],
 * recurrent U [units, k·units] and bias b [k·units], where k is 4 for lstm and 1 for rnn. lstm   i, f, g, o =
 * σ, σ, tanh, σ of x·W + h·U + b (blocks in this order, as PyTorch has them); c = f·c + i·g; h = o·tanh(c).
 * Hochreiter & Schmidhuber 1997, Gers et al. 2000 rnn    h = f(x·W + h·U + b), Elman 1990 */
typedef struct sl_recurrent_options {
    int units;                /* required */
    sl_activation activation; /* of rnn; tanh by default */
    float forget_bias;        /* lstm: added in the forget gate; default 1, Jozefowicz et al. 2015 */
    sl_init init;             /* of W; Xavier by default. U starts orthogonal, b at 0 */
    float l2;
    const char *name; /* default "lstm1", "rnn1", … */
    int end_;
} sl_recurrent_options;
SL_API sl_node *sl_lstm_with(sl_node *x, const sl_recurrent_options *options);
SL_API sl_node *sl_rnn_with(sl_node *x, const sl_recurrent_options *options);

/* A whole model from a line such as "conv5-8 act pool2 conv5-16 act pool2 dense10", or a preset: softmax,
 * mlp, lenet, cnn. `act` words become `activation`. Returns the last node (the logits). The line is stored
 * with the model. */
SL_API sl_node *sl_model_line(sl_node *x, const char *line, sl_activation activation, sl_init init);
/* The line behind a preset's name, or NULL. */
SL_API const char *sl_model_preset(const char *name);

#ifdef __cplusplus
}
#    define SL_LAYER_(name)                                                                                  \
        inline sl_node *sl_##name(sl_node *x, const sl_##name##_options &options)                            \
        {                                                                                                    \
            return sl_##name##_with(x, &options);                                                            \
        }
SL_LAYER_(dense)
SL_LAYER_(conv2d)
SL_LAYER_(dropout)
SL_LAYER_(batch_norm)
#    undef SL_LAYER_
inline sl_node *sl_max_pool2d(sl_node *x, const sl_pool2d_options &options)
{
    return sl_max_pool2d_with(x, &options);
}
inline sl_node *sl_avg_pool2d(sl_node *x, const sl_pool2d_options &options)
{
    return sl_avg_pool2d_with(x, &options);
}
inline sl_node *sl_lstm(sl_node *x, const sl_recurrent_options &options)
{
    return sl_lstm_with(x, &options);
}
inline sl_node *sl_rnn(sl_node *x, const sl_recurrent_options &options)
{
    return sl_rnn_with(x, &options);
}
#else
#    define sl_dense(...)          SL_DENSE_(__VA_ARGS__, .end_ = 0)
#    define SL_DENSE_(x, ...)      sl_dense_with((x), &(sl_dense_options){__VA_ARGS__})
#    define sl_conv2d(...)         SL_CONV2D_(__VA_ARGS__, .end_ = 0)
#    define SL_CONV2D_(x, ...)     sl_conv2d_with((x), &(sl_conv2d_options){__VA_ARGS__})
#    define sl_max_pool2d(...)     SL_MAX_POOL2D_(__VA_ARGS__, .end_ = 0)
#    define SL_MAX_POOL2D_(x, ...) sl_max_pool2d_with((x), &(sl_pool2d_options){__VA_ARGS__})
#    define sl_avg_pool2d(...)     SL_AVG_POOL2D_(__VA_ARGS__, .end_ = 0)
#    define SL_AVG_POOL2D_(x, ...) sl_avg_pool2d_with((x), &(sl_pool2d_options){__VA_ARGS__})
#    define sl_dropout(...)        SL_DROPOUT_(__VA_ARGS__, .end_ = 0)
#    define SL_DROPOUT_(x, ...)    sl_dropout_with((x), &(sl_dropout_options){__VA_ARGS__})
#    define sl_lstm(...)           SL_LSTM_(__VA_ARGS__, .end_ = 0)
#    define SL_LSTM_(x, ...)       sl_lstm_with((x), &(sl_recurrent_options){__VA_ARGS__})
#    define sl_rnn(...)            SL_RNN_(__VA_ARGS__, .end_ = 0)
#    define SL_RNN_(x, ...)        sl_rnn_with((x), &(sl_recurrent_options){__VA_ARGS__})
#    define sl_batch_norm(...)     SL_BATCH_NORM_(__VA_ARGS__, .end_ = 0)
#    define SL_BATCH_NORM_(x, ...) sl_batch_norm_with((x), &(sl_batch_norm_options){__VA_ARGS__})
#endif
#endif
