/* All cases that the tables make: the sample cases of the operations, and every row of activations.def; and
 * activations from expressions. */
#ifndef SL_TESTS_EVERY_CASE_H
#define SL_TESTS_EVERY_CASE_H

#include "core/activation.h"
#include "core/formula.h"
#include "op_case.h"

static inline void case_every_sample(void (*check)(const op_case *c, int valid))
{
    int cases = 0;
    for (int op = 0; op < SL_OP_COUNT; op++) {
        const sl_sample *sample = sl_rules((sl_op)op)->samples;
        for (int i = 0; sample && sample[i].n_in > 0; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s, sample %d", sl_op_name((sl_op)op), i);
            const op_case c = {(sl_op)op, sample[i].attr, sample[i].n_in, sample[i].in, name};
            check(&c, CASE_BATCH);
            check(&c, CASE_BATCH - 1);
            check(&c, 1);
            cases++;
        }
    }
    assert_true(cases > 60);
}

/* Each activation alone: fixed, learned and learned per channel. */
static inline void case_every_row(void (*check)(const op_case *c, int valid))
{
    for (int row = 0; row < sl_activation_count(); row++) {
        const sl_activation_info *info = sl_activation_row_info(row);
        const sl_activation_attr attr = {row, info->parameter[0].value, info->parameter[1].value};
        const bool learnable = info->n_parameters > 0 && info->parameter[0].learnable;
        const sl_sample_input x[2] = {{{3, {SL_BATCH, 3, 7}}, SL_SAMPLE_DISTINCT, 0},
                                      {{2, {SL_BATCH, 70}}, SL_SAMPLE_DISTINCT, 0}};
        for (int i = 0; i < 2; i++)
            for (int learned = 0; learned < (learnable ? 3 : 1); learned++) {
                char name[64];
                snprintf(name, sizeof name, "%s, shape %d, %s", info->name, i,
                         learned == 0   ? "fixed"
                         : learned == 1 ? "learned"
                                        : "per channel");
                const sl_sample_input in[2] = {
                    x[i], {{1, {learned == 2 ? sl_shape_last(x[i].shape) : 1}}, SL_SAMPLE_POSITIVE, 0}};
                const op_case c = {SL_OP_ACTIVATION, &attr, learned ? 2 : 1, in, name};
                check(&c, CASE_BATCH);
                check(&c, CASE_BATCH - 1);
            }
    }
}

/* Expressions: no learned parameter, one, and four, of which two per channel. */
static inline void case_every_formula(void (*check)(const op_case *c, int valid))
{
    static const char *const texts[] = {
        "x*sigmoid(x)",
        "max(x, 0.1*x) + gelu(abs(x) - 1)",
        "x > 0 ? x : b*expm1(x); b=1 learn",
        "2*x + square(s)*x; s=0.5 channel",
        "a*x*sigmoid(b*x) + c*sin(d*x); a=1 channel; b=1.5 learn; c=0.3 learn; d=2 channel",
    };
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = 1);
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        for (int wide = 0; wide < 2; wide++) {
            const sl_activation_attr attr = {.id = SL_ROW_COUNT, .formula = sl_formula_of(ctx, texts[t])};
            if (!attr.formula) fail_msg("%s", sl_error(ctx));
            sl_sample_input in[1 + SL_FORMULA_PARAMETERS] = {
                {wide ? (sl_shape){2, {SL_BATCH, 300}} : (sl_shape){3, {SL_BATCH, 3, 7}}, SL_SAMPLE_DISTINCT,
                 0}};
            for (int k = 0; k < attr.formula->n_parameters; k++)
                in[1 + k] = (sl_sample_input){
                    {1, {attr.formula->parameter[k].per_channel ? sl_shape_last(in[0].shape) : 1}},
                    SL_SAMPLE_POSITIVE,
                    0};
            const op_case c = {SL_OP_ACTIVATION, &attr, 1 + attr.formula->n_parameters, in, texts[t]};
            check(&c, CASE_BATCH);
            check(&c, CASE_BATCH - 1);
        }
    sl_close(ctx);
}
#endif
