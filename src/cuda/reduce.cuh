/* The reduction of core/sum.h, in two stages: leaf blocks of SL_LEAF terms, each in SL_LANES strided lanes
 * that are then halved; and the binary counter over the leaf blocks. The counter adds neighbours, then
 * neighbouring pairs, and so on, and what has no right neighbour moves up as it is: that is a tree which
 * threads can share. Where blocks share out the leaf blocks of a sum, the last of them to finish makes the
 * tree: the shape alone fixes the order, whoever is last. It is alone with one number for SL_LEAF terms (of a
 * vector, for SL_BLOCK / SL_LEAF_THREADS times as many), which takes 2 to 3 us up to a hundred leaf blocks.
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
static constexpr int SL_RADIX = 8;          /* sums that a thread combines at once */
static constexpr int SL_LEAF_THREADS = 8;   /* of a leaf block that lies side by side: each has four lanes */
static constexpr int SL_FLAT_LEAVES = 64;   /* leaf blocks of a vector that one block of threads sums alone */

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

/* What MEAN and its gradient divide by; count: of the values, padding included. */
static __device__ __forceinline__ float sl_mean_divisor(const int32_t *valid, int64_t batch, int64_t count,
                                                        bool per_sample)
{
    if (per_sample) return valid ? (float)*valid : 1.0f;
    return (float)sl_cuda_valid_rows(valid, batch, count);
}

/* The elements as terms, or their squares. */
template <bool SQUARES> struct sl_element_terms : sl_plain_terms {
    const float *x;
    template <int V> __device__ __forceinline__ sl_vec<V> load(int64_t i, int64_t end) const
    {
        return sl_vec_load<V>(x, i, end);
    }
    template <int V>
    __device__ __forceinline__ void make(const Column<V> &, const sl_vec<V> &r, int64_t, int64_t,
                                         float (&term)[1][V]) const
    {
#pragma unroll
        for (int k = 0; k < V; k++) term[0][k] = SQUARES ? r.v[k] * r.v[k] : r.v[k];
    }
};

