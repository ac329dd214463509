/* results.csv, summary.csv and results.json: what a comparison's runs hold, for other programs. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>

#include "compare.h"
#include "files.h"

/* --- CSV, RFC 4180 --- */

static void csv_text(FILE *to, const char *text)
{
    if (!text[strcspn(text, "\",\n\r")]) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"') fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

/* An empty field where there is no number. */
static void csv_number(FILE *to, double value)
{
    fputc(',', to);
    if (!isnan(value)) fprintf(to, "%.9g", value);
}

static void csv_head(FILE *to, const cli_comparison *c)
{
    if (c->depths[0]) fputs("depth,", to);
    if (c->option) {
        csv_text(to, c->option);
        fputc(',', to);
    }
    fputs("activation", to);
}

static void csv_names(FILE *to, const cli_comparison *c, int group, int activation)
{
    if (c->depths[0]) fprintf(to, "%d,", c->depths[group]);
    if (c->option) {
        csv_text(to, c->values[group]);
        fputc(',', to);
    }
    csv_text(to, c->activations[activation]);
}

static void write_epochs(FILE *to, const cli_comparison *c)
{
    csv_head(to, c);
    fputs(",seed,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,rate,seconds\n", to);
    for (int i = 0; i < c->n_runs; i++)
        for (int e = 0; e < c->runs[i].n_epochs; e++) {
            const cli_series *run = &c->runs[i];
            const cli_point *p = &run->epochs[e];
            csv_names(to, c, run->group, run->activation);
            fprintf(to, ",%lld,%d", (long long)run->seed, p->epoch);
            csv_number(to, p->train_loss);
            csv_number(to, p->train_accuracy);
            csv_number(to, p->validation_loss);
            csv_number(to, p->validation_accuracy);
            csv_number(to, p->rate);
            csv_number(to, p->seconds);
            fputc('\n', to);
        }
}

static void write_summary(FILE *to, const cli_comparison *c)
{
    csv_head(to, c);
    fputs(",runs,diverged,parameters", to);
    for (int m = 0; m < CLI_MEASURE_COUNT; m++) {
        const char *key = cli_measure_describe((cli_measure)m).key;
        fprintf(to, ",%s,%s_deviation", key, key);
    }
    fputs(",test_accuracy,test_accuracy_deviation\n", to);
    for (int g = 0; g < c->n_groups; g++)
        for (int a = 0; a < c->n_activations; a++) {
            double parameters = (double)NAN;
            for (int s = 0; s < c->n_seeds; s++) {
                const cli_series *run = cli_comparison_run(c, g, a, s);
                if (run) parameters = (double)run->parameters;
            }
            csv_names(to, c, g, a);
            fprintf(to, ",%d,%d", cli_finished(c, g, a), cli_diverged(c, g, a));
            csv_number(to, parameters);
            for (int m = 0; m <= CLI_MEASURE_COUNT; m++) {
                const cli_spread s =
                    m < CLI_MEASURE_COUNT ? cli_summary(c, g, a, (cli_measure)m) : cli_test_spread(c, g, a);
                csv_number(to, s.mean);
                csv_number(to, s.deviation);
            }
            fputc('\n', to);
        }
}

/* --- JSON --- */

static void add_number(cJSON *object, const char *key, double value)
{
    cJSON_AddNumberToObject(object, key, value); /* what is not finite becomes null */
}

static void add_names(cJSON *object, const cli_comparison *c, int group)
{
    if (c->depths[group]) add_number(object, "depth", c->depths[group]);
    if (c->option) cJSON_AddStringToObject(object, c->option, c->values[group]);
}

static void add_layers(cJSON *object, const char *key, const cli_layer *layers, int n)
{
    cJSON *rows = n ? cJSON_AddArrayToObject(object, key) : NULL;
    for (int i = 0; i < n; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "name", layers[i].name);
        if (layers[i].is_activation) {
            add_number(row, "mean", layers[i].mean);
            add_number(row, "deviation", layers[i].deviation);
            add_number(row, "active", layers[i].active);
            add_number(row, "dead", layers[i].dead);
        } else {
            add_number(row, "gradient_norm", layers[i].gradient_norm);
            add_number(row, "update_ratio", layers[i].update_ratio);
        }
        cJSON_AddItemToArray(rows, row);
    }
}

