/* The report's pictures of what happens in the layers. */
#define _GNU_SOURCE
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "report.h"

typedef enum moment { START, FIRST, LAST } moment;

typedef struct view {
    const char *stem, *title, *axis;
    size_t member; /* of cli_layer */
    bool is_activation, logarithm;
    moment when;
    const char *caption;
} view;

/* Row number `layer` of the kind that is looked at, NULL past the last. */
static const cli_layer *row_of(const cli_series *run, const view *v, int layer)
{
    const cli_point *epoch = run->n_epochs ? &run->epochs[v->when == LAST ? run->n_epochs - 1 : 0] : NULL;
    const cli_layer *rows = v->when == START ? run->start : epoch ? epoch->layers : NULL;
    const int n = v->when == START ? run->n_start : epoch ? epoch->n_layers : 0;
    for (int i = 0; i < n; i++)
        if (rows[i].is_activation == v->is_activation && layer-- == 0) return &rows[i];
    return NULL;
}

/* Over the seeds; of logarithms to base 10 where the view says so (a gradient of 0 is left out). */
static cli_spread at(const cli_comparison *c, int group, int activation, const view *v, int layer)
{
    double *values = malloc((size_t)(c->n_seeds ? c->n_seeds : 1) * sizeof *values);
    int n = 0;
    for (int seed = 0; values && seed < c->n_seeds; seed++) {
        const cli_series *run = cli_comparison_run(c, group, activation, seed);
        const cli_layer *row = run ? row_of(run, v, layer) : NULL;
        double value = (double)NAN;
        if (row) memcpy(&value, (const char *)row + v->member, sizeof value);
        if (v->logarithm) value = value > 0 && isfinite(value) ? log10(value) : (double)NAN;
        values[n++] = value;
    }
    const cli_spread s = cli_spread_of(values, n);
    free(values);
    return s;
}

static int layers_of(const cli_comparison *c, int group, const view *v)
{
    int most = 0;
    for (int i = 0; i < c->n_runs; i++)
        while (c->runs[i].group == group && row_of(&c->runs[i], v, most)) most++;
    return most;
}

static bool range_of(const cli_comparison *c, int group, const view *v, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (int a = 0; a < c->n_activations; a++)
        for (int layer = 0; layer < layers_of(c, group, v); layer++) {
            const cli_spread s = at(c, group, a, v, layer);
            if (s.count == 0) continue;
            *low = fmin(*low, s.lowest);
            *high = fmax(*high, s.highest);
        }
    return *low <= *high;
}

/* --- maps: activations by layers --- */

/* "conv1" for conv1.weight, "1" for the first activation. */
static cli_text layer_name(const cli_comparison *c, int group, const view *v, int layer)
{
    cli_text out = {""};
    snprintf(out.text, sizeof out.text, "%d", layer + 1);
    for (int i = 0; i < c->n_runs && !v->is_activation; i++) {
        const cli_layer *row = c->runs[i].group == group ? row_of(&c->runs[i], v, layer) : NULL;
        if (row)
            return snprintf(out.text, sizeof out.text, "%.*s", (int)strcspn(row->name, "."), row->name), out;
    }
    return out;
}

/* Cells, and their numbers in black or white, whichever can be read on the colour. */
static void map_data(const cli_comparison *c, FILE *script, int group, const view *v, int layers, double low,
                     double high)
{
    static const char *const blocks[] = {"cells", "bright", "dark"};
    for (int block = 0; block < 3; block++) {
        fprintf(script, "$%s << END\n", blocks[block]);
        for (int a = 0; a < c->n_activations; a++)
            for (int layer = 0; layer < layers; layer++) {
                const cli_spread s = at(c, group, a, v, layer);
                const bool bright = s.count && s.mean > low + 0.6 * (high - low);
                if (s.count && (block == 0 || bright == (block == 1)))
                    fprintf(script, "%d %d %.4g %.*f\n", layer, a, s.mean, v->logarithm ? 1 : 2, s.mean);
            }
        fputs("-9 -9 0 0\nEND\n", script); /* outside: gnuplot 5.4 crashes on labels that are all undefined */
    }
}

