/* Batch normalisation over all dimensions but the last; the formulas stand in cpu/norm.c. Launches: sums of
 * the mean, of the variance, then every element (with more than SL_LEAF rows each sum takes two); backward
 * one sum of both gradients, then every element. Bytes per element: forward 4 + 4 + 8, backward 8 + 12, with
 * fixed statistics 8 and 8 + 8. */
#include "cuda/activation.cuh"
#include "cuda/reduce.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* What a call knows; statistics lie in the workspace [4][c] or where a tensor is. */
struct norm_job {
    const float *x, *dy, *gamma, *beta, *mean, *variance;
    float *out;
    float *own_mean, *own_invstd, *total, *total2; /* [c] each, of the workspace */
    float *sums;
    sl_batch_norm_attr a;
    int64_t c, rows, batch;
    const int32_t *valid;
};

/* x normalised; with an activation behind it, what goes into that. */
static __device__ __forceinline__ float normalised(float x, float mean, float invstd, float gamma, float beta)
{
    return (x - mean) * invstd * gamma + beta;
}

static __device__ __forceinline__ int64_t valid_rows(const norm_job &j)
{
    return sl_cuda_valid_rows(j.valid, j.batch, j.rows);
}

static __device__ __forceinline__ float invert(float variance, float epsilon)
{
    return 1 / r_sqrt(variance + epsilon);
}

static norm_job job_of(const sl_call *call)
{
    norm_job j = {};
    float *w = static_cast<float *>(call->workspace);
    j.c = sl_shape_last(call->in[0].shape);
    j.rows = sl_shape_rows(call->in[0].shape);
    j.batch = call->batch;
    j.valid = call->valid;
    j.a = *static_cast<const sl_batch_norm_attr *>(call->attr);
    j.out = sl_out(call, 0);
    if (!w) return j;
    const int64_t room = (j.c + 15) / 16 * 16; /* each vector begins at a multiple of 64 bytes */
    j.own_mean = w;
    j.own_invstd = w + room;
    j.total = w + 2 * room;
    j.total2 = w + 3 * room;
    j.sums = w + 4 * room;
    return j;
}

static size_t norm_workspace(const sl_call *call)
{
    const int64_t c = sl_shape_last(call->in[0].shape), rows = sl_shape_rows(call->in[0].shape);
    return sizeof(float) * ((size_t)(4 * ((c + 15) / 16 * 16)) + sl_column_workspace(2, 1, rows, c));
}

static sl_columns columns_of(const norm_job &j)
{
    return {1, j.rows, j.c, j.batch, j.valid, false};
}

/* --- sums --- */

struct variance_terms {
    enum { SETS = 1 };
    template <int V> using Column = sl_vec<V>; /* mean */
    template <int V> using Raw = sl_vec<V>;
    const float *x, *mean;
    __device__ __forceinline__ int64_t row(int64_t, int64_t r) const
    {
        return r;
    }
    template <int V> __device__ __forceinline__ sl_vec<V> at(int64_t column) const
    {
        return sl_vec_load<V>(mean, column, column + V);
    }
    template <int V> __device__ __forceinline__ sl_vec<V> load(int64_t i, int64_t end) const
    {
        return sl_vec_load<V>(x, i, end);
    }
    template <int V>
    __device__ __forceinline__ void make(const sl_vec<V> &m, const sl_vec<V> &r, int64_t, int64_t,
                                         float (&term)[1][V]) const
    {
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float d = r.v[k] - m.v[k];
            term[0][k] = d * d;
        }
    }
};

template <int V> struct statistics {
    sl_vec<V> mean, invstd, gamma, beta; /* the last two where an activation follows */
};
template <int V> struct two_inputs {
    sl_vec<V> dy, x;
};

