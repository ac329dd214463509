/* One step of a sequence, and the LSTM cell: one pass over its units, which computes the gates again on the
 * way back instead of keeping them. An output that nobody reads has no memory. */
#include "core/lstm.h"

#include <string.h>

#include "cpu/cpu.h"

enum { GRAIN = 64 }; /* rows per thread at least */

typedef struct cell_job {
    const sl_call *call;
    int64_t units;
    real forget_bias;
} cell_job;

static void run(const sl_call *call, sl_task *task, int cell_input)
{
    const sl_shape cell = call->in[cell_input].shape;
    cell_job job = {call, cell.dim[1], (real)((const sl_lstm_attr *)call->attr)->forget_bias};
    sl_parallel(call, task, &job, cell.dim[0], GRAIN * 64 / (job.units + 1) + 1);
}

/* Row `row` of output k, NULL where nobody reads it. */
static inline real *out_row(const sl_call *call, int k, int64_t row, int64_t size)
{
    return call->out[k].data ? sl_out(call, k) + row * size : NULL;
}

static inline sl_lstm_gates load(const real *z, int64_t units, int64_t i)
{
    return (sl_lstm_gates){z[i], z[units + i], z[2 * units + i], z[3 * units + i]};
}

static void cell_task(void *arg, int64_t first, int64_t last, int worker)
{
    const cell_job *job = arg;
    const int64_t units = job->units;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *restrict z = sl_in(job->call, 0) + r * 4 * units, *restrict cell =
                                                                          sl_in(job->call, 1) + r * units;
        real *restrict h = out_row(job->call, 0, r, units), *restrict c = out_row(job->call, 1, r, units);
        for (int64_t i = 0; i < units; i++) {
            const sl_lstm_gates a = sl_lstm_open(load(z, units, i), job->forget_bias);
            const real new_cell = sl_lstm_cell(a, cell[i]);
            if (h) h[i] = a.out * r_tanh(new_cell);
            if (c) c[i] = new_cell;
        }
    }
}

static void back_task(void *arg, int64_t first, int64_t last, int worker)
{
    const cell_job *job = arg;
    const sl_call *call = job->call;
    const int64_t units = job->units;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *restrict dh = sl_in(call, 0) + r * units, *restrict dc = sl_in(call, 1) + r * units;
        const real *restrict z = sl_in(call, 2) + r * 4 * units, *restrict cell = sl_in(call, 3) + r * units;
        const real *restrict c = sl_in(call, 4) + r * units;
        real *restrict dz = out_row(call, 0, r, 4 * units), *restrict dcell = out_row(call, 1, r, units);
        for (int64_t i = 0; i < units; i++) {
            const sl_lstm_gates a = sl_lstm_open(load(z, units, i), job->forget_bias);
            real before;
            const sl_lstm_gates d = sl_lstm_back(a, cell[i], c[i], dh[i], dc[i], &before);
            if (dcell) dcell[i] = before;
            if (!dz) continue;
            dz[i] = d.in;
            dz[units + i] = d.forget;
            dz[2 * units + i] = d.candidate;
            dz[3 * units + i] = d.out;
        }
    }
}

static void forward_task(void *arg, int64_t first, int64_t last, int worker)
{
    const cell_job *job = arg;
    const sl_call *call = job->call;
    const int64_t units = job->units;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        const real *restrict tz = sl_in(call, 0) + r * 4 * units, *restrict tcell =
                                                                      sl_in(call, 1) + r * units;
        const real *restrict z = sl_in(call, 2) + r * 4 * units, *restrict cell = sl_in(call, 3) + r * units;
        const real *restrict c = sl_in(call, 4) + r * units;
        real *restrict th = out_row(call, 0, r, units), *restrict tc = out_row(call, 1, r, units);
        for (int64_t i = 0; i < units; i++) {
            const sl_lstm_gates a = sl_lstm_open(load(z, units, i), job->forget_bias);
            real t;
            const real both = sl_lstm_forward(a, cell[i], c[i], load(tz, units, i), tcell[i], &t);
            if (th) th[i] = both;
            if (tc) tc[i] = t;
        }
    }
}

static void cell(const sl_call *call)
{
    run(call, cell_task, 1);
}

static void cell_vjp(const sl_call *call)
{
    run(call, back_task, 3);
}

static void cell_jvp(const sl_call *call)
{
    run(call, forward_task, 3);
}

/* Elements of one step, and of a whole sequence, of a sample. */
typedef struct take_job {
    const real *from;
    real *to;
    int64_t step, all, index;
} take_job;

static void take_task(void *arg, int64_t first, int64_t last, int worker)
{
    const take_job *j = arg;
    (void)worker;
    for (int64_t r = first; r < last; r++)
        memcpy(j->to + r * j->step, j->from + r * j->all + j->index * j->step,
               (size_t)j->step * sizeof(real));
}

static void give_task(void *arg, int64_t first, int64_t last, int worker)
{
    const take_job *j = arg;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        memset(j->to + r * j->all, 0, (size_t)j->all * sizeof(real));
        memcpy(j->to + r * j->all + j->index * j->step, j->from + r * j->step,
               (size_t)j->step * sizeof(real));
    }
}

static void run_take(const sl_call *call, sl_task *task, sl_shape one, sl_shape all)
{
    const int64_t n = one.dim[0], step = n ? sl_shape_count(one) / n : 0;
    take_job job = {sl_in(call, 0), sl_out(call, 0), step, step * all.dim[1],
                    ((const sl_take_attr *)call->attr)->index};
    sl_parallel(call, task, &job, n, (1 << 14) / (step + 1) + 1);
}

static void take(const sl_call *call)
{
    run_take(call, take_task, call->out[0].shape, call->in[0].shape);
}

static void take_vjp(const sl_call *call)
{
    run_take(call, give_task, call->in[0].shape, call->out[0].shape);
}

const sl_kernel SL_KERNELS(lstm)[] = {
    {SL_OP_TAKE, "copy", NULL, NULL, take},
    {SL_OP_TAKE_VJP, "copy", NULL, NULL, take_vjp},
    {SL_OP_LSTM_CELL, "rows", NULL, NULL, cell},
    {SL_OP_LSTM_CELL_VJP, "rows", NULL, NULL, cell_vjp},
    {SL_OP_LSTM_CELL_JVP, "rows", NULL, NULL, cell_jvp},
    {0},
};
