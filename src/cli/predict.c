/* slope predict */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"

enum { CANVAS = 36 }; /* the widest drawing, in characters */

typedef struct prediction {
    const cli_options *o;
    sl_context *ctx;
    sl_model *model;
    int64_t dims[3]; /* of the model's input: height, width, channels */
    int n_dims;
    float *input;  /* [height, width, channels] */
    int label;     /* -1: not known */
    float *scores; /* [classes] */
    int *order;    /* classes, the likeliest first */
    int classes;
} prediction;

/* --- the image --- */

static void take_input(void *data, const char *key, const char *value)
{
    prediction *p = data;
    if (strcmp(key, "input") == 0)
        p->n_dims = sscanf(value, "%" SCNd64 ",%" SCNd64 ",%" SCNd64, &p->dims[0], &p->dims[1], &p->dims[2]);
}

static int read_picture(prediction *p, const char *path)
{
    cli_image image;
    const int height = (int)p->dims[0], width = (int)p->dims[1], channels = (int)p->dims[2];
    if (p->n_dims != 3)
        return cli_fail(p->o, CLI_FAILURE, "%s takes no images but vectors of %lld numbers", p->o->words[0],
                        (long long)p->dims[0]);
    if (!cli_image_read(p->o, path, &image)) return CLI_FAILURE;
    if (cli_image_normalise(&image)) cli_say(p->o, "%s: inverted, because its background is bright", path);
    if (image.height != height || image.width != width) {
        cli_say(p->o, "%s: scaled from %d x %d to %d x %d pixels", path, image.width, image.height, width,
                height);
        if (!cli_image_scale(&image, height, width)) {
            free(image.grey);
            return cli_fail(p->o, CLI_FAILURE, "out of memory");
        }
    }
    for (int i = 0; i < height * width; i++)
        for (int c = 0; c < channels; c++) p->input[i * channels + c] = image.grey[i];
    free(image.grey);
    p->label = -1;
    return CLI_SUCCESS;
}

static int read_sample(prediction *p)
{
    int status = CLI_SUCCESS;
    sl_dataset *data = cli_data(p->ctx, p->o, SL_TEST, &status);
    if (!data) return status;
    const sl_dataset_info info = sl_dataset_describe(data);
    if (p->n_dims != 3 || info.height != p->dims[0] || info.width != p->dims[1] ||
        info.channels != p->dims[2])
        return cli_fail(p->o, CLI_FAILURE, "%s has images of %d x %d x %d, which do not fit the input of %s",
                        info.name, info.height, info.width, info.channels, p->o->words[0]);
    if (p->o->index >= info.count)
        return cli_fail(p->o, CLI_USAGE, "--index is %lld; %s has the test images 0 to %lld",
                        (long long)p->o->index, info.name, (long long)info.count - 1);
    p->label = sl_dataset_sample(data, p->o->index, p->input);
    if (info.synthetic) cli_say(p->o, "the image is a generated digit, not from MNIST");
    return CLI_SUCCESS;
}

/* --- the answer --- */

static void sort(prediction *p)
{
    for (int i = 0; i < p->classes; i++) {
        int at = i;
        for (; at > 0 && p->scores[p->order[at - 1]] < p->scores[i]; at--) p->order[at] = p->order[at - 1];
        p->order[at] = i;
    }
}

static int print_json(const prediction *p, int shown)
{
    cJSON *object = cJSON_CreateObject(), *classes = NULL;
    cJSON_AddNumberToObject(object, "class", p->order[0]);
    if (p->label >= 0) cJSON_AddNumberToObject(object, "label", p->label);
    classes = cJSON_AddArrayToObject(object, "top");
    for (int i = 0; i < shown; i++) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddNumberToObject(one, "class", p->order[i]);
        cJSON_AddNumberToObject(one, "probability", (double)p->scores[p->order[i]]);
        cJSON_AddItemToArray(classes, one);
    }
    char *text = cJSON_PrintUnformatted(object);
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
    return text ? CLI_SUCCESS : cli_fail(p->o, CLI_FAILURE, "out of memory");
}

/* One row of characters, two rows of pixels: half blocks in 24 greys on a terminal, five shades elsewhere. */
static int draw_row(const cli_image *image, int row, bool terminal)
{
    static const char *const shades[] = {" ", "░", "▒", "▓", "█"};
    for (int x = 0; x < image->width; x++) {
        const float top = image->grey[2 * row * image->width + x];
        const float low = 2 * row + 1 < image->height ? image->grey[(2 * row + 1) * image->width + x] : 0;
        const float mean = (top + low) / 2;
        if (terminal)
            printf("\033[38;5;%d;48;5;%dm▀", 232 + (int)(top * 23), 232 + (int)(low * 23));
        else
            fputs(shades[mean >= 1 ? 4 : (int)(mean * 4 + 0.5f)], stdout);
    }
    if (terminal) fputs("\033[0m", stdout);
    return image->width;
}