static cJSON *run_object(const cli_comparison *c, const cli_series *run)
{
    cJSON *object = cJSON_CreateObject();
    add_names(object, c, run->group);
    cJSON_AddStringToObject(object, "activation", c->activations[run->activation]);
    add_number(object, "seed", (double)run->seed);
    add_number(object, "parameters", (double)run->parameters);
    cJSON_AddBoolToObject(object, "diverged", run->diverged);
    if (!isnan(run->test_accuracy)) {
        add_number(object, "test_loss", run->test_loss);
        add_number(object, "test_accuracy", run->test_accuracy);
    }
    add_layers(object, "start", run->start, run->n_start);
    cJSON *epochs = cJSON_AddArrayToObject(object, "epochs");
    for (int e = 0; e < run->n_epochs; e++) {
        const cli_point *p = &run->epochs[e];
        cJSON *epoch = cJSON_CreateObject();
        add_number(epoch, "epoch", p->epoch);
        add_number(epoch, "train_loss", p->train_loss);
        add_number(epoch, "train_accuracy", p->train_accuracy);
        add_number(epoch, "validation_loss", p->validation_loss);
        add_number(epoch, "validation_accuracy", p->validation_accuracy);
        add_number(epoch, "rate", p->rate);
        add_number(epoch, "seconds", p->seconds);
        add_layers(epoch, "diagnosis", p->layers, p->n_layers);
        cJSON_AddItemToArray(epochs, epoch);
    }
    return object;
}

static void add_summary(cJSON *list, const cli_comparison *c, int group, int activation)
{
    cJSON *object = cJSON_CreateObject();
    add_names(object, c, group);
    cJSON_AddStringToObject(object, "activation", c->activations[activation]);
    add_number(object, "runs", cli_finished(c, group, activation));
    add_number(object, "diverged", cli_diverged(c, group, activation));
    for (int m = 0; m <= CLI_MEASURE_COUNT; m++) {
        const bool test = m == CLI_MEASURE_COUNT;
        const cli_spread s =
            test ? cli_test_spread(c, group, activation) : cli_summary(c, group, activation, (cli_measure)m);
        if (test && s.count == 0) continue;
        cJSON *spread = cJSON_AddObjectToObject(object, test ? "test_accuracy"
                                                             : cli_measure_describe((cli_measure)m).key);
        add_number(spread, "count", s.count);
        add_number(spread, "mean", s.mean);
        add_number(spread, "deviation", s.deviation);
    }
    cJSON_AddItemToArray(list, object);
}

static void add_differences(cJSON *list, const cli_comparison *c, int group)
{
    int n;
    cli_pair *pairs = cli_pairs(c, group, &n);
    for (int i = 0; i < n && pairs; i++) {
        cJSON *object = cJSON_CreateObject();
        add_names(object, c, group);
        cJSON_AddStringToObject(object, "a", c->activations[pairs[i].a]);
        cJSON_AddStringToObject(object, "b", c->activations[pairs[i].b]);
        add_number(object, "seeds", pairs[i].test.count);
        add_number(object, "difference", pairs[i].test.difference);
        add_number(object, "t", pairs[i].test.t);
        add_number(object, "p", pairs[i].test.p);
        add_number(object, "p_holm", pairs[i].corrected);
        cJSON_AddItemToArray(list, object);
    }
    free(pairs);
}

static cJSON *all_object(const cli_comparison *c)
{
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "slope", c->version);
    cJSON_AddStringToObject(all, "model", c->model);
    cJSON_AddStringToObject(all, "line", c->line);
    cJSON_AddStringToObject(all, "training", c->description);
    cJSON_AddStringToObject(all, "machine", c->machine);
    cJSON_AddStringToObject(all, "validation", c->held_out ? "held out" : "test set");
    cJSON_AddBoolToObject(all, "synthetic", c->synthetic);
    cJSON *summary = cJSON_AddArrayToObject(all, "summary");
    for (int g = 0; g < c->n_groups; g++)
        for (int a = 0; a < c->n_activations; a++) add_summary(summary, c, g, a);
    cJSON_AddStringToObject(all, "test",
                            "paired t-test over seeds of the final validation accuracy, b - a, "
                            "Holm's correction for the pairs of a group");
    cJSON *differences = cJSON_AddArrayToObject(all, "differences");
    for (int g = 0; g < c->n_groups; g++) add_differences(differences, c, g);
    cJSON *runs = cJSON_AddArrayToObject(all, "runs");
    for (int i = 0; i < c->n_runs; i++) cJSON_AddItemToArray(runs, run_object(c, &c->runs[i]));
    return all;
}

static void write_json(FILE *to, const cli_comparison *c)
{
    cJSON *all = all_object(c);
    char *text = cJSON_Print(all);
    if (text) fprintf(to, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(all);
}

/* --- all --- */

int cli_compare_write(const cli_options *o, const cli_comparison *c)
{
    static const struct {
        const char *name;
        void (*write)(FILE *to, const cli_comparison *c);
    } files[] = {{"results.csv", write_epochs}, {"summary.csv", write_summary}, {"results.json", write_json}};
    bool good = true;
    for (int i = 0; i < 3 && good; i++) {
        char *path = NULL;
        cli_memory memory = {0};
        good = cli_memory_open(o, &memory);
        if (!good) break;
        files[i].write(memory.file, c);
        good = cli_memory_close(o, &memory);
        if (good && asprintf(&path, "%s/%s", c->folder, files[i].name) < 0) path = NULL;
        good = good && path && cli_write_file(o, path, memory.bytes, memory.size);
        cli_memory_free(&memory);
        free(path);
    }
    return good ? CLI_SUCCESS : CLI_FAILURE;
}
