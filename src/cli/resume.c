/* --resume: options left out come from the file, options that contradict it are refused. */
#include <stdlib.h>

#include "cli.h"

enum { LONGEST = 512 };

typedef struct stored {
    char *values[CLI_OPTIONS]; /* of the options that a file keeps, by their key */
    float factor, warmup, lowest;
    int period, patience;
    int64_t steps;   /* of an epoch */
    bool unfinished; /* stopped in the middle of a run */
} stored;

static void take(void *data, const char *key, const char *value)
{
    stored *s = data;
    for (int i = 0; i < CLI_OPTIONS; i++)
        if (cli_option_key(i) && strcmp(cli_option_key(i), key) == 0 && !s->values[i])
            s->values[i] = strdup(value);
    if (strcmp(key, "goal") == 0) s->unfinished = atoi(value) > 0;
    if (strcmp(key, "epoch_steps") == 0) s->steps = strtoll(value, NULL, 10);
    if (strcmp(key, "schedule_factor") == 0) s->factor = strtof(value, NULL);
    if (strcmp(key, "schedule_warmup") == 0) s->warmup = strtof(value, NULL);
    if (strcmp(key, "schedule_lowest") == 0) s->lowest = strtof(value, NULL);
    if (strcmp(key, "schedule_period") == 0) s->period = atoi(value);
    if (strcmp(key, "schedule_patience") == 0) s->patience = atoi(value);
}

/* The schedule's numbers stand in keys of their own; here they return into the brackets. */
static void spell_schedule(stored *s)
{
    char text[LONGEST];
    if (!s->values[CLI_SCHEDULE]) return;
    snprintf(text, sizeof text, "%s(factor=%.9g,warmup=%.9g,lowest=%.9g,period=%d,patience=%d)",
             s->values[CLI_SCHEDULE], (double)s->factor, (double)s->warmup, (double)s->lowest, s->period,
             s->patience);
    free(s->values[CLI_SCHEDULE]);
    s->values[CLI_SCHEDULE] = strdup(text);
}

static bool fits_number(double asked, double wanted)
{
    return asked == 0 || (float)asked == (float)wanted; /* 0: left to its default, which the file holds */
}

/* Whether two texts mean the same value of the option. */
static bool agree(sl_context *ctx, const cli_options *o, int option, const char *wanted)
{
    cli_options file = *o; /* the option as the file has it, read by the same functions */
    char a[SL_ACTIVATION_TEXT], b[SL_ACTIVATION_TEXT];
    switch (option) {
    case CLI_MODEL: {
        char *line = cli_line(o);
        const bool same = line && strcmp(line, wanted) == 0;
        free(line);
        return same;
    }
    case CLI_ACTIVATION:
        sl_activation_print(sl_activation_parse(ctx, o->activation), a, sizeof a);
        sl_activation_print(sl_activation_parse(ctx, wanted), b, sizeof b);
        return strcmp(a, b) == 0;
    case CLI_OPTIMIZER: return strcmp(o->optimizer, wanted) == 0;
    case CLI_SCHEDULE: {
        const sl_schedule asked = sl_schedule_parse(ctx, o->schedule), has = sl_schedule_parse(ctx, wanted);
        return asked.kind == has.kind && fits_number(asked.factor, has.factor) &&
               fits_number(asked.warmup, has.warmup) && fits_number(asked.lowest, has.lowest) &&
               fits_number(asked.period, has.period) && fits_number(asked.patience, has.patience);
    }
    default: break;
    }
    if (!cli_set_number(&file, option, wanted)) return true; /* the library judges the file */
    switch (option) {
    case CLI_BATCH: return file.batch == o->batch;
    case CLI_SEED: return file.seed == o->seed;
    case CLI_RATE: return (float)file.rate == (float)o->rate;
    case CLI_MOMENTUM: return (float)file.momentum == (float)o->momentum;
    case CLI_WEIGHT_DECAY: return (float)file.weight_decay == (float)o->weight_decay;
    case CLI_CLIP_NORM: return (float)file.clip_norm == (float)o->clip_norm;
    case CLI_CLIP_VALUE: return (float)file.clip_value == (float)o->clip_value;
    default: return true;
    }
}

static bool is_text(int option)
{
    return option == CLI_MODEL || option == CLI_ACTIVATION || option == CLI_OPTIMIZER ||
           option == CLI_SCHEDULE;
}

/* What only an unfinished run insists on: a finished one may be trained on in another way. */
static bool may_change(int option)
{
    return option != CLI_MODEL && option != CLI_ACTIVATION && option != CLI_SEED && option != CLI_OPTIMIZER;
}

static int compare(sl_context *ctx, cli_options *o, const stored *s)
{
    const bool l2_alone = cli_given(o, CLI_L2) && !cli_given(o, CLI_MODEL); /* it stands in the line */
    for (int i = 0; i < CLI_OPTIONS; i++) {
        const char *value = s->values[i];
        const bool given = cli_given(o, i) || (i == CLI_MODEL && l2_alone);
        if (!value) continue;
        if (!cli_given(o, i)) {
            if (is_text(i))
                cli_set_text(o, i, value);
            else
                cli_set_number(o, i, value);
        }
        if (!given || (may_change(i) && !s->unfinished) || agree(ctx, o, i, value)) continue;
        if (sl_error(ctx)) return cli_fail_context(o, ctx, true);
        return cli_fail(
            o, CLI_FAILURE,
            "--%s does not fit %s, which was trained with '%s'; leave the option out to go on with that",
            cli_option_name(i == CLI_MODEL && l2_alone ? CLI_L2 : i), o->resume, value);
    }
    return CLI_SUCCESS;
}

int cli_resume(cli_options *o)
{
    int status = CLI_SUCCESS;
    static stored s; /* its texts serve as options until the program ends */
    sl_context *ctx = cli_open_plain(o, 0, &status);
    if (!ctx) return status;
    const bool model_given = cli_given(o, CLI_MODEL);
    if (sl_model_file_describe(ctx, o->resume, &(sl_model_file_reader){.metadata = take, .data = &s}) !=
        SL_OK)
        status = cli_fail_context(o, ctx, false);
    else if (!s.values[CLI_MODEL] && !model_given)
        status = cli_fail(o, CLI_FAILURE, "%s does not say which model it holds; --model must", o->resume);
    o->resume_steps = s.unfinished ? s.steps : 0;
    spell_schedule(&s);
    if (status == CLI_SUCCESS) status = compare(ctx, o, &s);
    sl_close(ctx);
    return status;
}
