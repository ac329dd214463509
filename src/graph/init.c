/* Initialisers: how parameters start. One row each. */
#include <math.h>
#include <stdlib.h>

#include "core/activation.h"
#include "core/philox.h"
#include "core/text.h"
#include "graph/graph.h"

/* Where the values of a parameter come from. */
typedef struct source {
    enum { SAME, UNIFORM, NORMAL } kind;
    double scale; /* the value; the bound of an interval around 0; the standard deviation */
} source;

static double fans(const sl_variable *v)
{
    return (double)(v->fan_in + v->fan_out);
}

static source zeros(const sl_variable *v)
{
    (void)v;
    return (source){SAME, 0};
}

static source constant(const sl_variable *v)
{
    return (source){SAME, sl_float_or(v->init.value, 0)};
}

static source normal(const sl_variable *v)
{
    return (source){NORMAL, sl_float_or(v->init.value, 0.01f)};
}

static source uniform(const sl_variable *v)
{
    return (source){UNIFORM, sl_float_or(v->init.value, 0.05f)};
}

static source xavier(const sl_variable *v)
{
    return (source){UNIFORM, sqrt(6 / fans(v))};
}

static source xavier_normal(const sl_variable *v)
{
    return (source){NORMAL, sqrt(2 / fans(v))};
}

static source he(const sl_variable *v)
{
    return (source){NORMAL, v->gain / sqrt((double)v->fan_in)};
}

static source he_uniform(const sl_variable *v)
{
    return (source){UNIFORM, v->gain * sqrt(3 / (double)v->fan_in)};
}

static source lecun(const sl_variable *v)
{
    return (source){NORMAL, 1 / sqrt((double)v->fan_in)};
}

static source standard(const sl_variable *v)
{
    (void)v;
    return (source){NORMAL, 1};
}

/* The rows (or columns, whichever are fewer) of the [fan_in, fan_out] matrix are made orthonormal by the
 * modified Gram–Schmidt process, and multiplied by the gain. */
static void orthogonal(sl_context *ctx, const sl_variable *variable, float *values)
{
    const int64_t rows = variable->fan_in, columns = variable->fan_out;
    const bool by_row = rows <= columns;
    const int64_t n = by_row ? rows : columns, length = by_row ? columns : rows;
    const int64_t step_vector = by_row ? columns : 1, step_element = by_row ? 1 : columns;
    double *q = sl_new(ctx, (size_t)(n * length), sizeof *q, "orthogonal initialisation");
    if (!q) return;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < length; k++) q[i * length + k] = values[i * step_vector + k * step_element];
    for (int64_t i = 0; i < n; i++) {
        double *v = q + i * length;
        for (int64_t j = 0; j < i; j++) {
            const double *u = q + j * length;
            double dot = 0;
            for (int64_t k = 0; k < length; k++) dot += u[k] * v[k];
            for (int64_t k = 0; k < length; k++) v[k] -= dot * u[k];
        }
        double norm = 0;
        for (int64_t k = 0; k < length; k++) norm += v[k] * v[k];
        norm = sqrt(norm);
        for (int64_t k = 0; k < length; k++) v[k] = norm > 0 ? v[k] / norm : 0;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < length; k++)
            values[i * step_vector + k * step_element] = (float)(q[i * length + k] * variable->gain);
    free(q);
}

static const struct row {
    const char *name;
    source (*from)(const sl_variable *v);
    bool takes_value;
    void (*adjust)(sl_context *ctx, const sl_variable *variable, float *values);
} table[] = {
    [SL_INIT_DEFAULT] = {"default", xavier, false, NULL},
    [SL_INIT_ZEROS] = {"zeros", zeros, false, NULL},
    [SL_INIT_CONSTANT] = {"constant", constant, true, NULL},
    [SL_INIT_NORMAL] = {"normal", normal, true, NULL},
    [SL_INIT_UNIFORM] = {"uniform", uniform, true, NULL},
    [SL_INIT_XAVIER] = {"xavier", xavier, false, NULL},
    [SL_INIT_XAVIER_NORMAL] = {"xavier_normal", xavier_normal, false, NULL},
    [SL_INIT_HE] = {"he", he, false, NULL},
    [SL_INIT_HE_UNIFORM] = {"he_uniform", he_uniform, false, NULL},
    [SL_INIT_LECUN] = {"lecun", lecun, false, NULL},
    [SL_INIT_ORTHOGONAL] = {"orthogonal", standard, false, orthogonal},
};
enum { ROWS = sizeof table / sizeof *table };

static sl_random_attr random_of(const sl_context *ctx, const sl_variable *variable, source from)
{
    return (sl_random_attr){.kind = from.kind == NORMAL ? SL_RANDOM_NORMAL : SL_RANDOM_UNIFORM,
                            .low = from.kind == NORMAL ? 0 : -from.scale,
                            .high = from.scale,
                            .seed = ctx->options.seed,
                            .stream = variable->stream};
}

