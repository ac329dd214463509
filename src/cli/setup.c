/* From options to a context, data sets and a model. */
#include <stdlib.h>

#include "cli.h"

static void show(void *data, const char *line)
{
    cli_say(data, "%s", line);
}

/* "auto", "cpu", "cuda" or "cuda:N". */
static bool read_device(const cli_options *o, sl_open_options *open)
{
    if (strcmp(o->device, "auto") == 0)
        open->device = SL_AUTO;
    else if (strcmp(o->device, "cpu") == 0)
        open->device = SL_CPU;
    else if (strcmp(o->device, "cuda") == 0)
        open->device = SL_CUDA;
    else if (strncmp(o->device, "cuda:", 5) == 0 && strlen(o->device) < 9 && o->device[5] &&
             o->device[5 + strspn(o->device + 5, "0123456789")] == 0) {
        open->device = SL_CUDA;
        open->device_index = atoi(o->device + 5);
    } else {
        cli_fail(o, CLI_USAGE, "--device is '%s'; it must be auto, cpu, cuda or cuda:N", o->device);
        return false;
    }
    return true;
}

static bool read_precision(const cli_options *o, sl_open_options *open)
{
    static const char *const names[] = {[SL_FP32] = "fp32", [SL_TF32] = "tf32", [SL_BF16] = "bf16"};
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(o->precision, names[i]) == 0) {
            open->precision = (sl_precision)i;
            return true;
        }
    cli_fail(o, CLI_USAGE, "--precision is '%s'; it must be fp32, tf32 or bf16", o->precision);
    return false;
}

sl_context *cli_open(const cli_options *o, int *status)
{
    sl_open_options open = {.seed = (uint64_t)o->seed,
                            .threads = (int)o->threads,
                            .exact = o->exact,
                            .log = show,
                            .log_data = (void *)o};
    *status = CLI_USAGE;
    if (!read_device(o, &open) || !read_precision(o, &open)) return NULL;
    if (open.exact && open.precision != SL_FP32) {
        cli_fail(o, CLI_USAGE, "--exact and --precision %s exclude each other: exact results are fp32",
                 o->precision);
        return NULL;
    }
    sl_context *ctx = sl_open_with(&open);
    if (sl_error(ctx)) { /* a device that this machine lacks is no wrong usage */
        *status = cli_fail(o, CLI_FAILURE, "--device %s: %s", o->device, sl_error(ctx));
        sl_close(ctx);
        return NULL;
    }
    *status = CLI_SUCCESS;
    if (open.precision != SL_FP32 && strcmp(sl_device_name(ctx), "cpu") == 0)
        cli_say(o, "note: --precision %s has no effect here: the CPU computes in fp32", o->precision);
    return ctx;
}

sl_context *cli_open_plain(const cli_options *o, uint64_t seed, int *status)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = 1, .seed = seed);
    *status = sl_error(ctx) ? cli_fail(o, CLI_FAILURE, "%s", sl_error(ctx)) : CLI_SUCCESS;
    if (!sl_error(ctx)) return ctx;
    sl_close(ctx);
    return NULL;
}

static void take_seed(void *seed, const char *key, const char *value)
{
    if (strcmp(key, "seed") == 0) *(uint64_t *)seed = strtoull(value, NULL, 10);
}

sl_model *cli_load_plain(const cli_options *o, const char *path, sl_context **ctx, int *status)
{
    uint64_t seed = 0; /* a file's training state belongs to its seed */
    sl_context *first = cli_open_plain(o, 0, status);
    if (!first) return NULL;
    if (sl_model_file_describe(first, path, &(sl_model_file_reader){.metadata = take_seed, .data = &seed}) !=
        SL_OK)
        *status = cli_fail_context(o, first, false);
    sl_close(first);
    if (*status != CLI_SUCCESS) return NULL;
    *ctx = cli_open_plain(o, seed, status);
    sl_model *model = *ctx ? sl_load(*ctx, path) : NULL;
    if (*ctx && !model) *status = cli_fail_context(o, *ctx, false);
    return model;
}

/* --- data --- */

