/* Activations from expressions. A thread runs the formula's program on its elements, with what the program
 * holds in memory of its own; the program is an argument of the kernel. What is fused with an activation
 * elsewhere is two launches here: the operation without it, then the formula in place.
 *
 * This family stands before the others and behind them, so that a formula never meets a kernel for rows. */
#include "cuda/formula.cuh"

#include "cuda/formula_ops.cuh"
#include "cuda/reduce.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* --- the program --- */

struct code {
    int16_t n_constants, n_steps, n_parameters, result;
    float constant[SL_FORMULA_BUFFERS];
    sl_formula_step step[SL_FORMULA_STEPS];
};

static code code_of(const sl_formula *formula, const sl_formula_program *program)
{
    code c = {(int16_t)program->n_constants,
              (int16_t)program->n_steps,
              (int16_t)formula->n_parameters,
              (int16_t)program->result,
              {},
              {}};
    for (int k = 0; k < program->n_constants; k++) c.constant[k] = (float)program->constant[k];
    for (int i = 0; i < program->n_steps; i++) c.step[i] = program->step[i];
    return c;
}

template <int V> struct parameters {
    sl_vec<V> of[SL_FORMULA_PARAMETERS];
};

/* program(x) -> x. The elements take turns within a step: a case is there once, not once for each. */
template <int V>
static __device__ __forceinline__ void run_code(const code &p, const parameters<V> &a, sl_vec<V> *x)
{
    float buffer[SL_FORMULA_BUFFERS][V];
    for (int k = 0; k < V; k++) buffer[0][k] = x->v[k];
    for (int i = 0; i < p.n_parameters; i++)
        for (int k = 0; k < V; k++) buffer[1 + i][k] = a.of[i].v[k];
    for (int i = 0; i < p.n_constants; i++)
        for (int k = 0; k < V; k++) buffer[1 + p.n_parameters + i][k] = p.constant[i];
    for (int i = 0; i < p.n_steps; i++) {
        const sl_formula_step step = p.step[i];
#pragma unroll 1
        for (int k = 0; k < V; k++) {
            const float a = buffer[step.in[0]][k], b = buffer[step.in[1]][k], c = buffer[step.in[2]][k],
                        d = buffer[step.in[3]][k];
            float y = 0.0f;
            switch (step.op) {
#define CASE(id)                                                                                             \
    case SL_F_##id:                                                                                          \
        y = sl_f_##id(a, b, c, d);                                                                           \
        break;
#define OPERATION(id, ...) CASE(id)
#include "core/formula.def"
#undef OPERATION
#define ACTIVATION(id, ...) CASE(VALUE_##id) CASE(SLOPE_##id)
#include "slope/activations.def"
#undef ACTIVATION
#undef CASE
            }
            buffer[step.to][k] = y;
        }
    }
    for (int k = 0; k < V; k++) x->v[k] = buffer[p.result][k];
}

/* --- one call, taken apart --- */

static_assert(sizeof(sl_formula_arguments::a) / sizeof(float *) == SL_FORMULA_PARAMETERS, "room for all");

struct job : sl_formula_arguments {
    code program;
};

template <int V> static __device__ __forceinline__ parameters<V> parameters_of(const job &j, int64_t column)
{
    parameters<V> p = {};
    for (int i = 0; i < j.program.n_parameters; i++)
        p.of[i] = sl_vec_columns<V>(j.a[i], j.a_wide[i], column, j.columns);
    return p;
}

template <int V> struct slope_raw {
    sl_vec<V> dy, x;
};

template <int V>
static __device__ __forceinline__ slope_raw<V> load_slope(const job &j, int64_t i, int64_t end)
{
    slope_raw<V> r;
    r.x = sl_vec_load<V>(j.x, i, end);
#pragma unroll
    for (int k = 0; k < V; k++) r.dy.v[k] = 1.0f;
    if (j.dy) r.dy = sl_vec_load<V>(j.dy, i, end);
    return r;
}

