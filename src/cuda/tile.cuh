/* The one inner loop of all products on CUDA. A block holds a tile of the result in registers and walks k
 * slab by slab through shared memory, each thread adding the terms of its elements in order of k: chunks of
 * SL_CHUNK, the binary counter of core/sum.h over their sums. Neither the tile's size nor the split shows in
 * the result.
 *
 * Where there are few tiles and many chunks, blocks share out the chunks too: each sums 2^shift of them, a
 * subtree of the counter's tree, into the workspace, and the last blocks to finish join the subtrees.
 *
 * The two factors come from a struct of terms with
 *   four a(m, k)   elements (m, k) and the next three, along k where a_along_k(), else along m
 *   four b(k, n)   elements (k, n) and the next three, along k where b_along_k(), else along n
 * which may be asked for anything beyond the edge, and answers zeros there. A term that is to be skipped, a
 * tap in the padding, is TILE_SKIPPED in a. */
#ifndef SL_CUDA_TILE_CUH
#define SL_CUDA_TILE_CUH

#include "cuda/activation.cuh"
#include "cuda/cuda.cuh"

/* --- four elements --- */

struct four {
    float v[4];
};

/* In shared memory these bits, a NaN, mean that the term does not take part. A NaN of just these bits in a
 * tensor is replaced by another when it is read. */
#define TILE_SKIPPED   0x7fe5c0deu
#define TILE_OTHER_NAN 0x7fc00000u

SL_FN four four_of(float x)
{
    return four{{x, x, x, x}};
}

/* `count` elements at p, 0 to 4 (or out of that range), the others zero. `whole`: four may be read at once.
 * FRESH: other blocks of the launch have written them. */
template <bool FRESH = false>
static __device__ __forceinline__ four four_read(const float *p, int64_t count, bool whole)
{
    four r = four_of(0.0f);
    if (whole && count >= 4) {
        const float4 *at = reinterpret_cast<const float4 *>(p), x = FRESH ? sl_cuda_fresh(at) : *at;
        r = four{{x.x, x.y, x.z, x.w}};
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < count) r.v[i] = FRESH ? sl_cuda_fresh(p + i) : p[i];
    }
    return r;
}

static __device__ __forceinline__ void four_write(float *p, const float (&v)[4], int64_t count, bool whole)
{
    if (whole && count >= 4) {
        *reinterpret_cast<float4 *>(p) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < count) p[i] = v[i];
    }
}

/* Whether a row of `length` elements from p on can be read in fours. */
static inline bool four_fits(const void *p, int64_t length)
{
    return length % 4 == 0 && (uintptr_t)p % 16 == 0;
}

/* N numbers of shared memory, aligned to N floats (16 bytes at most). */
template <int N> static __device__ __forceinline__ void tile_pick(const float *from, float (&to)[N])
{
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float4 x = *reinterpret_cast<const float4 *>(from + i);
            to[i] = x.x, to[i + 1] = x.y, to[i + 2] = x.z, to[i + 3] = x.w;
        }
    } else {
        static_assert(N == 2, "tiles are 2 or multiples of 4 high and wide");
        const float2 x = *reinterpret_cast<const float2 *>(from);
        to[0] = x.x, to[1] = x.y;
    }
}

/* --- what follows a sum --- */

/* Bias and activation behind the sums of [m, n], or only their place where row < 0. */
struct tile_after {
    int row;
    float a, b;
    const float *bias, *parameter; /* parameter NULL: a */
    int bias_step, parameter_step; /* 1: one per column, 0: one for all */
    float *y, *z;                  /* z: the value before the activation; NULL: nobody needs it (either) */
    bool whole;                    /* rows can be written in fours */
};

/* Elements (m, column) to (m, column + 3) of [.., n]. */
template <bool FUSED>
static __device__ __forceinline__ void tile_finish(const tile_after &after, int64_t m, int64_t column,
                                                   int64_t n, float (&v)[4])
{
    const int64_t at = m * n + column, count = n - column;
    if (FUSED && after.row >= 0) {
        float a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t c = i < count ? column + i : column;
            v[i] = v[i] + after.bias[c * after.bias_step];
            a[i] = after.parameter ? after.parameter[c * after.parameter_step] : after.a;
        }
        if (after.z) four_write(after.z + at, v, count, after.whole);
        sl_cuda_row_values<4>(after.row, v, a, after.b);
    }
    if (after.y) four_write(after.y + at, v, count, after.whole);
}

/* --- the binary counter --- */

/* The levels that the sum of part c takes up before it is stored or, if it is the last, before it is the
 * total: those of c's trailing ones; the last meets every stored level once, from the lowest. */
static __device__ __forceinline__ uint32_t tile_carries(uint32_t c, bool last)
{
    return last ? c : c & ~(c + 1);
}

/* --- a job --- */

