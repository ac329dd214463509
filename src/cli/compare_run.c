/* One run of a comparison: trained from the start or from its checkpoint, and kept when it ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "compare.h"
#include "files.h"

enum { CHECKPOINT_SECONDS = 30 }; /* what a power cut may cost, and an epoch */

typedef struct training {
    cli_options o; /* of this run; quiet, because what there is to say was said before the first */
    const cli_options *said;
    cli_run *run;
    cli_log *log;
    cli_progress *progress;
    char *line, *part, *finished, *checkpoint;
    double saved; /* when the last checkpoint was written */
    sl_epoch last;
} training;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- going on --- */

/* Leaves the lines up to epoch `done` in the log. False: it lacks some, so the run must start anew. */
static bool cut_log(const training *t, int64_t done)
{
    char *buffer = NULL;
    size_t room = 0;
    int64_t epochs = 0;
    bool described = false, good = true;
    cli_memory kept;
    FILE *from = fopen(t->part, "r");
    if (!from || !cli_memory_open(&t->o, &kept)) {
        if (from) fclose(from);
        return false;
    }
    while (good && getline(&buffer, &room, from) > 0) {
        cJSON *line = cJSON_Parse(buffer);
        const cJSON *epoch = cJSON_GetObjectItemCaseSensitive(line, "epoch");
        good = line && (!epoch || epoch->valuedouble <= (double)done);
        if (good) {
            described |= cJSON_HasObjectItem(line, "slope");
            epochs += epoch != NULL;
            fputs(buffer, kept.file);
        }
        cJSON_Delete(line);
    }
    fclose(from);
    free(buffer);
    good = cli_memory_close(&t->o, &kept) && described && epochs == done &&
           cli_write_file(&t->o, t->part, kept.bytes, kept.size);
    cli_memory_free(&kept);
    return good;
}

static int64_t epoch_steps(const training *t)
{
    return (sl_dataset_describe(t->run->train).count + t->o.batch - 1) / t->o.batch;
}

static int build(training *t)
{
    int status = CLI_SUCCESS;
    t->run->model = cli_model(t->run->ctx, &t->o, t->run->train, &status);
    return status;
}

/* The model as it starts, or as the checkpoint has it; then o.resume is set. */
static int prepare(training *t)
{
    sl_context *ctx = t->run->ctx;
    int status = build(t);
    if (status != CLI_SUCCESS || access(t->checkpoint, F_OK) != 0) return status;
    if (sl_restore(t->run->model, t->checkpoint, true) == SL_OK &&
        cut_log(t, sl_model_step(t->run->model) / epoch_steps(t))) {
        t->o.resume = t->checkpoint;
        return CLI_SUCCESS;
    }
    cli_say(t->said, "note: %s cannot be gone on with, so the run starts anew", t->checkpoint);
    sl_clear_error(ctx);
    sl_model_free(t->run->model);
    return build(t);
}

/* --- training --- */

static void on_epoch(void *data, const sl_epoch *epoch)
{
    training *t = data;
    t->last = *epoch;
    cli_log_epoch(t->log, t->run->model, epoch);
    if (epoch->epoch == epoch->epochs || now() - t->saved < CHECKPOINT_SECONDS) return;
    sl_save(t->run->model, t->checkpoint);
    t->saved = now();
}

static void on_progress(void *data, const sl_progress *progress)
{
    cli_progress_step(((training *)data)->progress, progress);
}

static void train(training *t)
{
    sl_model *model = t->run->model;
    const int epochs = (int)t->o.epochs;
    if (t->o.diagnose && !t->o.resume && epoch_steps(t) > 1 &&
        sl_train_step(model, t->run->train, epochs, NULL, NULL) == SL_OK)
        cli_log_start(t->log, model);
    t->saved = now();
    sl_fit(model, t->run->train, .epochs = epochs, .validation = t->run->validation, .on_epoch = on_epoch,
           .on_progress = cli_progress_is_watched(t->progress) ? on_progress : NULL, .data = t,
           .checkpoint = t->checkpoint);
}

/* The end of a run that was not interrupted: its last line, and its name. */
static int finish(training *t)
{
    sl_context *ctx = t->run->ctx;
    char *diverged = NULL;
    sl_report test;
    if (sl_error_code(ctx) == SL_NOT_FINITE) {
        diverged = strdup(sl_error(ctx));
        sl_clear_error(ctx);
    } else if (t->run->held_out) {
        test = sl_evaluate(t->run->model, t->run->test);
    }
    int status = sl_error(ctx) ? cli_fail_context(&t->o, ctx, false) : CLI_SUCCESS;
    if (status == CLI_SUCCESS && (diverged || t->run->held_out))
        cli_log_end(t->log, diverged ? NULL : &test, diverged);
    if (!cli_log_close(t->log)) status = CLI_FAILURE;
    t->log = NULL;
    const int file = open(t->part, O_RDONLY | O_CLOEXEC);
    if (status == CLI_SUCCESS && (file < 0 || fsync(file) != 0 || rename(t->part, t->finished) != 0))
        status = cli_fail(&t->o, CLI_FAILURE, "%s cannot be kept: %s", t->finished, strerror(errno));
    if (file >= 0) close(file);
    if (status == CLI_SUCCESS) {
        unlink(t->checkpoint);
        cli_progress_end(t->progress, &t->last, diverged != NULL);
    }
    free(diverged);
    return status;
}

static int run_it(training *t)
{
    t->o.log = t->part;
    t->o.quiet = true;
    int status = prepare(t);
    if (status == CLI_SUCCESS && !cli_log_open(&t->o, t->run, &t->log)) status = CLI_FAILURE;
    if (status == CLI_SUCCESS) train(t);
    if (status == CLI_SUCCESS && !sl_model_interrupted(t->run->model)) return finish(t);
    if (status == CLI_SUCCESS && sl_error(t->run->ctx))
        status = cli_fail(&t->o, CLI_FAILURE, "interrupted, and the state of this run is lost: %s",
                          sl_error(t->run->ctx));
    return status;
}

int cli_run_train(const cli_options *o, const cli_comparison *c, int group, int activation, int seed,
                  cli_run *run, cli_progress *progress)
{
    training t = {.said = o, .run = run, .progress = progress};
    int status = CLI_FAILURE;
    t.part = cli_run_path(c, group, activation, seed, ".part");
    t.finished = cli_run_path(c, group, activation, seed, ".jsonl");
    t.checkpoint = cli_run_path(c, group, activation, seed, ".safetensors");
    if (!t.part || !t.finished || !t.checkpoint)
        cli_fail(o, CLI_FAILURE, "out of memory");
    else if (cli_run_options(o, c, group, activation, seed, &t.o, &t.line))
        status = run_it(&t);
    if (t.log && !cli_log_close(t.log)) status = CLI_FAILURE;
    sl_model_free(run->model);
    run->model = NULL;
    free(t.line);
    free(t.part);
    free(t.finished);
    free(t.checkpoint);
    return status;
}
