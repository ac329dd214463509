/* The table of a comparison on standard output. */
#include <math.h>
#include <stdlib.h>

#include "compare.h"

enum { LONGEST_NAME = 24, SHORTEST_NAME = 14 };

typedef struct column {
    const char *over, *heading;
    int width;
    cli_measure measure; /* CLI_MEASURE_COUNT: of what stands in cli_series alone */
} column;

static const column columns[] = {
    {"validation", "accuracy %", 12, CLI_MEASURE_VALIDATION_ACCURACY},
    {"", "best %", 9, CLI_MEASURE_BEST_ACCURACY},
    {"", "loss", 10, CLI_MEASURE_VALIDATION_LOSS},
    {"test", "accuracy %", 12, CLI_MEASURE_COUNT},
    {"training", "accuracy %", 12, CLI_MEASURE_TRAIN_ACCURACY},
    {"", "loss", 10, CLI_MEASURE_TRAIN_LOSS},
    {"epochs", "to 99 %", 9, CLI_MEASURE_EPOCHS_TO_99},
    {"seconds", "an epoch", 10, CLI_MEASURE_SECONDS},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static bool shown(const cli_comparison *c, int column)
{
    return columns[column].measure != CLI_MEASURE_COUNT || c->held_out;
}

cli_spread cli_test_spread(const cli_comparison *c, int group, int activation)
{
    double *values = malloc((size_t)c->n_seeds * sizeof *values);
    int n = 0;
    for (int s = 0; s < c->n_seeds && values; s++) {
        const cli_series *run = cli_comparison_run(c, group, activation, s);
        if (run) values[n++] = run->test_accuracy;
    }
    const cli_spread spread = cli_spread_of(values, n);
    free(values);
    return spread;
}

static cli_spread spread_of(const cli_comparison *c, int group, int activation, cli_measure measure)
{
    return measure == CLI_MEASURE_COUNT ? cli_test_spread(c, group, activation)
                                        : cli_summary(c, group, activation, measure);
}

/* Right-aligned; printf would count the bytes of ± and –. */
static void cell(const char *text, int width)
{
    const int n = cli_columns(text);
    printf("%*s%s", width > n ? width - n : 0, "", text);
}

static bool same_parameters(const cli_comparison *c)
{
    for (int i = 1; i < c->n_runs; i++)
        if (c->runs[i].parameters != c->runs[0].parameters) return false;
    return true;
}

static int name_width(const cli_comparison *c)
{
    int width = SHORTEST_NAME;
    for (int a = 0; a < c->n_activations; a++) {
        const int n = cli_columns(c->activations[a]);
        if (n > width && n <= LONGEST_NAME) width = n;
    }
    return width;
}

static void print_name(const char *name, int width)
{
    const int n = cli_columns(name);
    if (n <= width)
        printf("%s%*s", name, width - n, "");
    else
        printf("%s\n%*s", name, width, ""); /* a line of its own */
}

static void print_heading(const cli_comparison *c, int width, bool parameters)
{
    printf("\n%*s", width, "");
    for (int i = 0; i < COLUMNS; i++)
        if (shown(c, i)) cell(columns[i].over, columns[i].width);
    print_name("\nactivation", width + 1);
    for (int i = 0; i < COLUMNS; i++)
        if (shown(c, i)) cell(columns[i].heading, columns[i].width);
    puts(parameters ? "  parameters" : "");
}

/* What a column without a measure of its own is printed as. */
static cli_measure_text text_of(const column *column)
{
    return cli_measure_describe(column->measure == CLI_MEASURE_COUNT ? CLI_MEASURE_VALIDATION_ACCURACY
                                                                     : column->measure);
}

static void number_cell(const char *sign, double value, const column *column, int width)
{
    const cli_measure_text m = text_of(column);
    char text[48];
    value *= m.scale;
    snprintf(text, sizeof text, fabs(value) < 1e4 ? "%s%.*f" : "%s%.*e", sign,
             fabs(value) < 1e4 ? m.digits : 1, value);
    cell(isnan(value) ? "–" : text, width);
}

static void print_means(const cli_comparison *c, int group, int activation, bool parameters)
{
    for (int i = 0; i < COLUMNS; i++)
        if (shown(c, i))
            number_cell("", spread_of(c, group, activation, columns[i].measure).mean, &columns[i],
                        columns[i].width);
    for (int s = 0; s < c->n_seeds && parameters; s++) {
        const cli_series *run = cli_comparison_run(c, group, activation, s);
        if (run) cell(cli_count(run->parameters).text, 12);
        if (run) break;
    }
    putchar('\n');
}

/* The standard deviations under the means. */
static void print_deviations(const cli_comparison *c, int group, int activation, int width)
{
    const int finished = cli_finished(c, group, activation), diverged = cli_diverged(c, group, activation);
    char text[48] = "";
    if (diverged) snprintf(text, sizeof text, "%d of %d diverged", diverged, finished);
    const int over = cli_columns(text) - width; /* into the first column, which has room */
    printf("%s%*s", text, over < 0 ? -over : 0, "");
    for (int i = 0; i < COLUMNS; i++) {
        if (!shown(c, i)) continue;
        const cli_spread s = spread_of(c, group, activation, columns[i].measure);
        const int room = columns[i].width - (i == 0 && over > 0 ? over : 0);
        snprintf(text, sizeof text, "%d of %d", s.count, finished);
        if (columns[i].measure == CLI_MEASURE_EPOCHS_TO_99 && s.count > 0 && s.count < finished)
            cell(text, room);
        else if (s.count > 1)
            number_cell("± ", s.deviation, &columns[i], room);
        else
            cell("", room);
    }
    putchar('\n');
}

/* --- the first step --- */

/* The first or the last of the hidden layers' rows. */
static const cli_layer *layer(const cli_series *run, bool activation, bool last)
{
    const cli_layer *found = NULL, *before = NULL;
    for (int i = 0; i < run->n_start; i++) {
        if (run->start[i].is_activation != activation) continue;
        before = found;
        found = &run->start[i];
        if (!last) return found;
    }
    return activation ? found : before; /* behind the last hidden layer's weight comes the output's */
}

static void small_cell(double value, int width)
{
    char text[32];
    const bool plain = value >= 0.001 && value < 1000;
    snprintf(text, sizeof text, plain ? "%.3f" : value == 0 ? "%.0f" : "%.1e", value);
    cell(isnan(value) ? "–" : text, width);
}

static double variance(const cli_layer *layer)
{
    return layer ? layer->deviation * layer->deviation : (double)NAN;
}

/* How values and gradients shrink or grow through the layers before anything is learned. */
static void print_start(const cli_comparison *c, int group, int width)
{
    bool any = false;
    for (int a = 0; a < c->n_activations; a++) {
        const cli_series *run = cli_comparison_run(c, group, a, 0);
        if (!run || !run->n_start) continue;
        if (!any) {
            printf("\nthe first step, seed %lld\n%*s", (long long)c->seeds[0], width, "");
            cell("variance of the values", 33);
            cell("norm of the gradient", 33);
            print_name("\nhidden layer", width + 1);
            for (int i = 0; i < 2; i++) cell("first", 11), cell("last", 11), cell("a layer", 11);
            putchar('\n');
        }
        any = true;
        print_name(c->activations[a], width);
        for (int kind = 1; kind >= 0; kind--) {
            const cli_layer *first = layer(run, kind, false), *last = layer(run, kind, true);
            const double from = kind ? variance(first) : first ? first->gradient_norm : (double)NAN;
            const double to = kind ? variance(last) : last ? last->gradient_norm : (double)NAN;
            const int steps = c->depths[group] - 1;
            small_cell(from, 11);
            small_cell(to, 11);
            char text[32];
            const double factor = pow(to / from, 1.0 / steps);
            snprintf(text, sizeof text, factor >= 0.01 && factor < 1000 ? "× %.2f" : "× %.1e", factor);
            cell(steps > 0 && from > 0 && to > 0 ? text : "–", 11);
        }
        putchar('\n');
    }
}

/* --- differences --- */

static void print_pair(const cli_comparison *c, const cli_pair *pair)
{
    const double points = 100 * pair->test.difference;
    const char *better = c->activations[points > 0 ? pair->b : pair->a];
    const char *worse = c->activations[points > 0 ? pair->a : pair->b];
    char p[32];
    snprintf(p, sizeof p, pair->corrected < 0.0001 ? "p < 0.0001" : "p = %.4f", pair->corrected);
    printf("  %s is above %s by %.2f points, %s\n", better, worse, fabs(points), p);
}

static void print_differences(const cli_comparison *c, int group)
{
    int n, beyond = 0;
    if (c->n_activations < 2 || c->n_seeds < 2) return;
    cli_pair *pairs = cli_pairs(c, group, &n);
    for (int i = 0; i < n && pairs; i++) beyond += pairs[i].corrected < 0.05;
    printf("\nDifferences of the final validation accuracy, paired t-test over %d seeds, p after Holm for %d "
           "pair%s:\n",
           c->n_seeds, n, n == 1 ? "" : "s");
    for (int i = 0; i < beyond; i++) print_pair(c, &pairs[i]);
    if (n == 0)
        puts("  there are no two activations with two finished seeds in common");
    else if (beyond == 0)
        printf("  none exceeds the noise: the smallest p is %.2f%s\n", pairs[0].corrected,
               c->n_seeds < 5 ? "; more --seeds show smaller differences" : "");
    else if (beyond < n)
        printf("  the other %d may be chance (p of 0.05 and more)\n", n - beyond);
    free(pairs);
}

/* --- all --- */

static void print_about(const cli_options *o, const cli_comparison *c)
{
    fputs("model        ", stdout);
    cli_wrap(stdout, c->line, 13, 13);
    fputs("training     ", stdout);
    cli_wrap(stdout, c->description, 13, 13);
    printf("seeds        %lld", (long long)c->seeds[0]);
    if (c->n_seeds > 1)
        printf(" to %lld; the table has mean and ± standard deviation", (long long)c->seeds[c->n_seeds - 1]);
    printf("\nvalidation   %s\n", c->held_out
                                      ? "on training images held out; the test set was seen once, at the end"
                                      : "on the test set, because no --validation was given");
    if (!c->held_out && strncmp(o->schedule, "plateau", 7) == 0)
        puts("             the plateau schedule is steered by it, so it is no longer unseen");
    printf("device       %s\n", c->machine);
    if (c->synthetic) puts("data         generated digits: this is not MNIST");
}

void cli_compare_print(const cli_options *o, const cli_comparison *c)
{
    const int width = name_width(c);
    const bool parameters = !same_parameters(c);
    print_about(o, c);
    for (int g = 0; g < c->n_groups; g++) {
        if (c->vary) printf("\n%s--- %s %s ---\n", g ? "\n" : "", c->vary, c->groups[g]);
        print_heading(c, width, parameters);
        for (int a = 0; a < c->n_activations; a++) {
            print_name(c->activations[a], width);
            print_means(c, g, a, parameters);
            if (c->n_seeds > 1 || cli_diverged(c, g, a)) print_deviations(c, g, a, width);
        }
        if (c->depths[g]) print_start(c, g, width);
        print_differences(c, g);
    }
    if (c->n_seeds < 2) puts("\nOne seed cannot tell a difference from chance; --seeds 3 or more can.");
}
