/* What surrounds a training step: the batch, the learning rate, the clipping factor, the record, the counter.
 */
#include <string.h>

#include "core/philox.h"
#include "core/schedule.h"
#include "cpu/cpu.h"

typedef struct draw_job {
    const sl_call *call;
    sl_permutation order;
    int64_t first, valid;  /* of the epoch's samples */
    int64_t size, targets; /* elements of an image, of a target; 0 targets: there are labels */
} draw_job;

static void draw_image(const draw_job *job, int64_t row, int64_t sample)
{
    const sl_draw_attr *attr = job->call->attr;
    const real scale = (real)attr->scale, shift = (real)attr->shift;
    const int64_t size = job->size;
    real *restrict x = sl_out(job->call, 0) + row * size;
    if (job->call->in[0].dtype == SL_BYTE) {
        const uint8_t *restrict image = (const uint8_t *)job->call->in[0].data + sample * size;
        for (int64_t i = 0; i < size; i++) x[i] = scale * (real)image[i] + shift;
    } else {
        const real *restrict image = sl_in(job->call, 0) + sample * size;
        for (int64_t i = 0; i < size; i++) x[i] = scale * image[i] + shift;
    }
}

static void draw_task(void *arg, int64_t first, int64_t last, int worker)
{
    const draw_job *job = arg;
    const sl_call *call = job->call;
    const sl_draw_attr *attr = call->attr;
    (void)worker;
    for (int64_t row = first; row < last; row++) {
        const bool counts = row < job->valid;
        int64_t sample = job->first + row;
        if (counts && attr->shuffle) sample = (int64_t)sl_permuted(&job->order, (uint64_t)sample);
        if (counts)
            draw_image(job, row, sample);
        else
            memset(sl_out(call, 0) + row * job->size, 0, (size_t)job->size * sizeof(real));
        if (!call->out[1].data) continue;
        if (call->in[1].dtype == SL_INT) {
            ((int32_t *)call->out[1].data)[row] = counts ? ((const int32_t *)call->in[1].data)[sample] : 0;
        } else {
            const size_t bytes = (size_t)job->targets * sizeof(real);
            real *to = sl_out(call, 1) + row * job->targets;
            if (counts)
                memcpy(to, sl_in(call, 1) + sample * job->targets, bytes);
            else
                memset(to, 0, bytes);
        }
    }
}

static void draw_batch(const sl_call *call)
{
    const sl_draw_attr *attr = call->attr;
    const int64_t step = *(const int32_t *)call->in[2].data;
    const int64_t batches = (attr->samples + attr->batch - 1) / attr->batch;
    draw_job job = {.call = call};
    job.first = step % batches * attr->batch;
    job.valid = attr->samples - job.first < attr->batch ? attr->samples - job.first : attr->batch;
    job.size = sl_shape_count(call->out[0].shape) / attr->batch;
    job.targets = sl_shape_count(call->out[1].shape) / attr->batch;
    job.order =
        sl_permutation_of(attr->seed, attr->stream, (uint32_t)(step / batches), (uint64_t)attr->samples);
    if (call->out[2].data) *(int32_t *)call->out[2].data = (int32_t)job.valid;
    sl_parallel(call, draw_task, &job, attr->batch, (1 << 14) / (job.size + 1) + 1);
}

/* A norm that is NaN leaves the gradient as it is. */
static void clip_scale(const sl_call *call)
{
    const sl_clip_scale_attr *attr = call->attr;
    const real norm = *sl_in(call, 0), limit = (real)attr->limit;
    *sl_out(call, 0) = norm > limit ? limit / norm : 1;
}

static void record(const sl_call *call)
{
    const int64_t capacity = call->in[0].shape.dim[0], step = *(const int32_t *)call->in[1].data;
    real *row = (real *)call->in[0].data + step % capacity * call->in[0].shape.dim[1];
    for (int i = 2; i < call->n_in; i++) {
        const int64_t n = sl_shape_count(call->in[i].shape);
        for (int64_t k = 0; k < n; k++)
            *row++ = call->in[i].dtype == SL_INT ? (real)((const int32_t *)call->in[i].data)[k]
                                                 : sl_in(call, i)[k];
    }
}

static void advance(const sl_call *call)
{
    const sl_advance_attr *attr = call->attr;
    int32_t *step = call->in[0].data;
    *sl_out(call, 0) = sl_scheduled_rate(&attr->schedule, *step, call->n_in > 1 ? *sl_in(call, 1) : 1);
    *step += 1;
    if (call->n_in < 3) return;
    real *products = call->in[2].data;
    products[0] *= (real)attr->beta1;
    products[1] *= (real)attr->beta2;
}

const sl_kernel SL_KERNELS(step)[] = {
    {SL_OP_DRAW_BATCH, "rows", NULL, NULL, draw_batch},
    {SL_OP_CLIP_SCALE, "plain", NULL, NULL, clip_scale},
    {SL_OP_RECORD, "plain", NULL, NULL, record},
    {SL_OP_ADVANCE, "plain", NULL, NULL, advance},
    {0},
};
