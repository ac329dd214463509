/* Programs of core/formula.h on many elements. */
#ifndef SL_CPU_FORMULA_H
#define SL_CPU_FORMULA_H

#include "core/formula.h"
#include "cpu/cpu.h"

/* Learned parameters: where they lie, and 1 for one of each element, 0 for one of all. */
typedef struct formula_parameters {
    const real *at[SL_FORMULA_PARAMETERS];
    int step[SL_FORMULA_PARAMETERS];
} formula_parameters;

/* to[i] = program(x[i] + bias[i]), times dy[i] unless that is NULL. bias NULL: none; x NULL: the program
 * reads none. `to` may be any of the inputs of n elements. */
void SL_JOIN(sl_formula_run, SL_SUFFIX)(const sl_formula *formula, const sl_formula_program *program,
                                        int64_t n, const real *x, const real *bias,
                                        const formula_parameters *parameters, const real *dy, real *to);
#endif
