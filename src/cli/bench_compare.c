/* slope bench --compare: two files of results, figure by figure. */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <math.h>

#include "bench.h"

#include <cjson/cJSON.h>

#include "files.h"

/* Figures that agree by chance, and those of a single round. */
static const double least_noise = 0.01;

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "?";
}

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static cJSON *read_results(const cli_options *o, const char *path)
{
    char *text = cli_read_text(path);
    if (!text) {
        cli_fail(o, CLI_FAILURE, "%s cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    cJSON *all = cJSON_Parse(text);
    free(text);
    if (all && strcmp(text_of(all, "kind"), "slope bench") == 0 &&
        cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(all, "figures")))
        return all;
    cli_fail(o, CLI_FAILURE, "%s: this is no result of slope bench --json", path);
    cJSON_Delete(all);
    return NULL;
}

/* --- what was measured where --- */

static void print_machine(const char *path, const cJSON *all)
{
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(all, "machine");
    printf("%s: slope %s, %s, %s, %s, %s; load %.2f\n", path, text_of(all, "version"), text_of(all, "date"),
           text_of(m, "processor"), text_of(m, "description"), text_of(m, "precision"),
           number_of(all, "load"));
}

static void print_difference(const cJSON *a, const cJSON *b)
{
    static const char *const keys[] = {"processor", "description", "precision"};
    const cJSON *ma = cJSON_GetObjectItemCaseSensitive(a, "machine"),
                *mb = cJSON_GetObjectItemCaseSensitive(b, "machine");
    for (int i = 0; i < 3; i++)
        if (strcmp(text_of(ma, keys[i]), text_of(mb, keys[i])) != 0) {
            printf("The machines or settings differ (%s): so do the times, whatever the programs do.\n",
                   keys[i]);
            return;
        }
}

/* --- figures --- */

/* Quartiles and median. */
typedef struct span {
    double low, middle, high;
} span;

static bool read_span(const cJSON *figure, const char *key, span *s)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(figure, key);
    double values[5];
    for (int i = 0; i < 5; i++) {
        const cJSON *item = cJSON_GetArrayItem(list, i);
        if (!cJSON_IsNumber(item)) return false;
        values[i] = item->valuedouble;
    }
    *s = (span){values[1], values[2], values[3]};
    return s->middle > 0;
}

static bool same_figure(const cJSON *a, const cJSON *b)
{
    static const char *const names[] = {"group", "name", "form"}, *const work[] = {"bytes", "flops",
                                                                                   "samples"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text_of(a, names[i]), text_of(b, names[i])) != 0) return false;
    for (int i = 0; i < 3; i++) /* another batch or array: another quantity */
        if (number_of(a, work[i]) != number_of(b, work[i])) return false;
    return true;
}

/* +1 faster, -1 slower, 0 the same as far as can be told. */
static int verdict(const span *a, const span *b, double *change, double *noise)
{
    *change = a->middle / b->middle - 1;
    *noise = ((a->high - a->low) / a->middle + (b->high - b->low) / b->middle) / 2;
    if (*noise < least_noise) *noise = least_noise;
    if (fabs(*change) <= *noise) return 0;
    return b->high < a->low ? 1 : b->low > a->high ? -1 : 0;
}

/* A copy and a large product are no part of what is compared: where they change, the machine did. */
static void print_yardstick(const cJSON *old, const cJSON *new, const char *key, const char *what,
                            const char *unit)
{
    span a, b;
    double change, noise;
    if (!read_span(old, key, &a) || !read_span(new, key, &b)) return;
    const int found = verdict(&b, &a, &change, &noise); /* rates: the larger is the faster */
    printf("%s: %.1f and %.1f %s%s\n", what, a.middle, b.middle, unit,
           found ? ": the machine itself was in another state, and all times are doubtful" : "");
}

typedef struct tally {
    int compared, faster, slower, alone;
} tally;

static void compare_figure(const cJSON *old, const cJSON *others, tally *t)
{
    const cJSON *new = NULL;
    span a, b;
    cJSON_ArrayForEach(new, others) if (same_figure(old, new)) break;
    if (!new || !read_span(old, "us", &a) || !read_span(new, "us", &b)) {
        t->alone++;
        return;
    }
    double change, noise;
    const int found = verdict(&a, &b, &change, &noise);
    t->compared++;
    t->faster += found > 0;
    t->slower += found < 0;
    if (!found) return;
    char name[128];
    snprintf(name, sizeof name, "%s, %s", text_of(old, "name"), text_of(old, "form"));
    if (t->faster + t->slower == 1)
        printf("\n%-48s %11s %11s %8s %7s\n", "", "old, us", "new, us", "speed", "noise");
    printf("%-48s %11.2f %11.2f %+7.1f%% %6.1f%%  %s\n", name, a.middle, b.middle, 100 * change, 100 * noise,
           found > 0 ? "faster" : "slower");
}

int bench_compare(const cli_options *o, const char *old, const char *new)
{
    cJSON *a = read_results(o, old), *b = a ? read_results(o, new) : NULL;
    tally t = {0};
    if (!a || !b) {
        cJSON_Delete(a);
        return CLI_FAILURE;
    }
    print_machine(old, a);
    print_machine(new, b);
    print_difference(a, b);
    print_yardstick(a, b, "copy_gb_per_second", "copy", "GB/s");
    print_yardstick(a, b, "product_gflop_per_second", "large product", "GFLOP/s");
    const cJSON *figure, *others = cJSON_GetObjectItemCaseSensitive(b, "figures");
    cJSON_ArrayForEach(figure, cJSON_GetObjectItemCaseSensitive(a, "figures"))
        compare_figure(figure, others, &t);
    t.alone += cJSON_GetArraySize(others) - t.compared;
    cJSON_Delete(a);
    cJSON_Delete(b);
    if (!t.compared) return cli_fail(o, CLI_FAILURE, "%s and %s have no figure in common", old, new);
    printf("\nof %d: %d faster, %d slower", t.compared, t.faster, t.slower);
    if (t.alone) printf("; %d stand in one of the files only", t.alone);
    printf("\n");
    return t.slower ? CLI_FAILURE : CLI_SUCCESS;
}
