/* What a card tells of a function: limits, extremes, kinks, moments; the error in float32; the gradient's way
 * through deep networks. All of it is the same on every machine. */
#define _DEFAULT_SOURCE
#include <float.h>
#include <math.h>

#include "card.h"

static double at(const card *c, int which, double x)
{
    return which == CLI_VALUE ? sl_activation_value(c->activation, x) : sl_activation_slope(c->activation, x);
}

/* --- the function --- */

static void take(card_extreme extreme[2], double x, double y)
{
    if (y < extreme[0].value) extreme[0] = (card_extreme){x, y};
    if (y > extreme[1].value) extreme[1] = (card_extreme){x, y};
}

static void find_extremes(card *c)
{
    enum { STEPS = 40000 };
    for (int which = 0; which < 2; which++) {
        card_extreme *e = c->extreme[which];
        e[0] = (card_extreme){0, INFINITY}, e[1] = (card_extreme){0, -INFINITY};
        for (int i = 0; i <= STEPS; i++)
            take(e, (i - STEPS / 2) * 1e-3, at(c, which, (i - STEPS / 2) * 1e-3));
        for (int k = 0; k < 2; k++) take(e, k ? INFINITY : -INFINITY, c->limit[which][k]);
    }
}

/* A place that was found by halving is meant to be the number beside it. */
static double tidy(double x)
{
    const double near = round(x * 1e6) / 1e6;
    return fabs(x - near) < 1e-9 ? near + 0.0 : x;
}

static void find_kinks(card *c)
{
    for (int i = 1; i < c->curve.n && c->n_kinks < CARD_KINKS; i++) {
        const cli_sample *b = &c->curve.samples[i], *a = b - 1;
        if (!b->jump[CLI_VALUE] && !b->jump[CLI_SLOPE]) continue;
        c->kinks[c->n_kinks++] =
            (card_kink){tidy(b->x), {tidy(a->y[0]), tidy(b->y[0])}, {tidy(a->y[1]), tidy(b->y[1])}};
    }
}

/* Means over a normal x, by the middles of small intervals of [-12, 12]: a jump at their ends does no harm.
 */
static void find_moments(card *c)
{
    enum { STEPS = 48000 };
    const double step = 24.0 / STEPS, root = sqrt(2 * acos(-1.0));
    double sum[3] = {0};
    for (int i = 0; i < STEPS; i++) {
        const double x = -12 + (i + 0.5) * step, density = exp(-0.5 * x * x) * step / root;
        const double y = at(c, CLI_VALUE, x), slope = at(c, CLI_SLOPE, x);
        sum[0] += density * y, sum[1] += density * y * y, sum[2] += density * slope * slope;
    }
    c->mean = fabs(sum[0]) < 1e-12 ? 0 : sum[0]; /* of an odd function */
    c->square = sum[1], c->slope_square = sum[2];
    c->gain = sl_activation_gain_of(c->activation);
}

bool card_function(card *c)
{
    for (int which = 0; which < 2; which++) {
        for (int k = 0; k < 2; k++) c->limit[which][k] = at(c, which, k ? INFINITY : -INFINITY);
        c->origin[which] = at(c, which, 0);
    }
    if (!cli_curve_sample(c->options, c->name, c->activation, -6, 6, &c->curve)) return false;
    find_extremes(c);
    find_kinks(c);
    find_moments(c);
    return true;
}

/* --- float32 --- */

enum { STRIDE = 4111, COLUMNS = 128 }; /* every so manieth float */

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |y - exact| in units of the last place of the exact result. */
static double ulps(double y, double exact)
{
    int exponent;
    frexp(exact, &exponent); /* exact = m * 2^exponent with m in [0.5, 1) */
    if (exponent < FLT_MIN_EXP) exponent = FLT_MIN_EXP;
    return fabs(y - exact) / ldexp(1, exponent - FLT_MANT_DIG);
}

/* Both NaN, both infinite, or infinite because float32 holds nothing so large. */
static bool same_beyond(double y, double exact)
{
    return isnan(exact) ? isnan(y) : isinf(y) && fabs(exact) > (double)FLT_MAX && (y > 0) == (exact > 0);
}

static void judge(card *c, double x, double y, double slope)
{
    const double exact = at(c, CLI_VALUE, x), exact_slope = at(c, CLI_SLOPE, x);
    if (y != exact && !same_beyond(y, exact)) {
        const double e = ulps(y, exact), absolute = fabs(y - exact);
        if (e <= 4 && e > c->ulp.value) c->ulp = (card_extreme){x, e};
        if (!(e <= 4) && !(absolute <= c->beyond.value)) c->beyond = (card_extreme){x, absolute};
    }
    if (same_beyond(slope, exact_slope)) return;
    const double e = fabs(slope - exact_slope) / fmax(1, fabs(exact_slope));
    if (!(e <= c->slope_error.value)) c->slope_error = (card_extreme){x, e};
}

/* values[3n]: x, the values, the slopes, each n. */
static bool sweep(card *c, sl_context *ctx, float *values, int64_t n)
{
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *x = sl_input(graph, "x", COLUMNS), *y = sl_activate(x, c->activation);
    sl_node *outputs[2] = {y, sl_gradient(sl_sum(y), x)};
    sl_plan *plan = sl_plan_new(outputs, 2, &(sl_plan_options){.batch = (int)(n / COLUMNS)});
    for (int64_t i = 0; i < n; i++) values[i] = float_of((uint32_t)i * STRIDE);
    sl_plan_set(plan, x, values, n);
    sl_plan_run(plan);
    for (int k = 0; k < 2; k++) sl_plan_get(plan, outputs[k], values + (k + 1) * n, n);
    sl_plan_free(plan);
    sl_graph_free(graph);
    return sl_error(ctx) == NULL;
}

