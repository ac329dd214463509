/* Reading the command line, and the help made from the same table. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "cli.h"
#include "commands.h"

typedef enum kind { TEXT, WHOLE, REAL, FLAG } kind;
#define OPEN(limit) -(limit) - 1e300 /* marked: the limit itself lies outside */

typedef struct row {
    const char *name;
    kind kind;
    size_t offset;
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
