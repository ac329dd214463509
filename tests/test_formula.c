/* Activations from expressions as text and as functions of one number: errors with their places, values and
 * slopes against libm, random expressions against differences, hostile texts, and the kernels against the
 * oracle on every instruction set. */
#define _GNU_SOURCE
#include "check.h"

#include <float.h>
#include <time.h>

#include "core/formula_build.h"
#include "core/philox.h"

typedef struct parameters {
    const float *at[SL_FORMULA_PARAMETERS];
    int step[SL_FORMULA_PARAMETERS];
} parameters;
typedef void run(const sl_formula *formula, const sl_formula_program *program, int64_t n, const float *x,
                 const float *bias, const parameters *a, const float *dy, float *to);
run sl_formula_run_plain;
#ifdef __x86_64__
run sl_formula_run_avx2, sl_formula_run_avx512;
#endif

static int copies(run *list[3])
{
    int n = 0;
    list[n++] = sl_formula_run_plain;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list[n++] = sl_formula_run_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        list[n++] = sl_formula_run_avx512;
#endif
    return n;
}

static sl_context *ctx;

static int open_context(void **state)
{
    (void)state;
    ctx = sl_open(.device = SL_CPU, .threads = 1);
    return sl_error(ctx) != NULL;
}

static int close_context(void **state)
{
    (void)state;
    sl_close(ctx);
    return 0;
}

static sl_activation made(const char *text)
{
    const sl_activation a = sl_activation_from_expression(ctx, text);
    if (sl_error(ctx)) fail_msg("%s", sl_error(ctx));
    assert_non_null(a.formula);
    return a;
}

/* --- errors --- */

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } wrong[] = {
        {"", "character 1: a number, x or a function expected, but the text ends"},
        {"x*", "character 3: a number, x or a function expected, but the text ends"},
        {"  x + + ", "character 9: a number"},
        {"(x", "character 3: ')' expected, but the text ends"},
        {"x)", "character 2: an operator expected before ')'"},
        {"2x", "character 2: an operator expected before 'x'"},
        {"x**2", "character 2: a power is written x^2"},
        {"x*y", "character 3: there is no 'y'"},
        {"1 + tan(x)", "character 5: there is no function 'tan'; there are square, abs"},
        {"x*sigmoid", "character 3: sigmoid is a function: write sigmoid(x)"},
        {"x(1)", "character 1: there is no function 'x'"},
        {"max(x)", "character 1: max takes two arguments"},
        {"max(x,1,2)", "character 9: max takes two arguments"},
        {"tanh(x, 1)", "character 8: tanh takes one argument"},
        {"x/0", "character 2: a division by zero"},
        {"x*(1/(2-2))", "character 5: a division by zero"},
        {"x + 1e39", "character 5: a division by zero, or a number that is not finite"},
        {"1e30*(1e30*x)", "character 5: a division by zero, or a number that is not finite"},
        {"x*exp(1000)", "character 3: a division by zero, or a number that is not finite"},
        {"x + log(-1)", "character 5: a division by zero, or a number that is not finite"},
        {"x > 0 ? x", "character 10: ':' expected, but the text ends"},
        {"x < 1 < 2", "character 7: an operator expected before '<'"},
        {"x^2.5.1", "character 6: an operator expected before '.'"},
        {"x + .", "character 5: this is no number"},
        {"x + 0x10", "character 6: an operator expected before 'x'"},
        {"x*\xc3\xa9", "character 3: a number, x or a function expected; this character has no meaning"},
        {"3", "character 1: the value does not depend on x"},
        {"x*0 + 2", "character 1: the value does not depend on x"},
        {"x*b; b", "character 7: '=' and a number expected, but the text ends"},
        {"x*b; b=x", "character 8: a number expected before 'x'"},
        {"x*b; b=1 lern", "character 10: learn, channel or fixed expected, not 'lern'"},
        {"x*b; b=1 2", "character 10: ';' or the end expected before '2'"},
        {"x*b; b=1; b=2", "character 11: the name b is taken"},
        {"x; x=1", "character 4: the name x is taken"},
        {"x*relu; relu=1", "character 9: the name relu is taken"},
        {"x; b=1", "character 4: the parameter b is not used"},
        {"x*bbbbbbbbbbbbbbbb; bbbbbbbbbbbbbbbb=1", "character 21: this name is too long"},
        {"a*b*c*d*f*x; a=1 learn; b=1 learn; c=1 learn; d=1 learn; f=1 learn",
         "character 62: more than 4 learned parameters"},
        {"x; b=1e99", "character 6: a division by zero, or a number that is not finite"},
        {"x*; b=1", "character 3: a number, x or a function expected, but a semicolon follows"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const sl_activation a = sl_activation_from_expression(ctx, wrong[i].text);
        assert_true(a.row == 0 && !a.formula);
        expect_error(ctx, SL_ARGUMENT, wrong[i].words);
    }
    assert_null(sl_activation_from_expression(ctx, NULL).formula);
    expect_error(ctx, SL_ARGUMENT, "character 1");
}

