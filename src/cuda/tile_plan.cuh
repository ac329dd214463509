/* Products by tiles, the host's side: which tile, how the chunks are shared out, workspace, launches. */
#ifndef SL_CUDA_TILE_PLAN_CUH
#define SL_CUDA_TILE_PLAN_CUH

#include "cuda/tile.cuh"

/* A wide one where there is work for many blocks, narrower ones for narrow results, a small one where there
 * is little. */
typedef tile_shape<128, 64, 16, 8, 4> tile_wide;
typedef tile_shape<128, 32, 16, 8, 4> tile_narrow;
typedef tile_shape<64, 16, 32, 4, 2> tile_thin;
typedef tile_shape<32, 32, 32, 2, 2> tile_small;

enum tile_kind { TILE_WIDE, TILE_NARROW, TILE_THIN, TILE_SMALL };

struct tile_plan {
    tile_kind kind;
    int rows, columns, shift, levels;
    int64_t tiles_m, tiles_n, parts, blocks;
};

static inline int64_t tile_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int tile_bits(int64_t x)
{
    int bits = 0;
    for (; x > 0; x >>= 1) bits++;
    return bits;
}

/* m, n, k: before the cut. */
static inline tile_plan tile_plan_of(const sl_call *call, int64_t m, int64_t n, int64_t k)
{
    static const struct {
        int rows, columns;
    } sizes[] = {{tile_wide::ROWS, tile_wide::COLUMNS},
                 {tile_narrow::ROWS, tile_narrow::COLUMNS},
                 {tile_thin::ROWS, tile_thin::COLUMNS},
                 {tile_small::ROWS, tile_small::COLUMNS}};
    const int64_t sms = sl_cuda_sms(call->device), chunks = k > 0 ? tile_up(k, SL_CHUNK) : 1;
    tile_plan p = {};
    p.kind = n <= 16 ? TILE_THIN : n <= 32 ? TILE_NARROW : TILE_WIDE;
    const auto tiles = [&](tile_kind kind) {
        return tile_up(m, sizes[kind].rows) * tile_up(n, sizes[kind].columns);
    };
    if (tiles(p.kind) * chunks < sms && p.kind != TILE_THIN) p.kind = TILE_SMALL;
    if (p.kind == TILE_NARROW && m <= 32) p.kind = TILE_SMALL;
    p.rows = sizes[p.kind].rows;
    p.columns = sizes[p.kind].columns;
    p.tiles_m = tile_up(m, p.rows);
    p.tiles_n = tile_up(n, p.columns);
    /* Sharing out chunks costs a way through memory. */
    const int64_t all = p.tiles_m * p.tiles_n, most = (int64_t)(64 << 20) / (m * n * 4 + 1);
    int64_t wanted = all > 0 && all < sms && chunks >= 3 ? tile_up(2 * sms, all) : 1;
    if (wanted > most) wanted = most > 0 ? most : 1;
    if (wanted > TILE_MOST_PARTS) wanted = TILE_MOST_PARTS;
    if (wanted > 1 && wanted > SL_CUDA_COUNTERS / all) wanted = SL_CUDA_COUNTERS / all;
    while (tile_up(chunks, (int64_t)1 << p.shift) > wanted) p.shift++;
    p.parts = tile_up(chunks, (int64_t)1 << p.shift);
    p.levels = tile_bits((chunks < (int64_t)1 << p.shift ? chunks : (int64_t)1 << p.shift) - 1);
    p.blocks = all * p.parts;
    /* Every block keeps levels of its own. Where they would take much memory, blocks make several tiles each.
     */
    int64_t at_once = p.levels > 0 ? (32 << 20) / ((int64_t)p.levels * p.rows * p.columns * 4) : INT32_MAX;
    if (at_once < 4 * sms) at_once = 4 * sms;
    if (p.blocks > at_once) p.blocks = at_once;
    return p;
}

static inline size_t tile_rounded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static inline size_t tile_sums_bytes(const tile_plan &p, int64_t m, int64_t n)
{
    return p.parts > 1 ? tile_rounded((size_t)(p.parts * m * n) * sizeof(float)) : 0;
}

static inline size_t tile_workspace(const tile_plan &p, int64_t m, int64_t n)
{
    return tile_sums_bytes(p, m, n) + (size_t)(p.blocks * p.levels * p.rows * p.columns) * sizeof(float);
}

/* The sums go to output 0; bias (input 2), parameter (input 3) and activation follow where there is one. */
static inline tile_after tile_after_of(const sl_call *call, const sl_activation_attr *activation, int64_t n)
{
    tile_after after = {};
    after.row = -1;
    after.y = sl_out(call, 0);
    after.whole = !after.y || four_fits(after.y, n);
    if (!activation) return after;
    after.row = activation->id;
    after.a = activation->a;
    after.b = activation->b;
    after.bias = sl_in(call, 2);
    after.bias_step = sl_shape_count(call->in[2].shape) > 1;
    if (call->n_in > 3) {
        after.parameter = sl_in(call, 3);
        after.parameter_step = sl_shape_count(call->in[3].shape) > 1;
    }
    after.z = call->n_out > 1 ? sl_out(call, 1) : nullptr;
    after.whole = after.whole && (!after.z || four_fits(after.z, n));
    return after;
}

static inline tile_job tile_job_of(const sl_call *call, const tile_plan &p, int64_t m, int64_t n, int64_t k,
                                   bool cut, const sl_activation_attr *activation)
{
    tile_job job = {};
    job.m = m, job.n = n, job.k = k;
    job.valid = cut ? call->valid : nullptr;
    job.batch = call->batch;
    job.shift = p.shift;
    job.parts = p.parts;
    job.tiles_m = p.tiles_m, job.tiles_n = p.tiles_n;
    char *space = static_cast<char *>(call->workspace);
    if (p.parts > 1) job.sums = reinterpret_cast<float *>(space);
    job.counters = sl_cuda_counters(call->device);
    if (p.levels > 0) job.levels = reinterpret_cast<float *>(space + tile_sums_bytes(p, m, n));
    job.level_count = p.levels;
    job.after = tile_after_of(call, activation, n);
    return job;
}

template <class SHAPE, class TERMS, bool SKIP, bool FUSED>
static void tile_launch(const sl_call *call, const tile_plan &p, const tile_job &job, const TERMS &terms)
{
    SL_LAUNCH((tile_product<SHAPE, TERMS, SKIP, FUSED>), (unsigned)p.blocks, SHAPE::THREADS,
              SHAPE::SHARED * sizeof(float), call, job, terms);
}

/* The whole product. SKIP: terms may be TILE_SKIPPED; FUSED: an activation may follow. */
template <class TERMS, bool SKIP, bool FUSED>
static void tile_run(const sl_call *call, const tile_plan &p, const tile_job &job, const TERMS &terms)
{
    if (job.m == 0 || job.n == 0) return;
    if (p.kind == TILE_WIDE) tile_launch<tile_wide, TERMS, SKIP, FUSED>(call, p, job, terms);
    if (p.kind == TILE_NARROW) tile_launch<tile_narrow, TERMS, SKIP, FUSED>(call, p, job, terms);
    if (p.kind == TILE_THIN) tile_launch<tile_thin, TERMS, SKIP, FUSED>(call, p, job, terms);
    if (p.kind == TILE_SMALL) tile_launch<tile_small, TERMS, SKIP, FUSED>(call, p, job, terms);
}
#endif
