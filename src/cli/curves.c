#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>

#include "curves.h"

enum { STEPS = 240, HALVINGS = 60 };

static double at(sl_activation activation, int which, double x)
{
    return which == CLI_VALUE ? sl_activation_value(activation, x) : sl_activation_slope(activation, x);
}

/* Halves the interval towards the larger part of its rise. What is left of the rise in the end is a jump;
 * then the interval's ends lie on its two sides. */
static bool find_jump(sl_activation activation, int which, double *low, double *high)
{
    double a = *low, b = *high, ya = at(activation, which, a), yb = at(activation, which, b);
    const double rise = fabs(yb - ya);
    if (!(rise > 1e-9 * (1 + fabs(ya)))) return false;
    for (int i = 0; i < HALVINGS; i++) {
        const double middle = a + (b - a) / 2, y = at(activation, which, middle);
        if (!(middle > a && middle < b) || !isfinite(y)) break;
        if (fabs(y - ya) > fabs(yb - y))
            b = middle, yb = y;
        else
            a = middle, ya = y;
    }
    *low = a;
    *high = b;
    return fabs(yb - ya) > rise / 4;
}

static void add(cli_curve *curve, sl_activation activation, double x)
{
    const double value = at(activation, CLI_VALUE, x);
    /* Where there is no value there is no slope: 1/x goes on where log(x) does not. */
    const double slope = isnan(value) ? value : at(activation, CLI_SLOPE, x);
    curve->samples[curve->n++] = (cli_sample){x, {value, slope}, {false, false}};
}

/* The samples of (low, high], where both ends are of the even grid. */
static void add_interval(cli_curve *curve, sl_activation activation, double low, double high)
{
    double a = low, b = high;
    bool value = find_jump(activation, CLI_VALUE, &a, &b);
    if (!value) a = low, b = high;
    const bool slope = value || find_jump(activation, CLI_SLOPE, &a, &b);
    if (slope) {
        if (a > low) add(curve, activation, a);
        add(curve, activation, b);
        const cli_sample *before = &curve->samples[curve->n - 2];
        cli_sample *s = &curve->samples[curve->n - 1];
        s->jump[CLI_VALUE] = value;
        s->jump[CLI_SLOPE] = !value || fabs(s->y[CLI_SLOPE] - before->y[CLI_SLOPE]) > 1e-6;
    }
    if (!slope || b < high) add(curve, activation, high);
}

bool cli_curve_sample(const cli_options *o, const char *name, sl_activation activation, double low,
                      double high, cli_curve *curve)
{
    *curve = (cli_curve){name, malloc((3 * STEPS + 1) * sizeof *curve->samples), 0};
    if (!curve->samples) return cli_fail(o, CLI_FAILURE, "out of memory"), false;
    add(curve, activation, low);
    for (int i = 0; i < STEPS; i++)
        add_interval(curve, activation, low + (high - low) * i / STEPS, low + (high - low) * (i + 1) / STEPS);
    return true;
}

void cli_curves_free(cli_curve *curves, int n)
{
    for (int i = 0; curves && i < n; i++) free(curves[i].samples);
    free(curves);
}

/* --- gnuplot --- */

void cli_curve_data(FILE *script, const cli_curve *curve, int i)
{
    fprintf(script, "$curve%d << END\n", i);
    for (int k = 0; k < curve->n; k++) {
        const cli_sample *s = &curve->samples[k];
        if (s->jump[CLI_VALUE] || s->jump[CLI_SLOPE])
            fprintf(script, "%.9g %.9g %.9g\n", s->x, s->jump[CLI_VALUE] ? (double)NAN : s->y[CLI_VALUE],
                    s->jump[CLI_SLOPE] ? (double)NAN : s->y[CLI_SLOPE]);
        fprintf(script, "%.9g %.9g %.9g\n", s->x, s->y[CLI_VALUE], s->y[CLI_SLOPE]);
    }
    fputs("END\n", script);
}

