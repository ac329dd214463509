/* Activations as text and as functions of one number. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/activation.h"
#include "core/formula_parse.h"
#include "core/text.h"
#include "slope/activation.h"

static float parameter_of(const sl_activation_info *row, sl_activation activation, int k)
{
    return sl_float_or(k == 0 ? activation.a : activation.b, row->parameter[k].value);
}

const char *sl_activation_name(int row)
{
    const sl_activation_info *info = sl_activation_row_info(row);
    return info ? info->name : NULL;
}

static bool attr_of(sl_activation activation, sl_activation_attr *attr)
{
    const sl_activation_info *row = sl_activation_row_info(activation.row);
    *attr = (sl_activation_attr){.id = activation.row, .formula = activation.formula};
    if (!attr->formula && row) {
        attr->a = parameter_of(row, activation, 0);
        attr->b = parameter_of(row, activation, 1);
    }
    return attr->formula || row;
}

double sl_activation_value(sl_activation activation, double x)
{
    sl_activation_attr attr;
    return attr_of(activation, &attr) ? sl_activation_at(&attr, x) : NAN;
}

double sl_activation_slope(sl_activation activation, double x)
{
    sl_activation_attr attr;
    return attr_of(activation, &attr) ? sl_activation_slope_of(&attr, x) : NAN;
}

double sl_activation_gain_of(sl_activation activation)
{
    sl_activation_attr attr;
    return attr_of(activation, &attr) ? sl_activation_gain(&attr) : 1;
}

sl_activation sl_activation_from_expression(sl_context *ctx, const char *text)
{
    const sl_formula *formula = sl_formula_of(ctx, text ? text : "");
    return formula ? (sl_activation){.row = SL_ACTIVATION_COUNT, .formula = formula} : (sl_activation){0};
}

static void fail_unknown(sl_context *ctx, const char *text)
{
    char names[512] = "";
    for (int row = 0; row < sl_activation_count(); row++) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", row ? ", " : "",
                 sl_activation_row_info(row)->name);
    }
    sl_fail(ctx, SL_ARGUMENT, "there is no activation '%.64s'; there are %s", text, names);
}

/* One word between commas: a number for the next parameter, name=number, "learn", "channel", "fixed". */
static bool apply_word(sl_context *ctx, const sl_activation_info *row, const char *word, int *next,
                       sl_activation *out)
{
    if (strcmp(word, "learn") == 0 || strcmp(word, "channel") == 0) {
        if (row->n_parameters == 0 || !row->parameter[0].learnable) {
            sl_fail(ctx, SL_ARGUMENT, "activation %s has no parameter that can be learned", row->name);
            return false;
        }
        out->learn = word[0] == 'l' && out->learn != SL_LEARN_PER_CHANNEL ? SL_LEARN : SL_LEARN_PER_CHANNEL;
        return true;
    }
    if (strcmp(word, "fixed") == 0) {
        out->learn = SL_FIXED;
        return true;
    }
    const char *equals = strchr(word, '=');
    int k = *next;
    if (equals)
        for (k = 0; k < row->n_parameters; k++)
            if (strlen(row->parameter[k].name) == (size_t)(equals - word) &&
                strncmp(row->parameter[k].name, word, (size_t)(equals - word)) == 0)
                break;
    if (k >= row->n_parameters) {
        if (row->n_parameters == 0)
            sl_fail(ctx, SL_ARGUMENT, "activation %s takes no parameter, but got '%s'", row->name, word);
        else
            sl_fail(ctx, SL_ARGUMENT, "activation %s: '%s' is none of its parameters (%s%s%s)", row->name,
                    word, row->parameter[0].name, row->n_parameters > 1 ? ", " : "",
                    row->n_parameters > 1 ? row->parameter[1].name : "");
        return false;
    }
    const char *digits = equals ? equals + 1 : word;
    char *end = NULL;
    const float value = sl_text_to_float(digits, &end);
    if (end == digits || *end || !isfinite(value) || value < row->parameter[k].lowest) {
        if (isfinite(row->parameter[k].lowest))
            sl_fail(ctx, SL_ARGUMENT, "activation %s: '%s' must be a number of at least %g", row->name, word,
                    (double)row->parameter[k].lowest);
        else
            sl_fail(ctx, SL_ARGUMENT, "activation %s: '%s' is not a number", row->name, word);
        return false;
    }
    *(k == 0 ? &out->a : &out->b) = value == 0 ? SL_ZERO : value;
    *next = k + 1;
    return true;
}

sl_activation sl_activation_parse(sl_context *ctx, const char *text)
{
    const sl_activation none = {0};
    if (!sl_ok(ctx)) return none;
    if (!text) text = "";
    if (sl_formula_is_expression(text)) return sl_activation_from_expression(ctx, text);
    char name[64];
    const size_t length = strcspn(text, "(");
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    const sl_activation_info *row = sl_activation_find_row(name);
    if (!row || length >= sizeof name) {
        fail_unknown(ctx, text);
        return none;
    }
    sl_activation out = {.row = row->id};
    if (text[length] == 0) return out;
    const size_t inside = strlen(text) - length - 1;
    if (inside < 2 || text[strlen(text) - 1] != ')') {
        sl_fail(ctx, SL_ARGUMENT, "activation '%s': parameters stand in brackets, as in leaky_relu(0.01)",
                text);
        return none;
    }
    int next = 0;
    for (const char *at = text + length + 1, *last = text + strlen(text) - 1; at < last;) {
        char word[64];
        const size_t n = strcspn(at, ",)");
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        const char *start = word + strspn(word, " ");
        if (n >= sizeof word || !apply_word(ctx, row, start, &next, &out)) {
            sl_fail(ctx, SL_ARGUMENT, "activation '%s' is malformed", text);
            return none;
        }
        at += n + (at[n] == ',');
    }
    return out;
}

const char *sl_activation_print(sl_activation activation, char *buffer, int size)
{
    const sl_activation_info *row = sl_activation_row_info(activation.row);
    if (!buffer || size < 1) return "";
    if (activation.formula) {
        snprintf(buffer, (size_t)size, "%s", activation.formula->text);
        return buffer;
    }
    snprintf(buffer, (size_t)size, "%s", row ? row->name : "?");
    if (!row) return buffer;
    const char *learn = activation.learn == SL_FIXED               ? "fixed"
                        : activation.learn == SL_LEARN             ? "learn"
                        : activation.learn == SL_LEARN_PER_CHANNEL ? "channel"
                                                                   : NULL;
    char words[96] = "";
    const float values[2] = {activation.a, activation.b};
    for (int k = 0; k < row->n_parameters; k++) {
        const float value = sl_float_or(values[k], row->parameter[k].value);
        const size_t used = strlen(words);
        /* nine digits bring a float back exactly */
        if (value != row->parameter[k].value)
            snprintf(words + used, sizeof words - used, "%s%s=%.9g", used ? "," : "", row->parameter[k].name,
                     (double)value);
    }
    const size_t used = strlen(words);
    if (learn) snprintf(words + used, sizeof words - used, "%s%s", used ? "," : "", learn);
    if (words[0]) snprintf(buffer, (size_t)size, "%s(%s)", row->name, words);
    return buffer;
}
