/* Sweeps float bit patterns and prints how far the functions of core/math.h and the rows of activations.def
 * are from double precision, as the table of docs/accuracy.md. Usage: accuracy STRIDE THREADS
 * (scripts/accuracy.sh). */
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/activation.h"
#include "core/math.h"

typedef struct worst {
    double error;
    float at;
} worst;

static void note(worst *w, double error, float at)
{
    if (error > w->error || isnan(error)) *w = (worst){isnan(error) ? INFINITY : error, at};
}

static void merge(worst *to, const worst *from)
{
    if (from->error > to->error) *to = *from;
}

/* Distance of neighbouring floats at y. */
static double ulp(double y)
{
    int exponent;
    if (y == 0) return ldexp(1, -149);
    frexp(y, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

/* |got - want|, where an infinite float stands for 2^128; NaN on one side alone is an infinite error. */
static double distance(float got, double want)
{
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want) ? 0 : INFINITY;
    if (isinf(want) && isinf(got) && want * got > 0) return 0;
    if (isinf(want)) return INFINITY;
    if (fabs(want) > 0x1p128) want = copysign(0x1p128, want);
    return fabs((isinf(got) ? copysign(0x1p128, got) : got) - want);
}

#define FUNCTION(name)                                                                                       \
    static float name##_float(float x)                                                                       \
    {                                                                                                        \
        return r_##name(x);                                                                                  \
    }
FUNCTION(exp)
static float expm1_minus_float(float x)
{
    return r_expm1_minus(fabsf(x));
}
static double expm1_minus(double x)
{
    return expm1(-fabs(x));
}
FUNCTION(log)
FUNCTION(log1p)
FUNCTION(tanh)
FUNCTION(sigmoid)
FUNCTION(softplus)
FUNCTION(erf)
FUNCTION(normal_cdf)
FUNCTION(normal_pdf)
FUNCTION(sin_pi)
FUNCTION(cos_pi)
FUNCTION(softsign)
FUNCTION(sigmoid_slope)
static float exp_minus_float(float x)
{
    return r_exp_minus(fabsf(x));
}
static double exp_minus(double x)
{
    return exp(-fabs(x));
}

static double sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752);
}
static double normal_pdf(double x)
{
    return exp(-0.5 * x * x) * 0.39894228040143268;
}
static double sin_pi(double x)
{
    const double r = remainder(x, 2);
    return fabs(r) <= 0.25   ? sin(M_PI * r)
           : fabs(r) >= 0.75 ? copysign(sin(M_PI * (1 - fabs(r))), r)
                             : copysign(cos(M_PI * (fabs(r) - 0.5)), r);
}
static double cos_pi(double x)
{
    const double r = fabs(remainder(x, 2));
    return r <= 0.25 ? cos(M_PI * r) : r >= 0.75 ? -cos(M_PI * (1 - r)) : sin(M_PI * (0.5 - r));
}
static double softsign(double x)
{
    return isinf(x) ? copysign(1, x) : x / (1 + fabs(x));
}
static double sigmoid_slope(double x)
{
    const double e = exp(-fabs(x));
    return e / ((1 + e) * (1 + e));
}
typedef struct function {
    const char *name;
    float (*got)(float x);
    double (*want)(double x);
    float limit; /* |x| up to which it is defined; 0: everywhere */
} function;

#define BOTH(name, want)                                                                                     \
    {                                                                                                        \
#        name, name##_float, want, 0                                                                         \
    }
static const function functions[] = {
    BOTH(exp, exp),
    BOTH(exp_minus, exp_minus),
    BOTH(expm1_minus, expm1_minus),
    BOTH(log, log),
    BOTH(log1p, log1p),
    BOTH(tanh, tanh),
    BOTH(sigmoid, sigmoid),
    BOTH(softplus, softplus),
    BOTH(erf, erf),
    BOTH(normal_cdf, normal_cdf),
    BOTH(normal_pdf, normal_pdf),
    BOTH(softsign, softsign),
    BOTH(sigmoid_slope, sigmoid_slope),
    {"sin_pi", sin_pi_float, sin_pi, 2097152},
    {"cos_pi", cos_pi_float, cos_pi, 2097152},
};

/* One line of the table. */
typedef struct line {
    const function *function; /* or else a row: */
    const sl_activation_info *row;
    float a, b;
    uint64_t first, step; /* which bit patterns */
    worst value_ulp, value_absolute, slope, slope_at, slope_a;
} line;

