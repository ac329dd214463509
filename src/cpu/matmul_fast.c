/* Matrix products by tiles. A thread takes a range of rows or of columns, block by block; for each chunk of k
 * it packs the block's part of B into panels that lie in one piece (which also transposes it, where asked)
 * and runs the tiles. */
#include "cpu/product_after.h"
#include "cpu/product_shape.h"
#include "cpu/tile.h"

#define BLOCK_ROWS   132   /* rows of A that stay in L2 for a chunk; a multiple of the tiles' heights */
#define BLOCK_PACKED 49152 /* floats of B, packed */
#define LEAST_PANELS 8     /* of a range */
#define FEW_ROWS     16    /* below, packing B costs more than reading it where it lies */

typedef struct dense_job {
    matmul_shape s;
    const float *a, *b;
    float *c;
    int64_t block_rows, block_columns, block_k, levels;
    bool by_columns, pack_a;
    float *space; /* of worker 0; the others' follow */
    int64_t space_each;
    product_after after;
} dense_job;

/* How much longer the longest part of `units` is than a fair one, in percent. */
static int64_t imbalance(int64_t units, int threads)
{
    return (units + threads - 1) / threads * threads * 100 / (units > 0 ? units : 1);
}

/* The blocks, from the whole shape: k may be cut later. */
static dense_job plan(const sl_call *call)
{
    dense_job job = {.s = matmul_shape_of(call, false)};
    const int64_t k = job.block_k = tile_smaller(job.s.k, SL_CHUNK), columns = tile_padded(job.s.n);
    const int threads = sl_pool_threads(sl_cpu_pool(call->device));
    const int64_t fitting = BLOCK_PACKED / (k > 0 ? k : 1) / TILE_WIDTH * TILE_WIDTH;
    job.block_columns = tile_smaller(columns, fitting);
    job.block_rows = tile_smaller(job.s.m, BLOCK_ROWS);
    job.levels = tile_levels(tile_chunks(job.s.k));
    job.pack_a = job.s.a_step != 1 && tile_panels(job.s.n) > 2;
    const int64_t panels = tile_panels(job.s.n),
                  tiles = (job.s.m + TILE_ROWS(TILE_VECTORS) - 1) / TILE_ROWS(TILE_VECTORS);
    const int64_t by_columns = imbalance(panels, threads), by_rows = imbalance(tiles, threads);
    job.by_columns = job.s.n >= job.s.m ? by_columns <= by_rows + 5 : by_columns + 5 < by_rows;
    job.space_each = k * job.block_columns + (job.pack_a ? k * job.block_rows : 0) +
                     job.levels * job.block_rows * job.block_columns;
    job.space_each = (job.space_each + 15) / 16 * 16;
    return job;
}

static size_t dense_workspace(const sl_call *call)
{
    const dense_job job = plan(call);
    const int threads = sl_pool_threads(sl_cpu_pool(call->device));
    return (size_t)(job.space_each * threads + product_after_space(call, job.s.n)) * sizeof(float);
}

/* One block: rows [top, bottom), panels [left, right). */
typedef struct block {
    int64_t top, bottom, left, right;
    float *packed_b, *packed_a, *levels;
    int64_t packed_chunk, packed_left; /* what packed_b holds; -1: nothing */
} block;

static void pack_panel(const dense_job *job, float *to, int64_t panel, int64_t c, int64_t k)
{
    const matmul_shape *s = &job->s;
    const int64_t column = panel * TILE_WIDTH, width = tile_vectors(panel, s->n) * TILE_LANES;
    const float *from = job->b + c * SL_CHUNK * s->b_step + column * s->b_column;
    if (s->b_column == 1)
        tile_pack(to, width, from, s->b_step, k, tile_smaller(width, s->n - column));
    else
        tile_pack_transposed(to, width, from, s->b_column, k, tile_smaller(width, s->n - column));
}