struct forward {
    job j;
    struct Column {
        sl_vec<4> bias;
        parameters<4> a;
    };
    typedef sl_vec<4> Raw;
    __device__ __forceinline__ Column at(int64_t column) const
    {
        Column c = {};
        if (j.bias) c.bias = sl_vec_columns<4>(j.bias, j.bias_wide, column, j.columns);
        c.a = parameters_of<4>(j, column);
        return c;
    }
    __device__ __forceinline__ Raw load(int64_t i, int64_t end) const
    {
        return sl_vec_load<4>(j.x, i, end);
    }
    __device__ __forceinline__ void run(const Column &c, Raw x, int64_t i, int64_t end) const
    {
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (j.bias) x.v[k] = x.v[k] + c.bias.v[k];
        if (j.z) sl_vec_store<4>(j.z, i, end, x);
        run_code<4>(j.program, c.a, &x);
        sl_vec_store<4>(j.y, i, end, x);
    }
};

struct backward {
    job j;
    typedef parameters<4> Column;
    typedef slope_raw<4> Raw;
    __device__ __forceinline__ Column at(int64_t column) const
    {
        return parameters_of<4>(j, column);
    }
    __device__ __forceinline__ Raw load(int64_t i, int64_t end) const
    {
        return load_slope<4>(j, i, end);
    }
    __device__ __forceinline__ void run(const Column &a, Raw r, int64_t i, int64_t end) const
    {
        run_code<4>(j.program, a, &r.x);
#pragma unroll
        for (int k = 0; k < 4; k++) r.x.v[k] = r.dy.v[k] * r.x.v[k];
        sl_vec_store<4>(j.y, i, end, r.x);
    }
};

/* The same as terms, written where wanted. */
struct slope_terms {
    enum { SETS = 1 };
    template <int V> using Column = parameters<V>;
    template <int V> using Raw = slope_raw<V>;
    job j;
    bool flat; /* `at` gets an element, not a column */

    __device__ __forceinline__ int64_t row(int64_t, int64_t r) const
    {
        return r;
    }
    template <int V> __device__ __forceinline__ Column<V> at(int64_t column) const
    {
        return parameters_of<V>(j, flat ? column % j.columns : column);
    }
    template <int V> __device__ __forceinline__ Raw<V> load(int64_t i, int64_t end) const
    {
        return load_slope<V>(j, i, end);
    }
    template <int V>
    __device__ __forceinline__ void make(const Column<V> &a, Raw<V> r, int64_t i, int64_t end,
                                         float (&term)[1][V]) const
    {
        run_code<V>(j.program, a, &r.x);
#pragma unroll
        for (int k = 0; k < V; k++) term[0][k] = r.x.v[k] = r.dy.v[k] * r.x.v[k];
        if (j.y) sl_vec_store<V>(j.y, i, end, r.x);
    }
};

/* --- activations alone --- */

static const sl_formula *formula_of(const sl_call *call)
{
    return static_cast<const sl_activation_attr *>(call->attr)->formula;
}

static bool is_formula(const sl_call *call)
{
    return formula_of(call) != nullptr;
}

static bool is_compiled(const sl_call *call)
{
    return is_formula(call) && sl_cuda_formula_prepare(call->device, formula_of(call));
}

/* Its learned parameters are the inputs from number `first` on. */
static job job_of(const sl_call *call, const sl_formula *formula, const sl_formula_program *program,
                  int first)
{
    job j = {};
    j.program = code_of(formula, program);
    j.count = sl_shape_count(call->in[0].shape);
    j.columns = sl_shape_last(call->in[0].shape);
    for (int i = 0; i < formula->n_parameters; i++) {
        j.a[i] = sl_in(call, first + i);
        j.a_wide[i] = sl_shape_count(call->in[first + i].shape) > 1;
    }
    return j;
}

/* The value, or dy times a slope. */
static void launch(const sl_call *call, const sl_formula *formula, const sl_formula_program *program, job j)
{
    j.wide = j.bias_wide;
    for (int i = 0; i < formula->n_parameters; i++) j.wide = j.wide || j.a_wide[i];
    if (sl_cuda_formula_launch(call, formula, program, j)) return;
    const int64_t columns = j.wide ? j.columns : 1; /* that a thread must know */
    const forward value = {j};
    const backward slopes = {j};
    if (program == &formula->value)
        sl_each(call, value, j.count, columns);
    else
        sl_each(call, slopes, j.count, columns);
}

