/* Models: a loss compiled for training, evaluation and prediction on the context's device. */
#ifndef SLOPE_MODEL_H
#define SLOPE_MODEL_H

#include <stdio.h>

#include "slope/data.h"
#include "slope/graph.h"
#include "slope/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sl_model sl_model;

typedef struct sl_compile_options {
    int batch;              /* samples a step; default 32 */
    sl_optimizer optimizer; /* default: SGD with rate 0.01 */
    float clip_norm;        /* scales the whole gradient down to this norm; default: off */
    float clip_value;       /* clips each element to ±this; default: off */
    float input_scale;      /* images are multiplied by this; default 1/255 for bytes, 1 for floats */
    bool checked;           /* stop at the first NaN or infinity, naming the node (slow) */
    bool diagnose;          /* record what sl_diagnosis holds in every step; training is the same */
    int end_;
} sl_compile_options;

/* Prepares `loss` (a scalar from loss.h) for training. The graph may be freed afterwards. */
SL_API sl_model *sl_compile_with(sl_node *loss, const sl_compile_options *options);
SL_API void sl_model_free(sl_model *model);

/* What a training or evaluation pass found. Accuracy is NaN where there are no labels. */
typedef struct sl_report {
    double loss;     /* mean per sample, without penalties */
    double accuracy; /* share of samples whose highest score is the label */
    int64_t count;   /* samples seen */
    double seconds;  /* of the steps alone */
} sl_report;

typedef struct sl_epoch {
    int epoch, epochs;           /* this one, counted from 1, and the last */
    sl_report train, validation; /* validation.count is 0 without a validation set */
    double samples_per_second;
    float rate;           /* of the last step */
    uint64_t fingerprint; /* of all parameters */
} sl_epoch;

/* Where a pass stands; the loss and accuracy are running means of this epoch. */
typedef struct sl_progress {
    int epoch, epochs;
    int64_t step, steps; /* of this epoch */
    double loss, accuracy, samples_per_second, seconds_left;
} sl_progress;

typedef struct sl_fit_options {
    int epochs; /* required: this many more; a restored model goes on to the end it was meant for */
    sl_dataset *validation; /* evaluated after each epoch; default: none */
    FILE *progress;         /* a bar on a terminal, a line an epoch elsewhere; default: nothing */
    void (*on_epoch)(void *data, const sl_epoch *epoch);
    void (*on_progress)(void *data, const sl_progress *progress);
    void *data;             /* for the callbacks */
    const char *checkpoint; /* saved here when interrupted */
    int end_;
} sl_fit_options;

/* Trains. Returns the last epoch. After sl_interrupt it stops between two steps, saves the checkpoint and
 * returns with sl_model_interrupted true. A loss that is NaN or infinite is an error that names the step and
 * the node. */
SL_API sl_epoch sl_fit_with(sl_model *model, sl_dataset *train, const sl_fit_options *options);
SL_API bool sl_model_interrupted(const sl_model *model);

/* Called for every output of a step's nodes in order of execution: the node's name, its operation, and 64
 * bits of the output's elements (of the samples that count). */
typedef void sl_trace(void *data, const char *node, const char *operation, uint64_t fingerprint);
/* Trains one step, the next that sl_fit with as many epochs would make. With `trace` the step runs node by
 * node and tells what came out of each; NULL runs it as always. The results are the same. */
SL_API sl_status sl_train_step(sl_model *model, sl_dataset *train, int epochs, sl_trace *trace, void *data);

/* Runs the whole data set through the model as it evaluates (running statistics, no dropout). */
SL_API sl_report sl_evaluate(sl_model *model, sl_dataset *data);

/* Outputs for `count` samples [count, height·width·channels] of floats (scaled like byte images, 0 … 1):
 * class probabilities under a cross-entropy loss, the outputs themselves under a squared error. out has room
 * for count × sl_model_outputs(model). */
SL_API sl_status sl_predict(sl_model *model, const float *samples, int64_t count, float *out);
SL_API int sl_model_outputs(const sl_model *model);

