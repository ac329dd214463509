/* How networks with the activation train: read from a comparison, or a short training of its own. */
#define _DEFAULT_SOURCE
#include <math.h>

#include "card.h"

static card_trained *add_row(card *c, const char *name, bool own)
{
    card_trained *more = realloc(c->trained, (size_t)(c->n_trained + 1) * sizeof *more);
    if (!more) return NULL;
    c->trained = more;
    card_trained *row = &c->trained[c->n_trained++];
    *row = (card_trained){.own = own};
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

/* --- a comparison --- */

/* Written in one way, whatever was typed. */
static bool same_activation(const card *c, const char *a, const char *b)
{
    char texts[2][SL_ACTIVATION_TEXT];
    int status = CLI_SUCCESS;
    sl_context *ctx = cli_open_plain(c->options, 0, &status);
    if (!ctx) return false;
    sl_activation_print(sl_activation_parse(ctx, a), texts[0], SL_ACTIVATION_TEXT);
    sl_activation_print(sl_activation_parse(ctx, b), texts[1], SL_ACTIVATION_TEXT);
    const bool same = !sl_error(ctx) && strcmp(texts[0], texts[1]) == 0;
    sl_close(ctx);
    return same;
}

bool card_from(card *c, const char *folder)
{
    cli_comparison *all = cli_comparison_read(c->options, folder);
    if (!all) return false;
    bool found = false, good = true;
    for (int i = 0; i < all->n_activations && good; i++) {
        const cli_spread accuracy = cli_summary(all, 0, i, CLI_MEASURE_VALIDATION_ACCURACY);
        const bool own = same_activation(c, all->activations[i], c->name);
        if (accuracy.count == 0) continue;
        card_trained *row = add_row(c, all->activations[i], own);
        good = row != NULL;
        if (!good) break;
        found = found || own;
        row->accuracy = accuracy;
        row->loss = cli_summary(all, 0, i, CLI_MEASURE_VALIDATION_LOSS);
        row->seconds = cli_summary(all, 0, i, CLI_MEASURE_SECONDS).mean;
    }
    snprintf(c->trained_how, sizeof c->trained_how, "%s, %s%s%s; %s.", all->model, all->description,
             all->n_groups > 1 ? ", " : "", all->n_groups > 1 ? all->groups[0] : "",
             all->held_out ? "validation on images held out" : "the test set serves as validation");
    cli_comparison_free(all);
    if (!good)
        cli_fail(c->options, CLI_FAILURE, "out of memory");
    else if (!found)
        cli_fail(c->options, CLI_FAILURE, "%s holds no finished run of %s", folder, c->name);
    return good && found;
}

/* --- its own --- */

enum { TRAIN_IMAGES = 10000, TEST_IMAGES = 2000, EPOCHS = 2 };

static bool train_one(const card *c, const char *name, int seed, sl_report *report, double *seconds)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = (int)c->options->threads, .seed = (uint64_t)seed);
    sl_dataset *train = sl_digits(ctx, 1, SL_TRAIN, TRAIN_IMAGES),
               *test = sl_digits(ctx, 1, SL_TEST, TEST_IMAGES);
    sl_graph *graph = sl_graph_new(ctx);
    sl_node *logits = sl_model_line(sl_input(graph, "image", 28, 28, 1), "mlp",
                                    sl_activation_parse(ctx, name), (sl_init){0});
    sl_model *model = sl_compile(sl_softmax_cross_entropy(logits, sl_labels(graph, "label")), .batch = 128,
                                 .optimizer = sl_adam(.rate = 1e-3f));
    const sl_epoch epoch = sl_fit(model, train, .epochs = EPOCHS, .validation = test);
    *report = epoch.validation;
    *seconds = epoch.train.seconds;
    const bool diverged = sl_error_code(ctx) == SL_NOT_FINITE, good = !sl_error(ctx) || diverged;
    if (diverged) report->accuracy = report->loss = (double)NAN;
    if (!good) cli_fail_context(c->options, ctx, false);
    sl_close(ctx);
    return good;
}

bool card_train(card *c)
{
    const char *const names[] = {c->name, "relu"};
    const bool relu = same_activation(c, c->name, "relu");
    snprintf(
        c->trained_how, sizeof c->trained_how,
        "A short training of its own: mlp (dense128 act dense10), %d generated digits (not MNIST), %d "
        "epochs, Adam "
        "0.001, batch 128, seeds 1 to %d; accuracy on %d other generated digits. It is a look, no ranking.",
        TRAIN_IMAGES, EPOCHS, CARD_SEEDS, TEST_IMAGES);
    for (int i = 0; i < (relu ? 1 : 2); i++) {
        double accuracy[CARD_SEEDS], loss[CARD_SEEDS], seconds[CARD_SEEDS];
        cli_say(c->options, "training mlp with %s, %d seeds", names[i], CARD_SEEDS);
        for (int seed = 0; seed < CARD_SEEDS; seed++) {
            sl_report report;
            if (!train_one(c, names[i], seed + 1, &report, &seconds[seed])) return false;
            accuracy[seed] = report.accuracy;
            loss[seed] = report.loss;
        }
        card_trained *row = add_row(c, names[i], i == 0);
        if (!row) return cli_fail(c->options, CLI_FAILURE, "out of memory"), false;
        row->accuracy = cli_spread_of(accuracy, CARD_SEEDS);
        row->loss = cli_spread_of(loss, CARD_SEEDS);
        row->seconds = median_of(seconds, CARD_SEEDS);
    }
    return true;
}
