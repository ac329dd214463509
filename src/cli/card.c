/* slope card: one page about one activation. */
#define _GNU_SOURCE
#include <ctype.h>
#include <unistd.h>

#include "card.h"

/* A name for files: letters and digits of the activation, the rest as one line. */
static void file_word(const char *name, char *word, size_t size)
{
    size_t used = 0;
    for (; *name && used < size - 1; name++)
        if (isalnum((unsigned char)*name) || *name == '_')
            word[used++] = *name;
        else if (used && word[used - 1] != '-')
            word[used++] = '-';
    while (used && word[used - 1] == '-') used--;
    word[used] = 0;
}

/* For two seconds. */
static bool measure(card *c, bench *b, sl_context *ctx)
{
    bench_case one = {.kind = &bench_activations};
    snprintf(one.row, sizeof one.row, "this");
    cli_say(c->options, "measuring its speed");
    one.activation = sl_activation_parse(ctx, c->name);
    if (!bench_open(b, c->options, ctx) || !bench_run(b, &one, 1, 2, 0)) {
        if (sl_error(ctx)) cli_fail_context(c->options, ctx, false);
        return false;
    }
    c->bench = b;
    c->bench_row = "this";
    return true;
}

static bool draw(const card *c, const char *path)
{
    cli_picture picture;
    const bool good =
        cli_curve_sheet(c->options, &c->curve, 1, &picture) && cli_picture_write(c->options, &picture, path);
    cli_picture_free(&picture);
    return good;
}

static bool write_page(const card *c, const char *path, const char *picture)
{
    cli_memory page;
    const char *slash = picture ? strrchr(picture, '/') : NULL;
    if (!cli_memory_open(c->options, &page)) return false;
    card_write(c, page.file, slash ? slash + 1 : picture);
    const bool good =
        cli_memory_close(c->options, &page) && cli_write_file(c->options, path, page.bytes, page.size);
    cli_memory_free(&page);
    return good;
}

/* The page and, where gnuplot is there, the picture beside it. */
static bool write_files(const card *c, const char *path)
{
    char *picture = NULL;
    bool good = true;
    if (asprintf(&picture, "%.*s.svg", (int)strlen(path) - 3, path) < 0)
        return cli_fail(c->options, CLI_FAILURE, "out of memory"), false;
    const bool drawn = cli_gnuplot_found();
    if (!drawn) cli_say(c->options, CLI_NO_GNUPLOT ": the page has no picture");
    if (drawn) good = draw(c, picture);
    good = good && write_page(c, path, drawn ? picture : NULL);
    free(picture);
    if (good) puts(path);
    return good;
}

static bool fill(card *c, sl_context *plain)
{
    const cli_options *o = c->options;
    if (!card_function(c) || !card_accuracy(c, plain) || !card_gradient_flow(c)) return false;
    if (o->from) return card_from(c, o->from);
    return o->no_train || card_train(c);
}

int cli_card(cli_options *o)
{
    char path[96], word[64];
    if (o->n_words != 1)
        return cli_fail(o, CLI_USAGE,
                        "one word is expected: an activation, or an expression in quotation marks");
    file_word(o->words[0], word, sizeof word);
    snprintf(path, sizeof path, "slope-card-%s.md", *word ? word : "x");
    if (o->out && !cli_ends_with(o->out, ".md"))
        return cli_fail(o, CLI_USAGE, "--out is '%s'; the name must end in .md", o->out);
    int status = CLI_SUCCESS;
    card c = {.options = o, .name = o->words[0]};
    bench b = {0};
    sl_context *plain = cli_open_plain(o, 1, &status);
    if (plain) status = cli_activation(plain, o, c.name, &c.activation);
    sl_context *device = status == CLI_SUCCESS && !o->no_bench ? cli_open(o, &status) : NULL;
    if (status == CLI_SUCCESS && !(fill(&c, plain) && (o->no_bench || measure(&c, &b, device)) &&
                                   write_files(&c, o->out ? o->out : path)))
        status = CLI_FAILURE;
    bench_close(&b);
    cli_curves_free(NULL, 0);
    free(c.curve.samples);
    free(c.trained);
    sl_close(device);
    sl_close(plain);
    return status;
}
