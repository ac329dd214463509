#include "html.h"

#include "gnuplot.h"

void cli_html_text(FILE *html, const char *text)
{
    for (; *text; text++) switch (*text) {
        case '<': fputs("&lt;", html); break;
        case '>': fputs("&gt;", html); break;
        case '&': fputs("&amp;", html); break;
        case '"': fputs("&quot;", html); break;
        default: fputc((unsigned char)*text < ' ' && *text != '\n' ? ' ' : *text, html);
        }
}

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1a1b1c;--dim:#5c5f62;--paper:#fff;--line:#d8d9da;--band:#f4f5f6}\n"
    "@media (prefers-color-scheme:dark){:root{--ink:#e8e9ea;--dim:#a3a7ab;--paper:#16181a;--line:#3a3d40;"
    "--band:#1f2225}}\n"
    "@media print{:root{color-scheme:light;--ink:#000;--dim:#444;--paper:#fff;--line:#ccc;--band:#f4f5f6}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1rem;max-width:80rem;background:var(--paper);color:var(--ink);"
    "font:1rem/1.5 system-ui,'Segoe UI',Roboto,'Helvetica Neue',sans-serif;overflow-wrap:break-word}\n"
    "h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .4rem}"
    "h3{font-size:1rem;margin:1.4rem 0 .2rem}\n"
    "p{margin:.4rem 0 .8rem;max-width:46rem}a{color:inherit}code{font-size:.9em}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.8rem 0}"
    "dt{color:var(--dim)}dd{margin:0;min-width:0}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:separate;border-spacing:0;font-variant-numeric:tabular-nums;font-size:.85rem;"
    "margin:.4rem 0}\n"
    "th,td{padding:.3rem .5rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}\n"
    "thead th{border-bottom:2px solid var(--ink);vertical-align:bottom;font-weight:600;white-space:normal}\n"
    "th:first-child{text-align:left;position:sticky;left:0;background:var(--paper);max-width:16rem;"
    "white-space:normal}\n"
    "tbody th{font-weight:600}.best{background:var(--band);font-weight:600}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr));gap:1.2rem "
    "1.6rem}\n"
    "figure{margin:0;min-width:0;max-width:36rem;break-inside:avoid}figure "
    "svg{display:block;width:100%;height:auto}\n"
    "figure svg text{font-family:inherit}figure svg .gridline{stroke:var(--line)}\n"
    "figcaption{font-size:.85rem;color:var(--dim);line-height:1.4}figcaption b{color:var(--ink)}\n"
    "footer{margin-top:2.5rem;border-top:1px solid var(--line);font-size:.85rem;color:var(--dim)}\n"
    "@media (max-width:30rem){body{padding:.75rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}"
    "th,td{padding:.3rem .5rem}th:first-child{max-width:7.5rem}}\n"
    "@media print{body{max-width:none;padding:0;font-size:.85rem}table{font-size:.62rem;width:100%}"
    "th,td{padding:.2rem "
    ".3rem;white-space:normal}th:first-child{position:static;overflow-wrap:anywhere;min-width:6.5rem}@page{"
    "margin:12mm}.wide{"
    "overflow:visible}h2,h3{break-after:avoid}"
    ".figures{display:block}figure{display:inline-block;width:48%;margin:0 1% .8rem 0;vertical-align:top}}\n";

void cli_html_begin(FILE *html, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
          html);
    cli_html_text(html, title);
    fprintf(html, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", style);
}

void cli_html_end(FILE *html)
{
    fputs("</body>\n</html>\n", html);
}

/* --- gnuplot's SVG --- */

typedef struct exchange {
    const char *from, *to;
} exchange;

/* What stands in a tag. The first two spell CLI_INK and CLI_GRID as gnuplot does; without its colour "black"
 * a group takes the page's. */
static const exchange exchanges[] = {
    {"rgb( 26,  27,  28)", "currentColor"},
    {"rgb(26,27,28)", "currentColor"},
    {"rgb(216, 217, 218)", "var(--line)"},
    {" color=\"black\"", ""},
    {"#FFFFFF", "var(--paper)"},
    {"#ffffff", "var(--paper)"},
    {NULL, NULL},
};

static const char *after(const char *at, const char *word)
{
    return strncmp(at, word, strlen(word)) == 0 ? at + strlen(word) : NULL;
}

/* Whether an id or a reference to one begins here; returns what stands behind the opening. */
static const char *id_opening(const char *at)
{
    static const char *const openings[] = {" id='", " id=\"", "href='#", "href=\"#", "url(#"};
    for (int i = 0; i < 5; i++) {
        const char *behind = after(at, openings[i]);
        if (behind) return behind;
    }
    return NULL;
}

static void put_tag(FILE *html, const char *tag, const char *end, const char *prefix)
{
    while (tag < end) {
        const char *behind = id_opening(tag);
        if (behind) {
            fprintf(html, "%.*s%s-", (int)(behind - tag), tag, prefix);
            tag = behind;
            continue;
        }
        const exchange *e = exchanges;
        while (e->from && !after(tag, e->from)) e++;
        if (e->from) {
            fputs(e->to, html);
            tag += strlen(e->from);
        } else
            fputc(*tag++, html);
    }
}

void cli_html_picture(FILE *html, const char *svg, const char *prefix, const char *label)
{
    const char *at = strstr(svg, "<svg"), *box = strstr(svg, "viewBox=\"");
    const char *inside = at ? strchr(at, '>') : NULL;
    if (!inside || !box || box > inside) return;
    fprintf(html, "<svg %.*s\" role=\"img\" aria-label=\"", (int)strcspn(box + 9, "\"") + 9, box);
    cli_html_text(html, label);
    fputs("\" xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\">", html);
    for (at = inside + 1; *at;) {
        const char *end = *at == '<' ? strchr(at, '>') : NULL;
        if (end) {
            put_tag(html, at, end + 1, prefix);
            at = end + 1;
        } else
            fputc(*at++, html);
    }
}
