/* The slope command: what its files share. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <slope/slope.h>

/* Exit statuses. */
enum { CLI_SUCCESS = 0, CLI_FAILURE = 1, CLI_USAGE = 2 };

/* --- options.c --- */

enum {
#define OPTION(id, ...) CLI_##id,
#include "options.def"
#undef OPTION
    CLI_OPTIONS
};

typedef struct cli_options {
    const char *command; /* "train", … */
    const char *model, *activation, *init, *data, *optimizer, *schedule, *device, *precision;
    const char *recipe, *out, *resume, *log, *a, *b;
    const char *activations, *from, *vary, *depth, *range;
    int64_t limit_train, limit_test, validation, epochs, batch, seed, threads, index, top, steps;
    int64_t seeds, width, rounds, elements;
    double rate, momentum, weight_decay, l2, clip_norm, clip_value, seconds;
    bool exact, diagnose, check_gradients, no_diagnose, json, plan, each, compare, no_train, no_bench, quiet,
        help;
    int64_t resume_steps; /* of an epoch of the unfinished run behind --resume; 0: it is finished */
    uint64_t given;       /* bit i: option i stood on the command line (or, with --resume, in the file) */
    char **words;         /* what is no option */
    int n_words;
    char **sorted;     /* the arguments, words last; from malloc */
    char *recipe_text; /* what the values of --recipe point into; from malloc */
    char **arguments;  /* all, as they were */
    int n_arguments;
} cli_options;

typedef struct cli_command {
    const char *name;
    unsigned bit;
    const char *synopsis, *about, *notes; /* for the help */
    int (*run)(cli_options *options);
} cli_command;

static inline bool cli_given(const cli_options *o, int option)
{
    return o->given >> option & 1;
}

/* Fills `o` with the defaults and what the arguments (after the command's name) say. False after a message.
 */
bool cli_parse(const cli_command *command, int n, char **arguments, cli_options *o);
/* Reads further options over those in `o`; `from` says where they stand in messages ("in --a: "). */
bool cli_parse_more(const cli_command *command, const char *from, int n, char **arguments, cli_options *o);
/* The same without following a --recipe. */
bool cli_parse_words(const cli_command *command, const char *from, int n, char **arguments, cli_options *o);
/* Takes the values that a model file has for options that were not given. */
void cli_set_text(cli_options *o, int option, const char *value);
bool cli_set_number(cli_options *o, int option, const char *value);
/* As if the option stood on the command line; `from` says where it does ("in --vary: "). False after a
 * message. */
bool cli_assign(cli_options *o, const char *from, int option, const char *text);
/* Its value as cli_assign takes it; NULL where it was not given and has no default. */
const char *cli_option_text(const cli_options *o, int option, char *buffer, size_t size);
bool cli_option_is_flag(int option);
bool cli_option_fixes(int option); /* whether it says what a comparison trains, not where */
const char *cli_option_name(int option);
const char *cli_option_key(int option); /* NULL: a model file does not keep it */
void cli_help(const cli_command *command, FILE *to);

/* --- recipe.c --- */

/* Reads the file behind --recipe over the options in `o`. False after a message. */
bool cli_recipe(cli_options *o);

/* --- messages.c --- */

