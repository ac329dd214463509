/* slope bench: which cases there are, and in what form the results come. */
#define _DEFAULT_SOURCE
#include <limits.h>
#ifdef __GLIBC__
#    include <malloc.h>
#endif

#include "bench.h"

#include <cjson/cJSON.h>

#include "compare.h"

/* The layers whose calls are measured, and that are measured as a whole: those of the presets, and what else
 * a network of images has. */
static const struct {
    const char *line;
    int64_t image[3];
} layers[] = {
    {"dense128", {1, 1, 784}},    {"dense128 act", {1, 1, 9216}}, {"conv5-8", {28, 28, 1}},
    {"conv5-16", {12, 12, 8}},    {"conv3-32", {28, 28, 1}},      {"conv3-64", {26, 26, 32}},
    {"conv3-16p1", {28, 28, 16}}, {"pool2", {24, 24, 64}},        {"avgpool2", {24, 24, 64}},
    {"gap", {24, 24, 64}},        {"bn", {26, 26, 32}},           {"bn act", {26, 26, 32}},
    {"drop.25", {12, 12, 64}},    {"dense10", {1, 1, 128}},
};
enum { LAYERS = sizeof layers / sizeof *layers };

/* Steps of a round on the CPU: about 50 ms. */
static const struct {
    const char *name;
    int steps;
} models[] = {{"softmax", 256}, {"mlp", 128}, {"lenet", 32}, {"cnn", 1}};
enum { MODELS = sizeof models / sizeof *models };

typedef struct case_list {
    bench_case *cases;
    int n;
} case_list;

static bench_case *add_case(case_list *list, const bench_kind *kind, const char *row)
{
    bench_case *c = &list->cases[list->n++];
    *c = (bench_case){.kind = kind, .activation = SL_RELU};
    snprintf(c->row, sizeof c->row, "%s", row);
    return c;
}

static bool add_activations(const cli_options *o, sl_context *ctx, case_list *list, int *status)
{
    cJSON *names = o->activations ? cli_split(o, "activations", o->activations) : cJSON_CreateArray();
    const cJSON *name;
    for (int i = 0; !o->activations && sl_activation_name(i); i++) /* linear alone would be nothing at all */
        cJSON_AddItemToArray(names,
                             cJSON_CreateString(i == SL_LINEAR.row ? "linear(2)" : sl_activation_name(i)));
    bench_case *more =
        names ? realloc(list->cases,
                        (size_t)(list->n + cJSON_GetArraySize(names) + 2 * LAYERS + MODELS) * sizeof *more)
              : NULL;
    *status = names ? CLI_SUCCESS : CLI_USAGE;
    if (more) list->cases = more;
    if (names && !more) *status = cli_fail(o, CLI_FAILURE, "out of memory");
    cJSON_ArrayForEach(name, names)
    {
        if (*status != CLI_SUCCESS) break;
        sl_activation activation;
        *status = cli_activation(ctx, o, name->valuestring, &activation);
        if (*status == CLI_SUCCESS)
            add_case(list, &bench_activations, name->valuestring)->activation = activation;
    }
    cJSON_Delete(names);
    return *status == CLI_SUCCESS;
}

static void add_layers(case_list *list, const bench_kind *kind)
{
    for (int i = 0; i < LAYERS; i++) {
        char row[64];
        const int64_t *image = layers[i].image;
        if (image[0] == 1)
            snprintf(row, sizeof row, "%s of %d", layers[i].line, (int)image[2]);
        else
            snprintf(row, sizeof row, "%s of %d x %d x %d", layers[i].line, (int)image[0], (int)image[1],
                     (int)image[2]);
        bench_case *c = add_case(list, kind, row);
        c->line = layers[i].line;
        memcpy(c->image, image, sizeof c->image);
    }
}

static bool wanted(const cli_options *o, const char *part)
{
    for (int i = 0; i < o->n_words; i++)
        if (strcmp(o->words[i], part) == 0) return true;
    return o->n_words == 0;
}

static bool check_words(const cli_options *o)
{
    static const char *const parts[] = {"kernels", "layers", "steps", NULL};
    for (int i = 0; i < o->n_words; i++) {
        bool known = false;
        for (int p = 0; parts[p]; p++) known = known || strcmp(o->words[i], parts[p]) == 0;
        if (known) continue;
        const char *near = cli_nearest(o->words[i], parts);
        if (near)
            cli_fail(o, CLI_USAGE, "there is no part '%s'; did you mean %s?", o->words[i], near);
        else
            cli_fail(o, CLI_USAGE, "there is no part '%s'; there are kernels, layers and steps", o->words[i]);
        return false;
    }
    return true;
}

static int measure(bench *b, const cli_options *o, sl_context *ctx)
{
    int status = CLI_SUCCESS;
    case_list list = {0};
    if (!add_activations(o, ctx, &list, &status)) {
        free(list.cases);
        return status;
    }
    if (!wanted(o, "kernels")) list.n = 0;
    if (wanted(o, "kernels") && !cli_given(o, CLI_ACTIVATIONS_MEASURED)) add_layers(&list, &bench_kernels);
    if (wanted(o, "layers")) add_layers(&list, &bench_layers);
    for (int i = 0; i < MODELS && wanted(o, "steps"); i++) {
        bench_case *c = add_case(&list, &bench_steps, models[i].name);
        c->line = models[i].name;
        c->steps = models[i].steps;
    }
    if (!bench_run(b, list.cases, list.n, o->seconds, (int)o->rounds))
        status = sl_error(ctx) ? cli_fail_context(o, ctx, false) : CLI_FAILURE;
    free(list.cases);
    return status;
}

int cli_bench(cli_options *o)
{
    if (o->compare && o->n_words != 2)
        return cli_fail(o, CLI_USAGE, "--compare takes two files, the older one first");
    if (o->compare) return bench_compare(o, o->words[0], o->words[1]);
    if (!check_words(o)) return CLI_USAGE;
#ifdef __GLIBC__
    /* Large arrays come and go with every case: they keep their pages. */
    mallopt(M_MMAP_THRESHOLD, INT_MAX);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
    int status = CLI_SUCCESS;
    sl_context *ctx = cli_open(o, &status);
    if (!ctx) return status;
    bench b;
    if (!bench_open(&b, o, ctx)) status = sl_error(ctx) ? cli_fail_context(o, ctx, false) : CLI_FAILURE;
    if (status == CLI_SUCCESS) status = measure(&b, o, ctx);
    if (status == CLI_SUCCESS && o->json)
        status = bench_print_json(&b);
    else if (status == CLI_SUCCESS)
        bench_print(&b);
    bench_close(&b);
    sl_close(ctx);
    return status;
}
