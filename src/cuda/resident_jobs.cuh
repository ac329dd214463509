/* What the resident kernel can do: the jobs, by blocks of RESIDENT_BLOCK threads. They are what the launches
 * of the same calls do, cut otherwise: the rows of a batch into groups that a block takes through several
 * jobs in turn, and the sums over the rows into jobs of their own. */
#ifndef SL_CUDA_RESIDENT_JOBS_CUH
#define SL_CUDA_RESIDENT_JOBS_CUH

#include "cuda/loss.cuh"
#include "cuda/product.cuh"
#include "cuda/random.cuh"
#include "cuda/step.cuh"
#include "cuda/update.cuh"

/* Types too: those of two files may have one name. */
namespace
{

static constexpr int RESIDENT_BLOCK = 256; /* threads */
/* A multiple of four, so that a group's part of any tensor can be read in fours. */
static constexpr int GROUP_ROWS = 4;

static constexpr int RESIDENT_JOBS = 64; /* of a program */

/* Rows of a group: those from `first` on, `end` not among them. */
struct row_group {
    int64_t first, end;
};

static __device__ __forceinline__ row_group group_of(int64_t block, int64_t rows)
{
    const int64_t first = block * GROUP_ROWS;
    return {first, first + GROUP_ROWS < rows ? first + GROUP_ROWS : rows};
}

/* --- products --- */

struct tiles_job {
    tile_job job;
    matmul_terms terms;
};

/* A product of few columns and few terms: a group's rows and the right factor, or as many of its columns as
 * there is room for, lie in shared memory; a thread makes four sums. */
struct row_product_job {
    int64_t m;
    int n, k, panel;  /* columns at once, a multiple of four */
    bool right_along; /* the right factor's lines run along k */
    const float *left, *right;
    tile_after after;
};
static constexpr int ROW_PRODUCT_ROOM = 9216;    /* floats */
static constexpr int ROW_PRODUCT_MOST = 1 << 14; /* elements of the right factor */

static __host__ __device__ __forceinline__ int padded_four(int n)
{
    return (n + 3) / 4 * 4;
}

static __device__ __forceinline__ void product_of_rows(const row_product_job &j, int64_t block, float *memory)
{
    const row_group rows = group_of(block, j.m);
    const int count = (int)(rows.end - rows.first), line = j.k | 1; /* odd, against bank conflicts */
    float *const a = memory, *const b = memory + padded_four(GROUP_ROWS * line);
    for (int i = (int)threadIdx.x; i < count * j.k; i += (int)blockDim.x)
        a[i / j.k * line + i % j.k] = j.left[rows.first * j.k + i];
    for (int first = 0; first < j.n; first += j.panel) {
        const int width = j.n - first < j.panel ? j.n - first : j.panel, fours = (width + 3) / 4;
        const int step = 4 * fours; /* of b's lines */
        if (first > 0) __syncthreads();
        if (j.right_along) {
            for (int i = (int)threadIdx.x; i < width * j.k; i += (int)blockDim.x)
                b[i % j.k * step + i / j.k] = j.right[(int64_t)first * j.k + i];
        } else if (width == j.n && step == j.n) {
            for (int i = 4 * (int)threadIdx.x; i < width * j.k; i += 4 * (int)blockDim.x)
                four_write(b + i, four_read(j.right + i, 4, true).v, 4, true);
        } else {
            for (int i = (int)threadIdx.x; i < width * j.k; i += (int)blockDim.x)
                b[i / width * step + i % width] = j.right[(int64_t)(i / width) * j.n + first + i % width];
        }
        __syncthreads();
        for (int at = (int)threadIdx.x; at < count * fours; at += (int)blockDim.x) {
            const int r = at / fours, column = at % fours * 4;
            const float *x = a + r * line, *y = b + column;
            float sum[4] = {};
#pragma unroll 8
            for (int l = 0; l < j.k; l++) {
                float right[4];
                tile_pick(y + l * step, right);
#pragma unroll
                for (int i = 0; i < 4; i++) sum[i] = r_fma(x[l], right[i], sum[i]);
            }
            tile_finish<true>(j.after, rows.first + r, first + column, j.n, sum);
        }
    }
}

/* --- cross-entropy --- */

struct head_job {
    cross_entropy_row f;
    rows s;
};

static __device__ __forceinline__ void head_of_rows(const head_job &j, int64_t block)
{
    const row_group group = group_of(block, j.s.n);
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const bool narrow = j.s.k <= 16;
    const int64_t first = group.first + (narrow ? 2 * warp : warp), r = first + (narrow ? lane / 16 : 0);
    if (first >= group.end) return;
    if (narrow)
        j.f.run<16>(j.s, r < group.end ? r : group.end - 1, r < group.end);
    else
        j.f.run<32>(j.s, r, true);
}

/* The mean of the losses and the number of right samples, by two warps. */
struct head_sums_job {
    rows s;
    bool per_sample;
    const float *losses, *rights;
    float *mean, *count; /* count NULL: not wanted */
};

static __device__ __forceinline__ void sum_heads(const head_sums_job &j)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (warp > 1 || (warp == 1 && !j.count)) return;
    const float *terms = warp == 0 ? j.losses : j.rights;
    const float total =
        leaf_sum<32>(0, sl_cuda_valid_rows(j.s.valid, j.s.batch, j.s.n), [&](int64_t i) { return terms[i]; });
    if (lane == 0)
        *(warp == 0 ? j.mean : j.count) = warp == 0 ? total / mean_divisor(j.s, j.per_sample) : total;
}

