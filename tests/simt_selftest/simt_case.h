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

#define LAUNCH(kernel, grid, block, shared, ...)                                                             \
    simt_launch(#kernel, kernel, grid, block, shared, nullptr, __VA_ARGS__)
#define assert_cuda(code, expression) assert_string_equal(cudaGetErrorName(expression), #code)

/* A tensor on the device, and back. */
static inline float *to_device(const std::vector<float> &values)
{
    void *memory = nullptr;
    assert_cuda(cudaSuccess, cudaMalloc(&memory, values.size() * sizeof(float)));
    assert_cuda(cudaSuccess,
                cudaMemcpy(memory, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
    return static_cast<float *>(memory);
}

static inline std::vector<float> to_host(const float *memory, size_t n)
{
    std::vector<float> values(n);
    assert_cuda(cudaSuccess, cudaMemcpy(values.data(), memory, n * sizeof(float), cudaMemcpyDeviceToHost));
    return values;
}

static inline std::vector<float> counted(size_t n)
{
    std::vector<float> values(n);
    for (size_t i = 0; i < n; i++) values[i] = (float)i;
    return values;
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
