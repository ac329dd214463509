/* One step of an optimiser over the whole parameter block: a kernel for each row of optimizers.def. Bytes per
 * element: 12, and 8 for each state (adam: 28). */
#include "cuda/update.cuh"

/* Types too: those of two files may have one name. */
namespace
{

template <class Optimizer>
static __global__ void __launch_bounds__(SL_BLOCK) update_kernel(const __grid_constant__ update_job j)
{
    sl_cuda_begin();
    update_part<Optimizer>(j, blockIdx.x, gridDim.x);
}

template <class Optimizer> static void launch(const sl_call *call, const update_job &j)
{
    if (j.first < j.last)
        SL_LAUNCH((update_kernel<Optimizer>), sl_cuda_grid(call, j.last - j.first, 4 * SL_BLOCK, SL_WAVES),
                  SL_BLOCK, 0, call, j);
}

static void (*const launches[])(const sl_call *call, const update_job &j) = {
#define OPTIMIZER(id, name, count, rate_, beta2_, epsilon_, ...) launch<optimizer_##id>,
#include "slope/optimizers.def"
#undef OPTIMIZER
};

static void update(const sl_call *call)
{
    const sl_update_attr *attr = static_cast<const sl_update_attr *>(call->attr);
    update_job j = update_job_of(call);
    for (int s = 0; s < attr->n_segments; s++) {
        const sl_segment *segment = &attr->segments[s];
        if (!segment_decays(*segment)) continue;
        if (j.n ==
            SEGMENTS) { /* up to the four elements in which this segment begins; others may reach into them */
            j.last = segment->first / 4 * 4;
            launches[attr->optimizer](call, j);
            j.first = j.last;
            int kept = 0;
            for (int k = 0; k < j.n; k++)
                if (j.segment[k].first + j.segment[k].count > j.first) j.segment[kept++] = j.segment[k];
            j.n = kept;
        }
        j.segment[j.n++] = *segment;
    }
    j.last = sl_shape_count(call->in[0].shape);
    launches[attr->optimizer](call, j);
}

} // namespace

SL_CUDA_KERNELS(update) = {{SL_OP_UPDATE, "fours", nullptr, nullptr, update}, {}};
