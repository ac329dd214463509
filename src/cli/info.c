/* slope info */
#include <stdlib.h>
#include <sys/stat.h>

#include "cli.h"

/* --- this machine --- */

static void print_device(const char *name, sl_device_kind kind, const cli_options *o)
{
    sl_context *ctx = sl_open(.device = kind, .threads = (int)o->threads);
    if (sl_error(ctx))
        printf("%-12s %s\n", name, sl_error(ctx));
    else
        printf("%-12s %s\n", name, sl_device_description(ctx));
    sl_close(ctx);
}

static bool built_with(const char *part)
{
    const char *at = strstr(sl_features(), part);
    return at && (at[strlen(part)] == 0 || at[strlen(part)] == ' ');
}

static void print_part(const char *name, bool present, const char *used_for)
{
    printf("%-16s %-4s %s\n", name, present ? "yes" : "no", used_for);
}

static void print_data(const cli_options *o, const char *name)
{
    int status = CLI_SUCCESS;
    sl_context *ctx = cli_open_plain(o, 0, &status);
    if (!ctx) return;
    sl_dataset *data = sl_dataset_named(ctx, name, SL_TEST);
    if (data)
        printf("  %-14s here, %s test images\n", name, cli_count(sl_dataset_describe(data).count).text);
    else if (sl_error_code(ctx) == SL_IO)
        printf("  %-14s not here; downloaded when it is first used\n", name);
    else
        printf("%-12s %s\n", name, sl_error(ctx));
    sl_close(ctx);
}

static int machine(const cli_options *o)
{
    bool png = false;
#ifdef SLOPE_PNG
    png = true;
#endif
    printf("slope %s\n\nDevices\n", SLOPE_VERSION);
    print_device("  cpu", SL_CPU, o);
    if (built_with(" cuda"))
        print_device("  cuda", SL_CUDA, o);
    else
        printf("%-16s this build has no CUDA part\n", "  cuda");
    printf("\nParts\n");
    print_part("  zlib", built_with(" zlib"), "packed IDX files (.gz)");
    print_part("  libcurl", built_with(" curl"), "downloading data sets");
    print_part("  libpng", png, "PNG images in slope predict");
    print_part("  CUDA", sl_cuda_architectures() != NULL,
               sl_cuda_architectures() ? sl_cuda_architectures() : "training on a GPU");
    print_part("  BLAS", false, "none is needed on the CPU: matrix products are its own");
    printf("\nData sets\n");
    setenv("SLOPE_DATA_MIRROR", "off", 1); /* look, do not fetch */
    print_data(o, "mnist");
    print_data(o, "fashion-mnist");
    print_data(o, "kmnist");
    printf("  %-14s always here: generated, not MNIST\n", "digits");
    return CLI_SUCCESS;
}

/* --- a model file --- */

static void look(void *by_line, const char *key, const char *value)
{
    (void)value;
    if (strcmp(key, "line") == 0) *(bool *)by_line = true;
}

static const char *shape_text(sl_shape shape, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < shape.n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? " x " : "", (long long)shape.dim[i]);
    return text;
}

static void show_metadata(void *data, const char *key, const char *value)
{
    (void)data;
    printf("  %-20s %.*s%s\n", key, 200, value, strlen(value) > 200 ? " ..." : "");
}

static void show_tensor(void *data, const char *name, const char *type, sl_shape shape)
{
    (void)data;
    char text[96];
    printf("  %-32s %-5s %s\n", name, type, shape_text(shape, text, sizeof text));
}

static int model_file(const cli_options *o, const char *path)
{
    int status = CLI_SUCCESS;
    sl_context *ctx = cli_open_plain(o, 0, &status);
    if (!ctx) return status;
    bool by_line = false;
    if (sl_model_file_describe(ctx, path, &(sl_model_file_reader){.metadata = look, .data = &by_line}) !=
        SL_OK)
        status = cli_fail_context(o, ctx, false);
    if (status == CLI_SUCCESS) {
        printf("%s\n\nDescription\n", path);
        sl_model_file_describe(ctx, path, &(sl_model_file_reader){.metadata = show_metadata});
        printf("\nTensors\n");
        sl_model_file_describe(ctx, path, &(sl_model_file_reader){.tensor = show_tensor});
    }
    sl_close(ctx);
    ctx = NULL;
    sl_model *model = status == CLI_SUCCESS && by_line ? cli_load_plain(o, path, &ctx, &status) : NULL;
    if (model) {
        printf("\nIn all\n  %-20s %s\n", "parameters", cli_count(sl_model_parameters(model)).text);
        printf("  %-20s %s\n", "steps trained", cli_count(sl_model_step(model)).text);
        printf("  %-20s %016llx\n", "fingerprint", (unsigned long long)sl_model_fingerprint(model));
    }
    sl_close(ctx);
    return status;
}

/* --- a model line --- */

/* What train would run with the same options; nothing is trained. */
static int training_plan(cli_options *o, const char *line)
{
    int status = CLI_SUCCESS;
    sl_context *ctx = cli_open(o, &status);
    if (!ctx) return status;
    sl_dataset *data = sl_digits(ctx, 1, SL_TRAIN, 1); /* of MNIST's form */
    o->model = line;
    sl_model *model = data ? cli_model(ctx, o, data, &status) : NULL;
    if (model) {
        sl_model_plan(model, data);
        printf("\nA training step\n");
        sl_model_print(model, stdout);
    }
    if (status == CLI_SUCCESS && sl_error(ctx)) status = cli_fail_context(o, ctx, false);
    sl_close(ctx);
    return status;
}

static int model_line(cli_options *o, const char *line)
{
    const char *const presets[] = {"softmax", "mlp", "lenet", "cnn", NULL};
    int status = CLI_SUCCESS;
    sl_context *ctx = cli_open_plain(o, 0, &status);
    if (!ctx) return status;
    status = cli_print_layers(ctx, line, SL_RELU, (const int64_t[]){28, 28, 1, 0});
    if (status == CLI_USAGE && !strpbrk(line, " \t")) {
        const char *near = cli_nearest(line, presets);
        cli_fail(o, CLI_USAGE, "%s%s%s%s", sl_error(ctx), near ? ". Did you mean " : "", near ? near : "",
                 near ? "?" : "; and there is no such file");
    } else if (status != CLI_SUCCESS) {
        status = cli_fail_context(o, ctx, true);
    }
    sl_close(ctx);
    const bool plan = o->plan || cli_given(o, CLI_DEVICE) || cli_given(o, CLI_BATCH);
    return status == CLI_SUCCESS && plan ? training_plan(o, line) : status;
}

int cli_info(cli_options *o)
{
    if (o->n_words == 0) return machine(o);
    if (o->n_words > 1)
        return cli_fail(o, CLI_USAGE,
                        "one word is expected: a model file, or a model line in quotation marks");
    const char *word = o->words[0], *ending = ".safetensors";
    struct stat status;
    const size_t n = strlen(word), e = strlen(ending);
    const bool looks_like_a_file = strchr(word, '/') || (n > e && strcmp(word + n - e, ending) == 0);
    if (looks_like_a_file || (!sl_model_preset(word) && stat(word, &status) == 0)) return model_file(o, word);
    return model_line(o, word);
}