static void print_line(const prediction *p, int line, int shown)
{
    if (line == 0) {
        printf("class %d", p->order[0]);
        if (p->label >= 0 && p->label == p->order[0])
            printf(", as labelled");
        else if (p->label >= 0)
            printf(", but the label is %d", p->label);
    } else if (line >= 2 && line < shown + 2) {
        const int class = p->order[line - 2];
        const float score = p->scores[class];
        printf("%3d %7.3f %%  ", class, 100 * (double)score);
        for (int i = 0; i < (int)(score * 24 + 0.5f); i++) fputs("█", stdout);
    }
}

static int print_picture(const prediction *p, int shown)
{
    cli_image image = {(int)p->dims[0], (int)p->dims[1], NULL};
    const int channels = (int)p->dims[2];
    image.grey = malloc((size_t)image.height * (size_t)image.width * sizeof *image.grey);
    if (!image.grey) return cli_fail(p->o, CLI_FAILURE, "out of memory");
    for (int i = 0; i < image.height * image.width; i++) {
        float sum = 0;
        for (int c = 0; c < channels; c++) sum += p->input[i * channels + c];
        const float grey = sum / (float)channels;
        image.grey[i] = grey > 1 ? 1 : grey > 0 ? grey : 0;
    }
    bool good = true;
    if (image.width > CANVAS) {
        const int height = image.height * CANVAS / image.width;
        good = cli_image_scale(&image, height > 0 ? height : 1, CANVAS);
    }
    const char *no_colour = getenv("NO_COLOR");
    const bool terminal = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
    const int rows = (image.height + 1) / 2, lines = shown + 2;
    for (int row = 0; good && row < (rows > lines ? rows : lines); row++) {
        if (row < rows)
            draw_row(&image, row, terminal);
        else
            printf("%*s", image.width, "");
        fputs("   ", stdout);
        print_line(p, row, shown);
        putchar('\n');
    }
    free(image.grey);
    return good ? CLI_SUCCESS : cli_fail(p->o, CLI_FAILURE, "out of memory");
}

/* --- the command --- */

static int answer(prediction *p)
{
    p->classes = sl_model_outputs(p->model);
    p->scores = calloc((size_t)p->classes + 1, sizeof *p->scores);
    p->order = calloc((size_t)p->classes + 1, sizeof *p->order);
    if (!p->scores || !p->order) return cli_fail(p->o, CLI_FAILURE, "out of memory");
    if (sl_predict(p->model, p->input, 1, p->scores) != SL_OK) return cli_fail_context(p->o, p->ctx, false);
    sort(p);
    const int shown = p->o->top < p->classes ? (int)p->o->top : p->classes;
    return p->o->json ? print_json(p, shown) : print_picture(p, shown);
}

int cli_predict(cli_options *o)
{
    const bool index = cli_given(o, CLI_INDEX);
    if (o->n_words < 1 || o->n_words > 2)
        return cli_fail(o, CLI_USAGE, "a model file is needed, and an image file or --index I");
    if (o->n_words == 1 && !index)
        return cli_fail(o, CLI_USAGE, "which image? Give a PNG or PGM file, or --index I with --data NAME");
    if (o->n_words == 2 && index)
        return cli_fail(o, CLI_USAGE, "an image file and --index exclude each other");
    if (o->n_words == 2 && cli_given(o, CLI_DATA))
        return cli_fail(o, CLI_USAGE, "--data goes with --index, not with an image file");
    int status = CLI_SUCCESS;
    prediction p = {.o = o, .ctx = cli_open(o, &status)};
    if (!p.ctx) return status;
    sl_model_file_describe(p.ctx, o->words[0], &(sl_model_file_reader){.metadata = take_input, .data = &p});
    p.model = sl_load(p.ctx, o->words[0]);
    if (!p.model) status = cli_fail_context(o, p.ctx, false);
    int64_t size = 1; /* the model was loaded, so the sizes are sound */
    for (int i = 0; p.model && i < p.n_dims; i++) size *= p.dims[i];
    p.input = calloc((size_t)size, sizeof *p.input);
    if (!p.input) status = cli_fail(o, CLI_FAILURE, "out of memory");
    if (status == CLI_SUCCESS) status = index ? read_sample(&p) : read_picture(&p, o->words[1]);
    if (status == CLI_SUCCESS) status = answer(&p);
    free(p.input);
    free(p.scores);
    free(p.order);
    sl_close(p.ctx);
    return status;
}
