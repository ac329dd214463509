/* Optimisers and learning-rate schedules: plain values, given to sl_compile. */
#ifndef SLOPE_OPTIM_H
#define SLOPE_OPTIM_H

#include "slope/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sl_schedule_kind {
    SL_CONSTANT,
    SL_STEP_DECAY, /* ×factor [0.1] after every `period` epochs */
    SL_COSINE,     /* from rate down to rate·factor [0] over all epochs, Loshchilov & Hutter 2017 */
    SL_ONE_CYCLE,  /* rate/25 up to rate in the first 30 %, then down to rate/250000, cosine; Smith & Topin
                      2017 */
    SL_PLATEAU,    /* ×factor [0.1] after `patience` [5] epochs without a better validation loss */
} sl_schedule_kind;

typedef struct sl_schedule {
    sl_schedule_kind kind;
    float factor;
    int period, patience; /* epochs; period [10] */
    float warmup;         /* epochs of linear rise from 0; default 0 */
    float lowest;         /* plateau: never below this rate; default 0 */
} sl_schedule;
/* "constant", "step", "cosine", "one-cycle", "plateau", with optional parameters "step(factor=0.5,period=3)".
 */
SL_API sl_schedule sl_schedule_parse(sl_context *ctx, const char *text);
SL_API const char *sl_schedule_name(sl_schedule_kind kind);

enum {
#define OPTIMIZER(id, ...) SL_OPTIMIZER_##id,
#include "slope/optimizers.def"
#undef OPTIMIZER
    SL_OPTIMIZER_COUNT
};

typedef struct sl_optimizer {
    int row;    /* of optimizers.def */
    float rate; /* default: the row's own (sgd 0.01, adam 1e-3, …) */
    sl_schedule schedule;
    float momentum;     /* 0.9 */
    float beta1, beta2; /* 0.9, 0.999 */
    float epsilon;      /* 1e-8 */
    float weight_decay; /* of weights, never of biases and normalisation; AdamW decouples it */
    int end_;
} sl_optimizer;
/* The optimiser called `name` with its defaults; an unknown name gives an error that lists what exists. */
SL_API sl_optimizer sl_optimizer_named(sl_context *ctx, const char *name);
SL_API const char *sl_optimizer_name(int row); /* NULL past the last */

#ifdef __cplusplus
}
#else
#    define sl_sgd(...)      ((sl_optimizer){.row = SL_OPTIMIZER_SGD, __VA_ARGS__})
#    define sl_momentum(...) ((sl_optimizer){.row = SL_OPTIMIZER_MOMENTUM, __VA_ARGS__})
#    define sl_nesterov(...) ((sl_optimizer){.row = SL_OPTIMIZER_NESTEROV, __VA_ARGS__})
#    define sl_adam(...)     ((sl_optimizer){.row = SL_OPTIMIZER_ADAM, __VA_ARGS__})
#    define sl_adamw(...)    ((sl_optimizer){.row = SL_OPTIMIZER_ADAMW, __VA_ARGS__})
#endif
#endif
