/* The operations of formulas in double precision. */
#define SL_DOUBLE
#include "core/activation_rows.h"
#include "core/formula_build.h"

/* A row's parameters where an expression uses it as a function: those it has by default. */
#define NO_PARAMETER                                                               R(0), R(0)
#define PARAMETER(name, value, how, lowest)                                        value, R(0)
#define TWO_PARAMETERS(name, value, how, lowest, name_b, value_b, how_b, lowest_b) value, value_b

double sl_formula_apply(int op, const double in[4])
{
    const double a = in[0], b = in[1], c = in[2], d = in[3];
    switch (op) {
#define OPERATION(id, name, arity, value, slope)                                                             \
    case SL_F_##id:                                                                                          \
        return value;
#include "core/formula.def"
#undef OPERATION
#define ACTIVATION(id, name, parameters, ...)                                                                \
    case SL_F_VALUE_##id: return sl_value_##id(a, parameters);                                               \
    case SL_F_SLOPE_##id:                                                                                    \
        return sl_slope_##id(a, parameters);
#include "slope/activations.def"
#undef ACTIVATION
    default: return 0;
    }
}

double sl_formula_run_double(const sl_formula *formula, const sl_formula_program *program, double x,
                             const double *parameter)
{
    double buffer[SL_FORMULA_BUFFERS];
    buffer[0] = x;
    for (int k = 0; k < formula->n_parameters; k++)
        buffer[1 + k] = parameter ? parameter[k] : formula->parameter[k].start;
    for (int k = 0; k < program->n_constants; k++)
        buffer[1 + formula->n_parameters + k] = program->constant[k];
    for (int i = 0; i < program->n_steps; i++) {
        const sl_formula_step *step = &program->step[i];
        const double in[4] = {buffer[step->in[0]], buffer[step->in[1]], buffer[step->in[2]],
                              buffer[step->in[3]]};
        buffer[step->to] = sl_formula_apply(step->op, in);
    }
    return buffer[program->result];
}