static void run_activation(const sl_call *call)
{
    const sl_formula *formula = formula_of(call);
    job j = job_of(call, formula, &formula->value, 1);
    j.x = sl_in(call, 0);
    j.y = sl_out(call, 0);
    launch(call, formula, &formula->value, j);
}

static void run_bias_activation(const sl_call *call)
{
    const sl_formula *formula = formula_of(call);
    job j = job_of(call, formula, &formula->value, 2);
    j.x = sl_in(call, 0);
    j.bias = sl_in(call, 1);
    j.bias_wide = sl_shape_count(call->in[1].shape) > 1;
    j.y = sl_out(call, 0);
    j.z = call->n_out > 1 ? sl_out(call, 1) : nullptr;
    launch(call, formula, &formula->value, j);
}

/* Inputs of every slope: dy, x, the learned parameters. */
static job slope_job(const sl_call *call, const sl_formula_program *program)
{
    job j = job_of(call, formula_of(call), program, 2);
    j.dy = sl_in(call, 0);
    j.x = sl_in(call, 1);
    return j;
}

static void run_activation_vjp(const sl_call *call)
{
    const sl_formula *formula = formula_of(call);
    job j = slope_job(call, &formula->slope);
    j.y = sl_out(call, 0);
    launch(call, formula, &formula->slope, j);
}

static const sl_kernel *kernel_of(const sl_call *call)
{
    for (const sl_kernel *const *family = sl_cuda_table; *family; family++)
        for (const sl_kernel *k = *family; k->run; k++)
            if (k->op == call->op && (!k->supports || k->supports(call))) return k;
    return nullptr;
}

/* Behind the sums, with compiled kernels: terms that are no output. */
static size_t terms_at(const sl_call *call)
{
    return (sl_sums_workspace(call, 0) + 255) / 256 * 256;
}

/* Terms from a compiled kernel, and then their sum: the bytes of both at once. */
static void sum_compiled(const sl_call *call, const sl_formula_program *program, job j, int output)
{
    if (!j.y) j.y = reinterpret_cast<float *>(static_cast<char *>(call->workspace) + terms_at(call));
    launch(call, formula_of(call), program, j);
    const sl_tensor terms = {j.y, call->in[0].shape, SL_FLOAT};
    sl_call sum = *call;
    sum.op = SL_OP_BIAS_VJP;
    sum.attr = nullptr;
    sum.in = &terms;
    sum.out = &call->out[output];
    sum.n_in = sum.n_out = 1;
    sum.kernel = kernel_of(&sum);
    sum.kernel->run(&sum);
}

/* As launch_sums of activation.cu. */
static void launch_sums(const sl_call *call, const sl_formula_program *program, const job &j, int output)
{
    const int64_t wide = sl_shape_count(call->out[output].shape);
    const sl_store_sum finish = {sl_out(call, output)};
    const slope_terms terms = {j, wide == 1};
    float *sums = static_cast<float *>(call->workspace);
    if (sl_cuda_formula_compiled(call->device, formula_of(call))) {
        sum_compiled(call, program, j, output);
    } else if (wide == 1) {
        const sl_vector x = {j.count, call->batch, call->valid, j.y != nullptr};
        sl_sum_vector(call, x, terms, finish, sums);
    } else {
        const sl_columns c = {
            1, j.columns ? j.count / j.columns : 0, j.columns, call->batch, call->valid, j.y != nullptr};
        sl_sum_columns(call, c, terms, finish, sums);
    }
}

static size_t parameter_workspace(const sl_call *call)
{
    if (!sl_cuda_formula_compiled(call->device, formula_of(call))) return sl_sums_workspace(call, 0);
    return terms_at(call) + (size_t)sl_shape_count(call->in[0].shape) * sizeof(float);
}

static size_t second_output_workspace(const sl_call *call)
{
    return sl_sums_workspace(call, 1);
}

