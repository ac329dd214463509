/* Activations from expressions: text → a graph of operations → derivatives → short programs that every back
 * end runs. */
#ifndef SL_CORE_FORMULA_H
#define SL_CORE_FORMULA_H

#include <stdint.h>

#include "core/context.h"
#include "slope/activation.h"

enum {
    SL_FORMULA_PARAMETERS = 4, /* learned ones */
    SL_FORMULA_STEPS = 240,    /* of a program */
    SL_FORMULA_BUFFERS = 32,   /* of a program: what it holds at once */
    SL_FORMULA_TEXT = SL_ACTIVATION_TEXT,
};

/* The operations: the rows of formula.def, then two for each row of activations.def, its value and its slope
 * with default parameters. A slope's argument is x or y as the row READS (never used for READS_NOTHING). */
typedef enum sl_formula_op {
#define OPERATION(id, ...) SL_F_##id,
#include "core/formula.def"
#undef OPERATION
#define ACTIVATION(id, ...) SL_F_VALUE_##id,
#include "slope/activations.def"
#undef ACTIVATION
#define ACTIVATION(id, ...) SL_F_SLOPE_##id,
#include "slope/activations.def"
#undef ACTIVATION
    SL_F_COUNT
} sl_formula_op;

/* buffer[to] = op(buffer[in[0]], …). `to` may be one of `in`: elements do not see each other. */
typedef struct sl_formula_step {
    uint8_t op, to, in[4]; /* what an operation does not read is 0 */
} sl_formula_step;

/* Where things are when a program starts: x in buffer 0, learned parameter k in buffer 1 + k (there are
 * formula->n_parameters), constant k in buffer 1 + n_parameters + k. A step never writes these. The result is
 * in buffer `result`, which without any step is one of them. */
typedef struct sl_formula_program {
    int n_constants, n_steps, n_buffers;
    int result;
    bool reads_x;                        /* false: the result is the same for every x */
    double constant[SL_FORMULA_BUFFERS]; /* finite as floats too */
    sl_formula_step step[SL_FORMULA_STEPS];
} sl_formula_program;

typedef struct sl_formula_parameter {
    char name[16];
    float start;
    bool per_channel;
} sl_formula_parameter;

/* Belongs to its context and lives as long. Two equal texts in a context are one formula, so its address may
 * stand for it there.
 *
 * A back end runs `value` on x (after the bias), and the slopes on the same x: a formula reads x, never y.
 * Then dx = dy·slope with an ordinary product, and the terms of parameter k's gradient are dy·by[k]. The
 * learned parameters are the last n_parameters inputs of the operation, [1] or [channels] each; constants are
 * converted to `real`. The operations' values are the text of formula.def and activations.def over
 * core/math.h, so every back end gives the same bits.
 *
 * What the CUDA back end supplies (attr->formula != NULL; attr->id is then no row): ACTIVATION,
 * ACTIVATION_VJP, ACTIVATION_VJP_PARAMETER (by learned parameter attr->parameter), ACTIVATION_VJP_BIAS, with
 * up to SL_FORMULA_PARAMETERS learned inputs; BIAS_ACTIVATION, MATMUL_BIAS_ACTIVATION and
 * CONV2D_BIAS_ACTIVATION with at most one (fusion leaves the others apart); BATCH_NORM and BATCH_NORM_VJP
 * with none. */
typedef struct sl_formula {
    sl_owned owned;
    sl_context *ctx;
    int n_parameters;
    sl_formula_parameter parameter[SL_FORMULA_PARAMETERS];
    sl_formula_program value, slope, by[SL_FORMULA_PARAMETERS];
    char text[SL_FORMULA_TEXT]; /* which gives the same formula when parsed */
} sl_formula;

/* NULL after sl_fail, which names the character and the reason. */
const sl_formula *sl_formula_of(sl_context *ctx, const char *text);

/* One number in double precision over libm: the oracle. `parameter` as the formula has them, NULL: at their
 * starts. */
double sl_formula_run_double(const sl_formula *formula, const sl_formula_program *program, double x,
                             const double *parameter);
#endif
