/* The report's pictures of accuracy and loss. */
#define _GNU_SOURCE
#include <math.h>
#include <stddef.h>

#include "report.h"

/* --- axes --- */

/* 0.001 … 1000 as they are, beyond that 10⁻⁴ */
static cli_text label(double at, int power, bool far)
{
    static const char *const raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    cli_text out;
    const int size = power < 0 ? -power : power;
    if (far && size > 3)
        snprintf(out.text, sizeof out.text, "10%s%s%s", power < 0 ? "⁻" : "",
                 size > 9 ? raised[size / 10 % 10] : "", raised[size % 10]);
    else
        snprintf(out.text, sizeof out.text, "%.6g", at);
    return out;
}

void cli_log_axis(FILE *script, char axis, double low, double high)
{
    static const double few[] = {1}, some[] = {1, 2, 5}, many[] = {1, 1.5, 2, 3, 4, 5, 7};
    if (!(low > 0 && high >= low && high < 1e300)) low = 0.1, high = 1;
    low /= 1.15;
    high *= 1.15;
    const double decades = log10(high / low);
    const double *steps = decades > 3 ? few : decades > 1 ? some : many;
    const int n = decades > 3 ? 1 : decades > 1 ? 3 : 7, skip = decades > 8 ? (int)(decades / 6) : 1;
    fprintf(script, "set logscale %c\nset %crange [%.6g:%.6g]\nunset m%ctics\nset %ctics (", axis, axis, low,
            high, axis, axis);
    const char *between = "";
    for (int power = (int)floor(log10(low)); power <= (int)ceil(log10(high)); power++)
        for (int i = 0; i < n; i++) {
            const double at = steps[i] * pow(10, power);
            if (at < low || at > high || (n == 1 && power % skip)) continue;
            fprintf(script, "%s'%s' %.6g", between, label(at, power, decades > 3).text, at);
            between = ", ";
        }
    fputs(")\n", script);
}

static void epoch_axis(FILE *script, int epochs)
{
    const int step = epochs <= 10 ? 1 : epochs <= 25 ? 5 : epochs <= 60 ? 10 : 0;
    fprintf(script, "set xlabel 'epoch'\nset xrange [%g:%g]\n", 1 - 0.02 * epochs, epochs + 0.02 * epochs);
    if (step == 1)
        fputs("set xtics 1\n", script);
    else if (step)
        fprintf(script, "set xtics (1, %d", step);
    for (int at = 2 * step; step > 1 && at <= epochs; at += step) fprintf(script, ", %d", at);
    if (step > 1) fputs(")\n", script);
}

/* --- curves over the epochs --- */

typedef struct quantity {
    const char *stem, *title, *axis;
    size_t member;
    bool error; /* drawn as 100 % - accuracy */
} quantity;

static const quantity quantities[] = {
    {"validation-error", "Validation error", "validation error (%)", offsetof(cli_point, validation_accuracy),
     true},
    {"training-error", "Training error", "training error (%)", offsetof(cli_point, train_accuracy), true},
    {"validation-loss", "Validation loss", "validation loss (nats)", offsetof(cli_point, validation_loss),
     false},
    {"training-loss", "Training loss", "training loss (nats)", offsetof(cli_point, train_loss), false},
};

/* As it is drawn: positive, the lowest and highest exchanged for an error. */
static cli_spread drawn(cli_spread s, bool error)
{
    if (!error) return s;
    const double lowest = s.lowest;
    s.mean = 100 * (1 - s.mean);
    s.lowest = 100 * (1 - s.highest);
    s.highest = 100 * (1 - lowest);
    s.deviation *= 100;
    return s;
}

static void widen(double *low, double *high, double value)
{
    if (!(value > 0) || !isfinite(value)) return;
    *low = fmin(*low, value);
    *high = fmax(*high, value);
}

/* One range for training and validation and for all groups, so that pictures can be compared. */
static void common_range(const cli_comparison *c, bool error, double *low, double *high)
{
    *low = INFINITY;
    *high = 0;
    for (int q = 0; q < 4; q++)
        for (int group = 0; group < c->n_groups && quantities[q].error == error; group++)
            for (int a = 0; a < c->n_activations; a++)
                for (int epoch = 0; epoch < c->epochs; epoch++) {
                    const cli_spread s =
                        drawn(cli_epoch_summary(c, group, a, epoch, quantities[q].member), error);
                    widen(low, high, s.lowest);
                    widen(low, high, s.highest);
                }
    if (error && *low < 0.001) *low = 0.001;
}

static int epochs_of(const cli_comparison *c, int group)
{
    int epochs = 1;
    for (int i = 0; i < c->n_runs; i++)
        if (c->runs[i].group == group && c->runs[i].n_epochs > epochs) epochs = c->runs[i].n_epochs;
    return epochs;
}