static __device__ __forceinline__ void head_slopes_of_rows(const cross_entropy_slope &j, int64_t block)
{
    const row_group group = group_of(block, j.s.n);
    const int64_t counts = sl_cuda_valid_rows(j.s.valid, j.s.batch, j.s.n);
    for (int64_t i = group.first * j.s.k + threadIdx.x; i < group.end * j.s.k; i += blockDim.x)
        j.run<1, uint32_t>(i, counts);
}

/* --- element by element --- */

/* dy·f'(at), the parameter one for all or one per column. */
struct slope_job {
    const float *dy, *at, *parameter; /* at NULL: the row reads nothing */
    float *dx, a, b;
    int row;
    bool wide;
    int64_t rows, columns;
};

static __device__ __forceinline__ void slopes_of_rows(const slope_job &j, int64_t block)
{
    const row_group group = group_of(block, j.rows);
    const int64_t end = group.end * j.columns;
    for (int64_t i = group.first * j.columns + 4 * threadIdx.x; i < end; i += 4 * blockDim.x) {
        sl_vec<4> dy = sl_vec_load<4>(j.dy, i, end), at = dy, a = {{j.a, j.a, j.a, j.a}};
        if (j.at) at = sl_vec_load<4>(j.at, i, end);
        if (j.parameter) a = sl_vec_columns<4>(j.parameter, j.wide, i % j.columns, j.columns);
        sl_cuda_row_terms<4>(j.row, at.v, a.v, j.b, dy.v);
        sl_vec_store<4>(j.dx, i, end, dy);
    }
}

struct dropped_job {
    dropout_job j;
    int64_t rows, columns;
};

static __device__ __forceinline__ void dropout_of_rows(const dropped_job &d, int64_t block)
{
    const row_group group = group_of(block, d.rows);
    const uint32_t step = (uint32_t)*d.j.step;
    for (int64_t i = group.first * d.columns + 4 * threadIdx.x; i < group.end * d.columns;
         i += 4 * blockDim.x)
        dropout_four(d.j, step, i, group.end * d.columns);
}

/* --- sums of columns: one leaf block of rows --- */

struct columns_job {
    sl_element_terms<false> terms;
    sl_store_sum finish;
    sl_panels panels;
};
static constexpr int PANEL = RESIDENT_BLOCK / SL_LANES; /* columns */

static __device__ __forceinline__ void sum_columns(const columns_job &j, int64_t block, float *memory)
{
    const sl_columns &c = j.panels.c;
    sl_column_leaf<1>(j.terms, j.finish, j.panels, memory, 0, block, 0,
                      sl_cuda_valid_rows(c.valid, c.batch, c.rows));
}

/* --- the program --- */

enum job_kind {
    JOB_DRAW,
    JOB_TILES,
    JOB_ROW_PRODUCT,
    JOB_HEAD,
    JOB_HEAD_SUMS,
    JOB_HEAD_SLOPES,
    JOB_SLOPES,
    JOB_DROPOUT,
    JOB_COLUMNS,
    JOB_RECORD,
    JOB_CLIP_SCALE,
    JOB_ADVANCE,
    JOB_UPDATE,
};

struct job_entry {
    int kind, variant, at; /* at: bytes from the program's begin */
    int shift;             /* the block that takes part 0 */
    int64_t parts;
    bool begins_phase;
};

struct program {
    int n, bytes;
    job_entry entry[RESIDENT_JOBS];
};

struct draw_rows_job {
    draw_job j;
    int64_t rows;
};

enum draw_variant { DRAW_BYTES_16, DRAW_BYTES_4, DRAW_BYTES_1, DRAW_FLOATS_4, DRAW_FLOATS_1 };

} // namespace
#endif