static void map(cli_report *r, int group, const view *v, double low, double high)
{
    const cli_comparison *c = r->c;
    const int layers = layers_of(c, group, v);
    cli_picture p;
    if (!cli_report_open(r, &p, false)) return;
    p.height = 130 + 26 * c->n_activations;
    if (p.height < 230) p.height = 230;
    FILE *script = p.script.file;
    map_data(c, script, group, v, layers, low, high);
    fputs(
        "set key off\nunset grid\nunset border\nset tics scale 0\nset cbtics scale 0\n"
        "set palette defined (0 '#440154', 1 '#472c7a', 2 '#3b518b', 3 '#2c718e', 4 '#21908d', 5 '#27ad81', "
        "6 '#5cc863', 7 '#aadc32', 8 '#fde725')\n",
        script);
    fprintf(script, "set cbrange [%.6g:%.6g]\nset xrange [-0.5:%g]\nset yrange [%g:-0.5]\nset xtics (", low,
            high, layers - 0.5, c->n_activations - 0.5);
    for (int layer = 0; layer < layers; layer++) {
        if (layer) fputs(", ", script);
        cli_quote(script, layer_name(c, group, v, layer).text);
        fprintf(script, " %d", layer);
    }
    fputs(")\nset ytics (", script);
    for (int a = 0; a < c->n_activations; a++) {
        if (a) fputs(", ", script);
        cli_quote(script, cli_label(c->activations[a], a).text);
        fprintf(script, " %d", a);
    }
    fprintf(script, ")\nset xlabel '%s'\n",
            v->is_activation ? "activation, from input to output" : "weights of layer");
    if (!v->is_activation && layers > 5) fputs("set xtics rotate by 35 right\n", script);
    fputs("plot $cells using 1:2:(0.48):(0.46):3 with boxxyerror fs solid noborder palette, \\\n"
          " $bright using 1:2:4 with labels font ',11' textcolor rgb '#000000', \\\n"
          " $dark using 1:2:4 with labels font ',11' textcolor rgb '#ffffff'\n",
          script);
    char caption[300];
    snprintf(caption, sizeof caption, "%s%s", v->caption,
             v->logarithm ? " Numbers and colours are its log₁₀." : "");
    cli_report_figure(r, &p, v->stem, group, v->title, caption);
}

/* --- lines: one for each activation, along the layers --- */

static void lines(cli_report *r, int group, const view *v, double low, double high)
{
    const cli_comparison *c = r->c;
    const int layers = layers_of(c, group, v);
    cli_picture p;
    if (!cli_report_open(r, &p, true)) return;
    FILE *script = p.script.file;
    for (int a = 0; a < c->n_activations; a++) {
        fprintf(script, "$layer%d << END\n", a);
        for (int layer = 0; layer < layers; layer++) {
            const cli_spread s = at(c, group, a, v, layer);
            if (s.count && v->logarithm)
                fprintf(script, "%d %.6g %.6g %.6g\n", layer + 1, pow(10, s.mean), pow(10, s.lowest),
                        pow(10, s.highest));
            else if (s.count)
                fprintf(script, "%d %.6g %.6g %.6g\n", layer + 1, s.mean, s.lowest, s.highest);
        }
        fputs("NaN NaN NaN NaN\nEND\n", script);
    }
    if (v->logarithm)
        cli_log_axis(script, 'y', pow(10, low), pow(10, high));
    else
        fputs("set yrange [-0.02:1.02]\n", script);
    fprintf(script, "set xrange [%g:%g]\nset xlabel 'layer, from input to output'\nset ylabel '%s'\n%splot",
            1 - 0.02 * layers, layers + 0.02 * layers, v->axis, layers <= 12 ? "set xtics 1\n" : "");
    for (int a = 0; a < c->n_activations && c->n_seeds > 1; a++)
        fprintf(script,
                " $layer%d using 1:3:4 with filledcurves lc rgb '%s' fs transparent solid 0.18 noborder "
                "notitle, \\\n",
                a, cli_colour(a));
    for (int a = 0; a < c->n_activations; a++) {
        fprintf(script, "%s $layer%d using 1:2 with linespoints lw 2 ps 0.6 pi %d", a ? ", \\\n" : "", a,
                (layers + 9) / 10);
        cli_line_style(script, a);
        cli_mark_style(script, a);
        cli_report_key(r, script, a);
    }
    fputc('\n', script);
    char caption[300];
    snprintf(caption, sizeof caption, "%s%s", v->caption,
             cli_report_seeds(r).text[0] ? " Bands from the lowest "
                                           "to the highest seed."
                                         : "");
    cli_report_figure(r, &p, v->stem, group, v->title, caption);
}