sl_dataset *cli_data(sl_context *ctx, const cli_options *o, sl_split split, int *status)
{
    static const char *const names[] = {"mnist", "fashion-mnist", "kmnist", "digits", NULL};
    const int64_t limit = split == SL_TRAIN ? o->limit_train : o->limit_test;
    sl_dataset *data;
    if (strcmp(o->data, "digits") == 0) { /* drawn one by one: only as many as are needed */
        const int64_t all = split == SL_TRAIN ? 60000 : 10000;
        data = sl_digits(ctx, (uint64_t)o->seed, split, limit > 0 && limit < all ? limit : all);
    } else {
        data = sl_dataset_named(ctx, o->data, split);
        if (data && limit > 0 && limit < sl_dataset_describe(data).count)
            data = sl_dataset_slice(data, 0, limit);
    }
    if (data) return data;
    const char *near = sl_error_code(ctx) == SL_ARGUMENT ? cli_nearest(o->data, names) : NULL;
    if (near)
        *status = cli_fail(o, CLI_USAGE, "%s; did you mean %s?", sl_error(ctx), near);
    else
        *status = cli_fail_context(o, ctx, sl_error_code(ctx) == SL_ARGUMENT);
    return NULL;
}

const char *cli_data_text(const sl_dataset *data, const char *images, char *buffer, size_t size)
{
    const sl_dataset_info info = sl_dataset_describe(data);
    snprintf(buffer, size, "%s%s, %s %s", info.name, info.synthetic ? " (generated, not MNIST)" : "",
             cli_count(info.count).text, images);
    return buffer;
}

/* --- the model --- */

/* --l2 as a suffix of every word that has weights and no L2 of its own. */
static bool takes_l2(const char *word, size_t length)
{
    if (length > 5 && strncmp(word, "dense", 5) == 0)
        word += 5;
    else if (length > 4 && strncmp(word, "conv", 4) == 0)
        word += 4;
    else
        return false;
    return *word >= '0' && *word <= '9';
}

char *cli_line(const cli_options *o)
{
    const char *line = sl_model_preset(o->model);
    if (!line) line = o->model;
    char suffix[32] = "";
    /* The fewest digits that bring the float back, so that a line has one spelling. */
    for (int digits = 1; o->l2 > 0 && digits <= 9; digits++) {
        snprintf(suffix, sizeof suffix, "~%.*g", digits, (double)(float)o->l2);
        if (strtof(suffix + 1, NULL) == (float)o->l2) break;
    }
    /* A word has at least six bytes, so no line becomes longer than this. */
    char *out = malloc(strlen(line) * (1 + sizeof suffix) + 1), *to = out;
    if (!out) return NULL;
    while (*line) {
        const size_t blanks = strspn(line, " \t"), length = strcspn(line + blanks, " \t");
        const char *word = line + blanks;
        size_t bare = length;
        while (bare > 0 && word[bare - 1] == ')' && takes_l2(word, length)) bare--; /* "dense10)" */
        const bool plain = takes_l2(word, length) && !memchr(word, '~', length);
        memcpy(to, line, blanks + bare);
        to += blanks + bare;
        if (plain) to += sprintf(to, "%s", suffix);
        memcpy(to, word + bare, length - bare);
        to += length - bare;
        line = word + length;
    }
    *to = 0;
    return out;
}

static float real_zero(double value)
{
    return value == 0 ? SL_ZERO : (float)value;
}

/* The library's sentence, with the name that may have been meant. */
static int fail_word(const cli_options *o, const sl_context *ctx, const char *word, const char *const *names)
{
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "("), word);
    const char *near = cli_nearest(name, names);
    if (!near || strcmp(near, name) == 0) return cli_fail_context(o, ctx, true);
    return cli_fail(o, CLI_USAGE, "%s. Did you mean %s?", sl_error(ctx), near);
}

int cli_activation(sl_context *ctx, const cli_options *o, const char *word, sl_activation *activation)
{
    *activation = sl_activation_parse(ctx, word);
    if (!sl_error(ctx)) return CLI_SUCCESS;
    const char *names[SL_ACTIVATION_COUNT + 1];
    for (int i = 0; i <= SL_ACTIVATION_COUNT; i++) names[i] = sl_activation_name(i);
    return fail_word(o, ctx, word, names);
}

