/* slope compare: what its files share. */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include <cjson/cJSON.h>

#include "comparison.h"
#include "summary.h"

/* --- comparison.c: the folder --- */

/* What comparison.json holds. NULL where there is none, or after a message with *failed set. */
cJSON *cli_experiment_read(const cli_options *o, const char *folder, bool *failed);
bool cli_experiment_write(const cli_options *o, const char *folder, const cJSON *experiment);
/* The comparison with the runs that are finished. Takes the experiment. NULL after a message. */
cli_comparison *cli_comparison_from(const cli_options *o, const char *folder, cJSON *experiment);
/* DIR/runs/NAME and the suffix. To be freed; NULL: out of memory. */
char *cli_run_path(const cli_comparison *c, int group, int activation, int seed, const char *suffix);

/* --- compare_experiment.c --- */

typedef struct cli_experiment {
    cli_options *o;
    const char *folder;
    cJSON *json;    /* of comparison.json */
    bool continues; /* it was there */
    bool published; /* its options are those of the published experiment */
} cli_experiment;
/* Completes the options from the folder and the folder's lists from the options, or makes both anew. Anything
 * but CLI_SUCCESS comes after a message. */
int cli_experiment_complete(cli_experiment *e);

/* --- compare_lists.c: lists on the command line --- */

/* The parts between commas outside brackets, without the blanks around them, as an array of texts. NULL after
 * a message: an empty part, brackets that do not match. `option` is for the messages. */
cJSON *cli_split(const cli_options *o, const char *option, const char *list);
/* Depths as whole numbers. NULL after a message. */
cJSON *cli_split_depths(const cli_options *o, const char *list);
/* "batch=32,128" as the option's name (to be freed) and the values. False after a message. */
bool cli_split_vary(const cli_options *o, const char *text, char **name, cJSON **values);
/* The options of one run: those of the comparison, with what the group changes. A line made for it is in
 * *line, to be freed. False after a message. */
bool cli_run_options(const cli_options *o, const cli_comparison *c, int group, int activation, int seed,
                     cli_options *run, char **line);

/* --- compare_progress.c: how it goes, on standard error --- */

typedef struct cli_progress cli_progress; /* NULL does nothing */
cli_progress *cli_progress_open(const cli_options *o, const cli_comparison *c);
void cli_progress_close(cli_progress *p);
bool cli_progress_is_watched(const cli_progress *p); /* whether steps are shown */
void cli_progress_begin(cli_progress *p, int group, int activation, int seed);
void cli_progress_step(cli_progress *p, const sl_progress *progress);
void cli_progress_end(cli_progress *p, const sl_epoch *last, bool diverged);

/* --- compare_run.c: one run --- */

/* Trains it, or goes on with it, in the context and on the data of `run`. One that was interrupted leaves its
 * checkpoint. Returns an exit status. */
int cli_run_train(const cli_options *o, const cli_comparison *c, int group, int activation, int seed,
                  cli_run *run, cli_progress *progress);

/* --- compare_pairs.c: which differences exceed the noise --- */

typedef struct cli_pair {
    int a, b; /* activations */
    cli_paired test;
    double corrected; /* p by Holm's correction */
} cli_pair;
/* All pairs of a group with at least two seeds in common, the final validation accuracy compared, in the
 * order of p. To be freed; NULL: out of memory. */
cli_pair *cli_pairs(const cli_comparison *c, int group, int *n);
/* Sorts by p and fills in `corrected`. */
void cli_holm(cli_pair *pairs, int n);

/* --- what comes out --- */

/* compare_table.c: the table on standard output. */
void cli_compare_print(const cli_options *o, const cli_comparison *c);
/* The final test accuracies where images were held out. */
cli_spread cli_test_spread(const cli_comparison *c, int group, int activation);
/* compare_files.c: results.csv, summary.csv, results.json. Returns an exit status. */
int cli_compare_write(const cli_options *o, const cli_comparison *c);
#endif
