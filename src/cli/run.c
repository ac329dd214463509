/* What every training needs: its images, and a way to be stopped. */
#include <signal.h>

#include "cli.h"

/* --- signals --- */

static sl_context *volatile running; /* what a signal stops */
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
    if (running) sl_interrupt(running);
}

/* The first signal stops the run between two steps, the second ends the program. */
void cli_listen(sl_context *ctx)
{
    struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    running = ctx;
    if (stopped) return; /* whoever asks once more ends the program */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void cli_deafen(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    running = NULL;
}

bool cli_stopped(void)
{
    return stopped;
}

/* --- data --- */

int cli_run_data(const cli_options *o, cli_run *run)
{
    int status = CLI_SUCCESS;
    run->train = cli_data(run->ctx, o, SL_TRAIN, &status);
    if (run->train) run->test = cli_data(run->ctx, o, SL_TEST, &status);
    if (!run->train || !run->test) return status;
    run->validation = run->test;
    if (cli_given(o, CLI_VALIDATION)) {
        const int64_t count = sl_dataset_describe(run->train).count;
        if (o->validation >= count)
            return cli_fail(o, CLI_USAGE,
                            "--validation %lld: there are %lld training images, and at least 1 "
                            "must be left to learn from",
                            (long long)o->validation, (long long)count);
        run->held_out = true;
        run->validation = sl_dataset_slice(run->train, count - o->validation, o->validation);
        run->train = sl_dataset_slice(run->train, 0, count - o->validation);
    }
    return sl_error(run->ctx) ? cli_fail_context(o, run->ctx, false) : CLI_SUCCESS;
}

void cli_announce_data(const cli_options *o, const cli_run *run)
{
    char text[320];
    cli_say(o, "data     %s", cli_data_text(run->train, "training images", text, sizeof text));
    const sl_dataset_info validation = sl_dataset_describe(run->validation);
    if (run->held_out)
        cli_say(o, "         validation on %s training images held out", cli_count(validation.count).text);
    else
        cli_say(o, "         validation on the %s test images: no --validation was given",
                cli_count(validation.count).text);
    if (!run->held_out && strncmp(o->schedule, "plateau", 7) == 0)
        cli_say(o, "         the plateau schedule is steered by them, so the test set is no longer unseen");
    cli_say(o, "device   %s: %s", sl_device_name(run->ctx), sl_device_description(run->ctx));
}
