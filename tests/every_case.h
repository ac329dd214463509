/* All cases that the tables make: the sample cases of the operations, and every row of activations.def. */
#ifndef SL_TESTS_EVERY_CASE_H
#define SL_TESTS_EVERY_CASE_H

#include "core/activation.h"
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
#endif