/* ACTIVATED: an activation follows; its slopes go to `out`, from where the second kernel reads them. */
template <bool ACTIVATED> struct gradient_terms {
    enum { SETS = 2 };
    template <int V> using Column = statistics<V>;
    template <int V> using Raw = two_inputs<V>;
    norm_job j;
    __device__ __forceinline__ int64_t row(int64_t, int64_t r) const
    {
        return r;
    }
    template <int V> __device__ __forceinline__ statistics<V> at(int64_t column) const
    {
        statistics<V> s = {};
        s.mean = sl_vec_load<V>(j.mean, column, column + V);
        s.invstd = sl_vec_load<V>(j.variance, column, column + V);
        if (ACTIVATED) {
            s.gamma = sl_vec_load<V>(j.gamma, column, column + V);
            s.beta = sl_vec_load<V>(j.beta, column, column + V);
        }
#pragma unroll
        for (int k = 0; k < V; k++) s.invstd.v[k] = invert(s.invstd.v[k], j.a.epsilon);
        return s;
    }
    template <int V> __device__ __forceinline__ two_inputs<V> load(int64_t i, int64_t end) const
    {
        return {sl_vec_load<V>(j.dy, i, end), sl_vec_load<V>(j.x, i, end)};
    }
    template <int V>
    __device__ __forceinline__ void make(const statistics<V> &s, const two_inputs<V> &r, int64_t i,
                                         int64_t end, float (&term)[2][V]) const
    {
        sl_vec<V> dy = r.dy;
        if (ACTIVATED) {
            float z[V];
#pragma unroll
            for (int k = 0; k < V; k++)
                z[k] = normalised(r.x.v[k], s.mean.v[k], s.invstd.v[k], s.gamma.v[k], s.beta.v[k]);
            sl_cuda_row_slopes<V>(j.a.activation.id, z, j.a.activation.a, j.a.activation.b, dy.v);
            sl_vec_store<V>(j.out, i, end, dy);
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float xhat = (r.x.v[k] - s.mean.v[k]) * s.invstd.v[k];
            term[0][k] = dy.v[k];
            term[1][k] = dy.v[k] * xhat;
        }
    }
};

struct store_mean {
    norm_job j;
    float *mean; /* output, or NULL */
    __device__ __forceinline__ void operator()(int64_t c, const float (&total)[1]) const
    {
        const int64_t rows = valid_rows(j);
        const float value = total[0] / (float)(rows ? rows : 1);
        j.own_mean[c] = value;
        if (mean) mean[c] = value;
    }
};

/* running = (1-momentum)·running + momentum·batch */
struct running {
    float *mean, *variance;
    float momentum;
    __device__ __forceinline__ void take(int64_t c, int64_t rows, float batch_mean,
                                         float batch_variance) const
    {
        const float unbias = (float)rows / (float)(rows - 1);
        if (rows < 2) return; /* one row has no variance: the running values stay */
        mean[c] = (1 - momentum) * mean[c] + momentum * batch_mean;
        variance[c] = (1 - momentum) * variance[c] + momentum * (batch_variance * unbias);
    }
};

struct store_variance {
    norm_job j;
    float *variance;
    running kept;
    __device__ __forceinline__ void operator()(int64_t c, const float (&total)[1]) const
    {
        const int64_t rows = valid_rows(j);
        const float value = total[0] / (float)(rows ? rows : 1);
        j.own_invstd[c] = invert(value, j.a.epsilon);
        if (variance) variance[c] = value;
        if (j.a.tracks) kept.take(c, rows, j.own_mean[c], value);
    }
};

/* The gradients of gamma and beta, and per row of the batch, which the gradient of x wants. */
struct store_gradients {
    norm_job j;
    float *dgamma, *dbeta;
    __device__ __forceinline__ void operator()(int64_t c, const float (&total)[2]) const
    {
        const int64_t rows = valid_rows(j);
        if (dgamma) dgamma[c] = total[1];
        if (dbeta) dbeta[c] = total[0];
        j.total[c] = total[0] / (float)(rows ? rows : 1);
        j.total2[c] = total[1] / (float)(rows ? rows : 1);
    }
};

/* --- every element --- */

