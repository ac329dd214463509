/* Activations from expressions on the CUDA device against the CPU's bytes: every operation that may hold one,
 * and training. */
#define _GNU_SOURCE
#include "cuda_case.h"

#include "core/activation_rows.h"
#include "core/formula.h"

/* src/cuda/formula.cuh */
char *sl_cuda_formula_source(const sl_formula *formula);
char *sl_cuda_formula_compile(const char *source, const char *architecture, size_t *bytes, char *message,
                              size_t room);

/* No learned parameter, one, and four, of which two per channel; programs that read no x or have
 * no steps, and one that calls many functions. */
static const char *const texts[] = {
    "x*sigmoid(x)",
    "max(x, 0.1*x) + gelu(abs(x) - 1)",
    "x > 0 ? x : b*expm1(x); b=1 learn",
    "2*x + square(s)*x; s=0.5 channel",
    "a*x*sigmoid(b*x) + c*sin(d*x); a=1 channel; b=1.5 learn; c=0.3 learn; d=2 channel",
    "x",
    "x + b; b=0.5 learn",
    "log1p(exp(-abs(x))) + min(x, cos(x))/(1 + sqrt(abs(x))) - erf(x)*tanh(x) + mish(x) + sign(x) + log(x^2 "
    "+ 1)",
};
enum { TEXTS = sizeof texts / sizeof *texts };

/* The learned parameters as inputs; how many columns those of a channel have. */
static void add_learned(cuda_case *c, const sl_formula *formula, int64_t columns)
{
    for (int k = 0; k < formula->n_parameters; k++)
        c->in[c->n_in++] =
            reals(10 + (uint32_t)k, 0.2f, 2, DIMS(formula->parameter[k].per_channel ? columns : 1));
}

static sl_activation_attr attr_of(int text)
{
    const sl_activation_attr attr = {.id = SL_ROW_COUNT, .formula = sl_formula_of(case_cpu, texts[text])};
    assert_ok(case_cpu);
    return attr;
}

static sl_tensor values(int64_t rows, int64_t columns)
{
    const sl_tensor x = reals(1, -4, 4, DIMS(rows, columns));
    float *v = x.data;
    if (rows * columns > 9) v[1] = INFINITY, v[3] = -INFINITY, v[6] = 0;
    return x;
}

/* --- one operation at a time --- */

static void check_alone(int text, int64_t rows, int64_t columns, int32_t valid)
{
    sl_activation_attr attr = attr_of(text);
    const sl_formula *formula = attr.formula;
    const sl_tensor x = values(rows, columns), dy = reals(2, -1, 1, DIMS(rows, columns)),
                    y = space(SL_FLOAT, DIMS(rows, columns));
    const cuda_case base = {.attr = &attr, .n_out = 1, .out = {y}, .batch = rows, .valid = valid};
    cuda_case c = base;
    c.op = SL_OP_ACTIVATION;
    c.in[c.n_in++] = x;
    add_learned(&c, formula, columns);
    case_check(&c);
    c.in_place = true;
    case_check(&c);
    for (int wide = 0; wide < 2 && formula->n_parameters < 2; wide++) {
        c = base;
        c.op = SL_OP_BIAS_ACTIVATION;
        c.in[c.n_in++] = x;
        c.in[c.n_in++] = reals(4, -1, 1, DIMS(wide ? columns : 1));
        add_learned(&c, formula, columns);
        c.n_out = 2;
        c.out[1] = y;
        case_check(&c);
        c.absent[1] = c.in_place = true;
        case_check(&c);
    }
    c = base;
    c.in[c.n_in++] = dy;
    c.in[c.n_in++] = x;
    add_learned(&c, formula, columns);
    c.op = SL_OP_ACTIVATION_VJP;
    case_check(&c);
    c.op = SL_OP_ACTIVATION_VJP_BIAS;
    c.n_out = 2;
    for (int wide = 0; wide < 2; wide++) {
        c.out[1] = space(SL_FLOAT, DIMS(wide ? columns : 1));
        case_check(&c);
    }
    c.in_place = true;
    case_check(&c);
    c.absent[1] = true;
    case_check(&c);
    c.op = SL_OP_ACTIVATION_VJP_PARAMETER;
    c.n_out = 1;
    c.in_place = false;
    for (attr.parameter = 0; attr.parameter < formula->n_parameters; attr.parameter++) {
        c.out[0] = space(SL_FLOAT, DIMS(formula->parameter[attr.parameter].per_channel ? columns : 1));
        case_check(&c);
    }
    c.op = SL_OP_ACTIVATION_STATISTICS;
    c.out[0] = space(SL_FLOAT, DIMS(4));
    case_check(&c);
    case_end();
}

