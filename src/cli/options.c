/* Reading the command line, and the help made from the same table. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "cli.h"
#include "commands.h"

#define ABOVE_0 ((double)FLT_TRUE_MIN)
#define BELOW_1 (1 - (double)FLT_EPSILON / 2)

typedef enum kind { TEXT, WHOLE, REAL, FLAG } kind;

typedef struct row {
    const char *name;
    kind kind;
    size_t offset; /* in cli_options */
    const char *argument;
    unsigned commands;
    const char *standard;
    double lowest, highest;
    const char *key, *meaning;
} row;

static const row rows[] = {
#define OPTION(id, name, kind, member, argument, commands, standard, lowest, highest, key, meaning)          \
    {name, kind, offsetof(cli_options, member), argument, commands, standard, lowest, highest, key, meaning},
#include "options.def"
#undef OPTION
};
_Static_assert(CLI_OPTIONS <= 64, "one bit of `given` for each option");

const char *cli_option_name(int option)
{
    return rows[option].name;
}

const char *cli_option_key(int option)
{
    return rows[option].key;
}

/* --- values --- */

/* The whole text is one number as C and JSON write it: no blanks, no hexadecimal, no nan or inf. */
static bool read_number(const row *r, const char *text, double *real, int64_t *whole)
{
    if (!*text || text[strspn(text, r->kind == WHOLE ? "+-0123456789" : "+-.0123456789eE")]) return false;
    char *end = NULL;
    errno = 0;
    if (r->kind == WHOLE)
        *real = (double)(*whole = strtoll(text, &end, 10));
    else
        *real = strtod(text, &end);
    if (end == text || *end || errno == ERANGE) return false;
    return r->kind == WHOLE || *real == 0 || (float)*real != 0;
}

static const char *range_text(const row *r, char *text, size_t size)
{
    const char *what = r->kind == WHOLE ? "a whole number" : "a number";
    if (r->lowest == ABOVE_0)
        snprintf(text, size, "%s above 0", what);
    else if (r->highest == BELOW_1)
        snprintf(text, size, "%s of at least %g and below 1", what, r->lowest);
    else if (r->highest >= 9e15)
        snprintf(text, size, "%s of at least %g", what, r->lowest);
    else if (r->kind == WHOLE)
        snprintf(text, size, "%s from %.0f to %.0f", what, r->lowest, r->highest);
    else
        snprintf(text, size, "%s from %g to %g", what, r->lowest, r->highest);
    return text;
}

static void *member(cli_options *o, int option)
{
    return (char *)o + rows[option].offset;
}

void cli_set_text(cli_options *o, int option, const char *value)
{
    *(const char **)member(o, option) = value;
    o->given |= (uint64_t)1 << option;
}

bool cli_set_number(cli_options *o, int option, const char *value)
{
    double real = 0;
    int64_t whole = 0;
    if (!read_number(&rows[option], value, &real, &whole)) return false;
    if (rows[option].kind == WHOLE)
        *(int64_t *)member(o, option) = whole;
    else
        *(double *)member(o, option) = real;
    o->given |= (uint64_t)1 << option;
    return true;
}

/* False where the text is no value of the option. */
static bool assign(cli_options *o, int option, const char *text)
{
    const row *r = &rows[option];
    double real = 0;
    int64_t whole = 0;
    switch (r->kind) {
    case TEXT: *(const char **)member(o, option) = text; return *text || option == CLI_A || option == CLI_B;
    case FLAG: *(bool *)member(o, option) = true; return true;
    default: break;
    }
    if (!read_number(r, text, &real, &whole) || !(real >= r->lowest && real <= r->highest)) return false;
    if (r->kind == WHOLE)
        *(int64_t *)member(o, option) = whole;
    else
        *(double *)member(o, option) = real;
    return true;
}

const char *cli_option_text(const cli_options *o, int option, char *buffer, size_t size)
{
    const row *r = &rows[option];
    const void *value = (const char *)o + r->offset;
    if (!r->standard && !cli_given(o, option)) return NULL;
    switch (r->kind) {
    case TEXT: return *(const char *const *)value;
    case FLAG: return "yes";
    case WHOLE: snprintf(buffer, size, "%lld", (long long)*(const int64_t *)value); break;
    case REAL: snprintf(buffer, size, "%.9g", *(const double *)value); break;
    }
    return buffer;
}

bool cli_option_is_flag(int option)
{
    return rows[option].kind == FLAG;
}

bool cli_option_fixes(int option)
{
    const unsigned both = COMPARE | RECIPE;
    return (rows[option].commands & both) == both || option == CLI_WIDTH || option == CLI_NO_DIAGNOSE;
}

/* --- the command line --- */

static void fail_value(const cli_options *o, const char *from, int option, const char *text)
{
    char range[96];
    if (!*text || rows[option].kind == TEXT)
        cli_fail(o, CLI_USAGE, "%s--%s needs a value: %s", from, rows[option].name, rows[option].argument);
    else
        cli_fail(o, CLI_USAGE, "%s--%s is '%s'; it must be %s", from, rows[option].name, text,
                 range_text(&rows[option], range, sizeof range));
}