template <bool ACTIVATED> struct normalise {
    norm_job j;
    bool from_variance; /* the statistics are inputs */
    float parameter[4]; /* of the activation behind */
    struct Column {
        sl_vec<4> mean, invstd, gamma, beta;
    };
    typedef sl_vec<4> Raw;
    __device__ __forceinline__ Column at(int64_t column) const
    {
        Column c;
        c.mean = sl_vec_columns<4>(from_variance ? j.mean : j.own_mean, true, column, j.c);
        c.invstd = sl_vec_columns<4>(from_variance ? j.variance : j.own_invstd, true, column, j.c);
        c.gamma = sl_vec_columns<4>(j.gamma, true, column, j.c);
        c.beta = sl_vec_columns<4>(j.beta, true, column, j.c);
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (from_variance) c.invstd.v[k] = invert(c.invstd.v[k], j.a.epsilon);
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
            x.v[k] = normalised(x.v[k], c.mean.v[k], c.invstd.v[k], c.gamma.v[k], c.beta.v[k]);
        if (ACTIVATED) sl_cuda_row_values<4>(j.a.activation.id, x.v, parameter, j.a.activation.b);
        sl_vec_store<4>(j.out, i, end, x);
    }
};

/* dx, exactly 0 in rows that do not count. WHOLE: the statistics depend on x. */
template <bool WHOLE> struct gradient_x {
    norm_job j;
    struct Column {
        sl_vec<4> mean, invstd, gain, total, total2;
    };
    typedef two_inputs<4> Raw;
    __device__ __forceinline__ Column at(int64_t column) const
    {
        Column c = {};
        const sl_vec<4> gamma = sl_vec_columns<4>(j.gamma, true, column, j.c);
        c.invstd = sl_vec_columns<4>(j.variance, true, column, j.c);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            c.invstd.v[k] = invert(c.invstd.v[k], j.a.epsilon);
            c.gain.v[k] = gamma.v[k] * c.invstd.v[k];
        }
        if (!WHOLE) return c;
        c.mean = sl_vec_columns<4>(j.mean, true, column, j.c);
        c.total = sl_vec_columns<4>(j.total, true, column, j.c);
        c.total2 = sl_vec_columns<4>(j.total2, true, column, j.c);
        return c;
    }
    __device__ __forceinline__ Raw load(int64_t i, int64_t end) const
    {
        Raw r = {};
        r.dy = sl_vec_load<4>(j.dy, i, end);
        if (WHOLE) r.x = sl_vec_load<4>(j.x, i, end);
        return r;
    }
    __device__ __forceinline__ void run(const Column &c, const Raw &r, int64_t i, int64_t end) const
    {
        const int64_t counts = valid_rows(j) * j.c;
        sl_vec<4> dx;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float xhat = (r.x.v[k] - c.mean.v[k]) * c.invstd.v[k];
            const float slope = WHOLE ? r.dy.v[k] - c.total.v[k] - xhat * c.total2.v[k] : r.dy.v[k];
            dx.v[k] = i + k < counts ? c.gain.v[k] * slope : 0.0f;
        }
        sl_vec_store<4>(j.out, i, end, dx);
    }
};

/* --- calls --- */

static void batch_norm(const sl_call *call)
{
    norm_job j = job_of(call);
    j.x = sl_in(call, 0);
    j.gamma = sl_in(call, 1);
    j.beta = sl_in(call, 2);
    sl_element_terms<false> values = {};
    values.x = j.x;
    const store_mean mean = {j, sl_out(call, 1)};
    sl_sum_columns(call, columns_of(j), values, mean, j.sums);
    const variance_terms squares = {j.x, j.own_mean};
    const store_variance variance = {
        j,
        sl_out(call, 2),
        {static_cast<float *>(call->in[3].data), static_cast<float *>(call->in[4].data), j.a.momentum}};
    sl_sum_columns(call, columns_of(j), squares, variance, j.sums);
    const float a = j.a.activation.a;
    const normalise<false> alone = {j, false, {}};
    const normalise<true> activated = {j, false, {a, a, a, a}};
    if (!j.out) return;
    if (j.a.activated)
        sl_each(call, activated, j.rows * j.c, j.c);
    else
        sl_each(call, alone, j.rows * j.c, j.c);
}

