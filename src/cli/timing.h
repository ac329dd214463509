/* A clock, and the middle and the spread of what was measured again and again: slope bench and bench/ share
 * them.
 */
#ifndef CLI_TIMING_H
#define CLI_TIMING_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIMING_MOST = 128 }; /* values of one figure */

static inline double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int timing_ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of 0 < n <= TIMING_MOST values, which keep their order: 0 the lowest, 0.25 the first quartile, 0.5 the
 * median; between two values in proportion. */
static inline double quantile_of(const double *values, int n, double share)
{
    double sorted[TIMING_MOST];
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, timing_ascending);
    const double at = share * (n - 1);
    const int below = (int)at, above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

static inline double median_of(const double *values, int n)
{
    return quantile_of(values, n, 0.5);
}

static inline double lowest_of(const double *values, int n)
{
    return quantile_of(values, n, 0);
}

static inline double highest_of(const double *values, int n)
{
    return quantile_of(values, n, 1);
}
#endif
