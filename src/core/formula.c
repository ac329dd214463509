#include "core/formula.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/formula_build.h"
#include "core/formula_parse.h"

static void formula_free(sl_owned *owned)
{
    free(owned);
}

/* Without spaces, but for one between two words: never longer. */
static void tidy(const char *text, char *to)
{
    char last = 0;
    bool gap = false;
    for (; *text; text++) {
        const bool space = *text == ' ' || (*text >= '\t' && *text <= '\r');
        const bool word = strchr("+-*/^()<>=!?:,;", *text) == NULL;
        gap = gap || (space && last);
        if (space) continue;
        if (gap && word && strchr("+-*/^()<>=!?:,;", last) == NULL) *to++ = ' ';
        *to++ = last = *text;
        gap = false;
    }
    *to = 0;
}

static const sl_formula *find(const sl_context *ctx, const char *text)
{
    for (const sl_owned *at = ctx->owned.next; at != &ctx->owned; at = at->next)
        if (at->free == formula_free && strcmp(((const sl_formula *)at)->text, text) == 0)
            return (const sl_formula *)at;
    return NULL;
}

/* --- the check --- */

/* What is moved, and how a program answers. */
typedef struct probe {
    const sl_formula *formula;
    int by; /* learned parameter, -1: x */
    double x;
} probe;

static double value_at(const probe *p, double step)
{
    double parameter[SL_FORMULA_PARAMETERS];
    for (int k = 0; k < p->formula->n_parameters; k++)
        parameter[k] = p->formula->parameter[k].start + (k == p->by ? step : 0);
    return sl_formula_run_double(p->formula, &p->formula->value, p->x + (p->by < 0 ? step : 0), parameter);
}

/* True where differences of three widths agree with each other, as they do not at a kink or where the value
 * is mostly rounding errors, and disagree with the slope. */
static bool contradicted(const probe *p)
{
    const double slope = sl_formula_run_double(
        p->formula, p->by < 0 ? &p->formula->slope : &p->formula->by[p->by], p->x, NULL);
    const double rounding = 1e-11 * fabs(value_at(p, 0));
    double width = 1e-3 * (1 + fabs(p->x)), seen[3], size = 1e-3;
    for (int i = 0; i < 3; i++, width /= 8) {
        seen[i] = (value_at(p, width) - value_at(p, -width)) / (2 * width);
        if (!(fabs(seen[i]) <= FLT_MAX)) return false;
        size = fmax(size, fabs(seen[i]));
    }
    if (!(rounding < 1e-3 * size)) return false;
    /* Their errors go with the square of the width. */
    const bool agree = fabs(seen[0] - seen[2]) < 1e-3 * size && fabs(seen[1] - seen[2]) < 1e-4 * size;
    return agree && !(fabs(slope - seen[2]) < 1e-3 * size);
}

bool sl_formula_is_right(const sl_formula *formula, double *x)
{
    int wrong = 0;
    for (int by = -1; by < formula->n_parameters; by++)
        for (int i = 0; i < 64; i++) { /* ±0.011 … ±13, at no round number */
            const double size = 0.01127 * exp(0.2269 * (i / 2));
            const probe p = {formula, by, i % 2 ? -size : size};
            if (contradicted(&p)) {
                *x = p.x;
                wrong++;
            }
        }
    return wrong < 2;
}

/* --- making --- */

static bool build(sl_formula *formula, sl_formula_builder *f, const char *text)
{
    sl_context *ctx = formula->ctx;
    const int value = sl_formula_parse(formula, f, text);
    if (value < 0) return false;
    const int n = formula->n_parameters;
    const int slope = sl_formula_derive(f, value, sl_formula_leaf(f, SL_F_X, 0));
    bool good = slope >= 0 && sl_formula_compile(f, value, n, &formula->value) &&
                sl_formula_compile(f, slope, n, &formula->slope);
    for (int k = 0; k < n && good; k++) {
        const int by = sl_formula_derive(f, value, sl_formula_leaf(f, SL_F_PARAMETER, k));
        good = by >= 0 && sl_formula_compile(f, by, n, &formula->by[k]);
    }
    double x = 0;
    if (f->fault == SL_FORMULA_NOT_FINITE)
        sl_fail(ctx, SL_ARGUMENT, "expression '%s': a constant of its derivative is not finite", text);
    else if (!good)
        sl_fail(ctx, SL_ARGUMENT,
                "expression '%s' is too large: it needs more than %d operations or %d "
                "numbers at once",
                text, SL_FORMULA_STEPS, SL_FORMULA_BUFFERS);
    else if (!sl_formula_contains(f, value, SL_F_VALUE_STEP_STE) && !sl_formula_is_right(formula, &x))
        sl_fail(ctx, SL_ARGUMENT,
                "expression '%s': its slope at x = %g does not agree with differences of its values", text,
                x);
    return sl_ok(ctx);
}

const sl_formula *sl_formula_of(sl_context *ctx, const char *text)
{
    if (!sl_ok(ctx)) return NULL;
    if (strlen(text) >= SL_FORMULA_TEXT) {
        sl_fail(ctx, SL_ARGUMENT, "the expression '%.40s…' is longer than %d characters", text,
                SL_FORMULA_TEXT - 1);
        return NULL;
    }
    char tidied[SL_FORMULA_TEXT];
    tidy(text, tidied);
    const sl_formula *known = find(ctx, tidied);
    if (known) return known;
    sl_formula *formula = sl_new(ctx, 1, sizeof *formula, "an expression");
    sl_formula_builder *f = sl_new(ctx, 1, sizeof *f, "an expression");
    bool good = formula && f;
    if (good) {
        formula->ctx = ctx;
        strcpy(formula->text, tidied);
        good = build(formula, f, text);
    }
    free(f);
    if (!good) {
        free(formula);
        return NULL;
    }
    sl_own(ctx, &formula->owned, formula_free);
    return formula;
}