enum { TILE_JOINED = 8, TILE_MOST_PARTS = 512 }; /* parts that a block joins at once; of a tile */

struct tile_job {
    int64_t m, n, k; /* k before it is cut */
    const int32_t *valid;
    int64_t batch; /* valid: k is cut to k/batch·valid */
    int shift;     /* a part is 2^shift chunks */
    int64_t parts; /* of the uncut k */
    int64_t tiles_m, tiles_n;
    float *sums;        /* [parts][m][n]; NULL: one part */
    unsigned *counters; /* [tile][part] */
    float *levels;      /* of the blocks; NULL: one chunk */
    int level_count;
    tile_after after;
};

static __device__ __forceinline__ int64_t tile_chunks(const tile_job &job, int64_t *k)
{
    *k = sl_cuda_valid_rows(job.valid, job.batch, job.k);
    return *k > 0 ? (*k + SL_CHUNK - 1) / SL_CHUNK : 1; /* the sum of nothing is a chunk that stays +0 */
}

/* ROWS x COLUMNS of the result by blocks of THREADS, each with HEIGHT x WIDTH of it; K of k at a time. The
 * rows of the two slabs in shared memory are a little longer, against bank conflicts. */
template <int ROWS_, int COLUMNS_, int K_, int HEIGHT_, int WIDTH_> struct tile_shape {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, K = K_, HEIGHT = HEIGHT_, WIDTH = WIDTH_;
    static constexpr int THREADS = ROWS / HEIGHT * (COLUMNS / WIDTH);
    static constexpr int A_ROW = ROWS + 4, B_ROW = COLUMNS + 4;
    static constexpr int A_FOURS = ROWS * K / 4 / THREADS, B_FOURS = COLUMNS * K / 4 / THREADS;
    static constexpr int SLABS = 2 * K * (A_ROW + B_ROW);
    static constexpr int SHARED = SLABS > ROWS *COLUMNS ? SLABS : ROWS *COLUMNS;
    static_assert(SL_CHUNK % K == 0, "a slab lies within one chunk");
    static_assert(A_FOURS * THREADS * 4 == ROWS * K && B_FOURS * THREADS * 4 == COLUMNS * K,
                  "threads share slabs evenly");
};

/* Fours of one slab, held by the threads between the loads and the barrier: that of `length` rows or columns.
 */
template <int FOURS, int THREADS, int LENGTH, int K, class GET>
static __device__ __forceinline__ void tile_load(four (&to)[FOURS], bool along_k, const GET &get)
{
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        const int at = (int)threadIdx.x + i * THREADS;
        to[i] = along_k ? get(at / (K / 4), at % (K / 4) * 4) : get(at % (LENGTH / 4) * 4, at / (LENGTH / 4));
    }
}

template <int FOURS, int THREADS, int LENGTH, int K, int STRIDE>
static __device__ __forceinline__ void tile_put(float *slab, const four (&from)[FOURS], bool along_k)
{
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        const int at = (int)threadIdx.x + i * THREADS;
        if (along_k) {
            float *to = slab + at % (K / 4) * 4 * STRIDE + at / (K / 4);
#pragma unroll
            for (int j = 0; j < 4; j++) to[j * STRIDE] = from[i].v[j];
        } else {
            four_write(slab + at / (LENGTH / 4) * STRIDE + at % (LENGTH / 4) * 4, from[i].v, 4, true);
        }
    }
}

template <class SHAPE, bool SKIP>
static __device__ __forceinline__ void tile_step(const float *a, const float *b,
                                                 float (&sum)[SHAPE::HEIGHT][SHAPE::WIDTH])
{
    float x[SHAPE::HEIGHT], y[SHAPE::WIDTH];
    tile_pick(a, x);
    tile_pick(b, y);
#pragma unroll
    for (int i = 0; i < SHAPE::HEIGHT; i++)
        if (!SKIP || r_bits(x[i]) != TILE_SKIPPED) {
#pragma unroll
            for (int j = 0; j < SHAPE::WIDTH; j++) sum[i][j] = r_fma(x[i], y[j], sum[i][j]);
        }
}

/* One more chunk of the part is summed: the counter over the chunks, its levels in the block's workspace. */
template <class SHAPE>
static __device__ __forceinline__ void tile_carry(float *levels, uint32_t c, bool last,
                                                  float (&sum)[SHAPE::HEIGHT][SHAPE::WIDTH])
{
    const int64_t size = SHAPE::ROWS * SHAPE::COLUMNS;
    for (uint32_t carries = tile_carries(c, last), t = 0; carries >> t; t++) {
        if ((carries >> t & 1) == 0) continue;
        const float *level = levels + t * size + threadIdx.x;
#pragma unroll
        for (int i = 0; i < SHAPE::HEIGHT; i++)
#pragma unroll
            for (int j = 0; j < SHAPE::WIDTH; j++)
                sum[i][j] = level[(i * SHAPE::WIDTH + j) * SHAPE::THREADS] + sum[i][j];
    }
    if (last) return;
    int store = 0;
    while (c >> store & 1) store++;
    float *level = levels + store * size + threadIdx.x;
#pragma unroll
    for (int i = 0; i < SHAPE::HEIGHT; i++)
#pragma unroll
        for (int j = 0; j < SHAPE::WIDTH; j++) {
            level[(i * SHAPE::WIDTH + j) * SHAPE::THREADS] = sum[i][j];
            sum[i][j] = 0;
        }
}

