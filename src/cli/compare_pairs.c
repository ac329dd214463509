/* Which differences between activations exceed the noise: all pairs of a group, corrected for their number.
 */
#include <math.h>
#include <stdlib.h>

#include "compare.h"

static int by_p(const void *a, const void *b)
{
    const double x = ((const cli_pair *)a)->test.p, y = ((const cli_pair *)b)->test.p;
    return (x > y) - (x < y);
}

/* Holm 1979: the k-th smallest of m (from 0) times m - k, and never below the one before it. */
void cli_holm(cli_pair *pairs, int n)
{
    double before = 0;
    qsort(pairs, (size_t)n, sizeof *pairs, by_p);
    for (int k = 0; k < n; k++) {
        pairs[k].corrected = before = fmin(1, fmax(before, pairs[k].test.p * (n - k)));
    }
}

cli_pair *cli_pairs(const cli_comparison *c, int group, int *n)
{
    cli_pair *pairs = calloc((size_t)c->n_activations * (size_t)c->n_activations + 1, sizeof *pairs);
    *n = 0;
    for (int a = 0; a < c->n_activations && pairs; a++)
        for (int b = a + 1; b < c->n_activations; b++) {
            const cli_paired test = cli_paired_test(c, group, a, b, CLI_MEASURE_VALIDATION_ACCURACY);
            if (!isnan(test.p)) pairs[(*n)++] = (cli_pair){.a = a, .b = b, .test = test};
        }
    if (pairs) cli_holm(pairs, *n);
    return pairs;
}
