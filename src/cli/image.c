/* Pictures: PGM by a small reader, PNG by libpng, made into grey in [0, 1] of the size that is wanted. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "cli.h"
#ifdef SLOPE_PNG
#    include <png.h>
#endif

enum { LARGEST = 16384 };                /* pixels along a side */
enum { MOST_PIXELS = 64 * 1024 * 1024 }; /* in all */

static bool refuse(const cli_options *o, const char *path, const char *what)
{
    cli_fail(o, CLI_FAILURE, "%s: %s", path, what);
    return false;
}

static bool make(const cli_options *o, const char *path, cli_image *image, long width, long height)
{
    if (width < 1 || height < 1 || width > LARGEST || height > LARGEST || width * height > MOST_PIXELS) {
        cli_fail(o, CLI_FAILURE,
                 "%s: an image of %ld x %ld pixels; up to %d along a side and %d million in all are read",
                 path, width, height, LARGEST, MOST_PIXELS / (1024 * 1024));
        return false;
    }
    image->width = (int)width;
    image->height = (int)height;
    image->grey = malloc((size_t)(width * height) * sizeof *image->grey);
    return image->grey || refuse(o, path, "out of memory");
}

/* --- PGM --- */

/* The next number of the header; comments reach from # to the end of the line. */
static long header_number(FILE *file)
{
    int c = fgetc(file);
    while (c == ' ' || (c >= '\t' && c <= '\r') || c == '#') {
        while (c == '#' && c != EOF) {
            do c = fgetc(file);
            while (c != '\n' && c != EOF);
        }
        c = fgetc(file);
    }
    long number = -1;
    for (; c >= '0' && c <= '9'; c = fgetc(file)) {
        number = (number < 0 ? 0 : number) * 10 + (c - '0');
        if (number > 1000000) return -1;
    }
    ungetc(c, file);
    return number;
}

static bool read_pgm(const cli_options *o, const char *path, FILE *file, bool text, cli_image *image)
{
    const long width = header_number(file), height = header_number(file), largest = header_number(file);
    if (width < 0 || height < 0 || largest < 1 || largest > 65535)
        return refuse(
            o, path, "the PGM header is malformed: width, height and a largest value up to 65535 are needed");
    if (!text) fgetc(file); /* one blank ends the header */
    if (!make(o, path, image, width, height)) return false;
    for (long i = 0; i < width * height; i++) {
        long value = text ? header_number(file) : fgetc(file);
        if (!text && largest > 255 && value >= 0) {
            const int low = fgetc(file);
            value = low < 0 ? -1 : value * 256 + low;
        }
        if (value < 0 || value > largest) {
            cli_fail(o, CLI_FAILURE, "%s: pixel %ld of %ld is %s", path, i, width * height,
                     value < 0 ? "missing or malformed" : "larger than the header allows");
            return false;
        }
        image->grey[i] = (float)value / (float)largest;
    }
    return true;
}

/* --- PNG --- */

#ifdef SLOPE_PNG
/* Transparent pixels show a background that what is drawn stands out from. */
static void blend(const png_byte *pixels, cli_image *image)
{
    const int n = image->width * image->height;
    double grey = 0, alpha = 0;
    for (int i = 0; i < n; i++) {
        grey += pixels[2 * i] * (double)pixels[2 * i + 1];
        alpha += pixels[2 * i + 1];
    }
    const float background = alpha > 0 && grey / alpha < 127.5 ? 1 : 0;
    for (int i = 0; i < n; i++) {
        const float a = (float)pixels[2 * i + 1] / 255;
        image->grey[i] = a * ((float)pixels[2 * i] / 255) + (1 - a) * background;
    }
}

static bool read_png(const cli_options *o, const char *path, FILE *file, cli_image *image)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    bool good = png_image_begin_read_from_stdio(&png, file) != 0;
    if (good && !make(o, path, image, (long)png.width, (long)png.height)) {
        png_image_free(&png);
        return false;
    }
    png.format = PNG_FORMAT_GA;
    png_byte *pixels = good ? malloc(PNG_IMAGE_SIZE(png)) : NULL;
    good = pixels && png_image_finish_read(&png, NULL, pixels, 0, NULL);
    if (good)
        blend(pixels, image);
    else
        cli_fail(o, CLI_FAILURE, "%s: libpng cannot read it: %s", path,
                 png.message[0] ? png.message : "out of memory");
    png_image_free(&png);
    free(pixels);
    return good;
}
#else
static bool read_png(const cli_options *o, const char *path, FILE *file, cli_image *image)
{
    (void)file, (void)image;
    return refuse(o, path, "this slope was built without libpng; give it a PGM file");
}
#endif

bool cli_image_read(const cli_options *o, const char *path, cli_image *image)
{
    *image = (cli_image){0};
    FILE *file = fopen(path, "rb");
    if (!file) return refuse(o, path, strerror(errno));
    unsigned char head[8];
    errno = 0;
    const size_t n = fread(head, 1, sizeof head, file);
    bool good = false;
    if (n == 0)
        refuse(o, path, errno ? strerror(errno) : "the file is empty");
    else if (n >= 2 && head[0] == 'P' && (head[1] == '2' || head[1] == '5')) {
        fseek(file, 2, SEEK_SET);
        good = read_pgm(o, path, file, head[1] == '2', image);
    } else if (n == 8 && memcmp(head, "\x89PNG\r\n\x1a\n", 8) == 0) {
        rewind(file);
        good = read_png(o, path, file, image);
    } else
        refuse(o, path, "this is neither a PNG nor a PGM (P2, P5) file");
    fclose(file);
    if (!good) {
        free(image->grey);
        image->grey = NULL;
    }
    return good;
}

/* --- size and background --- */

/* The mean of `from` along one line over [at, at+1)·ratio, pixels cut by the ends counted in part. */
static float cell(const float *from, int n, int step, double ratio, int at)
{
    const double start = at * ratio, end = (at + 1) * ratio;
    double sum = 0;
    for (int i = (int)start; i < n && i < end; i++) {
        const double low = i > start ? i : start, high = i + 1 < end ? i + 1 : end;
        if (high > low) sum += (high - low) * from[(size_t)i * (size_t)step];
    }
    return (float)(sum / ratio);
}

bool cli_image_scale(cli_image *image, int height, int width)
{
    const int old_height = image->height, old_width = image->width;
    float *narrow = malloc((size_t)old_height * (size_t)width * sizeof *narrow);
    float *scaled = malloc((size_t)height * (size_t)width * sizeof *scaled);
    if (narrow && scaled) {
        for (int y = 0; y < old_height; y++)
            for (int x = 0; x < width; x++)
                narrow[(size_t)y * (size_t)width + (size_t)x] = cell(
                    image->grey + (size_t)y * (size_t)old_width, old_width, 1, (double)old_width / width, x);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                scaled[y * width + x] = cell(narrow + x, old_height, width, (double)old_height / height, y);
        free(image->grey);
        *image = (cli_image){height, width, scaled};
    }
    const bool good = narrow && scaled;
    if (!good) free(scaled);
    free(narrow);
    return good;
}

bool cli_image_normalise(cli_image *image)
{
    double border = 0;
    const int h = image->height, w = image->width;
    for (int x = 0; x < w; x++) border += (double)image->grey[x] + (double)image->grey[(h - 1) * w + x];
    for (int y = 0; y < h; y++) border += (double)image->grey[y * w] + (double)image->grey[y * w + w - 1];
    if (border / (2 * (h + w)) <= 0.5) return false;
    for (int i = 0; i < h * w; i++) image->grey[i] = 1 - image->grey[i];
    return true;
}
