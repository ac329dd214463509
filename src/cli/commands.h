/* The bit of each command in the table of options, and that of a recipe's lines. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H
enum {
    TRAIN = 1,
    EVAL = 2,
    PREDICT = 4,
    INFO = 8,
    DIVERGE = 16,
    RECIPE = 32,
    COMPARE = 64,
    PLOT = 128,
    CARD = 256,
    BENCH = 512
};
#endif
