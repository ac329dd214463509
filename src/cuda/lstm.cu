/* One step of a sequence, and the LSTM cell. A thread makes one unit of one sample: neighbours read
 * neighbours, so that every load is full. An output that nobody reads
 * has no memory. Bytes for each unit: the step 28, its gradient 52, its tangent 48.
 */
#include "core/lstm.h"

#include "cuda/elementwise.cuh"

/* Types too: those of two files may have one name. */
namespace
{

struct cell_job {
    const float *in[5];
    float *out[2];
    int64_t units;
    float forget_bias;
};

static __device__ __forceinline__ sl_lstm_gates gates_at(const float *z, int64_t row, int64_t unit,
                                                         int64_t units)
{
    const float *at = z + row * 4 * units + unit;
    return {at[0], at[units], at[2 * units], at[3 * units]};
}

/* What is computed for unit number i, in row `row`. */
struct step {
    static __device__ __forceinline__ void run(const cell_job &j, int64_t i, int64_t row, int64_t unit)
    {
        const sl_lstm_gates a = sl_lstm_open(gates_at(j.in[0], row, unit, j.units), j.forget_bias);
        const float c = sl_lstm_cell(a, j.in[1][i]);
        if (j.out[1]) j.out[1][i] = c;
        if (j.out[0]) j.out[0][i] = a.out * r_tanh(c);
    }
};

struct step_back {
    static __device__ __forceinline__ void run(const cell_job &j, int64_t i, int64_t row, int64_t unit)
    {
        const sl_lstm_gates a = sl_lstm_open(gates_at(j.in[2], row, unit, j.units), j.forget_bias);
        float dcell;
        const sl_lstm_gates d = sl_lstm_back(a, j.in[3][i], j.in[4][i], j.in[0][i], j.in[1][i], &dcell);
        if (j.out[1]) j.out[1][i] = dcell;
        if (!j.out[0]) return;
        float *dz = j.out[0] + row * 4 * j.units + unit;
        dz[0] = d.in;
        dz[j.units] = d.forget;
        dz[2 * j.units] = d.candidate;
        dz[3 * j.units] = d.out;
    }
};

struct step_forward {
    static __device__ __forceinline__ void run(const cell_job &j, int64_t i, int64_t row, int64_t unit)
    {
        const sl_lstm_gates a = sl_lstm_open(gates_at(j.in[2], row, unit, j.units), j.forget_bias);
        const sl_lstm_gates tz = gates_at(j.in[0], row, unit, j.units);
        float tc;
        const float th = sl_lstm_forward(a, j.in[3][i], j.in[4][i], tz, j.in[1][i], &tc);
        if (j.out[0]) j.out[0][i] = th;
        if (j.out[1]) j.out[1][i] = tc;
    }
};

template <class What>
static __global__ void __launch_bounds__(SL_BLOCK) cell_kernel(const __grid_constant__ cell_job j, int64_t n)
{
    sl_cuda_begin();
    for (int64_t i = sl_cuda_thread(); i < n; i += sl_cuda_threads())
        What::run(j, i, i / j.units, i % j.units);
}

template <class What> static void run_cell(const sl_call *call, int cell_input)
{
    const int64_t n = sl_shape_count(call->in[cell_input].shape);
    cell_job j = {};
    for (int k = 0; k < call->n_in; k++) j.in[k] = sl_in(call, k);
    for (int k = 0; k < 2; k++) j.out[k] = sl_out(call, k);
    j.units = call->in[cell_input].shape.dim[1];
    j.forget_bias = static_cast<const sl_lstm_attr *>(call->attr)->forget_bias;
    if (n) SL_LAUNCH(cell_kernel<What>, sl_cuda_grid(call, n, SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call, j, n);
}

static void cell(const sl_call *call)
{
    run_cell<step>(call, 1);
}

static void cell_vjp(const sl_call *call)
{
    run_cell<step_back>(call, 3);
}

static void cell_jvp(const sl_call *call)
{
    run_cell<step_forward>(call, 3);
}

/* `step` elements of every `all`, from `index` steps on. */
static __global__ void __launch_bounds__(SL_BLOCK)
    take_kernel(const float *x, float *y, int64_t step, int64_t all, int64_t index, int64_t n)
{
    sl_cuda_begin();
    for (int64_t i = sl_cuda_thread(); i < n; i += sl_cuda_threads())
        y[i] = x[i / step * all + index * step + i % step];
}

static __global__ void __launch_bounds__(SL_BLOCK)
    give_kernel(const float *dy, float *dx, int64_t step, int64_t all, int64_t index, int64_t n)
{
    sl_cuda_begin();
    for (int64_t i = sl_cuda_thread(); i < n; i += sl_cuda_threads()) {
        const int64_t at = i % all - index * step;
        dx[i] = at >= 0 && at < step ? dy[i / all * step + at] : 0.0f;
    }
}

static void take(const sl_call *call)
{
    const int64_t n = sl_shape_count(call->out[0].shape),
                  index = static_cast<const sl_take_attr *>(call->attr)->index;
    if (n == 0) return;
    const int64_t step = n / call->out[0].shape.dim[0];
    SL_LAUNCH(take_kernel, sl_cuda_grid(call, n, SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call, sl_in(call, 0),
              sl_out(call, 0), step, step * call->in[0].shape.dim[1], index, n);
}

static void take_vjp(const sl_call *call)
{
    const int64_t n = sl_shape_count(call->out[0].shape),
                  index = static_cast<const sl_take_attr *>(call->attr)->index;
    if (n == 0) return;
    const int64_t all = n / call->out[0].shape.dim[0];
    SL_LAUNCH(give_kernel, sl_cuda_grid(call, n, SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call, sl_in(call, 0),
              sl_out(call, 0), all / call->out[0].shape.dim[1], all, index, n);
}

} // namespace

SL_CUDA_KERNELS(lstm) = {
    {SL_OP_TAKE, "copy", nullptr, nullptr, take},
    {SL_OP_TAKE_VJP, "copy", nullptr, nullptr, take_vjp},
    {SL_OP_LSTM_CELL, "units", nullptr, nullptr, cell},
    {SL_OP_LSTM_CELL_VJP, "units", nullptr, nullptr, cell_vjp},
    {SL_OP_LSTM_CELL_JVP, "units", nullptr, nullptr, cell_jvp},
    {},
};
