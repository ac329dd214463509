/* Optimisers and schedules by name, with their defaults. */
#include "nn/optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/context.h"
#include "core/text.h"

static const struct {
    const char *name;
    int states;
    float rate, beta2, epsilon;
} optimizers[] = {
#define OPTIMIZER(id, name, states, rate, beta2, epsilon, ...) {name, states, rate, beta2, epsilon},
#include "slope/optimizers.def"
#undef OPTIMIZER
};

static const char *const schedules[] = {[SL_CONSTANT] = "constant",
                                        [SL_STEP_DECAY] = "step",
                                        [SL_COSINE] = "cosine",
                                        [SL_ONE_CYCLE] = "one-cycle",
                                        [SL_PLATEAU] = "plateau"};
enum { SCHEDULES = sizeof schedules / sizeof *schedules };

const char *sl_optimizer_name(int row)
{
    return row >= 0 && row < SL_OPTIMIZER_COUNT ? optimizers[row].name : NULL;
}

int sl_optimizer_states(int row)
{
    return optimizers[row].states;
}

const char *sl_schedule_name(sl_schedule_kind kind)
{
    return (int)kind >= 0 && (int)kind < SCHEDULES ? schedules[kind] : NULL;
}

sl_optimizer sl_optimizer_named(sl_context *ctx, const char *name)
{
    const sl_optimizer none = {0};
    if (!sl_ok(ctx)) return none;
    char names[256] = "";
    for (int row = 0; row < SL_OPTIMIZER_COUNT; row++) {
        if (name && strcmp(name, optimizers[row].name) == 0) return (sl_optimizer){.row = row};
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", row ? ", " : "", optimizers[row].name);
    }
    sl_fail(ctx, SL_ARGUMENT, "there is no optimizer '%s'; there are %s", name ? name : "", names);
    return none;
}

sl_optimizer sl_optimizer_complete(sl_optimizer o)
{
    const int row = o.row >= 0 && o.row < SL_OPTIMIZER_COUNT ? o.row : 0;
    o.rate = sl_float_or(o.rate, optimizers[row].rate);
    o.momentum = sl_float_or(o.momentum, 0.9f);
    o.beta1 = sl_float_or(o.beta1, 0.9f);
    o.beta2 = sl_float_or(o.beta2, optimizers[row].beta2);
    o.epsilon = sl_float_or(o.epsilon, optimizers[row].epsilon);
    o.weight_decay = sl_float_or(o.weight_decay, 0);
    const bool decays = o.schedule.kind == SL_STEP_DECAY || o.schedule.kind == SL_PLATEAU;
    o.schedule.factor = sl_float_or(o.schedule.factor, decays ? 0.1f : 0);
    o.schedule.period = sl_int_or(o.schedule.period, 10);
    o.schedule.patience = sl_int_or(o.schedule.patience, 5);
    o.schedule.warmup = sl_float_or(o.schedule.warmup, 0);
    o.schedule.lowest = sl_float_or(o.schedule.lowest, 0);
    return o;
}

bool sl_optimizer_check(sl_context *ctx, const sl_optimizer *o)
{
    const struct {
        const char *name;
        float value;
        bool good;
        const char *range;
    } checks[] = {
        {"rate", o->rate, o->rate >= 0 && isfinite(o->rate), "a number of at least 0"},
        {"momentum", o->momentum, o->momentum >= 0 && o->momentum < 1, "in [0, 1)"},
        {"beta1", o->beta1, o->beta1 >= 0 && o->beta1 < 1, "in [0, 1)"},
        {"beta2", o->beta2, o->beta2 >= 0 && o->beta2 < 1, "in [0, 1)"},
        {"epsilon", o->epsilon, o->epsilon >= 0 && isfinite(o->epsilon), "a number of at least 0"},
        {"weight decay", o->weight_decay, o->weight_decay >= 0 && isfinite(o->weight_decay),
         "a number of at least 0"},
        {"schedule factor", o->schedule.factor, o->schedule.factor >= 0 && o->schedule.factor <= 1,
         "in [0, 1]"},
        {"warm-up", o->schedule.warmup, o->schedule.warmup >= 0 && isfinite(o->schedule.warmup),
         "a number of at least 0"},
        {"schedule period", (float)o->schedule.period, o->schedule.period > 0, "at least 1"},
        {"patience", (float)o->schedule.patience, o->schedule.patience >= 0, "at least 0"},
    };
    if (!sl_optimizer_name(o->row)) sl_fail(ctx, SL_ARGUMENT, "optimizer: there is no row %d", o->row);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].good)
            sl_fail(ctx, SL_ARGUMENT, "optimizer: %s is %g; it must be %s", checks[i].name,
                    (double)checks[i].value, checks[i].range);
    return sl_ok(ctx);
}

sl_schedule sl_schedule_parse(sl_context *ctx, const char *text)
{
    const sl_schedule none = {0};
    if (!sl_ok(ctx)) return none;
    if (!text) text = "";
    const size_t length = strcspn(text, "(");
    sl_schedule out = {0};
    int kind = 0;
    while (kind < SCHEDULES &&
           (strlen(schedules[kind]) != length || strncmp(schedules[kind], text, length) != 0))
        kind++;
    if (kind == SCHEDULES) {
        sl_fail(ctx, SL_ARGUMENT,
                "there is no schedule '%s'; there are constant, step, cosine, one-cycle, plateau", text);
        return none;
    }
    out.kind = (sl_schedule_kind)kind;
    const char *at = text + length;
    if (*at == 0) return out;
    do {
        char name[16], *end = NULL;
        const size_t n = strcspn(++at, "=,)");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        const float value = at[n] == '=' ? sl_text_to_float(at + n + 1, &end) : NAN;
        const bool read = end && end != at + n + 1 && isfinite(value);
        if (read) at = end;
        if (read && strcmp(name, "factor") == 0)
            out.factor = value == 0 ? SL_ZERO : value;
        else if (read && strcmp(name, "period") == 0)
            out.period = (int)value;
        else if (read && strcmp(name, "patience") == 0)
            out.patience = value == 0 ? SL_NONE : (int)value;
        else if (read && strcmp(name, "warmup") == 0)
            out.warmup = value;
        else if (read && strcmp(name, "lowest") == 0)
            out.lowest = value;
        else {
            sl_fail(ctx, SL_ARGUMENT,
                    "schedule '%s': in the brackets stand factor=, period=, patience=, warmup= or lowest= "
                    "with numbers",
                    text);
            return none;
        }
    } while (*at == ',');
    if (strcmp(at, ")") != 0) {
        sl_fail(ctx, SL_ARGUMENT, "schedule '%s': the closing bracket is missing", text);
        return none;
    }
    return out;
}
