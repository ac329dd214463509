/* A program runs on a piece of elements at a time, each step a loop over buffers in the first cache. */
#include "cpu/formula.h"

#include "core/activation_rows.h"
#include "cpu/loops.h"

enum { PIECE = 256 };

typedef void step_loop(int64_t n, const real *pa, const real *pb, const real *pc, const real *pd, real *to);

#define LOOP_1 const real a = pa[i];
#define LOOP_2 LOOP_1 const real b = pb[i];
#define LOOP_3 LOOP_2 const real c = pc[i];
#define LOOP_4 LOOP_3 const real d = pd[i];
#define OPERATION(id, name, arity, value, slope)                                                             \
    static void loop_##id(int64_t n, const real *pa, const real *pb, const real *pc, const real *pd,         \
                          real *to)                                                                          \
    {                                                                                                        \
        (void)pa, (void)pb, (void)pc, (void)pd;                                                              \
        EACH                                                                                                 \
        {                                                                                                    \
            LOOP_##arity to[i] = value;                                                                      \
        }                                                                                                    \
    }
#include "core/formula.def"
#undef OPERATION

/* A row's parameters where an expression uses it as a function: those it has by default. */
#define NO_PARAMETER                                                               R(0), R(0)
#define PARAMETER(name, value, how, lowest)                                        value, R(0)
#define TWO_PARAMETERS(name, value, how, lowest, name_b, value_b, how_b, lowest_b) value, value_b
#define ROW_LOOP(kind, id, ...)                                                                              \
    static void kind##_##id(int64_t n, const real *pa, const real *pb, const real *pc, const real *pd,       \
                            real *to)                                                                        \
    {                                                                                                        \
        (void)pb, (void)pc, (void)pd;                                                                        \
        if (sl_##kind##_steps_##id == 1) {                                                                   \
            EACH to[i] = sl_##kind##_##id(pa[i], __VA_ARGS__);                                               \
        } else {                                                                                             \
            real e[PIECE];                                                                                   \
            EACH e[i] = sl_##kind##_first_##id(pa[i], __VA_ARGS__);                                          \
            EACH to[i] = sl_##kind##_second_##id(pa[i], e[i], __VA_ARGS__);                                  \
        }                                                                                                    \
    }
#define ACTIVATION(id, name, parameters, ...)                                                                \
    ROW_LOOP(value, id, parameters)                                                                          \
    ROW_LOOP(slope, id, parameters)
#include "slope/activations.def"
#undef ACTIVATION

static step_loop *const loops[SL_F_COUNT] = {
#define OPERATION(id, ...) loop_##id,
#include "core/formula.def"
#undef OPERATION
#define ACTIVATION(id, ...) value_##id,
#include "slope/activations.def"
#undef ACTIVATION
#define ACTIVATION(id, ...) slope_##id,
#include "slope/activations.def"
#undef ACTIVATION
};

static void fill(real *to, int64_t n, real value)
{
    for (int64_t i = 0; i < n; i++) to[i] = value;
}

static void add(int64_t n, const real *x, const real *bias, real *to)
{
    EACH to[i] = x[i] + bias[i];
}

static void multiply(int64_t n, const real *dy, const real *slope, real *to)
{
    EACH to[i] = dy[i] * slope[i];
}

/* The steps on one piece. buffer[k] is where buffer k lies, `result` where the last step writes; NULL: there
 * too.
 */
static void run_steps(const sl_formula_program *program, int64_t n, const real **buffer, real room[][PIECE],
                      real *result)
{
    for (int i = 0; i < program->n_steps; i++) {
        const sl_formula_step *step = &program->step[i];
        real *to = i == program->n_steps - 1 && result ? result : room[step->to];
        loops[step->op](n, buffer[step->in[0]], buffer[step->in[1]], buffer[step->in[2]], buffer[step->in[3]],
                        to);
        buffer[step->to] = to;
    }
}

void SL_JOIN(sl_formula_run, SL_SUFFIX)(const sl_formula *formula, const sl_formula_program *program,
                                        int64_t n, const real *x, const real *bias,
                                        const formula_parameters *parameters, const real *dy, real *to)
{
    _Alignas(64) real room[SL_FORMULA_BUFFERS][PIECE];
    const real *buffer[SL_FORMULA_BUFFERS] = {0};
    const int64_t most = n < PIECE ? n : PIECE;
    const int learned = formula->n_parameters;
    for (int k = 0; k < learned; k++)
        if (!parameters->step[k]) fill(room[1 + k], most, *parameters->at[k]);
    for (int k = 0; k < program->n_constants; k++) {
        fill(room[1 + learned + k], most, (real)program->constant[k]);
        buffer[1 + learned + k] = room[1 + learned + k];
    }
    for (int64_t i = 0; i < n; i += PIECE) {
        const int64_t piece = n - i < PIECE ? n - i : PIECE;
        if (x && bias) add(piece, x + i, bias + i, room[0]);
        buffer[0] = x && !bias ? x + i : room[0];
        for (int k = 0; k < learned; k++)
            buffer[1 + k] = parameters->step[k] ? parameters->at[k] + i : room[1 + k];
        run_steps(program, piece, buffer, room, dy ? NULL : to + i);
        const real *result = buffer[program->result];
        if (dy)
            multiply(piece, dy + i, result, to + i);
        else if (result != to + i)
            memcpy(to + i, result, (size_t)piece * sizeof *to);
    }
}
