/* Bias and activation: forward, slope, and the sums of their gradients. Every loop over elements is made from
 * a row of activations.def, or is a formula's program. Work goes in stretches of at most STRETCH elements,
 * for which what belongs to a column (bias, learned parameter) has been laid out element by element, so that
 * the loops know no columns.
 */
#include "cpu/activation.h"

#include "core/activation.h"
#include "core/activation_rows.h"
#include "cpu/formula.h"
#include "cpu/loops.h"
#include "cpu/reduce.h"

enum {
    STRETCH = 1024, /* elements that one call of a loop gets: a buffer of them stays in the first cache */
    PIECE = 256,    /* elements between two steps of a formula */
    AHEAD = 512,    /* how many elements early memory is asked for */
    GRAIN = 16,     /* stretches per thread at least */
};

/* --- one stretch
 * ------------------------------------------------------------------------------------------------- */

/* n is at most PIECE for a row in two steps. a: one value (a_step 0) or one per element (a_step 1). `at` is x
 * or y, as the row reads; bias NULL: none. */
typedef void value_loop(int64_t n, const real *x, const real *bias, const real *a, int a_step, real b,
                        real *y);
typedef void slope_loop(int64_t n, const real *dy, const real *at, const real *a, int a_step, real b,
                        real *dx);

typedef struct row_loops {
    bool long_value, long_slope; /* in two steps */
    value_loop *value;
    slope_loop *slope, *slope_a;
} row_loops;

#define READS_NOTHING                                                              1
#define READS_X                                                                    0
#define READS_Y                                                                    0
#define AT_0                                                                       at[i] /* what a slope gets; its argument where it reads nothing is never used */
#define AT_1                                                                       R(0)
#define FIXED                                                                      0
#define LEARNABLE                                                                  1
#define LEARNED                                                                    1
#define NO_PARAMETER                                                               0
#define PARAMETER(name, value, how, lowest)                                        how
#define TWO_PARAMETERS(name, value, how, lowest, name_b, value_b, how_b, lowest_b) how

/* to[i] = RESULT(row's function at AT). A formula in two steps is two loops: in one, the chain of operations
 * on an element would be so long that the processor could not reach the next elements while it waits. */
