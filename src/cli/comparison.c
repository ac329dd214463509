/* The folder of a comparison: what was asked for, and the finished runs, as plain arrays. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "compare.h"
#include "files.h"

typedef struct holder {
    cli_comparison c;  /* what the others see */
    cJSON *experiment; /* its texts belong to this */
    char *folder, *description, *machine, **labels;
    const char **values;
} holder;

/* --- comparison.json --- */

static bool fail_memory(const cli_options *o)
{
    cli_fail(o, CLI_FAILURE, "out of memory");
    return false;
}

static const cJSON *item(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static int count(const cJSON *object, const char *key)
{
    return cJSON_GetArraySize(item(object, key));
}

static const char *text(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(item(object, key));
}

/* NaN where there is none: what is not finite stands as null in a log. */
static double number(const cJSON *object, const char *key)
{
    const cJSON *value = item(object, key);
    return cJSON_IsNumber(value) ? value->valuedouble : (double)NAN;
}

static bool all_texts(const cJSON *object, const char *key, bool needed)
{
    const cJSON *one;
    cJSON_ArrayForEach(one, item(object, key)) if (!cJSON_IsString(one)) return false;
    return !needed || count(object, key) > 0;
}

static bool between(double value, double lowest, double highest)
{
    return value >= lowest && value <= highest; /* false for NaN */
}

static bool is_experiment(const cJSON *e)
{
    const cJSON *options = item(e, "options"), *depth;
    cJSON_ArrayForEach(depth, item(e, "depths")) if (!cJSON_IsNumber(depth) ||
                                                     !between(depth->valuedouble, 1, 1000)) return false;
    return between(number(options, "seed"), 0, 9e15) && between(number(options, "epochs"), 1, 1e6) &&
           between(number(e, "seeds"), 1, 1e4) && text(options, "optimizer") &&
           all_texts(e, "activations", true) && all_texts(e, "values", text(e, "vary") != NULL) &&
           text(e, "line") && text(e, "slope") && text(e, "device") && text(e, "device_description") &&
           text(e, "data");
}

cJSON *cli_experiment_read(const cli_options *o, const char *folder, bool *failed)
{
    char *path = NULL;
    *failed = asprintf(&path, "%s/comparison.json", folder) < 0;
    if (*failed) return fail_memory(o), NULL;
    char *content = cli_read_text(path);
    cJSON *experiment = content ? cJSON_Parse(content) : NULL;
    if (!content && errno != ENOENT && errno != ENOTDIR) {
        cli_fail(o, CLI_FAILURE, "%s cannot be read: %s", path, strerror(errno));
        *failed = true;
    } else if (content && !is_experiment(experiment)) {
        cli_fail(o, CLI_FAILURE, "%s is damaged: it is not what slope compare writes", path);
        *failed = true;
    }
    if (*failed) {
        cJSON_Delete(experiment);
        experiment = NULL;
    }
    free(content);
    free(path);
    return experiment;
}

bool cli_experiment_write(const cli_options *o, const char *folder, const cJSON *experiment)
{
    char *path = NULL, *content = cJSON_Print(experiment), *lines = NULL;
    bool good = content && asprintf(&path, "%s/comparison.json", folder) >= 0;
    good = good && asprintf(&lines, "%s\n", content) >= 0;
    good = good ? cli_write_file(o, path, lines, strlen(lines)) : fail_memory(o);
    cJSON_free(content);
    free(lines);
    free(path);
    return good;
}

/* --- a run's log --- */

static cli_layer *read_layers(const cJSON *rows, int *n)
{
    *n = cJSON_GetArraySize(rows);
    cli_layer *layers = *n ? calloc((size_t)*n, sizeof *layers) : NULL, *to = layers;
    const cJSON *row;
    if (!layers) *n = 0;
    if (layers) cJSON_ArrayForEach(row, rows)
        {
            const char *name = text(row, "name");
            snprintf(to->name, sizeof to->name, "%s", name ? name : "");
            *to = (cli_layer){.is_activation = item(row, "deviation") != NULL,
                              .gradient_norm = number(row, "gradient_norm"),
                              .update_ratio = number(row, "update_ratio"),
                              .mean = number(row, "mean"),
                              .deviation = number(row, "deviation"),
                              .active = number(row, "active"),
                              .dead = number(row, "dead")};
            snprintf(to->name, sizeof to->name, "%s", name ? name : "");
            to++;
        }
    return layers;
}

static bool add_epoch(cli_series *run, const cJSON *line, double samples)
{
    cli_point *grown = realloc(run->epochs, (size_t)(run->n_epochs + 1) * sizeof *grown);
    if (!grown) return false;
    run->epochs = grown;
    cli_point *p = &grown[run->n_epochs++];
    *p = (cli_point){.epoch = (int)number(line, "epoch"),
                     .train_loss = number(line, "train_loss"),
                     .train_accuracy = number(line, "train_accuracy"),
                     .validation_loss = number(line, "validation_loss"),
                     .validation_accuracy = number(line, "validation_accuracy"),
                     .rate = number(line, "rate")};
    /* An epoch that was broken off has the seconds of its last part; the speed is that of a whole one. */
    p->seconds = samples / number(line, "samples_per_second");
    p->layers = read_layers(item(line, "diagnosis"), &p->n_layers);
    return true;
}

/* Takes a line of the log; *samples is what an epoch trains, padding included. */
static bool add_line(cli_series *run, const cJSON *line, double *samples)
{
    if (item(line, "slope")) {
        const double batch = number(line, "batch");
        *samples = ceil(number(line, "train_count") / batch) * batch;
        run->parameters = (int64_t)number(line, "parameters");
        return *samples > 0;
    }
    if (item(line, "epoch"))
        return *samples > 0 && number(line, "epoch") == run->n_epochs + 1 && add_epoch(run, line, *samples);
    if (item(line, "start") && !run->start) run->start = read_layers(item(line, "start"), &run->n_start);
    if (item(line, "test_accuracy")) {
        run->test_accuracy = number(line, "test_accuracy");
        run->test_loss = number(line, "test_loss");
    }
    run->diverged |= item(line, "diverged") != NULL;
    return cJSON_IsObject(line);
}

static void free_run(cli_series *run)
{
    for (int i = 0; i < run->n_epochs; i++) free(run->epochs[i].layers);
    free(run->epochs);
    free(run->start);
}

/* False after a message. */
static bool read_run(const cli_options *o, const char *path, FILE *file, cli_series *run)
{
    char *buffer = NULL;
    size_t room = 0;
    double samples = 0;
    int at = 0;
    bool good = true;
    while (good && getline(&buffer, &room, file) > 0) {
        cJSON *line = cJSON_Parse(buffer);
        at++;
        good = add_line(run, line, &samples);
        cJSON_Delete(line);
    }
    free(buffer);
    good &= samples > 0 && (run->n_epochs > 0 || run->diverged);
    if (!good) cli_fail(o, CLI_FAILURE, "%s, line %d: this is no run that slope compare finished", path, at);
    return good;
}

char *cli_run_path(const cli_comparison *c, int group, int activation, int seed, const char *suffix)
{
    char *words = NULL, *path = NULL;
    const char *label = c->vary ? c->groups[group] : "";
    if (asprintf(&words, "%s%s%s-%s", c->vary ? c->vary : "", label, c->option ? c->option : "",
                 c->activations[activation]) < 0)
        return NULL;
    /* A name that a file system takes; what it leaves out is told apart by the hash. */
    char name[48] = "";
    uint32_t hash = 2166136261u;
    int n = 0;
    bool plain = true;
    for (const char *at = words; *at; at++) {
        const bool kept = (*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9') || strchr("._-", *at);
        hash = (hash ^ (unsigned char)*at) * 16777619u;
        plain &= kept && n < (int)sizeof name - 1;
        if (n < (int)sizeof name - 1 && (kept || (n > 0 && name[n - 1] != '_'))) name[n++] = kept ? *at : '_';
    }
    const char *bare = name + strspn(name, "-.");
    char mark[12] = "";
    if (!plain) snprintf(mark, sizeof mark, "-%08x", (unsigned)hash);
    if (asprintf(&path, "%s/runs/%s%s-seed%lld%s", c->folder, bare, mark, (long long)c->seeds[seed], suffix) <
        0)
        path = NULL;
    free(words);
    return path;
}

/* A run that is not finished yet is no failure. */
static bool add_run(const cli_options *o, cli_comparison *c, int group, int activation, int seed)
{
    char *path = cli_run_path(c, group, activation, seed, ".jsonl");
    if (!path) return fail_memory(o);
    FILE *file = fopen(path, "r");
    bool good = true;
    if (file) {
        cli_series *run = &c->runs[c->n_runs++];
        *run = (cli_series){.activation = activation,
                            .group = group,
                            .seed = c->seeds[seed],
                            .test_loss = (double)NAN,
                            .test_accuracy = (double)NAN};
        good = read_run(o, path, file, run);
        fclose(file);
    } else if (errno != ENOENT) {
        good = (cli_fail(o, CLI_FAILURE, "%s cannot be read: %s", path, strerror(errno)), false);
    }
    free(path);
    return good;
}

/* --- the lists --- */

static bool set_groups(holder *h)
{
    cli_comparison *c = &h->c;
    const int depths = count(h->experiment, "depths"), values = count(h->experiment, "values");
    const cJSON *depth_list = item(h->experiment, "depths"), *value_list = item(h->experiment, "values");
    c->option = text(h->experiment, "vary");
    c->n_groups = (depths ? depths : 1) * (values ? values : 1);
    c->vary = depths ? "depth" : c->option;
    c->depths = calloc((size_t)c->n_groups, sizeof *c->depths);
    h->labels = calloc((size_t)c->n_groups, sizeof *h->labels);
    h->values = values ? calloc((size_t)c->n_groups, sizeof *h->values) : NULL;
    if (!c->depths || !h->labels || (values && !h->values)) return false;
    for (int g = 0; g < c->n_groups; g++) {
        const char *value = values ? cJSON_GetArrayItem(value_list, g % values)->valuestring : "";
        if (values) h->values[g] = value;
        if (depths) c->depths[g] = cJSON_GetArrayItem(depth_list, values ? g / values : g)->valueint;
        const int n = depths && values ? asprintf(&h->labels[g], "%d, %s %s", c->depths[g], c->option, value)
                      : depths         ? asprintf(&h->labels[g], "%d", c->depths[g])
                                       : asprintf(&h->labels[g], "%s", value);
        if (n < 0) {
            h->labels[g] = NULL;
            return false;
        }
    }
    c->values = h->values;
    c->groups = (const char **)h->labels;
    return true;
}

static bool set_lists(holder *h)
{
    cli_comparison *c = &h->c;
    const cJSON *list = item(h->experiment, "activations"), *one;
    c->n_seeds = (int)number(h->experiment, "seeds");
    c->activations = calloc((size_t)cJSON_GetArraySize(list), sizeof *c->activations);
    c->seeds = calloc((size_t)c->n_seeds, sizeof *c->seeds);
    if (!c->activations || !c->seeds) return false;
    cJSON_ArrayForEach(one, list) c->activations[c->n_activations++] = one->valuestring;
    const double first = number(item(h->experiment, "options"), "seed");
    for (int i = 0; i < c->n_seeds; i++) c->seeds[i] = (int64_t)first + i;
    return set_groups(h);
}

/* The number of a text or a number, as it is written in a caption. */
static void add_setting(FILE *to, const holder *h, const char *key, const char *before, const char *after)
{
    const cJSON *value = item(item(h->experiment, "options"), key);
    if (!value || (h->c.option && strcmp(h->c.option, key) == 0)) return;
    if (ftell(to) > 0) fputs(", ", to);
    if (cJSON_IsString(value))
        fprintf(to, "%s%s%s", before, value->valuestring, after);
    else if (cJSON_IsNumber(value))
        fprintf(to, "%s%.9g%s", before, value->valuedouble, after);
    else
        fprintf(to, "%s", key);
}

static bool describe(holder *h)
{
    size_t size = 0;
    FILE *to = open_memstream(&h->description, &size);
    if (!to) return false;
    const cJSON *options = item(h->experiment, "options");
    add_setting(to, h, "optimizer", "", "");
    if (item(h->experiment, "rate") && !(h->c.option && strcmp(h->c.option, "rate") == 0))
        fprintf(to, "%s%.9g", ftell(to) > 0 ? " " : "rate ", number(h->experiment, "rate"));
    const char *schedule = text(options, "schedule");
    if (schedule && strcmp(schedule, "constant") != 0) add_setting(to, h, "schedule", "", "");
    add_setting(to, h, "batch", "batch ", "");
    add_setting(to, h, "epochs", "", number(options, "epochs") == 1 ? " epoch" : " epochs");
    add_setting(to, h, "init", "init ", "");
    add_setting(to, h, "momentum", "momentum ", "");
    add_setting(to, h, "weight-decay", "weight decay ", "");
    add_setting(to, h, "clip-norm", "clip norm ", "");
    add_setting(to, h, "clip-value", "clip value ", "");
    fprintf(to, "%s%s", ftell(to) > 0 ? ", " : "",
            h->c.synthetic ? "generated digits" : text(h->experiment, "data"));
    add_setting(to, h, "limit-train", "the first ", " training images");
    add_setting(to, h, "limit-test", "the first ", " test images");
    const char *precision = text(options, "precision");
    if (precision && strcmp(precision, "fp32") != 0) add_setting(to, h, "precision", "", "");
    add_setting(to, h, "exact", "", "");
    const bool good = !ferror(to);
    return fclose(to) == 0 && good &&
           asprintf(&h->machine, "%s: %s", text(h->experiment, "device"),
                    text(h->experiment, "device_description")) >= 0;
}

static int most_epochs(const holder *h)
{
    double most = number(item(h->experiment, "options"), "epochs");
    for (int g = 0; h->c.option && strcmp(h->c.option, "epochs") == 0 && g < h->c.n_groups; g++)
        most = g ? fmax(most, atof(h->values[g])) : atof(h->values[g]);
    return (int)most;
}

cli_comparison *cli_comparison_from(const cli_options *o, const char *folder, cJSON *experiment)
{
    holder *h = calloc(1, sizeof *h);
    if (!h) {
        cJSON_Delete(experiment);
        return fail_memory(o), NULL;
    }
    cli_comparison *c = &h->c;
    h->experiment = experiment;
    c->folder = h->folder = strdup(folder);
    const char *model = text(item(experiment, "options"), "model");
    c->line = text(experiment, "line");
    c->model = count(experiment, "depths") || !model ? c->line : model;
    c->version = text(experiment, "slope");
    c->held_out = cJSON_IsTrue(item(experiment, "held_out"));
    c->synthetic = cJSON_IsTrue(item(experiment, "synthetic"));
    bool good = c->folder && set_lists(h) && describe(h);
    c->description = h->description;
    c->machine = h->machine;
    if (good) c->epochs = most_epochs(h);
    c->runs =
        good ? calloc((size_t)c->n_groups * (size_t)c->n_activations * (size_t)c->n_seeds, sizeof *c->runs)
             : NULL;
    if (!c->runs) good = fail_memory(o);
    for (int g = 0; g < c->n_groups && good; g++)
        for (int a = 0; a < c->n_activations && good; a++)
            for (int s = 0; s < c->n_seeds && good; s++) good = add_run(o, c, g, a, s);
    if (good) return c;
    cli_comparison_free(c);
    return NULL;
}

cli_comparison *cli_comparison_read(const cli_options *o, const char *folder)
{
    bool failed;
    cJSON *experiment = cli_experiment_read(o, folder, &failed);
    if (experiment) return cli_comparison_from(o, folder, experiment);
    if (!failed)
        cli_fail(o, CLI_FAILURE, "%s holds no comparison: there is no comparison.json in it", folder);
    return NULL;
}

void cli_comparison_free(cli_comparison *c)
{
    if (!c) return;
    holder *h = (holder *)c;
    for (int i = 0; i < c->n_runs; i++) free_run(&c->runs[i]);
    for (int g = 0; h->labels && g < c->n_groups; g++) free(h->labels[g]);
    free(c->runs);
    free(c->activations);
    free(c->seeds);
    free(c->depths);
    free(h->labels);
    free(h->values);
    free(h->folder);
    free(h->description);
    free(h->machine);
    cJSON_Delete(h->experiment);
    free(h);
}

const cli_series *cli_comparison_run(const cli_comparison *c, int group, int activation, int seed)
{
    for (int i = 0; i < c->n_runs; i++) {
        const cli_series *run = &c->runs[i];
        if (run->group == group && run->activation == activation && run->seed == c->seeds[seed]) return run;
    }
    return NULL;
}
