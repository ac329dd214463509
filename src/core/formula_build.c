#include "core/formula_build.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/activation.h"

/* --- operations --- */

static const struct {
    const char *name;
    int arity;
} operations[] = {
#define OPERATION(id, name, arity, value, slope) {name, arity},
#include "core/formula.def"
#undef OPERATION
};

static bool is_value(int op)
{
    return op >= SL_F_VALUE_LINEAR && op < SL_F_SLOPE_LINEAR;
}

static bool is_slope(int op)
{
    return op >= SL_F_SLOPE_LINEAR && op < SL_F_COUNT;
}

static const sl_activation_info *row_of(int op)
{
    return sl_activation_row_info(op - (is_value(op) ? SL_F_VALUE_LINEAR : SL_F_SLOPE_LINEAR));
}

int sl_formula_arity(int op)
{
    return op >= SL_F_COUNT ? 0 : is_value(op) || is_slope(op) ? 1 : operations[op].arity;
}

const char *sl_formula_function(int op)
{
    return op >= SL_F_COUNT || is_slope(op) ? NULL : is_value(op) ? row_of(op)->name : operations[op].name;
}

/* --- nodes --- */

static int fail(sl_formula_builder *f, sl_formula_fault fault)
{
    if (f->fault == SL_FORMULA_GOOD) f->fault = fault;
    return -1;
}

static uint32_t hash_of(const sl_formula_node *node)
{
    uint64_t bits;
    memcpy(&bits, &node->number, sizeof bits);
    for (int i = 0; i < 4; i++) bits = (bits ^ (uint16_t)node->in[i]) * 0x9e3779b97f4a7c15u;
    bits = (bits ^ node->op) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(bits >> 40);
}

static bool same(const sl_formula_node *a, const sl_formula_node *b)
{
    return a->op == b->op && memcmp(a->in, b->in, sizeof a->in) == 0 &&
           memcmp(&a->number, &b->number, sizeof a->number) == 0;
}

static int add(sl_formula_builder *f, sl_formula_node node)
{
    const uint32_t slots = 2 * SL_FORMULA_NODES;
    if (f->fault) return -1;
    for (uint32_t i = hash_of(&node) % slots;; i = (i + 1) % slots) {
        if (f->slot[i] && same(&f->node[f->slot[i] - 1], &node)) return f->slot[i] - 1;
        if (f->slot[i]) continue;
        if (f->n == SL_FORMULA_NODES) return fail(f, SL_FORMULA_TOO_LARGE);
        f->node[f->n] = node;
        f->slot[i] = (int16_t)++f->n;
        return f->n - 1;
    }
}

int sl_formula_constant(sl_formula_builder *f, double value)
{
    if (!(fabs(value) <= FLT_MAX)) return fail(f, SL_FORMULA_NOT_FINITE);
    return add(f, (sl_formula_node){.op = SL_F_CONSTANT, .number = value + 0}); /* no -0 */
}

int sl_formula_leaf(sl_formula_builder *f, int op, int k)
{
    return add(f, (sl_formula_node){.op = (uint8_t)op, .number = k});
}

static int plain(sl_formula_builder *f, int op, int a, int b, int c, int d)
{
    return add(f,
               (sl_formula_node){.op = (uint8_t)op, .in = {(int16_t)a, (int16_t)b, (int16_t)c, (int16_t)d}});
}

static bool is_constant(const sl_formula_builder *f, int node)
{
    return f->node[node].op == SL_F_CONSTANT;
}

static bool is_number(const sl_formula_builder *f, int node, double number)
{
    return is_constant(f, node) && f->node[node].number == number;
}

/* The node whose negative this is, -1: it is no negative. */
static int negated(const sl_formula_builder *f, int node)
{
    return f->node[node].op == SL_F_NEGATE ? f->node[node].in[0] : -1;
}

/* --- simplification: what every argument gives the same value, but for the sign of 0 and 0·NaN --- */

static int negate(sl_formula_builder *f, int a)
{
    return negated(f, a) >= 0 ? negated(f, a) : plain(f, SL_F_NEGATE, a, 0, 0, 0);
}

static int subtract(sl_formula_builder *f, int a, int b)
{
    if (is_number(f, b, 0)) return a;
    if (is_number(f, a, 0)) return negate(f, b);
    if (negated(f, b) >= 0) return sl_formula_call(f, SL_F_ADD, a, negated(f, b), 0, 0);
    return plain(f, SL_F_SUBTRACT, a, b, 0, 0);
}