/* One sentence on standard error, "slope train: …"; returns `status`. */
int cli_fail(const cli_options *o, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Prints the context's error. Wrong options are wrong usage only while they are being read. */
int cli_fail_context(const cli_options *o, const sl_context *ctx, bool reading_options);
/* A message on standard error, unless --quiet. */
void cli_say(const cli_options *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The word of the list (ended by NULL) that is spelled most like `word`; NULL where none is like it. */
const char *cli_nearest(const char *word, const char *const *list);
/* Words of `text` from column `at` on, in lines of at most 79 columns that start at column `indent`. */
void cli_wrap(FILE *to, const char *text, int at, int indent);
/* 12345678 as "12 345 678". */
typedef struct cli_text {
    char text[48];
} cli_text;
cli_text cli_count(int64_t number);
int cli_columns(const char *text); /* that a text in UTF-8 takes */
cli_text cli_time(double seconds); /* "48 s", "3:05 min", "1:20 h" */
/* Flushes standard output; CLI_FAILURE after a message where something could not be written. */
int cli_finish(const cli_options *o, int status);

/* --- setup.c: from options to contexts, data and models --- */

/* NULL after a message, with *status set. */
sl_context *cli_open(const cli_options *o, int *status);
/* A context on the CPU with one thread, for reading files. */
sl_context *cli_open_plain(const cli_options *o, uint64_t seed, int *status);
/* The model in a file with its training state, in a plain context of its own. NULL after a message. */
sl_model *cli_load_plain(const cli_options *o, const char *path, sl_context **ctx, int *status);
/* The split with its limit. NULL after a message. */
sl_dataset *cli_data(sl_context *ctx, const cli_options *o, sl_split split, int *status);
/* The model of the options for images like those of `data`. NULL after a message. */
sl_model *cli_model(sl_context *ctx, const cli_options *o, const sl_dataset *data, int *status);
/* The line behind --model: presets spelled out, --l2 set on every word that has none. To be freed. */
char *cli_line(const cli_options *o);
/* The activation of a word. Anything but CLI_SUCCESS comes after a message. */
int cli_activation(sl_context *ctx, const cli_options *o, const char *word, sl_activation *activation);
void cli_warn_step(const cli_options *o, const char *line, sl_activation activation);
/* "mnist: 10000 test images" or "synthetic digits …, not MNIST". */
const char *cli_data_text(const sl_dataset *data, const char *images, char *buffer, size_t size);

/* --- run.c: what every training needs --- */

typedef struct cli_run {
    sl_context *ctx;
    sl_model *model;
    sl_dataset *train, *validation, *test; /* validation is test where no images are held out */
    bool held_out;
} cli_run;
/* Fills in the data sets. Anything but CLI_SUCCESS comes after a message. */
int cli_run_data(const cli_options *o, cli_run *run);
/* Says what the data and the device are. */
void cli_announce_data(const cli_options *o, const cli_run *run);
/* From here on SIGINT and SIGTERM interrupt this context. */
void cli_listen(sl_context *ctx);
void cli_deafen(void);  /* they end the program again */
bool cli_stopped(void); /* whether one of them has come */

/* --- resume.c --- */

/* Completes the options from the file behind --resume, and refuses those that contradict it. Returns an exit
 * status. */
int cli_resume(cli_options *o);

/* --- log.c --- */

typedef struct cli_log cli_log;
/* Opens --log and writes the line that describes the run. False after a message; *log stays NULL without
 * --log. */
bool cli_log_open(const cli_options *o, const cli_run *run, cli_log **log);
void cli_log_epoch(cli_log *log, sl_model *model, const sl_epoch *epoch);
/* What the first step's diagnosis says: the state that the first values give. */
void cli_log_start(cli_log *log, sl_model *model);
/* The last line of a comparison's run; either may be NULL. */
void cli_log_end(cli_log *log, const sl_report *test, const char *diverged);
double cli_rate(const cli_options *o);     /* the optimiser's own where none was given */
int64_t cli_threads(const cli_options *o); /* as many as the library takes where none are given */
bool cli_log_close(cli_log *log);          /* false after a message: some line was lost */

/* --- image.c --- */

typedef struct cli_image {
    int height, width;
    float *grey; /* [height, width] in [0, 1], 1 is white; from malloc */
} cli_image;
bool cli_image_read(const cli_options *o, const char *path,
                    cli_image *image);                         /* PNG or PGM; false after a message */
bool cli_image_scale(cli_image *image, int height, int width); /* by area; false: out of memory */
bool cli_image_normalise(cli_image *image);                    /* inverts a bright background */

/* --- layers.c --- */

/* A table of the layers of a line for images of the given size. Returns an exit status. */
int cli_print_layers(sl_context *ctx, const char *line, sl_activation activation, const int64_t *dims);

/* --- the commands --- */
int cli_train(cli_options *o);
int cli_eval(cli_options *o);
int cli_predict(cli_options *o);
int cli_info(cli_options *o);
int cli_diverge(cli_options *o);
int cli_compare(cli_options *o);
int cli_plot(cli_options *o);
int cli_bench(cli_options *o);
int cli_card(cli_options *o);
extern const cli_command cli_commands[]; /* ends with name == NULL */
#endif