/* Chunk c of the block. */
static void block_chunk(const dense_job *job, block *at, int64_t c, int64_t chunks)
{
    const matmul_shape *s = &job->s;
    const int64_t k = tile_smaller(s->k - c * SL_CHUNK, SL_CHUNK), rows = at->bottom - at->top;
    const bool few = rows < FEW_ROWS && s->b_column == 1;
    const bool packed = at->packed_chunk == c && at->packed_left == at->left;
    const tile_run run = {0, 0, k, TILE_ALL};
    tile t = {
        .runs = &run, .n_runs = 1, .a_step = s->a_step, .level_stride = job->block_rows * job->block_columns};
    tile_set_chunk(&t, c, chunks);
    const float *a = job->a + at->top * s->a_row + c * SL_CHUNK * s->a_step;
    int64_t a_row = s->a_row;
    if (job->pack_a) {
        for (int64_t i = 0; i < k; i++)
            memcpy(at->packed_a + i * rows, a + i * s->a_step, (size_t)rows * sizeof *a);
        a = at->packed_a;
        t.a_step = rows;
    }
    for (int64_t p = at->left; p < at->right; p++) {
        const int vectors = tile_vectors(p, s->n);
        const int64_t width = vectors * TILE_LANES;
        const tile_cut cut = tile_cut_rows(rows, TILE_ROWS(vectors));
        t.column = p * TILE_WIDTH;
        t.columns = tile_smaller(width, s->n - t.column);
        if (few && t.columns == width) {
            t.b = job->b + c * SL_CHUNK * s->b_step + t.column;
            t.b_step = s->b_step;
        } else {
            float *panel = at->packed_b + (p - at->left) * TILE_WIDTH * k;
            t.b = panel;
            t.b_step = width;
            if (!packed && s->b_column == 1 && t.columns == width) { /* by the first tile, on the way */
                t.b = job->b + c * SL_CHUNK * s->b_step + t.column;
                t.b_step = s->b_step;
                t.pack = panel;
            } else if (!packed) {
                pack_panel(job, panel, p, c, k);
            }
        }
        for (int64_t i = 0, first = 0, n; i < cut.tiles; i++, first += n) {
            n = cut.rows + (i < cut.higher);
            const float *from[TILE_MAX_ROWS];
            float *out[TILE_MAX_ROWS];
            for (int64_t r = 0; r < n; r++) {
                from[r] = a + (first + r) * a_row;
                out[r] = job->c + (at->top + first + r) * s->n;
            }
            t.levels = at->levels + (p - at->left) * TILE_WIDTH * rows + first * width;
            tile_functions[vectors][n](&t, from, out);
            tile_packed(&t, width);
        }
    }
    at->packed_chunk = c;
    at->packed_left = at->left;
}

static void dense_range(const dense_job *job, int64_t top, int64_t bottom, int64_t left, int64_t right,
                        int worker)
{
    block at = {.packed_b = job->space + worker * job->space_each, .packed_chunk = -1};
    at.packed_a = at.packed_b + job->block_k * job->block_columns;
    at.levels = at.packed_a + (job->pack_a ? job->block_k * job->block_rows : 0);
    const int64_t chunks = tile_chunks(job->s.k), panels = job->block_columns / TILE_WIDTH;
    const int64_t blocks = (bottom - top + job->block_rows - 1) / job->block_rows;
    const int64_t step = panels > 0 ? panels : 1;
    for (at.left = left; at.left < right; at.left = at.right) {
        at.right = tile_smaller(at.left + step, right);
        for (int64_t i = 0; i < blocks; i++) {
            at.top = top + (bottom - top) * i / blocks;
            at.bottom = top + (bottom - top) * (i + 1) / blocks;
            for (int64_t c = 0; c < chunks; c++) block_chunk(job, &at, c, chunks);
            product_finish(&job->after, at.top, at.bottom, at.left * TILE_WIDTH,
                           tile_smaller(at.right * TILE_WIDTH, job->s.n), job->s.n);
        }
    }
}

static void some_columns(void *arg, int64_t first, int64_t last, int worker)
{
    const dense_job *job = arg;
    dense_range(job, 0, job->s.m, first, last, worker);
}

static void some_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const dense_job *job = arg;
    dense_range(job, first, last, 0, tile_panels(job->s.n), worker);
}

static void dense(const sl_call *call, const sl_activation_attr *activation)
{
    dense_job job = plan(call);
    job.s = matmul_shape_of(call, true);
    job.a = sl_in(call, 0);
    job.b = sl_in(call, 1);
    job.c = sl_out(call, 0);
    const int64_t ours = product_after_space(call, job.s.n);
    job.after = product_after_of(call, activation, job.s.n, call->workspace);
    job.space = (float *)call->workspace + ours;
    const int64_t k = job.s.k > 0 ? job.s.k : 1;
    /* Every range packs the other factor for itself, so it should be worth that. */
    if (job.by_columns) {
        const int64_t grain = TILE_PART / (job.s.m * k * TILE_WIDTH + 1) + 1;
        sl_pool_run_pieces(sl_cpu_pool(call->device), some_columns, &job, tile_panels(job.s.n), grain,
                           LEAST_PANELS);
    } else {
        const int64_t grain = TILE_PART / (job.s.n * k + 1) + 1;
        sl_pool_run_pieces(sl_cpu_pool(call->device), some_rows, &job, job.s.m, grain, 2 * BLOCK_ROWS);
    }
}

static void matmul(const sl_call *call)
{
    dense(call, NULL);
}

static void matmul_bias_activation(const sl_call *call)
{
    dense(call, &((const sl_matmul_fused_attr *)call->attr)->activation);
}

extern const sl_kernel SL_KERNELS(matmul_fast)[];
const sl_kernel SL_KERNELS(matmul_fast)[] = {
    {SL_OP_MATMUL, "tiles", NULL, dense_workspace, matmul},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "tiles", NULL, dense_workspace, matmul_bias_activation},
    {0},
};
