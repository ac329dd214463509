/* Means, deviations and the paired test of a comparison's runs. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>

#include "summary.h"

cli_measure_text cli_measure_describe(cli_measure measure)
{
    static const cli_measure_text texts[] = {
#define MEASURE(id, key, heading, digits, scale, unit) {key, heading, digits, scale, unit},
        CLI_MEASURES(MEASURE)
#undef MEASURE
    };
    return texts[measure];
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_seconds(const cli_series *run)
{
    double seconds[64], *all = run->n_epochs <= 64 ? seconds : malloc((size_t)run->n_epochs * sizeof *all);
    int n = 0;
    for (int i = 0; all && i < run->n_epochs; i++)
        if (isfinite(run->epochs[i].seconds)) all[n++] = run->epochs[i].seconds;
    if (n) qsort(all, (size_t)n, sizeof *all, ascending);
    const double median = n ? (all[(n - 1) / 2] + all[n / 2]) / 2 : (double)NAN;
    if (all != seconds) free(all);
    return median;
}

double cli_measure_of(const cli_series *run, cli_measure measure)
{
    if (run->diverged || run->n_epochs == 0) return (double)NAN;
    const cli_point *last = &run->epochs[run->n_epochs - 1];
    double best_accuracy = (double)NAN, best_loss = (double)NAN, to_99 = (double)NAN;
    for (int i = run->n_epochs - 1; i >= 0; i--) {
        const cli_point *p = &run->epochs[i];
        best_accuracy = fmax(best_accuracy, p->validation_accuracy);
        best_loss = fmin(best_loss, p->validation_loss);
        if (p->validation_accuracy >= 0.99) to_99 = p->epoch;
    }
    switch (measure) {
    case CLI_MEASURE_VALIDATION_ACCURACY: return last->validation_accuracy;
    case CLI_MEASURE_BEST_ACCURACY: return best_accuracy;
    case CLI_MEASURE_VALIDATION_LOSS: return last->validation_loss;
    case CLI_MEASURE_BEST_LOSS: return best_loss;
    case CLI_MEASURE_TRAIN_ACCURACY: return last->train_accuracy;
    case CLI_MEASURE_TRAIN_LOSS: return last->train_loss;
    case CLI_MEASURE_EPOCHS_TO_99: return to_99;
    case CLI_MEASURE_SECONDS: return median_seconds(run);
    default: return (double)NAN;
    }
}

cli_spread cli_spread_of(const double *values, int n)
{
    cli_spread s = {0, (double)NAN, (double)NAN, (double)NAN, (double)NAN};
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        if (isnan(values[i])) continue;
        s.count++;
        sum += values[i];
        s.lowest = fmin(s.lowest, values[i]);
        s.highest = fmax(s.highest, values[i]);
    }
    if (s.count == 0) return s;
    s.mean =
        s.lowest == s.highest ? s.lowest : sum / s.count; /* equal numbers deviate by 0, not by rounding */
    for (int i = 0; i < n; i++)
        if (!isnan(values[i])) squares += (values[i] - s.mean) * (values[i] - s.mean);
    if (s.count > 1) s.deviation = sqrt(squares / (s.count - 1));
    return s;
}

cli_spread cli_summary(const cli_comparison *c, int group, int activation, cli_measure measure)
{
    double *values = malloc((size_t)(c->n_seeds ? c->n_seeds : 1) * sizeof *values);
    int n = 0;
    for (int seed = 0; values && seed < c->n_seeds; seed++) {
        const cli_series *run = cli_comparison_run(c, group, activation, seed);
        if (run) values[n++] = cli_measure_of(run, measure);
    }
    const cli_spread s = cli_spread_of(values, n);
    free(values);
    return s;
}

cli_spread cli_epoch_summary(const cli_comparison *c, int group, int activation, int epoch, size_t member)
{
    double *values = malloc((size_t)(c->n_seeds ? c->n_seeds : 1) * sizeof *values);
    int n = 0;
    for (int seed = 0; values && seed < c->n_seeds; seed++) {
        const cli_series *run = cli_comparison_run(c, group, activation, seed);
        if (run && epoch < run->n_epochs)
            memcpy(&values[n++], (const char *)&run->epochs[epoch] + member, sizeof *values);
    }
    const cli_spread s = cli_spread_of(values, n);
    free(values);
    return s;
}

int cli_finished(const cli_comparison *c, int group, int activation)
{
    int n = 0;
    for (int seed = 0; seed < c->n_seeds; seed++) n += cli_comparison_run(c, group, activation, seed) != NULL;
    return n;
}

int cli_diverged(const cli_comparison *c, int group, int activation)
{
    int n = 0;
    for (int seed = 0; seed < c->n_seeds; seed++) {
        const cli_series *run = cli_comparison_run(c, group, activation, seed);
        n += run && run->diverged;
    }
    return n;
}

cli_text cli_spread_text(cli_spread s, cli_measure measure)
{
    const cli_measure_text m = cli_measure_describe(measure);
    cli_text out = {"–"};
    if (s.count == 1)
        snprintf(out.text, sizeof out.text, "%.*f", m.digits, s.mean * m.scale);
    else if (s.count > 1)
        snprintf(out.text, sizeof out.text, "%.*f ± %.*f", m.digits, s.mean * m.scale, m.digits,
                 s.deviation * m.scale);
    return out;
}

/* The probability that |t| is at least this large: the finite sums for whole degrees of freedom, Abramowitz
 * and Stegun 26.7.3 and 26.7.4. */
static double student_tail(double t, int freedom)
{
    const double angle = atan(fabs(t) / sqrt(freedom)), s = sin(angle), c2 = cos(angle) * cos(angle);
    double term = freedom % 2 ? cos(angle) : 1, sum = 0;
    for (int k = freedom % 2 ? 3 : 2; k <= freedom; k += 2) {
        sum += term;
        term *= c2 * (k - 1) / k;
    }
    const double within = freedom % 2 ? (angle + s * sum) * 2 / acos(-1.0) : s * sum;
    return fmin(1, fmax(0, 1 - within));
}

cli_paired cli_paired_test(const cli_comparison *c, int group, int a, int b, cli_measure measure)
{
    cli_paired out = {0, (double)NAN, (double)NAN, (double)NAN, (double)NAN};
    double *differences = malloc((size_t)(c->n_seeds ? c->n_seeds : 1) * sizeof *differences);
    int n = 0;
    for (int seed = 0; differences && seed < c->n_seeds; seed++) {
        const cli_series *one = cli_comparison_run(c, group, a, seed);
        const cli_series *other = cli_comparison_run(c, group, b, seed);
        if (one && other) differences[n++] = cli_measure_of(other, measure) - cli_measure_of(one, measure);
    }
    const cli_spread s = cli_spread_of(differences, n);
    free(differences);
    out.count = s.count;
    out.difference = s.mean;
    out.deviation = s.deviation;
    if (s.count < 2) return out;
    if (s.mean == 0)
        out.t = 0, out.p = 1;
    else {
        out.t = s.mean / (s.deviation / sqrt(s.count));
        out.p = s.deviation == 0 ? 0 : student_tail(out.t, s.count - 1);
    }
    return out;
}
