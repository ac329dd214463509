/* --log: one JSON object a line, first about the run, then one an epoch. */
#define _GNU_SOURCE
#include <cjson/cJSON.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "cli.h"

struct cli_log {
    const cli_options *o;
    FILE *file;
    bool broken; /* a line was lost and the user was told */
};

static bool write_line(cli_log *log, cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    errno = 0;
    const bool good = text && fprintf(log->file, "%s\n", text) > 0 && fflush(log->file) == 0;
    if (!good && !log->broken)
        cli_fail(log->o, CLI_FAILURE, "the log %s cannot be written: %s", log->o->log,
                 text ? strerror(errno ? errno : EIO) : "out of memory");
    log->broken |= !good;
    cJSON_free(text);
    return good;
}

static void add_data(cJSON *line, const char *prefix, const sl_dataset *data)
{
    const sl_dataset_info info = sl_dataset_describe(data);
    char key[32];
    snprintf(key, sizeof key, "%s_count", prefix);
    cJSON_AddNumberToObject(line, key, (double)info.count);
}

int64_t cli_threads(const cli_options *o)
{
    cpu_set_t set;
    if (cli_given(o, CLI_THREADS)) return o->threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

double cli_rate(const cli_options *o)
{
    static const struct {
        const char *name;
        float rate;
    } optimizers[] = {
#define OPTIMIZER(id, name, states, rate, beta2, epsilon, ...) {name, rate},
#include <slope/optimizers.def>
#undef OPTIMIZER
    };
    for (int i = 0; i < SL_OPTIMIZER_COUNT && !cli_given(o, CLI_RATE); i++)
        if (strcmp(o->optimizer, optimizers[i].name) == 0) return (double)optimizers[i].rate;
    return o->rate;
}

static bool describe(cli_log *log, const cli_run *run)
{
    const cli_options *o = log->o;
    const sl_dataset_info data = sl_dataset_describe(run->train);
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "slope", SLOPE_VERSION);
    cJSON_AddStringToObject(line, "model", sl_model_describe(run->model));
    cJSON_AddStringToObject(line, "activation", o->activation);
    cJSON_AddNumberToObject(line, "parameters", (double)sl_model_parameters(run->model));
    cJSON_AddStringToObject(line, "device", sl_device_name(run->ctx));
    cJSON_AddStringToObject(line, "device_description", sl_device_description(run->ctx));
    cJSON_AddNumberToObject(line, "threads", (double)cli_threads(o));
    cJSON_AddNumberToObject(line, "seed", (double)o->seed);
    cJSON_AddStringToObject(line, "precision", o->precision);
    cJSON_AddBoolToObject(line, "exact", o->exact);
    cJSON_AddStringToObject(line, "optimizer", o->optimizer);
    char text[32];
    snprintf(text, sizeof text, "%.6g", cli_rate(o)); /* 0.001, not the float nearest to it */
    cJSON_AddRawToObject(line, "rate", text);
    cJSON_AddNumberToObject(line, "momentum", cli_given(o, CLI_MOMENTUM) ? o->momentum : 0.9);
    cJSON_AddNumberToObject(line, "weight_decay", o->weight_decay);
    cJSON_AddNumberToObject(line, "clip_norm", o->clip_norm); /* 0: off */
    cJSON_AddNumberToObject(line, "clip_value", o->clip_value);
    cJSON_AddStringToObject(line, "schedule", o->schedule);
    cJSON_AddNumberToObject(line, "batch", (double)o->batch);
    cJSON_AddNumberToObject(line, "epochs", (double)o->epochs);
    cJSON_AddStringToObject(line, "data", data.name);
    if (data.sha256[0])
        cJSON_AddStringToObject(line, "data_sha256", data.sha256);
    else
        cJSON_AddNullToObject(line, "data_sha256");
    add_data(line, "train", run->train);
    add_data(line, "validation", run->validation);
    cJSON_AddStringToObject(line, "validation", run->held_out ? "held out" : "test set");
    return write_line(log, line);
}