static void curve(cli_report *r, int group, const quantity *q)
{
    const cli_comparison *c = r->c;
    const int epochs = epochs_of(c, group);
    cli_picture p;
    double low, high;
    if (!cli_report_open(r, &p, true)) return;
    FILE *script = p.script.file;
    common_range(c, q->error, &low, &high);
    for (int a = 0; a < c->n_activations; a++) {
        fprintf(script, "$run%d << END\n", a);
        for (int epoch = 0; epoch < epochs; epoch++) {
            const cli_spread s = drawn(cli_epoch_summary(c, group, a, epoch, q->member), q->error);
            /* An error of 0 lies on the edge. */
            if (s.count)
                fprintf(script, "%d %.9g %.9g %.9g\n", epoch + 1, fmax(s.mean, low / 1.15),
                        fmax(s.lowest, low / 1.15), fmax(s.highest, low / 1.15));
        }
        fputs("NaN NaN NaN NaN\nEND\n", script);
    }
    epoch_axis(script, epochs);
    cli_log_axis(script, 'y', low, high);
    fprintf(script, "set ylabel '%s'\nplot", q->axis);
    for (int a = 0; a < c->n_activations && c->n_seeds > 1; a++)
        fprintf(script,
                " $run%d using 1:3:4 with filledcurves lc rgb '%s' fs transparent solid 0.18 noborder "
                "notitle, \\\n",
                a, cli_colour(a));
    for (int a = 0; a < c->n_activations; a++) {
        fprintf(script, "%s $run%d using 1:2 with linespoints lw 2 ps 0.6 pi %d", a ? ", \\\n" : "", a,
                (epochs + 9) / 10);
        cli_line_style(script, a);
        cli_mark_style(script, a);
        cli_report_key(r, script, a);
    }
    fputc('\n', script);
    char caption[160];
    snprintf(caption, sizeof caption, "%s by epoch, on a logarithmic axis%s%s.",
             q->error ? "100 % − accuracy" : "Mean cross-entropy of an image, without penalties",
             c->n_seeds > 1 ? ": mean" : "", cli_report_seeds(r).text);
    cli_report_figure(r, &p, q->stem, group, q->title, caption);
}

void cli_report_curves(cli_report *r, int group)
{
    for (int q = 0; q < 4; q++) curve(r, group, &quantities[q]);
}

/* --- cost --- */

static double or_zero(double value)
{
    return isnan(value) ? 0 : value;
}

void cli_report_cost(cli_report *r, int group)
{
    const cli_comparison *c = r->c;
    cli_picture p;
    double left = INFINITY, right = 0, low = INFINITY, high = 0;
    if (!cli_report_open(r, &p, true)) return;
    FILE *script = p.script.file;
    for (int a = 0; a < c->n_activations; a++) {
        const cli_spread x = cli_summary(c, group, a, CLI_MEASURE_SECONDS);
        const cli_spread y = drawn(cli_summary(c, group, a, CLI_MEASURE_VALIDATION_ACCURACY), true);
        fprintf(script, "$cost%d << END\n", a);
        if (x.count && y.count)
            fprintf(script, "%.9g %.9g %.9g %.9g\n", x.mean, y.mean, or_zero(x.deviation),
                    or_zero(y.deviation));
        else
            fputs("NaN NaN NaN NaN\n", script);
        fputs("END\n", script);
        if (!x.count || !y.count) continue;
        widen(&left, &right, x.mean - or_zero(x.deviation));
        widen(&left, &right, x.mean + or_zero(x.deviation));
        widen(&low, &high, y.mean - or_zero(y.deviation));
        widen(&low, &high, y.mean + or_zero(y.deviation));
    }
    if (!(right > 0)) left = 0, right = 1;
    if (!(high > 0)) low = 0.1, high = 1;
    const double margin = 0.1 * (right - left) + 0.02 * right;
    fprintf(script, "set xlabel 'training time of an epoch (s)'\nset xrange [%.6g:%.6g]\n",
            fmax(0, left - margin), right + margin);
    if (high > 5 * low)
        cli_log_axis(script, 'y', low, high);
    else
        fprintf(script, "set yrange [%.6g:%.6g]\n", fmax(0, low - 0.15 * (high - low) - 0.02 * high),
                high + 0.15 * (high - low) + 0.02 * high);
    fputs("set ylabel 'final validation error (%)'\nset bars 0.6\nplot", script);
    for (int a = 0; a < c->n_activations; a++) {
        fprintf(script, "%s $cost%d with xyerrorbars lw 1.5 ps 0.9 lc rgb '%s'", a ? ", \\\n" : "", a,
                cli_colour(a));
        cli_mark_style(script, a);
        cli_report_key(r, script, a);
    }
    fputc('\n', script);
    cli_report_figure(r, &p, "cost", group, "Cost against accuracy",
                      c->n_seeds > 1
                          ? "Down is better, left is faster. Mean over the seeds; bars are one standard "
                            "deviation to each side. The time is the median epoch's training pass alone."
                          : "Down is better, left is faster. One seed. The time is the median epoch's "
                            "training pass alone.");
}