/* What is a row stays one; what is neither keeps the list of names. */
static void test_parse(void **state)
{
    (void)state;
    static const char *const rows[] = {"relu", "swish(learn)", "prelu(0.25, channel)", "leaky_relu(a=0.5)"};
    static const char *const expressions[] = {"x",  "sigmoid(x)", "relu(2*x)", "1.5*tanh(x)",
                                              "-x", "(x)",        ".5*x"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_null(sl_activation_parse(ctx, rows[i]).formula);
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++)
        assert_non_null(sl_activation_parse(ctx, expressions[i]).formula);
    assert_ok(ctx);
    static const char *const unknown[] = {"rely", "rely(0.5)", "leaky-relu", ""};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        sl_activation_parse(ctx, unknown[i]);
        expect_error(ctx, SL_ARGUMENT, "there are linear, step,");
    }
    sl_activation_parse(ctx, "1.5*sigmoid");
    expect_error(ctx, SL_ARGUMENT, "sigmoid is a function");
}

static void test_print(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {" x * sigmoid( b*x ) ;b = 1.5  learn; c=-2 ", NULL},
        {" x * sigmoid( b*x ) ;b = 1.5  learn ", "x*sigmoid(b*x);b=1.5 learn"},
        {"x\t>\n0 ? x : a*x; a=0.1 channel;", "x>0?x:a*x;a=0.1 channel;"},
        {"max(x, 0)", "max(x,0)"},
    };
    char text[SL_ACTIVATION_TEXT];
    for (size_t i = 1; i < sizeof texts / sizeof *texts; i++) {
        const sl_activation a = made(texts[i][0]);
        assert_int_equal(a.row, SL_ACTIVATION_COUNT);
        assert_string_equal(sl_activation_print(a, text, sizeof text), texts[i][1]);
        assert_ptr_equal(sl_activation_parse(ctx, text).formula, a.formula); /* one formula, not another */
    }
    assert_string_equal(sl_activation_print(made("max(x, 0)"), text, 4), "max");
    sl_context *other = sl_open(.device = SL_CPU, .threads = 1);
    sl_node *x = sl_input(sl_graph_new(other), "x", 3);
    assert_null(sl_activate(x, made("x*x")));
    expect_error(other, SL_ARGUMENT, "only the context that it was made in");
    sl_activation learned = sl_activation_from_expression(other, "x*x");
    learned.learn = SL_LEARN;
    assert_null(sl_activate(x, learned));
    expect_error(other, SL_ARGUMENT, "says itself what is learned");
    sl_close(other);
}

/* --- against libm --- */

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

#define PAIR(name, f, g)                                                                                     \
    static double f_##name(double x)                                                                         \
    {                                                                                                        \
        return f;                                                                                            \
    }                                                                                                        \
    static double g_##name(double x)                                                                         \
    {                                                                                                        \
        (void)x;                                                                                             \
        return g;                                                                                            \
    }