static void run_activation_vjp_bias(const sl_call *call)
{
    const sl_formula *formula = formula_of(call);
    job j = slope_job(call, &formula->slope);
    j.y = sl_out(call, 0);
    if (sl_out(call, 1))
        launch_sums(call, &formula->slope, j, 1);
    else
        launch(call, formula, &formula->slope, j);
}

static void run_activation_vjp_parameter(const sl_call *call)
{
    const int by = static_cast<const sl_activation_attr *>(call->attr)->parameter;
    const sl_formula_program *program = &formula_of(call)->by[by];
    launch_sums(call, program, slope_job(call, program), 0);
}

static void run_activation_jvp_parameter(const sl_call *call)
{
    const int by = static_cast<const sl_activation_attr *>(call->attr)->parameter;
    const sl_formula_program *program = &formula_of(call)->by[by];
    job j = slope_job(call, program);
    j.y = sl_out(call, 0);
    launch(call, formula_of(call), program, j);
}

/* --- behind another operation --- */

/* An operation's call without the activation that follows it, and the kernel of that. */
struct plain_call {
    sl_call call;
    union {
        sl_matmul_fused_attr matmul;
        sl_conv_fused_attr conv;
        sl_batch_norm_attr norm;
    } attr;
    sl_tensor out[3];
};

static const sl_activation_attr *activation_of(const sl_call *call)
{
    switch (call->op) {
    case SL_OP_MATMUL_BIAS_ACTIVATION:
        return &static_cast<const sl_matmul_fused_attr *>(call->attr)->activation;
    case SL_OP_CONV2D_BIAS_ACTIVATION:
        return &static_cast<const sl_conv_fused_attr *>(call->attr)->activation;
    default: return &static_cast<const sl_batch_norm_attr *>(call->attr)->activation;
    }
}

static bool is_followed(const sl_call *call)
{
    const bool norm = call->op == SL_OP_BATCH_NORM || call->op == SL_OP_BATCH_NORM_VJP;
    if (norm && !static_cast<const sl_batch_norm_attr *>(call->attr)->activated) return false;
    return activation_of(call)->formula != nullptr;
}

static bool is_followed_compiled(const sl_call *call)
{
    return is_followed(call) && sl_cuda_formula_prepare(call->device, activation_of(call)->formula);
}

/* `plain` must stay where it is: the call points into it. */
static void make_plain(const sl_call *call, plain_call *plain)
{
    sl_activation_attr identity = {};
    identity.id = SL_ROW_LINEAR;
    identity.a = 1;
    plain->call = *call;
    plain->call.attr = &plain->attr;
    for (int k = 0; k < call->n_out; k++) plain->out[k] = call->out[k];
    plain->call.out = plain->out;
    switch (call->op) {
    case SL_OP_MATMUL_BIAS_ACTIVATION:
        plain->attr.matmul = *static_cast<const sl_matmul_fused_attr *>(call->attr);
        plain->attr.matmul.activation = identity;
        plain->call.n_in = 3;
        break;
    case SL_OP_CONV2D_BIAS_ACTIVATION:
        plain->attr.conv = *static_cast<const sl_conv_fused_attr *>(call->attr);
        plain->attr.conv.activation = identity;
        plain->call.n_in = 3;
        break;
    default:
        plain->attr.norm = *static_cast<const sl_batch_norm_attr *>(call->attr);
        plain->attr.norm.activated = false;
    }
    plain->call.kernel = kernel_of(&plain->call);
}

static size_t plain_workspace(const sl_call *call)
{
    plain_call plain;
    make_plain(call, &plain);
    return plain.call.kernel->workspace ? plain.call.kernel->workspace(&plain.call) : 0;
}

/* f(x) -> y, elements of output 0; the learned parameter, if any, is input `first`. */
static void follow(const sl_call *call, int first, const float *x, float *y)
{
    const sl_formula *formula = activation_of(call)->formula;
    job j = job_of(call, formula, &formula->value, first);
    j.count = sl_shape_count(call->out[0].shape);
    j.columns = sl_shape_last(call->out[0].shape);
    j.x = x;
    j.y = y;
    launch(call, formula, &formula->value, j);
}

