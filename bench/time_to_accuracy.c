/* Seconds of training to 97, 98, 99 and 99.3 % accuracy on images that are not trained on, over several
 * seeds.
 *
 *     time_to_accuracy [--seeds N] [--checks N] [--json] [options of slope train, such as --recipe FILE]
 *
 * The network is the one that `slope train` with the same options makes, to the bit. The clock runs over the
 * training steps with the drawing of their batches, from the first one (on CUDA with the capture of the
 * graph) until the device has answered. It stands still while data are loaded, the plan is made and the
 * accuracy is looked at, --checks times an epoch. The accuracy is that on the test images, or with
 * --validation N on the last N training images, which are not trained on then: whoever looks for a recipe
 * looks there. A step of a network that is thrown away goes before all, because the first one of a process
 * loads the kernels. */
#define _POSIX_C_SOURCE 200809L
#include <cjson/cJSON.h>
#include <math.h>

#include "cli.h"
#include "commands.h"
#include "measure.h"
#include "workloads.h"

sl_pool *sl_cpu_pool(const sl_device *device);

enum { TARGETS = 4, MOST_SEEDS = 100 };
static const double targets[TARGETS] = {0.97, 0.98, 0.99, 0.993};

typedef struct settings {
    cli_options options;
    int seeds, checks; /* an epoch */
    bool json;
} settings;

typedef struct run {
    uint64_t seed, fingerprint;
    double reached[TARGETS];  /* seconds; NaN: never */
    double seconds, accuracy; /* at the end */
    double planning, first_step, peak;
} run;

/* --- the command line --- */

static const cli_command command = {.name = "train", .bit = TRAIN};

static void usage(void)
{
    stop("usage: time_to_accuracy [--seeds N] [--checks N] [--json] [options of slope train, such as "
         "--recipe FILE]\n"
         "  --seeds N   how many seeds, counted up from --seed [10]\n"
         "  --checks N  how often an epoch the accuracy is looked at, the clock standing still [10]\n"
         "  --json      print one JSON object");
}

static int number_of(const char *option, const char *text, int most)
{
    char *end;
    const long number = strtol(text, &end, 10);
    if (end != text && !*end && number >= 1 && number <= most) return (int)number;
    fprintf(stderr, "time_to_accuracy: %s takes a number from 1 to %d, not '%s'\n", option, most, text);
    exit(2);
}

/* Takes out the options of this program; the rest are those of slope train. */
static void read_settings(int argc, char **argv, settings *s)
{
    static const int without_meaning[] = {CLI_OUT, CLI_RESUME, CLI_LOG, CLI_DIAGNOSE};
    int n = 1;
    *s = (settings){.seeds = 10, .checks = 10};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            s->json = true;
        else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            s->seeds = number_of("--seeds", argv[++i], MOST_SEEDS);
        else if (strcmp(argv[i], "--checks") == 0 && i + 1 < argc)
            s->checks = number_of("--checks", argv[++i], 1000);
        else
            argv[n++] = argv[i];
    }
    argv[n] = NULL;
    if (!cli_parse(&command, n, argv, &s->options)) exit(CLI_USAGE);
    if (s->options.help || s->options.n_words > 0) usage();
    for (size_t i = 0; i < sizeof without_meaning / sizeof *without_meaning; i++)
        if (cli_given(&s->options, without_meaning[i])) usage();
    if (strncmp(s->options.schedule, "plateau", 7) == 0)
        stop("time_to_accuracy: the plateau schedule is steered by a validation set; take another one");
}

/* --- one seed --- */

typedef struct session {
    sl_context *ctx;
    sl_dataset *train, *unseen;
    sl_model *model;
} session;

static session prepare(const cli_options *o)
{
    session s = {0};
    int status = CLI_SUCCESS;
    s.ctx = cli_open(o, &status);
    if (s.ctx) s.train = cli_data(s.ctx, o, SL_TRAIN, &status);
    if (s.train && cli_given(o, CLI_VALIDATION)) {
        const int64_t left = sl_dataset_describe(s.train).count - o->validation;
        if (left < 1) stop("time_to_accuracy: --validation leaves no image to learn from");
        s.unseen = sl_dataset_slice(s.train, left, o->validation);
        s.train = sl_dataset_slice(s.train, 0, left);
    } else if (s.train) {
        s.unseen = cli_data(s.ctx, o, SL_TEST, &status);
    }
    if (s.unseen) s.model = cli_model(s.ctx, o, s.train, &status);
    if (status != CLI_SUCCESS) exit(status);
    stop_on_error(s.ctx);
    return s;
}

static void note(run *r, double accuracy)
{
    for (int t = 0; t < TARGETS; t++)
        if (isnan(r->reached[t]) && accuracy >= targets[t]) r->reached[t] = r->seconds;
    r->accuracy = accuracy;
}

