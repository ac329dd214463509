/* What slope bench prints: tables, or one JSON object. */
#define _DEFAULT_SOURCE
#include <time.h>

#include "bench.h"

#include <cjson/cJSON.h>

static double median(const bench_figure *f)
{
    return f && f->n ? median_of(f->seconds, f->n) : 0;
}

/* Distance of the quartiles over the median. */
static double spread(const bench_figure *f)
{
    if (!f || !f->n) return 0;
    return (quantile_of(f->seconds, f->n, 0.75) - quantile_of(f->seconds, f->n, 0.25)) / median(f);
}

static double share(const bench_figure *f)
{
    return f && f->n ? median_of(f->share, f->n) : 0;
}

const char *bench_processor(char *text, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(text, size, "unknown processor");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            const char *name = strchr(line, ':') + 1;
            name += strspn(name, " \t");
            snprintf(text, size, "%.*s", (int)strcspn(name, "\n"), name);
            break;
        }
    if (file) fclose(file);
    return text;
}

/* --- JSON --- */

static cJSON *machine(const bench *b)
{
    char cpu[128];
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "processor", bench_processor(cpu, sizeof cpu));
    cJSON_AddStringToObject(m, "device", sl_device_name(b->ctx));
    cJSON_AddStringToObject(m, "description", sl_device_description(b->ctx));
    cJSON_AddBoolToObject(m, "simulated", b->simulated);
    cJSON_AddStringToObject(m, "precision", b->options->exact ? "exact" : b->options->precision);
    return m;
}

static void add_quartiles(cJSON *to, const char *key, const double *values, int n, double scale)
{
    static const double shares[] = {0, 0.25, 0.5, 0.75, 1};
    cJSON *list = cJSON_AddArrayToObject(to, key);
    for (int i = 0; i < 5 && n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(scale * quantile_of(values, n, shares[i])));
}

static cJSON *figure(const bench_figure *f)
{
    const double seconds = median(f);
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "group", f->group);
    cJSON_AddStringToObject(item, "name", f->row);
    cJSON_AddStringToObject(item, "form", f->form);
    cJSON_AddNumberToObject(item, "rounds", f->n);
    add_quartiles(item, "us", f->seconds, f->n, 1e6);
    if (f->bytes > 0) cJSON_AddNumberToObject(item, "bytes", f->bytes);
    if (f->bytes > 0) cJSON_AddNumberToObject(item, "gb_per_second", f->bytes / seconds * 1e-9);
    if (f->flops > 0) cJSON_AddNumberToObject(item, "flops", f->flops);
    if (f->flops > 0) cJSON_AddNumberToObject(item, "gflop_per_second", f->flops / seconds * 1e-9);
    if (f->samples > 0) cJSON_AddNumberToObject(item, "samples", f->samples);
    if (f->samples > 0) cJSON_AddNumberToObject(item, "samples_per_second", f->samples / seconds);
    if (share(f) > 0)
        cJSON_AddNumberToObject(item, f->yardstick == BENCH_COPY ? "of_copy" : "of_product", share(f));
    if (f->memory > 0) cJSON_AddNumberToObject(item, "planned_bytes", f->memory);
    if (f->launches > 0) cJSON_AddNumberToObject(item, "launches", f->launches);
    return item;
}

int bench_print_json(const bench *b)
{
    char date[32];
    const time_t now = time(NULL);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "kind", "slope bench");
    cJSON_AddStringToObject(all, "version", SLOPE_VERSION);
    cJSON_AddStringToObject(all, "date", date);
    cJSON_AddItemToObject(all, "machine", machine(b));
    cJSON_AddNumberToObject(all, "load", b->load);
    cJSON_AddNumberToObject(all, "batch", (double)b->batch);
    cJSON_AddNumberToObject(all, "elements", (double)b->elements);
    add_quartiles(all, "copy_gb_per_second", b->results.copy, b->results.n_copy, 1e-9);
    add_quartiles(all, "product_gflop_per_second", b->results.product, b->results.n_product, 1e-9);
    cJSON *list = cJSON_AddArrayToObject(all, "figures");
    for (int i = 0; i < b->results.n; i++) cJSON_AddItemToArray(list, figure(&b->results.figures[i]));
    char *text = cJSON_Print(all);
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(all);
    return text ? CLI_SUCCESS : cli_fail(b->options, CLI_FAILURE, "out of memory");
}

