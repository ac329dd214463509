/* Recursive descent; the depth of brackets, signs, powers and choices is limited together. */
#include "core/formula_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/text.h"

enum { MOST_DEPTH = 64, MOST_NAMES = 8 };

typedef struct parameter {
    const char *name;
    int length, node; /* its leaf or constant */
    bool used;
} parameter;

typedef struct parser {
    sl_formula *formula;
    sl_formula_builder *f;
    const char *text, *at, *end; /* the whole; the next character; the end of the part that is read */
    int depth;
    parameter parameter[MOST_NAMES];
    int n_parameters;
} parser;

static int fail_at(parser *p, const char *at, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail_at(parser *p, const char *at, const char *format, ...)
{
    char what[640];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const int shown = 60;
    sl_fail(p->formula->ctx, SL_ARGUMENT, "expression '%.*s%s', character %d: %s", shown, p->text,
            strlen(p->text) > (size_t)shown ? "…" : "", (int)(at - p->text) + 1, what);
    return -1;
}

/* --- characters; not those of the locale --- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static char next(parser *p)
{
    while (p->at < p->end && is_space(*p->at)) p->at++;
    return p->at < p->end ? *p->at : 0;
}

static bool take(parser *p, const char *sign)
{
    const size_t n = strlen(sign);
    next(p);
    if ((size_t)(p->end - p->at) < n || strncmp(p->at, sign, n) != 0) return false;
    p->at += n;
    return true;
}

static int name_length(const char *at, const char *end)
{
    int n = 0;
    while (at + n < end && (is_letter(at[n]) || (n > 0 && is_digit(at[n])))) n++;
    return n;
}

static bool is_word(const char *at, int length, const char *word)
{
    return strlen(word) == (size_t)length && strncmp(at, word, (size_t)length) == 0;
}

/* What stands at `at`, to be named in a message. */
static int fail_unexpected(parser *p, const char *expected)
{
    const char c = next(p);
    if (c == 0)
        return fail_at(p, p->at, "%s expected, but %s", expected,
                       *p->at == ';' ? "a semicolon follows" : "the text ends");
    if (c == '*' && p->at > p->text && p->at[-1] == '*')
        return fail_at(p, p->at - 1, "a power is written x^2");
    if (c < ' ' || c > '~') return fail_at(p, p->at, "%s expected; this character has no meaning", expected);
    return fail_at(p, p->at, "%s expected before '%c'", expected, c);
}

/* A fault of the builder becomes an error where the operation stands. */
static int checked(parser *p, const char *at, int node)
{
    if (node >= 0 || !sl_ok(p->formula->ctx)) return node;
    if (p->f->fault == SL_FORMULA_NOT_FINITE)
        return fail_at(p, at, "a division by zero, or a number that is not finite in single precision");
    return fail_at(p, at, "the expression is too large");
}

static int call(parser *p, const char *at, int op, int a, int b, int c)
{
    if (a < 0 || b < 0 || c < 0) return -1;
    return checked(p, at, sl_formula_call(p->f, op, a, b, c, 0));
}

/* --- numbers --- */

/* digits, '.', digits, e, sign, digits: no hexadecimal, no word that strtod knows */
static bool read_number(parser *p, double *value)
{
    char digits[64];
    const char *at = p->at, *start = at;
    int mantissa = 0;
    for (; at < p->end && is_digit(*at); at++) mantissa++;
    if (at < p->end && *at == '.') at++;
    for (; at < p->end && is_digit(*at); at++) mantissa++;
    if (mantissa == 0) return false;
    if (at < p->end && (*at == 'e' || *at == 'E')) {
        const char *exponent = at + 1;
        if (exponent < p->end && (*exponent == '+' || *exponent == '-')) exponent++;
        if (exponent < p->end && is_digit(*exponent)) {
            for (at = exponent; at < p->end && is_digit(*at);) at++;
        }
    }
    if ((size_t)(at - start) >= sizeof digits) return false;
    snprintf(digits, sizeof digits, "%.*s", (int)(at - start), start);
    *value = sl_text_to_double(digits, NULL);
    p->at = at;
    return true;
}

/* --- the grammar: choice > comparison > sum > product > sign > power > primary --- */

static int choice(parser *p);
static int sign(parser *p);

static int deeper(parser *p, int (*part)(parser *p))
{
    if (p->depth == MOST_DEPTH) return fail_at(p, p->at, "nested more than %d deep", MOST_DEPTH);
    p->depth++;
    const int node = part(p);
    p->depth--;
    return node;
}

static void list_names(char *to, size_t size)
{
    size_t used = 0;
    for (int op = 0; op < SL_F_COUNT && used < size; op++)
        if (sl_formula_function(op))
            used +=
                (size_t)snprintf(to + used, size - used, "%s%s", used ? ", " : "", sl_formula_function(op));
}

static int function(parser *p, const char *name, int length)
{
    int op = 0, in[3] = {0}, n = 0;
    while (op < SL_F_COUNT && !(sl_formula_function(op) && is_word(name, length, sl_formula_function(op))))
        op++;
    if (op == SL_F_COUNT) {
        char names[512];
        list_names(names, sizeof names);
        return fail_at(p, name, "there is no function '%.*s'; there are %s", length, name, names);
    }
    const int arity = sl_formula_arity(op);
    p->at++;
    do {
        const char *argument = p->at;
        const int node = deeper(p, choice);
        if (node < 0) return -1;
        if (n == arity)
            return fail_at(p, argument, "%.*s takes %s", length, name,
                           arity == 1 ? "one argument" : "two arguments");
        in[n++] = node;
    } while (take(p, ","));
    if (!take(p, ")")) return fail_unexpected(p, n < arity ? "','" : "')'");
    if (n < arity) return fail_at(p, name, "%.*s takes two arguments", length, name);
    return call(p, name, op, in[0], in[1], in[2]);
}

static int name(parser *p)
{
    const char *start = p->at;
    const int length = name_length(start, p->end);
    p->at += length;
    if (next(p) == '(') return function(p, start, length);
    if (is_word(start, length, "x")) return checked(p, start, sl_formula_leaf(p->f, SL_F_X, 0));
    if (is_word(start, length, "pi"))
        return checked(p, start, sl_formula_constant(p->f, 3.14159265358979324));
    if (is_word(start, length, "e")) return checked(p, start, sl_formula_constant(p->f, 2.71828182845904524));
    for (int k = 0; k < p->n_parameters; k++)
        if (p->parameter[k].length == length && strncmp(p->parameter[k].name, start, (size_t)length) == 0) {
            p->parameter[k].used = true;
            return p->parameter[k].node;
        }
    for (int op = 0; op < SL_F_COUNT; op++)
        if (sl_formula_function(op) && is_word(start, length, sl_formula_function(op)))
            return fail_at(p, start, "%.*s is a function: write %.*s(x)", length, start, length, start);
    return fail_at(p, start,
                   "there is no '%.*s'; there are x, pi, e, and parameters that follow, as in '…; %.*s=1'",
                   length, start, length, start);
}

static int primary(parser *p)
{
    const char c = next(p);
    if (is_letter(c)) return name(p);
    if (is_digit(c) || c == '.') {
        const char *start = p->at;
        double value = 0;
        if (!read_number(p, &value)) return fail_at(p, start, "this is no number");
        return checked(p, start, sl_formula_constant(p->f, value));
    }
    if (!take(p, "(")) return fail_unexpected(p, "a number, x or a function");
    const int inside = deeper(p, choice);
    if (inside < 0) return -1;
    return take(p, ")") ? inside : fail_unexpected(p, "')'");
}

static int power(parser *p)
{
    const int base = primary(p);
    const char *start = p->at;
    if (base < 0 || !take(p, "^")) return base;
    const int exponent = deeper(p, sign);
    return exponent < 0 ? -1 : checked(p, start, sl_formula_power(p->f, base, exponent));
}

static int sign(parser *p)
{
    next(p);
    const char *start = p->at;
    if (take(p, "-")) return call(p, start, SL_F_NEGATE, deeper(p, sign), 0, 0);
    return take(p, "+") ? deeper(p, sign) : power(p);
}

static int factors(parser *p)
{
    int node = sign(p);
    while (node >= 0) {
        const char c = next(p), *start = p->at;
        if (c != '*' && c != '/') break;
        p->at++;
        node = call(p, start, c == '*' ? SL_F_MULTIPLY : SL_F_DIVIDE, node, sign(p), 0);
    }
    return node;
}

static int terms(parser *p)
{
    int node = factors(p);
    while (node >= 0) {
        const char c = next(p), *start = p->at;
        if (c != '+' && c != '-') break;
        p->at++;
        node = call(p, start, c == '+' ? SL_F_ADD : SL_F_SUBTRACT, node, factors(p), 0);
    }
    return node;
}

static int comparison(parser *p)
{
    static const struct {
        const char *sign;
        int op;
        bool turned, denied;
    } signs[] = {{"<=", SL_F_LESS_EQUAL, false, false}, {">=", SL_F_LESS_EQUAL, true, false},
                 {"==", SL_F_EQUAL, false, false},      {"!=", SL_F_EQUAL, false, true},
                 {"<", SL_F_LESS, false, false},        {">", SL_F_LESS, true, false}};
    const int left = terms(p);
    next(p);
    const char *start = p->at;
    for (size_t i = 0; left >= 0 && i < sizeof signs / sizeof *signs; i++) {
        if (!take(p, signs[i].sign)) continue;
        const int right = terms(p);
        int node = signs[i].turned ? call(p, start, signs[i].op, right, left, 0)
                                   : call(p, start, signs[i].op, left, right, 0);
        if (signs[i].denied)
            node = call(p, start, SL_F_SUBTRACT, checked(p, start, sl_formula_constant(p->f, 1)), node, 0);
        return node;
    }
    return left;
}

static int choice(parser *p)
{
    int node = comparison(p);
    const char *start = p->at;
    if (node >= 0 && take(p, "?")) {
        const int yes = deeper(p, choice);
        if (yes >= 0 && !take(p, ":")) return fail_unexpected(p, "':'");
        node = call(p, start, SL_F_SELECT, node, yes, yes < 0 ? -1 : deeper(p, choice));
    }
    return node;
}

/* --- parameters --- */

static bool is_taken(const parser *p, const char *word, int length)
{
    if (is_word(word, length, "x") || is_word(word, length, "pi") || is_word(word, length, "e")) return true;
    for (int op = 0; op < SL_F_COUNT; op++)
        if (sl_formula_function(op) && is_word(word, length, sl_formula_function(op))) return true;
    for (int k = 0; k < p->n_parameters; k++)
        if (p->parameter[k].length == length && strncmp(p->parameter[k].name, word, (size_t)length) == 0)
            return true;
    return false;
}

/* name = number [learn | channel | fixed] */
static bool read_parameter(parser *p)
{
    sl_formula *formula = p->formula;
    sl_formula_parameter *learned = &formula->parameter[formula->n_parameters];
    next(p);
    const char *start = p->at;
    const int length = name_length(start, p->end);
    if (length == 0) return fail_unexpected(p, "a parameter's name") >= 0;
    if (is_taken(p, start, length)) return fail_at(p, start, "the name %.*s is taken", length, start) >= 0;
    if (length >= (int)sizeof learned->name) return fail_at(p, start, "this name is too long") >= 0;
    if (p->n_parameters == MOST_NAMES) return fail_at(p, start, "more than %d parameters", MOST_NAMES) >= 0;
    p->at += length;
    if (!take(p, "=")) return fail_unexpected(p, "'=' and a number") >= 0;
    const bool minus = take(p, "-");
    double value = 0;
    next(p);
    const char *digits = p->at;
    if (!read_number(p, &value)) return fail_unexpected(p, "a number") >= 0;
    const int constant = checked(p, digits, sl_formula_constant(p->f, minus ? -value : value));
    parameter *own = &p->parameter[p->n_parameters++];
    *own = (parameter){.name = start, .length = length, .node = constant};
    next(p);
    const char *how = p->at;
    const int n = name_length(how, p->end);
    p->at += n;
    const bool per_channel = is_word(how, n, "channel");
    if (constant < 0) return false;
    if (is_word(how, n, "learn") || per_channel) {
        if (formula->n_parameters == SL_FORMULA_PARAMETERS)
            return fail_at(p, how, "more than %d learned parameters", SL_FORMULA_PARAMETERS) >= 0;
        snprintf(learned->name, sizeof learned->name, "%.*s", length, start);
        learned->start = (float)(minus ? -value : value);
        learned->per_channel = per_channel;
        own->node = checked(p, start, sl_formula_leaf(p->f, SL_F_PARAMETER, formula->n_parameters++));
    } else if (n > 0 && !is_word(how, n, "fixed")) {
        return fail_at(p, how, "learn, channel or fixed expected, not '%.*s'", n, how) >= 0;
    }
    return own->node >= 0;
}

int sl_formula_parse(sl_formula *formula, sl_formula_builder *f, const char *text)
{
    parser p = {.formula = formula, .f = f, .text = text, .at = text};
    const char *all = text + strlen(text), *semicolon = strchr(text, ';');
    for (p.at = semicolon; p.at;) {
        p.at++; /* the semicolon */
        p.end = all;
        if (next(&p) == 0) break;
        if (!read_parameter(&p)) return -1;
        if (next(&p) == 0) break;
        if (*p.at != ';') return fail_unexpected(&p, "';' or the end");
    }
    p.at = text;
    p.end = semicolon ? semicolon : all;
    const int node = choice(&p);
    if (node < 0) return -1;
    if (next(&p) != 0) return fail_unexpected(&p, "an operator");
    for (int k = 0; k < p.n_parameters; k++)
        if (!p.parameter[k].used)
            return fail_at(&p, p.parameter[k].name, "the parameter %.*s is not used", p.parameter[k].length,
                           p.parameter[k].name);
    if (!sl_formula_contains(f, node, SL_F_X)) return fail_at(&p, text, "the value does not depend on x");
    return node;
}

bool sl_formula_is_expression(const char *text)
{
    const char *end = text + strlen(text);
    for (const char *at = text; at < end; at++) { /* x as a word of its own */
        const int n = name_length(at, end);
        if (n == 1 && *at == 'x') return true;
        if (n > 0) at += n - 1;
    }
    return *text != 0 && !is_letter(*text);
}
