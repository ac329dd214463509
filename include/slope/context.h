/* The context: device, seed, threads, and the first error. It owns everything that is made in it. */
#ifndef SLOPE_CONTEXT_H
#define SLOPE_CONTEXT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "slope/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SLOPE_VERSION "0.1.0"

/* An option left out (zero) takes its default. A real zero is said with SL_ZERO (floats), SL_NONE (integers).
 */
#define SL_NONE INT_MIN
static inline float sl_zero_option(void)
{
    const uint32_t bits = 0x7fc051a0u; /* a quiet NaN with a payload that no computation makes */
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
#define SL_ZERO sl_zero_option()

typedef struct sl_context sl_context;

typedef enum sl_device_kind {
    SL_AUTO,      /* CUDA where a device fits, else the CPU */
    SL_CPU,       /* float32, vectorised, any number of threads */
    SL_CUDA,      /* a CUDA device, or an error */
    SL_REFERENCE, /* float64 on one CPU thread, plain loops: the oracle that tests and gradient checks use */
} sl_device_kind;

typedef enum sl_precision { SL_FP32, SL_TF32, SL_BF16 } sl_precision;

typedef struct sl_open_options {
    sl_device_kind device;
    int device_index;       /* which CUDA device; default 0 */
    uint64_t seed;          /* of every random number drawn in this context; default 0 */
    int threads;            /* CPU threads; default: as many as the process may use */
    bool exact;             /* CUDA: the CPU's bits, at a price; the CPU is always exact */
    sl_precision precision; /* CUDA products and convolutions; default SL_FP32 */
    void (*log)(void *log_data, const char *line); /* messages for the user; default: none */
    void *log_data;
    int end_;
} sl_open_options;

/* Opens a context. Never returns NULL: where it fails, it returns a static context that only carries the text
 * of the error. One context belongs to one thread at a time. */
SL_API sl_context *sl_open_with(const sl_open_options *options);

/* Frees everything made in the context. NULL is fine. */
SL_API void sl_close(sl_context *ctx);

/* The first error since sl_open or sl_clear_error: which call, which tensor, which shapes, what would fit.
 * NULL while there is none. The text lives until sl_clear_error or sl_close. While an error is pending, every
 * builder and action returns at once and touches nothing. */
SL_API const char *sl_error(const sl_context *ctx);
SL_API sl_status sl_error_code(const sl_context *ctx);
SL_API void sl_clear_error(sl_context *ctx);

/* "cpu", "cuda" or "reference", and one line about it ("avx2, 2 threads"). */
SL_API const char *sl_device_name(const sl_context *ctx);
SL_API const char *sl_device_description(const sl_context *ctx);

/* The optional parts in this build, each with a space before it: " zlib curl cuda". */
SL_API const char *sl_features(void);

/* The GPU architectures that this library holds kernels for: "sm_75, sm_80, newer than sm_80". NULL in a
 * library without CUDA. */
SL_API const char *sl_cuda_architectures(void);

/* Asks a running sl_fit to stop after the current step, leaving everything consistent. Safe in a signal
 * handler. */
SL_API void sl_interrupt(sl_context *ctx);

#ifndef __cplusplus
#    define sl_open(...)  SL_OPEN_(__VA_ARGS__, .end_ = 0)
#    define SL_OPEN_(...) sl_open_with(&(sl_open_options){__VA_ARGS__})
#else
}
inline sl_context *sl_open(const sl_open_options &options)
{
    return sl_open_with(&options);
}
#endif
#endif
