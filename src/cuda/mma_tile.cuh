/* The inner loop of products on tensor cores, where results need not be exact. A block holds a tile of the
 * result and walks k in slabs of MMA_K: while its warps multiply one slab out of shared memory, its threads
 * hold the next, on its way from memory. Factors are rounded once, on their way into shared memory; that is
 * why they pass through registers and not by cp.async, which moves floats as they are: every warp that reads
 * a factor would round it again, and BF16 would move twice the bytes out of shared memory. Sums are float32
 * throughout; blocks that share out k are joined in the fixed order of tile_join.
 *
 * A factor is a struct over its matrix as it lies in memory, `outers` lines of `inners` elements that are
 * read in fours, with
 *   ALONG            its lines are those of the product (rows of A, columns of B), and k runs along them;
 *                    otherwise lines are steps of k
 *   outer, inner     what is known of a line, and of a place in it
 *   outer outer_at(number), inner inner_at(number)       of any number, beyond the edge too
 *   four read(outer, inner)                              zeros beyond the edge
 * A factor that is not there, a tap in the padding, is 0 here and not skipped as in core/sum.h: infinite
 * weights make NaN at the border. */
#ifndef SL_CUDA_MMA_TILE_CUH
#define SL_CUDA_MMA_TILE_CUH

#include "cuda/mma.cuh"
#include "cuda/tile_plan.cuh"

enum { MMA_K = 32, MMA_PAD = 8 };

/* ROWS x COLUMNS of the result by warps of WARP_ROWS x WARP_COLUMNS. RESIDENT: blocks that an SM holds. */
template <int ROWS_, int COLUMNS_, int WARP_ROWS_, int WARP_COLUMNS_, int RESIDENT_> struct mma_tile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, WARP_ROWS = WARP_ROWS_,
                         WARP_COLUMNS = WARP_COLUMNS_, RESIDENT = RESIDENT_;
    static constexpr int I = WARP_ROWS / 16, J = WARP_COLUMNS / 8;
    static constexpr int THREADS = 32 * (ROWS / WARP_ROWS) * (COLUMNS / WARP_COLUMNS);
};

/* --- one factor's slabs --- */

/* A slab in shared memory: words (mma.cuh) of LINES rows or columns. Both orders are such that neither the
 * 16-byte stores nor a warp's fragments meet in a bank. */
