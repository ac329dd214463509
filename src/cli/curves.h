/* Value and slope of an activation as points to be drawn. */
#ifndef CLI_CURVES_H
#define CLI_CURVES_H

#include "gnuplot.h"

typedef struct cli_sample {
    double x, y[2]; /* value and slope */
    bool jump[2];   /* between the sample before and this one */
} cli_sample;

typedef struct cli_curve {
    const char *name;
    cli_sample *samples;
    int n;
} cli_curve;

enum { CLI_VALUE, CLI_SLOPE };

/* Samples [low, high] evenly, and closely on both sides of each jump of the value or of the slope. False
 * after a message. */
bool cli_curve_sample(const cli_options *o, const char *name, sl_activation activation, double low,
                      double high, cli_curve *curve);
void cli_curves_free(cli_curve *curves, int n);

/* The columns x, value and slope of curve number i as the data block $curve<i>. */
void cli_curve_data(FILE *script, const cli_curve *curve, int i);
/* Ranges, labels and the plot command for the values or the slopes of curves 0 … n - 1. With `keyed` each
 * gets its line in the key. */
void cli_curve_panel(FILE *script, const cli_curve *curves, int n, int which, bool keyed);
/* A sheet with both panels and one key under them. False after a message. */
bool cli_curve_sheet(const cli_options *o, const cli_curve *curves, int n, cli_picture *p);
/* activation,x,value,slope */
void cli_curve_csv(FILE *csv, const cli_curve *curves, int n);
#endif
