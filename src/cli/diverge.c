/* slope diverge: where two runs part. */
#define _GNU_SOURCE
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "cli.h"

/* --- parameters of two models --- */

static int64_t count_elements(sl_shape shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape.n; i++) n *= shape.dim[i];
    return n;
}

/* "[3, 5]": where element number `at` stands. */
static const char *place_text(sl_shape shape, int64_t at, char *text, size_t size)
{
    int64_t index[SL_MAX_DIMS] = {0};
    for (int i = shape.n - 1; i >= 0; i--) {
        index[i] = at % shape.dim[i];
        at /= shape.dim[i];
    }
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < shape.n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? ", " : "", (long long)index[i]);
    snprintf(text + (used < size ? used : size - 2), size - (used < size ? used : size - 2), "]");
    return text;
}

typedef struct pair {
    const cli_options *o;
    sl_context *ctx[2];
    sl_model *model[2];
} pair;

static bool same_shape(sl_shape a, sl_shape b)
{
    return a.n == b.n && memcmp(a.dim, b.dim, (size_t)a.n * sizeof *a.dim) == 0;
}

/* Prints a line for a tensor whose values differ. Returns whether they do; -1 after a message. */
static int compare_values(const pair *p, const sl_parameter_info *info, bool first)
{
    const int64_t n = count_elements(info->shape);
    float *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
    int64_t at = -1, differ = 0;
    double largest = 0;
    int result = -1;
    if (a && b && sl_model_get(p->model[0], info->name, a, n) == SL_OK &&
        sl_model_get(p->model[1], info->name, b, n) == SL_OK) {
        for (int64_t i = 0; i < n; i++) {
            if (memcmp(&a[i], &b[i], sizeof *a) == 0) continue;
            if (at < 0) at = i;
            differ++;
            const double gap = fabs((double)a[i] - (double)b[i]);
            if (gap > largest) largest = gap;
        }
        result = differ > 0;
        char place[96];
        if (differ && first)
            printf("first difference: %s %s\n  a  %.9g\n  b  %.9g\n\n  %-24s %22s  %s\n", info->name,
                   place_text(info->shape, at, place, sizeof place), (double)a[at], (double)b[at], "tensor",
                   "elements that differ", "by at most");
        char counts[64];
        snprintf(counts, sizeof counts, "%lld of %lld", (long long)differ, (long long)n);
        if (differ) printf("  %-24s %22s  %.3g\n", info->name, counts, largest);
    } else if (sl_error(p->ctx[0]) || sl_error(p->ctx[1])) {
        cli_fail_context(p->o, p->ctx[sl_error(p->ctx[0]) ? 0 : 1], false);
    } else {
        cli_fail(p->o, CLI_FAILURE, "out of memory");
    }
    free(a);
    free(b);
    return result;
}

/* Compares all parameters and statistics. 0: equal, 1: they differ and that was printed, -1: after a message.
 */
static int compare_models(const pair *p)
{
    sl_parameter_info a, b;
    for (int i = 0;; i++) {
        const bool in_a = sl_model_parameter(p->model[0], i, &a),
                   in_b = sl_model_parameter(p->model[1], i, &b);
        if (!in_a && !in_b) break;
        if (in_a && in_b && strcmp(a.name, b.name) == 0 && same_shape(a.shape, b.shape)) continue;
        printf("these are different networks: tensor %d is %s in a and %s in b%s\n", i,
               in_a ? a.name : "missing", in_b ? b.name : "missing",
               in_a && in_b && strcmp(a.name, b.name) == 0 ? ", of another shape" : "");
        return 1;
    }
    int found = 0;
    for (int i = 0; sl_model_parameter(p->model[0], i, &a); i++) {
        const int differ = compare_values(p, &a, !found);
        if (differ < 0) return -1;
        found |= differ;
    }
    return found;
}

static void print_fingerprints(const pair *p)
{
    for (int k = 0; k < 2; k++)
        printf("%c  %016llx  after %s steps\n", "ab"[k],
               (unsigned long long)sl_model_fingerprint(p->model[k]),
               cli_count(sl_model_step(p->model[k])).text);
}

static void close_pair(pair *p)
{
    sl_close(p->ctx[0]);
    sl_close(p->ctx[1]);
}