template <class P, class FACTOR, int LINES, int THREADS> struct mma_slab {
    static constexpr bool ALONG = FACTOR::ALONG;
    static constexpr int WORDS = MMA_K / P::TERMS;
    static constexpr int STRIDE = ALONG ? WORDS + 4 : LINES + MMA_PAD;
    static constexpr int SIZE = (ALONG ? LINES : WORDS) * STRIDE;
    /* What a thread moves at once: four terms of a line, or a word of four lines. */
    static constexpr int FOURS = ALONG ? 1 : P::TERMS, ACROSS = ALONG ? MMA_K / 4 : LINES / 4;
    static constexpr int UNITS = LINES * MMA_K / 4 / FOURS, EACH = (UNITS + THREADS - 1) / THREADS;
    static_assert(THREADS % ACROSS == 0, "a thread's units differ in their outer number alone");

    typename FACTOR::outer lines[ALONG ? EACH : 1];
    typename FACTOR::inner place;
    four held[EACH][FOURS] = {};

    static __device__ __forceinline__ int unit_outer(int i)
    {
        return ((int)threadIdx.x + i * THREADS) / ACROSS;
    }
    static __device__ __forceinline__ int unit_inner()
    {
        return (int)threadIdx.x % ACROSS * 4;
    }
    static __device__ __forceinline__ bool mine(int i)
    {
        return UNITS % THREADS == 0 || (int)threadIdx.x + i * THREADS < UNITS;
    }

    __device__ __forceinline__ void begin(const FACTOR &factor, int64_t line)
    {
        if constexpr (ALONG) {
#pragma unroll
            for (int i = 0; i < EACH; i++) lines[i] = factor.outer_at(line + unit_outer(i));
        } else {
            place = factor.inner_at(line + unit_inner());
        }
    }
    __device__ __forceinline__ void load(const FACTOR &factor, int64_t k)
    {
        if constexpr (ALONG) place = factor.inner_at(k + unit_inner());
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (!mine(i)) continue;
#pragma unroll
            for (int e = 0; e < FOURS; e++)
                if constexpr (ALONG)
                    held[i][e] = factor.read(lines[i], place);
                else
                    held[i][e] = factor.read(factor.outer_at(k + unit_outer(i) * FOURS + e), place);
        }
    }
    __device__ __forceinline__ void put(uint32_t *slab) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (!mine(i)) continue;
            const float(&x)[4] = held[i][0].v;
            uint32_t *to = slab + unit_outer(i) * STRIDE + unit_inner() / (ALONG ? P::TERMS : 1);
            if constexpr (P::TERMS == 1) {
                *reinterpret_cast<uint4 *>(to) = make_uint4(mma_word(P(), x[0]), mma_word(P(), x[1]),
                                                            mma_word(P(), x[2]), mma_word(P(), x[3]));
            } else if constexpr (ALONG) {
                *reinterpret_cast<uint2 *>(to) =
                    make_uint2(mma_word(P(), x[0], x[1]), mma_word(P(), x[2], x[3]));
            } else {
                const float(&y)[4] = held[i][FOURS - 1].v;
                *reinterpret_cast<uint4 *>(to) =
                    make_uint4(mma_word(P(), x[0], y[0]), mma_word(P(), x[1], y[1]),
                               mma_word(P(), x[2], y[2]), mma_word(P(), x[3], y[3]));
            }
        }
    }
    /* Where a word of a line lies. */
    static __device__ __forceinline__ constexpr int at(int line, int word)
    {
        return ALONG ? line * STRIDE + word : word * STRIDE + line;
    }
};

/* A matrix of `outers` lines with `inners` elements. */
template <bool ALONG_> struct mma_matrix {
    static constexpr bool ALONG = ALONG_;
    const float *data;
    int64_t outers, inners;
    bool whole; /* can be read in fours */

    struct outer {
        const float *line; /* NULL: beyond the edge */
    };
    struct inner {
        int64_t at;
    };
    __device__ __forceinline__ outer outer_at(int64_t number) const
    {
        return outer{number < outers ? data + number * inners : nullptr};
    }
    __device__ __forceinline__ inner inner_at(int64_t number) const
    {
        return inner{number};
    }
    __device__ __forceinline__ four read(outer o, inner i) const
    {
        return o.line ? four_read(o.line + i.at, inners - i.at, whole) : four_of(0.0f);
    }
};

template <bool ALONG>
static inline mma_matrix<ALONG> mma_matrix_of(const sl_tensor *tensor, int64_t outers, int64_t inners)
{
    const float *data = static_cast<const float *>(tensor->data);
    return mma_matrix<ALONG>{data, outers, inners, four_fits(data, inners)};
}

/* --- the product --- */

template <class P, class TILE, class TERMS> struct mma_memory {
    typedef mma_slab<P, decltype(TERMS::a), TILE::ROWS, TILE::THREADS> A;
    typedef mma_slab<P, decltype(TERMS::b), TILE::COLUMNS, TILE::THREADS> B;
    static constexpr int ROW = TILE::COLUMNS + MMA_PAD; /* of the sums, on their way out */
    static constexpr int SLABS = 2 * (A::SIZE + B::SIZE), SUMS = TILE::ROWS * ROW;
    static constexpr int BYTES = 4 * (SLABS > SUMS ? SLABS : SUMS);
    static_assert(BYTES <= 96 * 1024, "every device has room for one block");
};

