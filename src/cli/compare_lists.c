/* Lists on the command line, and the options that the runs of a comparison get. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>

#include "compare.h"

/* --- splitting --- */

/* The end of the part that starts here: a comma outside brackets, or the end of the text. NULL where brackets
 * do not match. */
static const char *part_end(const char *at)
{
    int depth = 0;
    for (; *at && !(*at == ',' && depth == 0); at++) {
        if (*at == '(') depth++;
        if (*at == ')' && --depth < 0) return NULL;
    }
    return depth == 0 ? at : NULL;
}

static bool add_part(cJSON *parts, const char *start, const char *end)
{
    while (start < end && isspace((unsigned char)*start)) start++;
    while (end > start && isspace((unsigned char)end[-1])) end--;
    char *copy = end > start ? strndup(start, (size_t)(end - start)) : NULL;
    const bool good = copy && cJSON_AddItemToArray(parts, cJSON_CreateString(copy));
    free(copy);
    return good;
}

cJSON *cli_split(const cli_options *o, const char *option, const char *list)
{
    cJSON *parts = cJSON_CreateArray();
    for (const char *at = list, *end;; at = end + 1) {
        end = part_end(at);
        if (!end)
            cli_fail(o, CLI_USAGE, "--%s '%s': the brackets do not match", option, list);
        else if (!add_part(parts, at, end))
            cli_fail(o, CLI_USAGE, "--%s '%s': there is nothing between two commas, or before or behind one",
                     option, list);
        else if (*end)
            continue;
        else
            return parts;
        cJSON_Delete(parts);
        return NULL;
    }
}

cJSON *cli_split_depths(const cli_options *o, const char *list)
{
    cJSON *parts = cli_split(o, "depth", list), *depths = parts ? cJSON_CreateArray() : NULL, *part;
    cJSON_ArrayForEach(part, parts)
    {
        const char *text = part->valuestring;
        const long depth = strlen(text) < 6 && !text[strspn(text, "0123456789")] ? atol(text) : 0;
        if (depth >= 1 && depth <= 1000) {
            cJSON_AddItemToArray(depths, cJSON_CreateNumber((double)depth));
            continue;
        }
        cli_fail(o, CLI_USAGE,
                 "--depth '%s': a number of hidden layers must be a whole number from 1 to 1000", text);
        cJSON_Delete(depths);
        depths = NULL;
        break;
    }
    cJSON_Delete(parts);
    return depths;
}

/* --- what can be varied --- */

static const int varied[] = {CLI_BATCH,    CLI_EPOCHS,       CLI_RATE, CLI_OPTIMIZER, CLI_SCHEDULE,  CLI_INIT,
                             CLI_MOMENTUM, CLI_WEIGHT_DECAY, CLI_L2,   CLI_CLIP_NORM, CLI_CLIP_VALUE};
enum { VARIED = sizeof varied / sizeof *varied };

/* The option of this name; -1: dropout, which stands in the line; -2: none that can be varied. */
static int varied_option(const char *name)
{
    for (int i = 0; i < VARIED; i++)
        if (strcmp(cli_option_name(varied[i]), name) == 0) return varied[i];
    return strcmp(name, "dropout") == 0 ? -1 : -2;
}

static bool fail_varied(const cli_options *o, const char *name)
{
    const char *names[VARIED + 2];
    char list[256] = "";
    for (int i = 0; i < VARIED; i++) {
        names[i] = cli_option_name(varied[i]);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s, ", names[i]);
    }
    names[VARIED] = "dropout";
    names[VARIED + 1] = NULL;
    const char *near = cli_nearest(name, names);
    if (near)
        cli_fail(o, CLI_USAGE, "--vary: '%s' cannot be varied; did you mean %s?", name, near);
    else
        cli_fail(o, CLI_USAGE, "--vary: '%s' cannot be varied; what can be are %sdropout", name, list);
    return false;
}

bool cli_split_vary(const cli_options *o, const char *text, char **name, cJSON **values)
{
    const char *equals = strchr(text, '=');
    *values = NULL;
    if (!equals || equals == text || !equals[1]) {
        cli_fail(o, CLI_USAGE, "--vary is '%s'; it must be an option's name, = and its values: batch=32,128",
                 text);
        return false;
    }
    *name = strndup(text, (size_t)(equals - text));
    if (!*name) return cli_fail(o, CLI_FAILURE, "out of memory"), false;
    const int option = varied_option(*name);
    if (option == -2) return fail_varied(o, *name);
    if (option >= 0 && cli_given(o, option))
        return cli_fail(o, CLI_USAGE, "--vary %s and --%s exclude each other", *name, *name), false;
    *values = cli_split(o, "vary", equals + 1);
    return *values != NULL;
}

/* --- the options of a run --- */

/* The line with the rate of each dropout word replaced. NULL after a message. */
static char *set_dropout(const cli_options *o, const char *model, const char *value)
{
    const char *line = sl_model_preset(model);
    char *end, *out = NULL;
    size_t size = 0;
    int found = 0;
    if (!line) line = model;
    const double rate = strtod(value, &end);
    if (value[strspn(value, "0123456789.")] || end == value || *end || !(rate >= 0 && rate < 1))
        return cli_fail(o, CLI_USAGE, "--vary dropout: '%s' is no rate of at least 0 and below 1", value),
               NULL;
    FILE *to = open_memstream(&out, &size);
    if (!to) return cli_fail(o, CLI_FAILURE, "out of memory"), NULL;
    while (*line) {
        const bool starts = strncmp(line, "drop", 4) == 0 && strchr("0123456789.", line[4]) && line[4];
        const size_t length = strcspn(line, " \t()"), blanks = strspn(line + length, " \t()");
        if (starts)
            fprintf(to, "drop%s%.*s", value, (int)blanks, line + length);
        else
            fprintf(to, "%.*s", (int)(length + blanks), line);
        found += starts;
        line += length + blanks;
    }
    if (fclose(to) != 0) {
        free(out);
        return cli_fail(o, CLI_FAILURE, "out of memory"), NULL;
    }
    if (found) return out;
    free(out);
    return cli_fail(o, CLI_USAGE,
                    "--vary dropout: there is no dropout in the line '%s'; add words such as drop.5", model),
           NULL;
}

/* A plain network of so many hidden layers. */
static char *deep_line(int64_t width, int depth)
{
    char *out = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&out, &size);
    if (!to) return NULL;
    for (int i = 0; i < depth; i++) fprintf(to, "dense%lld act ", (long long)width);
    fputs("dense10", to);
    if (fclose(to) == 0) return out;
    free(out);
    return NULL;
}

bool cli_run_options(const cli_options *o, const cli_comparison *c, int group, int activation, int seed,
                     cli_options *run, char **line)
{
    *run = *o;
    *line = NULL;
    run->activation = c->activations[activation];
    run->seed = c->seeds[seed];
    run->diagnose = !o->no_diagnose;
    if (c->depths[group]) {
        *line = deep_line(o->width, c->depths[group]);
        if (!*line) return cli_fail(o, CLI_FAILURE, "out of memory"), false;
        run->model = *line;
    }
    if (!c->option) return true;
    const int option = varied_option(c->option);
    if (option >= 0) return cli_assign(run, "in --vary: ", option, c->values[group]);
    char *other = set_dropout(o, run->model, c->values[group]);
    free(*line);
    *line = other;
    run->model = other;
    return other != NULL;
}