/* As the kernels of RANDOM do. */
static void draw(const sl_random_attr *attr, float *values, int64_t count)
{
    const float low = (float)attr->low, span = (float)(attr->high - attr->low), deviation = (float)attr->high;
    for (int64_t i = 0; i < count; i += 4) {
        const sl_words words = sl_random_words4(attr->seed, attr->stream, 0, (uint64_t)i / 4);
        float z[4];
        for (int k = 0; k < 4; k += 2)
            if (attr->kind == SL_RANDOM_NORMAL) sl_normals(words.w[k], words.w[k + 1], &z[k], &z[k + 1]);
        for (int64_t k = 0; k < 4 && i + k < count; k++)
            values[i + k] =
                attr->kind == SL_RANDOM_NORMAL ? low + deviation * z[k] : low + span * sl_uniform(words.w[k]);
    }
}

static const struct row *row_of(sl_context *ctx, const sl_variable *variable)
{
    const int kind = (int)variable->init.kind;
    if (kind >= 0 && kind < ROWS) return &table[kind];
    sl_fail(ctx, SL_ARGUMENT, "parameter '%s': %d is no initialiser", variable->name, kind);
    return NULL;
}

bool sl_init_random(sl_context *ctx, const sl_variable *variable, sl_random_attr *attr)
{
    const struct row *row = row_of(ctx, variable);
    if (!row || row->adjust) return false;
    const source from = row->from(variable);
    *attr = random_of(ctx, variable, from);
    return from.kind != SAME;
}

bool sl_init_values(sl_context *ctx, const sl_variable *variable, float *values)
{
    const struct row *row = row_of(ctx, variable);
    if (!row) return false;
    const source from = row->from(variable);
    const int64_t count = sl_shape_count(variable->shape);
    const sl_random_attr attr = random_of(ctx, variable, from);
    if (from.kind == SAME)
        for (int64_t i = 0; i < count; i++) values[i] = (float)from.scale;
    else
        draw(&attr, values, count);
    if (row->adjust) row->adjust(ctx, variable, values);
    return sl_ok(ctx);
}

sl_init sl_init_parse(sl_context *ctx, const char *text)
{
    const sl_init none = {SL_INIT_DEFAULT, 0};
    if (!sl_ok(ctx) || !text) return none;
    const size_t length = strcspn(text, "(");
    for (int kind = 0; kind < ROWS; kind++) {
        if (strlen(table[kind].name) != length || strncmp(table[kind].name, text, length) != 0) continue;
        if (text[length] == 0) return (sl_init){(sl_init_kind)kind, 0};
        char *end = NULL;
        const float value = sl_text_to_float(text + length + 1, &end);
        if (!table[kind].takes_value || end == text + length + 1 || strcmp(end, ")") != 0 ||
            !isfinite(value)) {
            sl_fail(ctx, SL_ARGUMENT, "initialiser '%s': %s", text,
                    table[kind].takes_value ? "one number is expected in the brackets"
                                            : "it takes no number");
            return none;
        }
        return (sl_init){(sl_init_kind)kind, value == 0 ? SL_ZERO : value};
    }
    char names[256] = "";
    for (int kind = 1; kind < ROWS; kind++) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", kind > 1 ? ", " : "", table[kind].name);
    }
    sl_fail(ctx, SL_ARGUMENT, "there is no initialiser '%s'; there are %s", text, names);
    return none;
}

/* --- the default: by the activation that follows --- */

static bool saturates(const sl_activation_attr *attr)
{
    return fabs(sl_activation_at(attr, 1e4) - sl_activation_at(attr, 2e4)) < 1e-3 &&
           fabs(sl_activation_at(attr, -1e4) - sl_activation_at(attr, -2e4)) < 1e-3;
}

/* The weight whose product reaches `node` through biases, normalisation, dropout, pooling and reshaping. */
static sl_variable *weight_before(const sl_node *node)
{
    for (;;) {
        switch (node->op) {
        case SL_OP_MATMUL:
        case SL_OP_CONV2D: return node->in[1]->variable;
        case SL_OP_BIAS:
        case SL_OP_BATCH_NORM:
        case SL_OP_DROPOUT:
        case SL_OP_RESHAPE:
        case SL_OP_AVG_POOL2D:
        case SL_OP_MAX_POOL2D: node = node->in[0]; break;
        default: return NULL;
        }
    }
}

void sl_init_resolve(sl_graph *graph)
{
    const float root2 = 1.41421356237f;
    for (int id = 0; id < graph->n; id++) {
        const sl_node *node = graph->nodes[id];
        sl_variable *variable = node->variable;
        const bool scaled =
            variable && variable->init.kind >= SL_INIT_HE && variable->init.kind <= SL_INIT_HE_UNIFORM;
        if (scaled && variable->gain == 1) variable->gain = root2;
    }
    /* A gain is an integral, and a deep network asks for the same one again and again. */
    sl_activation_attr of = {.id = -1};
    float gain = 1;
    for (int id = 0; id < graph->n; id++) {
        const sl_node *node = graph->nodes[id];
        sl_variable *weight = node->op == SL_OP_ACTIVATION ? weight_before(node->in[0]) : NULL;
        if (!weight || weight->kind != SL_VARIABLE_PARAMETER) continue;
        const sl_activation_attr *attr = node->attr;
        const bool flat = saturates(attr);
        if (weight->init.kind == SL_INIT_DEFAULT) weight->init.kind = flat ? SL_INIT_XAVIER : SL_INIT_HE;
        if (flat) continue;
        if (attr->id != of.id || attr->a != of.a || attr->b != of.b || attr->formula != of.formula) {
            of = *attr;
            gain = (float)sl_activation_gain(&of);
        }
        weight->gain = gain;
    }
}
