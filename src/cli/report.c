/* The report of a comparison: one page, and its pictures beside it. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "compare.h"
#include "curves.h"
#include "report.h"

/* --- pictures --- */

enum { WIDTH = 440, HEIGHT = 300, KEY_LINE = 18 };

bool cli_report_open(cli_report *r, cli_picture *p, bool keyed)
{
    if (!r->drawing) return false;
    int longest = 1;
    for (int a = 0; a < r->c->n_activations; a++) {
        const int n = (int)strlen(cli_label(r->c->activations[a], a).text);
        if (n > longest) longest = n;
    }
    const int columns = 1 + (WIDTH - 60) / (longest * 8 + 60) - 1;
    const int rows = columns > 0 ? (r->c->n_activations + columns - 1) / columns : r->c->n_activations;
    r->drawing = cli_picture_open(r->o, p, WIDTH, HEIGHT + (keyed ? rows * KEY_LINE : 0));
    r->failed |= !r->drawing;
    return r->drawing;
}

void cli_report_key(const cli_report *r, FILE *script, int activation)
{
    fputs(" title ", script);
    cli_quote(script, cli_label(r->c->activations[activation], activation).text);
}

cli_text cli_report_seeds(const cli_report *r)
{
    cli_text out = {""};
    if (r->c->n_seeds > 1)
        snprintf(out.text, sizeof out.text, "; band: lowest to highest of %d", r->c->n_seeds);
    return out;
}

static bool write_beside(cli_report *r, const char *stem, const char *ending, const char *bytes, size_t size)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s%s", r->c->folder, stem, ending) < 0)
        return cli_fail(r->o, CLI_FAILURE, "out of memory"), false;
    const bool good = cli_write_file(r->o, path, bytes, size);
    free(path);
    return good;
}

static void put_figure(cli_report *r, const char *svg, const char *stem, const char *title,
                       const char *caption)
{
    char prefix[16], label[512];
    snprintf(prefix, sizeof prefix, "p%d", ++r->figures);
    snprintf(label, sizeof label, "%s. %s", title, caption);
    fputs("<figure>\n", r->html);
    cli_html_picture(r->html, svg, prefix, label);
    fputs("<figcaption><b>", r->html);
    cli_html_text(r->html, title);
    fputs(".</b> ", r->html);
    cli_html_text(r->html, caption);
    fprintf(r->html, " <a href=\"%s.svg\">SVG</a> <a href=\"%s.png\">PNG</a></figcaption>\n</figure>\n", stem,
            stem);
}

void cli_report_figure(cli_report *r, cli_picture *p, const char *stem, int group, const char *title,
                       const char *caption)
{
    char name[64], *svg = NULL, *png = NULL;
    size_t svg_size, png_size;
    if (group >= 0 && r->c->n_groups > 1)
        snprintf(name, sizeof name, "%s-%d", stem, group + 1);
    else
        snprintf(name, sizeof name, "%s", stem);
    if (cli_picture_render(r->o, p, false, &svg, &svg_size) &&
        cli_picture_render(r->o, p, true, &png, &png_size) && write_beside(r, name, ".svg", svg, svg_size) &&
        write_beside(r, name, ".png", png, png_size))
        put_figure(r, svg, name, title, caption);
    else
        r->drawing = false, r->failed = true;
    free(svg);
    free(png);
    cli_picture_free(p);
}

/* --- the functions themselves --- */

