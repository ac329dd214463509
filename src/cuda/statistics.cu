/* What a diagnosis reads: the state of activations, and how far a step moves the weights. Every warp makes
 * the sums of a leaf block, the last block of threads what becomes of them. Bytes per element: 4 for a value,
 * 4 for what its slope reads where that is another; 12 for a weight. */
#include "cuda/activation.cuh"
#include "cuda/formula.cuh"
#include "cuda/reduce.cuh"

/* Types too: those of two files may have one name. */
namespace
{

static constexpr int WARPS = SL_BLOCK / 32;

/* --- activations --- */

struct state_job {
    const float *y, *at, *a; /* a NULL: a_value */
    const float *slopes;     /* NULL: those of the row */
    int row;
    float a_value, b, *out;
    bool a_wide;
    int64_t units, rows, batch;
    const int32_t *valid;
    float *sums, *means, *squares; /* of each leaf block */
    int32_t *active, *passing;     /* of each leaf block, of each unit */
    unsigned *counter;
};

static __device__ __forceinline__ float slope_of(const state_job &j, int64_t i, int64_t unit)
{
    if (j.slopes) return j.slopes[i];
    const float at[1] = {j.at ? j.at[i] : 0.0f}, a[1] = {j.a ? j.a[j.a_wide ? unit : 0] : j.a_value};
    float slope[1] = {1.0f};
    sl_cuda_row_terms<1>(j.row, at, a, j.b, slope);
    return slope[0];
}

static __device__ __forceinline__ void leaf_state(const state_job &j, int64_t leaf, int64_t n)
{
    const int lane = (int)threadIdx.x % 32;
    const int64_t start = leaf * SL_LEAF, end = sl_smaller(start + SL_LEAF, n), step = SL_LANES % j.units;
    int64_t unit = (start + lane) % j.units;
    float sum = 0.0f, square = 0.0f;
    int32_t active = 0;
    for (int64_t i = start + lane; i < end; i += SL_LANES) {
        const float size = r_abs(slope_of(j, i, unit));
        sum += j.y[i];
        active += size >= 0.01f;
        if (size > 0 && !j.passing[unit]) j.passing[unit] = 1; /* whoever comes first */
        unit += step;
        if (unit >= j.units) unit -= j.units;
    }
    sum = __shfl_sync(SL_ALL_LANES, sl_fold_lanes(sum), 0);
    const float mean = sum / (float)(end - start);
    for (int64_t i = start + lane; i < end; i += SL_LANES) square += (j.y[i] - mean) * (j.y[i] - mean);
    square = sl_fold_lanes(square);
#pragma unroll
    for (int half = 16; half > 0; half /= 2) active += __shfl_down_sync(SL_ALL_LANES, active, half);
    if (lane != 0) return;
    j.sums[leaf] = sum;
    j.means[leaf] = mean;
    j.squares[leaf] = square;
    j.active[leaf] = active;
}

/* By one block, from the leaf blocks' numbers. */
static __device__ __forceinline__ void join_state(const state_job &j, int64_t leaves, int64_t n,
                                                  int64_t *counts)
{
    sl_combine_leaves<true>(j.sums, leaves, 1, 1);
    const float mean = leaves > 0 ? sl_cuda_fresh(j.sums) / (float)n : 0.0f;
    int64_t active = 0, dead = 0;
    for (int64_t leaf = threadIdx.x; leaf < leaves; leaf += blockDim.x) {
        const float d = sl_cuda_fresh(j.means + leaf) - mean;
        const int64_t size = sl_smaller(SL_LEAF, n - leaf * SL_LEAF);
        j.squares[leaf] = sl_cuda_fresh(j.squares + leaf) + (float)size * (d * d);
        active += sl_cuda_fresh(j.active + leaf);
    }
    for (int64_t u = threadIdx.x; u < j.units; u += blockDim.x) dead += sl_cuda_fresh(j.passing + u) == 0;
    counts[2 * threadIdx.x] = active;
    counts[2 * threadIdx.x + 1] = dead;
    sl_combine_leaves<true>(j.squares, leaves, 1, 1);
    if (threadIdx.x > 0) return;
    for (unsigned t = 1; t < blockDim.x; t++) {
        active += counts[2 * t];
        dead += counts[2 * t + 1];
    }
    j.out[0] = mean;
    j.out[1] = leaves > 0 ? r_sqrt(sl_cuda_fresh(j.squares) / (float)n) : 0.0f;
    j.out[2] = leaves > 0 ? (float)active / (float)n : 0.0f;
    j.out[3] = (float)dead / (float)j.units;
}

static __global__ void __launch_bounds__(SL_BLOCK) state_kernel(const __grid_constant__ state_job j)
{
    sl_cuda_begin();
    SL_SHARED(int64_t, counts);
    const int64_t n = sl_cuda_valid_rows(j.valid, j.batch, j.rows) * j.units, leaves = sl_leaves(n);
    for (int64_t leaf = sl_cuda_thread() / 32; leaf < leaves; leaf += sl_cuda_threads() / 32)
        leaf_state(j, leaf, n);
    if (sl_cuda_last(j.counter, gridDim.x)) join_state(j, leaves, n, counts);
}

static __global__ void __launch_bounds__(SL_BLOCK) clear_kernel(int32_t *passing, int64_t units)
{
    sl_cuda_begin();
    for (int64_t u = sl_cuda_thread(); u < units; u += sl_cuda_threads()) passing[u] = 0;
}

static int64_t state_leaves(const sl_call *call)
{
    return sl_leaves(sl_shape_count(call->in[0].shape));
}

/* Behind the rest the slopes of a formula. */
static int64_t slopes_at(const sl_call *call)
{
    return (4 * state_leaves(call) + sl_shape_last(call->in[0].shape) + 63) / 64 * 64;
}

static size_t state_workspace(const sl_call *call)
{
    const bool formula = static_cast<const sl_activation_attr *>(call->attr)->formula != nullptr;
    return (size_t)(slopes_at(call) + (formula ? sl_shape_count(call->in[0].shape) : 0)) * sizeof(float);
}

static void activation_statistics(const sl_call *call)
{
    const sl_activation_attr *attr = static_cast<const sl_activation_attr *>(call->attr);
    const int64_t leaves = state_leaves(call);
    state_job j = {};
    j.y = sl_in(call, 0);
    if (attr->formula) {
        float *slopes = static_cast<float *>(call->workspace) + slopes_at(call);
        sl_cuda_formula_slopes(call, slopes);
        j.slopes = slopes;
    } else {
        const int parameter = sl_activation_row_info(attr->id)->reads == SL_READS_NOTHING ? 1 : 2;
        j.at = parameter == 2 ? sl_in(call, 1) : nullptr;
        j.row = attr->id;
        j.a_value = attr->a;
        j.b = attr->b;
        if (call->n_in > parameter) {
            j.a = sl_in(call, parameter);
            j.a_wide = sl_shape_count(call->in[parameter].shape) > 1;
        }
    }
    j.out = sl_out(call, 0);
    j.units = sl_shape_last(call->in[0].shape);
    j.rows = sl_shape_count(call->in[0].shape) / j.units;
    j.batch = call->batch;
    j.valid = call->valid;
    j.sums = static_cast<float *>(call->workspace);
    j.means = j.sums + leaves;
    j.squares = j.means + leaves;
    j.active = reinterpret_cast<int32_t *>(j.squares + leaves);
    j.passing = j.active + leaves;
    j.counter = sl_cuda_counters(call->device);
    SL_LAUNCH(clear_kernel, sl_cuda_grid(call, j.units, SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call, j.passing,
              j.units);
    SL_LAUNCH(state_kernel, sl_cuda_grid(call, leaves, WARPS, SL_RESIDENT), SL_BLOCK,
              2 * SL_BLOCK * sizeof(int64_t), call, j);
}

/* --- weights --- */

/* NORMS: of the gradient, of the weight before the step, of the step. More stretches than fit are taken in
 * several launches. */
enum { NORMS = 3, STRETCHES = 64 };
struct norms_job {
    const float *before, *after, *gradient;
    float *sums, *out; /* [leaf][NORMS], [stretch][2] */
    unsigned *counter;
    int64_t leaves;
    int n;
    struct {
        int64_t first, count, leaf;
    } stretch[STRETCHES];
};

static __device__ __forceinline__ void leaf_norms(const norms_job &j, int64_t leaf)
{
    int s = 0;
    while (s + 1 < j.n && j.stretch[s + 1].leaf <= leaf) s++;
    const int lane = (int)threadIdx.x % 32;
    const int64_t from = (leaf - j.stretch[s].leaf) * SL_LEAF;
    const int64_t start = j.stretch[s].first + from, n = sl_smaller(SL_LEAF, j.stretch[s].count - from);
    float acc[NORMS] = {};
    for (int64_t i = start + lane; i < start + n; i += SL_LANES) {
        const float w = j.before[i], g = j.gradient[i], d = j.after[i] - w;
        acc[0] += g * g;
        acc[1] += w * w;
        acc[2] += d * d;
    }
#pragma unroll
    for (int k = 0; k < NORMS; k++) {
        const float sum = sl_fold_lanes(acc[k]);
        if (lane == 0) j.sums[leaf * NORMS + k] = sum;
    }
}

static __global__ void __launch_bounds__(SL_BLOCK) norms_kernel(const __grid_constant__ norms_job j)
{
    sl_cuda_begin();
    for (int64_t leaf = sl_cuda_thread() / 32; leaf < j.leaves; leaf += sl_cuda_threads() / 32)
        leaf_norms(j, leaf);
    if (!sl_cuda_last(j.counter, gridDim.x)) return;
    for (int s = 0; s < j.n; s++) {
        float *sums = j.sums + j.stretch[s].leaf * NORMS;
        sl_combine_leaves<true>(sums, sl_leaves(j.stretch[s].count), NORMS, NORMS);
        if (threadIdx.x > 0) continue;
        const float weight = sl_cuda_fresh(sums + 1);
        j.out[2 * s] = r_sqrt(sl_cuda_fresh(sums));
        j.out[2 * s + 1] = weight == 0 ? 0.0f : r_sqrt(sl_cuda_fresh(sums + 2)) / r_sqrt(weight);
    }
}

static size_t norms_workspace(const sl_call *call)
{
    const sl_stretches_attr *attr = static_cast<const sl_stretches_attr *>(call->attr);
    int64_t leaves = 0;
    for (int s = 0; s < attr->n; s++) leaves += sl_leaves(attr->stretch[s].count);
    return (size_t)leaves * NORMS * sizeof(float);
}

static void weight_statistics(const sl_call *call)
{
    const sl_stretches_attr *attr = static_cast<const sl_stretches_attr *>(call->attr);
    norms_job j = {};
    j.before = sl_in(call, 0);
    j.after = sl_in(call, 1);
    j.gradient = sl_in(call, 2);
    j.sums = static_cast<float *>(call->workspace);
    j.counter = sl_cuda_counters(call->device);
    for (int s = 0; s < attr->n; s += j.n) {
        j.out = sl_out(call, 0) + 2 * s;
        j.leaves = 0;
        for (j.n = 0; j.n < STRETCHES && s + j.n < attr->n; j.n++) {
            const sl_segment *stretch = &attr->stretch[s + j.n];
            j.stretch[j.n] = {stretch->first, stretch->count, j.leaves};
            j.leaves += sl_leaves(stretch->count);
        }
        SL_LAUNCH(norms_kernel, sl_cuda_grid(call, j.leaves, WARPS, SL_RESIDENT), SL_BLOCK, 0, call, j);
    }
}

} // namespace

SL_CUDA_KERNELS(statistics) = {
    {SL_OP_ACTIVATION_STATISTICS, "leaves", nullptr, state_workspace, activation_statistics},
    {SL_OP_WEIGHT_STATISTICS, "leaves", nullptr, norms_workspace, weight_statistics},
    {}};
