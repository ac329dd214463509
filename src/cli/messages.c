/* What the command says, and how it spells numbers and names. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

int cli_fail(const cli_options *o, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "slope%s%s: ", o && o->command ? " " : "", o && o->command ? o->command : "");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return status;
}

int cli_fail_context(const cli_options *o, const sl_context *ctx, bool reading_options)
{
    const sl_status code = sl_error_code(ctx);
    const bool usage = reading_options && (code == SL_ARGUMENT || code == SL_SHAPE || code == SL_UNSUPPORTED);
    const char *text = sl_error(ctx);
    return cli_fail(o, usage ? CLI_USAGE : CLI_FAILURE, "%s", text ? text : "something went wrong");
}

void cli_say(const cli_options *o, const char *format, ...)
{
    if (o->quiet) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* Letters to insert, remove or exchange (neighbours count once), as Damerau and Levenshtein count them. */
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 31 };
    const int n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    int d[LONGEST + 1][LONGEST + 1];
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *cli_nearest(const char *word, const char *const *list)
{
    const char *nearest = NULL;
    int best = (int)strlen(word) / 3 + 1; /* more changes than that make another word */
    if (best > 3) best = 3;
    for (; *list; list++) {
        const int d = distance(word, *list);
        if (d > best || d >= (int)strlen(word) || (nearest && d == best)) continue;
        best = d;
        nearest = *list;
    }
    return nearest;
}

cli_text cli_count(int64_t number)
{
    cli_text out;
    char digits[24];
    const int n = snprintf(digits, sizeof digits, "%lld", (long long)number);
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0 && digits[i - 1] != '-') out.text[used++] = ' ';
        out.text[used++] = digits[i];
    }
    out.text[used] = 0;
    return out;
}

cli_text cli_time(double seconds)
{
    cli_text out;
    const long s = seconds < 1e9 ? (long)(seconds + 0.5) : 1000000000;
    if (s < 60)
        snprintf(out.text, sizeof out.text, "%ld s", s);
    else if (s < 3600)
        snprintf(out.text, sizeof out.text, "%ld:%02ld min", s / 60, s % 60);
    else
        snprintf(out.text, sizeof out.text, "%ld:%02ld h", s / 3600, s / 60 % 60);
    return out;
}

enum { WIDTH = 79 };

static int letters(const char *text, int bytes)
{
    int n = 0;
    for (int i = 0; i < bytes; i++) n += (text[i] & 0xc0) != 0x80;
    return n;
}

int cli_columns(const char *text)
{
    return letters(text, (int)strlen(text));
}

void cli_wrap(FILE *to, const char *text, int at, int indent)
{
    bool first = true;
    while (*text) {
        if (*text == '\n') {
            fprintf(to, "\n%*s", indent, "");
            at = indent;
            first = true;
            text++;
            continue;
        }
        const int bytes = (int)strcspn(text, " \n"), n = letters(text, bytes);
        if (!first && at + 1 + n > WIDTH) {
            fprintf(to, "\n%*s", indent, "");
            at = indent;
            first = true;
        }
        fprintf(to, "%s%.*s", first ? "" : " ", bytes, text);
        at += n + !first;
        first = false;
        text += bytes;
        text += *text == ' ';
    }
    fputc('\n', to);
}

int cli_finish(const cli_options *o, int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    return cli_fail(o, CLI_FAILURE, "standard output cannot be written: %s", strerror(errno ? errno : EIO));
}
