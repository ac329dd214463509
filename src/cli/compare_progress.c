/* How a comparison goes: one line a run, on a terminal with a bar, and the time that is left for all. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "compare.h"

enum { LONGEST_NAME = 24 };

struct cli_progress {
    const cli_options *o;
    const cli_comparison *c;
    bool terminal;
    int runs, number; /* all, and which one is going on, counted from 1 */
    double work,
        done; /* epochs times layers: of the runs that are left, and of those that this process did */
    double seconds, began;
    int group, activation, seed, name_width, group_width;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What a run costs, as far as the lists tell. */
static double work_of(const cli_progress *p, int group)
{
    const cli_comparison *c = p->c;
    const bool epochs = c->option && strcmp(c->option, "epochs") == 0;
    return (epochs ? atof(c->values[group]) : c->epochs) * (1 + c->depths[group]);
}

cli_progress *cli_progress_open(const cli_options *o, const cli_comparison *c)
{
    cli_progress *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    *p = (cli_progress){.o = o, .c = c, .terminal = !o->quiet && isatty(STDERR_FILENO), .number = c->n_runs};
    p->runs = c->n_groups * c->n_activations * c->n_seeds;
    for (int g = 0; g < c->n_groups; g++)
        for (int a = 0; a < c->n_activations; a++)
            for (int s = 0; s < c->n_seeds; s++)
                if (!cli_comparison_run(c, g, a, s)) p->work += work_of(p, g);
    for (int a = 0; a < c->n_activations; a++) {
        const int n = (int)strlen(c->activations[a]);
        if (n > p->name_width) p->name_width = n < LONGEST_NAME ? n : LONGEST_NAME;
    }
    for (int g = 0; g < c->n_groups; g++) {
        const int n = cli_columns(c->groups[g]);
        if (n > p->group_width) p->group_width = n;
    }
    return p;
}

void cli_progress_close(cli_progress *p)
{
    if (p && p->terminal) fputs("\r\033[K", stderr);
    free(p);
}

bool cli_progress_is_watched(const cli_progress *p)
{
    return p && p->terminal;
}

/* "[ 3/15]  tanh        seed 2", with the group in front where there are several. */
static int head(const cli_progress *p, char *text, size_t size)
{
    const cli_comparison *c = p->c;
    const char *name = c->activations[p->activation];
    char total[16], group[64] = "", shown[LONGEST_NAME + 8];
    const int digits = snprintf(total, sizeof total, "%d", p->runs);
    if (c->vary) snprintf(group, sizeof group, "%s %-*s  ", c->vary, p->group_width, c->groups[p->group]);
    const bool cut = (int)strlen(name) > LONGEST_NAME;
    snprintf(shown, sizeof shown, "%.*s%s", cut ? LONGEST_NAME - 1 : LONGEST_NAME, name, cut ? "…" : "");
    return snprintf(text, size, "[%*d/%s]  %s%s%*s  seed %lld", digits, p->number, total, group, shown,
                    p->name_width - cli_columns(shown), "", (long long)c->seeds[p->seed]);
}

void cli_progress_begin(cli_progress *p, int group, int activation, int seed)
{
    if (!p) return;
    p->group = group;
    p->activation = activation;
    p->seed = seed;
    p->number++;
    p->began = now();
    char text[256];
    head(p, text, sizeof text);
    if (p->terminal) fprintf(stderr, "\r\033[K%s", text);
}

void cli_progress_step(cli_progress *p, const sl_progress *progress)
{
    char text[256], numbers[96];
    struct winsize size;
    const int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    /* The runs that are left cost as much as those that are done and this one. */
    const double own = work_of(p, p->group), all = p->seconds + (now() - p->began) + progress->seconds_left;
    const double left = progress->seconds_left + (p->work - own) * all / (p->done + own);
    const int h = head(p, text, sizeof text);
    const int n = snprintf(numbers, sizeof numbers, " %5.2f %%  %s left", 100 * progress->accuracy,
                           cli_time(left).text);
    const int e =
        snprintf(text + h, sizeof text - (size_t)h, "  epoch %d/%d ", progress->epoch, progress->epochs);
    const int room = columns - h - n - e - 1, width = room > 30 ? 30 : room;
    fprintf(stderr, "\r\033[K%s", text);
    for (int i = 0; i < width; i++) fputs(i < progress->step * width / progress->steps ? "█" : "░", stderr);
    fputs(numbers, stderr);
    fflush(stderr);
}

void cli_progress_end(cli_progress *p, const sl_epoch *last, bool diverged)
{
    if (!p) return;
    char text[256];
    const double seconds = now() - p->began;
    p->seconds += seconds;
    p->done += work_of(p, p->group);
    p->work -= work_of(p, p->group);
    head(p, text, sizeof text);
    if (p->terminal) fputs("\r\033[K", stderr);
    if (diverged)
        cli_say(p->o, "%s  diverged after %d of %d epochs", text, last->epoch,
                last->epochs ? last->epochs : p->c->epochs);
    else
        cli_say(p->o, "%s  validation %6.2f %%  loss %.4f  %s%s%s%s", text, 100 * last->validation.accuracy,
                last->validation.loss, cli_time(seconds).text, p->work > 0 ? ", " : "",
                p->work > 0 ? cli_time(p->work * p->seconds / p->done).text : "", p->work > 0 ? " left" : "");
}
