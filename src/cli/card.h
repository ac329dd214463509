/* slope card: what its files share. */
#ifndef CLI_CARD_H
#define CLI_CARD_H

#include "bench.h"
#include "curves.h"
#include "summary.h"

typedef struct card_extreme {
    double at, value;
} card_extreme;

enum { CARD_KINKS = 8, CARD_DEPTHS = 6, CARD_SEEDS = 3 };

typedef struct card_kink {
    double x, value[2], slope[2]; /* before and behind */
} card_kink;

/* A plain network of `depth` hidden layers at its first values. */
typedef struct card_flow {
    int depth;
    double rms, deviation; /* of the last hidden layer's values; between samples alone */
    double first, last;    /* gradient norm of the first and the last hidden layer's weights */
} card_flow;

typedef struct card_trained {
    char name[64];
    cli_spread accuracy, loss; /* of validation, over the seeds */
    double seconds;            /* an epoch, the median; 0: not told */
    bool own;                  /* the activation of this card */
} card_trained;

typedef struct card {
    const cli_options *options;
    sl_activation activation;
    const char *name; /* as it was typed */
    cli_curve curve;
    /* the function, in double precision */
    double limit[2][2], origin[2]; /* [value, slope][-inf, +inf]; value and slope at 0 */
    card_extreme extreme[2][2];    /* [value, slope][lowest, highest] over [-20, 20] and the limits */
    card_kink kinks[CARD_KINKS];
    int n_kinks;
    double mean, square, slope_square, gain; /* E f, E f², E f'² for a normal x */
    bool uniform;                            /* the default initialiser is Xavier's */
    /* float32 against it */
    int64_t swept;
    card_extreme ulp, beyond, slope_error; /* worst in ulp up to 4; absolute beyond 4; of the slope */
    card_flow flow[CARD_DEPTHS];
    card_trained *trained;
    int n_trained;
    char trained_how[256];
    bench *bench;          /* NULL: not measured */
    const char *bench_row; /* of its figures */
} card;

/* card_numbers.c: false after a message */
bool card_function(card *c);
bool card_accuracy(card *c, sl_context *ctx);
bool card_gradient_flow(card *c);

/* card_train.c */
bool card_train(card *c);
bool card_from(card *c, const char *folder);

/* card_page.c: the page as Markdown; `picture` is the name of the file with the curves, NULL without one */
void card_write(const card *c, FILE *page, const char *picture);
#endif
