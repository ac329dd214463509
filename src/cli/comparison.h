/* A comparison of activations as slope compare keeps it: a folder with one log a run (the lines of train
 * --log), read back as plain arrays.
 *
 *   DIR/comparison.json   what was asked for: the options that fix the experiment, activations, groups, seeds
 *   DIR/runs/NAME.jsonl   a finished run
 *   DIR/runs/NAME.part    one that is going on, with NAME.safetensors where it was interrupted
 *   DIR/results.csv, summary.csv, results.json, report.html, *.svg, *.png   made from these files, at any
 *                         time again */
#ifndef CLI_COMPARISON_H
#define CLI_COMPARISON_H

#include "cli.h"

/* One row of a diagnosis: means over the steps of an epoch (see sl_diagnosis). */
typedef struct cli_layer {
    char name[48];
    bool is_activation;
    double gradient_norm, update_ratio;   /* of a weight; NaN where not recorded */
    double mean, deviation, active, dead; /* of an activation's values */
} cli_layer;

typedef struct cli_point { /* an epoch; what is not known is NaN */
    int epoch;             /* counted from 1 */
    double train_loss, train_accuracy, validation_loss, validation_accuracy, seconds, rate;
    cli_layer *layers;
    int n_layers;
} cli_point;

typedef struct cli_series { /* a run */
    int activation, group;  /* of the comparison's lists */
    int64_t seed, parameters;
    cli_point *epochs;
    int n_epochs;
    bool diverged;    /* stopped by NaN or infinity, after n_epochs complete epochs */
    cli_layer *start; /* the diagnosis of the first step: the state that the first values give */
    int n_start;      /* 0 where it was not recorded */
    double test_loss, test_accuracy; /* after the last epoch, where images were held out; else NaN */
} cli_series;

typedef struct cli_comparison {
    const char *folder;
    const char *model;        /* the line as it was typed, "cnn" */
    const char *line;         /* spelled out */
    const char *description;  /* "adam 0.001, batch 128, 20 epochs, mnist": for captions */
    const char *machine;      /* device and threads of the runs */
    const char *version;      /* of Slope */
    bool held_out;            /* validation on images held out; else the test set served */
    bool synthetic;           /* generated digits, not MNIST */
    int epochs;               /* asked for */
    const char **activations; /* as they were typed */
    int n_activations;
    const char *vary; /* what the groups differ in: "batch", "depth", …; NULL with a single group */
    const char *
        *groups; /* "32"; "10, init he" with --depth and --vary; one empty text where nothing varies */
    int n_groups;
    const char *option;  /* behind --vary: "batch"; NULL without */
    const char **values; /* its value in each group; NULL without */
    int *depths;         /* hidden layers in each group; 0 without --depth */
    int64_t *seeds;
    int n_seeds;
    cli_series *runs; /* finished ones, in the order of groups, activations, seeds */
    int n_runs;
} cli_comparison;

/* Reads a folder. NULL after a message. */
cli_comparison *cli_comparison_read(const cli_options *o, const char *folder);
void cli_comparison_free(cli_comparison *c);

/* The finished run of these, NULL where there is none yet. */
const cli_series *cli_comparison_run(const cli_comparison *c, int group, int activation, int seed);

/* report.c: DIR/report.html and the pictures beside it. Where gnuplot is missing it leaves the data and says
 * so. Returns an exit status. */
int cli_report_write(const cli_options *o, const cli_comparison *c);
#endif
