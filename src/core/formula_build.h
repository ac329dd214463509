/* The graph of a formula while it is made: equal nodes are one, constants are folded, and what comes first in
 * the list of nodes does not depend on what comes later. */
#ifndef SL_CORE_FORMULA_BUILD_H
#define SL_CORE_FORMULA_BUILD_H

#include "core/formula.h"

enum {
    SL_FORMULA_NODES = 4096,
    SL_F_X = SL_F_COUNT, /* leaves */
    SL_F_PARAMETER,      /* number number: k */
    SL_F_CONSTANT,
};

typedef struct sl_formula_node {
    uint8_t op;
    int16_t in[4];
    double number;
} sl_formula_node;

typedef enum sl_formula_fault {
    SL_FORMULA_GOOD,
    SL_FORMULA_NOT_FINITE, /* a constant is, or is not as a float */
    SL_FORMULA_TOO_LARGE,
} sl_formula_fault;

typedef struct sl_formula_builder {
    int n;
    sl_formula_fault fault; /* the first */
    sl_formula_node node[SL_FORMULA_NODES];
    int16_t slot[2 * SL_FORMULA_NODES]; /* hash table of 1 + node */
} sl_formula_builder;

/* Nodes are numbers, -1 after a fault; every function takes -1 and returns it. */
int sl_formula_constant(sl_formula_builder *f, double value);
int sl_formula_leaf(sl_formula_builder *f, int op, int k);                      /* SL_F_X, SL_F_PARAMETER */
int sl_formula_call(sl_formula_builder *f, int op, int a, int b, int c, int d); /* unused ones: 0 */
int sl_formula_power(sl_formula_builder *f, int base, int exponent);
/* Derivatives by the leaf `by` of nodes 0 … node, of which the last is returned. */
int sl_formula_derive(sl_formula_builder *f, int node, int by);
bool sl_formula_contains(const sl_formula_builder *f, int node, int op); /* an operation or SL_F_X */
int sl_formula_arity(int op);
const char *sl_formula_function(int op); /* its name in expressions; NULL: it has none */
/* True after writing the program that computes the node. */
bool sl_formula_compile(const sl_formula_builder *f, int node, int n_parameters, sl_formula_program *to);
/* False where slopes contradict differences of values at more than one point, of which x is the last. */
bool sl_formula_is_right(const sl_formula *formula, double *x);
/* One operation in double precision. */
double sl_formula_apply(int op, const double in[4]);
#endif