static int diverge_models(const cli_options *o, const char *const *paths)
{
    pair p = {.o = o};
    int status = CLI_SUCCESS;
    for (int k = 0; k < 2 && status == CLI_SUCCESS; k++)
        p.model[k] = cli_load_plain(o, paths[k], &p.ctx[k], &status);
    if (status == CLI_SUCCESS) {
        const int differ = compare_models(&p);
        if (differ == 0) printf("all parameters and statistics are equal\n");
        if (differ >= 0) print_fingerprints(&p);
        status = differ == 0 ? CLI_SUCCESS : CLI_FAILURE;
    }
    close_pair(&p);
    return status;
}

/* --- two logs --- */

typedef struct log_file {
    const char *path;
    FILE *file;
    char *line;
    size_t room;
    int64_t number; /* of the line, from 1 */
} log_file;

/* The next line that tells of an epoch. NULL at the end, or after a message (*failed). */
static cJSON *next_epoch(const cli_options *o, log_file *log, bool *failed)
{
    for (;;) {
        errno = 0;
        if (getline(&log->line, &log->room, log->file) < 0) {
            if (ferror(log->file)) {
                cli_fail(o, CLI_FAILURE, "%s: %s", log->path, strerror(errno));
                *failed = true;
            }
            return NULL;
        }
        log->number++;
        cJSON *object = cJSON_Parse(log->line);
        if (!cJSON_IsObject(object)) {
            cJSON_Delete(object);
            cli_fail(o, CLI_FAILURE, "%s: line %lld is no JSON object", log->path, (long long)log->number);
            *failed = true;
            return NULL;
        }
        if (cJSON_GetObjectItem(object, "epoch")) return object;
        cJSON_Delete(object);
    }
}

static void print_values(const cJSON *a, const cJSON *b, const char *key)
{
    const cJSON *values[2] = {cJSON_GetObjectItem(a, key), cJSON_GetObjectItem(b, key)};
    printf("  %-22s", key);
    for (int k = 0; k < 2; k++)
        if (cJSON_IsString(values[k]))
            printf(" %18s", values[k]->valuestring);
        else if (cJSON_IsNumber(values[k]))
            printf(" %18.10g", values[k]->valuedouble);
        else
            printf(" %18s", "-");
    printf("  %s\n", cJSON_Compare(values[0], values[1], true) ? "" : "differs");
}

static int diverge_logs(const cli_options *o, const char *const *paths)
{
    static const char *const keys[] = {"epoch",           "train_loss",          "train_accuracy",
                                       "validation_loss", "validation_accuracy", "fingerprint"};
    enum { KEYS = sizeof keys / sizeof *keys };
    log_file logs[2] = {{paths[0], NULL, NULL, 0, 0}, {paths[1], NULL, NULL, 0, 0}};
    bool failed = false, differ = false;
    int64_t epochs = 0;
    for (int k = 0; k < 2; k++) {
        logs[k].file = fopen(paths[k], "r");
        if (!logs[k].file && !failed)
            failed = cli_fail(o, CLI_FAILURE, "%s: %s", paths[k], strerror(errno)) != 0;
    }
    while (!failed && !differ) {
        cJSON *a = next_epoch(o, &logs[0], &failed), *b = failed ? NULL : next_epoch(o, &logs[1], &failed);
        const bool end = !a && !b;
        if (!failed && !end && (!a || !b)) {
            printf("the %lld epochs in both logs are equal; %s goes on, %s ends here\n", (long long)epochs,
                   a ? paths[0] : paths[1], a ? paths[1] : paths[0]);
            differ = true;
        }
        for (int i = 0; !failed && a && b && i < KEYS; i++)
            differ |= !cJSON_Compare(cJSON_GetObjectItem(a, keys[i]), cJSON_GetObjectItem(b, keys[i]), true);
        if (a && b && differ) {
            printf("the logs differ from epoch %g on:\n\n  %-22s %18s %18s\n",
                   cJSON_GetObjectItem(a, "epoch")->valuedouble, "", "a", "b");
            for (int i = 0; i < KEYS; i++) print_values(a, b, keys[i]);
        }
        epochs += a && b;
        cJSON_Delete(a);
        cJSON_Delete(b);
        if (end) break;
    }
    for (int k = 0; k < 2; k++) {
        if (logs[k].file) fclose(logs[k].file);
        free(logs[k].line);
    }
    if (failed || differ) return CLI_FAILURE;
    printf("equal: %lld epochs\n", (long long)epochs);
    return CLI_SUCCESS;
}

