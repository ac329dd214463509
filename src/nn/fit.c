/* Training and evaluating: the loop around the plan. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "data/dataset.h"
#include "nn/model.h"
#include "nn/progress.h"
#include "nn/trace.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- the books of a pass --- */

static sl_report tally(const sl_model *model, const float *history, int64_t steps)
{
    double loss = 0, correct = 0, count = 0;
    for (int64_t i = 0; i < steps; i++) {
        const double valid = (double)history[3 * i + 2];
        loss += (double)history[3 * i] * valid;
        correct += (double)history[3 * i + 1];
        count += valid;
    }
    return (sl_report){.loss = count > 0 ? loss / count : NAN,
                       .count = (int64_t)count,
                       .accuracy = count > 0 && model->has_accuracy ? correct / count : NAN};
}

static sl_report read_history(sl_model *model, const sl_pass *pass, float *history, int64_t steps)
{
    sl_to_host(model->ctx, history, sizeof *history, SL_FLOAT, sl_plan_variable(pass->plan, pass->history),
               3 * steps);
    return tally(model, history, steps);
}

sl_report sl_evaluate(sl_model *model, sl_dataset *data)
{
    sl_report report = {.loss = NAN, .accuracy = NAN};
    if (!model || !data || !sl_ok(model->ctx)) return report;
    const sl_pass *pass = sl_evaluation_pass(model, data);
    float *history =
        pass ? sl_new(model->ctx, (size_t)pass->steps * 3, sizeof *history, "an evaluation") : NULL;
    if (!history) return report;
    sl_write_counter(model, pass->step, pass->plan, 0);
    const double start = now();
    for (int64_t i = 0; i < pass->steps && sl_ok(model->ctx); i++) sl_plan_run(pass->plan);
    if (sl_ok(model->ctx)) report = read_history(model, pass, history, pass->steps);
    report.seconds = now() - start;
    free(history);
    return report;
}

/* --- the diagnosis --- */

/* The steps of the epoch that is going on or was just finished, of which there are records. */
static int64_t diagnosed_steps(sl_model *model)
{
    const sl_pass *pass = &model->training;
    const int64_t step = sl_read_counter(model, pass->step, NULL), done = step % pass->steps;
    return step == 0 ? 0 : (done ? done : pass->steps) - pass->first;
}

/* Row number i without its numbers, and the first column of these; false past the last. */
static bool find_diagnosis(const sl_model *model, int i, sl_diagnosis *row, int *column)
{
    *column = 0;
    for (int p = 0; p < model->n_parameters; p++) {
        if (!model->parameters[p]->variable->decay) continue;
        *row = (sl_diagnosis){.name = model->parameters[p]->name};
        if (i-- == 0) return true;
        *column += 2;
    }
    for (int id = 0; id < model->graph->n; id++) {
        if (model->graph->nodes[id]->op != SL_OP_ACTIVATION) continue;
        *row = (sl_diagnosis){.name = model->graph->nodes[id]->name, .is_activation = true};
        if (i-- == 0) return true;
        *column += 4;
    }
    return false;
}

/* Adds a share of what one step recorded. */
static void add_diagnosis(sl_diagnosis *to, const float *from, double share)
{
    if (to->is_activation) {
        to->mean += share * (double)from[0];
        to->deviation += share * (double)from[1];
        to->active += share * (double)from[2];
        to->dead += share * (double)from[3];
    } else {
        to->gradient_norm += share * (double)from[0];
        to->update_ratio += share * (double)from[1];
    }
}

/* The mean over the steps, and each of the first `room` steps. How many there are, 0: no such row. */
static int64_t read_diagnosis(sl_model *model, int i, sl_diagnosis *mean, sl_diagnosis *each, int64_t room)
{
    const sl_pass *pass = &model->training;
    int column;
    if (i < 0 || !find_diagnosis(model, i, mean, &column)) return 0;
    const int64_t width = pass->diagnosis->shape.dim[1], steps = diagnosed_steps(model);
    float *record = sl_new(model->ctx, (size_t)(pass->steps * width), sizeof *record, "a diagnosis");
    if (!record) return 0;
    sl_to_host(model->ctx, record, sizeof *record, SL_FLOAT, sl_plan_variable(pass->plan, pass->diagnosis),
               pass->steps * width);
    const sl_diagnosis empty = *mean;
    for (int64_t s = 0; s < steps; s++) {
        const float *row = record + (pass->first + s + 1) % pass->steps * width + column;
        add_diagnosis(mean, row, 1 / (double)steps);
        if (s >= room) continue;
        each[s] = empty;
        add_diagnosis(&each[s], row, 1);
    }
    free(record);
    return sl_ok(model->ctx) ? steps : 0;
}