bool card_accuracy(card *c, sl_context *ctx)
{
    const int64_t n = (int64_t)(0x100000000 / STRIDE) / COLUMNS * COLUMNS;
    float *values = malloc((size_t)(3 * n) * sizeof *values);
    if (!values) return cli_fail(c->options, CLI_FAILURE, "out of memory"), false;
    const bool good = sweep(c, ctx, values, n);
    for (int64_t i = 0; i < n && good; i++)
        if (!isnan(values[i]))
            c->swept++, judge(c, (double)values[i], (double)values[n + i], (double)values[2 * n + i]);
    free(values);
    if (!good) cli_fail_context(c->options, ctx, false);
    return good;
}

/* --- the gradient's way --- */

enum { WIDTH = 128, SAMPLES = 256, CLASSES = 10 };

static sl_node *weight_of(sl_graph *graph, int layer)
{
    char name[32];
    snprintf(name, sizeof name, "dense%d.weight", layer);
    for (int i = 0; sl_graph_node(graph, i); i++)
        if (strcmp(sl_node_name(sl_graph_node(graph, i)), name) == 0) return sl_graph_node(graph, i);
    return NULL;
}

static double root_mean_square(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

/* Of each unit over the samples, and over the units as a mean square: what tells samples apart. */
static double between_samples(const float *x)
{
    double sum = 0;
    for (int u = 0; u < WIDTH; u++) {
        double mean = 0;
        for (int s = 0; s < SAMPLES; s++) mean += (double)x[s * WIDTH + u] / SAMPLES;
        for (int s = 0; s < SAMPLES; s++) sum += pow((double)x[s * WIDTH + u] - mean, 2);
    }
    return sqrt(sum / (SAMPLES * WIDTH));
}

/* Uniform numbers of variance 1, and labels. */
static void set_inputs(sl_plan *plan, const sl_node *x, const sl_node *labels, float *values)
{
    int32_t classes[SAMPLES];
    uint32_t state = 1;
    for (int i = 0; i < SAMPLES * WIDTH; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)((int32_t)state * 0x1p-31 * 1.7320508075688772);
    }
    for (int i = 0; i < SAMPLES; i++) classes[i] = i % CLASSES;
    sl_plan_set(plan, x, values, SAMPLES * WIDTH);
    sl_plan_set_int(plan, labels, classes, SAMPLES);
}

static double norm_of(sl_plan *plan, const sl_node *gradient, float *values)
{
    if (sl_plan_get(plan, gradient, values, WIDTH * WIDTH) != SL_OK) return (double)NAN;
    return root_mean_square(values, WIDTH * WIDTH) * WIDTH;
}

/* A uniform number is never larger than 1.73 standard deviations. */
static bool is_uniform(const float *weights)
{
    float most = 0;
    for (int i = 0; i < WIDTH * WIDTH; i++) most = fmaxf(most, fabsf(weights[i]));
    return (double)most < 1.8 * root_mean_square(weights, WIDTH * WIDTH);
}

static void measure_flow(card *c, sl_context *ctx, card_flow *f, float *values)
{
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *x = sl_input(graph, "x", WIDTH), *labels = sl_labels(graph, "label"), *h = x;
    for (int i = 0; i < f->depth; i++) h = sl_dense(h, .units = WIDTH, .activation = c->activation);
    sl_node *loss = sl_softmax_cross_entropy(sl_dense(h, .units = CLASSES), labels);
    sl_node *first = weight_of(graph, 1), *outputs[5] = {h, loss, first},
            *wrt[] = {first, weight_of(graph, f->depth)};
    sl_gradients(loss, wrt, 2, outputs + 3);
    sl_plan *plan = sl_plan_new(outputs, 5, &(sl_plan_options){.batch = SAMPLES, .training = true});
    set_inputs(plan, x, labels, values);
    sl_plan_run(plan);
    if (sl_plan_get(plan, h, values, SAMPLES * WIDTH) == SL_OK) {
        f->rms = root_mean_square(values, SAMPLES * WIDTH);
        f->deviation = between_samples(values);
    }
    f->first = norm_of(plan, outputs[3], values);
    f->last = norm_of(plan, outputs[4], values);
    if (sl_plan_get(plan, first, values, WIDTH * WIDTH) == SL_OK) c->uniform = is_uniform(values);
    sl_plan_free(plan);
    sl_graph_free(graph);
}

bool card_gradient_flow(card *c)
{
    static const int depths[CARD_DEPTHS] = {2, 5, 10, 20, 30, 40};
    int status = CLI_FAILURE;
    sl_context *ctx = cli_open_plain(c->options, 1, &status);
    float *values = malloc(SAMPLES * WIDTH * sizeof *values);
    if (!values) cli_fail(c->options, CLI_FAILURE, "out of memory");
    bool good = ctx && values;
    /* An expression belongs to its context. */
    const card there = *c;
    if (good) c->activation = sl_activation_parse(ctx, c->name);
    for (int i = 0; i < CARD_DEPTHS && good; i++) {
        c->flow[i].depth = depths[i];
        measure_flow(c, ctx, &c->flow[i], values);
        good = !sl_error(ctx);
    }
    if (ctx && sl_error(ctx)) cli_fail_context(c->options, ctx, false);
    c->activation = there.activation;
    free(values);
    sl_close(ctx);
    return good;
}