SL_API uint64_t sl_model_fingerprint(sl_model *model);       /* 64 bits of all parameters */
SL_API int64_t sl_model_parameters(const sl_model *model);   /* how many numbers are learned */
SL_API int64_t sl_model_step(sl_model *model);               /* steps trained so far */
SL_API const char *sl_model_describe(const sl_model *model); /* its line, "" where it was built by calls */

/* Values of a parameter or running statistic by name ("dense1.weight"), as float32. */
SL_API sl_status sl_model_get(sl_model *model, const char *name, float *values, int64_t count);
SL_API sl_status sl_model_set(sl_model *model, const char *name, const float *values, int64_t count);
typedef struct sl_parameter_info {
    const char *name;
    sl_shape shape;
    bool learned; /* false: a running statistic */
} sl_parameter_info;
/* Number i, counted from 0; false past the last. */
SL_API bool sl_model_parameter(const sl_model *model, int i, sl_parameter_info *info);

/* What a model compiled with .diagnose recorded. */
typedef struct sl_diagnosis {
    const char *name; /* of a weight, or of an activation */
    bool is_activation;
    double gradient_norm;   /* of a weight, before clipping */
    double update_ratio;    /* of a weight: norm of the step's change by its norm; 0 where it was all 0 */
    double mean, deviation; /* of an activation's values */
    double active;          /* share of values where |slope| >= 0.01; the others are saturated */
    double dead;            /* share of units whose slope was 0 for every sample of a batch */
} sl_diagnosis;
/* Row number i, counted from 0, as means over the steps of the last epoch; false past the last row, and where
 * nothing was recorded. */
SL_API bool sl_model_diagnosis(sl_model *model, int i, sl_diagnosis *row);
/* The same row for each of these steps, as many as there is room for. Returns how many steps there are, 0
 * past the last row. An epoch that was resumed has those since then. */
SL_API int64_t sl_model_diagnosis_steps(sl_model *model, int i, sl_diagnosis *steps, int64_t room);

/* Makes the plan of a training step on `train`, as sl_fit does, and runs nothing. */
SL_API sl_plan_info sl_model_plan(sl_model *model, sl_dataset *train);
/* The training plan (after the first sl_fit or sl_model_plan), else the evaluation's: see sl_plan_print. */
SL_API void sl_model_print(sl_model *model, FILE *to);

/* --- files (safetensors) --- */

/* Weights, statistics, the training state and the description. Written beside `path` and moved over it. */
SL_API sl_status sl_save(sl_model *model, const char *path);
/* What a file says of itself, without building a model: `metadata` is called for each key ("line",
 * "activation", "optimizer", …), then `tensor` for each tensor ("F32", "I32", …). Either may be NULL. */
typedef struct sl_model_file_reader {
    void (*metadata)(void *data, const char *key, const char *value);
    void (*tensor)(void *data, const char *name, const char *type, sl_shape shape);
    void *data;
} sl_model_file_reader;
SL_API sl_status sl_model_file_describe(sl_context *ctx, const char *path,
                                        const sl_model_file_reader *reader);
/* Builds the model that the file describes (only models made from a line can be), with its weights and state.
 */
SL_API sl_model *sl_load(sl_context *ctx, const char *path);
/* Fills a model of the same architecture from a file; with `training`, also the optimiser's state, the
 * position and the seed, so that sl_fit goes on as if it had never stopped. */
SL_API sl_status sl_restore(sl_model *model, const char *path, bool training);

#ifdef __cplusplus
}
inline sl_model *sl_compile(sl_node *loss, const sl_compile_options &options = {})
{
    return sl_compile_with(loss, &options);
}
inline sl_epoch sl_fit(sl_model *model, sl_dataset *train, const sl_fit_options &options)
{
    return sl_fit_with(model, train, &options);
}
#else
#    define sl_compile(...)            SL_COMPILE_(__VA_ARGS__, .end_ = 0)
#    define SL_COMPILE_(loss, ...)     sl_compile_with((loss), &(sl_compile_options){__VA_ARGS__})
#    define sl_fit(...)                SL_FIT_(__VA_ARGS__, .end_ = 0)
#    define SL_FIT_(model, train, ...) sl_fit_with((model), (train), &(sl_fit_options){__VA_ARGS__})
#endif
#endif