/* --- two trainings side by side --- */

enum { MOST_WORDS = 64 };

/* Cuts a text at blanks, as a shell would: quotation marks keep blanks together. */
static int cut(char *text, char **words)
{
    int n = 0;
    char *to = text;
    for (char *at = text; *at && n < MOST_WORDS;) {
        at += strspn(at, " \t");
        if (!*at) break;
        words[n++] = to;
        for (char quote = 0; *at && (quote || !strchr(" \t", *at)); at++) {
            if (quote ? *at == quote : *at == '"' || *at == '\'')
                quote = quote ? 0 : *at;
            else
                *to++ = *at;
        }
        at += *at != 0;
        *to++ = 0; /* never ahead of `at` */
    }
    return n;
}

typedef struct node_note {
    char name[64], operation[32];
    uint64_t fingerprint;
} node_note;

typedef struct side {
    cli_options options;
    char *text, *words[MOST_WORDS + 2];
    sl_context *ctx;
    sl_model *model;
    sl_dataset *train;
    node_note *notes; /* of the step */
    int n, capacity;
    bool full;
} side;

static void note(void *data, const char *node, const char *operation, uint64_t fingerprint)
{
    side *s = data;
    if (s->n == s->capacity) {
        const int capacity = s->capacity ? 2 * s->capacity : 64;
        node_note *notes = realloc(s->notes, (size_t)capacity * sizeof *notes);
        if (!notes) {
            s->full = true;
            return;
        }
        s->notes = notes;
        s->capacity = capacity;
    }
    node_note *new = &s->notes[s->n++];
    snprintf(new->name, sizeof new->name, "%s", node);
    snprintf(new->operation, sizeof new->operation, "%s", operation);
    new->fingerprint = fingerprint;
}

static const cli_command *this_command(void)
{
    const cli_command *c = cli_commands;
    while (c->run != cli_diverge) c++;
    return c;
}

/* The common options, then those of --a or --b; words such as SLOPE_ISA=plain go into the environment
 * meanwhile. */
static int prepare(side *s, const cli_options *common, const char *name, const char *text)
{
    int status = CLI_SUCCESS, n = 1;
    char *variables[MOST_WORDS];
    char *before[MOST_WORDS];
    int n_variables = 0;
    s->options = *common;
    s->text = strdup(text ? text : "");
    if (!s->text) return cli_fail(common, CLI_FAILURE, "out of memory");
    s->words[0] = (char *)common->command;
    n += cut(s->text, s->words + 1);
    char from[16];
    snprintf(from, sizeof from, "in %s: ", name);
    if (!cli_parse_more(this_command(), from, n, s->words, &s->options)) return CLI_USAGE;
    for (int i = 0; i < s->options.n_words; i++) {
        char *equals = strchr(s->options.words[i], '=');
        if (!equals || equals == s->options.words[i])
            return cli_fail(common, CLI_USAGE, "in %s: '%s' is neither an option nor NAME=VALUE", name,
                            s->options.words[i]);
        *equals = 0;
        const char *old = getenv(s->options.words[i]);
        variables[n_variables] = s->options.words[i];
        before[n_variables++] = old ? strdup(old) : NULL;
        setenv(s->options.words[i], equals + 1, 1);
    }
    s->ctx = cli_open(&s->options, &status);
    if (s->ctx) s->train = cli_data(s->ctx, &s->options, SL_TRAIN, &status);
    if (s->train) s->model = cli_model(s->ctx, &s->options, s->train, &status);
    for (int i = 0; i < n_variables; i++) {
        if (before[i])
            setenv(variables[i], before[i], 1);
        else
            unsetenv(variables[i]);
        free(before[i]);
    }
    return status;
}

/* The first node of a's step that b has too, with another output. */
static const node_note *first_difference(const side *a, const side *b)
{
    for (int i = 0; i < a->n; i++) {
        const bool in_place = i < b->n && strcmp(a->notes[i].name, b->notes[i].name) == 0;
        int k = in_place ? i : 0;
        while (k < b->n && strcmp(a->notes[i].name, b->notes[k].name) != 0) k++;
        if (k < b->n && a->notes[i].fingerprint != b->notes[k].fingerprint) return &a->notes[i];
    }
    return NULL;
}