static int sum(sl_formula_builder *f, int a, int b)
{
    if (is_number(f, a, 0)) return b;
    if (is_number(f, b, 0)) return a;
    if (negated(f, b) >= 0) return subtract(f, a, negated(f, b));
    if (negated(f, a) >= 0) return subtract(f, b, negated(f, a));
    return plain(f, SL_F_ADD, a < b ? a : b, a < b ? b : a, 0, 0);
}

static int product(sl_formula_builder *f, int a, int b)
{
    if (a < 0 || b < 0) return -1;
    if (is_constant(f, b)) {
        const int constant = b;
        b = a;
        a = constant;
    }
    if (is_number(f, a, 0)) return a;
    if (is_number(f, a, 1)) return b;
    if (is_number(f, a, -1)) return negate(f, b);
    if (a == b) return plain(f, SL_F_SQUARE, a, 0, 0, 0);
    if (is_constant(f, a)) {
        const sl_formula_node other = f->node[b];
        if (other.op == SL_F_SCALE && is_constant(f, other.in[0])) /* 2·(3·u) */
            return product(f, sl_formula_constant(f, f->node[a].number * f->node[other.in[0]].number),
                           other.in[1]);
        if ((float)f->node[a].number != 0) return plain(f, SL_F_SCALE, a, b, 0, 0);
    }
    return plain(f, SL_F_MULTIPLY, a < b ? a : b, a < b ? b : a, 0, 0);
}

static int quotient(sl_formula_builder *f, int a, int b)
{
    int exponent = 0;
    if (is_number(f, b, 0)) return fail(f, SL_FORMULA_NOT_FINITE);
    if (is_number(f, a, 0) || is_number(f, b, 1)) return a;
    if (is_number(f, b, -1)) return negate(f, a);
    if (is_constant(f, b) && fabs(frexp(f->node[b].number, &exponent)) == 0.5 && abs(exponent) < 64)
        return product(f, sl_formula_constant(f, 1 / f->node[b].number), a); /* exact */
    return plain(f, SL_F_DIVIDE, a, b, 0, 0);
}

/* Two constants, of which the smaller in size holds at the tie too, make a choice. */
static int max_slope(sl_formula_builder *f, int a, int b, int c, int d)
{
    if (c == d) return c;
    if (is_constant(f, c) && is_constant(f, d)) {
        const double above = f->node[c].number, below = f->node[d].number;
        const double tie = sl_formula_apply(SL_F_MAX_SLOPE, (double[4]){0, 0, above, below});
        const int op = tie == below ? SL_F_LESS_EQUAL : SL_F_LESS;
        if (tie == below || tie == above) return plain(f, SL_F_SELECT, plain(f, op, a, b, 0, 0), d, c, 0);
    }
    return plain(f, SL_F_MAX_SLOPE, a, b, c, d);
}

static int simplified(sl_formula_builder *f, int op, int a, int b, int c, int d)
{
    switch (op) {
    case SL_F_ADD: return sum(f, a, b);
    case SL_F_SUBTRACT: return subtract(f, a, b);
    case SL_F_SCALE:
    case SL_F_MULTIPLY: return product(f, a, b);
    case SL_F_DIVIDE: return quotient(f, a, b);
    case SL_F_NEGATE: return negate(f, a);
    case SL_F_MAX: /* a constant behind what varies: max(0,x) is max(x,0) */
    case SL_F_MIN:
        if (a == b) return a;
        return is_constant(f, a) ? plain(f, op, b, a, 0, 0) : plain(f, op, a, b, 0, 0);
    case SL_F_SELECT:
        if (is_constant(f, a)) return f->node[a].number != 0 ? b : c;
        if (b == c) return b;
        break;
    case SL_F_MAX_SLOPE: return max_slope(f, a, b, c, d);
    case SL_F_VALUE_LINEAR: return a;
    default: break;
    }
    return plain(f, op, a, b, c, d);
}