PAIR(swish, x *logistic(1.5 * x), logistic(1.5 * x) + 1.5 * x * logistic(1.5 * x) * (1 - logistic(1.5 * x)))
PAIR(power, -x *x, -2 * x)
PAIR(tower, 512 * x, 512)
PAIR(left, x - 1 - 1 - x / 2 / 2, 0.75)
PAIR(cubic, x *x *x + 2 / (x * x), 3 * x * x - 4 / (x * x * x))
PAIR(root, sqrt(fabs(x)), (x > 0 ? 0.5 : -0.5) / sqrt(fabs(x)))
PAIR(real_power, pow(x *x, 0.7), 1.4 * pow(x * x, 0.7) / x)
PAIR(general, pow(1 + x * x, x), pow(1 + x * x, x) * (log(1 + x * x) + 2 * x * x / (1 + x * x)))
PAIR(elu, x > 0 ? x : 0.5 * expm1(x), x > 0 ? 1 : 0.5 * exp(x))
PAIR(waves, sin(x) * cos(2 * x), cos(x) * cos(2 * x) - 2 * sin(x) * sin(2 * x))
PAIR(gauss, erf(x) + exp(-x * x), exp(-x *x) * (2 / sqrt(acos(-1)) - 2 * x))
PAIR(logs, log(1 + x * x) + log1p(exp(x)), 2 * x / (1 + x * x) + logistic(x))
PAIR(mixed, fmax(fmin(x, 1), -1) * 3 + fabs(x), (fabs(x) < 1 ? 3 : 0) + (x > 0 ? 1 : -1))
PAIR(compared, (x > 1) + 2.0 * (x <= 1) + 4.0 * (x != 2) + 8.0 * (x == 3) + x, 1)
PAIR(rows, tanh(log1p(exp(x))) * x + x / (1 + fabs(x)),
     tanh(log1p(exp(x))) + x * (1 - pow(tanh(log1p(exp(x))), 2)) * logistic(x) + pow(1 + fabs(x), -2))
PAIR(constants, acos(-1) * x + exp(1) + 1e-3 * x, acos(-1) + 1e-3)
PAIR(chosen, x > -2 ? x < 2 ? x * x : 4 : 3, x > -2 && x < 2 ? 2 * x : 0)
PAIR(signs, (x > 0 ? 1 : -1) * x * x, 2 * fabs(x))

static void test_against_libm(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double (*value)(double x), (*slope)(double x);
    } list[] = {
        {"x*sigmoid(1.5*x)", f_swish, g_swish},
        {"x*sigmoid(b*x); b=1.5", f_swish, g_swish},
        {"scale*x*sigmoid(b*x); b=1.5 learn; scale=1 channel", f_swish, g_swish},
        {"-x^2", f_power, g_power},
        {"2^3^2*x", f_tower, g_tower},
        {"x-1-1 - x/2/2", f_left, g_left},
        {"x^3 + 2*x^-2", f_cubic, g_cubic},
        {"abs(x)^0.5", f_root, g_root},
        {"square(x)^.7", f_real_power, g_real_power},
        {"(1+x*x)^x", f_general, g_general},
        {"x > 0 ? x : 5e-1*expm1(x)", f_elu, g_elu},
        {"x <= 0 ? 0.5*(exp(x)-1) : x", f_elu, g_elu},
        {"sin(x)*cos(2*x)", f_waves, g_waves},
        {"erf(x)+exp(-x^2)", f_gauss, g_gauss},
        {"log(1+x^2)+softplus(x)", f_logs, g_logs},
        {"max(min(x,1),-1)*3 + max(x,-x)", f_mixed, g_mixed},
        {"3*hard_tanh(x) + abs(x)", f_mixed, g_mixed},
        {"(x>1)+2*(x<=1)+4*(x!=2)+8*(x==3)+x", f_compared, g_compared},
        {"(1<x)+2*(1>=x)+4*(2!=x)+8*(3==x)+x", f_compared, g_compared},
        {"mish(x) + softsign(x)", f_rows, g_rows},
        {"x*tanh(log1p(exp(x))) + x/(1+abs(x))", f_rows, g_rows},
        {"pi*x + e + 1E-3*x", f_constants, g_constants},
        {"x > -2 ? x < 2 ? x*x : 4 : 3", f_chosen, g_chosen},
        {"sign(x)*x^2", f_signs, g_signs},
        {"(2*step(x)-1)*x*x", f_signs, g_signs},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const sl_activation a = made(list[i].text);
        for (double x = -7.3137; x < 8; x += 0.1171) {
            const double f = list[i].value(x), g = list[i].slope(x);
            const double value = sl_activation_value(a, x), slope = sl_activation_slope(a, x);
            if (!(fabs(value - f) <= 1e-13 * (1 + fabs(f))) || !(fabs(slope - g) <= 1e-12 * (1 + fabs(g))))
                fail_msg("%s at %g: value %.16g, expected %.16g; slope %.16g, expected %.16g", list[i].text,
                         x, value, f, slope, g);
        }
    }
    assert_true(sl_activation_value(made("8*(x==3)+x"), 3) == 11);
    assert_near(sl_activation_gain_of(made("max(x,0)")), sqrt(2), 1e-11);
    const double c = 0.317, below = erfc(-c / sqrt(2)) / 2, density = exp(-c * c / 2) / sqrt(2 * acos(-1));
    assert_near(sl_activation_gain_of(made("max(x,0.317)")),
                1 / sqrt(c * c * below + c * density + 1 - below), 1e-9);
    const clock_t start = clock();
    sl_activation_gain_of(made("sin(4e6*x)"));
    sl_activation_gain_of(made("(1e6*x-1e6*x)*1e9+x"));
    assert_true(clock() - start < 10 * CLOCKS_PER_SEC);
}

