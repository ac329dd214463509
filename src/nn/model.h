/* A model from the inside. */
#ifndef SL_NN_MODEL_H
#define SL_NN_MODEL_H

#include "graph/plan.h"
#include "nn/optim.h"
#include "slope/model.h"

/* One pass over a data set: its plan and where the plan keeps its books. */
typedef struct sl_pass {
    sl_plan *plan;
    uint64_t data_serial;   /* of the data set it was made for; 0: none */
    int epochs;             /* training: what the schedule was laid out for */
    int64_t steps;          /* of one epoch */
    int64_t first;          /* the step of this epoch from which on the plan has seen it */
    sl_variable *history;   /* [steps, 3]: loss, correct, valid */
    sl_variable *diagnosis; /* [steps, …]: see diagnosis in pass.c; NULL without */
    sl_variable *step;      /* [1] */
} sl_pass;

struct sl_model {
    sl_owned owned;
    sl_context *ctx;
    sl_graph *graph; /* a private copy of what the loss needs */
    sl_node *loss, *prediction, *labels, *target, *image;
    sl_store *store;
    sl_compile_options options;
    bool has_accuracy;

    sl_node **parameters; /* VARIABLE nodes in the order they were made */
    int n_parameters;
    sl_node **statistics; /* other saved variables of the graph */
    int n_statistics;
    int64_t parameter_count; /* numbers learned */

    /* the training state beside parameters and statistics */
    sl_variable *step, *products, *plateau;
    sl_variable *block, *gradients; /* all parameters, all gradients, flat */
    sl_variable *slots[4];          /* the optimiser's state blocks */
    int n_slots;

    sl_pass training, evaluation;
    sl_plan *predictor;
    int predictor_batch;

    int goal;            /* last epoch of the fit that is going on or was interrupted; 0: none is open */
    int64_t epoch_steps; /* steps of an epoch of the data trained on last */
    double best_loss;    /* plateau */
    int epochs_since_best;
    bool interrupted;
    float *unfinished; /* the history of an epoch that a restored file was in the middle of */
    int64_t n_unfinished;
};

/* Whether the samples of `data` fit the model's inputs; false after an error that says why not. */
bool sl_model_takes(const sl_model *model, const sl_dataset *data);

/* Builds (or keeps) the pass over `data`. NULL after an error. */
sl_pass *sl_training_pass(sl_model *model, sl_dataset *data, int last_epoch);
sl_pass *sl_evaluation_pass(sl_model *model, sl_dataset *data);
void sl_pass_drop(sl_pass *pass);

int64_t sl_read_counter(sl_model *model, const sl_variable *variable, const sl_plan *plan);
void sl_write_counter(sl_model *model, const sl_variable *variable, const sl_plan *plan, int64_t value);
#endif
