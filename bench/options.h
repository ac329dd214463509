/* The command lines of the benchmarks: a table of options, read and explained in one way. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <slope/slope.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "--rounds" with the value "N", or a flag without a value; one of the addresses is given. Numbers lie
 * between `least` and `most`. An option without "--" takes a word that belongs to no other; `value` names it.
 */
typedef struct bench_option {
    const char *name, *value;
    bool *flag;
    int *number;
    int64_t *count;
    const char **text;
    int64_t least, most;
} bench_option;

static inline void bench_usage(const char *program, const bench_option *options, bool device)
{
    fprintf(stderr, "usage: %s", program);
    if (device) fprintf(stderr, " [--device cpu|cuda] [--threads N] [--exact] [--precision fp32|tf32|bf16]");
    for (const bench_option *o = options; o->name; o++)
        fprintf(stderr, " [%s%s%s]", o->name, *o->name && o->value ? " " : "", o->value ? o->value : "");
    fprintf(stderr, "\n");
    exit(2);
}

static inline int64_t bench_number(const char *program, const char *name, const char *text, int64_t least,
                                   int64_t most)
{
    char *end;
    const long long number = strtoll(text, &end, 10);
    if (end != text && !*end && number >= least && number <= most) return number;
    fprintf(stderr, "%s: %s takes a number from %lld to %lld, not '%s'\n", program, name, (long long)least,
            (long long)most, text);
    exit(2);
}

/* True where the word is one of the choices "cpu|cuda"; its position goes to `index`. */
static inline bool bench_choice(const char *word, const char *const *choices, int *index)
{
    for (*index = 0; choices[*index]; ++*index)
        if (strcmp(word, choices[*index]) == 0) return true;
    return false;
}

/* --device, --threads, --exact, --precision; returns how many words were taken. */
static inline int bench_device_option(const char *program, const char *word, const char *value,
                                      sl_open_options *open)
{
    static const char *const devices[] = {"cpu", "cuda", NULL};
    static const char *const precisions[] = {"fp32", "tf32", "bf16", NULL};
    int index;
    if (strcmp(word, "--exact") == 0) return open->exact = true, 1;
    if (!value) return 0;
    if (strcmp(word, "--threads") == 0)
        return open->threads = (int)bench_number(program, word, value, 1, 1024), 2;
    if (strcmp(word, "--device") == 0 && bench_choice(value, devices, &index))
        return open->device = index ? SL_CUDA : SL_CPU, 2;
    if (strcmp(word, "--precision") == 0 && bench_choice(value, precisions, &index))
        return open->precision = (sl_precision)index, 2;
    return 0;
}

/* Reads the command line; ends the program with the usage where it does not fit. The table ends with a row
 * without a name. `open`: of the options of a device, NULL for a program without. */
static inline void bench_options(const char *program, int argc, char **argv, sl_open_options *open,
                                 const bench_option *options)
{
    if (open && open->device == SL_AUTO) open->device = SL_CPU;
    for (int i = 1; i < argc;) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        const int taken = open ? bench_device_option(program, word, value, open) : 0;
        i += taken;
        if (taken) continue;
        const bench_option *o = options;
        while (o->name && strcmp(o->name, word) != 0 && (*o->name || word[0] == '-')) o++;
        if (!o->name || (*o->name && !o->flag && !value)) bench_usage(program, options, open != NULL);
        if (!*o->name) value = word;
        if (o->flag)
            *o->flag = true;
        else if (o->number)
            *o->number = (int)bench_number(program, word, value, o->least, o->most);
        else if (o->count)
            *o->count = bench_number(program, word, value, o->least, o->most);
        else
            *o->text = value;
        i += *o->name && !o->flag ? 2 : 1;
    }
}
#endif