static int step(side *s)
{
    s->n = 0;
    if (sl_train_step(s->model, s->train, (int)s->options.epochs, note, s) != SL_OK)
        return cli_fail_context(&s->options, s->ctx, false);
    return s->full ? cli_fail(&s->options, CLI_FAILURE, "out of memory") : CLI_SUCCESS;
}

static void describe(char name, const side *s)
{
    fprintf(stderr, "%c  %s: %s; act is %s\n   ", name, sl_device_name(s->ctx), sl_device_description(s->ctx),
            s->options.activation);
    cli_wrap(stderr, sl_model_describe(s->model), 3, 3);
}

static int run_side_by_side(const cli_options *o, side *sides)
{
    const pair p = {o, {sides[0].ctx, sides[1].ctx}, {sides[0].model, sides[1].model}};
    int64_t steps = 0, most = 0;
    for (int k = 0; k < 2; k++) {
        const int64_t count = sl_dataset_describe(sides[k].train).count, batch = sides[k].options.batch;
        const int64_t all = (count + batch - 1) / batch * sides[k].options.epochs;
        if (k == 0 || all < most) most = all;
        if (!o->quiet) describe("ab"[k], &sides[k]);
    }
    if (o->steps < most) most = o->steps;
    int differ = compare_models(&p);
    if (differ > 0) printf("\nthe two differ before the first step: they start from other weights\n");
    while (differ == 0 && steps < most) {
        if (step(&sides[0]) != CLI_SUCCESS || step(&sides[1]) != CLI_SUCCESS) return CLI_FAILURE;
        steps++;
        const node_note *node = first_difference(&sides[0], &sides[1]);
        if (node)
            printf("step %lld, node %s (%s): its output differs\n", (long long)steps, node->name,
                   node->operation);
        differ = compare_models(&p);
        if (differ > 0 && !node)
            printf("\nstep %lld, the update: all outputs before it are equal\n", (long long)steps);
        if (node && differ == 0) {
            printf("the parameters after that step are equal all the same\n");
            differ = 1;
        }
    }
    if (differ < 0) return CLI_FAILURE;
    if (differ == 0)
        printf("equal: %lld steps, every output of every node and all parameters\n", (long long)steps);
    print_fingerprints(&p);
    return differ ? CLI_FAILURE : CLI_SUCCESS;
}

static int diverge_runs(const cli_options *o)
{
    side *sides = calloc(2, sizeof *sides);
    if (!sides) return cli_fail(o, CLI_FAILURE, "out of memory");
    int status = prepare(&sides[0], o, "--a", o->a);
    if (status == CLI_SUCCESS) status = prepare(&sides[1], o, "--b", o->b);
    if (status == CLI_SUCCESS) status = run_side_by_side(o, sides);
    for (int k = 0; k < 2; k++) {
        sl_close(sides[k].ctx);
        free(sides[k].notes);
        free(sides[k].text);
        if (sides[k].options.recipe_text != o->recipe_text) free(sides[k].options.recipe_text);
    }
    free(sides);
    return status;
}

/* --- the command --- */

static bool is_model(const char *path)
{
    FILE *file = fopen(path, "rb");
    int head[9];
    for (int i = 0; i < 9; i++) head[i] = file ? fgetc(file) : '{';
    if (file) fclose(file);
    return head[0] != '{' || head[8] == '{'; /* a log starts with {, a model with the length of its header */
}

int cli_diverge(cli_options *o)
{
    const char *const *paths = (const char *const *)o->words;
    if (o->n_words == 0 && (o->a || o->b)) return diverge_runs(o);
    if (o->n_words != 2 || o->a || o->b)
        return cli_fail(o, CLI_USAGE,
                        "two model files, two logs, or the options of two runs (--a and --b) are needed");
    const bool a = is_model(paths[0]), b = is_model(paths[1]);
    if (a != b)
        return cli_fail(o, CLI_USAGE, "%s is a model file and %s a log", paths[a ? 0 : 1], paths[a ? 1 : 0]);
    return a ? diverge_models(o, paths) : diverge_logs(o, paths);
}