static void test_alone(void **state)
{
    (void)state;
    for (int text = 0; text < TEXTS; text++) {
        check_alone(text, 7, 5, 7);
        check_alone(text, 33, 12, 30);
        check_alone(text, 1, 1, 1);
    }
    check_alone(0, 1100, 37, 1030);
    check_alone(4, 1100, 36, 1100);
}

/* --- behind a product and behind batch norm --- */

static void check_product(int text, bool conv, bool keeps, int32_t valid)
{
    enum { ROWS = 9, UNITS = 11 };
    const sl_activation_attr act = attr_of(text);
    const sl_matmul_fused_attr matmul = {.activation = act};
    const sl_conv_fused_attr window = {.conv = {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}},
                                       .activation = act};
    cuda_case c = {.op = conv ? SL_OP_CONV2D_BIAS_ACTIVATION : SL_OP_MATMUL_BIAS_ACTIVATION,
                   .attr = conv ? (const void *)&window : &matmul,
                   .n_out = 2,
                   .absent = {false, !keeps},
                   .batch = ROWS,
                   .valid = valid};
    c.in[c.n_in++] = conv ? reals(1, -1, 1, DIMS(ROWS, 6, 5, 4)) : reals(1, -1, 1, DIMS(ROWS, 37));
    c.in[c.n_in++] = conv ? reals(2, -1, 1, DIMS(3, 3, 4, UNITS)) : reals(2, -1, 1, DIMS(37, UNITS));
    c.in[c.n_in++] = reals(3, -1, 1, DIMS(UNITS));
    add_learned(&c, act.formula, UNITS);
    for (int k = 0; k < 2; k++)
        c.out[k] = conv ? space(SL_FLOAT, DIMS(ROWS, 4, 3, UNITS)) : space(SL_FLOAT, DIMS(ROWS, UNITS));
    case_check(&c);
    case_end();
}

static void check_norm(int text, int64_t rows, int64_t columns, int32_t valid)
{
    const sl_batch_norm_attr attr = {
        .epsilon = 1e-3f, .momentum = 0.2f, .activated = true, .activation = attr_of(text)};
    const sl_tensor x = reals(1, -2, 3, DIMS(rows, columns)), gamma = reals(2, 0.5f, 2, DIMS(columns)),
                    beta = reals(3, -1, 1, DIMS(columns)), mean = reals(4, -0.1f, 0.1f, DIMS(columns)),
                    variance = reals(5, 0.5f, 2, DIMS(columns));
    cuda_case c = {.op = SL_OP_BATCH_NORM,
                   .attr = &attr,
                   .in = {x, gamma, beta, mean, variance},
                   .n_in = 5,
                   .n_out = 3,
                   .batch = rows,
                   .valid = valid};
    c.out[0] = space(SL_FLOAT, DIMS(rows, columns));
    c.out[1] = c.out[2] = space(SL_FLOAT, DIMS(columns));
    case_check(&c);
    c.op = SL_OP_BATCH_NORM_VJP;
    const sl_tensor in[] = {reals(6, -1, 1, DIMS(rows, columns)), x, gamma, mean, variance, beta};
    c.n_in = 6;
    for (int i = 0; i < 6; i++) c.in[i] = in[i];
    case_check(&c);
    case_end();
}

static void test_behind(void **state)
{
    (void)state;
    for (int text = 0; text < TEXTS; text++) {
        const int learned = attr_of(text).formula->n_parameters;
        for (int i = 0; i < 4 && learned < 2; i++) check_product(text, i % 2, i / 2, i < 2 ? 9 : 7);
        if (learned > 0) continue;
        check_norm(text, 40, 7, 33);
        check_norm(text, 1200, 8, 1200);
    }
}

