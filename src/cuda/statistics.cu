/* What an activation is doing: mean and spread of its values, how many of them still pass a gradient. Four
 * launches or more, and only where diagnosis is asked for. Bytes per element: 12. */
#include "cuda/reduce.cuh"

/* Types too: those of two files may have one name. */
namespace
{

struct statistics_job {
    const float *x;
    float *out;
    int64_t units, rows, batch;
    const int32_t *valid;
    __device__ __forceinline__ int64_t valid_rows(void) const
    {
        return sl_cuda_valid_rows(valid, batch, rows);
    }
};

/* x, or (x - mean)² with the mean that the launch before has left in out[0]. */
template <bool CENTRED> struct moment_terms : sl_plain_terms {
    statistics_job j;
    template <int V> __device__ __forceinline__ sl_vec<V> load(int64_t i, int64_t end) const
    {
        return sl_vec_load<V>(j.x, i, end);
    }
    template <int V>
    __device__ __forceinline__ void make(const Column<V> &, const sl_vec<V> &r, int64_t, int64_t,
                                         float (&term)[1][V]) const
    {
        const float mean = CENTRED ? j.out[0] : 0.0f;
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float d = CENTRED ? r.v[k] - mean : r.v[k];
            term[0][k] = CENTRED ? d * d : d;
        }
    }
};

template <bool CENTRED> struct store_moment {
    statistics_job j;
    __device__ __forceinline__ void operator()(int64_t, const float (&total)[1]) const
    {
        const int64_t n = j.valid_rows() * j.units;
        const float mean = n > 0 ? total[0] / (float)n : 0.0f;
        j.out[CENTRED] = CENTRED ? r_sqrt(mean) : mean;
    }
};

/* Slopes of at least 0.01, and slopes that are not 0: counts, exact in the at most SL_LEAF terms of a leaf
 * block. */
struct passing_terms {
    enum { SETS = 2 };
    template <int V> struct Column {
    };
    template <int V> using Raw = sl_vec<V>;
    const float *slope;
    template <int V> __device__ __forceinline__ Column<V> at(int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ int64_t row(int64_t, int64_t r) const
    {
        return r;
    }
    template <int V> __device__ __forceinline__ sl_vec<V> load(int64_t i, int64_t end) const
    {
        return sl_vec_load<V>(slope, i, end);
    }
    template <int V>
    __device__ __forceinline__ void make(const Column<V> &, const sl_vec<V> &r, int64_t, int64_t,
                                         float (&term)[2][V]) const
    {
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float size = r_abs(r.v[k]);
            term[0][k] = size >= 0.01f ? 1.0f : 0.0f;
            term[1][k] = size > 0 ? 1.0f : 0.0f;
        }
    }
};

/* Not called: the leaf blocks' counts are added as integers. */
struct no_finish {
    __device__ __forceinline__ void operator()(int64_t, const float (&)[2]) const
    {
    }
};

/* One block. counts [2][leaves of all rows][units]; those of leaf blocks that do not count are 0. */
static __global__ void __launch_bounds__(SL_BLOCK)
    count_kernel(const __grid_constant__ statistics_job j, const float *counts)
{
    sl_cuda_begin();
    SL_SHARED(int64_t, shared); /* active, dead of each thread */
    const int64_t leaves = sl_leaves(j.rows), rows = j.valid_rows();
    int64_t active = 0, dead = 0;
    for (int64_t u = threadIdx.x; u < j.units; u += blockDim.x) {
        int64_t nonzero = 0;
        for (int64_t leaf = 0; leaf < leaves; leaf++) {
            active += (int64_t)counts[leaf * j.units + u];
            nonzero += (int64_t)counts[(leaves + leaf) * j.units + u];
        }
        dead += nonzero == 0;
    }
    shared[2 * threadIdx.x] = active;
    shared[2 * threadIdx.x + 1] = dead;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (unsigned t = 1; t < blockDim.x; t++) {
        active += shared[2 * t];
        dead += shared[2 * t + 1];
    }
    j.out[2] = rows > 0 ? (float)active / (float)(rows * j.units) : 0.0f;
    j.out[3] = (float)dead / (float)j.units;
}

static size_t statistics_workspace(const sl_call *call)
{
    const int64_t count = sl_shape_count(call->in[0].shape), units = sl_shape_last(call->in[0].shape);
    const size_t sums = sl_flat_workspace(count), counts = 2 * (size_t)(sl_leaves(count / units) * units);
    return (sums > counts ? sums : counts) * sizeof(float);
}

static void activation_statistics(const sl_call *call)
{
    statistics_job j = {};
    j.x = sl_in(call, 0);
    j.out = sl_out(call, 0);
    j.units = sl_shape_last(call->in[0].shape);
    j.rows = sl_shape_count(call->in[0].shape) / j.units;
    j.batch = call->batch;
    j.valid = call->valid;
    float *workspace = static_cast<float *>(call->workspace);
    const sl_vector x = {j.rows * j.units, call->batch, call->valid, false};
    moment_terms<false> values = {};
    moment_terms<true> squares = {};
    values.j = squares.j = j;
    const store_moment<false> mean = {j};
    const store_moment<true> spread = {j};
    sl_sum_vector(call, x, values, mean, workspace);
    sl_sum_vector(call, x, squares, spread, workspace);
    const sl_columns c = {1, j.rows, j.units, call->batch, call->valid, false};
    const passing_terms slopes = {sl_in(call, 1)};
    if (j.rows > 0) sl_column_leaves(call, c, slopes, no_finish(), workspace);
    SL_LAUNCH(count_kernel, 1, SL_BLOCK, 2 * SL_BLOCK * sizeof(int64_t), call, j, workspace);
}

} // namespace

SL_CUDA_KERNELS(statistics) = {
    {SL_OP_ACTIVATION_STATISTICS, "leaves", nullptr, statistics_workspace, activation_statistics}, {}};
