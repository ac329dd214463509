/* A card as Markdown. What differs from run to run stands in the last part alone, with the machine and the
 * date. */
#define _DEFAULT_SOURCE
#include <ctype.h>
#include <math.h>
#include <time.h>

#include "card.h"

/* --- the row's own text --- */

typedef struct row_text {
    const char *name, *parameters[2][3], *reads, *value, *slope;
} row_text;

#define TEXT_(...) #__VA_ARGS__
#define TEXT(...)  TEXT_(__VA_ARGS__)
#define R(number)  number
#define IN_TWO(first, second)                                                                                \
    e = first;                                                                                               \
    second
#define NO_PARAMETER                                                                                         \
    {                                                                                                        \
        {                                                                                                    \
            NULL                                                                                             \
        }                                                                                                    \
    }
#define PARAMETER(name, standard, how, lowest)                                                               \
    {                                                                                                        \
        {                                                                                                    \
#            name, TEXT(standard), TEXT(how)                                                                 \
        }                                                                                                    \
    }
#define TWO_PARAMETERS(a, start_a, how_a, lowest_a, b, start_b, how_b, lowest_b)                             \
    {                                                                                                        \
        {#a, TEXT(start_a), TEXT(how_a)},                                                                    \
        {                                                                                                    \
#            b, TEXT(start_b), TEXT(how_b)                                                                   \
        }                                                                                                    \
    }
#define FIXED     fixed
#define LEARNABLE fixed, can be learned
#define LEARNED   learned
#define READS_X   x
#define READS_Y   y
#define READS_NOTHING
// clang-format off
static const row_text rows[] = {
#define ACTIVATION(id, name, parameters, reads, value, slope, slope_a, kinks) \
    {name, parameters, TEXT(reads), TEXT(value), TEXT(slope)},
#include <slope/activations.def>
#undef ACTIVATION
};
// clang-format on

/* The r_ of the library's functions says which set of numbers they are compiled for: here it says nothing. */
static void print_formula(FILE *page, const char *text)
{
    for (const char *at = text; *at; at++) {
        const bool word = at > text && (isalnum((unsigned char)at[-1]) || at[-1] == '_');
        if (!word && at[0] == 'r' && at[1] == '_') at += 2;
        fputc(*at, page);
    }
    fputc('\n', page);
}

static void write_formula(const card *c, FILE *page)
{
    fputs("```\n", page);
    if (c->activation.row >= SL_ACTIVATION_COUNT) {
        fprintf(page, "%s\n```\n\nAn expression; its slope is derived symbolically.\n", c->name);
        return;
    }
    const row_text *row = &rows[c->activation.row];
    fputs("value  ", page);
    print_formula(page, row->value);
    fputs("slope  ", page);
    print_formula(page, row->slope);
    fputs("```\n\n", page);
    if (*row->reads)
        fprintf(page, "The slope is computed from %s.\n",
                *row->reads == 'x' ? "x, which is kept for it" : "y, the value; x need not be kept");
    if (row->parameters[0][0]) fputs("\n| parameter | default | |\n|---|---|---|\n", page);
    for (int i = 0; i < 2 && row->parameters[i][0]; i++)
        fprintf(page, "| %s (%c) | %s | %s |\n", row->parameters[i][0], 'a' + i, row->parameters[i][1],
                row->parameters[i][2]);
}

/* --- numbers --- */

static const char *text_of(char *text, double x, int digits)
{
    if (isnan(x))
        strcpy(text, "–");
    else if (isinf(x))
        strcpy(text, x > 0 ? "∞" : "−∞");
    else
        snprintf(text, 32, "%.*g", digits, x + 0.0);
    return text;
}

/* A cell of a table. */
static void cell(FILE *page, double x, int digits)
{
    char text[32];
    fprintf(page, " %s |", text_of(text, x, digits));
}

static void spread_cell(FILE *page, cli_spread s, double scale, const char *unit)
{
    if (s.count == 0)
        fputs(" – |", page);
    else if (s.count == 1)
        fprintf(page, " %.*f%s |", scale > 1 ? 2 : 4, scale * s.mean, unit);
    else
        fprintf(page, " %.*f ± %.*f%s |", scale > 1 ? 2 : 4, scale * s.mean, scale > 1 ? 2 : 4,
                scale * s.deviation, unit);
}

static void write_numbers(const card *c, FILE *page)
{
    static const char *const names[] = {"value", "slope"};
    char a[32], b[32], d[32];
    fputs("\n## Limits and range\n\n| | x = −∞ | x = 0 | x = ∞ | lowest | highest "
          "|\n|---|---|---|---|---|---|\n",
          page);
    for (int which = 0; which < 2; which++) {
        fprintf(page, "| %s |", names[which]);
        cell(page, c->limit[which][0], 6);
        cell(page, c->origin[which], 6);
        cell(page, c->limit[which][1], 6);
        for (int k = 0; k < 2; k++) {
            const card_extreme *e = &c->extreme[which][k];
            if (isfinite(e->at) && !isnan(e->value) && e->value != c->limit[which][0] &&
                e->value != c->limit[which][1])
                fprintf(page, " %s at x = %s |", text_of(a, e->value, 6), text_of(b, e->at, 4));
            else
                cell(page, e->value, 6);
        }
        fputc('\n', page);
    }
    if (!c->n_kinks) fputs("\nValue and slope have no jump between −6 and 6.\n", page);
    for (int i = 0; i < c->n_kinks; i++) {
        const card_kink *k = &c->kinks[i];
        const bool jump = fabs(k->value[1] - k->value[0]) > 1e-6;
        fprintf(page, "%sAt x = %s the %s jumps from %s to %s.\n", i ? "" : "\n", text_of(a, k->x, 6),
                jump ? "value" : "slope", text_of(b, jump ? k->value[0] : k->slope[0], 4),
                text_of(d, jump ? k->value[1] : k->slope[1], 4));
    }
}

static void write_start(const card *c, FILE *page)
{
    fputs("\n## At the start of training\n\nFor a normal x (mean 0, variance 1):\n\n"
          "| mean of f | mean of f² | mean of f′² | gain 1/√(mean f²) | default initialiser "
          "|\n|---|---|---|---|---|\n|",
          page);
    cell(page, c->mean, 4);
    cell(page, c->square, 4);
    cell(page, c->slope_square, 4);
    cell(page, c->gain, 5);
    fputs(c->uniform ? " Xavier |\n" : " normal, variance gain²/fan_in |\n", page);
    fputs("\nPlain networks of 128 units a layer with these first values, 256 inputs of variance 1, ten "
          "classes.\n\n"
          "| hidden layers | root mean square of the last | … what differs between inputs | gradient norm, "
          "first | last "
          "| first / last |\n|---|---|---|---|---|---|\n",
          page);
    for (int i = 0; i < CARD_DEPTHS; i++) {
        const card_flow *f = &c->flow[i];
        fprintf(page, "| %d |", f->depth);
        cell(page, f->rms, 3);
        cell(page, f->deviation, 3);
        cell(page, f->first, 3);
        cell(page, f->last, 3);
        cell(page, f->last > 0 ? f->first / f->last : (double)NAN, 3);
        fputc('\n', page);
    }
    if (c->flow[0].first == 0) fputs("\nIts slope is 0 everywhere: no gradient passes.\n", page);
}

static void write_accuracy(const card *c, FILE *page)
{
    char a[32], b[32];
    fprintf(
        page,
        "\n## float32\n\nAgainst double precision, at %s floats of all sizes (every 4111th of the 2³²):\n\n",
        cli_count(c->swept).text);
    fprintf(page, "- value: %s ulp at x = %s\n", text_of(a, c->ulp.value, 3), text_of(b, c->ulp.at, 7));
    if (c->beyond.value > 0)
        fprintf(page, "- where the value is more than 4 ulp off: %s absolute, at x = %s\n",
                text_of(a, c->beyond.value, 3), text_of(b, c->beyond.at, 7));
    fprintf(page, "- slope, as training computes it: |error| / max(1, |slope|) %s",
            text_of(a, c->slope_error.value, 3));
    if (c->slope_error.value > 0) fprintf(page, ", at x = %s", text_of(b, c->slope_error.at, 7));
    fputc('\n', page);
}

static void write_trained(const card *c, FILE *page)
{
    if (!c->n_trained) return;
    fprintf(page, "\n## Trained\n\n%s\n\n| activation | accuracy | loss |%s\n|---|---|---|%s\n",
            c->trained_how, c->bench || c->options->from ? " seconds an epoch |" : "",
            c->bench || c->options->from ? "---|" : "");
    for (int i = 0; i < c->n_trained; i++) {
        const card_trained *t = &c->trained[i];
        fprintf(page, t->own ? "| **`%s`** |" : "| `%s` |", t->name);
        spread_cell(page, t->accuracy, 100, " %");
        spread_cell(page, t->loss, 1, "");
        if (c->bench || c->options->from) cell(page, t->seconds, 3);
        fputc('\n', page);
    }
    fprintf(page, "\nMean ± standard deviation over the seeds (%d).\n", c->trained[0].accuracy.count);
}

/* --- speed --- */

static void write_rate(const card *c, FILE *page, const char *what, const char *form, const char *apart)
{
    const bench_figure *f = bench_find(c->bench, "activations", c->bench_row, form),
                       *two = apart ? bench_find(c->bench, "activations", c->bench_row, apart) : NULL;
    if (!f || !f->n) return;
    const double s = median_of(f->seconds, f->n);
    fprintf(page, "| %s | %.1f | %.0f %% |", what, f->bytes / s * 1e-9, 100 * median_of(f->share, f->n));
    if (two && two->n)
        fprintf(page, " %.2f |", median_of(two->seconds, two->n) / s);
    else
        fputs(" |", page);
    fprintf(page, " %.0f %% |\n",
            100 * (quantile_of(f->seconds, f->n, 0.75) - quantile_of(f->seconds, f->n, 0.25)) / s);
}

static void write_speed(const card *c, FILE *page)
{
    char date[32], cpu[128];
    const time_t now = time(NULL);
    const bench_results *r = &c->bench->results;
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    fprintf(
        page,
        "\n## Speed\n\nMeasured on %s: %s, %s, load %.2f before; %s numbers; a copy in the same rounds: %.1f "
        "GB/s.%s\n\n| | GB/s | of the copy | times as fast as call by call | spread "
        "|\n|---|---|---|---|---|\n",
        date, bench_processor(cpu, sizeof cpu), sl_device_description(c->bench->ctx), c->bench->load,
        cli_count(c->bench->elements).text, r->n_copy ? 1e-9 * median_of(r->copy, r->n_copy) : 0,
        c->bench->simulated ? " **A simulated device: the times mean nothing.**" : "");
    write_rate(c, page, "value", "value", NULL);
    write_rate(c, page, "slope", "slope", NULL);
    write_rate(c, page, "bias + value, fused", "bias, value", "bias, value in two");
    write_rate(c, page, "slope + bias gradient, fused", "slope, bias gradient",
               "slope, bias gradient in two");
}

void card_write(const card *c, FILE *page, const char *picture)
{
    fprintf(page, "# `%s`\n\n", c->name);
    if (picture) fprintf(page, "![Value and slope of %s](%s)\n\n", c->name, picture);
    write_formula(c, page);
    write_numbers(c, page);
    write_start(c, page);
    write_accuracy(c, page);
    write_trained(c, page);
    if (c->bench) write_speed(c, page);
    fprintf(page, "\nMade by `slope card '%s'`, slope %s.\n", c->name, SLOPE_VERSION);
}