/* --- tables --- */

static const char *text_of(char *text, size_t size, const char *format, double value)
{
    if (value > 0)
        snprintf(text, size, format, value);
    else
        snprintf(text, size, "-");
    return text;
}

/* Right-aligned, "-" where there is no value. */
static void column(int width, const char *format, double value)
{
    char text[32];
    printf(" %*s", width, text_of(text, sizeof text, format, value));
}

static void print_name(const char *name, int width)
{
    if ((int)strlen(name) > width)
        printf("%s\n%*s", name, width, "");
    else
        printf("%-*s", width, name);
}

/* The rows of a group in the order of their figures, each once. */
static const bench_figure *next_row(const bench *b, const char *group, int *at)
{
    for (; *at < b->results.n; ++*at) {
        const bench_figure *f = &b->results.figures[*at];
        bool first = strcmp(f->group, group) == 0;
        for (int i = 0; i < *at && first; i++)
            first = strcmp(b->results.figures[i].group, group) != 0 ||
                    strcmp(b->results.figures[i].row, f->row) != 0;
        if (first) return &b->results.figures[(*at)++];
    }
    return NULL;
}

static const bench_figure *form(const bench *b, const bench_figure *row, const char *name)
{
    return bench_find(b, row->group, row->row, name);
}

/* How many times as fast the fused form is. */
static double gain(const bench_figure *fused, const bench_figure *apart)
{
    return fused && apart && median(fused) > 0 ? median(apart) / median(fused) : 0;
}

static void print_rate(const bench_figure *f)
{
    column(6, "%.1f", f && median(f) > 0 ? f->bytes / median(f) * 1e-9 : 0);
    column(4, "%.0f%%", 100 * share(f));
}

static void print_activations(const bench *b)
{
    int at = 0;
    const bench_figure *row = next_row(b, "activations", &at);
    if (!row) return;
    printf(
        "\nActivations: GB/s on %s numbers, and the share of a copy; gain: times as fast as call by call\n\n",
        cli_count(b->elements).text);
    printf("%-13s %11s %11s %17s %17s %12s\n", "", "value", "slope", "bias + value,", "slope + its sum,",
           "dense + bias");
    printf("%-13s %11s %11s %17s %17s %12s %7s\n", "", "", "", "fused", "fused", "+ value", "");
    printf("%-13s %6s %4s %6s %4s %6s %4s %5s %6s %4s %5s %6s %5s %7s\n", "", "GB/s", "copy", "GB/s", "copy",
           "GB/s", "copy", "gain", "GB/s", "copy", "gain", "us", "gain", "spread");
    for (; row; row = next_row(b, "activations", &at)) {
        const bench_figure *value = form(b, row, "value"), *slope = form(b, row, "slope"),
                           *bias = form(b, row, "bias, value"), *sum = form(b, row, "slope, bias gradient"),
                           *dense = form(b, row, "dense");
        print_name(row->row, 13);
        print_rate(value);
        print_rate(slope);
        print_rate(bias);
        column(5, "%.2f", gain(bias, form(b, row, "bias, value in two")));
        print_rate(sum);
        column(5, "%.2f", gain(sum, form(b, row, "slope, bias gradient in two")));
        column(6, "%.0f", 1e6 * median(dense));
        column(5, "%.2f", gain(dense, form(b, row, "dense in three")));
        const double spreads[] = {spread(value), spread(slope), spread(bias), spread(sum), spread(dense)};
        column(7, "%.0f%%", 100 * highest_of(spreads, 5));
        printf("\n");
    }
}

