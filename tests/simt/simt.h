/* The simulated device from the inside. It is one device with one memory, which works off every launch at
 * once, under one lock: a kernel's threads are run one after another on the CPU. The environment says how:
 *
 * - SLOPE_SIMT_ORDER: of blocks, and of threads between two barriers: forward (default), reverse, shuffled
 * - SLOPE_SIMT_MEMORY: MiB of device memory; default 4096
 * - SLOPE_SIMT_SMS: multiprocessors; default 4
 * - SLOPE_SIMT_SM: the architecture, 10 times its major number and its minor one; default 80
 * - SLOPE_SIMT_FAIL: what opening meets: driver (none), old (driver), device (none), architecture, busy,
 *   memory; or algorithm: cuBLASLt knows none; cooperative: no cooperative launches
 *
 * The blocks of a cooperative launch take turns: each runs until it waits for the others, which simt_yield
 * says. In one order of blocks or another a phase then shows that it needs what another block makes in it. */
#ifndef SL_SIMT_SIMT_H
#define SL_SIMT_SIMT_H

#include <cuda_runtime.h>

#include <functional>
#include <mutex>
#include <string>

/* block.cpp: runs a whole grid. False after simt_fail. */
struct simt_grid {
    const char *name;
    const simt_kernel *kernel;
    dim3 grid, block;
    size_t shared;
    simt_launch_kind kind;
};
bool simt_run_grid(const simt_grid &grid);
bool simt_in_kernel();
/* Leaves the kernel that runs, whichever thread calls. Does not return. */
[[noreturn]] void simt_leave_kernel(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* memory.cpp */
void *simt_memory_alloc(size_t bytes); /* nullptr: none left */
bool simt_memory_free(void *memory);
void simt_memory_usage(size_t *used, size_t *limit);
bool simt_memory_holds(const void *address);           /* in the device's range of addresses */
bool simt_memory_covers(const void *at, size_t bytes); /* inside one allocation that lives */
void simt_memory_open();                               /* within: kernels and copies may touch it */
void simt_memory_close();

/* device.cpp */
void simt_fail(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3))); /* sticky */
cudaError_t simt_error(); /* the sticky one */
cudaError_t
simt_answer(cudaError_t error); /* keeps the code for cudaGetLastError; a sticky one hides all others */
bool simt_planned_failure(const char *what); /* SLOPE_SIMT_FAIL */
std::recursive_mutex &simt_lock();
using simt_guard = std::lock_guard<std::recursive_mutex>;

/* stream.cpp */
/* Runs `work` now, or records it where the stream is being captured. */
cudaError_t simt_submit(cudaStream_t stream, std::function<void()> work, int launches);
/* A call that is no part of any stream: what capture forbids. */
cudaError_t simt_unsafe_call();
/* The default stream waits for all blocking streams, which capture forbids too. */
cudaError_t simt_default_stream_call();
#endif
