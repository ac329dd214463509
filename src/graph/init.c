/* Initialisers: how parameters start. One row each. */
#include <math.h>
#include <stdlib.h>

#include "core/activation.h"
#include "core/philox.h"
#include "core/text.h"
#include "graph/graph.h"

typedef struct filler {
    sl_context *ctx;
    const sl_variable *variable;
    float *values;
    int64_t count;
} filler;

static void fill_constant(const filler *f, float value)
{
    for (int64_t i = 0; i < f->count; i++) f->values[i] = value;
}

static void fill_uniform(const filler *f, double bound)
{
    const uint64_t seed = f->ctx->options.seed;
    const float width = (float)(2 * bound), low = (float)-bound;
    for (int64_t i = 0; i < f->count; i++)
        f->values[i] = sl_uniform(sl_random_word(seed, f->variable->stream, 0, (uint64_t)i)) * width + low;
}

static void fill_normal(const filler *f, double sigma)
{
    const uint64_t seed = f->ctx->options.seed;
    for (int64_t i = 0; i < f->count; i += 4) {
        const sl_words words = sl_random_words4(seed, f->variable->stream, 0, (uint64_t)i / 4);
        float z[4];
        sl_normals(words.w[0], words.w[1], &z[0], &z[1]);
        sl_normals(words.w[2], words.w[3], &z[2], &z[3]);
        for (int64_t k = 0; k < 4 && i + k < f->count; k++) f->values[i + k] = z[k] * (float)sigma;
    }
}

static void zeros(const filler *f)
{
    fill_constant(f, 0);
}

static void constant(const filler *f)
{
    fill_constant(f, sl_float_or(f->variable->init.value, 0));
}

static void normal(const filler *f)
{
    fill_normal(f, sl_float_or(f->variable->init.value, 0.01f));
}

static void uniform(const filler *f)
{
    fill_uniform(f, sl_float_or(f->variable->init.value, 0.05f));
}

static double fans(const filler *f)
{
    return (double)(f->variable->fan_in + f->variable->fan_out);
}

static void xavier(const filler *f)
{
    fill_uniform(f, sqrt(6 / fans(f)));
}

static void xavier_normal(const filler *f)
{
    fill_normal(f, sqrt(2 / fans(f)));
}

static void he(const filler *f)
{
    fill_normal(f, f->variable->gain / sqrt((double)f->variable->fan_in));
}

static void he_uniform(const filler *f)
{
    fill_uniform(f, f->variable->gain * sqrt(3 / (double)f->variable->fan_in));
}

static void lecun(const filler *f)
{
    fill_normal(f, 1 / sqrt((double)f->variable->fan_in));
}

/* The rows (or columns, whichever are fewer) of the [fan_in, fan_out] matrix are made orthonormal by the
 * modified Gram–Schmidt process, and multiplied by the gain. */
static void orthogonal(const filler *f)
{
    const int64_t rows = f->variable->fan_in, columns = f->variable->fan_out;
    const bool by_row = rows <= columns;
    const int64_t n = by_row ? rows : columns, length = by_row ? columns : rows;
    const int64_t step_vector = by_row ? columns : 1, step_element = by_row ? 1 : columns;
    double *q = sl_new(f->ctx, (size_t)(n * length), sizeof *q, "orthogonal initialisation");
    if (!q) return;
    fill_normal(f, 1);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < length; k++)
            q[i * length + k] = f->values[i * step_vector + k * step_element];
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
            f->values[i * step_vector + k * step_element] = (float)(q[i * length + k] * f->variable->gain);
    free(q);
}

static const struct row {
    const char *name;
    void (*fill)(const filler *f);
    bool takes_value;
} table[] = {
    [SL_INIT_DEFAULT] = {"default", xavier, false},
    [SL_INIT_ZEROS] = {"zeros", zeros, false},
    [SL_INIT_CONSTANT] = {"constant", constant, true},
    [SL_INIT_NORMAL] = {"normal", normal, true},
    [SL_INIT_UNIFORM] = {"uniform", uniform, true},
    [SL_INIT_XAVIER] = {"xavier", xavier, false},
    [SL_INIT_XAVIER_NORMAL] = {"xavier_normal", xavier_normal, false},
    [SL_INIT_HE] = {"he", he, false},
    [SL_INIT_HE_UNIFORM] = {"he_uniform", he_uniform, false},
    [SL_INIT_LECUN] = {"lecun", lecun, false},
    [SL_INIT_ORTHOGONAL] = {"orthogonal", orthogonal, false},
};
enum { ROWS = sizeof table / sizeof *table };

bool sl_init_values(sl_context *ctx, const sl_variable *variable, float *values)
{
    const int kind = (int)variable->init.kind;
    if (kind < 0 || kind >= ROWS) {
        sl_fail(ctx, SL_ARGUMENT, "parameter '%s': %d is no initialiser", variable->name, kind);
        return false;
    }
    table[kind].fill(&(filler){ctx, variable, values, sl_shape_count(variable->shape)});
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

static bool saturates(const sl_activation_info *row, double a, double b)
{
    return fabs(row->value(1e4, a, b) - row->value(2e4, a, b)) < 1e-3 &&
           fabs(row->value(-1e4, a, b) - row->value(-2e4, a, b)) < 1e-3;
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
    for (int id = 0; id < graph->n; id++) {
        const sl_node *node = graph->nodes[id];
        sl_variable *weight = node->op == SL_OP_ACTIVATION ? weight_before(node->in[0]) : NULL;
        if (!weight || weight->kind != SL_VARIABLE_PARAMETER) continue;
        const sl_activation_attr *attr = node->attr;
        const sl_activation_info *row = sl_activation_row_info(attr->id);
        const bool flat = saturates(row, attr->a, attr->b);
        if (weight->init.kind == SL_INIT_DEFAULT) weight->init.kind = flat ? SL_INIT_XAVIER : SL_INIT_HE;
        if (!flat) weight->gain = (float)sl_activation_gain(attr->id, attr->a, attr->b);
    }
}
