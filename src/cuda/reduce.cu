/* Sums over whole tensors and over dimensions, by the reduction rule of core/sum.h. Bytes per element: 4,
 * each element being read once; MEAN_VJP writes 4. */
#include "cuda/reduce.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* --- sums of a whole tensor --- */

struct divisor {
    const int32_t *valid;
    int64_t batch, count;
    bool per_sample;
    __device__ __forceinline__ float operator()() const
    {
        return sl_mean_divisor(valid, batch, count, per_sample);
    }
};

static divisor divisor_of(const sl_call *call, sl_shape shape)
{
    const sl_mean_attr *attr = static_cast<const sl_mean_attr *>(call->attr);
    return {call->valid, call->batch, sl_shape_count(shape), attr->per_sample};
}

struct store_mean {
    float *to;
    divisor by;
    __device__ __forceinline__ void operator()(int64_t, const float (&total)[1]) const
    {
        *to = total[0] / by();
    }
};

struct store_root {
    float *to;
    __device__ __forceinline__ void operator()(int64_t, const float (&total)[1]) const
    {
        *to = r_sqrt(total[0]);
    }
};

static size_t flat_workspace(const sl_call *call)
{
    return sl_flat_workspace(sl_shape_count(call->in[0].shape)) * sizeof(float);
}

static void mean(const sl_call *call)
{
    const sl_vector x = {sl_shape_count(call->in[0].shape), call->batch, call->valid, false};
    sl_element_terms<false> terms = {};
    terms.x = sl_in(call, 0);
    const store_mean finish = {sl_out(call, 0), divisor_of(call, call->in[0].shape)};
    sl_sum_vector(call, x, terms, finish, static_cast<float *>(call->workspace));
}

static void norm(const sl_call *call)
{
    const sl_vector x = {sl_shape_count(call->in[0].shape), 1, nullptr, false};
    sl_element_terms<true> terms = {};
    terms.x = sl_in(call, 0);
    const store_root finish = {sl_out(call, 0)};
    sl_sum_vector(call, x, terms, finish, static_cast<float *>(call->workspace));
}