/* This warp's part of a slab. */
template <class P, class TILE, class A, class B>
static __device__ __forceinline__ void mma_multiply(const uint32_t *a, const uint32_t *b,
                                                    float (&sum)[TILE::I][TILE::J][4])
{
    const int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = (int)threadIdx.x / 32;
    constexpr int WARPS = TILE::COLUMNS / TILE::WARP_COLUMNS;
    a += A::at(warp / WARPS * TILE::WARP_ROWS + g, t);
    b += B::at(warp % WARPS * TILE::WARP_COLUMNS + g, t);
#pragma unroll
    for (int w = 0; w < A::WORDS; w += 8) {
        uint32_t x[TILE::I][4], y[TILE::J][2];
#pragma unroll
        for (int i = 0; i < TILE::I; i++)
#pragma unroll
            for (int r = 0; r < 4; r++) x[i][r] = a[A::at(16 * i + r % 2 * 8, w + r / 2 * 4)];
#pragma unroll
        for (int j = 0; j < TILE::J; j++)
#pragma unroll
            for (int r = 0; r < 2; r++) y[j][r] = b[B::at(8 * j, w + r * 4)];
        mma_step<P>(sum, x, y);
    }
}

/* The sums of k in [first, last) for the tile at (m, n). */
template <class P, class TILE, class TERMS>
static __device__ __forceinline__ void mma_sum(const TERMS &terms, uint32_t *memory, int64_t m, int64_t n,
                                               int64_t first, int64_t last, float (&sum)[TILE::I][TILE::J][4])
{
    typedef mma_memory<P, TILE, TERMS> MEMORY;
    typename MEMORY::A a;
    typename MEMORY::B b;
    constexpr int A_SIZE = MEMORY::A::SIZE, B_SIZE = MEMORY::B::SIZE;
    uint32_t *const b_memory = memory + 2 * A_SIZE;
    a.begin(terms.a, m);
    b.begin(terms.b, n);
    const int slabs = (int)((last - first + MMA_K - 1) / MMA_K);
#pragma unroll 1
    for (int s = 0; s <= slabs; s++) {
        if (s < slabs) {
            a.load(terms.a, first + (int64_t)s * MMA_K);
            b.load(terms.b, first + (int64_t)s * MMA_K);
        }
        const int to = s & 1, from = to ^ 1;
        if (s > 0)
            mma_multiply<P, TILE, typename MEMORY::A, typename MEMORY::B>(memory + from * A_SIZE,
                                                                          b_memory + from * B_SIZE, sum);
        if (s < slabs) {
            a.put(memory + to * A_SIZE);
            b.put(b_memory + to * B_SIZE);
        }
        __syncthreads();
    }
}

/* Through shared memory, so that the stores of a warp lie together. */
template <class P, class TILE, class TERMS, bool FUSED>
static __device__ __forceinline__ void mma_store(const tile_job &job, float *memory, int64_t m, int64_t n,
                                                 int64_t part, const float (&sum)[TILE::I][TILE::J][4])
{
    constexpr int ROW = mma_memory<P, TILE, TERMS>::ROW, WARPS = TILE::COLUMNS / TILE::WARP_COLUMNS;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float *const mine = memory + (warp / WARPS * TILE::WARP_ROWS + lane / 4) * ROW +
                        warp % WARPS * TILE::WARP_COLUMNS + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < TILE::I; i++)
#pragma unroll
        for (int j = 0; j < TILE::J; j++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                *reinterpret_cast<float2 *>(mine + (16 * i + 8 * half) * ROW + 8 * j) =
                    make_float2(sum[i][j][2 * half], sum[i][j][2 * half + 1]);
    __syncthreads();
#pragma unroll 1
    for (int at = (int)threadIdx.x * 4; at < TILE::ROWS * TILE::COLUMNS; at += TILE::THREADS * 4) {
        const int row = at / TILE::COLUMNS, column = at % TILE::COLUMNS;
        const int64_t i = m + row, j = n + column;
        if (i >= job.m || j >= job.n) continue;
        float v[4];
        tile_pick(memory + row * ROW + column, v);
        if (job.sums)
            four_write(job.sums + (part * job.m + i) * job.n + j, v, job.n - j, job.n % 4 == 0);
        else
            tile_finish<FUSED>(job.after, i, j, job.n, v);
    }
    __syncthreads();
}