bool sl_model_diagnosis(sl_model *model, int i, sl_diagnosis *row)
{
    if (!model || !sl_ok(model->ctx) || !model->training.diagnosis) return false;
    return read_diagnosis(model, i, row, NULL, 0) > 0;
}

int64_t sl_model_diagnosis_steps(sl_model *model, int i, sl_diagnosis *steps, int64_t room)
{
    sl_diagnosis mean;
    if (!model || !sl_ok(model->ctx) || !model->training.diagnosis) return 0;
    return read_diagnosis(model, i, &mean, steps, room);
}

/* --- training --- */

typedef struct fitting {
    sl_model *model;
    const sl_fit_options *options;
    sl_pass *pass;
    sl_progress_bar *bar;
    float *history;
    int64_t step; /* since the first ever */
    sl_epoch epoch;
} fitting;

/* The loss is no number any more: run the step once more, node by node, to say where. */
static void explain_divergence(fitting *f)
{
    sl_context *ctx = f->model->ctx;
    f->pass->plan->options.checked = true;
    sl_plan_run(f->pass->plan);
    char where[sizeof ctx->text];
    snprintf(where, sizeof where, "%s", sl_ok(ctx) ? "the loss" : ctx->text);
    sl_clear_error(ctx);
    f->pass->plan->options.checked = f->model->options.checked;
    sl_fail(ctx, SL_NOT_FINITE,
            "training stopped at step %lld (epoch %d, rate %g): the loss is no longer finite. %s. "
            "Try a lower rate, a warm-up or clip_norm",
            (long long)f->step, f->epoch.epoch, (double)f->epoch.rate, where);
}

static void read_rate(fitting *f)
{
    const sl_plan *plan = f->pass->plan;
    const sl_node *rate = plan->roots[plan->n_roots - 1];
    sl_to_host(f->model->ctx, &f->epoch.rate, sizeof(float), SL_FLOAT, sl_plan_data(plan, rate), 1);
}

static void report_progress(fitting *f, int64_t done, double seconds, int64_t done_before)
{
    const sl_report so_far = read_history(f->model, f->pass, f->history, done);
    const double rate = seconds > 0 ? (double)(done - done_before) * f->model->options.batch / seconds : 0;
    const int64_t left = f->pass->steps - done + (int64_t)(f->epoch.epochs - f->epoch.epoch) * f->pass->steps;
    const sl_progress progress = {.epoch = f->epoch.epoch,
                                  .epochs = f->epoch.epochs,
                                  .step = done,
                                  .steps = f->pass->steps,
                                  .loss = so_far.loss,
                                  .accuracy = so_far.accuracy,
                                  .samples_per_second = rate,
                                  .seconds_left =
                                      rate > 0 ? (double)left * f->model->options.batch / rate : 0};
    if (f->bar) sl_progress_show(f->bar, &progress);
    if (f->options->on_progress) f->options->on_progress(f->options->data, &progress);
    if (!isfinite(so_far.loss)) {
        read_rate(f);
        explain_divergence(f);
    }
}

/* The rest of the epoch that `step` lies in. False when stopped. */
static bool train_epoch(fitting *f)
{
    sl_model *model = f->model;
    const int64_t steps = f->pass->steps, first = f->step % steps;
    if (first == 0) f->pass->first = 0;
    int64_t done = first;
    const bool watched = f->bar || f->options->on_progress;
    const double start = now();
    double reported = start;
    while (done < steps && sl_ok(model->ctx)) {
        if (model->ctx->interrupted) break;
        if (sl_plan_run(f->pass->plan) != SL_OK) break;
        done++, f->step++;
        /* Reading the books of a device waits for it, so it is done at most ten times a second. */
        if (watched && done < steps && now() - reported > 0.1) {
            report_progress(f, done, now() - start, first);
            reported = now();
        }
    }
    if (!sl_ok(model->ctx)) return false;
    f->epoch.train = read_history(model, f->pass, f->history, done);
    f->epoch.train.seconds = now() - start;
    f->epoch.samples_per_second = (double)(done - first) * model->options.batch / f->epoch.train.seconds;
    read_rate(f);
    if (done > 0 && !isfinite(f->epoch.train.loss)) explain_divergence(f);
    model->interrupted = done < steps;
    return sl_ok(model->ctx) && !model->interrupted;
}

