#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gnuplot.h"

bool cli_ends_with(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

bool cli_gnuplot_found(void)
{
    const char *path = getenv("PATH");
    for (; path && *path; path += *path == ':') {
        char file[4096];
        const int n = (int)strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/gnuplot", n, path);
        path += n;
        if (n && access(file, X_OK) == 0) return true;
    }
    return false;
}

/* --- the child process --- */

extern char **environ;

/* Runs gnuplot from one file in memory into another: no pipe can run full, and no file is left behind. */
static bool run(const cli_options *o, int in, int out)
{
    char *const arguments[] = {"gnuplot", "-", NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 0, failed = posix_spawn_file_actions_init(&actions);
    if (failed) return cli_fail(o, CLI_FAILURE, "out of memory"), false;
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    failed = posix_spawnp(&child, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed == ENOENT) return cli_fail(o, CLI_FAILURE, CLI_NO_GNUPLOT), false;
    if (failed) return cli_fail(o, CLI_FAILURE, "gnuplot cannot be run: %s", strerror(failed)), false;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return cli_fail(o, CLI_FAILURE, "gnuplot: %s", strerror(errno)), false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    cli_fail(o, CLI_FAILURE, "gnuplot failed with %s %d", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return false;
}

static bool write_all(int to, const char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(to, bytes + done, size - done);
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) done += (size_t)n;
    }
    return true;
}

static bool read_all(int from, char **bytes, size_t *size)
{
    const off_t end = lseek(from, 0, SEEK_END);
    if (end < 0 || !(*bytes = malloc((size_t)end + 1))) return false;
    *size = 0;
    while (*size < (size_t)end) {
        const ssize_t n = pread(from, *bytes + *size, (size_t)end - *size, (off_t)*size);
        if (n == 0 || (n < 0 && errno != EINTR)) return false;
        if (n > 0) *size += (size_t)n;
    }
    (*bytes)[*size] = 0;
    return true;
}

static const char *after(const char *at, const char *word)
{
    return strncmp(at, word, strlen(word)) == 0 ? at + strlen(word) : NULL;
}

/* A group that holds nothing: gnuplot writes many. Returns what stands behind it, else NULL. */
static const char *empty_group(const char *at)
{
    if (!after(at, "<g ")) return NULL;
    const char *end = strchr(at, '>');
    if (!end) return NULL;
    end += 1 + strspn(end + 1, " \t\n");
    return after(end, "</g>");
}

/* <title>gnuplot_plot_1</title> and the like, which a browser would show. */
static const char *own_title(const char *at)
{
    static const char *const names[] = {"title", "desc"};
    for (int i = 0; i < 2; i++) {
        char open[16], close[16];
        snprintf(open, sizeof open, "<%s>", names[i]);
        snprintf(close, sizeof close, "</%s>", names[i]);
        const char *end = after(at, open) ? strstr(at, close) : NULL;
        if (end) return end + strlen(close);
    }
    return NULL;
}

/* Takes out what shows nothing: half of the file. */
static size_t compact(char *svg)
{
    char *to = svg;
    for (const char *at = svg; *at;) {
        const char *behind = *at == '<' ? empty_group(at) : NULL;
        if (*at == '<' && !behind) behind = own_title(at);
        if (behind)
            at = behind + strspn(behind, " \t\n");
        else
            *to++ = *at++;
    }
    *to = 0;
    return (size_t)(to - svg);
}

static void terminal(const cli_picture *p, bool png, char *text, size_t size)
{
    if (png)
        snprintf(text, size,
                 "set terminal pngcairo size %d,%d noenhanced font 'sans-serif,13' fontscale 1.5 linewidth 2 "
                 "pointscale 2.4 background '#ffffff'\n",
                 2 * p->width, 2 * p->height);
    else
        snprintf(text, size,
                 "set terminal svg size %d,%d noenhanced font 'sans-serif,13' background '#ffffff'\n",
                 p->width, p->height);
}

bool cli_picture_render(const cli_options *o, cli_picture *p, bool png, char **bytes, size_t *size)
{
    char head[256];
    *bytes = NULL;
    *size = 0;
    if (p->script.file && !cli_memory_close(o, &p->script)) return false;
    terminal(p, png, head, sizeof head);
    const int in = memfd_create("script", MFD_CLOEXEC), out = memfd_create("picture", MFD_CLOEXEC);
    bool good = in >= 0 && out >= 0 && write_all(in, head, strlen(head)) &&
                write_all(in, p->script.bytes, p->script.size) && lseek(in, 0, SEEK_SET) == 0;
    if (!good)
        cli_fail(o, CLI_FAILURE, "gnuplot cannot be run: %s", strerror(errno));
    else if ((good = run(o, in, out)) && !(good = read_all(out, bytes, size) && *size > 0))
        cli_fail(o, CLI_FAILURE, "gnuplot drew nothing");
    else if (good && !png)
        *size = compact(*bytes);
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    if (!good) {
        free(*bytes);
        *bytes = NULL;
    }
    return good;
}

bool cli_picture_write(const cli_options *o, cli_picture *p, const char *path)
{
    char *bytes;
    size_t size;
    const bool good = cli_picture_render(o, p, cli_ends_with(path, ".png"), &bytes, &size) &&
                      cli_write_file(o, path, bytes, size);
    free(bytes);
    return good;
}

/* --- the look --- */

bool cli_picture_open(const cli_options *o, cli_picture *p, int width, int height)
{
    *p = (cli_picture){.width = width, .height = height};
    if (!cli_memory_open(o, &p->script)) return false;
    fputs(
        "set encoding utf8\nset minussign\n"
        "set pointintervalbox 0\n"
        "set border 3 lc rgb '" CLI_INK "' lw 1\n"
        "set tics nomirror out scale 0.5 textcolor rgb '" CLI_INK "'\n"
        "set grid lc rgb '" CLI_GRID "' lt 1 lw 0.75\n"
        "set title textcolor rgb '" CLI_INK "'\n"
        "set xtics offset 0,0.4\n"
        "set xlabel offset 0,0.7 textcolor rgb '" CLI_INK "'\n"
        "set ylabel offset 0.3,0 textcolor rgb '" CLI_INK "'\n"
        "set cblabel textcolor rgb '" CLI_INK "'\n"
        "set key below center horizontal Left reverse samplen 2.5 width 1 height 1.6 textcolor rgb '" CLI_INK
        "'\n"
        "set format '%g'\n",
        p->script.file);
    return true;
}

void cli_picture_free(cli_picture *p)
{
    cli_memory_free(&p->script);
}

void cli_quote(FILE *script, const char *text)
{
    fputc('\'', script);
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', script);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, script);
    }
    fputc('\'', script);
}