#define PLAIN(function)    function
#define TIMES_DY(function) dy[i] * function
#define STEPS(prefix, id, RESULT, AT, A)                                                                     \
    if (prefix##steps_##id == 1) {                                                                           \
        EACH to[i] = RESULT(prefix##id(AT, A, b));                                                           \
    } else {                                                                                                 \
        real e[PIECE];                                                                                       \
        EACH e[i] = prefix##first_##id(AT, A, b);                                                            \
        EACH to[i] = RESULT(prefix##second_##id(AT, e[i], A, b));                                            \
    }
/* *a is not read above a[i]: gcc would merge it with a[0] and not vectorise. */
#define LOOPS(prefix, id, parameters, RESULT, AT)                                                            \
    if (parameters && a_step) {                                                                              \
        STEPS(prefix, id, RESULT, AT, a[i])                                                                  \
    } else {                                                                                                 \
        const real a0 = *a;                                                                                  \
        STEPS(prefix, id, RESULT, AT, a0)                                                                    \
    }
#define SLOPE_LOOP(prefix, loop, id, parameters, AT)                                                         \
    static void loop(int64_t n, const real *dy, const real *at, const real *a, int a_step, real b, real *to) \
    {                                                                                                        \
        (void)at;                                                                                            \
        LOOPS(prefix, id, parameters, TIMES_DY, AT)                                                          \
    }
#define ACTIVATION(id, name, parameters, reads, value, slope, slope_a, kinks)                                \
    static void value_##id(int64_t n, const real *x, const real *bias, const real *a, int a_step, real b,    \
                           real *to)                                                                         \
    {                                                                                                        \
        if (bias) {                                                                                          \
            LOOPS(sl_value_, id, parameters, PLAIN, x[i] + bias[i])                                          \
        } else {                                                                                             \
            LOOPS(sl_value_, id, parameters, PLAIN, x[i])                                                    \
        }                                                                                                    \
    }                                                                                                        \
    SLOPE_LOOP(sl_slope_, slope_##id, id, parameters, SL_JOIN(AT, reads))                                    \
    SLOPE_LOOP(sl_slope_a_, slope_a_##id, id, parameters, SL_JOIN(AT, reads))
#include "slope/activations.def"
#undef ACTIVATION

static const row_loops rows[SL_ROW_COUNT] = {
#define ACTIVATION(id, name, parameters, reads, value, slope, slope_a, kinks)                                \
    {sl_value_steps_##id > 1, sl_slope_steps_##id > 1, value_##id, slope_##id, slope_a_##id},
#include "slope/activations.def"
#undef ACTIVATION
};

static void add_loop(int64_t n, const real *x, const real *bias, real *y)
{
    EACH y[i] = x[i] + bias[i];
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void fill(real *to, int64_t n, real value)
{
    for (int64_t i = 0; i < n; i++) to[i] = value;
}

/* `columns` values laid end to end until n are there. */
static void repeat(real *to, int64_t n, const real *from, int64_t columns)
{
    for (int64_t i = 0; i < n; i += columns)
        memcpy(to + i, from, (size_t)(columns < n - i ? columns : n - i) * sizeof *to);
}

/* Memory is slower to answer where a loop computes much: it is asked early. Past the end of an array this
 * reads nothing. */
static inline void ask(const real *from)
{
    const char *at = (const char *)((uintptr_t)from + AHEAD * sizeof *from);
    for (size_t i = 0; i < PIECE * sizeof *from; i += 64) __builtin_prefetch(at + i);
}

/* What a call computes, a row or a formula, and its parameters: laid out element by element where their step
 * is
 * 1. A row has one. */
typedef struct function {
    const row_loops *row;
    const sl_formula *formula;
    slope_loop *slope; /* by x or by a parameter */
    const sl_formula_program *program;
    real a, b;
} function;

static function function_of(const sl_activation_attr *attr)
{
    if (attr->formula) return (function){.formula = attr->formula, .program = &attr->formula->slope};
    const row_loops *row = &rows[attr->id];
    return (function){.row = row, .slope = row->slope, .a = attr->a, .b = attr->b};
}

/* f(x + bias) -> y, and dy times a slope -> to, piece by piece. */
static void values(const function *f, int64_t n, const real *x, const real *bias, const formula_parameters *a,
                   real *y)
{
    const row_loops *row = f->row;
    if (!row) {
        SL_JOIN(sl_formula_run, SL_SUFFIX)(f->formula, &f->formula->value, n, x, bias, a, NULL, y);
        return;
    }
    const int64_t piece = row->long_value ? PIECE : n;
    for (int64_t i = 0; i < n; i += piece) {
        if (row->long_value && n >= PIECE) ask(x + i);
        row->value(n - i < piece ? n - i : piece, x + i, bias ? bias + i : NULL, a->at[0] + i * a->step[0],
                   a->step[0], f->b, y + i);
    }
}
static void slopes(const function *f, int64_t n, const real *dy, const real *at, const formula_parameters *a,
                   real *to)
{
    const row_loops *row = f->row;
    if (!row) {
        SL_JOIN(sl_formula_run, SL_SUFFIX)(f->formula, f->program, n, at, NULL, a, dy, to);
        return;
    }
    const int64_t piece = row->long_slope ? PIECE : n;
    for (int64_t i = 0; i < n; i += piece) {
        if (row->long_slope && n >= PIECE) ask(dy + i), ask(at + i);
        f->slope(n - i < piece ? n - i : piece, dy + i, at ? at + i : NULL, a->at[0] + i * a->step[0],
                 a->step[0], f->b, to + i);
    }
}

/* f(x + bias) -> y, x + bias -> z unless that is NULL. */
static void forward(const function *f, int64_t n, const real *x, const real *bias,
                    const formula_parameters *a, real *y, real *z)
{
    if (z) {
        if (bias)
            add_loop(n, x, bias, z);
        else if (z != x)
            memcpy(z, x, (size_t)n * sizeof *z);
        x = z;
        bias = NULL;
    }
    values(f, n, x, bias, a, y);
}

void SL_JOIN(sl_epilogue, SL_SUFFIX)(int64_t n, const real *z, const real *bias, int bias_stride,
                                     const sl_activation_attr *attr, const real *parameter,
                                     int parameter_stride, real *y, real *z_out)
{
    const function f = function_of(attr);
    formula_parameters a = {.at = {parameter ? parameter : &f.a}, .step = {parameter ? parameter_stride : 0}};
    if (!bias || bias_stride) {
        forward(&f, n, z, bias, &a, y, z_out);
        return;
    }
    real same[STRETCH];
    fill(same, n < STRETCH ? n : STRETCH, *bias);
    for (int64_t i = 0; i < n; i += STRETCH, a.at[0] += STRETCH * a.step[0])
        forward(&f, n - i < STRETCH ? n - i : STRETCH, z + i, same, &a, y + i, z_out ? z_out + i : NULL);
}

void SL_JOIN(sl_epilogue_slope, SL_SUFFIX)(int64_t n, const real *dy, const real *at,
                                           const sl_activation_attr *attr, real *dx)
{
    const function f = function_of(attr);
    const formula_parameters a = {.at = {&f.a}};
    slopes(&f, n, dy, at, &a, dx);
}

void SL_JOIN(sl_epilogue_vjp, SL_SUFFIX)(int64_t n, const real *dy, const real *z,
                                         const sl_activation_attr *attr, real *room, real *dx)
{
    const function f = function_of(attr);
    const formula_parameters a = {.at = {&f.a}};
    const bool reads_y = sl_activation_slope_reads(attr) == SL_READS_Y;
    if (reads_y) values(&f, n, z, NULL, &a, room);
    slopes(&f, n, dy, reads_y ? room : z, &a, dx);
}

/* --- whole tensors
 * ----------------------------------------------------------------------------------------------- */

/* One call, taken apart. Vectors have one element per column or one for all; NULL: none. */
typedef struct job {
    function f;              /* neither row nor formula: the bias alone */
    const real *x, *dy, *at; /* inputs of as many elements as the tensor */
    const real *bias;        /* vector */
    formula_parameters a;    /* vectors */
    int n_a;                 /* how many */
    bool bias_wide, a_wide;  /* one element per column; of a, any */
    real *y, *z;             /* outputs; z: x + bias */
    int64_t count, columns;  /* of the tensor */
    int64_t group, parts;    /* a stretch is `group` rows (parts 1), or one of `parts` parts of a row */
    bool flat;               /* reductions: one sum over all elements, not one per column */
    int64_t valid;           /* rows, or elements, that are summed */
    real *sums;              /* one row of sums per leaf block */
} job;

static void set_activation(job *j, const sl_call *call, int parameter_input)
{
    j->f = function_of(call->attr);
    j->n_a = 1;
    j->a.at[0] = &j->f.a;
    if (call->n_in <= parameter_input) return;
    j->n_a = call->n_in - parameter_input;
    for (int k = 0; k < j->n_a; k++) {
        j->a.at[k] = sl_in(call, parameter_input + k);
        j->a.step[k] = sl_shape_count(call->in[parameter_input + k].shape) > 1;
        j->a_wide = j->a_wide || j->a.step[k];
    }
}

/* The parameters of elements first … first+n-1; what is wide is laid out in `buffer`, n for each. */
static formula_parameters lay_out(const job *j, int64_t first, int64_t n, real *buffer)
{
    formula_parameters a = j->a;
    for (int k = 0; k < j->n_a; k++, buffer += n) {
        const real *from = a.at[k];
        if (!a.step[k]) continue;
        a.at[k] = buffer;
        const int64_t column = first % j->columns, rest = smaller(n, j->columns - column);
        memcpy(buffer, from + column, (size_t)rest * sizeof *buffer);
        repeat(buffer + rest, n - rest, from, j->columns);
    }
    return a;
}

/* Those from `column` on. */
static formula_parameters shifted(formula_parameters a, int64_t column)
{
    for (int k = 0; k < SL_FORMULA_PARAMETERS; k++)
        if (a.step[k]) a.at[k] += column;
    return a;
}

static bool is_bias(const job *j)
{
    return !j->f.row && !j->f.formula;
}

static void set_bias(job *j, const sl_call *call)
{
    j->bias = sl_in(call, 1);
    j->bias_wide = sl_shape_count(call->in[1].shape) > 1;
}

static void set_shape(job *j, sl_shape shape)
{
    j->count = sl_shape_count(shape);
    j->columns = sl_shape_last(shape);
}

/* Stretches. Where nothing belongs to a column, the tensor is one column. */
static int64_t stretches(job *j)
{
    if (!j->bias_wide && !j->a_wide) j->columns = 1;
    if (j->count == 0) return 0;
    j->group = j->columns < STRETCH ? STRETCH / j->columns : 1;
    j->parts = (j->columns + STRETCH - 1) / STRETCH;
    return (j->count / j->columns + j->group - 1) / j->group * j->parts;
}

static void stretch_task(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const job *j = arg;
    real bias_buffer[STRETCH], a_buffer[SL_FORMULA_PARAMETERS * STRETCH];
    const real *bias = j->bias;
    const bool one_part = j->parts == 1;
    const formula_parameters a = one_part ? lay_out(j, 0, j->group * j->columns, a_buffer) : j->a;
    if (bias && !j->bias_wide)
        fill(bias_buffer, STRETCH, *bias);
    else if (bias && one_part)
        repeat(bias_buffer, j->group * j->columns, bias, j->columns);
    if (bias && (one_part || !j->bias_wide)) bias = bias_buffer;

    for (int64_t s = first; s < last; s++) {
        const int64_t column = s % j->parts * STRETCH;
        const int64_t start = s / j->parts * j->group * j->columns + column;
        const int64_t room = one_part ? j->group * j->columns : j->columns - column;
        const int64_t left = j->count - start, most = room < STRETCH ? room : STRETCH;
        const int64_t n = left < most ? left : most;
        const real *stretch_bias = bias ? bias + (j->bias_wide ? column : 0) : NULL;
        const formula_parameters stretch_a = shifted(a, column);
        if (is_bias(j))
            add_loop(n, j->x + start, stretch_bias, j->y + start);
        else if (j->dy)
            slopes(&j->f, n, j->dy + start, j->at ? j->at + start : NULL, &stretch_a, j->y + start);
        else
            forward(&j->f, n, j->x + start, stretch_bias, &stretch_a, j->y + start,
                    j->z ? j->z + start : NULL);
    }
}

static void run_stretches(const sl_call *call, job *j)
{
    const int64_t n = stretches(j);
    if (n > 0) sl_parallel(call, stretch_task, j, n, GRAIN);
}

static void run_activation(const sl_call *call)
{
    job j = {.x = sl_in(call, 0), .y = sl_out(call, 0)};
    set_activation(&j, call, 1);
    set_shape(&j, call->in[0].shape);
    run_stretches(call, &j);
}

static void run_bias(const sl_call *call)
{
    job j = {.x = sl_in(call, 0), .y = sl_out(call, 0)};
    set_bias(&j, call);
    set_shape(&j, call->in[0].shape);
    run_stretches(call, &j);
}

static void run_bias_activation(const sl_call *call)
{
    job j = {.x = sl_in(call, 0), .y = sl_out(call, 0), .z = call->n_out > 1 ? sl_out(call, 1) : NULL};
    set_activation(&j, call, 2);
    set_bias(&j, call);
    set_shape(&j, call->in[0].shape);
    run_stretches(call, &j);
}

/* Inputs of every slope: dy, then what the row reads, then the learned parameters. */
static void set_slope(job *j, const sl_call *call)
{
    const bool reads_nothing = sl_activation_slope_reads(call->attr) == SL_READS_NOTHING;
    set_activation(j, call, reads_nothing ? 1 : 2);
    j->dy = sl_in(call, 0);
    j->at = reads_nothing ? NULL : sl_in(call, 1);
    set_shape(j, call->in[0].shape);
}

static void run_activation_vjp(const sl_call *call)
{
    job j = {.y = sl_out(call, 0)};
    set_slope(&j, call);
    run_stretches(call, &j);
}

/* --- sums
 * -------------------------------------------------------------------------------------------------------- */

enum { STRIP = SL_LANES * SL_PANEL }; /* terms made before they are added */

/* The terms start … start+n-1 of the sums, in `buffer` or where they lie. */
static const real *make_terms(const job *j, int64_t start, int64_t n, const formula_parameters *a,
                              real *buffer)
{
    if (is_bias(j)) return j->dy + start;
    real *to = j->y ? j->y + start : buffer;
    slopes(&j->f, n, j->dy + start, j->at ? j->at + start : NULL, a, to);
    return to;
}

/* Rows that a reduction visits: those it sums, or all where it writes the slopes too. */
static int64_t visited(const job *j, int64_t all)
{
    return j->y ? all : j->valid;
}

/* Unit: one leaf block of rows, one panel of columns. Where the panel is the whole row, 32 rows lie in memory
 * as the 32 lanes do. */
static void column_task(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const job *j = arg;
    real acc[STRIP], buffer[STRIP], a_buffer[SL_FORMULA_PARAMETERS * STRIP];
    const int64_t panels = (j->columns + SL_PANEL - 1) / SL_PANEL;
    const int64_t strip = panels == 1 ? SL_LANES : 1;
    const formula_parameters a = panels == 1 ? lay_out(j, 0, strip * j->columns, a_buffer) : j->a;
    for (int64_t unit = first; unit < last; unit++) {
        const int64_t block = unit / panels, column = unit % panels * SL_PANEL;
        const int64_t width = smaller(SL_PANEL, j->columns - column);
        const formula_parameters panel_a = shifted(a, column);
        const int64_t end = smaller((block + 1) * SL_LEAF, visited(j, j->count / j->columns));
        sl_lanes_clear(acc, width);
        for (int64_t r = block * SL_LEAF; r < end; r += strip) {
            const int64_t n = smaller(strip, end - r), summed = smaller(n, j->valid - r);
            const real *terms = make_terms(j, r * j->columns + column, n * width, &panel_a, buffer);
            if (summed > 0) sl_lanes_add(acc, strip == 1 ? r : 0, terms, summed * width);
        }
        sl_lanes_fold(acc, width);
        memcpy(j->sums + block * j->columns + column, acc, (size_t)width * sizeof *acc);
    }
}

/* Unit: one leaf block of elements. */
static void flat_task(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const job *j = arg;
    real buffer[SL_LEAF], a_buffer[SL_FORMULA_PARAMETERS * SL_LEAF];
    for (int64_t block = first; block < last; block++) {
        const int64_t start = block * SL_LEAF, n = smaller(SL_LEAF, visited(j, j->count) - start);
        const formula_parameters a = lay_out(j, start, n, a_buffer);
        const real *terms = make_terms(j, start, n, &a, buffer);
        j->sums[block] = sl_leaf_sum(terms, smaller(n, j->valid - start > 0 ? j->valid - start : 0));
    }
}

static size_t sums_bytes(const sl_call *call, int output)
{
    const int64_t wide = sl_shape_count(call->out[output].shape), last = sl_shape_last(call->in[0].shape);
    const int64_t count = sl_shape_count(call->in[0].shape);
    if (count == 0) return 0;
    return (size_t)(wide > 1 ? sl_blocks(count / last) * last : sl_blocks(count)) * sizeof(real);
}

/* Sums the terms into output number `output`. */
static void run_sums(const sl_call *call, job *j, int output)
{
    real *out = sl_out(call, output);
    const int64_t wide = sl_shape_count(call->out[output].shape);
    if (j->count == 0) {
        fill(out, wide, 0);
        return;
    }
    const int64_t all = j->count / j->columns, valid = sl_valid_rows(call, all);
    j->flat = wide == 1;
    j->valid = j->flat ? valid * j->columns : valid;
    j->sums = call->workspace;
    const int64_t terms = visited(j, j->flat ? j->count : all);
    const int64_t panels = j->flat ? 1 : (j->columns + SL_PANEL - 1) / SL_PANEL;
    const int64_t unit = j->flat ? SL_LEAF : smaller(all, SL_LEAF) * smaller(j->columns, SL_PANEL);
    const int64_t units = sl_blocks(terms) * panels, grain = GRAIN * STRETCH / unit;
    if (units > 0) sl_parallel(call, j->flat ? flat_task : column_task, j, units, grain > 0 ? grain : 1);
    sl_blocks_combine(j->sums, sl_blocks(j->valid), wide, wide, out);
}

static size_t first_output_workspace(const sl_call *call)
{
    return sums_bytes(call, 0);
}

static size_t second_output_workspace(const sl_call *call)
{
    return sums_bytes(call, 1);
}

static void run_bias_vjp(const sl_call *call)
{
    job j = {.dy = sl_in(call, 0)};
    set_shape(&j, call->in[0].shape);
    run_sums(call, &j, 0);
}

/* Slopes by a learned parameter instead of x. */
static job by_parameter(const sl_call *call)
{
    const sl_activation_attr *attr = call->attr;
    job j = {0};
    set_slope(&j, call);
    if (attr->formula)
        j.f.program = &attr->formula->by[attr->parameter];
    else
        j.f.slope = j.f.row->slope_a;
    return j;
}

static void run_activation_vjp_parameter(const sl_call *call)
{
    job j = by_parameter(call);
    run_sums(call, &j, 0);
}

static void run_activation_jvp_parameter(const sl_call *call)
{
    job j = by_parameter(call);
    j.y = sl_out(call, 0);
    run_stretches(call, &j);
}

static void run_activation_vjp_bias(const sl_call *call)
{
    job j = {.y = sl_out(call, 0)};
    set_slope(&j, call);
    if (sl_out(call, 1))
        run_sums(call, &j, 1);
    else
        run_stretches(call, &j);
}

void SL_JOIN(sl_slopes, SL_SUFFIX)(const sl_call *call, int64_t first, int64_t n, real *to)
{
    job j = {0};
    real ones[STRETCH], a_buffer[SL_FORMULA_PARAMETERS * STRETCH];
    set_slope(&j, call);
    const formula_parameters a = lay_out(&j, first, n, a_buffer);
    fill(ones, n, 1);
    slopes(&j.f, n, ones, j.at ? j.at + first : NULL, &a, to);
}

const sl_kernel SL_KERNELS(activation)[] = {
    {SL_OP_ACTIVATION, "stretches", NULL, NULL, run_activation},
    {SL_OP_ACTIVATION_VJP, "stretches", NULL, NULL, run_activation_vjp},
    {SL_OP_ACTIVATION_JVP_PARAMETER, "stretches", NULL, NULL, run_activation_jvp_parameter},
    {SL_OP_ACTIVATION_VJP_PARAMETER, "stretches", NULL, first_output_workspace, run_activation_vjp_parameter},
    {SL_OP_BIAS, "stretches", NULL, NULL, run_bias},
    {SL_OP_BIAS_VJP, "stretches", NULL, first_output_workspace, run_bias_vjp},
    {SL_OP_BIAS_ACTIVATION, "stretches", NULL, NULL, run_bias_activation},
    {SL_OP_ACTIVATION_VJP_BIAS, "stretches", NULL, second_output_workspace, run_activation_vjp_bias},
    {0},
};