/* Where the run that is resumed was killed in the middle of a line, the next one starts anew. */
static bool ends_within_a_line(FILE *file)
{
    return fseek(file, -1, SEEK_END) == 0 && fgetc(file) != '\n';
}

bool cli_log_open(const cli_options *o, const cli_run *run, cli_log **log)
{
    *log = NULL;
    if (!o->log) return true;
    cli_log *l = calloc(1, sizeof *l);
    if (!l) return cli_fail(o, CLI_FAILURE, "out of memory"), false;
    l->o = o;
    l->file = fopen(o->log, o->resume ? "a+" : "w");
    if (!l->file) {
        cli_fail(o, CLI_FAILURE, "the log %s cannot be opened: %s", o->log, strerror(errno));
        free(l);
        return false;
    }
    *log = l;
    if (o->resume && fseek(l->file, 0, SEEK_END) == 0 && ftell(l->file) > 0) {
        if (ends_within_a_line(l->file)) fputc('\n', l->file);
        return true;
    }
    return describe(l, run);
}

static void add_diagnosis(cJSON *line, const char *key, sl_model *model)
{
    sl_diagnosis row;
    cJSON *rows = cJSON_AddArrayToObject(line, key);
    for (int i = 0; sl_model_diagnosis(model, i, &row); i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", row.name);
        if (row.is_activation) {
            cJSON_AddNumberToObject(one, "mean", row.mean);
            cJSON_AddNumberToObject(one, "deviation", row.deviation);
            cJSON_AddNumberToObject(one, "active", row.active);
            cJSON_AddNumberToObject(one, "dead", row.dead);
        } else {
            cJSON_AddNumberToObject(one, "gradient_norm", row.gradient_norm);
            cJSON_AddNumberToObject(one, "update_ratio", row.update_ratio);
        }
        cJSON_AddItemToArray(rows, one);
    }
}

void cli_log_epoch(cli_log *log, sl_model *model, const sl_epoch *e)
{
    if (!log) return;
    char fingerprint[24];
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)e->fingerprint);
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "epoch", e->epoch);
    cJSON_AddNumberToObject(line, "train_loss", e->train.loss); /* what is not finite becomes null */
    cJSON_AddNumberToObject(line, "train_accuracy", e->train.accuracy);
    cJSON_AddNumberToObject(line, "validation_loss", e->validation.loss);
    cJSON_AddNumberToObject(line, "validation_accuracy", e->validation.accuracy);
    cJSON_AddNumberToObject(line, "seconds", e->train.seconds);
    cJSON_AddNumberToObject(line, "samples_per_second", e->samples_per_second);
    char rate[32];
    snprintf(rate, sizeof rate, "%.6g", (double)e->rate);
    cJSON_AddRawToObject(line, "rate", rate);
    cJSON_AddStringToObject(line, "fingerprint", fingerprint);
    if (log->o->diagnose) add_diagnosis(line, "diagnosis", model);
    write_line(log, line);
}

void cli_log_start(cli_log *log, sl_model *model)
{
    cJSON *line = cJSON_CreateObject();
    add_diagnosis(line, "start", model);
    write_line(log, line);
}

void cli_log_end(cli_log *log, const sl_report *test, const char *diverged)
{
    cJSON *line = cJSON_CreateObject();
    if (test) {
        cJSON_AddNumberToObject(line, "test_loss", test->loss);
        cJSON_AddNumberToObject(line, "test_accuracy", test->accuracy);
    }
    if (diverged) cJSON_AddStringToObject(line, "diverged", diverged);
    write_line(log, line);
}

bool cli_log_close(cli_log *log)
{
    if (!log) return true;
    bool good = !log->broken;
    errno = 0;
    if (fclose(log->file) != 0 && good) {
        cli_fail(log->o, CLI_FAILURE, "the log %s cannot be written: %s", log->o->log, strerror(errno));
        good = false;
    }
    free(log);
    return good;
}