/* --- which --- */

#define GRADIENT  offsetof(cli_layer, gradient_norm), false, true
#define DEVIATION offsetof(cli_layer, deviation), true, true
#define ACTIVE    offsetof(cli_layer, active), true, false
#define DEAD      offsetof(cli_layer, dead), true, false
#define NORM      "Norm of the loss's gradient by each layer's weights, mean over the steps of the "

static const view views[] = {
    {"deviation-start", "Spread of the activations before training", "s.d. of the values", DEVIATION, START,
     "Standard deviation of each layer's activations in the first step: what the initial weights do to the "
     "signal."},
    {"gradient-start", "Gradient flow before training", "norm of the gradient", GRADIENT, START,
     "Norm of the loss's gradient by each layer's weights in the first step, from the first layer to the "
     "last."},
    {"deviation-first", "Spread of the activations, first epoch", "s.d. of the values", DEVIATION, FIRST,
     "Standard deviation of each layer's activations, mean over the steps of the first epoch."},
    {"gradient-first", "Gradient flow, first epoch", "norm of the gradient", GRADIENT, FIRST,
     NORM "first epoch."},
    {"gradient-last", "Gradient flow, last epoch", "norm of the gradient", GRADIENT, LAST,
     NORM "last epoch."},
    {"active-last", "Active share, last epoch", "share of active values", ACTIVE, LAST,
     "Share of values at which the slope is at least 0.01 in size; the others are saturated."},
    {"dead-last", "Dead units, last epoch", "share of dead units", DEAD, LAST,
     "Share of units whose slope was 0 for every image of a batch."},
};
enum { VIEWS = sizeof views / sizeof *views, MOST_COLUMNS = 12 };

bool cli_report_has_layers(const cli_report *r, int group)
{
    double low, high;
    for (int i = 0; i < VIEWS; i++)
        if (range_of(r->c, group, &views[i], &low, &high)) return true;
    return false;
}

void cli_report_layers(cli_report *r, int group)
{
    const cli_comparison *c = r->c;
    bool started = false;
    for (int i = 0; i < VIEWS; i++) {
        const view *v = &views[i];
        double low, high, lowest = 0, highest = 0;
        if (!range_of(c, group, v, &low, &high)) continue;
        started |= v->when == START;
        const bool as_lines = cli_by_depth(c) || layers_of(c, group, v) > MOST_COLUMNS;
        const bool spread = v->member == offsetof(cli_layer, deviation);
        /* Before training says more than the first epoch, where it was recorded, and lines show it better. */
        if ((v->when == START && !as_lines) || (v->when == FIRST && as_lines && started) ||
            (spread && !as_lines))
            continue;
        if (!v->logarithm)
            low = 0, high = 1;
        else if (v->member == offsetof(cli_layer, gradient_norm) && !as_lines) {
            /* One scale of colours for both epochs. */
            for (int k = 0; k < VIEWS; k++)
                if (views[k].member == v->member && views[k].when != START &&
                    range_of(c, group, &views[k], &lowest, &highest))
                    low = fmin(low, lowest), high = fmax(high, highest);
        }
        /* Colours and axes that span less than this would make much of little. */
        const double lacking = fmax(0, 1 - (high - low));
        low -= lacking / 2;
        high += lacking / 2;
        (as_lines ? lines : map)(r, group, v, low, high);
    }
}