const char *cli_colour(int i)
{
    static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                          "#56b4e9", "#e69f00", CLI_INK};
    return colours[i % 7];
}

void cli_line_style(FILE *script, int i)
{
    /* In widths of the line: 5 patterns beside 7 colours make 35 kinds of lines. */
    static const char *const dashes[] = {"1", "(8,3)", "(2,2)", "(8,3,2,3)", "(12,3)"};
    fprintf(script, " lc rgb '%s' dt %s", cli_colour(i), dashes[i % 5]);
}

void cli_mark_style(FILE *script, int i)
{
    static const int marks[] = {7,  5, 9, 13,
                                11, 6, 4, 8}; /* filled and open circles, squares, triangles, … */
    fprintf(script, " pt %d", marks[i % 8]);
}

/* Bytes of the first letters. */
static int bytes_of(const char *text, int letters)
{
    int bytes = 0;
    for (int n = 0; text[bytes]; bytes++)
        if ((text[bytes] & 0xc0) != 0x80 && n++ == letters) break;
    return bytes;
}

cli_text cli_label(const char *name, int i)
{
    enum { LONGEST = 22, LONGEST_BYTES = 32 };
    cli_text out;
    if (!name[bytes_of(name, LONGEST)] && strlen(name) < sizeof out.text) {
        snprintf(out.text, sizeof out.text, "%s", name);
        return out;
    }
    int letters = LONGEST - 4;
    while (bytes_of(name, letters) > LONGEST_BYTES) letters--;
    snprintf(out.text, sizeof out.text, "%.*s… [%d]", bytes_of(name, letters), name, i + 1);
    return out;
}
