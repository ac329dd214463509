/* The rows of activations.def as data and as functions of one number: what builders, the initialiser, tests
 * and plots need. Kernels are in cpu/activation.c and cuda/activation.cu. */
#ifndef SL_CORE_ACTIVATION_H
#define SL_CORE_ACTIVATION_H

#include <stdbool.h>

#include "core/attributes.h"

typedef enum sl_activation_reads { SL_READS_NOTHING, SL_READS_X, SL_READS_Y } sl_activation_reads;

typedef struct sl_activation_parameter {
    const char *name;
    float value;    /* unless the user says otherwise */
    float lowest;   /* the formulas hold from here on; -infinity: everywhere */
    bool learnable; /* may be learned */
    bool learned;   /* is learned unless the user fixes it */
} sl_activation_parameter;

#define SL_MAX_KINKS 2

typedef struct sl_activation_info {
    const char *name; /* "leaky_relu" */
    int id;           /* SL_ROW_… */
    int n_parameters;
    sl_activation_parameter parameter[2]; /* a, b of the formulas; only a can be learned */
    sl_activation_reads reads;            /* what the slopes read: `at` below */

    int (*kinks)(double a, double b, double at[SL_MAX_KINKS]); /* how many; where f or its slope jumps */

    /* The oracle: double precision over libm. Slopes that read y get it from x here. */
    double (*value)(double x, double a, double b);
    double (*slope)(double x, double a, double b);   /* df/dx */
    double (*slope_a)(double x, double a, double b); /* df/da; 0 where a cannot be learned */

    /* One element as the kernels compute it; `at` is x or y as `reads` says. */
    float (*value_float)(float x, float a, float b);
    float (*slope_float)(float at, float a, float b);
    float (*slope_a_float)(float at, float a, float b);
    double (*slope_at)(double at, double a,
                       double b); /* the oracle of slope_float: the formula at the stored x or y */
} sl_activation_info;

int sl_activation_count(void);
const sl_activation_info *sl_activation_row_info(int id);           /* NULL: no such row */
const sl_activation_info *sl_activation_find_row(const char *name); /* NULL: no such name */

/* Of a row or a formula. */
const char *sl_activation_word(const sl_activation_attr *attr); /* the row's name, or "formula" */
sl_activation_reads sl_activation_slope_reads(const sl_activation_attr *attr);
double sl_activation_at(const sl_activation_attr *attr, double x); /* learned parameters at their starts */
double sl_activation_slope_of(const sl_activation_attr *attr, double x); /* df/dx */
/* 1/sqrt(E[f(z)²]) for z ~ N(0, 1): the factor on the weights that keeps the mean square of the activations
 * through layers of this function (He: sqrt 2 for relu). 1 where the mean square is 0 or not finite. By
 * quadrature of the oracle, about 1e-9. */
double sl_activation_gain(const sl_activation_attr *attr);
#endif
