/* Bias and activation: forward, slope, and the sums of their gradients. Every kernel is made from a row of
 * activations.def, and found in a table of them. Bytes per element, the least that memory must move:
 *   activation, bias                   8 (12 where the value before the activation is kept too)
 *   slope                             12 (8 where the row reads nothing), with the bias gradient or without
 *   bias and parameter gradients       4, 8 */
#include "core/activation_rows.h"
#include "cuda/reduce.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* A row as a type. BIAS and BIAS_VJP are rows that do nothing. */
struct row_none {
    static constexpr bool reads_nothing = true, learnable = false;
    static __device__ __forceinline__ float value(float x, float, float)
    {
        return x;
    }
    static __device__ __forceinline__ float term(float dy, float, float, float)
    {
        return dy;
    }
    static __device__ __forceinline__ float term_a(float dy, float, float, float)
    {
        return dy;
    }
};

#define READS_NOTHING                                                              true
#define READS_X                                                                    false
#define READS_Y                                                                    false
#define FIXED                                                                      false
#define LEARNABLE                                                                  true
#define LEARNED                                                                    true
#define NO_PARAMETER                                                               false
#define PARAMETER(name, value, how, lowest)                                        how
#define TWO_PARAMETERS(name, value, how, lowest, name_b, value_b, how_b, lowest_b) how
#define ACTIVATION(id, name, parameters, reads, F, G, H, kinks)                                              \
    struct row_##id {                                                                                        \
        static constexpr bool reads_nothing = reads, learnable = parameters;                                 \
        static __device__ __forceinline__ float value(float x, float a, float b)                             \
        {                                                                                                    \
            return sl_value_##id(x, a, b);                                                                   \
        }                                                                                                    \
        static __device__ __forceinline__ float term(float dy, float at, float a, float b)                   \
        {                                                                                                    \
            return dy * sl_slope_##id(at, a, b);                                                             \
        }                                                                                                    \
        static __device__ __forceinline__ float term_a(float dy, float at, float a, float b)                 \
        {                                                                                                    \
            return dy * sl_slope_a_##id(at, a, b);                                                           \
        }                                                                                                    \
    };
#include "slope/activations.def"
#undef ACTIVATION

/* One call, taken apart. bias and a are device memory, one value for all or, where wide, one per column. */
struct job {
    const float *x, *dy, *at, *bias, *a;
    float *y, *z; /* z: the value before the activation */
    float a_value, b;
    bool bias_wide, a_wide;
    int64_t count, columns;
};

/* The parameter of the columns from `column` on. */
template <class Row, int V>
static __device__ __forceinline__ sl_vec<V> parameter_of(const job &j, int64_t column)
{
    if (Row::learnable && j.a) return sl_vec_columns<V>(j.a, j.a_wide, column, j.columns);
    sl_vec<V> same;
#pragma unroll
    for (int k = 0; k < V; k++) same.v[k] = j.a_value;
    return same;
}

/* --- forward --- */

template <class Row> struct forward {
    job j;
    struct Column {
        sl_vec<4> bias, a;
    };
    typedef sl_vec<4> Raw;
    __device__ __forceinline__ Column at(int64_t column) const
    {
        Column c = {};
        if (j.bias) c.bias = sl_vec_columns<4>(j.bias, j.bias_wide, column, j.columns);
        c.a = parameter_of<Row, 4>(j, column);
        return c;
    }
    __device__ __forceinline__ Raw load(int64_t i, int64_t end) const
    {
        return sl_vec_load<4>(j.x, i, end);
    }
    __device__ __forceinline__ void run(const Column &c, Raw x, int64_t i, int64_t end) const
    {
        sl_vec<4> y;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (j.bias) x.v[k] = x.v[k] + c.bias.v[k];
            y.v[k] = Row::value(x.v[k], c.a.v[k], j.b);
        }
        if (j.z) sl_vec_store<4>(j.z, i, end, x);
        sl_vec_store<4>(j.y, i, end, y);
    }
};

/* --- slopes --- */

template <class Row, int V> struct slope_raw {
    sl_vec<V> dy, at;
};

template <class Row, int V>
static __device__ __forceinline__ slope_raw<Row, V> load_slope(const job &j, int64_t i, int64_t end)
{
    slope_raw<Row, V> r;
    r.dy = sl_vec_load<V>(j.dy, i, end);
    r.at = r.dy;
    if (!Row::reads_nothing) r.at = sl_vec_load<V>(j.at, i, end);
    return r;
}

