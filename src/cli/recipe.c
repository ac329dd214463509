/* --recipe: options from a text file. A line is an option's name without dashes, a blank, and its value:
 *
 *     # a comment, also behind a value
 *     model   conv5-8 act pool2 dense10
 *     rate    0.01
 */
#include <errno.h>
#include <stdlib.h>

#include "cli.h"
#include "commands.h"

enum { LARGEST = 1 << 16 };

static bool refuse(const cli_options *o, const char *what)
{
    cli_fail(o, CLI_USAGE, "--recipe %s: %s", o->recipe, what);
    return false;
}

/* The whole file, ended by 0. NULL after a message. */
static char *read_text(const cli_options *o)
{
    FILE *file = fopen(o->recipe, "rb");
    char *text = file ? malloc(LARGEST + 1) : NULL;
    if (!text) {
        refuse(o, strerror(errno));
        if (file) fclose(file);
        return NULL;
    }
    errno = 0;
    const size_t size = fread(text, 1, LARGEST + 1, file);
    const char *problem = ferror(file)            ? strerror(errno)
                          : size > LARGEST        ? "too large for a recipe"
                          : memchr(text, 0, size) ? "this is no text file"
                                                  : NULL;
    fclose(file);
    if (problem) {
        refuse(o, problem);
        free(text);
        return NULL;
    }
    text[size] = 0;
    return text;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Writes what the line says to `to`, as an argument of the command line; returns its end. NULL where the line
 * is no option; `to` itself where it says nothing. */
static char *spell_argument(const char *line, size_t length, char *to)
{
    while (length > 0 && is_blank(*line)) line++, length--;
    for (size_t i = 0; i < length; i++)
        if (line[i] == '#' && (i == 0 || is_blank(line[i - 1]))) length = i;
    while (length > 0 && is_blank(line[length - 1])) length--;
    if (length == 0) return to;
    const size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789-");
    if (name == 0 || *line == '-' || (name < length && !is_blank(line[name]))) return NULL;
    to += sprintf(to, "--%.*s", (int)name, line);
    size_t value = name;
    while (value < length && is_blank(line[value])) value++;
    if (value < length) to += sprintf(to, "=%.*s", (int)(length - value), line + value);
    return to + 1;
}

/* One line: an argument made by spell_argument. */
static bool take(cli_options *o, const char *from, char *argument)
{
    static const cli_command lines = {.name = "train", .bit = RECIPE};
    const uint64_t before = o->given;
    char *words[] = {(char *)o->command, argument, NULL};
    const char *name = argument + 2;
    const size_t length = strcspn(name, "=");
    if (!cli_parse_words(&lines, from, 2, words, o)) return false;
    int option = 0; /* that the line was the first to set */
    while (option < CLI_OPTIONS && !((o->given & ~before) >> option & 1)) option++;
    if (option == CLI_OPTIONS)
        return cli_fail(o, CLI_USAGE, "%s%.*s is set a second time", from, (int)length, name), false;
    if (length < strlen(cli_option_name(option)))
        return cli_fail(o, CLI_USAGE, "%s'%.*s' is cut; a recipe needs the whole name, %s", from, (int)length,
                        name, cli_option_name(option)),
               false;
    return true;
}

bool cli_recipe(cli_options *o)
{
    const uint64_t given = o->given;
    char *text = read_text(o), *to = text ? malloc(2 * strlen(text) + 8) : NULL; /* "x\n" becomes "--x" */
    if (text && !to) refuse(o, "out of memory");
    o->recipe_text = to;
    o->given = 0;
    bool good = to != NULL;
    int number = 0;
    for (const char *line = text; good && *line;) {
        const size_t length = strcspn(line, "\n");
        char from[512], *argument = to;
        snprintf(from, sizeof from, "%s, line %d: ", o->recipe, ++number);
        to = spell_argument(line, length, argument);
        if (!to)
            good = (cli_fail(o, CLI_USAGE,
                             "%sexpected an option's name without dashes, a blank and its value", from),
                    false);
        else if (to != argument)
            good = take(o, from, argument);
        line += length + (line[length] == '\n');
    }
    if (good && o->given == 0) good = refuse(o, "it sets no option");
    o->given |= given;
    free(text);
    return good;
}