/* --- kinks, NaN, infinity, on the kernels too --- */

static float kernel_value(sl_activation a, float x, bool slope)
{
    const parameters none = {{NULL}, {0}};
    float in[9], out[9], dy[9];
    for (int i = 0; i < 9; i++) in[i] = x, dy[i] = 1;
    sl_formula_run_plain(a.formula, slope ? &a.formula->slope : &a.formula->value, 9, in, NULL, &none,
                         slope ? dy : NULL, out);
    return out[8];
}

static bool same_number(double a, double b)
{
    return (isnan(a) && isnan(b)) || a == b;
}

static void expect_at(const char *text, double x, double value, double slope)
{
    const sl_activation a = made(text);
    const double f = sl_activation_value(a, x), g = sl_activation_slope(a, x);
    const float single = kernel_value(a, (float)x, false), single_slope = kernel_value(a, (float)x, true);
    if (!same_number(f, value) || !same_number(g, slope) || !same_number(single, (float)value) ||
        !same_number(single_slope, (float)slope))
        fail_msg("%s at %g: value %g (float %g), expected %g; slope %g (float %g), expected %g", text, x, f,
                 (double)single, value, g, (double)single_slope, slope);
}

static void test_special_points(void **state)
{
    (void)state;
    static const char *const relus[] = {"max(x,0)", "max(0,x)", "-min(-x,0)", "relu(x)", "x>0?x:0"};
    static const double points[] = {0, -0.0, 1, -1, 3e38, -3e38, 1e-45, -1e-45, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof relus / sizeof *relus; i++)
        for (size_t k = 0; k < sizeof points / sizeof *points; k++)
            expect_at(relus[i], points[k], sl_activation_value(SL_RELU, points[k]),
                      sl_activation_slope(SL_RELU, points[k]));
    for (int i = 0; i < 3; i++) { /* and the sign of 0 */
        const char *const text[] = {"max(x,0)", "max(0,x)", "x>0?x:0"};
        assert_false(signbit(sl_activation_value(made(text[i]), -0.0)) ||
                     signbit(kernel_value(made(text[i]), -0.0f, false)));
    }
    /* at a tie the slope that is smallest in size, as the rows have it */
    expect_at("max(x,0.5*x)", 0, 0, 0.5);
    expect_at("max(0.5*x,x)", 0, 0, 0.5);
    expect_at("min(x,2*x)", 0, 0, 1);
    expect_at("min(max(x,0),6)", 6, 6, 0);
    expect_at("max(x,-x)", 0, 0, 0);
    expect_at("max(-x,-2*x)", 0, 0, -1);
    expect_at("abs(x)", 0, 0, 0);
    expect_at("x>=0?2*x:3*x", 0, 0, 2);
    expect_at("x>0?2*x:3*x", 0, 0, 3);
    /* 0·infinity is 0, so a gate has its limits */
    expect_at("x*sigmoid(x)", INFINITY, INFINITY, 1);
    expect_at("x*sigmoid(x)", -INFINITY, 0, 0);
    expect_at("exp(-x)*x", INFINITY, 0, 0);
    expect_at("x-x+x", INFINITY, NAN, 1);
    for (const char *const *at =
             (const char *const[]){"x*sigmoid(x)", "x>0?x:1", "max(x,2)", "min(2,x)", "(x<1)+x", "(x==1)+x",
                                   "(x!=1)+x", "sin(x)", "expm1(x)", "x^2", "x^2.5", "sign(x)*x", "erf(x)",
                                   "log1p(abs(x))", "step(x)*x", NULL};
         *at; at++) {
        const sl_activation a = made(*at);
        assert_true(isnan(sl_activation_value(a, NAN)) && isnan(kernel_value(a, NAN, false)));
        if (strcmp(*at, "(x<1)+x") && strcmp(*at, "(x==1)+x") && strcmp(*at, "(x!=1)+x")) /* slope 1 */
            assert_true(isnan(sl_activation_slope(a, NAN)) && isnan(kernel_value(a, NAN, true)));
    }
    expect_at("sin(x)", 1e9, 0, 0);
    expect_at("cos(x)", -INFINITY, 0, 0);
}