/* BY_A: by the parameter instead of x. */
template <class Row, bool BY_A> struct backward {
    job j;
    typedef sl_vec<4> Column;
    typedef slope_raw<Row, 4> Raw;
    __device__ __forceinline__ Column at(int64_t column) const
    {
        return parameter_of<Row, 4>(j, column);
    }
    __device__ __forceinline__ Raw load(int64_t i, int64_t end) const
    {
        return load_slope<Row, 4>(j, i, end);
    }
    __device__ __forceinline__ void run(const Column &a, const Raw &r, int64_t i, int64_t end) const
    {
        sl_vec<4> dx;
#pragma unroll
        for (int k = 0; k < 4; k++)
            dx.v[k] = BY_A ? Row::term_a(r.dy.v[k], r.at.v[k], a.v[k], j.b)
                           : Row::term(r.dy.v[k], r.at.v[k], a.v[k], j.b);
        sl_vec_store<4>(j.y, i, end, dx);
    }
};

/* --- sums --- */

/* The slopes, written where wanted, as terms; BY_A: the slopes by the parameter. */
template <class Row, bool BY_A> struct slope_terms {
    enum { SETS = 1 };
    template <int V> using Column = sl_vec<V>;
    template <int V> using Raw = slope_raw<Row, V>;
    job j;
    bool flat; /* `at` gets an element, not a column */

    __device__ __forceinline__ int64_t row(int64_t, int64_t r) const
    {
        return r;
    }
    template <int V> __device__ __forceinline__ Column<V> at(int64_t column) const
    {
        return parameter_of<Row, V>(j, Row::learnable && flat && j.a_wide ? column % j.columns : column);
    }
    template <int V> __device__ __forceinline__ Raw<V> load(int64_t i, int64_t end) const
    {
        return load_slope<Row, V>(j, i, end);
    }
    template <int V>
    __device__ __forceinline__ void make(const Column<V> &a, const Raw<V> &r, int64_t i, int64_t end,
                                         float (&term)[1][V]) const
    {
        sl_vec<V> dx;
#pragma unroll
        for (int k = 0; k < V; k++) {
            dx.v[k] = BY_A ? Row::term_a(r.dy.v[k], r.at.v[k], a.v[k], j.b)
                           : Row::term(r.dy.v[k], r.at.v[k], a.v[k], j.b);
            term[0][k] = dx.v[k];
        }
        if (!BY_A && j.y) sl_vec_store<V>(j.y, i, end, dx);
    }
};

/* The sum is per column where output number `output` has several elements, else over all. */
template <class Row, bool BY_A> static void launch_sums(const sl_call *call, const job &j, int output)
{
    const int64_t wide = sl_shape_count(call->out[output].shape);
    const sl_store_sum finish = {sl_out(call, output)};
    const slope_terms<Row, BY_A> terms = {j, wide == 1};
    float *sums = static_cast<float *>(call->workspace);
    if (wide == 1) {
        /* Whole rows count, so their elements are not counted by themselves. */
        const sl_vector x = {j.count, call->batch, call->valid, j.y != nullptr};
        sl_sum_vector(call, x, terms, finish, sums);
    } else {
        const sl_columns c = {
            1, j.columns ? j.count / j.columns : 0, j.columns, call->batch, call->valid, j.y != nullptr};
        sl_sum_columns(call, c, terms, finish, sums);
    }
}

/* --- from an operation to the kernels of its row --- */

/* Columns that a thread must know, 1 where no value belongs to one. */
static int64_t columns_of(const job &j)
{
    return j.bias_wide || j.a_wide ? j.columns : 1;
}

template <class Row> static void launch_forward(const sl_call *call, const job &j)
{
    const forward<Row> f = {j};
    sl_each(call, f, j.count, columns_of(j));
}

template <class Row, bool BY_A> static void launch_backward(const sl_call *call, const job &j)
{
    const backward<Row, BY_A> f = {j};
    sl_each(call, f, j.count, columns_of(j));
}

/* Only a row with a parameter that can be learned has kernels for it. */
template <class Row, bool LEARNABLE_ROW> struct by_parameter {
    static void sums(const sl_call *call, const job &j, int output)
    {
        launch_sums<Row, true>(call, j, output);
    }
    static void terms(const sl_call *call, const job &j)
    {
        launch_backward<Row, true>(call, j);
    }
};
template <class Row> struct by_parameter<Row, false> {
    static constexpr void (*sums)(const sl_call *, const job &, int) = nullptr;
    static constexpr void (*terms)(const sl_call *, const job &) = nullptr;
};