/* --- training --- */

static uint64_t train(sl_device_kind device, const char *line, const char *activation, double *loss)
{
    sl_context *ctx = sl_open(.device = device, .exact = true, .seed = 7);
    sl_graph *g = sl_graph_new(ctx);
    sl_node *y = sl_model_line(sl_input(g, "image", 28, 28, 1), line, sl_activation_parse(ctx, activation),
                               (sl_init){0});
    sl_model *m = sl_compile(sl_softmax_cross_entropy(y, sl_labels(g, "label")), .batch = 6,
                             .optimizer = sl_adam(.rate = 0.01f), .diagnose = true);
    sl_dataset *digits = sl_digits(ctx, 5, SL_TRAIN, 16);
    const sl_epoch epoch = sl_fit(m, digits, .epochs = 2, .validation = digits);
    sl_diagnosis row;
    loss[0] = epoch.train.loss, loss[1] = epoch.validation.loss;
    for (int i = 0; sl_model_diagnosis(m, i, &row); i++)
        loss[2] += row.gradient_norm + row.update_ratio + row.mean + row.deviation + row.active + row.dead;
    assert_ok(ctx);
    const uint64_t print = sl_model_fingerprint(m);
    sl_close(ctx);
    return print;
}

static void test_training(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "dense12 act dense10", "conv3-3s3 bn act pool2 res( conv3-3p1 act ) drop.25 dense9 bn act dense10"};
    static const int used[] = {0, 2, 4};
    for (int l = 0; l < 2; l++)
        for (int t = 0; t < 3; t++) {
            double want[3] = {0}, got[3] = {0};
            const uint64_t expected = train(SL_CPU, lines[l], texts[used[t]], want);
            if (train(SL_CUDA, lines[l], texts[used[t]], got) != expected)
                fail_msg("%s with %s: other parameters than on the CPU", lines[l], texts[used[t]]);
            for (int i = 0; i < 3; i++)
                if (got[i] != want[i]) fail_msg("%s with %s: number %d differs", lines[l], texts[used[t]], i);
        }
}

/* --- generated kernels --- */