/* --- every operation's loop against double precision --- */

static uint32_t random_at;

static double uniform(void)
{
    return (double)sl_random_word(7, 1, 0, random_at++) / 4294967296.0;
}

static void test_operations(void **state)
{
    (void)state;
    enum { N = 999 };
    static float a[4][N], to[N], other[N];
    run *list[3];
    const int n = copies(list);
    for (int op = 0; op < SL_F_COUNT; op++) {
        const int arity = sl_formula_arity(op);
        sl_formula formula = {.n_parameters = 3};
        sl_formula_program program = {.n_steps = 1, .n_buffers = 5, .result = 4};
        program.step[0] = (sl_formula_step){.op = (uint8_t)op, .to = 4, .in = {0, 1, 2, 3}};
        for (int k = 0; k < 4; k++)
            for (int i = 0; i < N; i++) {
                a[k][i] = i % 17 == k ? 0 : (float)(8 * uniform() - 4) * (i % 5 ? 1 : 10);
                if (op == SL_F_SELECT && k == 0) a[k][i] = i % 3 != 0;
            }
        const bool logarithm = op == SL_F_LOG || op == SL_F_LOG1P || op == SL_F_SQRT;
        for (int i = 0; i < N && logarithm; i++) a[0][i] = fabsf(a[0][i]) - (op == SL_F_LOG1P ? 0.5f : 0);
        if (op >= SL_F_SLOPE_LINEAR) /* of y, or of x: a range that both have */
            for (int i = 0; i < N; i++) a[0][i] = fabsf(a[0][i]) / 50;
        const parameters p = {{a[1], a[2], a[3]}, {1, 1, 1}};
        for (int c = 0; c < n; c++) {
            list[c](&formula, &program, N, a[0], NULL, &p, NULL, c ? other : to);
            if (c) assert_memory_equal(to, other, sizeof to);
        }
        for (int i = 0; i < N; i++) {
            const double in[4] = {a[0][i], a[1][i], a[2][i], a[3][i]}, want = sl_formula_apply(op, in);
            if (!(fabs(to[i] - want) <= 5e-7 * fabs(want) + 3e-7 * (arity == 1)) &&
                !same_number(to[i], (float)want))
                fail_msg("operation %d (%s) of %g, %g, %g, %g: %.9g, expected %.9g", op,
                         sl_formula_function(op) ? sl_formula_function(op) : "no function", in[0], in[1],
                         in[2], in[3], (double)to[i], want);
        }
    }
}

/* sin and cos up to large arguments. */
static void test_sin_cos(void **state)
{
    (void)state;
    const sl_activation s = made("sin(x)"), c = made("cos(x)");
    double worst = 0;
    for (double size = 1e-6; size < 4e6; size *= 1.001) {
        const float x = (float)(random_at++ % 2 ? size : -size);
        worst = fmax(worst, fabs(kernel_value(s, x, false) - sin(x)));
        worst = fmax(worst, fabs(kernel_value(c, x, false) - cos(x)));
    }
    print_message("sin and cos: %.3g\n", worst);
    assert_true(worst < 1.5e-7);
}