static int fail_optimizer(const cli_options *o, const sl_context *ctx)
{
    const char *names[SL_OPTIMIZER_COUNT + 1];
    for (int i = 0; i <= SL_OPTIMIZER_COUNT; i++) names[i] = sl_optimizer_name(i);
    return fail_word(o, ctx, o->optimizer, names);
}

static int fail_schedule(const cli_options *o, const sl_context *ctx)
{
    const char *names[SL_PLATEAU + 2];
    for (int i = 0; i <= SL_PLATEAU + 1; i++) names[i] = sl_schedule_name((sl_schedule_kind)i);
    return fail_word(o, ctx, o->schedule, names);
}

/* What the words of the options mean. Anything but CLI_SUCCESS comes after a message. */
static int read_words(sl_context *ctx, const cli_options *o, sl_activation *activation,
                      sl_optimizer *optimizer, sl_init *init)
{
    const int status = cli_activation(ctx, o, o->activation, activation);
    if (status != CLI_SUCCESS) return status;
    *optimizer = sl_optimizer_named(ctx, o->optimizer);
    if (sl_error(ctx)) return fail_optimizer(o, ctx);
    optimizer->schedule = sl_schedule_parse(ctx, o->schedule);
    if (sl_error(ctx)) return fail_schedule(o, ctx);
    *init = o->init ? sl_init_parse(ctx, o->init) : (sl_init){SL_INIT_DEFAULT, 0};
    if (sl_error(ctx)) return cli_fail_context(o, ctx, true);
    if (cli_given(o, CLI_RATE)) optimizer->rate = real_zero(o->rate);
    if (cli_given(o, CLI_MOMENTUM)) optimizer->momentum = real_zero(o->momentum);
    optimizer->weight_decay = (float)o->weight_decay;
    return CLI_SUCCESS;
}

static int fail_model(const cli_options *o, const sl_context *ctx)
{
    static const char *const presets[] = {"softmax", "mlp", "lenet", "cnn", NULL};
    if (!sl_error(ctx)) return cli_fail(o, CLI_FAILURE, "out of memory");
    return strpbrk(o->model, " \t") ? cli_fail_context(o, ctx, true) : fail_word(o, ctx, o->model, presets);
}

sl_model *cli_model(sl_context *ctx, const cli_options *o, const sl_dataset *data, int *status)
{
    sl_activation activation;
    sl_optimizer optimizer;
    sl_init init;
    *status = read_words(ctx, o, &activation, &optimizer, &init);
    if (*status != CLI_SUCCESS) return NULL;
    const sl_dataset_info info = sl_dataset_describe(data);
    char *line = cli_line(o);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *image = sl_input(graph, "image", info.height, info.width, info.channels);
    sl_node *logits = line ? sl_model_line(image, line, activation, init) : NULL;
    sl_node *loss = sl_softmax_cross_entropy(logits, sl_labels(graph, "label"));
    sl_model *model = loss ? sl_compile(loss, .batch = (int)o->batch, .optimizer = optimizer,
                                        .clip_norm = (float)o->clip_norm, .clip_value = (float)o->clip_value,
                                        .diagnose = o->diagnose)
                           : NULL;
    sl_graph_free(graph);
    if (!model) {
        *status = fail_model(o, ctx);
    } else if (sl_model_outputs(model) < info.classes) {
        *status = cli_fail(o, CLI_USAGE,
                           "the model ends with %d outputs, but %s has %d classes; end it with dense%d",
                           sl_model_outputs(model), info.name, info.classes, info.classes);
        model = NULL;
    } else {
        cli_warn_step(o, line, activation);
    }
    free(line);
    return model;
}

static bool has_word(const char *line, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = line; (at = strstr(at, word)) != NULL; at += n) {
        const bool starts = at == line || strchr(" \t(", at[-1]);
        if (starts && (at[n] == 0 || strchr(" \t()", at[n]))) return true;
    }
    return false;
}

void cli_warn_step(const cli_options *o, const char *line, sl_activation activation)
{
    const bool chosen = activation.row == SL_STEP.row && !activation.formula && has_word(line, "act");
    if (chosen || has_word(line, "step"))
        cli_say(o, "warning: the slope of step is 0 everywhere, so the layers before it do not learn; "
                   "step_ste learns");
}