/* A block for each part of each tile; a part is `length` of k. */
template <class P, class TILE, class TERMS, bool FUSED>
static __global__ void __launch_bounds__(TILE::THREADS, TILE::RESIDENT)
    mma_product(tile_job job, int64_t length, TERMS terms)
{
    sl_cuda_begin();
#if MMA_COMPILED
    SL_SHARED(uint32_t, memory);
    const int64_t k = sl_cuda_valid_rows(job.valid, job.batch, job.k), tiles = job.tiles_m * job.tiles_n;
    const int64_t part = blockIdx.x / tiles, place = blockIdx.x % tiles, first = part * length;
    const int64_t m = place / job.tiles_n * TILE::ROWS, n = place % job.tiles_n * TILE::COLUMNS;
    if (part > 0 && first >= k) return; /* cut away */
    if constexpr (!decltype(TERMS::a)::ALONG && !decltype(TERMS::b)::ALONG)
        terms.a.outers = terms.b.outers = k;
    float sum[TILE::I][TILE::J][4] = {};
    mma_sum<P, TILE>(terms, memory, m, n, first, first + length < k ? first + length : k, sum);
    mma_store<P, TILE, TERMS, FUSED>(job, reinterpret_cast<float *>(memory), m, n, part, sum);
    if (job.sums) tile_join<TILE, FUSED>(job, m, n, place, part, k > 0 ? (k + length - 1) / length : 1);
#else
    __trap();
#endif
}

/* --- on the host --- */

/* A wide one where there is work for all SMs, a narrower one for narrow results, half of the wide one where
 * there is less. */
typedef mma_tile<128, 64, 32, 32, 2> mma_wide;
typedef mma_tile<128, 32, 32, 32, 3> mma_narrow;
typedef mma_tile<64, 64, 32, 32, 4> mma_half;
enum mma_kind { MMA_WIDE, MMA_NARROW, MMA_HALF };

/* Where tensor cores pay. Below a million multiplications the launch takes longer than the tiles of tile.cuh
 * do, and fp32 costs nothing; below these sizes most of a fragment would be zeros. */
enum { MMA_LEAST = 1 << 20, MMA_LEAST_M = 16, MMA_LEAST_N = 8, MMA_LEAST_K = 16 };

static inline bool mma_pays(const sl_call *call, int64_t m, int64_t n, int64_t k)
{
    return sl_cuda_precision(call->device) != SL_FP32 && m >= MMA_LEAST_M && n >= MMA_LEAST_N &&
           k >= MMA_LEAST_K && (double)m * (double)n * (double)k >= MMA_LEAST && m < INT32_MAX &&
           n < INT32_MAX && k < INT32_MAX;
}

struct mma_plan {
    mma_kind kind;
    int64_t tiles_m, tiles_n, parts, length;
};