/* --- random expressions --- */

static void grow(char *to, size_t size, int depth);

/* n times a text and behind it a smaller expression. */
static void parts(char *to, size_t size, int depth, int n, ...)
{
    va_list texts;
    va_start(texts, n);
    for (int i = 0; i < n; i++) {
        snprintf(to + strlen(to), size - strlen(to), "%s", va_arg(texts, const char *));
        grow(to, size, depth - 1);
    }
    va_end(texts);
}

static void grow(char *to, size_t size, int depth)
{
    static const char *const unary[] = {"tanh", "sigmoid", "softplus", "gelu",  "erf",
                                        "sin",  "cos",     "abs",      "relu",  "mish",
                                        "selu", "sign",    "softsign", "swish", "expm1"};
    const size_t used = strlen(to);
    char *at = to + used;
    const size_t left = size - used;
    const int kind = depth == 0 ? (int)(uniform() * 4) : 4 + (int)(uniform() * 9);
    switch (kind) {
    case 0:
    case 1: snprintf(at, left, "x"); break;
    case 2: snprintf(at, left, "%.3g", 3 * uniform() + 0.01); break;
    case 3: snprintf(at, left, uniform() < 0.5 ? "a" : "b"); break;
    case 4: parts(to, size, depth, 2, "(", "+"); break;
    case 5: parts(to, size, depth, 2, "(", "-"); break;
    case 6: parts(to, size, depth, 2, "(", "*"); break;
    case 7: parts(to, size, depth, 2, "(", "/(1+square("); break;
    case 8: parts(to, size, depth, 2, uniform() < 0.5 ? "max(" : "min(", ","); break;
    case 9: parts(to, size, depth, 4, "(", uniform() < 0.5 ? ">" : "<=", "?", ":"); break;
    case 10:
        parts(to, size, depth, 1, "(");
        snprintf(to + strlen(to), size - strlen(to), "^%d", 2 + (int)(2 * uniform()));
        break;
    default:
        snprintf(at, left, "%s", unary[(int)(uniform() * (sizeof unary / sizeof *unary))]);
        parts(to, size, depth, 1, "(");
    }
    if (kind >= 4) snprintf(to + strlen(to), size - strlen(to), kind == 7 ? ")))" : ")");
}

/* The next random expression that depends on x. */
static sl_activation random_expression(char *text, size_t size, int depth)
{
    for (;;) {
        text[0] = 0;
        grow(text, size - 48, depth);
        if (strlen(text) > 400) continue;
        if (!strchr(text, 'x')) continue;
        char *end = text + strlen(text);
        if (strpbrk(text, "a")) {
            bool has[2] = {false};
            for (const char *c = text; *c; c++)
                for (int k = 0; k < 2; k++)
                    if (*c == "ab"[k] && !(c > text && c[-1] >= 'a' && c[-1] <= 'z') &&
                        !(c[1] >= 'a' && c[1] <= 'z'))
                        has[k] = true;
            if (has[0]) end += sprintf(end, ";a=0.7 learn");
            if (has[1]) sprintf(end, ";b=-1.3 channel");
        } else if (strstr(text, "b")) {
            continue;
        }
        const sl_activation a = sl_activation_from_expression(ctx, text);
        if (!sl_error(ctx)) return a;
        if (!strstr(sl_error(ctx), "depend on x") && !strstr(sl_error(ctx), "not finite"))
            fail_msg("%s", sl_error(ctx));
        sl_clear_error(ctx);
    }
}

static double value_at(const sl_formula *f, double x, int k, double h)
{
    double p[SL_FORMULA_PARAMETERS];
    for (int i = 0; i < f->n_parameters; i++) p[i] = f->parameter[i].start + (i == k ? h : 0);
    return sl_formula_run_double(f, &f->value, x + (k < 0 ? h : 0), p);
}

/* Differences of fourth order, twice; false where they differ: a kink is near. */
static bool difference(const sl_formula *f, double x, int k, double *slope)
{
    double seen[2];
    for (int i = 0; i < 2; i++) {
        const double h = i ? 1e-3 : 2e-3;
        seen[i] = (8 * (value_at(f, x, k, h) - value_at(f, x, k, -h)) - value_at(f, x, k, 2 * h) +
                   value_at(f, x, k, -2 * h)) /
                  (12 * h);
    }
    *slope = seen[1];
    return fabs(seen[0] - seen[1]) <= 1e-8 * (1 + fabs(seen[1]));
}

