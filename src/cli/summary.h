/* What the runs of a comparison come to: the numbers of the table, of results.csv and of the report. */
#ifndef CLI_SUMMARY_H
#define CLI_SUMMARY_H

#include "comparison.h"

/* What is measured of a run: MEASURE(ID, key, heading, digits, scale, unit). The heading is a table's;
 * `digits` and `scale` say how the number is printed (98.76 for 0.9876 in %). */
#define CLI_MEASURES(MEASURE)                                                                                \
    MEASURE(VALIDATION_ACCURACY, "validation_accuracy", "validation accuracy", 2, 100, "%")                  \
    MEASURE(BEST_ACCURACY, "best_validation_accuracy", "best validation accuracy", 2, 100, "%")              \
    MEASURE(VALIDATION_LOSS, "validation_loss", "validation loss", 4, 1, "")                                 \
    MEASURE(BEST_LOSS, "best_validation_loss", "best validation loss", 4, 1, "")                             \
    MEASURE(TRAIN_ACCURACY, "train_accuracy", "training accuracy", 2, 100, "%")                              \
    MEASURE(TRAIN_LOSS, "train_loss", "training loss", 4, 1, "")                                             \
    MEASURE(EPOCHS_TO_99, "epochs_to_99", "epochs to 99 %", 1, 1, "")                                        \
    MEASURE(SECONDS, "seconds_per_epoch", "time of an epoch", 2, 1, "s")

typedef enum cli_measure {
#define MEASURE(id, ...) CLI_MEASURE_##id,
    CLI_MEASURES(MEASURE)
#undef MEASURE
        CLI_MEASURE_COUNT
} cli_measure;

typedef struct cli_measure_text {
    const char *key, *heading;
    int digits;
    double scale;
    const char *unit;
} cli_measure_text;
cli_measure_text cli_measure_describe(cli_measure measure);

/* Of one run: the last epoch's number, the best over the epochs, the first epoch with a validation accuracy
 * of at least 0.99 (NaN: never reached), the median of the epochs' seconds. A run that diverged has NaN
 * everywhere. */
double cli_measure_of(const cli_series *run, cli_measure measure);

/* Of several numbers, NaN left out. The deviation is that of a sample (n - 1); NaN for fewer than two. */
typedef struct cli_spread {
    int count;
    double mean, deviation, lowest, highest; /* NaN where the count is 0 */
} cli_spread;
cli_spread cli_spread_of(const double *values, int n);

/* Over the finished seeds of an activation in a group. */
cli_spread cli_summary(const cli_comparison *c, int group, int activation, cli_measure measure);
/* Over those seeds, after epoch number `epoch` (from 0), of a member of cli_point: offsetof(cli_point,
 * train_loss). */
cli_spread cli_epoch_summary(const cli_comparison *c, int group, int activation, int epoch, size_t member);
int cli_finished(const cli_comparison *c, int group, int activation); /* runs, those that diverged included */
int cli_diverged(const cli_comparison *c, int group, int activation);

static inline bool cli_by_depth(const cli_comparison *c)
{
    return c->depths && c->depths[0] > 0;
}

/* "98.76 ± 0.12", "98.76" for one run, "–" for none; in the measure's unit, without its name. */
cli_text cli_spread_text(cli_spread spread, cli_measure measure);

/* Student's paired t-test, two-sided, of b - a over the seeds that both have finished. */
typedef struct cli_paired {
    int count;
    double difference, deviation; /* mean and deviation of b - a */
    double t, p; /* NaN for fewer than two pairs; p is 0 where all differences are equal, not 0 */
} cli_paired;
cli_paired cli_paired_test(const cli_comparison *c, int group, int a, int b, cli_measure measure);
#endif