/* --- groups side by side --- */

/* Those of `value` (with --depth and --vary; -1: all). */
static bool belongs(const cli_comparison *c, int group, int value)
{
    return value < 0 || strcmp(c->values[group], c->values[value]) == 0;
}

static void group_picture(cli_report *r, int value, const char *stem, const char *title)
{
    const cli_comparison *c = r->c;
    const bool by_depth = cli_by_depth(c) && (value >= 0 || !c->values);
    cli_picture p;
    double low = INFINITY, high = 0;
    if (!cli_report_open(r, &p, true)) return;
    FILE *script = p.script.file;
    int places = 0, longest = 0;
    for (int a = 0; a < c->n_activations; a++) {
        fprintf(script, "$group%d << END\n", a);
        places = 0;
        for (int g = 0; g < c->n_groups; g++) {
            const cli_spread s = drawn(cli_summary(c, g, a, CLI_MEASURE_VALIDATION_ACCURACY), true);
            widen(&low, &high, s.lowest); /* of all, so that pictures can be compared */
            widen(&low, &high, s.highest);
            if (!belongs(c, g, value)) continue;
            /* Side by side where they would lie upon each other. */
            const double place = places++ + (a - (c->n_activations - 1) / 2.0) * 0.2 / c->n_activations;
            if (!s.count) {
                fprintf(script, "%g NaN NaN NaN\n", place);
                continue;
            }
            fprintf(script, "%g %.9g %.9g %.9g\n", place, fmax(s.mean, 1e-3), fmax(s.lowest, 1e-3),
                    fmax(s.highest, 1e-3));
        }
        fputs("END\n", script);
    }
    fputs("set xtics (", script);
    int place = 0;
    for (int g = 0; g < c->n_groups; g++) {
        if (!belongs(c, g, value)) continue;
        char depth[16];
        if (by_depth) snprintf(depth, sizeof depth, "%d", c->depths[g]);
        const cli_text label = cli_label(by_depth ? depth : c->groups[g], g);
        if ((int)strlen(label.text) > longest) longest = (int)strlen(label.text);
        if (place) fputs(", ", script);
        cli_quote(script, label.text);
        fprintf(script, " %d", place++);
    }
    fputs(")\n", script);
    if (places * longest > 44) fputs("set xtics rotate by 35 right\n", script);
    fputs("set xlabel ", script);
    cli_quote(script, by_depth ? "depth (hidden layers)" : c->vary);
    fprintf(script, "\nset xrange [-0.5:%g]\nset ylabel 'final validation error (%%)'\nset bars 0.5\n",
            places - 0.5);
    cli_log_axis(script, 'y', low, high);
    fputs("plot", script);
    for (int a = 0; a < c->n_activations; a++) {
        if (c->n_seeds > 1)
            fprintf(script,
                    "%s $group%d using 1:2:3:4 with yerrorbars lw 1.2 pt -1 lc rgb '%s' notitle, \\\n",
                    a ? ", \\\n" : "", a, cli_colour(a));
        else if (a)
            fputs(", \\\n", script);
        fprintf(script, " $group%d using 1:2 with linespoints lw 1.5 ps 0.8", a);
        cli_line_style(script, a);
        cli_mark_style(script, a);
        cli_report_key(r, script, a);
    }
    fputc('\n', script);
    char caption[200];
    snprintf(caption, sizeof caption, "Final validation error%s. Points are set side by side.%s",
             c->n_seeds > 1 ? ", mean; bars from the lowest to the highest seed" : ", one seed",
             high > 80 ? " A network that guesses is wrong in 90 %." : "");
    cli_report_figure(r, &p, stem, -1, title, caption);
}

void cli_report_groups(cli_report *r)
{
    const cli_comparison *c = r->c;
    char stem[32], title[160];
    if (!cli_by_depth(c) || !c->values) {
        snprintf(title, sizeof title, "Validation error and %.100s", cli_by_depth(c) ? "depth" : c->vary);
        group_picture(r, -1, "groups", title);
        return;
    }
    for (int g = 0; g < c->n_groups; g++) {
        int first = 0;
        while (!belongs(c, first, g)) first++;
        if (first != g) continue;
        snprintf(stem, sizeof stem, "groups-%d", g + 1);
        snprintf(title, sizeof title, "Validation error and depth, %.60s %.60s", c->option, c->values[g]);
        group_picture(r, g, stem, title);
    }
}