/* The error that float arithmetic may make: each step's own, and that of its arguments, by moving them. */
static double error_bound(const sl_formula *f, const sl_formula_program *p, double x)
{
    double value[SL_FORMULA_BUFFERS] = {x}, error[SL_FORMULA_BUFFERS] = {0};
    for (int k = 0; k < f->n_parameters; k++) value[1 + k] = f->parameter[k].start;
    for (int k = 0; k < p->n_constants; k++) {
        value[1 + f->n_parameters + k] = p->constant[k];
        error[1 + f->n_parameters + k] = fabs(p->constant[k] - (float)p->constant[k]);
    }
    for (int i = 0; i < p->n_steps; i++) {
        const sl_formula_step *s = &p->step[i];
        double in[4];
        for (int k = 0; k < 4; k++) in[k] = value[s->in[k]];
        const double y = sl_formula_apply(s->op, in);
        double bound = 6e-7 * fabs(y) + 3e-7;
        for (int k = 0; k < sl_formula_arity(s->op); k++)
            for (int side = -1; side <= 1; side += 2) {
                in[k] = value[s->in[k]] + side * 2 * error[s->in[k]];
                bound += fabs(sl_formula_apply(s->op, in) - y);
                in[k] = value[s->in[k]];
            }
        value[s->to] = y;
        error[s->to] = bound;
    }
    return error[p->result];
}

static void check_program(const char *text, const sl_formula *f, const sl_formula_program *p,
                          const char *what)
{
    enum { N = 301 };
    float x[N], bias[N], moved[N], dy[N], to[N], other[N], start[2], wide[N];
    const parameters scalar = {{&start[0], &start[1]}, {0, 0}};
    run *list[3];
    const int n = copies(list);
    for (int k = 0; k < f->n_parameters; k++) start[k] = f->parameter[k].start;
    for (int i = 0; i < N; i++) {
        x[i] = (float)(7.7 * uniform() - 3.8);
        bias[i] = 0.25f * (float)(i % 7);
        moved[i] = x[i] + bias[i];
        dy[i] = (float)uniform() - 0.5f;
        wide[i] = start[0];
    }
    list[0](f, p, N, x, NULL, &scalar, NULL, to);
    for (int i = 0; i < N; i++) {
        const double want = sl_formula_run_double(f, p, x[i], NULL), bound = error_bound(f, p, x[i]);
        if (!(fabs(to[i] - want) <= bound))
            fail_msg("%s: %s at %.9g is %.9g, in double %.9g, but at most %.2g may be lost", text, what,
                     (double)x[i], (double)to[i], want, bound);
    }
    /* the same bits everywhere, with any bias, length and place */
    list[0](f, p, N, moved, NULL, &scalar, dy, to);
    for (int c = 0; c < n; c++)
        for (int way = 0; way < 3; way++) {
            const parameters p1 = {{way ? wide : &start[0], &start[1]}, {way > 0, 0}};
            memcpy(other, way == 1 ? dy : x, sizeof other);
            const float *at = way == 2 ? other : x, *by = way == 1 ? other : dy;
            for (int i = 0, piece = 0; i < N; i += piece) { /* pieces of 1, 2, 4, … in place */
                const parameters rest = {{p1.at[0] + i * p1.step[0], p1.at[1]}, {p1.step[0], 0}};
                piece = piece ? 2 * piece : way ? 1 : N;
                if (piece > N - i) piece = N - i;
                list[c](f, p, piece, at + i, bias + i, &rest, by + i, other + i);
            }
            for (int i = 0; i < N; i++)
                if (memcmp(&to[i], &other[i], sizeof *to) != 0 && !(isnan(to[i]) && isnan(other[i])))
                    fail_msg("%s: %s: copy %d, way %d, element %d: %.9g and %.9g", text, what, c, way, i,
                             (double)to[i], (double)other[i]);
        }
}

