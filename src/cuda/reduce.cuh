/* The reduction of core/sum.h, in two stages: leaf blocks of SL_LEAF terms, each in SL_LANES strided lanes
 * that are then halved; and the binary counter over the leaf blocks, in a second small launch where there are
 * several. The counter adds neighbours, then neighbouring pairs, and so on, and what has no right neighbour
 * moves up as it is: that is a tree which threads can share. No atomics; the shape alone fixes the order.
 *
 * A kernel gives its terms as a struct:
 *   SETS                                              sums that are made at once
 *   Column<V> at<V>(column)                           what belongs to columns column … column+V-1
 *   int64_t row(group, r)                             the row of memory that holds row r of a group of sums
 *   Raw<V> load<V>(i, end)                            what elements i … i+V-1 need, those below end
 *   void make<V>(column, raw, i, end, term[SETS][V])  their terms; may also write an output
 * and what becomes of a sum as a function object finish(column, total[SETS]). */
#ifndef SL_CUDA_REDUCE_CUH
#define SL_CUDA_REDUCE_CUH

#include "cuda/elementwise.cuh"

/* Vectors of V columns that a block adds up at most. */
static constexpr int sl_panel_width(int v)
{
    return v == 4 ? 8 : 16;
}

static_assert(SL_LANES == 32, "a warp folds the lanes");

static constexpr int SL_BATCH_OF_LOADS = 4; /* rows whose elements are loaded before the first is added */
static constexpr int SL_PANEL = 32;         /* columns that a block combines at most */
static constexpr int SL_RADIX = 8;          /* sums that a thread combines at once */
static constexpr int SL_LEAF_THREADS = 8;   /* of a leaf block that lies side by side: each has four lanes */
static constexpr int SL_FLAT_LEAVES =
    64; /* leaf blocks of a vector for which one block of threads does both stages */

