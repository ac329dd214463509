/* What the tests of the simulated device share. */
#ifndef SL_TESTS_SIMT_CASE_H
#define SL_TESTS_SIMT_CASE_H

#include <slope/slope.h>

#include "cuda/cuda.cuh"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
// clang-format off
#include <cmocka.h>
// clang-format on
}

static const char *const orders[] = {"forward", "reverse", "shuffled"};

static inline int reset(void **state)
{
    (void)state;
    unsetenv("SLOPE_SIMT_ORDER");
    cudaDeviceReset();
    return 0;
}

/* True where a process that calls it ends well. AddressSanitizer and a bad signal end it otherwise. */
static inline bool survives(bool (*call)())
{
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(3);
        signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on with the tests */
        _exit(call() ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
#endif