/* A sum as it is. */
struct sl_store_sum {
    float *to;
    __device__ __forceinline__ void operator()(int64_t at, const float (&total)[1]) const
    {
        to[at] = total[0];
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

/* The binary counter over `leaves` sums, `stride` apart, of each of `width` columns; the totals are then at
 * leaf 0. By a whole block. FRESH: in global memory, where other blocks may have written them. */
template <bool FRESH>
static __device__ __forceinline__ void sl_combine_leaves(float *sums, int64_t leaves, int64_t stride,
                                                         int64_t width)
{
    for (int64_t span = 1; span < leaves; span *= SL_RADIX) {
        __syncthreads();
        const int64_t groups = (leaves + SL_RADIX * span - 1) / (SL_RADIX * span);
        for (int64_t item = threadIdx.x; item < groups * width; item += blockDim.x) {
            const int64_t first = item / width * SL_RADIX * span;
            float *at = sums + item % width + first * stride, v[SL_RADIX];
#pragma unroll
            for (int k = 0; k < SL_RADIX; k++) {
                v[k] = 0.0f;
                if (first + k * span < leaves)
                    v[k] = FRESH ? sl_cuda_fresh(at + k * span * stride) : at[k * span * stride];
            }
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
    int64_t parts;          /* blocks that share out the leaf blocks of a panel */
    int width;              /* vectors of a panel; a block has SL_LANES threads for each */
    float *sums;            /* [set][group][leaf][column]; NULL: there is one leaf block, and it finishes */
    bool combines;          /* false: the sums are what is wanted */
    unsigned *counters;     /* of the panels, where there are several parts */
};

static __device__ __forceinline__ int64_t sl_smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One leaf block of one panel. Thread: one lane of V columns. */
template <int V, class Terms, class Finish>
static __device__ __forceinline__ void sl_column_leaf(const Terms &t, const Finish &finish,
                                                      const sl_panels &p, float *lanes, int64_t group,
                                                      int64_t panel, int64_t leaf, int64_t summed)
{
    constexpr int SETS = Terms::SETS;
    const int q = (int)threadIdx.x % p.width, lane = (int)threadIdx.x / p.width;
    const int64_t column = (panel * p.width + q) * V;
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
    __syncthreads();
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
        if (!p.sums) {
            finish(group * p.c.columns + to, total);
            continue;
        }
#pragma unroll
        for (int set = 0; set < SETS; set++)
            p.sums[((set * p.c.groups + group) * p.leaves + leaf) * p.c.columns + to] = total[set];
    }
}

/* Block: leaf blocks part, part + parts, … of a panel, and the tree over all of them where it is the last. */
template <int V, class Terms, class Finish>
static __global__ void __launch_bounds__(SL_LANES *sl_panel_width(V))
    sl_column_kernel(Terms t, Finish finish, sl_panels p)
{
    sl_cuda_begin();
    constexpr int SETS = Terms::SETS;
    SL_SHARED(float, lanes);
    const int64_t panel = blockIdx.x % p.panels, part = blockIdx.x / p.panels % p.parts;
    const int64_t group = blockIdx.x / p.panels / p.parts;
    const int64_t summed = sl_cuda_valid_rows(p.c.valid, p.c.batch, p.c.rows);
    for (int64_t leaf = part; leaf < p.leaves; leaf += p.parts)
        sl_column_leaf<V>(t, finish, p, lanes, group, panel, leaf, summed);
    if (!p.sums || !p.combines) return;
    if (p.parts > 1 && !sl_cuda_last(p.counters + group * p.panels + panel, p.parts)) return;
    const int64_t first = panel * p.width * V, width = sl_smaller(p.c.columns - first, p.width * V);
    const int64_t leaves = sl_leaves(summed), set_stride = p.c.groups * p.leaves * p.c.columns;
    float *sums = p.sums + group * p.leaves * p.c.columns + first;
    __syncthreads();
    for (int set = 0; set < SETS; set++)
        sl_combine_leaves<true>(sums + set * set_stride, leaves, p.c.columns, width);
    if (threadIdx.x >= width) return;
    float total[SETS];
#pragma unroll
    for (int set = 0; set < SETS; set++)
        total[set] = leaves > 0 ? sl_cuda_fresh(sums + set * set_stride + threadIdx.x) : 0.0f;
    finish(group * p.c.columns + first + threadIdx.x, total);
}

/* Floats of workspace. */
static inline size_t sl_column_workspace(int64_t sets, int64_t groups, int64_t rows, int64_t columns)
{
    const int64_t leaves = sl_leaves(rows);
    return leaves > 1 ? (size_t)(sets * groups * leaves * columns) : 0;
}

template <int V, class Terms, class Finish>
static void sl_column_launch_by(const sl_call *call, const Terms &t, const Finish &finish, sl_panels p)
{
    const int64_t vectors = (p.c.columns + V - 1) / V;
    p.width = sl_panel_width(V);
    /* Narrow panels where there would be fewer blocks than SMs; 32 bytes are the least that memory gives. */
    while (p.width > 8 / V &&
           (vectors + p.width - 1) / p.width * p.leaves * p.c.groups < (int64_t)sl_cuda_sms(call->device))
        p.width /= 2;
    if (p.width > vectors) p.width = (int)vectors;
    p.panels = (vectors + p.width - 1) / p.width;
    /* Enough panels for all counters are enough blocks too. */
    p.parts = p.combines && p.panels * p.c.groups > SL_CUDA_COUNTERS ? 1 : p.leaves;
    const size_t shared = (size_t)Terms::SETS * SL_LANES * (size_t)(p.width * V | 1) * sizeof(float);
    SL_LAUNCH((sl_column_kernel<V, Terms, Finish>), (unsigned)(p.panels * p.parts * p.c.groups),
              (unsigned)(SL_LANES * p.width), shared, call, t, finish, p);
}

template <class Terms, class Finish>
static void sl_column_launch(const sl_call *call, const sl_columns &c, const Terms &t, const Finish &finish,
                             float *sums, bool combines)
{
    const sl_panels p = {c,        c.rows > 0 ? sl_leaves(c.rows) : 1, 0, 0, 0, sums,
                         combines, sl_cuda_counters(call->device)};
    if (c.groups == 0 || c.columns == 0) return;
    if (c.columns % 4 == 0)
        sl_column_launch_by<4>(call, t, finish, p);
    else
        sl_column_launch_by<1>(call, t, finish, p);
}

/* The first stage alone, leaving sums [set][group][leaf][column]. */
template <class Terms, class Finish>
static void sl_column_leaves(const sl_call *call, const sl_columns &c, const Terms &t, const Finish &finish,
                             float *sums)
{
    sl_column_launch(call, c, t, finish, sums, false);
}

template <class Terms, class Finish>
static void sl_sum_columns(const sl_call *call, const sl_columns &c, const Terms &t, const Finish &finish,
                           float *sums)
{
    sl_column_launch(call, c, t, finish, sl_leaves(c.rows) > 1 ? sums : nullptr, true);
}

/* --- one sum of a whole tensor; leaf blocks lie side by side --- */

struct sl_vector {
    int64_t count, batch;
    const int32_t *valid;
    bool visits_all;
};

/* SL_LEAF_THREADS threads for each leaf block; the terms' `at` gets the element. Every block makes the tree
 * over its leaf blocks, SL_FLAT_LEAVES or their half, and the last block the tree over the blocks, whose sums
 * lie at `sums`. */
template <class Terms, class Finish>
static __global__ void __launch_bounds__(SL_FLAT_LEAVES *SL_LEAF_THREADS)
    sl_flat_kernel(Terms t, Finish finish, sl_vector x, float *sums, unsigned *counter)
{
    sl_cuda_begin();
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
    if (quarter == 0) shared[threadIdx.x / SL_LEAF_THREADS] = acc[0] + acc[2] + (acc[1] + acc[3]);
    const int64_t per_block = blockDim.x / SL_LEAF_THREADS, leaves = sl_leaves(summed);
    sl_combine_leaves<false>(shared, sl_smaller(leaves - blockIdx.x * per_block, per_block), 1, 1);
    if (gridDim.x > 1) {
        if (threadIdx.x == 0) sums[blockIdx.x] = shared[0];
        if (!sl_cuda_last(counter, gridDim.x)) return;
        sl_combine_leaves<true>(sums, (leaves + per_block - 1) / per_block, 1, 1);
    }
    if (threadIdx.x > 0) return;
    float total[1] = {0.0f};
    if (leaves > 0) total[0] = gridDim.x > 1 ? sl_cuda_fresh(sums) : shared[0];
    finish(0, total);
}

static inline size_t sl_flat_workspace(int64_t count) /* floats */
{
    const int64_t per_block = SL_BLOCK / SL_LEAF_THREADS, leaves = sl_leaves(count);
    return leaves > SL_FLAT_LEAVES ? (size_t)((leaves + per_block - 1) / per_block) : 0;
}

template <class Terms, class Finish>
static void sl_sum_vector(const sl_call *call, const sl_vector &x, const Terms &t, const Finish &finish,
                          float *sums)
{
    const int64_t leaves = sl_leaves(x.count);
    const int64_t least =
        (leaves * SL_LEAF_THREADS + 31) / 32 * 32; /* threads, where one block does it all */
    const size_t blocks = sl_flat_workspace(x.count);
    const unsigned threads = blocks > 0 ? SL_BLOCK : least > 0 ? (unsigned)least : 32;
    SL_LAUNCH((sl_flat_kernel<Terms, Finish>), blocks > 0 ? (unsigned)blocks : 1, threads,
              threads / SL_LEAF_THREADS * sizeof(float), call, t, finish, x, sums,
              sl_cuda_counters(call->device));
}
/* For sums of the elements of input 0 into output number `output`: over all, or per column. */
static inline size_t sl_sums_workspace(const sl_call *call, int output)
{
    const int64_t count = sl_shape_count(call->in[0].shape), columns = sl_shape_last(call->in[0].shape);
    const bool flat = sl_shape_count(call->out[output].shape) == 1;
    if (count == 0) return 0;
    return sizeof(float) *
           (flat ? sl_flat_workspace(count) : sl_column_workspace(1, 1, count / columns, columns));
}
#endif