bool cli_assign(cli_options *o, const char *from, int option, const char *text)
{
    if (!assign(o, option, text)) {
        fail_value(o, from, option, text);
        return false;
    }
    o->given |= (uint64_t)1 << option;
    return true;
}

/* getopt_long found no option: unknown, ambiguous, or a flag that was given a value. */
static void fail_unknown(const cli_command *command, const cli_options *o, const char *from, const char *word,
                         int flag)
{
    char name[32];
    const char *names[CLI_OPTIONS + 1];
    int n = 0, alike = 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const char *bare = name + strspn(name, "-");
    char choices[256] = "";
    for (int i = 0; i < CLI_OPTIONS; i++) {
        if (!(rows[i].commands & command->bit)) continue;
        names[n++] = rows[i].name;
        if (!*bare || strncmp(rows[i].name, bare, strlen(bare)) != 0) continue;
        const size_t used = strlen(choices);
        snprintf(choices + used, sizeof choices - used, "%s--%s", alike++ ? ", " : "", rows[i].name);
    }
    names[n] = NULL;
    const char *near = cli_nearest(bare, names);
    if (flag > 0)
        cli_fail(o, CLI_USAGE, "%s--%s takes no value", from, rows[flag - 1].name);
    else if (alike > 1 && word[1] == '-')
        cli_fail(o, CLI_USAGE, "%s%s is ambiguous: it may be %s", from, name, choices);
    else if (near)
        cli_fail(o, CLI_USAGE, "%sthere is no option %s; did you mean --%s?", from, name, near);
    else if (command->bit == RECIPE)
        cli_fail(o, CLI_USAGE, "%sa recipe has no option %s: it says what is trained, not where", from, bare);
    else
        cli_fail(o, CLI_USAGE, "%sthere is no option %s; slope %s --help lists all", from, name,
                 command->name);
}

bool cli_parse_words(const cli_command *command, const char *from, int n, char **arguments, cli_options *o)
{
    struct option list[CLI_OPTIONS + 1];
    int known = 0;
    for (int i = 0; i < CLI_OPTIONS; i++)
        if (rows[i].commands & command->bit)
            list[known++] = (struct option){rows[i].name, rows[i].argument ? required_argument : no_argument,
                                            NULL, 1000 + i};
    list[known] = (struct option){0};
    optind = 0; /* start anew */
    opterr = 0;
    for (int c; (c = getopt_long(n, arguments, ":h", list, NULL)) != -1;) {
        if (c == 'h') c = 1000 + CLI_HELP;
        if (c == ':') {
            fail_value(o, from, optopt - 1000, "");
            return false;
        }
        if (c == '?') {
            fail_unknown(command, o, from, arguments[optind - 1], optopt >= 1000 ? optopt - 1000 + 1 : 0);
            return false;
        }
        const int option = c - 1000;
        if (!cli_assign(o, from, option, optarg ? optarg : "")) return false;
    }
    o->words = arguments + optind;
    o->n_words = n - optind;
    return true;
}

bool cli_parse_more(const cli_command *command, const char *from, int n, char **arguments, cli_options *o)
{
    const char *before = o->recipe;
    if (!cli_parse_words(command, from, n, arguments, o)) return false;
    if (o->recipe == before) return true;
    /* Read once more, so that what stands beside a --recipe comes before what stands in it. */
    return cli_recipe(o) && cli_parse_words(command, from, n, arguments, o);
}

bool cli_parse(const cli_command *command, int n, char **arguments, cli_options *o)
{
    *o = (cli_options){.command = command->name, .arguments = arguments + 1, .n_arguments = n - 1};
    for (int i = 0; i < CLI_OPTIONS; i++)
        if (rows[i].standard) assign(o, i, rows[i].standard);
    /* getopt_long sorts its array; the order as it was is kept for messages that repeat it. */
    o->sorted = malloc((size_t)(n + 1) * sizeof *o->sorted);
    if (!o->sorted) {
        cli_fail(o, CLI_FAILURE, "out of memory");
        return false;
    }
    memcpy(o->sorted, arguments, (size_t)n * sizeof *o->sorted);
    o->sorted[n] = NULL;
    return cli_parse_more(command, "", n, o->sorted, o);
}

/* --- help --- */

enum { INDENT = 24 };

void cli_help(const cli_command *command, FILE *to)
{
    fprintf(to, "Usage: slope %s %s\n\n", command->name, command->synopsis);
    cli_wrap(to, command->about, 0, 0);
    fputs("\nOptions:\n", to);
    for (int i = 0; i < CLI_OPTIONS; i++) {
        const row *r = &rows[i];
        if (!(r->commands & command->bit)) continue;
        char head[64], meaning[512];
        const int n = snprintf(head, sizeof head, "  --%s %s", r->name, r->argument ? r->argument : "");
        snprintf(meaning, sizeof meaning, "%s%s%s%s", r->meaning, r->standard ? " [" : "",
                 r->standard ? r->standard : "", r->standard ? "]" : "");
        if (n + 1 > INDENT)
            fprintf(to, "%s\n%*s", head, INDENT, "");
        else
            fprintf(to, "%-*s", INDENT, head);
        cli_wrap(to, meaning, INDENT, INDENT);
    }
    if (!command->notes) return;
    fputc('\n', to);
    cli_wrap(to, command->notes, 0, 0);
}