static void batch_norm_apply(const sl_call *call)
{
    norm_job j = job_of(call);
    j.x = sl_in(call, 0);
    j.gamma = sl_in(call, 1);
    j.beta = sl_in(call, 2);
    j.mean = sl_in(call, 3);
    j.variance = sl_in(call, 4);
    const normalise<false> f = {j, true, {}};
    sl_each(call, f, j.rows * j.c, j.c);
}

/* Inputs dy, x, gamma, mean, variance; outputs dx, dgamma, dbeta. */
static void run_gradient(const sl_call *call, bool whole)
{
    norm_job j = job_of(call);
    j.dy = sl_in(call, 0);
    j.x = sl_in(call, 1);
    j.gamma = sl_in(call, 2);
    j.mean = sl_in(call, 3);
    j.variance = sl_in(call, 4);
    const store_gradients finish = {j, sl_out(call, 1), sl_out(call, 2)};
    if (j.a.activated) {
        j.beta = sl_in(call, 5);
        const gradient_terms<true> terms = {j};
        sl_sum_columns(call, columns_of(j), terms, finish, j.sums);
        j.dy = j.out;
    } else if (whole || finish.dgamma || finish.dbeta) {
        const gradient_terms<false> terms = {j};
        sl_sum_columns(call, columns_of(j), terms, finish, j.sums);
    }
    if (!j.out) return;
    const gradient_x<true> all = {j};
    const gradient_x<false> fixed = {j};
    if (whole)
        sl_each(call, all, j.rows * j.c, j.c);
    else
        sl_each(call, fixed, j.rows * j.c, j.c);
}

static void batch_norm_vjp(const sl_call *call)
{
    run_gradient(call, true);
}

static void batch_norm_apply_vjp(const sl_call *call)
{
    run_gradient(call, false);
}

/* --- running statistics --- */

struct track_job {
    const float *mean, *variance;
    running kept;
    int64_t c, rows, batch;
    const int32_t *valid;
};

static __global__ void __launch_bounds__(SL_BLOCK) track_kernel(const __grid_constant__ track_job j)
{
    sl_cuda_begin();
    const int64_t rows = sl_cuda_valid_rows(j.valid, j.batch, j.rows);
    for (int64_t i = sl_cuda_thread(); i < j.c; i += sl_cuda_threads())
        j.kept.take(i, rows, j.mean[i], j.variance[i]);
}

static void batch_norm_track(const sl_call *call)
{
    const track_job j = {sl_in(call, 0),
                         sl_in(call, 1),
                         {static_cast<float *>(call->in[2].data), static_cast<float *>(call->in[3].data),
                          static_cast<const sl_batch_norm_attr *>(call->attr)->momentum},
                         sl_shape_count(call->in[0].shape),
                         sl_shape_rows(call->in[4].shape),
                         call->batch,
                         call->valid};
    if (j.c) SL_LAUNCH(track_kernel, sl_cuda_grid(call, j.c, SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call, j);
}

} // namespace

SL_CUDA_KERNELS(norm) = {
    {SL_OP_BATCH_NORM, "leaves", nullptr, norm_workspace, batch_norm},
    {SL_OP_BATCH_NORM_VJP, "leaves", nullptr, norm_workspace, batch_norm_vjp},
    {SL_OP_BATCH_NORM_APPLY, "fours", nullptr, nullptr, batch_norm_apply},
    {SL_OP_BATCH_NORM_APPLY_VJP, "leaves", nullptr, norm_workspace, batch_norm_apply_vjp},
    {SL_OP_BATCH_NORM_TRACK, "plain", nullptr, nullptr, batch_norm_track},
    {},
};