static void functions(cli_report *r)
{
    const cli_comparison *c = r->c;
    int status, n = 0;
    sl_context *ctx = cli_open_plain(r->o, 1, &status);
    cli_curve *curves = ctx ? calloc((size_t)c->n_activations, sizeof *curves) : NULL;
    for (; curves && n < c->n_activations; n++) {
        const sl_activation activation = sl_activation_parse(ctx, c->activations[n]);
        if (sl_error(ctx) || !cli_curve_sample(r->o, c->activations[n], activation, -6, 6, &curves[n])) break;
    }
    for (int which = CLI_VALUE; which <= CLI_SLOPE && curves && n == c->n_activations; which++) {
        cli_picture p;
        if (!cli_report_open(r, &p, true)) break;
        for (int i = 0; i < n; i++) cli_curve_data(p.script.file, &curves[i], i);
        cli_curve_panel(p.script.file, curves, n, which, true);
        cli_report_figure(
            r, &p, which == CLI_VALUE ? "value" : "slope", -1, which == CLI_VALUE ? "Value" : "Slope",
            which == CLI_VALUE ? "What the activation gives; parameters as they start."
                               : "What the activation multiplies the gradient with on its way back.");
    }
    cli_curves_free(curves, curves ? c->n_activations : 0);
    sl_close(ctx);
}

/* --- text and tables --- */

static void item(FILE *html, const char *term, const char *text)
{
    if (!text || !*text) return;
    fprintf(html, "<dt>%s</dt><dd>", term);
    cli_html_text(html, text);
    fputs("</dd>\n", html);
}

static void parameters(const cli_comparison *c, char *text, size_t size)
{
    int64_t least = 0, most = 0;
    for (int i = 0; i < c->n_runs; i++) {
        const int64_t n = c->runs[i].parameters;
        if (i == 0 || n < least) least = n;
        if (i == 0 || n > most) most = n;
    }
    if (least == most)
        snprintf(text, size, "%s", cli_count(most).text);
    else
        snprintf(text, size, "%s to %s", cli_count(least).text, cli_count(most).text);
}

static void what_was_run(const cli_report *r)
{
    const cli_comparison *c = r->c;
    char text[256];
    fputs("<dl>\n", r->html);
    item(r->html, "Network", c->model);
    if (strcmp(c->model, c->line) != 0) item(r->html, "Layers", c->line);
    parameters(c, text, sizeof text);
    item(r->html, "Parameters", text);
    item(r->html, "Training", c->description);
    if (c->vary) {
        fprintf(r->html, "<dt>Groups</dt><dd>");
        cli_html_text(r->html, c->vary);
        for (int g = 0; g < c->n_groups; g++) {
            fputs(g ? "; " : ": ", r->html);
            cli_html_text(r->html, c->groups[g]);
        }
        fputs("</dd>\n", r->html);
    }
    int used = snprintf(text, sizeof text, "%d:", c->n_seeds);
    for (int i = 0; i < c->n_seeds && used < (int)sizeof text - 32; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, " %lld%s", (long long)c->seeds[i],
                         i + 1 < c->n_seeds ? "," : "");
    item(r->html, "Seeds", text);
    item(r->html, "Validation",
         c->held_out ? "on training images held out; the test set was seen once, at the end"
                     : "on the test set, because no --validation was given: what is chosen by it was not "
                       "chosen unseen");
    item(r->html, "Machine", c->machine);
    fputs("</dl>\n", r->html);
    if (c->synthetic)
        fputs("<p><b>Not MNIST:</b> the images are digits that Slope draws itself.</p>\n", r->html);
    const int asked = c->n_groups * c->n_activations * c->n_seeds;
    if (c->n_runs < asked)
        fprintf(r->html, "<p><b>Unfinished:</b> %d of %d runs are done; what follows shows these.</p>\n",
                c->n_runs, asked);
}

/* The activation with the best mean of the measure; -1 where nothing has finished. */
static int best_of(const cli_comparison *c, int group)
{
    int best = -1;
    double highest = -1;
    for (int a = 0; a < c->n_activations; a++) {
        const double mean = cli_summary(c, group, a, CLI_MEASURE_VALIDATION_ACCURACY).mean;
        if (mean > highest) highest = mean, best = a;
    }
    return best;
}