static const struct row_launches {
    bool reads_nothing;
    void (*forward)(const sl_call *call, const job &j);
    void (*backward)(const sl_call *call, const job &j);
    void (*backward_sums)(const sl_call *call, const job &j, int output);
    void (*parameter_sums)(const sl_call *call, const job &j, int output);
    void (*parameter_terms)(const sl_call *call, const job &j);
} rows[SL_ROW_COUNT] = {
#define ACTIVATION(id, name, parameters, reads, F, G, H, kinks)                                              \
    {reads,                                                                                                  \
     launch_forward<row_##id>,                                                                               \
     launch_backward<row_##id, false>,                                                                       \
     launch_sums<row_##id, false>,                                                                           \
     by_parameter<row_##id, parameters>::sums,                                                               \
     by_parameter<row_##id, parameters>::terms},
#include "slope/activations.def"
#undef ACTIVATION
};

static int row_of(const sl_call *call)
{
    return static_cast<const sl_activation_attr *>(call->attr)->id;
}

static job job_of(const sl_call *call)
{
    job j = {};
    j.count = sl_shape_count(call->in[0].shape);
    j.columns = sl_shape_last(call->in[0].shape);
    return j;
}

static void set_activation(job *j, const sl_call *call, int parameter_input)
{
    const sl_activation_attr *attr = static_cast<const sl_activation_attr *>(call->attr);
    j->a_value = attr->a;
    j->b = attr->b;
    if (call->n_in <= parameter_input) return;
    j->a = sl_in(call, parameter_input);
    j->a_wide = sl_shape_count(call->in[parameter_input].shape) > 1;
}

static void set_bias(job *j, const sl_call *call)
{
    j->bias = sl_in(call, 1);
    j->bias_wide = sl_shape_count(call->in[1].shape) > 1;
}

/* Inputs of every slope: dy, then what the row reads, then the learned parameter. */
static job slope_job(const sl_call *call)
{
    const bool reads_nothing = rows[row_of(call)].reads_nothing;
    job j = job_of(call);
    set_activation(&j, call, reads_nothing ? 1 : 2);
    j.dy = sl_in(call, 0);
    j.at = reads_nothing ? nullptr : sl_in(call, 1);
    return j;
}

static void run_activation(const sl_call *call)
{
    job j = job_of(call);
    set_activation(&j, call, 1);
    j.x = sl_in(call, 0);
    j.y = sl_out(call, 0);
    rows[row_of(call)].forward(call, j);
}

static void run_bias(const sl_call *call)
{
    job j = job_of(call);
    set_bias(&j, call);
    j.x = sl_in(call, 0);
    j.y = sl_out(call, 0);
    launch_forward<row_none>(call, j);
}

static void run_bias_activation(const sl_call *call)
{
    job j = job_of(call);
    set_activation(&j, call, 2);
    set_bias(&j, call);
    j.x = sl_in(call, 0);
    j.y = sl_out(call, 0);
    j.z = call->n_out > 1 ? sl_out(call, 1) : nullptr;
    rows[row_of(call)].forward(call, j);
}

static void run_activation_vjp(const sl_call *call)
{
    job j = slope_job(call);
    j.y = sl_out(call, 0);
    rows[row_of(call)].backward(call, j);
}

static void run_activation_vjp_bias(const sl_call *call)
{
    job j = slope_job(call);
    j.y = sl_out(call, 0);
    if (sl_out(call, 1))
        rows[row_of(call)].backward_sums(call, j, 1);
    else
        rows[row_of(call)].backward(call, j);
}

static bool supports_parameter(const sl_call *call)
{
    return rows[row_of(call)].parameter_sums != nullptr;
}

static void run_activation_vjp_parameter(const sl_call *call)
{
    rows[row_of(call)].parameter_sums(call, slope_job(call), 0);
}

static void run_activation_jvp_parameter(const sl_call *call)
{
    job j = slope_job(call);
    j.y = sl_out(call, 0);
    rows[row_of(call)].parameter_terms(call, j);
}

static void run_bias_vjp(const sl_call *call)
{
    job j = job_of(call);
    j.dy = sl_in(call, 0);
    launch_sums<row_none, false>(call, j, 0);
}

static size_t first_output_workspace(const sl_call *call)
{
    return sl_sums_workspace(call, 0);
}

static size_t second_output_workspace(const sl_call *call)
{
    return sl_sums_workspace(call, 1);
}

} // namespace

SL_CUDA_KERNELS(activation) = {
    {SL_OP_ACTIVATION, "fours", nullptr, nullptr, run_activation},
    {SL_OP_ACTIVATION_VJP, "fours", nullptr, nullptr, run_activation_vjp},
    {SL_OP_ACTIVATION_VJP_PARAMETER, "leaves", supports_parameter, first_output_workspace,
     run_activation_vjp_parameter},
    {SL_OP_ACTIVATION_JVP_PARAMETER, "fours", supports_parameter, nullptr, run_activation_jvp_parameter},
    {SL_OP_BIAS, "fours", nullptr, nullptr, run_bias},
    {SL_OP_BIAS_VJP, "leaves", nullptr, first_output_workspace, run_bias_vjp},
    {SL_OP_BIAS_ACTIVATION, "fours", nullptr, nullptr, run_bias_activation},
    {SL_OP_ACTIVATION_VJP_BIAS, "leaves", nullptr, second_output_workspace, run_activation_vjp_bias},
    {},
};