static void follow_plateau(fitting *f)
{
    sl_model *model = f->model;
    const sl_optimizer *o = &model->options.optimizer;
    const double loss = f->epoch.validation.count > 0 ? f->epoch.validation.loss : f->epoch.train.loss;
    if (o->schedule.kind != SL_PLATEAU) return;
    if (loss < model->best_loss) {
        model->best_loss = loss;
        model->epochs_since_best = 0;
        return;
    }
    if (++model->epochs_since_best < o->schedule.patience) return;
    model->epochs_since_best = 0;
    float factor;
    sl_store_get(model->store, model->plateau, &factor, sizeof factor);
    factor *= o->schedule.factor;
    if (o->rate > 0 && o->rate * factor < o->schedule.lowest) factor = o->schedule.lowest / o->rate;
    sl_store_set(model->store, model->plateau, &factor, SL_FLOAT, sizeof factor);
}

/* Where this fit starts and ends, and the history of an epoch that was broken off. */
static bool set_out(fitting *f, sl_dataset *train)
{
    sl_model *model = f->model;
    f->step = sl_read_counter(model, model->step, NULL);
    const int64_t steps = (train->count + model->options.batch - 1) / model->options.batch;
    if (model->epoch_steps > 0 && model->epoch_steps != steps) {
        /* Another data set: the epochs trained so far stay trained. */
        f->step = (f->step + model->epoch_steps - 1) / model->epoch_steps * steps;
        sl_write_counter(model, model->step, NULL, f->step);
        model->goal = 0;
    }
    model->epoch_steps = steps;
    const int64_t epochs_done = f->step / steps;
    if (model->goal == 0 || epochs_done >= model->goal) model->goal = (int)epochs_done + f->options->epochs;
    f->epoch.epochs = model->goal;
    const sl_plan *before = model->training.plan;
    f->pass = sl_training_pass(model, train, model->goal);
    if (!f->pass) return false;
    if (f->pass->plan != before || f->step % steps == 0) f->pass->first = f->step % steps;
    f->history = sl_new(model->ctx, (size_t)steps * 3, sizeof *f->history, "a training run");
    if (f->history && model->unfinished && model->n_unfinished == steps * 3)
        sl_to_device(model->ctx, sl_plan_variable(f->pass->plan, f->pass->history), SL_FLOAT,
                     model->unfinished, sizeof(float), model->n_unfinished);
    free(model->unfinished);
    model->unfinished = NULL;
    return f->history != NULL;
}

sl_epoch sl_fit_with(sl_model *model, sl_dataset *train, const sl_fit_options *options)
{
    fitting f = {.model = model, .options = options};
    if (!model || !train || !sl_ok(model->ctx)) return f.epoch;
    sl_context *ctx = model->ctx;
    if (options->epochs < 1) {
        sl_fail(ctx, SL_ARGUMENT, "sl_fit: epochs is %d; it must be at least 1", options->epochs);
        return f.epoch;
    }
    model->interrupted = false;
    if (set_out(&f, train)) {
        f.bar = options->progress ? sl_progress_open(options->progress) : NULL;
        while (f.step < f.pass->steps * model->goal) {
            f.epoch = (sl_epoch){.epoch = (int)(f.step / f.pass->steps) + 1, .epochs = model->goal};
            if (!train_epoch(&f)) break;
            if (options->validation) f.epoch.validation = sl_evaluate(model, options->validation);
            if (!sl_ok(ctx)) break;
            follow_plateau(&f);
            f.epoch.fingerprint = sl_model_fingerprint(model);
            if (f.bar) sl_progress_epoch(f.bar, &f.epoch);
            if (options->on_epoch) options->on_epoch(options->data, &f.epoch);
        }
        if (model->interrupted) {
            ctx->interrupted = 0;
            if (options->checkpoint) sl_save(model, options->checkpoint);
        } else if (sl_ok(ctx)) {
            model->goal = 0;
        }
        sl_progress_close(f.bar);
    }
    free(f.history);
    return f.epoch;
}

sl_status sl_train_step(sl_model *model, sl_dataset *train, int epochs, sl_trace *trace, void *data)
{
    if (!model || !train) return SL_ARGUMENT;
    sl_context *ctx = model->ctx;
    if (!sl_ok(ctx)) return ctx->code;
    if (epochs < 1)
        return sl_fail(ctx, SL_ARGUMENT, "sl_train_step: epochs is %d; it must be at least 1", epochs);
    const sl_fit_options options = {.epochs = epochs};
    fitting f = {.model = model, .options = &options};
    if (set_out(&f, train)) {
        if (trace)
            sl_plan_trace(f.pass->plan, trace, data);
        else
            sl_plan_run(f.pass->plan);
    }
    free(f.history);
    return ctx->code;
}
