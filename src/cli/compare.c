/* slope compare: the same network trained with one activation after the other. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare.h"

typedef struct comparing {
    cli_options *o;
    const char *folder;
    int lock;
    bool made; /* the folder, by this process */
    cli_experiment e;
    cli_comparison *c;
    cli_run run; /* the context and data of one seed after the other */
} comparing;

static const cJSON *item(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static int fail_memory(const cli_options *o)
{
    return cli_fail(o, CLI_FAILURE, "out of memory");
}

/* Runs that the comparison has when it is complete. */
static int total(const cli_comparison *c)
{
    return c->n_groups * c->n_activations * c->n_seeds;
}

/* --- the folder --- */

static int open_folder(comparing *k)
{
    const cli_options *o = k->o;
    k->made = mkdir(k->folder, 0777) == 0;
    if (!k->made && errno != EEXIST)
        return cli_fail(o, CLI_FAILURE, "--out %s: the folder cannot be made: %s", k->folder,
                        strerror(errno));
    k->lock = open(k->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (k->lock < 0) return cli_fail(o, CLI_FAILURE, "--out %s: %s", k->folder, strerror(errno));
    /* Where the file system has no locks, there is nothing to wait for. */
    if (flock(k->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return cli_fail(o, CLI_FAILURE, "--out %s: another slope compare is at work in this folder",
                        k->folder);
    bool failed;
    k->e.json = cli_experiment_read(o, k->folder, &failed);
    k->e.continues = k->e.json != NULL;
    return failed ? CLI_FAILURE : CLI_SUCCESS;
}

static void close_folder(comparing *k, int status)
{
    if (status != CLI_SUCCESS && k->made) rmdir(k->folder); /* stays where something is in it */
    if (k->lock >= 0) close(k->lock);
}

static int keep(const comparing *k)
{
    char *runs = NULL;
    if (asprintf(&runs, "%s/runs", k->folder) < 0) return fail_memory(k->o);
    int status = CLI_SUCCESS;
    if (mkdir(runs, 0777) != 0 && errno != EEXIST)
        status = cli_fail(k->o, CLI_FAILURE, "%s: %s", runs, strerror(errno));
    free(runs);
    if (status == CLI_SUCCESS && !cli_experiment_write(k->o, k->folder, k->e.json)) status = CLI_FAILURE;
    return status;
}

/* --- data and device --- */

static int open_seed(comparing *k, int seed, bool quiet)
{
    cli_options o = *k->o;
    int status = CLI_SUCCESS;
    o.seed += seed;
    o.quiet |= quiet;
    cli_listen(NULL);
    sl_close(k->run.ctx);
    k->run = (cli_run){.ctx = cli_open(&o, &status)};
    if (!k->run.ctx) return status;
    cli_listen(k->run.ctx);
    return cli_run_data(k->o, &k->run); /* of the first seed: generated digits are the same for all */
}

/* The folder's data and device, or those of this process where it is new. */
static int check_place(comparing *k)
{
    const cli_options *o = k->o;
    const sl_dataset_info data = sl_dataset_describe(k->run.train);
    const struct {
        const char *key, *value, *what;
    } facts[] = {{"device", sl_device_name(k->run.ctx), "was trained on"},
                 {"data_sha256", data.sha256, "was trained on images with the SHA-256"},
                 {"slope", SLOPE_VERSION, "was begun by version"}};
    for (int i = 0; i < 3 && k->e.continues; i++) {
        const char *there = cJSON_GetStringValue(item(k->e.json, facts[i].key));
        if (!there || strcmp(there, facts[i].value) != 0)
            return cli_fail(
                o, CLI_FAILURE,
                "%s cannot go on: it %s %s, this is %s; runs of both would not be comparable. Choose "
                "another --out",
                k->folder, facts[i].what, there ? there : "others", facts[i].value);
    }
    if (k->e.continues) return CLI_SUCCESS;
    char *line = cli_line(o), deep[64];
    if (!line) return fail_memory(o);
    snprintf(deep, sizeof deep, "dense%lld act (once for each layer of depth) dense10", (long long)o->width);
    cJSON_AddStringToObject(k->e.json, "line", item(k->e.json, "depths") ? deep : line);
    free(line);
    const char *vary = cJSON_GetStringValue(item(k->e.json, "vary"));
    char rate[32];
    snprintf(rate, sizeof rate, "%.6g", cli_rate(o)); /* 0.001, not the float nearest to it */
    if (!vary || strcmp(vary, "optimizer") != 0)
        cJSON_AddNumberToObject(k->e.json, "rate", strtod(rate, NULL));
    cJSON_AddStringToObject(k->e.json, "device", facts[0].value);
    cJSON_AddStringToObject(k->e.json, "device_description", sl_device_description(k->run.ctx));
    cJSON_AddNumberToObject(k->e.json, "threads", (double)cli_threads(o));
    cJSON_AddStringToObject(k->e.json, "data", data.name);
    cJSON_AddStringToObject(k->e.json, "data_sha256", data.sha256);
    cJSON_AddBoolToObject(k->e.json, "synthetic", data.synthetic);
    cJSON_AddBoolToObject(k->e.json, "held_out", k->run.held_out);
    cJSON_AddNumberToObject(k->e.json, "train_count", (double)data.count);
    cJSON_AddNumberToObject(k->e.json, "validation_count",
                            (double)sl_dataset_describe(k->run.validation).count);
    cJSON_AddNumberToObject(k->e.json, "test_count", (double)sl_dataset_describe(k->run.test).count);
    return CLI_SUCCESS;
}

/* --- training --- */

/* What is wrong with a line, an option or an activation is said before anything is trained. */
static int check_models(const comparing *k)
{
    const cli_comparison *c = k->c;
    int status = CLI_SUCCESS;
    for (int g = 0; g < c->n_groups && status == CLI_SUCCESS; g++)
        for (int a = 0; a < c->n_activations && status == CLI_SUCCESS; a++) {
            cli_options o;
            char *line = NULL;
            if (!cli_run_options(k->o, c, g, a, 0, &o, &line))
                status = CLI_USAGE;
            else
                sl_model_free(cli_model(k->run.ctx, &o, k->run.train, &status));
            free(line);
        }
    return status;
}

static void announce_lists(const comparing *k)
{
    const cli_options *o = k->o;
    const cli_comparison *c = k->c;
    const int runs = total(c);
    char groups[64] = "", epochs[64];
    if (c->n_groups > 1) snprintf(groups, sizeof groups, " × %d settings", c->n_groups);
    snprintf(epochs, sizeof epochs, c->option && strcmp(c->option, "epochs") == 0 ? "up to %d" : "%d",
             c->epochs);
    fprintf(stderr, "compare  ");
    for (int i = 0; i < c->n_activations; i++) fprintf(stderr, "%s%s", i ? ", " : "", c->activations[i]);
    fprintf(stderr, "\n         %d activation%s%s × %d seed%s: %d run%s of %s epoch%s\n", c->n_activations,
            c->n_activations == 1 ? "" : "s", groups, c->n_seeds, c->n_seeds == 1 ? "" : "s", runs,
            runs == 1 ? "" : "s", epochs, c->epochs == 1 ? "" : "s");
    if (o->init)
        cli_say(o, "         at one seed all have the same first weights (%s), order and dropout", o->init);
    else
        cli_say(
            o, "         at one seed all have the same random numbers, order and dropout; first weights are\n"
               "         scaled to suit the activation, --init NAME gives all the same");
}

static void announce(const comparing *k)
{
    const cli_options *o = k->o;
    const cli_comparison *c = k->c;
    if (o->quiet) return;
    fputs("model    ", stderr);
    cli_wrap(stderr, c->line, 9, 9);
    announce_lists(k);
    if (k->e.published)
        cli_say(o, "         the published experiment, because neither --model nor --depth was given");
    fputs("train    ", stderr);
    cli_wrap(stderr, c->description, 9, 9);
    cli_announce_data(o, &k->run);
    if (k->e.continues)
        cli_say(o, "folder   %s: %d of %d runs are there", k->folder, c->n_runs, total(c));
    else
        cli_say(o, "folder   %s", k->folder);
}

static int train_seed(comparing *k, int seed, cli_progress *progress)
{
    const cli_comparison *c = k->c;
    int status = CLI_SUCCESS;
    bool open = seed == 0; /* the first one's is there already */
    for (int g = 0; g < c->n_groups; g++)
        for (int a = 0; a < c->n_activations; a++) {
            if (cli_comparison_run(c, g, a, seed) || cli_stopped() || status != CLI_SUCCESS) continue;
            if (!open) status = open_seed(k, seed, true);
            open = true;
            if (status != CLI_SUCCESS) return status;
            cli_progress_begin(progress, g, a, seed);
            status = cli_run_train(k->o, c, g, a, seed, &k->run, progress);
        }
    return status;
}

/* Seed after seed, so that all activations are there early. */
static int train_all(comparing *k)
{
    cli_progress *progress = cli_progress_open(k->o, k->c);
    int status = CLI_SUCCESS;
    for (int seed = 0; seed < k->c->n_seeds && status == CLI_SUCCESS && !cli_stopped(); seed++)
        status = train_seed(k, seed, progress);
    cli_progress_close(progress);
    return status;
}

/* The comparison as the folder has it now. */
static bool read_again(comparing *k)
{
    cli_comparison_free(k->c);
    k->c = cli_comparison_from(k->o, k->folder, cJSON_Duplicate(k->e.json, true));
    return k->c != NULL;
}

static int train(comparing *k)
{
    const cli_options *o = k->o;
    int status = open_seed(k, 0, false);
    if (status == CLI_SUCCESS) status = check_place(k);
    if (status == CLI_SUCCESS && !read_again(k)) status = CLI_FAILURE;
    if (status == CLI_SUCCESS) status = check_models(k);
    if (status == CLI_SUCCESS) status = keep(k);
    if (status != CLI_SUCCESS) return status;
    announce(k);
    status = train_all(k);
    cli_deafen();
    sl_close(k->run.ctx);
    k->run.ctx = NULL;
    if (!read_again(k)) return CLI_FAILURE;
    if (status == CLI_SUCCESS && k->c->n_runs < total(k->c))
        status = cli_fail(
            o, CLI_FAILURE,
            "interrupted: %d of %d runs are finished, and what there is of the next is kept. The same "
            "command goes on",
            k->c->n_runs, total(k->c));
    return status;
}

int cli_compare(cli_options *o)
{
    comparing k = {.o = o, .folder = o->out ? o->out : "slope-compare", .lock = -1};
    k.e = (cli_experiment){.o = o, .folder = k.folder};
    if (o->n_words > 0)
        return cli_fail(o, CLI_USAGE, "'%s' is no option; options start with --, such as --activations %s",
                        o->words[0], o->words[0]);
    int status = open_folder(&k);
    if (status == CLI_SUCCESS) status = cli_experiment_complete(&k.e);
    if (status == CLI_SUCCESS && k.e.continues && !read_again(&k)) status = CLI_FAILURE;
    if (status == CLI_SUCCESS && (!k.c || k.c->n_runs < total(k.c))) status = train(&k);
    if (status == CLI_SUCCESS) {
        cli_compare_print(o, k.c);
        status = cli_compare_write(o, k.c);
        if (status == CLI_SUCCESS) status = cli_report_write(o, k.c);
        if (status == CLI_SUCCESS)
            printf("\nreport       %s/report.html, beside it results.csv, summary.csv, results.json\n",
                   k.folder);
    }
    cli_deafen();
    sl_close(k.run.ctx);
    cli_comparison_free(k.c);
    cJSON_Delete(k.e.json);
    close_folder(&k, status);
    return status;
}
