/* The device from the inside: device.cu opens it, capture.cu runs plans on it. */
#ifndef SL_CUDA_DEVICE_CUH
#define SL_CUDA_DEVICE_CUH

#include "cuda/cuda.cuh"

struct sl_device {
    sl_context *ctx;
    int index;
    cudaStream_t stream;
    bool exact;
    sl_precision precision;
    int sms, max_shared;
    int resident_blocks; /* of the resident kernel at once; 0: it cannot be used */
    bool launches_early; /* SL_LAUNCH */
    unsigned *counters;
    struct cublasContext *blas;
    void *blas_workspace;
    size_t blas_workspace_bytes;
    struct sl_formula_kernels *formulas; /* with kernels of their own */
    bool dead;                           /* after an error that CUDA does not forget */
    char failure[768];                   /* the first of a run; empty: none */
    char description[320];
};

/* The thread's current device becomes this one. */
void sl_cuda_use(sl_device *device);
/* Turns the noted failure into the context's error, and finds out whether the device can go on. */
sl_status sl_cuda_report(sl_device *device, sl_context *ctx);

sl_status sl_cuda_run(sl_device *device, sl_context *ctx, const sl_call *calls, int n, void **handle);
void sl_cuda_release(sl_device *device, void *handle);
int sl_cuda_launches(sl_device *device, sl_context *ctx, const sl_call *calls, int n);
#endif