/* The terms of most kernels: one set, rows as they lie, nothing that belongs to a column. */
struct sl_plain_terms {
    enum { SETS = 1 };
    template <int V> struct Column {
    };
    template <int V> using Raw = sl_vec<V>;
    template <int V> __device__ __forceinline__ Column<V> at(int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ int64_t row(int64_t, int64_t r) const
    {
        return r;
    }
};

static __host__ __device__ __forceinline__ int64_t sl_leaves(int64_t terms)
{
    return (terms + SL_LEAF - 1) / SL_LEAF;
}

static __device__ __forceinline__ float sl_fold_lanes(float v)
{
#pragma unroll
    for (int half = SL_LANES / 2; half > 0; half /= 2) v += __shfl_down_sync(SL_ALL_LANES, v, half);
    return v;
}

/* The binary counter over `leaves` sums of each of `width` columns; the totals are then at leaf 0. By a whole
 * block. */
static __device__ __forceinline__ void sl_combine_leaves(float *sums, int64_t leaves, int64_t leaf_stride,
                                                         int64_t column_stride, int64_t width)
{
    for (int64_t span = 1; span < leaves; span *= SL_RADIX) {
        __syncthreads();
        const int64_t groups = (leaves + SL_RADIX * span - 1) / (SL_RADIX * span);
        for (int64_t item = threadIdx.x; item < groups * width; item += blockDim.x) {
            const int64_t first = item / width * SL_RADIX * span;
            float *at = sums + item % width * column_stride + first * leaf_stride, v[SL_RADIX];
#pragma unroll
            for (int k = 0; k < SL_RADIX; k++)
                v[k] = first + k * span < leaves ? at[k * span * leaf_stride] : 0.0f;
#pragma unroll
            for (int half = 1; half < SL_RADIX; half *= 2)
#pragma unroll
                for (int k = 0; k < SL_RADIX; k += 2 * half)
                    if (first + (k + half) * span < leaves) v[k] += v[k + half];
            *at = v[0];
        }
    }
    __syncthreads();
}

/* Where the sums of leaf blocks lie, for the second stage. */
struct sl_leaf_sums {
    float *sums;
    int64_t groups, columns, group_stride, leaf_stride, column_stride, set_stride;
    int64_t rows, batch; /* terms of a sum, before `valid` is looked at */
    const int32_t *valid;
};

/* Block: one panel of columns of one group. */
template <int SETS, class Finish>
static __global__ void __launch_bounds__(SL_BLOCK) sl_combine_kernel(Finish finish, sl_leaf_sums s)
{
    const int64_t panels = (s.columns + SL_PANEL - 1) / SL_PANEL, group = blockIdx.x / panels;
    const int64_t column = blockIdx.x % panels * SL_PANEL;
    const int64_t width = s.columns - column < SL_PANEL ? s.columns - column : SL_PANEL;
    const int64_t leaves = sl_leaves(sl_cuda_valid_rows(s.valid, s.batch, s.rows));
    float *sums = s.sums + group * s.group_stride + column * s.column_stride;
    for (int set = 0; set < SETS; set++)
        sl_combine_leaves(sums + set * s.set_stride, leaves, s.leaf_stride, s.column_stride, width);
    if (threadIdx.x >= width) return;
    float total[SETS];
#pragma unroll
    for (int set = 0; set < SETS; set++)
        total[set] = leaves > 0 ? sums[set * s.set_stride + threadIdx.x * s.column_stride] : 0.0f;
    finish(group * s.columns + column + threadIdx.x, total);
}

template <int SETS, class Finish>
static void sl_combine(const sl_call *call, const Finish &finish, const sl_leaf_sums &s)
{
    const int64_t panels = (s.columns + SL_PANEL - 1) / SL_PANEL;
    SL_LAUNCH((sl_combine_kernel<SETS, Finish>), (unsigned)(s.groups * panels), SL_BLOCK, 0, call, finish, s);
}

/* --- sums of columns: terms [group][row][column], sums [group][column] --- */

struct sl_columns {
    int64_t groups, rows, columns; /* rows that are visited; those that count are summed */
    int64_t batch;
    const int32_t *valid;
    bool visits_all; /* terms of rows that do not count are made all the same */
};

struct sl_panels {
    sl_columns c;
    int64_t leaves, panels; /* of a group */
    int width;              /* vectors of a panel; a block has SL_LANES threads for each */
};

static __device__ __forceinline__ int64_t sl_smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One leaf block of one panel. Thread: one lane of V columns. sums NULL: there is one leaf block, and it
 * finishes. */
template <int V, class Terms, class Finish>
static __global__ void __launch_bounds__(SL_LANES *sl_panel_width(V))
    sl_column_kernel(Terms t, Finish finish, sl_panels p, float *sums)
{
    constexpr int SETS = Terms::SETS;
    SL_SHARED(float, lanes);
    const int q = (int)threadIdx.x % p.width, lane = (int)threadIdx.x / p.width;
    const int64_t panel = blockIdx.x % p.panels, leaf = blockIdx.x / p.panels % p.leaves;
    const int64_t group = blockIdx.x / p.panels / p.leaves, column = (panel * p.width + q) * V;
    const int64_t summed = sl_cuda_valid_rows(p.c.valid, p.c.batch, p.c.rows);
    const int64_t end = sl_smaller((leaf + 1) * SL_LEAF, p.c.visits_all ? p.c.rows : summed);
    float acc[SETS][V] = {};
    if (column < p.c.columns) {
        const typename Terms::template Column<V> here = t.template at<V>(column);
        for (int64_t r = leaf * SL_LEAF + lane; r < end; r += SL_BATCH_OF_LOADS * SL_LANES) {
            typename Terms::template Raw<V> raw[SL_BATCH_OF_LOADS] = {};
            int64_t i[SL_BATCH_OF_LOADS];
#pragma unroll
            for (int u = 0; u < SL_BATCH_OF_LOADS; u++) {
                i[u] = t.row(group, r + u * SL_LANES) * p.c.columns + column;
                if (r + u * SL_LANES < end) raw[u] = t.template load<V>(i[u], i[u] + V);
            }
#pragma unroll
            for (int u = 0; u < SL_BATCH_OF_LOADS; u++) {
                if (r + u * SL_LANES >= end) continue;
                float term[SETS][V];
                t.template make<V>(here, raw[u], i[u], i[u] + V, term);
                if (r + u * SL_LANES >= summed) continue;
#pragma unroll
                for (int set = 0; set < SETS; set++)
#pragma unroll
                    for (int j = 0; j < V; j++) acc[set][j] += term[set][j];
            }
        }
    }
    const int stride = p.width * V | 1; /* odd: a warp that reads a column meets 32 banks */
#pragma unroll
    for (int set = 0; set < SETS; set++)
#pragma unroll
        for (int j = 0; j < V; j++) lanes[(set * SL_LANES + lane) * stride + q * V + j] = acc[set][j];
    __syncthreads();
    const int warp = (int)threadIdx.x / 32, l = (int)threadIdx.x % 32;
    for (int k = warp; k < p.width * V; k += p.width) {
        float total[SETS];
#pragma unroll
        for (int set = 0; set < SETS; set++)
            total[set] = sl_fold_lanes(lanes[(set * SL_LANES + l) * stride + k]);
        const int64_t to = panel * p.width * V + k;
        if (l != 0 || to >= p.c.columns) continue;
        if (!sums) {
            finish(group * p.c.columns + to, total);
            continue;
        }
#pragma unroll
        for (int set = 0; set < SETS; set++)
            sums[((set * p.c.groups + group) * p.leaves + leaf) * p.c.columns + to] = total[set];
    }
}

/* Floats of workspace. */
static inline size_t sl_column_workspace(int64_t sets, int64_t groups, int64_t rows, int64_t columns)
{
    const int64_t leaves = sl_leaves(rows);
    return leaves > 1 ? (size_t)(sets * groups * leaves * columns) : 0;
}

template <int V, class Terms, class Finish>
static void sl_column_leaves_by(const sl_call *call, const sl_columns &c, const Terms &t,
                                const Finish &finish, float *sums)
{
    sl_panels p = {c, sl_leaves(c.rows), 0, sl_panel_width(V)};
    const int64_t vectors = (c.columns + V - 1) / V;
    /* Narrow panels where there would be fewer blocks than SMs; 32 bytes are the least that memory gives. */
    while (p.width > 8 / V &&
           (vectors + p.width - 1) / p.width * p.leaves * c.groups < (int64_t)sl_cuda_sms(call->device))
        p.width /= 2;
    if (p.width > vectors) p.width = (int)vectors;
    p.panels = (vectors + p.width - 1) / p.width;
    const size_t shared = (size_t)Terms::SETS * SL_LANES * (size_t)(p.width * V | 1) * sizeof(float);
    SL_LAUNCH((sl_column_kernel<V, Terms, Finish>), (unsigned)(p.panels * p.leaves * c.groups),
              (unsigned)(SL_LANES * p.width), shared, call, t, finish, p, sums);
}

/* The first stage, leaving sums [set][group][leaf][column]; with one leaf block and sums NULL, all of it. */
template <class Terms, class Finish>
static void sl_column_leaves(const sl_call *call, const sl_columns &c, const Terms &t, const Finish &finish,
                             float *sums)
{
    if (c.columns % 4 == 0)
        sl_column_leaves_by<4>(call, c, t, finish, sums);
    else
        sl_column_leaves_by<1>(call, c, t, finish, sums);
}

template <class Terms, class Finish>
static void sl_sum_columns(const sl_call *call, const sl_columns &c, const Terms &t, const Finish &finish,
                           float *sums)
{
    const int64_t leaves = sl_leaves(c.rows);
    if (c.groups == 0 || c.columns == 0) return;
    if (leaves == 1) {
        sl_column_leaves(call, c, t, finish, static_cast<float *>(nullptr));
        return;
    }
    if (leaves > 1) sl_column_leaves(call, c, t, finish, sums);
    const sl_leaf_sums s = {
        sums,   c.groups, c.columns, leaves * c.columns, c.columns, 1, c.groups * leaves * c.columns,
        c.rows, c.batch,  c.valid};
    sl_combine<Terms::SETS>(call, finish, s);
}

/* --- one sum of a whole tensor; leaf blocks lie side by side --- */

struct sl_vector {
    int64_t count, batch;
    const int32_t *valid;
    bool visits_all;
};

/* SL_LEAF_THREADS threads for each leaf block; the terms' `at` gets the element. sums NULL: there is one
 * block of threads, and it finishes. */
template <class Terms, class Finish>
static __global__ void __launch_bounds__(SL_FLAT_LEAVES *SL_LEAF_THREADS)
    sl_flat_kernel(Terms t, Finish finish, sl_vector x, float *sums)
{
    SL_SHARED(float, shared);
    const int quarter = (int)threadIdx.x % SL_LEAF_THREADS;
    const int64_t leaf = sl_cuda_thread() / SL_LEAF_THREADS;
    const int64_t summed = sl_cuda_valid_rows(x.valid, x.batch, x.count);
    const int64_t end = sl_smaller((leaf + 1) * SL_LEAF, x.visits_all ? x.count : summed);
    float acc[4] = {};
    for (int64_t i = leaf * SL_LEAF + 4 * quarter; i < end; i += SL_BATCH_OF_LOADS * SL_LANES) {
        typename Terms::template Raw<4> raw[SL_BATCH_OF_LOADS] = {};
#pragma unroll
        for (int u = 0; u < SL_BATCH_OF_LOADS; u++)
            if (i + u * SL_LANES < end) raw[u] = t.template load<4>(i + u * SL_LANES, end);
#pragma unroll
        for (int u = 0; u < SL_BATCH_OF_LOADS; u++) {
            const int64_t at = i + u * SL_LANES;
            if (at >= end) continue;
            float term[1][4];
            t.template make<4>(t.template at<4>(at), raw[u], at, end, term);
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (at + j < summed && at + j < end) acc[j] += term[0][j];
        }
    }
#pragma unroll
    for (int half = SL_LEAF_THREADS / 2; half > 0; half /= 2)
#pragma unroll
        for (int j = 0; j < 4; j++) acc[j] += __shfl_down_sync(SL_ALL_LANES, acc[j], half, SL_LEAF_THREADS);
    const float total[1] = {acc[0] + acc[2] + (acc[1] + acc[3])};
    if (sums) {
        if (quarter == 0 && leaf < sl_leaves(x.count)) sums[leaf] = total[0];
        return;
    }
    if (quarter == 0) shared[threadIdx.x / SL_LEAF_THREADS] = total[0];
    const int64_t leaves = sl_leaves(summed);
    sl_combine_leaves(shared, leaves, 1, 1, 1);
    if (threadIdx.x > 0) return;
    const float all[1] = {leaves > 0 ? shared[0] : 0.0f};
    finish(0, all);
}

static inline size_t sl_flat_workspace(int64_t count) /* floats */
{
    return sl_leaves(count) > SL_FLAT_LEAVES ? (size_t)sl_leaves(count) : 0;
}

template <class Terms, class Finish>
static void sl_sum_vector(const sl_call *call, const sl_vector &x, const Terms &t, const Finish &finish,
                          float *sums)
{
    const int64_t leaves = sl_leaves(x.count), per_block = SL_BLOCK / SL_LEAF_THREADS;
    if (leaves <= SL_FLAT_LEAVES) {
        const unsigned threads = (unsigned)((leaves * SL_LEAF_THREADS + 31) / 32 * 32);
        SL_LAUNCH((sl_flat_kernel<Terms, Finish>), 1, threads > 0 ? threads : 32,
                  SL_FLAT_LEAVES * sizeof(float), call, t, finish, x, static_cast<float *>(nullptr));
        return;
    }
    SL_LAUNCH((sl_flat_kernel<Terms, Finish>), (unsigned)((leaves + per_block - 1) / per_block), SL_BLOCK, 0,
              call, t, finish, x, sums);
    const sl_leaf_sums s = {sums, 1, 1, 0, 1, 0, 0, x.count, x.batch, x.valid};
    sl_combine<1>(call, finish, s);
}
#endif
