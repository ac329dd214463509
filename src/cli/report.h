/* The report of a comparison: what its files share. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "gnuplot.h"
#include "html.h"
#include "summary.h"

typedef struct cli_report {
    const cli_options *o;
    const cli_comparison *c;
    FILE *html;
    int figures;
    bool drawing; /* gnuplot is there, and nothing has failed so far */
    bool failed;
} cli_report;

/* --- report.c --- */

/* Begins a picture for the report with room for a key; false where there is no drawing. */
bool cli_report_open(cli_report *r, cli_picture *p, bool keyed);
/* Ends it: into the page, and beside it as DIR/STEM.svg and .png. The stem gets the group behind it where
 * there are several (group >= 0). */
void cli_report_figure(cli_report *r, cli_picture *p, const char *stem, int group, const char *title,
                       const char *caption);
/* "relu" as gnuplot's title of a curve. */
void cli_report_key(const cli_report *r, FILE *script, int activation);
/* What the bands and bars mean with these seeds: "; bands from the lowest to the highest of 3 seeds", or "".
 */
cli_text cli_report_seeds(const cli_report *r);

/* --- report_curves.c --- */

/* An axis of logarithms with labels that a reader can use, over positive numbers. */
void cli_log_axis(FILE *script, char axis, double low, double high);
void cli_report_curves(cli_report *r, int group);
void cli_report_cost(cli_report *r, int group);
/* Accuracy in all groups. */
void cli_report_groups(cli_report *r);

/* --- report_layers.c --- */

/* Gradients and activations by layer: maps, or lines where the groups differ in depth. */
void cli_report_layers(cli_report *r, int group);
/* Whether any run of the group recorded them. */
bool cli_report_has_layers(const cli_report *r, int group);
#endif
