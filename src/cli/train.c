/* slope train */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

#define RESCUE "slope-interrupted.safetensors"

typedef struct training {
    const cli_options *o;
    cli_run run;
    cli_log *log;
    sl_epoch last; /* complete epoch */
} training;

/* Hours of training must not end with a file name that cannot be written. */
static bool check_out(const cli_options *o, const char *option, const char *path)
{
    struct stat status;
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        cli_fail(o, CLI_FAILURE, "--%s %s is a folder; the name of a file is needed", option, path);
    else if (path[strlen(path) - 1] == '/')
        cli_fail(o, CLI_FAILURE, "--%s %s ends like a folder; the name of a file is needed", option, path);
    else if (folder && (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode)))
        cli_fail(o, CLI_FAILURE, "--%s %s: there is no folder %s", option, path, folder);
    else if (folder && access(folder, W_OK) != 0 && access(path, W_OK) != 0)
        cli_fail(o, CLI_FAILURE, "--%s %s: %s", option, path, strerror(errno));
    else {
        free(folder);
        return true;
    }
    free(folder);
    return false;
}

static void announce(const training *t)
{
    const cli_options *o = t->o;
    char unit[64];
    if (o->quiet) return;
    fputs("model    ", stderr);
    cli_wrap(stderr, sl_model_describe(t->run.model), 9, 9);
    snprintf(unit, sizeof unit, "%s parameters", cli_count(sl_model_parameters(t->run.model)).text);
    cli_say(o, "         act is %s; %s", o->activation, unit);
    cli_announce_data(o, &t->run);
    if (o->resume)
        cli_say(o, "resume   %s, after %s steps", o->resume, cli_count(sl_model_step(t->run.model)).text);
}

static void on_epoch(void *data, const sl_epoch *epoch)
{
    training *t = data;
    t->last = *epoch;
    cli_log_epoch(t->log, t->run.model, epoch);
}

/* A word as a shell reads it back. */
static void print_word(FILE *to, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+./:,%@~";
    if (*word && *word != '~' && !word[strspn(word, plain)]) {
        fprintf(to, " %s", word);
        return;
    }
    fputs(" '", to);
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", to);
        else
            fputc(*word, to);
    fputc('\'', to);
}

/* The command line with another --resume. */
static void print_command(const cli_options *o, FILE *to, const char *resume)
{
    fprintf(to, "  slope %s", o->command);
    for (int i = 0; i < o->n_arguments; i++) {
        const char *word = o->arguments[i];
        const size_t length = strcspn(word, "=");
        const bool same = length > 4 && length <= 8 && strncmp(word, "--resume", length) == 0;
        if (same && word[length] == 0) i++; /* its value is the next word */
        if (!same) print_word(to, word);
    }
    fputs(" --resume", to);
    print_word(to, resume);
    fputc('\n', to);
}

static int interrupted(const training *t, const char *checkpoint)
{
    const cli_options *o = t->o;
    sl_context *ctx = t->run.ctx;
    if (sl_error(ctx))
        return cli_fail(o, CLI_FAILURE, "interrupted, and the state is lost: %s", sl_error(ctx));
    cli_fail(o, CLI_FAILURE, "interrupted after %s steps; the state is in %s. To go on:",
             cli_count(sl_model_step(t->run.model)).text, checkpoint);
    print_command(o, stderr, checkpoint);
    return CLI_FAILURE;
}

static void print_report(const char *name, const sl_report *report)
{
    char percent[32], loss[32];
    snprintf(percent, sizeof percent, "%.2f %%", 100 * report->accuracy);
    snprintf(loss, sizeof loss, report->loss < 1e5 ? "%.4f" : "%.4g", report->loss);
    printf("%-12s accuracy %8s   loss %s   %s images\n", name, percent, loss, cli_count(report->count).text);
}

static void print_diagnosis(sl_model *model)
{
    sl_diagnosis row;
    printf("\nLast epoch        gradient norm  update ratio     mean  deviation   active     dead\n");
    for (int i = 0; sl_model_diagnosis(model, i, &row); i++)
        if (row.is_activation)
            printf("  %-20s %8s %13s %8.3g %10.3g %6.1f %% %6.1f %%\n", row.name, "", "", row.mean,
                   row.deviation, 100 * row.active, 100 * row.dead);
        else
            printf("  %-20s %8.3g %13.2g\n", row.name, row.gradient_norm, row.update_ratio);
    printf("update ratio: norm of a step's change of the weights by their norm\n"
           "active:       values where the slope is 0.01 or more, the others are saturated\n"
           "dead:         units whose slope was 0 for a whole batch\n");
}