static void cell(cli_report *r, int group, int a, cli_measure measure, bool best)
{
    const cli_spread s = cli_summary(r->c, group, a, measure);
    const int finished = cli_finished(r->c, group, a);
    fprintf(r->html, best ? "<td class=\"best\">%s" : "<td>%s", cli_spread_text(s, measure).text);
    if (measure == CLI_MEASURE_EPOCHS_TO_99 && s.count && s.count < finished)
        fprintf(r->html, " (%d of %d)", s.count, finished);
    fputs("</td>", r->html);
}

/* The difference of this activation's accuracy from the best one's, and whether it may be chance. */
static void difference(cli_report *r, int group, int a, int best)
{
    const cli_paired t = cli_paired_test(r->c, group, best, a, CLI_MEASURE_VALIDATION_ACCURACY);
    int n = 0;
    double p = (double)NAN;
    cli_pair *pairs = cli_pairs(r->c, group, &n);
    for (int i = 0; i < n && pairs; i++)
        if ((pairs[i].a == a && pairs[i].b == best) || (pairs[i].a == best && pairs[i].b == a))
            p = pairs[i].corrected;
    free(pairs);
    if (a == best || t.count == 0) {
        fputs(a == best ? "<td>best</td>" : "<td>–</td>", r->html);
        return;
    }
    fprintf(r->html, "<td>%s%.2f", t.difference < 0 ? "−" : "+", fabs(100 * t.difference));
    if (p < 0.0001)
        fputs(" (p &lt; 0.0001)", r->html);
    else if (!isnan(p))
        fprintf(r->html, " (p = %.4f)", p);
    fputs("</td>", r->html);
}

static void table(cli_report *r, int group)
{
    const cli_comparison *c = r->c;
    const int best = best_of(c, group);
    fputs("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Table of "
          "results\">\n<table>\n<thead><tr>"
          "<th scope=\"col\">activation</th>",
          r->html);
    for (int m = 0; m < CLI_MEASURE_COUNT; m++) {
        if (m == 1) fputs("<th scope=\"col\">against the best, points</th>", r->html);
        if (m == 1 && c->held_out) fputs("<th scope=\"col\">test accuracy, %</th>", r->html);
        const cli_measure_text text = cli_measure_describe((cli_measure)m);
        fprintf(r->html, "<th scope=\"col\">%s%s%s</th>", text.heading, *text.unit ? ", " : "", text.unit);
    }
    fputs("</tr></thead>\n<tbody>\n", r->html);
    for (int a = 0; a < c->n_activations; a++) {
        const int diverged = cli_diverged(c, group, a);
        fputs("<tr><th scope=\"row\">", r->html);
        cli_html_text(r->html, c->activations[a]);
        if (diverged) fprintf(r->html, " (%d of %d diverged)", diverged, cli_finished(c, group, a));
        fputs("</th>", r->html);
        for (int m = 0; m < CLI_MEASURE_COUNT; m++) {
            if (m == 1) difference(r, group, a, best);
            if (m == 1 && c->held_out)
                fprintf(r->html, "<td>%s</td>",
                        cli_spread_text(cli_test_spread(c, group, a), CLI_MEASURE_VALIDATION_ACCURACY).text);
            cell(r, group, a, (cli_measure)m, a == best && m == 0);
        }
        fputs("</tr>\n", r->html);
    }
    fputs("</tbody>\n</table>\n</div>\n", r->html);
}

static void about_tables(cli_report *r)
{
    const int n = r->c->n_seeds;
    if (n == 1) {
        fputs("<p>One seed: it cannot tell a difference from chance. After the last epoch where nothing else "
              "is "
              "said.</p>\n",
              r->html);
        return;
    }
    fprintf(
        r->html,
        "<p>Mean ± standard deviation over %d seeds, after the last epoch where nothing else is said. Every "
        "activation starts from the same random numbers and sees the images in the same order, so seeds are "
        "compared in pairs: p is that of Student's paired t-test, two-sided, after Holm for all pairs of the "
        "table. From 0.05 on a difference may be chance. %s</p>\n",
        n, n < 5 ? "With so few seeds only large differences can be told from it." : "");
}

