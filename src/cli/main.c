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
     "dilation; ~1e-5 an L2), pool2, avgpool2, gap, bn, drop.25, flatten, act, the name of an activation or "
     "an expression without spaces, res( ... ) for a residual block.\n"
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
    {"compare", COMPARE, "[options]",
     "Which activation? Trains the same network with one after the other, with the same first weights, order "
     "of images and dropout, for several seeds, and tells what comes out and which differences exceed the "
     "noise.",
     "Without --model and --depth it makes the published experiment: a convolutional network with batch norm "
     "and dropout, adam with rate 0.001, batch 128, 20 epochs, the plateau schedule, xavier. With one of "
     "them, the options left out are those of slope train.\n"
     "\n"
     "Every finished run is kept in --out. The same command goes on where it was stopped, even within a run "
     "after Ctrl-C (or SIGTERM); with more activations, seeds or values it trains what is missing; where "
     "nothing is, it only makes table and report anew. Other options are refused.\n"
     "\n"
     "At one seed all activations get the same random numbers. Unless --init says how weights start, they "
     "are scaled to suit the activation.",
     cli_compare},
    {"plot", PLOT, "[ACTIVATION ...] [options]",
     "Draws value and slope of activations or of expressions in x, side by side on one sheet.",
     "Without a word: sigmoid, tanh, relu, leaky_relu and swish. Parameters stand in brackets, "
     "\"swish(beta=2)\"; an expression is quoted: 'x*sigmoid(1.5*x)'; behind -- it may begin with a minus.\n"
     "\n"
     "Pictures are drawn by gnuplot (Debian: gnuplot-nox). Where it is missing the numbers are written as "
     "CSV.",
     cli_plot},
    {"bench", BENCH, "[kernels] [layers] [steps] [options] | --compare OLD NEW",
     "Measures this machine: activations and their slopes against a copy, products and convolutions against "
     "a large product, layers forward and backward, steps of training. Without a word it measures all.",
     "Every time is the median of its rounds, with the distance of the quartiles as its spread; the rounds "
     "of one figure are spread over the whole run, and beside each stands a copy and a large product of the "
     "same moment. The large product stands for the device's peak of multiply-add.\n"
     "\n"
     "--compare calls a figure faster or slower where the quartiles of the two files do not overlap and the "
     "medians differ by more than the mean of the two spreads. It exits with 0, and with 1 where something "
     "is slower.",
     cli_bench},
    {"card", CARD, "ACTIVATION [options]",
     "Writes one page about one activation or expression: formula, limits, kinks, gain, its error in "
     "float32, how values and gradients pass through 2 to 40 layers, how it trains, and how fast it is here.",
     "Without --from, two short trainings on generated digits, of this activation and of relu, show only "
     "that it learns.",
     cli_card},
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
          "  diverge   the first step and node at which two runs differ\n"
          "  compare   which activation: the same training with each, side by side\n"
          "  plot      value and slope of activations, drawn\n"
          "  bench     how fast activations, layers and training steps are here\n"
          "  card      one page about one activation\n\n"
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