static run train(const session *s, const cli_options *o, int checks)
{
    run r = {.seed = (uint64_t)o->seed, .reached = {NAN, NAN, NAN, NAN}};
    const double begin = seconds_now();
    const sl_pass *pass = sl_training_pass(s->model, s->train, (int)o->epochs);
    stop_on_error(s->ctx);
    r.planning = seconds_now() - begin;
    sl_evaluate(s->model, s->unseen); /* makes its plan, and wakes the threads */
    const int64_t steps = pass->steps * o->epochs, looks = checks * o->epochs;
    int64_t done = 0;
    const double zero = seconds_now();
    if (sl_plan_run(pass->plan) == SL_OK) done++;
    wait_for_device(s->model);
    r.seconds = r.first_step = seconds_now() - zero;
    for (int64_t look = 1; look <= looks && sl_ok(s->ctx); look++) {
        const int64_t until = steps * look / looks;
        const double start = seconds_now();
        while (done < until && sl_plan_run(pass->plan) == SL_OK) done++;
        wait_for_device(s->model);
        r.seconds += seconds_now() - start;
        note(&r, sl_evaluate(s->model, s->unseen).accuracy);
    }
    r.fingerprint = sl_model_fingerprint(s->model);
    stop_on_error(s->ctx);
    r.peak = strcmp(sl_device_name(s->ctx), "cpu") == 0 ? peak_gflops(sl_cpu_pool(s->ctx->device)) : 0;
    return r;
}

/* --- mean and standard deviation over the seeds --- */

typedef struct spread {
    int n;                  /* values that are numbers */
    double mean, deviation; /* NaN without values; 0 for one */
} spread;

static spread spread_of(const run *runs, int n, size_t offset)
{
    spread s = {.mean = 0};
    double squares = 0;
    for (int i = 0; i < n; i++) {
        const double value = *(const double *)((const char *)&runs[i] + offset);
        if (isnan(value)) continue;
        s.n++;
        const double before = value - s.mean;
        s.mean += before / s.n; /* Welford */
        squares += before * (value - s.mean);
    }
    if (s.n == 0) s.mean = NAN;
    s.deviation = s.n == 0 ? NAN : s.n == 1 ? 0 : sqrt(squares / (s.n - 1));
    return s;
}

static size_t offset_of(int target)
{
    return offsetof(run, reached) + (size_t)target * sizeof(double);
}

/* --- what is printed --- */

static void machine_name(char *name, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    snprintf(name, size, "unknown CPU");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        snprintf(name, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file) fclose(file);
}

static void describe(const settings *s, const session *first)
{
    const cli_options *o = &s->options;
    const int64_t steps = (sl_dataset_describe(first->train).count + o->batch - 1) / o->batch;
    char data[320], machine[128];
    machine_name(machine, sizeof machine);
    if (o->recipe) printf("recipe    %s\n", o->recipe);
    printf("model     %s\n          act is %s; %s parameters\n", sl_model_describe(first->model),
           o->activation, cli_count(sl_model_parameters(first->model)).text);
    printf("training  %s; %lld epochs of %s steps, batch %lld\n",
           cli_data_text(first->train, "images", data, sizeof data), (long long)o->epochs,
           cli_count(steps).text, (long long)o->batch);
    printf("accuracy  on %s %s, looked at %d times an epoch\n",
           cli_count(sl_dataset_describe(first->unseen).count).text,
           cli_given(o, CLI_VALIDATION) ? "training images held out" : "test images", s->checks);
    printf("device    %s: %s, on %s\n", sl_device_name(first->ctx), device_text(first->ctx), machine);
    printf(
        "clock     training steps with the drawing of their batches; no loading, planning, evaluation\n\n");
    printf("%-10s", "seed");
    for (int t = 0; t < TARGETS; t++) printf("   to %5.1f %%", 100 * targets[t]);
    printf("%14s %14s\n", "all steps", "accuracy");
    fflush(stdout);
}

static void print_run(const run *r)
{
    printf("%-10llu", (unsigned long long)r->seed);
    for (int t = 0; t < TARGETS; t++)
        if (isnan(r->reached[t]))
            printf("%13s", "-");
        else
            printf("%11.4f s", r->reached[t]);
    printf("%12.4f s %12.2f %%\n", r->seconds, 100 * r->accuracy);
    fflush(stdout);
}

static void print_spreads(const run *runs, int n)
{
    printf("\n%-18s %9s %12s %12s\n", "", "seeds", "mean", "s.d.");
    for (int t = 0; t < TARGETS; t++) {
        const spread s = spread_of(runs, n, offset_of(t));
        char seeds[32];
        snprintf(seeds, sizeof seeds, "%d of %d", s.n, n);
        if (s.n)
            printf("to %5.1f %%         %9s %10.4f s %10.4f s\n", 100 * targets[t], seeds, s.mean,
                   s.deviation);
        else
            printf("to %5.1f %%         %9s %12s %12s\n", 100 * targets[t], seeds, "-", "-");
    }
    const spread all = spread_of(runs, n, offsetof(run, seconds)),
                 accuracy = spread_of(runs, n, offsetof(run, accuracy)),
                 first = spread_of(runs, n, offsetof(run, first_step)),
                 planning = spread_of(runs, n, offsetof(run, planning)),
                 peak = spread_of(runs, n, offsetof(run, peak));
    printf("%-18s %9d %10.4f s %10.4f s\n", "all steps", n, all.mean, all.deviation);
    printf("%-18s %9d %10.3f %% %10.3f %%\n", "accuracy at end", n, 100 * accuracy.mean,
           100 * accuracy.deviation);
    printf("%-18s %9d %10.4f s %10.4f s   counted\n", "first step", n, first.mean, first.deviation);
    printf("%-18s %9d %10.4f s %10.4f s   not counted\n", "planning", n, planning.mean, planning.deviation);
    if (peak.mean > 0)
        printf("%-18s %9d %5.1f GFLOP/s %4.1f GFLOP/s   measured after each seed\n", "multiply-add peak", n,
               peak.mean, peak.deviation);
}

