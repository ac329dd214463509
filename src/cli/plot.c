/* slope plot: value and slope of activations as pictures or as numbers. */
#define _GNU_SOURCE
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "curves.h"

static bool read_range(const cli_options *o, double *low, double *high)
{
    char rest = 0;
    if (sscanf(o->range, "%lf:%lf%c", low, high, &rest) == 2 && isfinite(*low) && isfinite(*high) &&
        *low < *high && fabs(*low) <= 1e9 && fabs(*high) <= 1e9 && *high - *low >= 1e-6)
        return true;
    cli_fail(o, CLI_USAGE, "--range is '%s'; it must be two numbers, the smaller one first, such as -6:6",
             o->range);
    return false;
}

static bool sample(const cli_options *o, sl_context *ctx, char **names, int n, cli_curve *curves)
{
    double low, high;
    if (!read_range(o, &low, &high)) return false;
    for (int i = 0; i < n; i++) {
        const sl_activation activation = sl_activation_parse(ctx, names[i]);
        if (sl_error(ctx)) return cli_fail_context(o, ctx, true), false;
        if (!cli_curve_sample(o, names[i], activation, low, high, &curves[i])) return false;
    }
    return true;
}

/* The path without its ending, behind it "-1-relu" where i >= 0, then the ending. To be freed. */
static char *path_of(const char *path, const char *ending, const char *name, int i)
{
    char *out = NULL, word[32] = "";
    const int stem = (int)(strlen(path) - strlen(strrchr(path, '.')));
    if (i < 0) return asprintf(&out, "%.*s%s", stem, path, ending) < 0 ? NULL : out;
    size_t used = 0;
    for (; *name && used < sizeof word - 1; name++)
        if (isalnum((unsigned char)*name))
            word[used++] = *name;
        else if (used && word[used - 1] != '_')
            word[used++] = '_';
    while (used && word[used - 1] == '_') used--;
    return asprintf(&out, "%.*s-%d-%.*s%s", stem, path, i + 1, (int)used, word, ending) < 0 ? NULL : out;
}

static bool draw(const cli_options *o, const char *path, const cli_curve *curves, int n)
{
    cli_picture picture;
    const bool good = cli_curve_sheet(o, curves, n, &picture) && cli_picture_write(o, &picture, path);
    cli_picture_free(&picture);
    return good;
}

static bool write_numbers(const cli_options *o, const char *path, const cli_curve *curves, int n)
{
    cli_memory csv;
    if (!cli_memory_open(o, &csv)) return false;
    cli_curve_csv(csv.file, curves, n);
    const bool good = cli_memory_close(o, &csv) && cli_write_file(o, path, csv.bytes, csv.size);
    cli_memory_free(&csv);
    return good;
}

/* One sheet, or one for each. */
static bool write_all(const cli_options *o, const char *out, const char *ending, const cli_curve *curves,
                      int n)
{
    const bool numbers = strcmp(ending, ".csv") == 0;
    bool good = true;
    for (int i = 0; i < (o->each ? n : 1) && good; i++) {
        char *path = path_of(out, ending, curves[i].name, o->each ? i : -1);
        if (!path) return cli_fail(o, CLI_FAILURE, "out of memory"), false;
        good = (numbers ? write_numbers : draw)(o, path, &curves[i], o->each ? 1 : n);
        if (good) puts(path);
        free(path);
    }
    return good;
}

int cli_plot(cli_options *o)
{
    static char *published[] = {"sigmoid", "tanh", "relu", "leaky_relu", "swish"};
    static const char *const endings[] = {".svg", ".png", ".csv"};
    char **names = o->n_words ? o->words : published;
    const int n = o->n_words ? o->n_words : 5;
    const char *out = o->out ? o->out : "slope-plot.svg", *ending = NULL;
    for (int i = 0; i < 3; i++)
        if (cli_ends_with(out, endings[i])) ending = endings[i];
    if (!ending) return cli_fail(o, CLI_USAGE, "--out is '%s'; the name must end in .svg, .png or .csv", out);

    int status = CLI_FAILURE;
    sl_context *ctx = cli_open_plain(o, 1, &status);
    if (!ctx) return status;
    cli_curve *curves = calloc((size_t)n, sizeof *curves);
    if (!curves)
        cli_fail(o, CLI_FAILURE, "out of memory");
    else if (!sample(o, ctx, names, n, curves))
        status = CLI_USAGE;
    else if (strcmp(ending, ".csv") == 0 || cli_gnuplot_found())
        status = write_all(o, out, ending, curves, n) ? CLI_SUCCESS : CLI_FAILURE;
    else {
        /* What can be done without it; a failure only where a picture was asked for by name. */
        cli_fail(o, CLI_FAILURE, CLI_NO_GNUPLOT ": the numbers are written, no picture");
        status = write_all(o, out, ".csv", curves, n) && !o->out ? CLI_SUCCESS : CLI_FAILURE;
    }
    cli_curves_free(curves, n);
    sl_close(ctx);
    return status;
}