int sl_formula_call(sl_formula_builder *f, int op, int a, int b, int c, int d)
{
    const int in[4] = {a, b, c, d}, arity = sl_formula_arity(op);
    double value[4] = {0};
    bool constant = true;
    if (f->fault || a < 0 || b < 0 || c < 0 || d < 0) return -1;
    for (int i = 0; i < arity; i++) {
        constant = constant && is_constant(f, in[i]);
        value[i] = f->node[in[i]].number;
    }
    return constant ? sl_formula_constant(f, sl_formula_apply(op, value)) : simplified(f, op, a, b, c, d);
}

/* u^n by squaring. */
static int whole_power(sl_formula_builder *f, int base, int n)
{
    int result = -1;
    for (int square = base; n > 0; n /= 2) {
        if (n % 2) result = result < 0 ? square : sl_formula_call(f, SL_F_MULTIPLY, result, square, 0, 0);
        if (n > 1) square = sl_formula_call(f, SL_F_MULTIPLY, square, square, 0, 0);
    }
    return result;
}

int sl_formula_power(sl_formula_builder *f, int base, int exponent)
{
    if (f->fault || base < 0 || exponent < 0) return -1;
    if (is_constant(f, exponent)) {
        const double n = f->node[exponent].number;
        if (is_constant(f, base)) return sl_formula_constant(f, pow(f->node[base].number, n));
        if (n == 0) return sl_formula_constant(f, 1);
        if (n == 0.5) return sl_formula_call(f, SL_F_SQRT, base, 0, 0, 0);
        if (n == trunc(n) && fabs(n) <= 1024) {
            const int power = whole_power(f, base, (int)fabs(n));
            return n > 0 ? power : sl_formula_call(f, SL_F_DIVIDE, sl_formula_constant(f, 1), power, 0, 0);
        }
    }
    const int logarithm = sl_formula_call(f, SL_F_LOG, base, 0, 0, 0);
    return sl_formula_call(f, SL_F_EXP, sl_formula_call(f, SL_F_MULTIPLY, exponent, logarithm, 0, 0), 0, 0,
                           0);
}

/* --- derivatives --- */

/* needed[i] for the nodes up to `node` from which it is computed. */
static void mark(const sl_formula_builder *f, int node, bool *needed)
{
    for (int i = 0; i <= node; i++) needed[i] = i == node;
    for (int i = node; i >= 0; i--)
        for (int k = 0; needed[i] && k < sl_formula_arity(f->node[i].op); k++)
            needed[f->node[i].in[k]] = true;
}

#define number(value)         sl_formula_constant(f, value)
#define plus(p, q)            sl_formula_call(f, SL_F_ADD, p, q, 0, 0)
#define minus(p, q)           sl_formula_call(f, SL_F_SUBTRACT, p, q, 0, 0)
#define times(p, q)           sl_formula_call(f, SL_F_MULTIPLY, p, q, 0, 0)
#define over(p, q)            sl_formula_call(f, SL_F_DIVIDE, p, q, 0, 0)
#define negative(p)           sl_formula_call(f, SL_F_NEGATE, p, 0, 0, 0)
#define call1(id, p)          sl_formula_call(f, SL_F_##id, p, 0, 0, 0)
#define call3(id, p, q, r)    sl_formula_call(f, SL_F_##id, p, q, r, 0)
#define call4(id, p, q, r, s) sl_formula_call(f, SL_F_##id, p, q, r, s)
#define nothing               fail(f, SL_FORMULA_TOO_LARGE) /* first derivatives only */
#define OPERATION(id, name, arity, value, slope)                                                             \
    static int derive_##id(sl_formula_builder *f, int y, const int16_t *in, const int *of)                   \
    {                                                                                                        \
        const int a = in[0], b = in[1], c = in[2], d = in[3];                                                \
        const int da = of[a], db = of[b], dc = of[c], dd = of[d];                                            \
        (void)y, (void)a, (void)b, (void)c, (void)d, (void)da, (void)db, (void)dc, (void)dd;                 \
        return slope;                                                                                        \
    }
#include "core/formula.def"
#undef OPERATION
static int (*const derive[])(sl_formula_builder *f, int y, const int16_t *in, const int *of) = {
#define OPERATION(id, ...) derive_##id,
#include "core/formula.def"
#undef OPERATION
};

static int derive_row(sl_formula_builder *f, int y, int a, int da)
{
    const sl_activation_info *row = row_of(f->node[y].op);
    const int op = SL_F_SLOPE_LINEAR + row->id;
    int at = row->reads == SL_READS_Y ? y : a;
    if (row->reads == SL_READS_NOTHING) at = number(0);
    return times(sl_formula_call(f, op, at, 0, 0, 0), da);
}

