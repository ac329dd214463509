/* slope bench: what its files share. A figure is one quantity, measured in many rounds; a case measures a few
 * of them on one plan or model. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli.h"
#include "timing.h"

/* What a figure's time is set against: nothing, a copy of as many bytes, or a product of as many operations.
 */
typedef enum bench_yardstick { BENCH_ALONE, BENCH_COPY, BENCH_PRODUCT } bench_yardstick;

typedef struct bench_figure {
    const char *group;                               /* "activations", "kernels", "layers", "steps" */
    char row[64];                                    /* "relu", "dense128" */
    const char *form;                                /* "value", "forward" */
    double seconds[TIMING_MOST], share[TIMING_MOST]; /* of a round; speed as a share of the yardstick's */
    int n;
    bench_yardstick yardstick;
    double bytes, flops, samples; /* of one call or step; 0 where they do not apply */
    double memory;                /* planned bytes of a step */
    int launches;
} bench_figure;

typedef struct bench_results {
    bench_figure *figures;
    int n, capacity;
    double copy[TIMING_MOST], product[TIMING_MOST]; /* bytes and operations a second */
    int n_copy, n_product;
} bench_results;

typedef struct bench {
    const cli_options *options;
    sl_context *ctx;
    int64_t batch, elements;
    int square;              /* of the large product */
    bool cpu, simulated;     /* a simulated device: its times mean nothing */
    const float *noise;      /* [elements] in [-4, 4) */
    sl_plan *copy, *product; /* the yardsticks */
    sl_graph *flag_graph;    /* what bench_wait reads */
    sl_node *flag_node;
    sl_plan *flag;
    bench_results results;
    bool warming; /* nothing is recorded */
    double load;  /* of the machine before this program's own; negative: not known */
} bench;

typedef struct bench_case bench_case;
/* How a case is measured. All three return false after an error of the context. */
typedef struct bench_kind {
    const char *group;
    double weight; /* of its share of the time */
    bool (*open)(bench *b, bench_case *c);
    bool (*round)(bench *b, bench_case *c);
    void (*close)(bench *b, bench_case *c);
} bench_kind;

struct bench_case {
    const bench_kind *kind;
    char row[64];
    const char *line; /* of layers or of a model */
    int64_t image[3]; /* height, width, channels */
    sl_activation activation;
    int steps; /* of a round of training */
    /* while it is open */
    sl_graph *graph;
    sl_plan *plan[4];
    int repeats;
    sl_model *model;
    sl_dataset *data;
    sl_plan_info info;
    int rounds; /* done so far */
};

/* The figure of this row and form, made at its first use. NULL: out of memory. */
bench_figure *bench_figure_of(bench *b, const bench_case *c, const char *form);
/* Records a round; `rate` is the yardstick's in this round (0 without one). */
void bench_note(bench *b, bench_figure *figure, double seconds, double rate);
/* Bytes or operations a second of a yardstick, just now. */
double bench_copy_rate(bench *b);
double bench_product_rate(bench *b);
/* Times the calls of a plan, each `repeats` times, into an array of *n; NULL after an error. To be freed. */
sl_call_time *bench_time(bench *b, sl_plan *plan, int repeats, int *n);
bool bench_fill(bench *b, sl_plan *plan, const sl_node *input, int64_t count);

/* Until the device has done all that it was given. */
void bench_wait(bench *b);

/* bench_kernels.c, bench_layers.c */
extern const bench_kind bench_activations, bench_kernels, bench_layers, bench_steps;
/* Plans the layers of the case's line: plan 0 forward and backward, plan 1 forward. */
bool bench_open_line(bench *b, bench_case *c);

/* bench_run.c */
bool bench_open(bench *b, const cli_options *o, sl_context *ctx);
void bench_close(bench *b);
/* Measures the cases for `seconds` together, or `rounds` rounds each where that is not 0. False after an
 * error. */
bool bench_run(bench *b, bench_case *cases, int n, double seconds, int rounds);

/* bench_show.c */
void bench_print(const bench *b);
int bench_print_json(const bench *b);
/* The processor's name, as Linux tells it. */
const char *bench_processor(char *text, size_t size);
const bench_figure *bench_find(const bench *b, const char *group, const char *row, const char *form);

/* bench_compare.c */
int bench_compare(const cli_options *o, const char *old, const char *new);
#endif