/* The sums of k in [first, last), which begins at a chunk, for the tile at (m, n). */
template <class SHAPE, class TERMS, bool SKIP>
static __device__ __forceinline__ void tile_sum(const TERMS &terms, float *memory, int64_t m, int64_t n,
                                                int64_t first, int64_t last, float *levels,
                                                float (&sum)[SHAPE::HEIGHT][SHAPE::WIDTH])
{
    constexpr int K = SHAPE::K, PER_CHUNK = SL_CHUNK / K;
    float *const a = memory, *const b = memory + 2 * K * SHAPE::A_ROW; /* two slabs of each */
    const int row = (int)threadIdx.x / (SHAPE::COLUMNS / SHAPE::WIDTH) * SHAPE::HEIGHT;
    const int column = (int)threadIdx.x % (SHAPE::COLUMNS / SHAPE::WIDTH) * SHAPE::WIDTH;
    const bool a_along = terms.a_along_k(), b_along = terms.b_along_k();
    const int64_t slabs = (last - first + K - 1) / K;
    four next_a[SHAPE::A_FOURS] = {}, next_b[SHAPE::B_FOURS] = {};
    for (int64_t s = 0; s <= slabs; s++) {
        if (s < slabs) {
            const int64_t k = first + s * K;
            tile_load<SHAPE::A_FOURS, SHAPE::THREADS, SHAPE::ROWS, K>(
                next_a, a_along, [&](int i, int l) { return terms.a(m + i, k + l); });
            tile_load<SHAPE::B_FOURS, SHAPE::THREADS, SHAPE::COLUMNS, K>(
                next_b, b_along, [&](int j, int l) { return terms.b(k + l, n + j); });
        }
        if (s > 0) {
            const int slab = (int)(s - 1) & 1;
            const float *x = a + slab * K * SHAPE::A_ROW + row, *y = b + slab * K * SHAPE::B_ROW + column;
            const int64_t left = last - first - (s - 1) * K;
            if (left >= K) {
#pragma unroll
                for (int l = 0; l < K; l++)
                    tile_step<SHAPE, SKIP>(x + l * SHAPE::A_ROW, y + l * SHAPE::B_ROW, sum);
            } else {
#pragma unroll 1
                for (int l = 0; l < (int)left; l++)
                    tile_step<SHAPE, SKIP>(x + l * SHAPE::A_ROW, y + l * SHAPE::B_ROW, sum);
            }
            if (s % PER_CHUNK == 0 || s == slabs)
                tile_carry<SHAPE>(levels, (uint32_t)((s - 1) / PER_CHUNK), s == slabs, sum);
        }
        if (s < slabs) {
            tile_put<SHAPE::A_FOURS, SHAPE::THREADS, SHAPE::ROWS, K, SHAPE::A_ROW>(
                a + (s & 1) * K * SHAPE::A_ROW, next_a, a_along);
            tile_put<SHAPE::B_FOURS, SHAPE::THREADS, SHAPE::COLUMNS, K, SHAPE::B_ROW>(
                b + (s & 1) * K * SHAPE::B_ROW, next_b, b_along);
        }
        __syncthreads();
    }
}

/* Through shared memory, so that the stores of a warp lie together. */
template <class SHAPE, bool FUSED>
static __device__ __forceinline__ void tile_store(const tile_job &job, float *memory, int64_t m, int64_t n,
                                                  int64_t part,
                                                  const float (&sum)[SHAPE::HEIGHT][SHAPE::WIDTH])
{
    constexpr int COLUMNS = SHAPE::COLUMNS;
    const int row = (int)threadIdx.x / (COLUMNS / SHAPE::WIDTH) * SHAPE::HEIGHT;
    const int column = (int)threadIdx.x % (COLUMNS / SHAPE::WIDTH) * SHAPE::WIDTH;
#pragma unroll
    for (int i = 0; i < SHAPE::HEIGHT; i++)
#pragma unroll
        for (int j = 0; j < SHAPE::WIDTH; j++) memory[(row + i) * COLUMNS + column + j] = sum[i][j];
    __syncthreads();
#pragma unroll 1
    for (int at = (int)threadIdx.x * 4; at < SHAPE::ROWS * COLUMNS; at += SHAPE::THREADS * 4) {
        const int64_t i = m + at / COLUMNS, j = n + at % COLUMNS;
        if (i >= job.m || j >= job.n) continue;
        float v[4];
        tile_pick(memory + at, v);
        if (job.sums)
            four_write(job.sums + (part * job.m + i) * job.n + j, v, job.n - j, job.n % 4 == 0);
        else
            tile_finish<FUSED>(job.after, i, j, job.n, v);
    }
    __syncthreads();
}

