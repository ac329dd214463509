/* Whether there is a CUDA device to test, and of which kind. */
#ifndef SL_TESTS_CUDA_DEVICE_H
#define SL_TESTS_CUDA_DEVICE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slope/context.h"

/* 0: there is one. Otherwise what the program returns: 77, which counts as skipped; 1 where
 * SLOPE_REQUIRE_GPU=1 asks for a real one, which the simulated one is not. */
static inline int find_cuda_device(bool *simulated)
{
    const char *required = getenv("SLOPE_REQUIRE_GPU");
    const bool must = required && strcmp(required, "1") == 0;
    sl_context *ctx = sl_open_with(&(sl_open_options){.device = SL_CUDA});
    const bool found = !sl_error(ctx);
    *simulated = found && strncmp(sl_device_description(ctx), "simulated", 9) == 0;
    fprintf(stderr, "CUDA device: %s\n", found ? sl_device_description(ctx) : sl_error(ctx));
    sl_close(ctx);
    if (found && *simulated && must) fprintf(stderr, "SLOPE_REQUIRE_GPU asks for a real one\n");
    return found && !(*simulated && must) ? 0 : must ? 1 : 77;
}
#endif