static void sweep_function(line *l)
{
    const function *f = l->function;
    for (uint64_t bits = l->first; bits <= UINT32_MAX; bits += l->step) {
        const float x = r_from_bits((uint32_t)bits);
        if (f->limit != 0 && !(fabsf(x) < f->limit)) continue;
        const double want = f->want(x), error = distance(f->got(x), want);
        note(&l->value_ulp, error / ulp(want), x);
    }
}

static void sweep_row(line *l)
{
    const sl_activation_info *row = l->row;
    const double a = l->a, b = l->b, size = fmax(1, fmax(fabs(a), fabs(b)));
    for (uint64_t bits = l->first; bits <= UINT32_MAX; bits += l->step) {
        const float x = r_from_bits((uint32_t)bits);
        const double want = row->value(x, a, b);
        const float y = row->value_float(x, l->a, l->b);
        const double error = distance(y, want);
        note(&l->value_ulp, error / ulp(want), x);
        if (error > 4 * ulp(want)) note(&l->value_absolute, error, x);

        const float at = row->reads == SL_READS_Y ? y : x, slope = row->slope_float(at, l->a, l->b);
        note(&l->slope, distance(slope, row->slope(x, a, b)) / size, x);
        note(&l->slope_at, distance(slope, row->slope_at(at, a, b)) / size, x);
        if (row->parameter[0].learnable) {
            const double want_a = row->slope_a(x, a, b);
            note(&l->slope_a, distance(row->slope_a_float(at, l->a, l->b), want_a) / fmax(size, fabs(want_a)),
                 x);
        }
    }
}

static void *sweep(void *arg)
{
    line *l = arg;
    if (l->function)
        sweep_function(l);
    else
        sweep_row(l);
    return NULL;
}

static void run(line *l, uint64_t stride, int threads)
{
    line part[64];
    pthread_t thread[64];
    for (int i = 0; i < threads; i++) {
        part[i] = *l;
        part[i].first = (uint64_t)i * stride;
        part[i].step = (uint64_t)threads * stride;
        if (pthread_create(&thread[i], NULL, sweep, &part[i])) exit(1);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        merge(&l->value_ulp, &part[i].value_ulp);
        merge(&l->value_absolute, &part[i].value_absolute);
        merge(&l->slope, &part[i].slope);
        merge(&l->slope_at, &part[i].slope_at);
        merge(&l->slope_a, &part[i].slope_a);
    }
}

static void cell(worst w, const char *format)
{
    if (w.error == 0) {
        printf(" 0 |");
        return;
    }
    printf(format, w.error);
    printf(" at %.9g |", w.at);
}

int main(int argc, char **argv)
{
    const uint64_t stride = argc > 1 ? strtoull(argv[1], NULL, 10) : 257;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    if (stride == 0 || threads < 1 || threads > 64) return 2;
    printf("### Functions of core/math.h\n\n| function | worst error in ulp |\n|---|---|\n");
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        line l = {.function = &functions[i]};
        run(&l, stride, threads);
        printf("| %s%s |", functions[i].name, functions[i].limit != 0 ? ", abs(x) < 2^21" : "");
        cell(l.value_ulp, " %.2f");
        printf("\n");
        fflush(stdout);
    }
    printf("\n### Activations\n\n| activation | value: ulp | value, beyond 4 ulp: absolute | slope, end to "
           "end | slope "
           "from what it reads | slope by the parameter |\n|---|---|---|---|---|---|\n");
    const float swish[][2] = {{1, 1}, {1.5f, 1}, {0.3f, 1}, {1, 2}, {0, 1}, {-1, 1}, {20, 1}};
    for (int id = 0; id < sl_activation_count(); id++) {
        const sl_activation_info *row = sl_activation_row_info(id);
        const bool more = strcmp(row->name, "swish") == 0;
        for (size_t k = 0; k < (more ? sizeof swish / sizeof *swish : 1); k++) {
            line l = {.row = row, .a = row->parameter[0].value, .b = row->parameter[1].value};
            if (more) l.a = swish[k][0], l.b = swish[k][1];
            run(&l, stride, threads);
            printf("| %s", row->name);
            if (row->n_parameters == 1) printf("(%g)", l.a);
            if (row->n_parameters == 2) printf("(%g, %g)", l.a, l.b);
            printf(" |");
            cell(l.value_ulp, " %.2f");
            cell(l.value_absolute, " %.1e");
            cell(l.slope, " %.1e");
            cell(l.slope_at, " %.1e");
            if (row->parameter[0].learnable)
                cell(l.slope_a, " %.1e");
            else
                printf(" – |");
            printf("\n");
            fflush(stdout);
        }
    }
    return 0;
}
