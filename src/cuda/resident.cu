/* The resident kernel, and the programs that it runs. */
#include "cuda/resident.cuh"

#include "cuda/resident_calls.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* --- on the device --- */

/* All blocks come before any goes on; what they wrote is seen behind it. The counter's highest bit changes
 * when the last has come: it serves for ever, whatever value it starts from. */
static constexpr unsigned BARRIER_BIT = 0x80000000u;

static __device__ __forceinline__ unsigned barrier_side(const unsigned *counter)
{
    return *static_cast<const volatile unsigned *>(counter) & BARRIER_BIT;
}

static __device__ __forceinline__ void grid_barrier(unsigned *counter, unsigned *side)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(counter, blockIdx.x == 0 ? BARRIER_BIT - (gridDim.x - 1) : 1u);
        while (barrier_side(counter) == *side) SL_WAIT_FOR_BLOCKS();
        __threadfence();
    }
    *side ^= BARRIER_BIT;
    __syncthreads();
}

static __device__ __forceinline__ void run_draw(int variant, const draw_rows_job &d, int64_t block,
                                                int64_t *chosen)
{
    const row_group group = group_of(block, d.rows);
    const int rows = (int)(group.end - group.first);
    switch (variant) {
    case DRAW_BYTES_16: draw_rows<uint8_t, 16>(d.j, group.first, rows, 0, 1, chosen); break;
    case DRAW_BYTES_4: draw_rows<uint8_t, 4>(d.j, group.first, rows, 0, 1, chosen); break;
    case DRAW_BYTES_1: draw_rows<uint8_t, 1>(d.j, group.first, rows, 0, 1, chosen); break;
    case DRAW_FLOATS_4: draw_rows<float, 4>(d.j, group.first, rows, 0, 1, chosen); break;
    case DRAW_FLOATS_1: draw_rows<float, 1>(d.j, group.first, rows, 0, 1, chosen); break;
    }
}

static __device__ __forceinline__ void run_update(int optimizer, const update_job &j, int64_t block,
                                                  int64_t blocks)
{
    int row = 0;
#define OPTIMIZER(id, name, count, rate_, beta2_, epsilon_, ...)                                             \
    if (optimizer == row++) update_part<optimizer_##id>(j, block, blocks);
#include "slope/optimizers.def"
#undef OPTIMIZER
}

static __device__ __forceinline__ void run_job(const job_entry &e, const char *job, int64_t part,
                                               float *memory)
{
#define JOB(type) *reinterpret_cast<const type *>(job)
    switch (e.kind) {
    case JOB_DRAW: run_draw(e.variant, JOB(draw_rows_job), part, reinterpret_cast<int64_t *>(memory)); break;
    case JOB_TILES: {
        const tiles_job t = JOB(tiles_job);
        tile_part<tile_small, matmul_terms, false, true>(t.job, t.terms, memory, part, e.parts);
        break;
    }
    case JOB_ROW_PRODUCT: product_of_rows(JOB(row_product_job), part, memory); break;
    case JOB_HEAD: head_of_rows(JOB(head_job), part); break;
    case JOB_HEAD_SUMS: sum_heads(JOB(head_sums_job)); break;
    case JOB_HEAD_SLOPES: head_slopes_of_rows(JOB(cross_entropy_slope), part); break;
    case JOB_SLOPES: slopes_of_rows(JOB(slope_job), part); break;
    case JOB_DROPOUT: dropout_of_rows(JOB(dropped_job), part); break;
    case JOB_COLUMNS: sum_columns(JOB(columns_job), part, memory); break;
    case JOB_RECORD: record_parts(JOB(record_job)); break;
    case JOB_CLIP_SCALE:
        if (threadIdx.x == 0) clip_scale_of(JOB(clip_job));
        break;
    case JOB_ADVANCE:
        if (threadIdx.x == 0) advance_step(JOB(advance_job));
        break;
    case JOB_UPDATE: run_update(e.variant, JOB(update_job), part, e.parts); break;
    }
#undef JOB
}

/* The program is copied to shared memory first, so that no job waits for its arguments. */
static __global__ void __launch_bounds__(RESIDENT_BLOCK, 1)
    resident_kernel(const uint4 *from, int bytes, unsigned *counter)
{
    sl_cuda_begin();
    SL_SHARED(char, shared);
    const program *p = reinterpret_cast<const program *>(shared);
    float *const memory = reinterpret_cast<float *>(shared + bytes);
    unsigned side = barrier_side(counter);
    for (int i = (int)threadIdx.x; i < bytes / 16; i += RESIDENT_BLOCK)
        reinterpret_cast<uint4 *>(shared)[i] = from[i];
    __syncthreads();
    for (int i = 0; i < p->n; i++) {
        const job_entry &e = p->entry[i];
        if (e.begins_phase) grid_barrier(counter, &side);
        const int blocks = (int)gridDim.x, first = (int)blockIdx.x - e.shift;
        for (int64_t part = first < 0 ? first + blocks : first; part < e.parts; part += blocks) {
            run_job(e, shared + e.at, part, memory);
            __syncthreads();
        }
    }
}

/* --- the program --- */

static void begin(builder *b)
{
    b->n = 0;
    b->bytes = (int)((sizeof(program) + 15) / 16 * 16);
    b->counters = 1;
    b->workspace = 0;
}

/* Phases, and which block takes which part: the jobs of a phase begin where the one before ends, those by
 * rows and those of one block all at the same. */