static int print_results(training *t)
{
    sl_model *model = t->run.model;
    sl_report test = t->last.validation;
    if (t->run.held_out) test = sl_evaluate(model, t->run.test);
    if (sl_error(t->run.ctx)) return cli_fail_context(t->o, t->run.ctx, false);
    print_report("training", &t->last.train);
    if (t->run.held_out) print_report("validation", &t->last.validation);
    print_report("test", &test);
    printf("%-12s %s\n", "parameters", cli_count(sl_model_parameters(model)).text);
    printf("%-12s %016llx\n", "fingerprint", (unsigned long long)sl_model_fingerprint(model));
    if (t->o->out)
        printf("%-12s %s\n", "file", t->o->out);
    else
        printf("%-12s not saved; --out FILE saves the model\n", "file");
    if (t->o->diagnose) print_diagnosis(model);
    return CLI_SUCCESS;
}

/* An unfinished run can only go on with as many images. */
static int check_resume(const training *t)
{
    const cli_options *o = t->o;
    const int64_t count = sl_dataset_describe(t->run.train).count, steps = (count + o->batch - 1) / o->batch;
    if (o->resume_steps == 0 || o->resume_steps == steps) return CLI_SUCCESS;
    return cli_fail(o, CLI_FAILURE,
                    "%s stopped in a run of %lld steps an epoch, but %lld training images make %lld; "
                    "give the same --data, --limit-train and --validation as then",
                    o->resume, (long long)o->resume_steps, (long long)count, (long long)steps);
}

static void show_gradient(void *user, const sl_gradient_row *row)
{
    const cli_options *o = user;
    if (row->agrees)
        cli_say(o, "  %-24s agrees in %lld elements", row->parameter, (long long)row->looked_at);
    else
        cli_fail(o, CLI_FAILURE,
                 "the gradient of %s is wrong: element %lld is %.8g, but the loss changes by %.8g",
                 row->parameter, (long long)row->element, row->gradient, row->difference);
}

static int check_gradients(const training *t)
{
    cli_say(t->o, "gradients beside differences of the loss, on 8 images in double precision:");
    if (sl_check_gradients(t->run.model, t->run.train, show_gradient, (void *)t->o)) return CLI_SUCCESS;
    return sl_error(t->run.ctx) ? cli_fail_context(t->o, t->run.ctx, false) : CLI_FAILURE;
}

static int fit(training *t)
{
    const cli_options *o = t->o;
    sl_context *ctx = t->run.ctx;
    sl_model *model = t->run.model;
    const char *checkpoint = o->out ? o->out : RESCUE;
    announce(t);
    if (o->check_gradients && check_gradients(t) != CLI_SUCCESS) return CLI_FAILURE;
    sl_fit(model, t->run.train, .epochs = (int)o->epochs, .validation = t->run.validation,
           .progress = o->quiet ? NULL : stderr, .on_epoch = on_epoch, .data = t, .checkpoint = checkpoint);
    if (sl_model_interrupted(model)) return interrupted(t, checkpoint);
    if (sl_error(ctx)) return cli_fail_context(o, ctx, false);
    if (o->out && sl_save(model, o->out) != SL_OK) return cli_fail_context(o, ctx, false);
    return print_results(t);
}

int cli_train(cli_options *o)
{
    if (o->n_words > 0)
        return cli_fail(o, CLI_USAGE, "'%s' is no option; options start with --, such as --model %s",
                        o->words[0], o->words[0]);
    if (o->out && !check_out(o, "out", o->out)) return CLI_FAILURE;
    if (o->log && !check_out(o, "log", o->log)) return CLI_FAILURE;
    int status = o->resume ? cli_resume(o) : CLI_SUCCESS;
    if (status != CLI_SUCCESS) return status;
    training t = {.o = o, .run.ctx = cli_open(o, &status)};
    sl_context *ctx = t.run.ctx;
    if (!ctx) return status;
    cli_listen(ctx);
    status = cli_run_data(o, &t.run);
    if (status == CLI_SUCCESS) t.run.model = cli_model(ctx, o, t.run.train, &status);
    if (t.run.model) status = check_resume(&t);
    if (status == CLI_SUCCESS && o->resume && sl_restore(t.run.model, o->resume, true) != SL_OK)
        status = cli_fail_context(o, ctx, false);
    if (status == CLI_SUCCESS && !cli_log_open(o, &t.run, &t.log)) status = CLI_FAILURE;
    if (status == CLI_SUCCESS) status = fit(&t);
    if (!cli_log_close(t.log) && status == CLI_SUCCESS) status = CLI_FAILURE;
    cli_deafen();
    sl_close(ctx);
    return status;
}