static void test_random_expressions(void **state)
{
    (void)state;
    int checked = 0, points = 0;
    for (int i = 0; i < 150; i++) {
        char text[2048];
        const sl_formula *f = random_expression(text, sizeof text, 2 + i % 3).formula;
        for (int k = -1; k < f->n_parameters; k++) {
            for (int j = 0; j < 40; j++, points++) {
                const double x = 8 * uniform() - 4;
                double seen;
                if (!difference(f, x, k, &seen)) continue;
                const double slope = sl_formula_run_double(f, k < 0 ? &f->slope : &f->by[k], x, NULL);
                if (!(fabs(slope - seen) <= 1e-6 * (1 + fabs(seen))))
                    fail_msg("%s by %s at %.6g: slope %.12g, difference %.12g", text,
                             k < 0 ? "x" : f->parameter[k].name, x, slope, seen);
                checked++;
            }
        }
        check_program(text, f, &f->value, "value");
        check_program(text, f, &f->slope, "slope");
        for (int k = 0; k < f->n_parameters; k++) check_program(text, f, &f->by[k], f->parameter[k].name);
    }
    print_message("%d of %d slopes compared with differences\n", checked, points);
    assert_true(checked > points * 3 / 4);
}

/* The check that every expression passes sees a slope that is wrong, by x or by a parameter, nearly
 * everywhere or on one side. */
static void test_wrong_slopes(void **state)
{
    (void)state;
    static const char *const wrong[] = {"b*x*sigmoid(x)+0.01*x; b=1 learn",
                                        "x>0?b*x*sigmoid(x):b*x; b=1 learn"};
    const sl_formula *right = made("b*x*sigmoid(x); b=1 learn").formula;
    double x;
    assert_true(sl_formula_is_right(right, &x));
    for (int i = 0; i < 2; i++) {
        const sl_formula *other = made(wrong[i]).formula;
        sl_formula copy = *right;
        copy.slope = other->slope;
        assert_false(sl_formula_is_right(&copy, &x));
        copy.slope = right->slope;
        copy.by[0] = i ? other->by[0] : right->slope;
        assert_false(sl_formula_is_right(&copy, &x));
    }
}

/* --- hostile texts --- */

static void refuse(const char *text)
{
    if (sl_activation_from_expression(ctx, text).formula) fail_msg("accepted: %.60s", text);
    assert_true(sl_error(ctx) && strlen(sl_error(ctx)) > 20);
    sl_clear_error(ctx);
    sl_activation_parse(ctx, text);
    sl_clear_error(ctx);
}

static void test_hostile(void **state)
{
    (void)state;
    enum { LONG = 1 << 20 };
    char *text = malloc(LONG + 1);
    static const char *const parts[] = {"(",      "-",    "x+",   "x^", "1?", "x,", ";",
                                        "max(x,", "x?x:", "sin(", "9",  "a",  " "};
    const clock_t start = clock();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (int size = 100; size <= LONG; size = size == 100 ? 500 : size == 500 ? LONG : LONG + 1) {
            const size_t n = strlen(parts[i]);
            size_t at = 0;
            for (; at + n < (size_t)size; at += n) memcpy(text + at, parts[i], n);
            text[at] = 0;
            refuse(text);
        }
    /* as large as a text can make it */
    static const char *const large[] = {"x^1023*", "x^x^", "gelu(x)*", "max(x,", "sin(x)/"};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        text[0] = 0;
        while (strlen(text) + 2 * strlen(large[i]) + 2 < SL_ACTIVATION_TEXT) strcat(text, large[i]);
        strcat(text, "x");
        sl_activation_from_expression(ctx, text); /* made or refused */
        sl_clear_error(ctx);
    }
    free(text);
    assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
    /* deep, but not too deep */
    char deep[200];
    snprintf(deep, sizeof deep, "%.60s x %.60s",
             "((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
             "))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))");
    made(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),         cmocka_unit_test(test_parse),
        cmocka_unit_test(test_print),          cmocka_unit_test(test_against_libm),
        cmocka_unit_test(test_special_points), cmocka_unit_test(test_operations),
        cmocka_unit_test(test_sin_cos),        cmocka_unit_test(test_random_expressions),
        cmocka_unit_test(test_wrong_slopes),   cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