static int finish_program(builder *b, unsigned most, unsigned *blocks)
{
    program *p = reinterpret_cast<program *>(b->jobs);
    const int phases = sl_set_phases(b->uses, b->n);
    int64_t needed = 1;
    for (int phase = 0; phase < phases; phase++) {
        int64_t by_rows = 0, parts = 0;
        for (int j = 0; j < b->n; j++) {
            if (b->uses[j].phase != phase) continue;
            if (b->uses[j].spread == SL_SPREAD_ROWS)
                by_rows = b->entry[j].parts > by_rows ? b->entry[j].parts : by_rows;
            else
                parts += b->entry[j].parts;
        }
        if (by_rows + parts > needed) needed = by_rows + parts;
    }
    *blocks = needed < most ? (unsigned)needed : most;
    p->n = 0;
    p->bytes = b->bytes;
    for (int phase = 0; phase < phases; phase++) {
        int64_t used = 0;
        bool first = phase > 0;
        for (int j = 0; j < b->n; j++)
            if (b->uses[j].phase == phase && b->uses[j].spread == SL_SPREAD_ROWS && b->entry[j].parts > used)
                used = b->entry[j].parts;
        for (int j = 0; j < b->n; j++) {
            if (b->uses[j].phase != phase) continue;
            job_entry e = b->entry[j];
            e.begins_phase = first;
            first = false;
            if (b->uses[j].spread == SL_SPREAD_ONE) e.shift = (int)*blocks - 1;
            if (b->uses[j].spread == SL_SPREAD_BLOCKS) {
                e.shift = (int)(used % *blocks);
                used += e.parts;
            }
            p->entry[p->n++] = e;
        }
    }
    return phases;
}

static int64_t rounded(int64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

} // namespace

static size_t resident_shared(int program_bytes)
{
    static_assert(RESIDENT_PROGRAM + ROW_PRODUCT_ROOM * sizeof(float) <= SL_CUDA_DEFAULT_SHARED, "it fits");
    static_assert(tile_small::SHARED <= ROW_PRODUCT_ROOM && tile_small::THREADS == RESIDENT_BLOCK, "it fits");
    return (size_t)program_bytes + ROW_PRODUCT_ROOM * sizeof(float);
}

int sl_resident_blocks(sl_device *device)
{
    int allowed = 0, per_sm = 0;
    cudaError_t error = cudaDeviceGetAttribute(&allowed, cudaDevAttrCooperativeLaunch, device->index);
    if (error == cudaSuccess && allowed)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, resident_kernel, RESIDENT_BLOCK,
                                                              resident_shared(RESIDENT_PROGRAM));
    if (error != cudaSuccess) cudaGetLastError();
    return error == cudaSuccess && per_sm > 0 ? device->sms : 0;
}

sl_resident sl_resident_make(sl_device *device, const sl_call *calls, int n, int from)
{
    sl_resident r = {};
    builder *b = static_cast<builder *>(calloc(1, sizeof(builder) + RESIDENT_PROGRAM));
    if (!b || device->resident_blocks == 0) from = n;
    if (b) b->jobs = reinterpret_cast<char *>(b + 1);
    for (r.first = from; r.first < n; r.first += r.count + 1) {
        begin(b);
        for (r.count = 0; r.first + r.count < n && add_call(b, &calls[r.first + r.count]);) r.count++;
        if (r.count > 1) break;
    }
    if (r.first < n) {
        b->counters_at = rounded(b->bytes);
        b->workspace_at = b->counters_at + rounded(b->counters * (int64_t)sizeof(unsigned));
        const int64_t bytes = b->workspace_at + b->workspace;
        r.program_bytes = b->bytes;
        cudaError_t error = cudaMalloc(&r.memory, (size_t)bytes);
        if (error == cudaSuccess) {
            b->base = static_cast<char *>(r.memory);
            begin(b);
            for (int i = 0; i < r.count; i++) add_call(b, &calls[r.first + i]);
            r.phases = finish_program(b, (unsigned)device->resident_blocks, &r.blocks);
            error = cudaMemsetAsync(b->base + b->counters_at, 0, (size_t)(b->workspace_at - b->counters_at),
                                    device->stream);
        }
        if (error == cudaSuccess)
            error = cudaMemcpyAsync(r.memory, b->jobs, (size_t)r.program_bytes, cudaMemcpyHostToDevice,
                                    device->stream);
        if (error == cudaSuccess) error = cudaStreamSynchronize(device->stream);
        r.counters = reinterpret_cast<unsigned *>(b->base + b->counters_at);
        if (error != cudaSuccess) {
            sl_resident_free(&r);
            r = {};
            cudaGetLastError();
        }
    } else {
        r = {};
    }
    free(b);
    return r;
}

void sl_resident_launch(sl_device *device, const sl_resident *resident)
{
    const uint4 *from = static_cast<const uint4 *>(resident->memory);
    int bytes = resident->program_bytes;
    unsigned *counters = resident->counters;
    void *arguments[] = {&from, &bytes, &counters};
    sl_cuda_note(device,
                 cudaLaunchCooperativeKernel(resident_kernel, dim3(resident->blocks), dim3(RESIDENT_BLOCK),
                                             arguments, resident_shared(bytes), device->stream),
                 "the resident kernel", nullptr);
}

void sl_resident_free(sl_resident *resident)
{
    if (resident->memory) cudaFree(resident->memory);
    *resident = {};
}
