/* A fixed small training run for counting instructions: scripts/instructions.sh runs it under valgrind.
 *
 *     instructions [MODEL …]      default: mlp lenet
 *
 * Four steps each on built-in digits, batch 32, one thread. The first line names the compiler, the second the
 * instruction set in use. */
#include "options.h"
#include "workloads.h"

enum { BATCH = 32, STEPS = 4 };

static void train(sl_context *ctx, const char *name)
{
    const workload *w = workload_named(name);
    if (!w) stop("instructions: no such model");
    sl_model *model = compile_line(ctx, w->line, w->adam, BATCH);
    sl_dataset *digits = sl_digits(ctx, 1, SL_TRAIN, 2 * BATCH);
    for (int i = 0; i < STEPS; i++) sl_train_step(model, digits, STEPS / 2, NULL, NULL);
    stop_on_error(ctx);
    sl_model_free(model);
}

int main(int argc, char **argv)
{
    sl_context *ctx = sl_open(.device = SL_CPU, .threads = 1, .seed = 1);
    stop_on_error(ctx);
    printf("%s\n%s\n", __VERSION__, sl_device_description(ctx));
    fflush(stdout);
    static char *both[] = {NULL, "mlp", "lenet", NULL};
    for (char **name = argc > 1 ? argv + 1 : both + 1; *name; name++) train(ctx, *name);
    sl_close(ctx);
    return 0;
}