/* What is far outside of the range of x is cut off: next to exp(6) nothing else would be seen. */
static void y_range(FILE *script, const cli_curve *curves, int n, int which)
{
    const double limit =
        1.5 * fmax(1, fmax(fabs(curves[0].samples[0].x), fabs(curves[0].samples[curves[0].n - 1].x)));
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < curves[i].n; k++) {
            const double y = curves[i].samples[k].y[which];
            if (!isfinite(y)) continue;
            low = fmin(low, y);
            high = fmax(high, y);
        }
    if (!(low <= high)) low = high = 0;
    low = fmin(fmax(low, -limit), limit);
    high = fmin(fmax(high, -limit), limit);
    if (high - low < 0.1) low -= 0.5, high += 0.5;
    fprintf(script, "set yrange [%.9g:%.9g]\n", low - 0.05 * (high - low), high + 0.05 * (high - low));
}

void cli_curve_panel(FILE *script, const cli_curve *curves, int n, int which, bool keyed)
{
    fprintf(script, "set xrange [%.9g:%.9g]\n", curves[0].samples[0].x, curves[0].samples[curves[0].n - 1].x);
    y_range(script, curves, n, which);
    fprintf(script,
            "set xlabel 'x'\nset ylabel '%s'\n"
            "set xzeroaxis lc rgb '" CLI_INK "' lt 1 lw 0.75\nset yzeroaxis lc rgb '" CLI_INK
            "' lt 1 lw 0.75\nplot",
            which == CLI_VALUE ? "value f(x)" : "slope f′(x)");
    for (int i = 0; i < n; i++) {
        fprintf(script, "%s $curve%d using 1:%d with lines lw 2", i ? ", \\\n " : "", i, 2 + which);
        cli_line_style(script, i);
        if (keyed) {
            fputs(" title ", script);
            cli_quote(script, cli_label(curves[i].name, i).text);
        } else
            fputs(" notitle", script);
    }
    fputc('\n', script);
}

/* How many lines a key needs under a picture. */
static int key_rows(const cli_curve *curves, int n, int width)
{
    int longest = 1;
    for (int i = 0; i < n; i++) {
        const int letters = (int)strlen(cli_label(curves[i].name, i).text);
        if (letters > longest) longest = letters;
    }
    int columns = (width - 40) / (longest * 8 + 60);
    if (columns < 1) columns = 1;
    return (n + columns - 1) / columns;
}

bool cli_curve_sheet(const cli_options *o, const cli_curve *curves, int n, cli_picture *p)
{
    enum { WIDTH = 860, PANELS = 364, LINE = 20 };
    const int rows = key_rows(curves, n, WIDTH), height = PANELS + rows * LINE + 14;
    if (!cli_picture_open(o, p, WIDTH, height)) return false;
    FILE *script = p->script.file;
    for (int i = 0; i < n; i++) cli_curve_data(script, &curves[i], i);
    fputs("set multiplot\nset key off\n", script);
    for (int which = CLI_VALUE; which <= CLI_SLOPE; which++) {
        fprintf(script, "set lmargin at screen %g\nset rmargin at screen %g\n", 0.075 + 0.5 * which,
                0.48 + 0.5 * which);
        fprintf(script, "set tmargin at screen %g\nset bmargin at screen %g\n", 1 - 16.0 / height,
                1 - (PANELS - 54.0) / height);
        cli_curve_panel(script, curves, n, which, false);
    }
    /* The key is a plot of nothing under the two. */
    fprintf(
        script,
        "unset border\nunset tics\nunset grid\nunset xlabel\nunset ylabel\nunset xzeroaxis\nunset yzeroaxis\n"
        "set lmargin at screen 0.02\nset rmargin at screen 0.98\nset tmargin at screen %g\n"
        "set bmargin at screen 0.01\nset key inside center center horizontal\nset xrange [0:1]\n"
        "set yrange [0:1]\nplot",
        1 - (double)PANELS / height);
    for (int i = 0; i < n; i++) {
        fprintf(script, "%s NaN with lines lw 2", i ? ", \\\n " : "");
        cli_line_style(script, i);
        fputs(" title ", script);
        cli_quote(script, cli_label(curves[i].name, i).text);
    }
    fputs("\nunset multiplot\n", script);
    return true;
}

/* --- CSV --- */

void cli_curve_csv(FILE *csv, const cli_curve *curves, int n)
{
    fputs("activation,x,value,slope\n", csv);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < curves[i].n; k++) {
            const cli_sample *s = &curves[i].samples[k];
            cli_csv_text(csv, curves[i].name);
            fprintf(csv, ",%.17g,%.17g,%.17g\n", s->x, s->y[CLI_VALUE], s->y[CLI_SLOPE]);
        }
}