struct mean_slope {
    typedef sl_no_column Column, Raw;
    const float *dy;
    float *dx;
    divisor by;
    __device__ __forceinline__ Column at(int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ Raw load(int64_t, int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ void run(Column, Raw, int64_t i, int64_t end) const
    {
        const int64_t counts = sl_cuda_valid_rows(by.valid, by.batch, by.count);
        const float value = *dy / by();
        sl_vec<4> r;
#pragma unroll
        for (int k = 0; k < 4; k++) r.v[k] = i + k < counts ? value : 0.0f;
        sl_vec_store<4>(dx, i, end, r);
    }
};

static void mean_vjp(const sl_call *call)
{
    const mean_slope f = {sl_in(call, 0), sl_out(call, 0), divisor_of(call, call->out[0].shape)};
    sl_each(call, f, f.by.count, 1);
}

/* --- COUNT_CORRECT --- */

/* A warp for each row. A NaN is never greater, so one in front stays the best. */
static __global__ void __launch_bounds__(1024)
    count_kernel(const float *score, const int32_t *label, float *y, const int32_t *valid, int64_t batch,
                 int64_t all, int64_t k)
{
    sl_cuda_begin();
    SL_SHARED(int, counts);
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, warps = (int)blockDim.x / 32;
    const int64_t rows = sl_cuda_valid_rows(valid, batch, all);
    int correct = 0;
    for (int64_t r = warp; r < rows; r += warps) {
        const float *row = score + r * k;
        const float front = row[0];
        int64_t best = 0;
        float most = front;
        for (int64_t i = lane; i < k; i += 32)
            if (row[i] > most) most = row[i], best = i;
#pragma unroll
        for (int half = 16; half > 0; half /= 2) {
            const float other = __shfl_xor_sync(SL_ALL_LANES, most, half);
            const int64_t place = __shfl_xor_sync(SL_ALL_LANES, (long long)best, half);
            if (other > most || (other == most && place < best)) most = other, best = place;
        }
        if (k == 1) best = front > 0;
        correct += best == label[r];
    }
    if (lane == 0) counts[warp] = correct;
    __syncthreads();
    if (threadIdx.x > 0) return;
    int64_t sum = 0;
    for (int w = 0; w < warps; w++) sum += counts[w];
    *y = (float)sum;
}

static void count_correct(const sl_call *call)
{
    const int64_t k = sl_shape_last(call->in[0].shape), rows = k > 0 ? sl_shape_rows(call->in[0].shape) : 0;
    const unsigned warps = rows < 32 ? (unsigned)(rows + !rows) : 32;
    SL_LAUNCH(count_kernel, 1, warps * 32, warps * sizeof(int), call, sl_in(call, 0),
              static_cast<const int32_t *>(call->in[1].data), sl_out(call, 0), call->valid, call->batch, rows,
              k);
}

/* --- SUM_TO --- */

/* Neighbouring dimensions that are both kept or both summed are taken together; what is left are at most four
 * in turn. Padded to (kept, summed, kept, summed), with 1 where one is missing, or to (summed, kept, summed,
 * kept). In the first case the terms of a result are runs, in the second rows of results lie side by side. A
 * batch dimension that is summed is the slowest of all, so that the terms of the rows that count come first.
 */
struct plan {
    int64_t keep[2], sum[2]; /* extents, slow and fast */
    bool rows;               /* the last dimension is kept */
    bool batch_summed;
    int64_t terms; /* of a result, all rows counted */
};

static plan plan_of(const sl_call *call)
{
    const sl_shape in = call->in[0].shape, out = call->out[0].shape;
    plan p = {{1, 1}, {1, 1}, false, false, 0};
    int level = 1; /* the fast pair first */
    bool kept = false, started = false;
    for (int d = in.n - 1; d >= 0; d--) {
        const int o = d - (in.n - out.n);
        if (in.dim[d] == 1) continue;
        const bool keep = o >= 0 && out.dim[o] == in.dim[d];
        if (d == 0) p.batch_summed = !keep;
        if (!started)
            p.rows = keep;
        else if (keep != kept && keep == p.rows)
            level--;
        *(keep ? &p.keep[level] : &p.sum[level]) *= in.dim[d];
        kept = keep;
        started = true;
    }
    p.terms = p.sum[0] * p.sum[1];
    return p;
}

struct row_terms : sl_element_terms<false> {
    int64_t slow, inner; /* kept slow extent, summed fast extent */
    __device__ __forceinline__ int64_t row(int64_t group, int64_t r) const
    {
        return slow == 1 ? r : (r / inner * slow + group) * inner + r % inner;
    }
};

struct runs {
    plan p;
    const float *x;
    float *y, *sums; /* sums [result][leaf] */
    int64_t results, leaves, parts, batch;
    const int32_t *valid;
    unsigned *counters; /* of the results, where a result has several parts */
};

/* One leaf block of a result, by a warp; its first lane has the sum. `terms`: how many count. */
static __device__ __forceinline__ float sum_run(const runs &j, int64_t result, int64_t leaf, int64_t terms)
{
    const int64_t run = j.p.sum[1], stride = j.p.keep[1] * run;
    const float *x = j.x + result / j.p.keep[1] * j.p.sum[0] * stride + result % j.p.keep[1] * run;
    const int64_t end = sl_smaller((leaf + 1) * SL_LEAF, terms);
    float acc = 0;
    for (int64_t t = leaf * SL_LEAF + threadIdx.x % 32; t < end; t += SL_LANES)
        acc += x[t / run * stride + t % run];
    return sl_fold_lanes(acc);
}

/* A warp for each result, where one leaf block is all. */
static __global__ void __launch_bounds__(SL_BLOCK) short_runs_kernel(const __grid_constant__ runs j)
{
    sl_cuda_begin();
    const int64_t terms = sl_cuda_valid_rows(j.valid, j.batch, j.p.terms);
    for (int64_t result = sl_cuda_thread() / 32; result < j.results; result += sl_cuda_threads() / 32) {
        const float sum = sum_run(j, result, 0, terms);
        if (threadIdx.x % 32 == 0) j.y[result] = sum;
    }
}

/* Warps of `parts` blocks for the leaf blocks of each result; the last block makes the tree. */
static __global__ void __launch_bounds__(SL_BLOCK) long_runs_kernel(const __grid_constant__ runs j)
{
    sl_cuda_begin();
    const int64_t terms = sl_cuda_valid_rows(j.valid, j.batch, j.p.terms);
    const int64_t result = blockIdx.x / j.parts, part = blockIdx.x % j.parts, warps = SL_BLOCK / 32;
    float *sums = j.sums + result * j.leaves;
    for (int64_t leaf = part * warps + threadIdx.x / 32; leaf < j.leaves; leaf += j.parts * warps) {
        const float sum = sum_run(j, result, leaf, terms);
        if (threadIdx.x % 32 == 0) sums[leaf] = sum;
    }
    if (j.parts > 1 && !sl_cuda_last(j.counters + result, j.parts)) return;
    __syncthreads();
    const int64_t leaves = sl_leaves(terms);
    sl_combine_leaves<true>(sums, leaves, 1, 1);
    if (threadIdx.x == 0) j.y[result] = leaves > 0 ? sl_cuda_fresh(sums) : 0.0f;
}

static void sum_runs(const sl_call *call, const plan &p, const int32_t *valid)
{
    const int64_t warps = SL_BLOCK / 32;
    runs j = {};
    j.p = p;
    j.x = sl_in(call, 0);
    j.y = sl_out(call, 0);
    j.sums = static_cast<float *>(call->workspace);
    j.results = p.keep[0] * p.keep[1];
    j.leaves = sl_leaves(p.terms);
    j.parts = j.results > SL_CUDA_COUNTERS ? 1 : (j.leaves + warps - 1) / warps;
    j.batch = call->batch;
    j.valid = valid;
    j.counters = sl_cuda_counters(call->device);
    if (j.results == 0) return;
    if (j.leaves > 1)
        SL_LAUNCH(long_runs_kernel, (unsigned)(j.results * j.parts), SL_BLOCK, 0, call, j);
    else
        SL_LAUNCH(short_runs_kernel, sl_cuda_grid(call, j.results, warps, SL_WAVES), SL_BLOCK, 0, call, j);
}

static void sum_to(const sl_call *call)
{
    const plan p = plan_of(call);
    const int32_t *valid = p.batch_summed ? call->valid : nullptr;
    float *workspace = static_cast<float *>(call->workspace);
    const sl_store_sum finish = {sl_out(call, 0)};
    if (p.rows) {
        const sl_columns c = {p.keep[0], p.terms, p.keep[1], call->batch, valid, false};
        row_terms terms = {};
        terms.x = sl_in(call, 0);
        terms.slow = p.keep[0];
        terms.inner = p.sum[1];
        sl_sum_columns(call, c, terms, finish, workspace);
    } else if (p.keep[0] == 1 && p.keep[1] == 1) {
        const sl_vector x = {p.terms, call->batch, valid, false};
        sl_element_terms<false> terms = {};
        terms.x = sl_in(call, 0);
        sl_sum_vector(call, x, terms, finish, workspace);
    } else {
        sum_runs(call, p, valid);
    }
}

static size_t sum_to_workspace(const sl_call *call)
{
    const plan p = plan_of(call);
    const int64_t results = p.keep[0] * p.keep[1];
    if (p.rows) return sl_column_workspace(1, p.keep[0], p.terms, p.keep[1]) * sizeof(float);
    if (results == 1) return sl_flat_workspace(p.terms) * sizeof(float);
    return sl_column_workspace(1, 1, p.terms, results) * sizeof(float);
}

} // namespace

SL_CUDA_KERNELS(reduce) = {
    {SL_OP_SUM_TO, "leaves", nullptr, sum_to_workspace, sum_to},
    {SL_OP_MEAN, "leaves", nullptr, flat_workspace, mean},
    {SL_OP_MEAN_VJP, "fours", nullptr, nullptr, mean_vjp},
    {SL_OP_NORM, "leaves", nullptr, flat_workspace, norm},
    {SL_OP_COUNT_CORRECT, "warps", nullptr, nullptr, count_correct},
    {},
};