/* m, n, k: before the cut. */
static inline mma_plan mma_plan_of(const sl_call *call, int64_t m, int64_t n, int64_t k)
{
    static const struct {
        int rows, columns, resident;
    } sizes[] = {{mma_wide::ROWS, mma_wide::COLUMNS, mma_wide::RESIDENT},
                 {mma_narrow::ROWS, mma_narrow::COLUMNS, mma_narrow::RESIDENT},
                 {mma_half::ROWS, mma_half::COLUMNS, mma_half::RESIDENT}};
    const int64_t sms = sl_cuda_sms(call->device);
    mma_plan p = {};
    p.kind = n <= mma_narrow::COLUMNS ? MMA_NARROW : MMA_WIDE;
    if (p.kind == MMA_WIDE && tile_up(m, mma_wide::ROWS) * tile_up(n, mma_wide::COLUMNS) < sms)
        p.kind = MMA_HALF;
    p.tiles_m = tile_up(m, sizes[p.kind].rows);
    p.tiles_n = tile_up(n, sizes[p.kind].columns);
    /* Few tiles: blocks share out k until they fill the SMs, but not to less than four slabs each, nor to
     * less than eight where their sums are joined in more than one step. */
    const int64_t all = p.tiles_m * p.tiles_n, room = (int64_t)(64 << 20) / (m * n * 4 + 1);
    int64_t wanted = all > 0 && all < sms ? tile_up(sizes[p.kind].resident * sms, all) : 1;
    const int64_t one_step = TILE_JOINED, long_parts = k / (8 * MMA_K), most = k / (4 * MMA_K);
    if (wanted > one_step && wanted > long_parts) wanted = long_parts > one_step ? long_parts : one_step;
    if (wanted > most) wanted = most;
    if (wanted > room) wanted = room;
    if (wanted > TILE_MOST_PARTS) wanted = TILE_MOST_PARTS;
    if (all > 0 && wanted > SL_CUDA_COUNTERS / all) wanted = SL_CUDA_COUNTERS / all;
    if (wanted < 1) wanted = 1;
    p.length = tile_up(tile_up(k > 0 ? k : 1, wanted), MMA_K) * MMA_K;
    p.parts = k > 0 ? tile_up(k, p.length) : 1;
    return p;
}

static inline size_t mma_workspace(const sl_call *call, int64_t m, int64_t n, int64_t k)
{
    const mma_plan p = mma_plan_of(call, m, n, k);
    return p.parts > 1 ? (size_t)(p.parts * m * n) * sizeof(float) : 0;
}

template <class P, class TILE, class TERMS, bool FUSED>
static void mma_launch(const sl_call *call, const mma_plan &p, const tile_job &job, const TERMS &terms)
{
    SL_LAUNCH((mma_product<P, TILE, TERMS, FUSED>), (unsigned)(p.tiles_m * p.tiles_n * p.parts),
              TILE::THREADS, (mma_memory<P, TILE, TERMS>::BYTES), call, job, p.length, terms);
}

template <class P, class TERMS, bool FUSED>
static void mma_launch_tile(const sl_call *call, const mma_plan &p, const tile_job &job, const TERMS &terms)
{
    if (p.kind == MMA_WIDE) mma_launch<P, mma_wide, TERMS, FUSED>(call, p, job, terms);
    if (p.kind == MMA_NARROW) mma_launch<P, mma_narrow, TERMS, FUSED>(call, p, job, terms);
    if (p.kind == MMA_HALF) mma_launch<P, mma_half, TERMS, FUSED>(call, p, job, terms);
}

/* The whole product. `cut`: k is the batch, and stops at the samples that count. FUSED: an activation may
 * follow. */
template <class TERMS, bool FUSED>
static void mma_run(const sl_call *call, int64_t m, int64_t n, int64_t k, bool cut,
                    const sl_activation_attr *activation, const TERMS &terms)
{
    const mma_plan p = mma_plan_of(call, m, n, k);
    tile_job job = {};
    job.m = m, job.n = n, job.k = k;
    job.valid = cut ? call->valid : nullptr;
    job.batch = call->batch;
    job.parts = p.parts;
    job.tiles_m = p.tiles_m, job.tiles_n = p.tiles_n;
    if (p.parts > 1) job.sums = static_cast<float *>(call->workspace);
    job.counters = sl_cuda_counters(call->device);
    job.after = tile_after_of(call, activation, n);
    if (m == 0 || n == 0) return;
    if (sl_cuda_precision(call->device) == SL_BF16)
        mma_launch_tile<mma_bf16, TERMS, FUSED>(call, p, job, terms);
    else
        mma_launch_tile<mma_tf32, TERMS, FUSED>(call, p, job, terms);
}
#endif