int sl_formula_derive(sl_formula_builder *f, int node, int by)
{
    bool needed[SL_FORMULA_NODES];
    int of[SL_FORMULA_NODES] = {0}, slope = -1;
    if (f->fault || node < 0 || by < 0) return -1;
    mark(f, node, needed);
    for (int y = 0; y <= node; y++) {
        const sl_formula_node *at = &f->node[y];
        bool still = true; /* no argument moves */
        if (!needed[y]) continue;
        for (int i = 0; i < sl_formula_arity(at->op); i++) still = still && is_number(f, of[at->in[i]], 0);
        if (y == by)
            slope = number(1);
        else if (still)
            slope = number(0);
        else if (is_value(at->op))
            slope = derive_row(f, y, at->in[0], of[at->in[0]]);
        else
            slope = derive[at->op](f, y, at->in, of);
        if (slope < 0) break;
        of[y] = slope;
    }
    return slope;
}

/* --- programs --- */

bool sl_formula_contains(const sl_formula_builder *f, int node, int op)
{
    bool needed[SL_FORMULA_NODES], found = false;
    if (node < 0) return false;
    mark(f, node, needed);
    for (int i = 0; i <= node; i++) found = found || (needed[i] && f->node[i].op == op);
    return found;
}

typedef struct allocation {
    bool needed[SL_FORMULA_NODES];
    int last_use[SL_FORMULA_NODES];
    int buffer[SL_FORMULA_NODES];
    bool taken[SL_FORMULA_BUFFERS];
} allocation;

/* Leaves and constants get their places, true if these are enough. */
static bool place_leaves(const sl_formula_builder *f, int node, int n_parameters, allocation *a,
                         sl_formula_program *to)
{
    to->n_buffers = 1 + n_parameters;
    for (int i = 0; i <= node; i++) {
        const sl_formula_node *at = &f->node[i];
        if (!a->needed[i]) continue;
        if (at->op == SL_F_X) {
            a->buffer[i] = 0;
            to->reads_x = true;
        } else if (at->op == SL_F_PARAMETER) {
            a->buffer[i] = 1 + (int)at->number;
        } else if (at->op == SL_F_CONSTANT) {
            if (to->n_buffers == SL_FORMULA_BUFFERS) return false;
            to->constant[to->n_constants++] = at->number;
            a->buffer[i] = to->n_buffers++;
        }
    }
    for (int b = 0; b < to->n_buffers; b++) a->taken[b] = true;
    return true;
}

static bool place_steps(const sl_formula_builder *f, int node, allocation *a, sl_formula_program *to)
{
    const int first = to->n_buffers;
    for (int i = 0; i <= node; i++) {
        const sl_formula_node *at = &f->node[i];
        const int arity = sl_formula_arity(at->op);
        if (!a->needed[i] || arity == 0) continue;
        if (to->n_steps == SL_FORMULA_STEPS) return false;
        sl_formula_step *step = &to->step[to->n_steps++];
        step->op = at->op;
        for (int k = 0; k < arity; k++) {
            step->in[k] = (uint8_t)a->buffer[at->in[k]];
            if (a->last_use[at->in[k]] == i && step->in[k] >= first) a->taken[step->in[k]] = false;
        }
        int b = first;
        while (b < SL_FORMULA_BUFFERS && a->taken[b]) b++;
        if (b == SL_FORMULA_BUFFERS) return false;
        a->taken[b] = true;
        a->buffer[i] = b;
        step->to = (uint8_t)b;
        if (b >= to->n_buffers) to->n_buffers = b + 1;
    }
    return true;
}

bool sl_formula_compile(const sl_formula_builder *f, int node, int n_parameters, sl_formula_program *to)
{
    *to = (sl_formula_program){0};
    allocation *a = calloc(1, sizeof *a);
    if (!a) return false;
    mark(f, node, a->needed);
    for (int i = 0; i <= node; i++)
        for (int k = 0; a->needed[i] && k < sl_formula_arity(f->node[i].op); k++)
            a->last_use[f->node[i].in[k]] = i;
    const bool good = place_leaves(f, node, n_parameters, a, to) && place_steps(f, node, a, to);
    to->result = a->buffer[node];
    free(a);
    return good;
}
