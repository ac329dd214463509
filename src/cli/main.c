/* slope COMMAND [options] */
#include <stdlib.h>

#include "cli.h"
#include "commands.h"

const cli_command cli_commands[] = {
    {"train", TRAIN, "[options]",
     "Trains a network on images of digits (or any IDX data set), shows how it goes on standard error, and "
     "prints what came out.",
     "Ctrl-C (or SIGTERM) stops after the current step, saves the state to --out, or to "
     "slope-interrupted.safetensors where there is none, tells how to go on, and exits with 1. The run that "
     "goes on ends with the same bytes as one that was never stopped.\n"
     "\n"
     "A layer is a word: dense128, conv5-8 (kernel 5, 8 filters; p1 s2 d2 behind it set padding, stride, "
     "dilation; ~1e-5 an L2), pool2, avgpool2, gap, bn, drop.25, flatten, act, the name of an activation, "
     "res( ... ) for a residual block.\n"
     "\n"
     "A recipe holds one option a line, without dashes and quotation marks (epochs 3), and comments behind "
     "#.",
     cli_train},
    {"eval", EVAL, "MODEL [options]", "Runs a saved model over the test images of a data set.", NULL,
     cli_eval},
    {"predict", PREDICT, "MODEL (IMAGE | --index I) [options]",
     "Tells the class of one image, a PNG or PGM file or a test image of a data set, and how sure the model "
     "is.",
     "A picture of another size is scaled to what the model takes, and one with a bright background is "
     "inverted, because the data sets show light strokes on black.",
     cli_predict},
    {"info", INFO, "[MODEL | \"LINE\"] [options]",
     "Without a word: the version, devices and data sets of this machine. With a model file: what it holds. "
     "With a model line or a preset: its layers for images of 28 x 28, parameters, work and the plan.",
     NULL, cli_info},
    {"diverge", DIVERGE, "(A B | --a OPTIONS --b OPTIONS) [options]",
     "Finds where two runs part: the first number that differs between two model files, the first epoch "
     "between two logs of train --log, or, training two networks step by step, the first step and node.",
     "Exits with 0 where the two are equal and with 1 where they differ.", cli_diverge},
    {0},
};

static void overview(FILE *to)
{
    fputs("slope " SLOPE_VERSION ", deep learning in C around the activation function and its slope\n\n"
          "Usage: slope COMMAND [options]\n\n"
          "  train     train a network, save it, log it\n"
          "  eval      a saved model on a data set\n"
          "  predict   the class of one image\n"
          "  info      this machine, a model file, or the layers of a model line\n"
          "  diverge   the first step and node at which two runs differ\n\n"
          "slope COMMAND --help explains each. To begin, on any machine and without network:\n"
          "  slope train --data digits --limit-train 10000 --out digits.safetensors\n",
          to);
}

static int unknown(const char *word)
{
    const char *names[16];
    char list[128] = "";
    int n = 0;
    for (const cli_command *c = cli_commands; c->name; c++) {
        const size_t used = strlen(list);
        names[n++] = c->name;
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", c->name);
    }
    names[n] = NULL;
    const char *near = cli_nearest(word, names);
    if (near)
        return cli_fail(NULL, CLI_USAGE, "there is no command '%s'; did you mean %s? There are %s", word,
                        near, list);
    return cli_fail(NULL, CLI_USAGE, "there is no command '%s'; there are %s", word, list);
}

static int run(const cli_command *command, bool help, int n, char **arguments)
{
    cli_options options = {.command = command->name};
    int status = help || cli_parse(command, n, arguments, &options) ? CLI_SUCCESS : CLI_USAGE;
    if (status == CLI_SUCCESS && (help || options.help))
        cli_help(command, stdout);
    else if (status == CLI_SUCCESS)
        status = command->run(&options);
    status = cli_finish(&options, status);
    free(options.sorted);
    free(options.recipe_text);
    return status;
}

int main(int n, char **arguments)
{
    const char *word = n > 1 ? arguments[1] : NULL;
    if (!word) {
        overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts("slope " SLOPE_VERSION);
        return cli_finish(NULL, CLI_SUCCESS);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (strcmp(word, "help") == 0 && n == 2)) {
        overview(stdout);
        return cli_finish(NULL, CLI_SUCCESS);
    }
    const bool help = strcmp(word, "help") == 0;
    if (help) word = arguments[2];
    for (const cli_command *c = cli_commands; c->name; c++) {
        if (strcmp(c->name, word) != 0) continue;
        return run(c, help, n - 1, arguments + 1);
    }
    return unknown(word);
}
