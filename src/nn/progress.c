#include "nn/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct sl_progress_bar {
    FILE *to;
    bool terminal, drawn;
};

sl_progress_bar *sl_progress_open(FILE *to)
{
    sl_progress_bar *bar = calloc(1, sizeof *bar);
    if (!bar) return NULL;
    bar->to = to;
    const int file = fileno(to);
    bar->terminal = file >= 0 && isatty(file);
    return bar;
}

void sl_progress_close(sl_progress_bar *bar)
{
    if (!bar) return;
    if (bar->drawn) fputc('\n', bar->to);
    fflush(bar->to);
    free(bar);
}

static int columns(FILE *to)
{
    struct winsize size;
    return ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static const char *time_text(double seconds, char *text, size_t size)
{
    const long s = lround(seconds);
    if (s < 60)
        snprintf(text, size, "%ld s", s);
    else if (s < 3600)
        snprintf(text, size, "%ld:%02ld min", s / 60, s % 60);
    else
        snprintf(text, size, "%ld:%02ld h", s / 3600, s / 60 % 60);
    return text;
}

static const char *count_text(double count, char *text, size_t size)
{
    if (count >= 1e6)
        snprintf(text, size, "%.2f M", count / 1e6);
    else if (count >= 1e4)
        snprintf(text, size, "%.0f k", count / 1e3);
    else
        snprintf(text, size, "%.0f", count);
    return text;
}

static const char *loss_text(double loss, char *text, size_t size)
{
    snprintf(text, size, fabs(loss) < 1e4 ? "%.4f" : "%.3e", loss);
    return text;
}

void sl_progress_show(sl_progress_bar *bar, const sl_progress *p)
{
    if (!bar->terminal) return;
    char rate[32], left[32], loss[32], numbers[160], accuracy[32] = "";
    if (!isnan(p->accuracy)) snprintf(accuracy, sizeof accuracy, "  acc %5.2f %%", 100 * p->accuracy);
    const int n = snprintf(numbers, sizeof numbers, " %lld/%lld  loss %s%s  %s/s  %s left",
                           (long long)p->step, (long long)p->steps, loss_text(p->loss, loss, sizeof loss),
                           accuracy, count_text(p->samples_per_second, rate, sizeof rate),
                           time_text(p->seconds_left, left, sizeof left));
    char head[32];
    const int h = snprintf(head, sizeof head, "epoch %d/%d ", p->epoch, p->epochs);
    const int room = columns(bar->to) - n - h - 1, width = room > 40 ? 40 : room;
    fprintf(bar->to, "\r\033[K%s", head);
    const int filled = p->steps > 0 ? (int)(p->step * width / p->steps) : 0;
    for (int i = 0; i < width; i++) fputs(i < filled ? "█" : "░", bar->to);
    fputs(numbers, bar->to);
    fflush(bar->to);
    bar->drawn = true;
}

void sl_progress_epoch(sl_progress_bar *bar, const sl_epoch *e)
{
    char rate[32], loss[32];
    if (bar->drawn) fputs("\r\033[K", bar->to);
    bar->drawn = false;
    /* Up to 99 epochs fit into 80 columns. */
    fprintf(bar->to, "epoch %*d/%d  loss %s", e->epochs > 9 ? 2 : 1, e->epoch, e->epochs,
            loss_text(e->train.loss, loss, sizeof loss));
    if (!isnan(e->train.accuracy)) fprintf(bar->to, " acc %5.2f %%", 100 * e->train.accuracy);
    if (e->validation.count > 0) {
        fprintf(bar->to, "  val %s", loss_text(e->validation.loss, loss, sizeof loss));
        if (!isnan(e->validation.accuracy)) fprintf(bar->to, " acc %5.2f %%", 100 * e->validation.accuracy);
    }
    fprintf(bar->to, "  %.2f s  %s/s\n", e->train.seconds,
            count_text(e->samples_per_second, rate, sizeof rate));
    fflush(bar->to);
}