static void print_kernels(const bench *b)
{
    const char *last = "";
    for (int i = 0; i < b->results.n; i++) {
        const bench_figure *f = &b->results.figures[i];
        if (strcmp(f->group, "kernels") != 0) continue;
        if (!*last)
            printf("\nKernels, batch %lld, each call by itself; copy: more than 100 %% is the caches' "
                   "work\n\n%-26s %-18s %9s %8s %7s %7s %5s %7s\n",
                   (long long)b->batch, "", "", "us", "GFLOP/s", "product", "GB/s", "copy", "spread");
        if (strcmp(last, f->row) != 0)
            print_name(f->row, 26);
        else
            printf("%-26s", "");
        const double s = median(f);
        printf(" %-18s", f->form);
        column(9, "%.1f", 1e6 * s);
        column(8, "%.1f", f->flops / s * 1e-9);
        column(7, "%.0f%%", f->yardstick == BENCH_PRODUCT ? 100 * share(f) : 0);
        column(7, "%.1f", f->yardstick == BENCH_COPY ? f->bytes / s * 1e-9 : 0);
        column(5, "%.0f%%", f->yardstick == BENCH_COPY ? 100 * share(f) : 0);
        column(7, "%.0f%%", 100 * spread(f));
        printf("\n");
        last = f->row;
    }
}

static void print_layers(const bench *b)
{
    int at = 0;
    const bench_figure *row = next_row(b, "layers", &at);
    if (row)
        printf("\nLayers, batch %lld, microseconds a sample\n\n%-26s %10s %22s %8s\n", (long long)b->batch,
               "", "forward", "forward and backward", "spread");
    for (; row; row = next_row(b, "layers", &at)) {
        const bench_figure *forward = form(b, row, "forward"), *both = form(b, row, "forward and backward");
        print_name(row->row, 26);
        column(10, "%.3f", 1e6 * median(forward) / (double)b->batch);
        column(22, "%.3f", 1e6 * median(both) / (double)b->batch);
        column(8, "%.0f%%", 100 * (spread(forward) > spread(both) ? spread(forward) : spread(both)));
        printf("\n");
    }
}

static void print_steps(const bench *b)
{
    int at = 0;
    const bench_figure *f = next_row(b, "steps", &at);
    if (f)
        printf("\nTraining steps, batch %lld, Adam\n\n%-12s %12s %12s %8s %16s%s\n", (long long)b->batch, "",
               "samples/s", "us a step", "spread", "planned memory", f->launches ? "   launches" : "");
    for (; f; f = next_row(b, "steps", &at)) {
        print_name(f->row, 12);
        column(12, "%.0f", f->samples / median(f));
        column(12, "%.1f", 1e6 * median(f));
        column(7, "%.0f%%", 100 * spread(f));
        column(12, "%.1f MiB", f->memory / (1 << 20));
        if (f->launches) printf(" %10d", f->launches);
        printf("\n");
    }
}

void bench_print(const bench *b)
{
    char cpu[128];
    const bench_results *r = &b->results;
    printf("slope %s, %s, %s", SLOPE_VERSION, bench_processor(cpu, sizeof cpu),
           sl_device_description(b->ctx));
    if (!b->cpu) printf(", %s", b->options->exact ? "exact" : b->options->precision);
    if (b->load >= 0) printf("; load before %.2f", b->load);
    printf("\n");
    if (b->simulated) printf("This device is simulated: the times mean nothing.\n");
    if (r->n_copy)
        printf("copy (y = 1x) of %s numbers: %.1f GB/s, quartiles %.1f to %.1f\n",
               cli_count(b->elements).text, 1e-9 * median_of(r->copy, r->n_copy),
               1e-9 * quantile_of(r->copy, r->n_copy, 0.25), 1e-9 * quantile_of(r->copy, r->n_copy, 0.75));
    if (r->n_product)
        printf("product of %d x %d matrices: %.1f GFLOP/s, quartiles %.1f to %.1f\n", b->square, b->square,
               1e-9 * median_of(r->product, r->n_product), 1e-9 * quantile_of(r->product, r->n_product, 0.25),
               1e-9 * quantile_of(r->product, r->n_product, 0.75));
    print_activations(b);
    print_kernels(b);
    print_layers(b);
    print_steps(b);
}
