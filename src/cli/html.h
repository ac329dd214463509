/* Pages that stand alone: nothing is loaded from elsewhere. */
#ifndef CLI_HTML_H
#define CLI_HTML_H

#include "cli.h"

/* Text between tags or in a quoted attribute. */
void cli_html_text(FILE *html, const char *text);
/* Everything before the content: a page that follows light and dark, is readable on a phone and in print. */
void cli_html_begin(FILE *html, const char *title);
void cli_html_end(FILE *html);
/* gnuplot's SVG as a part of the page: axes and text take the page's colours, `prefix` makes its ids unique,
 * `label` says what is to be seen to those who cannot see it. */
void cli_html_picture(FILE *html, const char *svg, const char *prefix, const char *label);
#endif