static void add_spread(cJSON *to, const char *name, spread s)
{
    cJSON *object = cJSON_AddObjectToObject(to, name);
    cJSON_AddNumberToObject(object, "n", s.n);
    cJSON_AddNumberToObject(object, "mean", s.mean); /* NaN becomes null */
    cJSON_AddNumberToObject(object, "sd", s.deviation);
}

static void print_json(const settings *s, const session *first, const run *runs)
{
    const cli_options *o = &s->options;
    cJSON *root = cJSON_CreateObject();
    char text[128], key[32];
    machine_name(text, sizeof text);
    cJSON_AddStringToObject(root, "framework", "slope " SLOPE_VERSION);
    cJSON_AddStringToObject(root, "recipe", o->recipe ? o->recipe : "");
    cJSON_AddStringToObject(root, "model", sl_model_describe(first->model));
    cJSON_AddStringToObject(root, "machine", text);
    cJSON_AddStringToObject(root, "device", device_text(first->ctx));
    cJSON_AddBoolToObject(root, "simulated", is_simulated(first->ctx));
    cJSON_AddStringToObject(root, "precision", o->precision);
    cJSON_AddStringToObject(root, "data", sl_dataset_describe(first->train).name);
    cJSON_AddNumberToObject(root, "images", (double)sl_dataset_describe(first->train).count);
    cJSON_AddNumberToObject(root, "epochs", (double)o->epochs);
    cJSON_AddNumberToObject(root, "batch", (double)o->batch);
    cJSON_AddStringToObject(root, "accuracy_on", cli_given(o, CLI_VALIDATION) ? "held out" : "test set");
    cJSON_AddNumberToObject(root, "checks_per_epoch", s->checks);
    cJSON *to = cJSON_AddObjectToObject(root, "seconds_to");
    for (int t = 0; t < TARGETS; t++) {
        snprintf(key, sizeof key, "%g", 100 * targets[t]);
        add_spread(to, key, spread_of(runs, s->seeds, offset_of(t)));
    }
    add_spread(root, "seconds", spread_of(runs, s->seeds, offsetof(run, seconds)));
    add_spread(root, "accuracy", spread_of(runs, s->seeds, offsetof(run, accuracy)));
    add_spread(root, "first_step_seconds", spread_of(runs, s->seeds, offsetof(run, first_step)));
    add_spread(root, "planning_seconds", spread_of(runs, s->seeds, offsetof(run, planning)));
    add_spread(root, "peak_gflops", spread_of(runs, s->seeds, offsetof(run, peak)));
    cJSON *list = cJSON_AddArrayToObject(root, "seeds");
    for (int i = 0; i < s->seeds; i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddNumberToObject(one, "seed", (double)runs[i].seed);
        cJSON_AddItemToObject(one, "seconds_to", cJSON_CreateDoubleArray(runs[i].reached, TARGETS));
        cJSON_AddNumberToObject(one, "seconds", runs[i].seconds);
        cJSON_AddNumberToObject(one, "accuracy", runs[i].accuracy);
        snprintf(text, sizeof text, "%016llx", (unsigned long long)runs[i].fingerprint);
        cJSON_AddStringToObject(one, "fingerprint", text);
        cJSON_AddItemToArray(list, one);
    }
    char *line = cJSON_PrintUnformatted(root);
    if (!line) stop("out of memory");
    puts(line);
    cJSON_free(line);
    cJSON_Delete(root);
}

int main(int argc, char **argv)
{
    settings s;
    static run runs[MOST_SEEDS];
    read_settings(argc, argv, &s);
    const int64_t seed = s.options.seed;
    const session thrown_away = prepare(&s.options);
    if (!s.json) describe(&s, &thrown_away);
    sl_train_step(thrown_away.model, thrown_away.train, 1, NULL, NULL);
    for (int i = 0; i < s.seeds; i++) {
        s.options.seed = seed + i;
        const session one = prepare(&s.options);
        runs[i] = train(&one, &s.options, s.checks);
        sl_close(one.ctx);
        if (!s.json) print_run(&runs[i]);
    }
    if (s.json)
        print_json(&s, &thrown_away, runs);
    else
        print_spreads(runs, s.seeds);
    sl_close(thrown_away.ctx);
    free(s.options.sorted);
    free(s.options.recipe_text);
    return 0;
}
