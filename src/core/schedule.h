/* The learning rate as a function of the step: one formula for the kernels of all back ends. */
#ifndef SL_CORE_SCHEDULE_H
#define SL_CORE_SCHEDULE_H

#include "core/attributes.h"
#include "core/math.h"
#include "slope/optim.h"

/* Half a cosine from `from` at 0 to `to` at 1. */
SL_FN real sl_anneal(real from, real to, real position)
{
    return to + (from - to) * (R(0.5) * (1 + r_cos_pi(position)));
}

/* PyTorch's OneCycleLR with cosine annealing and its defaults: from peak/25 up over the first 30 % of `total`
 * steps, then down to a ten-thousandth of the start. */
SL_FN real sl_one_cycle(real peak, int64_t step, int64_t total)
{
    const real start = peak / 25, end = start / 10000, t = (real)step, last = (real)(total - 1);
    const real turn = R(0.3) * (real)total - 1;
    if (t >= last) return end;
    if (t <= turn) return sl_anneal(start, peak, turn > 0 ? t / turn : R(1));
    return sl_anneal(peak, end, (t - turn) / (last - turn));
}

/* rate·factor for every `period` steps that have passed. */
SL_FN real sl_step_decay(real rate, real factor, int64_t step, int64_t period)
{
    if (period <= 0) return rate;
    for (int64_t i = step / period; i > 0; i--) {
        const real next = rate * factor;
        if (next == rate) break;
        rate = next;
    }
    return rate;
}

/* The rate of step number `step`, counted from 0. A warm-up multiplies the first `warmup` steps' rates by
 * (step + 1)/warmup and does not move the schedule: `total` counts its steps too. */
SL_FN real sl_scheduled_rate(const sl_schedule_attr *attr, int64_t step, real plateau)
{
    const real base = (real)attr->rate, factor = (real)attr->factor;
    real rate = base;
    if (attr->kind == SL_STEP_DECAY) rate = sl_step_decay(base, factor, step, attr->period);
    if (attr->kind == SL_COSINE)
        rate = sl_anneal(base, base * factor, step < attr->total ? (real)step / (real)attr->total : R(1));
    if (attr->kind == SL_ONE_CYCLE) rate = sl_one_cycle(base, step, attr->total);
    if (step < attr->warmup) rate = rate * ((real)(step + 1) / (real)attr->warmup);
    return rate * plateau;
}
#endif
