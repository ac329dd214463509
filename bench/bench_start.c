/* From the start of a process to the end of its first training step, and the most memory it held until then.
 *
 *     bench_start [--times N] [--threads N] [--json] [COMMAND]
 *
 * Without COMMAND, programs that train softmax, mlp, lenet and cnn (batch 128) for one step on images of
 * random floats. A COMMAND is run by the shell, and prints when its step is done: its CLOCK_MONOTONIC in
 * nanoseconds and its VmHWM in KiB (peers/torch_start.py does). Each program runs once for warming up, then
 * --times times (default 11); figures are medians. The time counts from before the process is made. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"
#include "options.h"
#include "workloads.h"

enum { MOST_TIMES = 101, BATCH = 128 };
extern char **environ;

/* --- the program that is measured --- */

static long peak_memory(void)
{
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    if (status) fclose(status);
    return kib;
}

static int first_step(const char *line, bool adam, int threads)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 1, .threads = threads);
    sl_model *model = compile_line(ctx, line, adam, BATCH);
    sl_train_step(model, random_data(ctx, BATCH), 1, NULL, NULL);
    stop_on_error(ctx);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    printf("%lld %ld\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec, peak_memory());
    sl_close(ctx);
    return 0;
}

/* --- measuring --- */

typedef struct result {
    double ms[MOST_TIMES], mib[MOST_TIMES];
} result;

static void run_once(char *const *command, double *ms, double *mib)
{
    int ends[2], status;
    pid_t child;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0 || posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1) != 0)
        stop("bench_start: no pipe");
    const double start = seconds_now();
    if (posix_spawnp(&child, command[0], &actions, NULL, command, environ) != 0)
        stop("bench_start: the program does not start");
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    long long nanoseconds;
    long kib;
    const bool good = from && fscanf(from, "%lld %ld", &nanoseconds, &kib) == 2;
    fclose(from);
    if (waitpid(child, &status, 0) != child || status != 0 || !good) stop("bench_start: the program failed");
    posix_spawn_file_actions_destroy(&actions);
    *ms = 1e3 * (1e-9 * (double)nanoseconds - start);
    *mib = (double)kib / 1024;
}

static void print(const char *name, const result *r, int times, bool json, bool first)
{
    if (json) {
        printf("%s\n  {\"name\": \"%s\", \"ms\": [", first ? "" : ",", name);
        for (int i = 0; i < times; i++) printf("%s%.3f", i ? ", " : "", r->ms[i]);
        printf("], \"mib\": [");
        for (int i = 0; i < times; i++) printf("%s%.2f", i ? ", " : "", r->mib[i]);
        printf("]}");
        return;
    }
    if (first)
        printf("| first step | ms | lowest | highest | most memory, MiB |\n|---|---:|---:|---:|---:|\n");
    printf("| %s | %.1f | %.1f | %.1f | %.1f |\n", name, median_of(r->ms, times), lowest_of(r->ms, times),
           highest_of(r->ms, times), median_of(r->mib, times));
}

int main(int argc, char **argv)
{
    int times = 11, threads = 0;
    bool json = false;
    const char *command = NULL, *model = NULL;
    const bench_option options[] = {{"--times", "N", .number = &times, .least = 1, .most = MOST_TIMES},
                                    {"--threads", "N", .number = &threads, .least = 1, .most = 1024},
                                    {"--json", .flag = &json},
                                    {"--first-step-of", "MODEL", .text = &model},
                                    {"", "COMMAND", .text = &command},
                                    {0}};
    bench_options("bench_start", argc, argv, NULL, options);
    if (model) {
        const workload *w = workload_named(model);
        return w ? first_step(w->line, w->adam, threads) : 2;
    }
    char count[16];
    snprintf(count, sizeof count, "%d", threads);
    if (json) printf("{\"program\": \"bench_start\", \"starts\": [");
    for (int i = 0; i < WORKLOADS && !(command && i); i++) {
        static result r;
        char *const shell[] = {"sh", "-c", (char *)command, NULL};
        char *const own[] = {"/proc/self/exe",
                             "--first-step-of",
                             (char *)workload_at(i)->name,
                             threads ? "--threads" : NULL,
                             count,
                             NULL};
        char *const *program = command ? shell : own;
        double warm[2];
        run_once(program, &warm[0], &warm[1]);
        for (int k = 0; k < times; k++) run_once(program, &r.ms[k], &r.mib[k]);
        print(command ? command : workload_at(i)->name, &r, times, json, i == 0);
    }
    if (json) printf("\n]}\n");
    return 0;
}
