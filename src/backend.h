/* The one interface between the plan and a back end: tensors, calls, kernels, devices.
 * A back end sees this header and core/, nothing else. */
#ifndef SL_BACKEND_H
#define SL_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/attributes.h"
#include "core/error.h"
#include "core/shape.h"

typedef enum sl_op {
#define OP(id, name, outputs, flags) SL_OP_##id,
#include "slope/ops.def"
#undef OP
    SL_OP_COUNT
} sl_op;

typedef enum sl_activation_row {
#define ACTIVATION(id, ...) SL_ROW_##id,
#include "slope/activations.def"
#undef ACTIVATION
    SL_ROW_COUNT
} sl_activation_row;

/* A tensor as a kernel sees it: dense, the last dimension fastest. */
typedef struct sl_tensor {
    void *data; /* 64-byte aligned on the CPU; NULL for an output that nobody reads */
    sl_shape shape;
    sl_dtype dtype;
} sl_tensor;

typedef struct sl_device sl_device;
typedef struct sl_kernel sl_kernel;

/* One kernel call of a plan, prepared once and run every step. */
typedef struct sl_call {
    const sl_kernel *kernel;
    sl_op op;
    const sl_tensor *in, *out;
    int n_in, n_out;
    const void *attr;     /* the operation's struct from attributes.h */
    void *workspace;      /* kernel->workspace(call) bytes */
    const int32_t *valid; /* device memory: samples that count; NULL where no tensor of the call is batched */
    int64_t batch;        /* samples with padding */
    sl_device *device;
    const char *name; /* of the node */
} sl_call;

/* Rows (elements / last dimension) of a batched tensor that count: reductions over the batch stop there. */
static inline int64_t sl_valid_rows(const sl_call *call, int64_t rows)
{
    return call->valid ? rows / call->batch * *call->valid : rows;
}

struct sl_kernel {
    sl_op op;
    const char *name;                         /* "blocked": how, not what */
    bool (*supports)(const sl_call *call);    /* NULL: every call */
    size_t (*workspace)(const sl_call *call); /* bytes; NULL: none */
    void (*run)(const sl_call *call);
};

// clang-format off
/* The families of kernels: a file each in src/cpu and in src/cuda. */
#define SL_KERNEL_FAMILIES(FAMILY)                                                                           \
    FAMILY(matmul) FAMILY(conv) FAMILY(activation) FAMILY(elementwise) FAMILY(reduce) FAMILY(pool)           \
    FAMILY(norm) FAMILY(lstm) FAMILY(custom) FAMILY(softmax) FAMILY(loss) FAMILY(random) FAMILY(statistics) FAMILY(step) FAMILY(update)
// clang-format on

/* What a back end offers. `kernels` is a NULL-ended list of families, each a list that ends with run == NULL;
 * the first kernel of an operation that supports a call is taken, so fast ones stand before the reference. */
typedef struct sl_backend {
    const char *name;
    size_t real_size; /* of SL_FLOAT */
    bool host_memory; /* the host may read and write device memory directly */
    sl_device *(*open)(sl_context *ctx, const sl_open_options *options); /* NULL after sl_fail */
    void (*close)(sl_device *device);
    const char *(*describe)(sl_device *device);
    const sl_kernel *const *(*kernels)(sl_device *device);
    void *(*alloc)(sl_device *device, size_t bytes); /* NULL: out of memory */
    void (*free)(sl_device *device, void *memory);
    void (*upload)(sl_device *device, void *to, const void *from_host, size_t bytes);
    void (*download)(sl_device *device, void *to_host, const void *from, size_t bytes);
    /* Runs the calls in order. `handle` belongs to the plan: a back end may keep a captured graph there. */
    sl_status (*run)(sl_device *device, sl_context *ctx, const sl_call *calls, int n, void **handle);
    void (*release)(sl_device *device, void *handle);
    /* How many launches these calls make on the device, -1 after a failure. NULL: nothing is launched there.
     */
    int (*launches)(sl_device *device, sl_context *ctx, const sl_call *calls, int n);
    const char *built_for; /* architectures that there are kernels for, NULL where that says nothing */
    /* Guarded placement: a tensor's life begins (its values are NaN) or ends (who reads it is to be caught).
     * NULL: memory is the host's. */
    void (*life)(sl_device *device, void *memory, size_t bytes, bool begins);
} sl_backend;

extern const sl_backend sl_backend_cpu, sl_backend_reference;
#ifdef SLOPE_CUDA
extern const sl_backend sl_backend_cuda;
#endif
#endif
