/* libFuzzer: any text is an activation that can be printed, read again and evaluated, or is refused with a
 * sentence. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/formula.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition)
{
    if (!condition) abort();
}

static void free_all(struct sl_context *ctx)
{
    while (ctx->owned.next != &ctx->owned) {
        sl_owned *owned = ctx->owned.next;
        sl_disown(owned);
        owned->free(owned);
    }
}

static void check_program(const sl_formula *formula, const sl_formula_program *program)
{
    const int first = 1 + formula->n_parameters + program->n_constants;
    demand(program->n_buffers <= SL_FORMULA_BUFFERS && program->result < program->n_buffers);
    for (int i = 0; i < program->n_steps; i++) {
        const sl_formula_step *step = &program->step[i];
        demand(step->op < SL_F_COUNT && step->to >= first && step->to < program->n_buffers);
        for (int k = 0; k < 4; k++) demand(step->in[k] < program->n_buffers);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_context ctx = {.owned = {.previous = &ctx.owned, .next = &ctx.owned}};
    char *text = malloc(size + 1), again[SL_ACTIVATION_TEXT], short_one[5];
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    const sl_activation activation = sl_activation_parse(&ctx, text);
    demand(sl_ok(&ctx) || strlen(sl_error(&ctx)) > 10);
    if (sl_ok(&ctx)) {
        sl_activation_print(activation, short_one, sizeof short_one);
        demand(strlen(sl_activation_print(activation, again, sizeof again)) < sizeof again - 1 ||
               activation.formula);
        const sl_activation second = sl_activation_parse(&ctx, again);
        demand(sl_ok(&ctx) && second.row == activation.row && second.formula == activation.formula);
        volatile double sum = 0;
        for (double x = -3; x < 3.5; x += 0.75)
            sum = sum + sl_activation_value(activation, x) + sl_activation_slope(activation, x);
        sum = sum + sl_activation_value(activation, NAN) + sl_activation_slope(activation, INFINITY);
    }
    if (activation.formula) {
        check_program(activation.formula, &activation.formula->value);
        check_program(activation.formula, &activation.formula->slope);
        for (int k = 0; k < activation.formula->n_parameters; k++)
            check_program(activation.formula, &activation.formula->by[k]);
    }
    free_all(&ctx);
    free(text);
    return 0;
}
