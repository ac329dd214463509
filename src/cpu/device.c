/* The CPU as a device: which copy of the kernels, how many threads. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend.h"
#include "core/context.h"
#include "cpu/threads.h"

typedef const sl_kernel *const sl_table[];
extern sl_table sl_cpu_table_f64, sl_cpu_table_plain, sl_cpu_table_avx2, sl_cpu_table_avx512;

sl_pool *sl_cpu_pool(const sl_device *device); /* as in cpu/cpu.h, which only kernels include */

struct sl_device {
    sl_pool *pool;
    const sl_kernel *const *kernels;
    char description[96];
};

typedef struct isa {
    const char *name;
    const sl_kernel *const *kernels;
    bool usable;
} isa;

static const sl_kernel *const *choose_isa(sl_context *ctx, const char **name)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    const isa all[] = {{"avx512", sl_cpu_table_avx512, avx512},
                       {"avx2", sl_cpu_table_avx2, avx2},
                       {"plain", sl_cpu_table_plain, true}};
#else
    const isa all[] = {{"plain", sl_cpu_table_plain, true}};
#endif
    const char *wish = getenv("SLOPE_ISA");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (wish && *wish ? strcmp(wish, all[i].name) != 0 : !all[i].usable) continue;
        if (!all[i].usable) {
            sl_fail(ctx, SL_UNSUPPORTED, "SLOPE_ISA=%s: this processor does not have it", wish);
            return NULL;
        }
        *name = all[i].name;
        return all[i].kernels;
    }
    sl_fail(ctx, SL_ARGUMENT, "SLOPE_ISA=%s is not known; it can be plain, avx2 or avx512", wish);
    return NULL;
}

static int usable_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    return 1;
}

static void cpu_close(sl_device *device)
{
    if (!device) return;
    sl_pool_close(device->pool);
    free(device);
}

static sl_device *open_with(sl_context *ctx, const sl_kernel *const *kernels, const char *name, int threads)
{
    sl_device *device = sl_new(ctx, 1, sizeof *device, "the CPU device");
    if (!device) return NULL;
    device->kernels = kernels;
    device->pool = sl_pool_open(threads);
    if (!device->pool) {
        sl_fail(ctx, SL_MEMORY, "sl_open: no memory for %d threads", threads);
        free(device);
        return NULL;
    }
    threads = sl_pool_threads(device->pool);
    snprintf(device->description, sizeof device->description, "%s, %d thread%s", name, threads,
             threads == 1 ? "" : "s");
    return device;
}

static sl_device *cpu_open(sl_context *ctx, const sl_open_options *options)
{
    const char *name = NULL;
    const sl_kernel *const *kernels = choose_isa(ctx, &name);
    return kernels ? open_with(ctx, kernels, name, sl_int_or(options->threads, usable_threads())) : NULL;
}

static sl_device *reference_open(sl_context *ctx, const sl_open_options *options)
{
    (void)options;
    return open_with(ctx, sl_cpu_table_f64, "float64", 1);
}

static const char *cpu_describe(sl_device *device)
{
    return device->description;
}

static const sl_kernel *const *cpu_kernels(sl_device *device)
{
    return device->kernels;
}

sl_pool *sl_cpu_pool(const sl_device *device)
{
    return device->pool;
}

static void *cpu_alloc(sl_device *device, size_t bytes)
{
    (void)device;
    void *memory = NULL; /* not a byte more than asked for, so that an overrun is one to a sanitizer too */
    return posix_memalign(&memory, 64, bytes ? bytes : 1) == 0 ? memory : NULL;
}

static void cpu_free(sl_device *device, void *memory)
{
    (void)device;
    free(memory);
}

static void cpu_copy(sl_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
}

static sl_status cpu_run(sl_device *device, sl_context *ctx, const sl_call *calls, int n, void **handle)
{
    (void)device, (void)ctx, (void)handle;
#if defined(__x86_64__)
    /* The caller may have asked its processor to flush denormals; our bits must not depend on it. */
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1f80);
#endif
    for (int i = 0; i < n; i++) calls[i].kernel->run(&calls[i]);
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(before);
#endif
    return SL_OK;
}

static void cpu_release(sl_device *device, void *handle)
{
    (void)device, (void)handle;
}

#define SL_CPU_BACKEND(its_name, its_open, its_size)                                                         \
    {                                                                                                        \
        .name = its_name, .real_size = its_size, .host_memory = true, .open = its_open, .close = cpu_close,  \
        .describe = cpu_describe, .kernels = cpu_kernels, .alloc = cpu_alloc, .free = cpu_free,              \
        .upload = cpu_copy, .download = cpu_copy, .run = cpu_run, .release = cpu_release                     \
    }
const sl_backend sl_backend_cpu = SL_CPU_BACKEND("cpu", cpu_open, sizeof(float));
const sl_backend sl_backend_reference = SL_CPU_BACKEND("reference", reference_open, sizeof(double));