/* --- the page --- */

static void figures(cli_report *r, int group, void (*draw)(cli_report *, int))
{
    if (!r->drawing) return;
    fputs("<div class=\"figures\">\n", r->html);
    draw(r, group);
    fputs("</div>\n", r->html);
}

static void draw_groups(cli_report *r, int group)
{
    (void)group;
    cli_report_groups(r);
}

static void draw_functions(cli_report *r, int group)
{
    (void)group;
    functions(r);
}

static void draw_curves(cli_report *r, int group)
{
    cli_report_curves(r, group);
    cli_report_cost(r, group);
}

static void sections(cli_report *r)
{
    const cli_comparison *c = r->c;
    fputs("<h2>Results</h2>\n", r->html);
    about_tables(r);
    for (int g = 0; g < c->n_groups; g++) {
        if (c->n_groups > 1) {
            fputs("<h3>", r->html);
            cli_html_text(r->html, c->vary);
            fputs(" ", r->html);
            cli_html_text(r->html, c->groups[g]);
            fputs("</h3>\n", r->html);
        }
        table(r, g);
    }
    if (!r->drawing) return;
    if (c->n_groups > 1) {
        fputs("<h2>Side by side</h2>\n", r->html);
        figures(r, -1, draw_groups);
    }
    for (int g = 0; g < c->n_groups; g++) {
        const char *of = c->n_groups > 1 ? c->groups[g] : "";
        fputs("<h2>Training", r->html);
        if (*of) fputs(", ", r->html), cli_html_text(r->html, c->vary), fputc(' ', r->html);
        cli_html_text(r->html, of);
        fputs("</h2>\n", r->html);
        figures(r, g, draw_curves);
        if (!cli_report_has_layers(r, g)) continue;
        fputs("<h3>Layer by layer</h3>\n", r->html);
        figures(r, g, cli_report_layers);
    }
    fputs("<h2>The functions</h2>\n", r->html);
    figures(r, -1, draw_functions);
}

static void closing(const cli_report *r)
{
    static const char *const files[] = {"results.csv", "summary.csv", "results.json"};
    fprintf(r->html, "<footer><p>Made by Slope %s.", r->c->version);
    const char *before = " The numbers: ";
    for (int i = 0; i < 3; i++) {
        char *path = NULL;
        if (asprintf(&path, "%s/%s", r->c->folder, files[i]) < 0) continue;
        if (access(path, R_OK) == 0) {
            fprintf(r->html, "%s<a href=\"%s\">%s</a>", before, files[i], files[i]);
            before = ", ";
        }
        free(path);
    }
    fputs(strcmp(before, ", ") == 0 ? ".</p></footer>\n" : "</p></footer>\n", r->html);
}

int cli_report_write(const cli_options *o, const cli_comparison *c)
{
    cli_memory page;
    if (!cli_memory_open(o, &page)) return CLI_FAILURE;
    cli_report r = {.o = o, .c = c, .html = page.file, .drawing = cli_gnuplot_found()};
    const bool missing = !r.drawing;
    char title[200];
    snprintf(title, sizeof title, "Which activation? %.120s", c->model);
    cli_html_begin(r.html, title);
    fputs("<h1>", r.html);
    cli_html_text(r.html, title);
    fputs("</h1>\n", r.html);
    what_was_run(&r);
    if (missing)
        fputs("<p><b>Without pictures:</b> " CLI_NO_GNUPLOT ". Install it and make the report again.</p>\n",
              r.html);
    sections(&r);
    closing(&r);
    cli_html_end(r.html);
    bool good = cli_memory_close(o, &page) && write_beside(&r, "report", ".html", page.bytes, page.size);
    cli_memory_free(&page);
    if (missing) cli_say(o, "%s: the report has no pictures", CLI_NO_GNUPLOT);
    return good && !r.failed ? CLI_SUCCESS : CLI_FAILURE;
}
