/* How calls become jobs of the resident kernel.
 *
 * A job is small where a launch costs more than the work: at most RESIDENT_ELEMENTS numbers in a tensor, a
 * product at most RESIDENT_TERMS multiplications. Larger ones keep their own launches, which fill the device
 * better than one block of 256 threads on every SM. */
#ifndef SL_CUDA_RESIDENT_CALLS_CUH
#define SL_CUDA_RESIDENT_CALLS_CUH

#include "cuda/phases.cuh"
#include "cuda/resident_jobs.cuh"

/* Types too: those of two files may have one name. */
namespace
{

static constexpr int64_t RESIDENT_ELEMENTS = 1 << 20, RESIDENT_TERMS = 1 << 25;
static constexpr int RESIDENT_PROGRAM = 8 * 1024; /* bytes of jobs */

/* Made twice: without an address, to learn the size, and with it. */
struct builder {
    char *base;             /* of the device memory: program, counters, workspace */
    char *jobs;             /* the program as it is built, RESIDENT_PROGRAM bytes behind its head */
    int n, bytes, counters; /* of all; counter 0 is the barrier's */
    int64_t workspace;      /* bytes */
    int64_t counters_at, workspace_at; /* from base */
    bool fits;
    job_entry entry[RESIDENT_JOBS];
    sl_job_uses uses[RESIDENT_JOBS];
};

static unsigned *take_counters(builder *b, int64_t n)
{
    b->counters += (int)n;
    return reinterpret_cast<unsigned *>(b->base + b->counters_at) + b->counters - n;
}

static float *take_floats(builder *b, int64_t n)
{
    const int64_t at = b->workspace_at + b->workspace;
    b->workspace += (n * (int64_t)sizeof(float) + 255) / 256 * 256;
    return reinterpret_cast<float *>(b->base + at);
}

static void add_job(builder *b, job_kind kind, int variant, const void *job, size_t bytes, sl_spread spread,
                    int64_t parts)
{
    const int room = (int)((bytes + 15) / 16 * 16);
    b->fits = b->fits && b->n < RESIDENT_JOBS && b->bytes + room <= RESIDENT_PROGRAM;
    if (!b->fits) return;
    memcpy(b->jobs + b->bytes, job, bytes);
    b->entry[b->n] = {kind, variant, b->bytes, 0, parts, false};
    b->uses[b->n] = {};
    b->uses[b->n++].spread = spread;
    b->bytes += room;
}

/* The last job touches it. */
static void touches(builder *b, const void *from, int64_t bytes, int64_t row, bool writes)
{
    b->fits = b->fits && sl_job_touches(&b->uses[b->n - 1], from, bytes, row, writes);
}

static int64_t bytes_of(const sl_tensor *t)
{
    return sl_shape_count(t->shape) * (int64_t)sl_dtype_size(t->dtype, sizeof(float));
}

/* By rows of its last dimension. */
static void touches_rows(builder *b, const sl_tensor *t, bool writes)
{
    const int64_t rows = sl_shape_rows(t->shape), bytes = bytes_of(t);
    touches(b, t->data, bytes, rows > 0 ? bytes / rows : 0, writes);
}

static void reads(builder *b, const sl_tensor *t)
{
    touches(b, t->data, bytes_of(t), 0, false);
}

static void writes(builder *b, const sl_tensor *t)
{
    touches(b, t->data, bytes_of(t), 0, true);
}

static void reads_valid(builder *b, const sl_call *call)
{
    touches(b, call->valid, sizeof *call->valid, 0, false);
}

static int64_t groups(int64_t rows)
{
    return (rows + GROUP_ROWS - 1) / GROUP_ROWS;
}

static bool is_small(const sl_tensor *t)
{
    const int64_t count = sl_shape_count(t->shape);
    return count > 0 && count <= RESIDENT_ELEMENTS;
}

static bool add_draw(builder *b, const sl_call *call)
{
    const draw_rows_job d = {draw_job_of(call), call->out[0].shape.dim[0]};
    if (!is_small(&call->out[0])) return false;
    const bool bytes = call->in[0].dtype == SL_BYTE;
    const draw_variant variant = bytes               ? d.j.size % 16 == 0  ? DRAW_BYTES_16
                                                       : d.j.size % 4 == 0 ? DRAW_BYTES_4
                                                                           : DRAW_BYTES_1
                                 : d.j.size % 4 == 0 ? DRAW_FLOATS_4
                                                     : DRAW_FLOATS_1;
    add_job(b, JOB_DRAW, variant, &d, sizeof d, SL_SPREAD_ROWS, groups(d.rows));
    reads(b, &call->in[0]);
    reads(b, &call->in[1]);
    reads(b, &call->in[2]);
    touches(b, call->out[0].data, bytes_of(&call->out[0]), bytes_of(&call->out[0]) / d.rows, true);
    touches(b, call->out[1].data, bytes_of(&call->out[1]), bytes_of(&call->out[1]) / d.rows, true);
    writes(b, &call->out[2]);
    return true;
}

static void touches_after(builder *b, const sl_call *call)
{
    for (int i = 2; i < call->n_in; i++) reads(b, &call->in[i]);
}

static bool add_row_product(builder *b, const sl_call *call, const matmul_shape &s)
{
    row_product_job j = {};
    j.m = s.m;
    j.n = (int)s.n;
    j.k = (int)s.k;
    j.right_along = s.transpose_b;
    j.left = sl_in(call, 0);
    j.right = sl_in(call, 1);
    j.after = tile_after_of(call, matmul_activation(call), s.n);
    const int room = (ROW_PRODUCT_ROOM - padded_four(GROUP_ROWS * (j.k | 1))) / (j.k > 0 ? j.k : 1) / 4 * 4;
    j.panel = room < padded_four(j.n) ? room : padded_four(j.n);
    add_job(b, JOB_ROW_PRODUCT, 0, &j, sizeof j, SL_SPREAD_ROWS, groups(s.m));
    touches_rows(b, &call->in[0], false);
    reads(b, &call->in[1]);
    touches_after(b, call);
    for (int i = 0; i < call->n_out; i++) touches_rows(b, &call->out[i], true);
    return true;
}

/* Every chunk of k is a part of its own. */
static bool add_tiles(builder *b, const sl_call *call, const matmul_shape &s)
{
    tile_plan p = {};
    p.kind = TILE_SMALL;
    p.tiles_m = tile_up(s.m, tile_small::ROWS);
    p.tiles_n = tile_up(s.n, tile_small::COLUMNS);
    p.parts = s.k > 0 ? tile_up(s.k, SL_CHUNK) : 1;
    if (s.m * s.n * s.k > RESIDENT_TERMS || p.parts > TILE_MOST_PARTS) return false;
    const sl_activation_attr *activation = matmul_activation(call);
    tiles_job j = {tile_job_of(call, p, s.m, s.n, s.k, !activation && s.transpose_a, activation),
                   matmul_terms_of(call, s)};
    const int64_t sums = p.parts > 1 ? p.parts * s.m * s.n : 0, places = p.tiles_m * p.tiles_n;
    j.job.counters = take_counters(b, p.parts > 1 ? places * p.parts + TILE_JOINED : 0);
    j.job.sums = sums > 0 ? take_floats(b, sums) : nullptr;
    add_job(b, JOB_TILES, 0, &j, sizeof j, SL_SPREAD_BLOCKS, places * p.parts);
    reads(b, &call->in[0]);
    reads(b, &call->in[1]);
    touches_after(b, call);
    if (j.job.valid) reads_valid(b, call);
    for (int i = 0; i < call->n_out; i++) writes(b, &call->out[i]);
    return true;
}

static bool add_product(builder *b, const sl_call *call)
{
    const matmul_shape s = matmul_shape_of(call);
    if (s.m == 0 || s.n == 0) return false;
    if (!s.transpose_a && s.k <= SL_CHUNK && s.n * s.k <= ROW_PRODUCT_MOST && s.m * s.n <= RESIDENT_ELEMENTS)
        return add_row_product(b, call, s);
    return add_tiles(b, call, s);
}

static bool add_head(builder *b, const sl_call *call)
{
    const rows s = rows_of(call, &call->in[0]);
    if (s.n > SL_LEAF || s.n == 0 || !is_small(&call->in[0]) || !call->out[0].data) return false;
    float *losses = take_floats(b, s.n), *rights = call->out[2].data ? take_floats(b, s.n) : nullptr;
    const head_job j = {
        {sl_in(call, 0), static_cast<const int32_t *>(call->in[1].data), losses, sl_out(call, 1), rights}, s};
    add_job(b, JOB_HEAD, 0, &j, sizeof j, SL_SPREAD_ROWS, groups(s.n));
    touches_rows(b, &call->in[0], false);
    touches(b, call->in[1].data, bytes_of(&call->in[1]), bytes_of(&call->in[1]) / s.n, false);
    reads_valid(b, call);
    touches_rows(b, &call->out[1], true);
    touches(b, losses, s.n * 4, 4, true);
    touches(b, rights, s.n * 4, 4, true);
    const head_sums_job sums = {s,
                                static_cast<const sl_mean_attr *>(call->attr)->per_sample,
                                losses,
                                rights,
                                sl_out(call, 0),
                                sl_out(call, 2)};
    add_job(b, JOB_HEAD_SUMS, 0, &sums, sizeof sums, SL_SPREAD_ONE, 1);
    touches(b, losses, s.n * 4, 4, false);
    touches(b, rights, s.n * 4, 4, false);
    reads_valid(b, call);
    writes(b, &call->out[0]);
    writes(b, &call->out[2]);
    return true;
}

/* The sums of the columns of `t`, its rows that count. */
static void add_columns(builder *b, const sl_call *call, const sl_tensor *t, const sl_tensor *sums)
{
    columns_job j = {};
    const int64_t columns = sl_shape_last(t->shape);
    j.terms.x = static_cast<const float *>(t->data);
    j.finish.to = static_cast<float *>(sums->data);
    j.panels.c = {1, sl_shape_rows(t->shape), columns, call->batch, call->valid, false};
    j.panels.leaves = j.panels.parts = 1;
    j.panels.panels = (columns + PANEL - 1) / PANEL;
    j.panels.width = PANEL;
    add_job(b, JOB_COLUMNS, 0, &j, sizeof j, SL_SPREAD_BLOCKS, j.panels.panels);
    reads(b, t);
    reads_valid(b, call);
    writes(b, sums);
}

static bool add_head_slopes(builder *b, const sl_call *call)
{
    const rows s = rows_of(call, &call->in[1]);
    if (s.n > SL_LEAF || !is_small(&call->in[1]) || !call->out[0].data) return false;
    const cross_entropy_slope j = {
        {sl_in(call, 0), true, static_cast<const sl_mean_attr *>(call->attr)->per_sample},
        sl_in(call, 1),
        static_cast<const int32_t *>(call->in[2].data),
        sl_out(call, 0),
        s};
    add_job(b, JOB_HEAD_SLOPES, 0, &j, sizeof j, SL_SPREAD_ROWS, groups(s.n));
    reads(b, &call->in[0]);
    touches_rows(b, &call->in[1], false);
    touches(b, call->in[2].data, bytes_of(&call->in[2]), bytes_of(&call->in[2]) / s.n, false);
    reads_valid(b, call);
    touches_rows(b, &call->out[0], true);
    if (call->out[1].data) add_columns(b, call, &call->out[0], &call->out[1]);
    return true;
}

/* The sums are those of the slopes as they are written: the same numbers. */
static bool add_slopes(builder *b, const sl_call *call)
{
    const sl_activation_attr *attr = static_cast<const sl_activation_attr *>(call->attr);
    const int parameter = sl_activation_row_info(attr->id)->reads == SL_READS_NOTHING ? 1 : 2;
    const sl_tensor *bias = &call->out[1];
    slope_job j = {};
    j.rows = sl_shape_rows(call->in[0].shape);
    j.columns = sl_shape_last(call->in[0].shape);
    if (!is_small(&call->in[0]) || !call->out[0].data || j.rows > SL_LEAF) return false;
    if (bias->data && sl_shape_count(bias->shape) != j.columns) return false;
    j.dy = sl_in(call, 0);
    j.at = parameter > 1 ? sl_in(call, 1) : nullptr;
    if (call->n_in > parameter) {
        j.parameter = sl_in(call, parameter);
        j.wide = sl_shape_count(call->in[parameter].shape) > 1;
    }
    j.dx = sl_out(call, 0);
    j.row = attr->id;
    j.a = attr->a;
    j.b = attr->b;
    add_job(b, JOB_SLOPES, 0, &j, sizeof j, SL_SPREAD_ROWS, groups(j.rows));
    touches_rows(b, &call->in[0], false);
    if (j.at) touches_rows(b, &call->in[1], false);
    if (j.parameter) reads(b, &call->in[parameter]);
    touches_rows(b, &call->out[0], true);
    if (bias->data) add_columns(b, call, &call->out[0], bias);
    return true;
}

static bool add_dropout(builder *b, const sl_call *call)
{
    const dropped_job j = {dropout_job_of(call), sl_shape_rows(call->in[0].shape),
                           sl_shape_last(call->in[0].shape)};
    if (!is_small(&call->in[0])) return false;
    add_job(b, JOB_DROPOUT, 0, &j, sizeof j, SL_SPREAD_ROWS, groups(j.rows));
    touches_rows(b, &call->in[0], false);
    reads(b, &call->in[1]);
    touches_rows(b, &call->out[0], true);
    return true;
}

static bool add_record(builder *b, const sl_call *call)
{
    int input = 2;
    int64_t first = 0;
    const record_job j = record_job_of(call, &input, &first);
    if (input < call->n_in || first > RESIDENT_ELEMENTS) return false;
    add_job(b, JOB_RECORD, 0, &j, offsetof(record_job, part) + (size_t)j.n * sizeof(recorded), SL_SPREAD_ONE,
            1);
    for (int i = 1; i < call->n_in; i++) reads(b, &call->in[i]);
    writes(b, &call->in[0]);
    return true;
}

static bool add_clip_scale(builder *b, const sl_call *call)
{
    const clip_job j = clip_job_of(call);
    add_job(b, JOB_CLIP_SCALE, 0, &j, sizeof j, SL_SPREAD_ONE, 1);
    reads(b, &call->in[0]);
    writes(b, &call->out[0]);
    return true;
}

static bool add_advance(builder *b, const sl_call *call)
{
    const advance_job j = advance_job_of(call);
    add_job(b, JOB_ADVANCE, 0, &j, sizeof j, SL_SPREAD_ONE, 1);
    writes(b, &call->in[0]);
    if (call->n_in > 1) reads(b, &call->in[1]);
    if (call->n_in > 2) writes(b, &call->in[2]);
    writes(b, &call->out[0]);
    return true;
}

static bool add_update(builder *b, const sl_call *call)
{
    const sl_update_attr *attr = static_cast<const sl_update_attr *>(call->attr);
    update_job j = update_job_of(call);
    if (!is_small(&call->in[0])) return false;
    for (int s = 0; s < attr->n_segments; s++) {
        if (!segment_decays(attr->segments[s])) continue;
        if (j.n == SEGMENTS) return false;
        j.segment[j.n++] = attr->segments[s];
    }
    j.last = sl_shape_count(call->in[0].shape);
    add_job(b, JOB_UPDATE, attr->optimizer, &j,
            offsetof(update_job, segment) + (size_t)j.n * sizeof(sl_segment), SL_SPREAD_BLOCKS,
            (j.last + 4 * RESIDENT_BLOCK - 1) / (4 * RESIDENT_BLOCK));
    for (int i = 1; i < 4; i++) reads(b, &call->in[i]);
    writes(b, &call->in[0]);
    for (int i = 4; i < call->n_in; i++) /* states, then the products, which are only read */
        touches(b, call->in[i].data, bytes_of(&call->in[i]), 0, i < 4 + update_states[attr->optimizer]);
    return true;
}

static const struct {
    sl_op op;
    const sl_kernel *family; /* the kernels that compute what the job does */
    bool (*add)(builder *b, const sl_call *call);
} known[] = {
    {SL_OP_DRAW_BATCH, sl_cuda_step, add_draw},
    {SL_OP_MATMUL, sl_cuda_matmul, add_product},
    {SL_OP_MATMUL_BIAS_ACTIVATION, sl_cuda_matmul, add_product},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN, sl_cuda_loss, add_head},
    {SL_OP_SOFTMAX_CROSS_ENTROPY_MEAN_VJP, sl_cuda_loss, add_head_slopes},
    {SL_OP_ACTIVATION_VJP_BIAS, sl_cuda_activation, add_slopes},
    {SL_OP_DROPOUT, sl_cuda_random, add_dropout},
    {SL_OP_RECORD, sl_cuda_step, add_record},
    {SL_OP_CLIP_SCALE, sl_cuda_step, add_clip_scale},
    {SL_OP_ADVANCE, sl_cuda_step, add_advance},
    {SL_OP_UPDATE, sl_cuda_update, add_update},
};

/* False: the call has no job, and the builder is as it was. */
static bool add_call(builder *b, const sl_call *call)
{
    for (const auto &row : known) {
        if (row.op != call->op) continue;
        for (const sl_kernel *k = row.family; k->run; k++) {
            if (k != call->kernel) continue;
            const int n = b->n, bytes = b->bytes, counters = b->counters;
            const int64_t workspace = b->workspace;
            b->fits = true;
            if (row.add(b, call) && b->fits) return true;
            b->n = n;
            b->bytes = bytes;
            b->counters = counters;
            b->workspace = workspace;
        }
    }
    return false;
}

} // namespace
#endif
