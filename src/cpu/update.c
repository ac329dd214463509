/* One step of an optimiser over the whole parameter block: a loop for each row of optimizers.def. */
#include "cpu/cpu.h"

typedef struct update_job {
    const sl_call *call;
    real *w, *s0, *s1;
    const real *g;
    real rate, scale, p1, p2;
    void (*stretch)(const struct update_job *job, int64_t first, int64_t last, real l2, real wd);
} update_job;

/* Elements first … last-1, which share their decay. */
#define OPTIMIZER(id, name, states, rate_, beta2_, epsilon_, ...)                                            \
    static void stretch_##id(const update_job *job, int64_t first, int64_t last, const real l2,              \
                             const real wd)                                                                  \
    {                                                                                                        \
        const sl_update_attr *attr = job->call->attr;                                                        \
        const real mu = (real)attr->momentum, b1 = (real)attr->beta1, b2 = (real)attr->beta2;                \
        const real eps = (real)attr->epsilon, lr = job->rate, scale = job->scale, p1 = job->p1,              \
                   p2 = job->p2;                                                                             \
        const real limit = attr->clip_value > 0 ? (real)attr->clip_value : (real)__builtin_inff();           \
        real *restrict weight = job->w, *restrict state0 = job->s0, *restrict state1 = job->s1;              \
        const real *restrict gradient = job->g;                                                              \
        (void)wd, (void)mu, (void)b1, (void)b2, (void)eps, (void)p1, (void)p2, (void)state0, (void)state1;   \
        for (int64_t i = first; i < last; i++) {                                                             \
            real w = weight[i], g = gradient[i] * scale;                                                     \
            real s0 = (states) > 0 ? state0[i] : 0, s1 = (states) > 1 ? state1[i] : 0;                       \
            g = g > limit ? limit : g < -limit ? -limit : g;                                                 \
            g = g + l2 * w;                                                                                  \
            __VA_ARGS__                                                                                      \
            weight[i] = w;                                                                                   \
            if ((states) > 0) state0[i] = s0;                                                                \
            if ((states) > 1) state1[i] = s1;                                                                \
        }                                                                                                    \
    }
#include "slope/optimizers.def"
#undef OPTIMIZER

typedef struct row {
    int states;
    void (*stretch)(const update_job *job, int64_t first, int64_t last, real l2, real wd);
} row;

static const row rows[] = {
#define OPTIMIZER(id, name, states, rate_, beta2_, epsilon_, ...) {states, stretch_##id},
#include "slope/optimizers.def"
#undef OPTIMIZER
};

/* The segments stand in order and do not overlap; what lies between them does not decay. */
static void update_task(void *arg, int64_t first, int64_t last, int worker)
{
    const update_job *job = arg;
    const sl_update_attr *attr = job->call->attr;
    (void)worker;
    for (int s = 0; s < attr->n_segments && first < last; s++) {
        const sl_segment *segment = &attr->segments[s];
        int64_t begin = segment->first, end = segment->first + segment->count;
        if (end > last) end = last;
        if (begin > last) begin = last;
        if (first < begin) {
            job->stretch(job, first, begin, 0, 0);
            first = begin;
        }
        if (first < end) {
            job->stretch(job, first, end, (real)segment->l2, (real)segment->weight_decay);
            first = end;
        }
    }
    if (first < last) job->stretch(job, first, last, 0, 0);
}

static void update(const sl_call *call)
{
    const sl_update_attr *attr = call->attr;
    const row *optimizer = &rows[attr->optimizer];
    update_job job = {call,
                      (real *)call->in[0].data,
                      .g = sl_in(call, 1),
                      .rate = *sl_in(call, 2),
                      .scale = *sl_in(call, 3),
                      .stretch = optimizer->stretch};
    if (optimizer->states > 0) job.s0 = (real *)call->in[4].data;
    if (optimizer->states > 1) job.s1 = (real *)call->in[5].data;
    if (call->n_in > 4 + optimizer->states) {
        job.p1 = sl_in(call, 4 + optimizer->states)[0];
        job.p2 = sl_in(call, 4 + optimizer->states)[1];
    }
    sl_parallel(call, update_task, &job, sl_shape_count(call->in[0].shape), 1 << 14);
}

const sl_kernel SL_KERNELS(update)[] = {{SL_OP_UPDATE, "plain", NULL, NULL, update}, {0}};