/* The value before the activation lies where it is wanted, else where its value will. */
static void run_product(const sl_call *call)
{
    plain_call plain;
    make_plain(call, &plain);
    float *z = sl_out(call, 1) ? sl_out(call, 1) : sl_out(call, 0);
    plain.out[0].data = z;
    plain.out[1].data = nullptr;
    plain.call.kernel->run(&plain.call);
    if (sl_out(call, 0)) follow(call, 3, z, sl_out(call, 0));
}

static void run_norm(const sl_call *call)
{
    plain_call plain;
    make_plain(call, &plain);
    plain.call.kernel->run(&plain.call);
    if (sl_out(call, 0)) follow(call, call->n_in, sl_out(call, 0), sl_out(call, 0));
}

/* Inputs dy, x, gamma, mean, variance, beta. Behind the workspace of the plain gradient there is room for the
 * value between the two, and then for its cotangent. */
static size_t norm_vjp_workspace(const sl_call *call)
{
    const size_t room = (size_t)sl_shape_count(call->in[1].shape) * sizeof(float);
    return (plain_workspace(call) + 255) / 256 * 256 + room;
}

static void run_norm_vjp(const sl_call *call)
{
    const sl_formula *formula = activation_of(call)->formula;
    plain_call plain;
    make_plain(call, &plain);
    float *z = reinterpret_cast<float *>(static_cast<char *>(call->workspace) +
                                         (plain_workspace(call) + 255) / 256 * 256);
    const sl_tensor in[5] = {call->in[1], call->in[2], call->in[5], call->in[3], call->in[4]};
    const sl_tensor out = {z, call->in[1].shape, SL_FLOAT};
    sl_call apply = plain.call;
    apply.op = SL_OP_BATCH_NORM_APPLY;
    apply.in = in;
    apply.n_in = 5;
    apply.out = &out;
    apply.n_out = 1;
    apply.kernel = kernel_of(&apply);
    apply.kernel->run(&apply);

    job j = job_of(call, formula, &formula->slope, call->n_in);
    j.dy = sl_in(call, 0);
    j.x = j.y = z;
    launch(call, formula, &formula->slope, j);

    const sl_tensor gradient[5] = {out, call->in[1], call->in[2], call->in[3], call->in[4]};
    plain.call.in = gradient;
    plain.call.n_in = 5;
    plain.call.kernel->run(&plain.call);
}

} // namespace

void sl_cuda_formula_slopes(const sl_call *call, float *to)
{
    const sl_formula *formula = formula_of(call);
    job j = slope_job(call, &formula->slope);
    j.dy = nullptr;
    j.y = to;
    launch(call, formula, &formula->slope, j);
}

#define ROWS(how, alone, behind)                                                                             \
    {SL_OP_ACTIVATION, how, alone, nullptr, run_activation},                                                 \
        {SL_OP_ACTIVATION_VJP, how, alone, nullptr, run_activation_vjp},                                     \
        {SL_OP_ACTIVATION_VJP_PARAMETER, how, alone, parameter_workspace, run_activation_vjp_parameter},     \
        {SL_OP_ACTIVATION_JVP_PARAMETER, how, alone, nullptr, run_activation_jvp_parameter},                 \
        {SL_OP_ACTIVATION_VJP_BIAS, how, alone, second_output_workspace, run_activation_vjp_bias},           \
        {SL_OP_BIAS_ACTIVATION, how, alone, nullptr, run_bias_activation},                                   \
        {SL_OP_MATMUL_BIAS_ACTIVATION, how, behind, plain_workspace, run_product},                           \
        {SL_OP_CONV2D_BIAS_ACTIVATION, how, behind, plain_workspace, run_product},                           \
        {SL_OP_BATCH_NORM, how, behind, plain_workspace, run_norm},                                          \
        {SL_OP_BATCH_NORM_VJP, how, behind, norm_vjp_workspace, run_norm_vjp},
SL_CUDA_KERNELS(formula) = {ROWS("compiled", is_compiled, is_followed_compiled)
                                ROWS("interpreted", is_formula, is_followed){}};
