/* Pictures: gnuplot as a child process, and how all pictures look. */
#ifndef CLI_GNUPLOT_H
#define CLI_GNUPLOT_H

#include "files.h"

/* The colours of axes and text, and of the grid. No curve has them, so that a page can exchange them for its
 * own. */
#define CLI_INK  "#1a1b1c"
#define CLI_GRID "#d8d9da"

/* A picture's size in pixels of a page, and gnuplot's commands behind `set terminal`. */
typedef struct cli_picture {
    int width, height;
    cli_memory script;
} cli_picture;

/* Is there a gnuplot to be run? */
bool cli_gnuplot_found(void);
#define CLI_NO_GNUPLOT "gnuplot is missing (Debian: gnuplot-nox)"

/* Begins a script with the common look; what is drawn is printed to p->script.file. False after a message. */
bool cli_picture_open(const cli_options *o, cli_picture *p, int width, int height);
/* Runs gnuplot. `bytes` (from malloc) is an SVG text, ended by 0, or with `png` the file's bytes. False after
 * a message. */
bool cli_picture_render(const cli_options *o, cli_picture *p, bool png, char **bytes, size_t *size);
/* The same into a file; PNG where the name ends in .png. */
bool cli_picture_write(const cli_options *o, cli_picture *p, const char *path);
void cli_picture_free(cli_picture *p);

/* Text as gnuplot's quoted string. */
void cli_quote(FILE *script, const char *text);
/* " lc … dt …" and " pt …" of curve number i: colours that colour-blind readers can tell apart (Okabe and
 * Ito), and dashes and marks beside them. */
void cli_line_style(FILE *script, int i);
void cli_mark_style(FILE *script, int i);
const char *cli_colour(int i);
/* A name short enough for a legend: cut, and then with its number in the list, [2]. */
cli_text cli_label(const char *name, int i);

bool cli_ends_with(const char *text, const char *ending);
#endif