/* A part is stored. Of the blocks that made eight neighbours the last adds them, and their sum is a part of
 * the next level: as in the counter, whoever is last. One block for all parts would read some of the tiles a
 * hundred times over while the other SMs idle; so at most three short steps follow the longest part, each two
 * barriers, a fence and eight tiles to read, 1 us for a small tile and 3 to 4 for the widest. */
template <class SHAPE, bool FUSED>
static __device__ __forceinline__ void tile_join(const tile_job &job, int64_t m, int64_t n, int64_t place,
                                                 int64_t part, int64_t parts)
{
    int64_t span = 1; /* parts in a sum of this level */
    for (int level = 0;; level++, span *= TILE_JOINED) {
        const int64_t first = part - part % (span * TILE_JOINED), left = (parts - first + span - 1) / span;
        const int count = left < TILE_JOINED ? (int)left : TILE_JOINED;
        const bool all = span * TILE_JOINED >= parts;
        if (count == 1 && !all) continue;
        /* The counters of unlike levels differ in their remainder by eight. */
        if (count > 1 && !sl_cuda_last(job.counters + place * job.parts + first + level, count)) return;
#pragma unroll 1
        for (int at = (int)threadIdx.x * 4; at < SHAPE::ROWS * SHAPE::COLUMNS; at += SHAPE::THREADS * 4) {
            const int64_t i = m + at / SHAPE::COLUMNS, j = n + at % SHAPE::COLUMNS;
            if (i >= job.m || j >= job.n) continue;
            float *sums = job.sums + (first * job.m + i) * job.n + j;
            const bool whole = job.n % 4 == 0;
            four v[TILE_JOINED];
#pragma unroll
            for (int p = 0; p < TILE_JOINED; p++)
                v[p] = four_read<true>(sums + p * span * job.m * job.n, p < count ? job.n - j : 0, whole);
#pragma unroll
            for (int half = 1; half < TILE_JOINED; half *= 2)
#pragma unroll
                for (int p = 0; p < TILE_JOINED; p += 2 * half)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        if (p + half < count) v[p].v[e] = v[p].v[e] + v[p + half].v[e];
            if (all)
                tile_finish<FUSED>(job.after, i, j, job.n, v[0].v);
            else
                four_write(sums, v[0].v, job.n - j, whole);
        }
        if (all) return;
    }
}

/* The tiles of block number `block` of `blocks`. */
template <class SHAPE, class TERMS, bool SKIP, bool FUSED>
static __device__ __forceinline__ void tile_part(const tile_job &job, const TERMS &terms, float *memory,
                                                 int64_t block, int64_t blocks)
{
    int64_t k;
    const int64_t chunks = tile_chunks(job, &k), tiles = job.tiles_m * job.tiles_n * job.parts;
    float *levels = job.levels + block * job.level_count * (SHAPE::ROWS * SHAPE::COLUMNS);
    for (int64_t tile = block; tile < tiles; tile += blocks) {
        const int64_t part = tile / (job.tiles_m * job.tiles_n), place = tile % (job.tiles_m * job.tiles_n);
        const int64_t first = part << job.shift, last = (part + 1) << job.shift;
        if (first >= chunks) break; /* the later tiles' parts are cut away too */
        const int64_t m = place / job.tiles_n * SHAPE::ROWS, n = place % job.tiles_n * SHAPE::COLUMNS;
        float sum[SHAPE::HEIGHT][SHAPE::WIDTH] = {};
        tile_sum<SHAPE, TERMS, SKIP>(terms, memory, m, n, first * SL_CHUNK,
                                     last < chunks ? last * SL_CHUNK : k, levels, sum);
        tile_store<SHAPE, FUSED>(job, memory, m, n, part, sum);
        if (job.sums) tile_join<SHAPE, FUSED>(job, m, n, place, part, ((chunks - 1) >> job.shift) + 1);
    }
}

template <class SHAPE, class TERMS, bool SKIP, bool FUSED>
static __global__ void __launch_bounds__(SHAPE::THREADS) tile_product(tile_job job, TERMS terms)
{
    sl_cuda_begin();
    SL_SHARED(float, memory);
    tile_part<SHAPE, TERMS, SKIP, FUSED>(job, terms, memory, blockIdx.x, gridDim.x);
}
#endif