#define NO_PARAMETER                                                               R(0), R(0)
#define PARAMETER(name, value, how, lowest)                                        value, R(0)
#define TWO_PARAMETERS(name, value, how, lowest, name_b, value_b, how_b, lowest_b) value, value_b
#define CALLED(function, ...)                                                      function(a, __VA_ARGS__)
static float operation(const char *called, float a, float b, float c, float d)
{
    (void)b, (void)c, (void)d;
#define OPERATION(id, name, arity, value, slope)                                                             \
    if (strcmp(called, #id) == 0) return value;
#include "core/formula.def"
#undef OPERATION
#define ACTIVATION(id, name, parameters, ...)                                                                \
    if (strcmp(called, "VALUE_" #id) == 0) return CALLED(sl_value_##id, parameters);                         \
    if (strcmp(called, "SLOPE_" #id) == 0) return CALLED(sl_slope_##id, parameters);
#include "slope/activations.def"
#undef ACTIVATION
    fail_msg("generated code calls sl_f_%s", called);
    return 0;
}

/* What a generated kernel computes from x, line by line. */
static float run_source(const char *source, const char *kernel, float x, const float *learned)
{
    static float v[2 * SL_FORMULA_STEPS];
    char start[64], called[64];
    snprintf(start, sizeof start, " %s(const __grid_constant__", kernel);
    const char *line = strstr(source, start);
    assert_non_null(line);
    v[0] = x;
    for (; (line = strchr(line, '\n')); line++) {
        int to, in[4];
        unsigned bits;
        while (line[1] == ' ') line++;
        if (sscanf(line, " const float v%d = j.a[%d]", &to, in) == 2)
            v[to] = learned[in[0]];
        else if (sscanf(line, " const float v%d = __uint_as_float(0x%x)", &to, &bits) == 2)
            memcpy(&v[to], &bits, sizeof bits);
        else if (sscanf(line, " const float v%d = sl_f_%63[A-Z0-9_](v%d, v%d, v%d, v%d)", &to, called, in,
                        in + 1, in + 2, in + 3) == 6)
            v[to] = operation(called, v[in[0]], v[in[1]], v[in[2]], v[in[3]]);
        else if (sscanf(line, " j.y[i] = j.dy ? j.dy[i] * v%d : v%d;", in, &to) == 2) {
            assert_int_equal(in[0], to);
            return v[to];
        }
    }
    fail_msg("kernel %s has no result", kernel);
    return 0;
}

static void check_source(const sl_formula *formula, const char *source, const char *kernel,
                         const sl_formula_program *program)
{
    const float learned[SL_FORMULA_PARAMETERS] = {0.7f, 1.3f, 0.4f, 2.1f};
    double exact[SL_FORMULA_PARAMETERS];
    for (int k = 0; k < SL_FORMULA_PARAMETERS; k++) exact[k] = (double)learned[k];
    for (float x = -3.7f; x < 4; x += 0.3f) {
        const double want = sl_formula_run_double(formula, program, (double)x, exact);
        assert_near((double)run_source(source, kernel, x, learned), want, 1e-5 * (1 + fabs(want)));
    }
}

static void test_source(void **state)
{
    (void)state;
    for (int text = 0; text < TEXTS; text++) {
        const sl_formula *formula = attr_of(text).formula;
        char *source = sl_cuda_formula_source(formula);
        check_source(formula, source, "value", &formula->value);
        check_source(formula, source, "slope", &formula->slope);
        for (int k = 0; k < formula->n_parameters; k++)
            check_source(formula, source, (char[]){'b', 'y', (char)('0' + k), 0}, &formula->by[k]);
        free(source);
    }
}

/* What exact results forbid, as tests/test_ptx.sh has it. The source's own fma is rounded otherwise here. */
static void inspect(const char *ptx, const char *text, const char *architecture)
{
    static const char *const forbidden[] = {".f64 ",      ".approx",  ".full",    ".ftz",
                                            "fma.rn.f32", "mad.f32",  "add.f32 ", "sub.f32 ",
                                            "mul.f32 ",   "div.f32 ", "sqrt.f32 "};
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (strstr(ptx, forbidden[i])) fail_msg("%s for %s: %s", text, architecture, forbidden[i]);
    assert_non_null(strstr(ptx, ".entry value"));
    assert_non_null(strstr(ptx, ".entry slope"));
}

static void check_compiled(int text, const char *architecture)
{
    char message[2000], *source = sl_cuda_formula_source(attr_of(text).formula), *marked = NULL;
    size_t bytes = 0;
    assert_true(asprintf(&marked, "#define __fmaf_rn __fmaf_rz\n%s", source) > 0);
    char *ptx = sl_cuda_formula_compile(marked, architecture, &bytes, message, sizeof message);
    free(source);
    free(marked);
    if (!ptx && strstr(message, "was not found")) skip();
    if (!ptx) fail_msg("%s for %s: %s", texts[text], architecture, message);
    if (strncmp(architecture, "compute", 7) == 0) inspect(ptx, texts[text], architecture);
    assert_true(bytes > 1000);
    free(ptx);
}

static void test_compiled(void **state)
{
    (void)state;
    static const char *const architectures[] = {"compute_75", "compute_80",  "compute_86",  "compute_89",
                                                "compute_90", "compute_100", "compute_120", "sm_90"};
    for (int text = 0; text < TEXTS; text++) check_compiled(text, "compute_90");
    for (int i = 0; i < 8; i++) check_compiled(TEXTS - 1, architectures[i]);
    char message[2000];
    size_t bytes;
    assert_null(sl_cuda_formula_compile("no source", "sm_90", &bytes, message, sizeof message));
    assert_non_null(strstr(message, "error"));
}

int main(void)
{
    const int closed = case_open();
    if (closed) return closed;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),  cmocka_unit_test(test_behind),   cmocka_unit_test(test_training),
        cmocka_unit_test(test_source), cmocka_unit_test(test_compiled),
    };
    return case_close(cmocka_run_group_tests(tests, NULL, NULL));
}
