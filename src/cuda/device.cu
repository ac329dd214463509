/* A CUDA device: opening it, or saying why not; its memory; its errors. */
#include "cuda/device.cuh"
#include "cuda/formula.cuh"
#include "cuda/resident.cuh"

#include <cublas_v2.h>
#include <stdio.h>

#ifndef SLOPE_CUDA_ARCHITECTURES /* of the device code in this library, as text */
#    define SLOPE_CUDA_ARCHITECTURES "unknown architectures"
#endif

cudaStream_t sl_cuda_stream(const sl_device *device)
{
    return device->stream;
}

bool sl_cuda_exact(const sl_device *device)
{
    return device->exact;
}

sl_precision sl_cuda_precision(const sl_device *device)
{
    return device->precision;
}

int sl_cuda_sms(const sl_device *device)
{
    return device->sms;
}

bool sl_cuda_launches_early(const sl_device *device)
{
    return device->launches_early;
}

int sl_cuda_max_shared(const sl_device *device)
{
    return device->max_shared;
}

unsigned *sl_cuda_counters(const sl_device *device)
{
    return device->counters;
}

struct cublasContext *sl_cuda_blas_handle(const sl_device *device)
{
    return device->blas;
}

void *sl_cuda_blas_workspace(const sl_device *device, size_t *bytes)
{
    *bytes = device->blas_workspace_bytes;
    return device->blas_workspace;
}

/* --- errors --- */

void sl_cuda_note(sl_device *device, cudaError_t error, const char *what, const char *node)
{
    if (error == cudaSuccess || device->failure[0]) return;
    snprintf(device->failure, sizeof device->failure, "%s%s%s%s: %s (%s)", node ? "node '" : "",
             node ? node : "", node ? "', " : "", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

void sl_cuda_note_status(sl_device *device, int status, const char *what, const char *node)
{
    if (status == 0 || device->failure[0]) return;
    snprintf(device->failure, sizeof device->failure, "%s%s%s%s failed with status %d", node ? "node '" : "",
             node ? node : "", node ? "', " : "", what, status);
}

sl_status sl_cuda_report(sl_device *device, sl_context *ctx)
{
    if (device->dead)
        return sl_fail(ctx, SL_DEVICE,
                       "the CUDA device has failed before: %s; close this context and open a new one",
                       device->failure);
    cudaGetLastError();
    device->dead = cudaStreamSynchronize(device->stream) != cudaSuccess;
    sl_fail(ctx, SL_DEVICE, "the CUDA device failed: %s", device->failure);
    if (!device->dead) device->failure[0] = 0;
    return ctx->code;
}

void sl_cuda_use(sl_device *device)
{
    sl_cuda_note(device, cudaSetDevice(device->index), "choosing the device", nullptr);
}

/* --- opening --- */

static __global__ void probe(int *nothing)
{
    sl_cuda_begin();
    if (nothing) *nothing = 0;
}

static sl_device *refuse_start(sl_context *ctx, cudaError_t error)
{
    int driver = 0, runtime = 0;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (error == cudaErrorNoDevice || (error == cudaSuccess && driver > 0))
        sl_fail(ctx, SL_DEVICE,
                "there is no CUDA device (the driver is there, but it shows no GPU to this process)");
    else if (driver == 0)
        sl_fail(ctx, SL_DEVICE, "there is no CUDA device: no NVIDIA driver is installed");
    else if (error == cudaErrorInsufficientDriver)
        sl_fail(ctx, SL_DEVICE,
                "the NVIDIA driver is too old: it supports CUDA %d.%d, this library needs %d.%d; update the "
                "driver",
                driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    else
        sl_fail(ctx, SL_DEVICE, "CUDA cannot start: %s (%s)", cudaGetErrorString(error),
                cudaGetErrorName(error));
    return nullptr;
}

static sl_device *refuse_device(sl_context *ctx, const cudaDeviceProp *found, cudaError_t error,
                                const char *what)
{
    cudaGetLastError();
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
        error == cudaErrorUnsupportedPtxVersion)
        sl_fail(ctx, SL_DEVICE,
                "the CUDA device does not fit: found %s (sm_%d%d), but this library was built for %s",
                found->name, found->major, found->minor, SLOPE_CUDA_ARCHITECTURES);
    else if (error == cudaErrorDevicesUnavailable)
        sl_fail(
            ctx, SL_DEVICE,
            "the CUDA device %s is busy: another process holds it alone, or its administrator has closed it",
            found->name);
    else if (error == cudaErrorMemoryAllocation)
        sl_fail(ctx, SL_MEMORY, "the CUDA device %s has not enough free memory to start (%s)", found->name,
                what);
    else
        sl_fail(ctx, SL_DEVICE, "the CUDA device %s cannot be used: %s: %s (%s)", found->name, what,
                cudaGetErrorString(error), cudaGetErrorName(error));
    return nullptr;
}

/* A handle that knows its stream and its memory before the first capture, which allows neither to be made. */
static bool open_blas(sl_device *device, const cudaDeviceProp *found)
{
    cublasHandle_t handle = nullptr;
    device->blas_workspace_bytes = (size_t)(found->major >= 9 ? 32 : 8) << 20;
    sl_cuda_note(device, cudaMalloc(&device->blas_workspace, device->blas_workspace_bytes),
                 "the workspace of cuBLAS", nullptr);
    if (device->failure[0]) return false;
    sl_cuda_note_status(device, cublasCreate(&handle), "cublasCreate", nullptr);
    device->blas = handle;
    if (device->failure[0]) return false;
    sl_cuda_note_status(device, cublasSetStream(handle, device->stream), "cublasSetStream", nullptr);
    /* cublasSetStream takes the workspace away, so it comes after. */
    sl_cuda_note_status(device,
                        cublasSetWorkspace(handle, device->blas_workspace, device->blas_workspace_bytes),
                        "cublasSetWorkspace", nullptr);
    return !device->failure[0];
}

static void cuda_close(sl_device *device)
{
    if (!device) return;
    cudaSetDevice(device->index);
    sl_cuda_formula_forget(device);
    if (device->blas) cublasDestroy(device->blas);
    if (device->blas_workspace) cudaFree(device->blas_workspace);
    if (device->counters) cudaFree(device->counters);
    if (device->stream) cudaStreamDestroy(device->stream);
    cudaGetLastError();
    free(device);
}

static bool options_fit(sl_context *ctx, const sl_open_options *options)
{
    if (options->precision != SL_FP32 && options->precision != SL_TF32 && options->precision != SL_BF16)
        sl_fail(ctx, SL_ARGUMENT, "sl_open: precision is neither fp32, tf32 nor bf16");
    else if (options->exact && options->precision != SL_FP32)
        sl_fail(ctx, SL_ARGUMENT, "sl_open: exact results need precision fp32");
    return sl_ok(ctx);
}

/* Tensor cores have TF32 and BF16 from sm_80 on; the kernels for them are left out of older code. */
static bool precision_fits(sl_context *ctx, const sl_open_options *options, const cudaDeviceProp *found,
                           int compiled_for)
{
    const char *precision = options->precision == SL_TF32 ? "tf32" : "bf16";
    if (options->precision == SL_FP32) return true;
    if (found->major < 8)
        sl_fail(ctx, SL_UNSUPPORTED,
                "sl_open: precision %s needs a GPU of sm_80 or newer; found %s (sm_%d%d)", precision,
                found->name, found->major, found->minor);
    else if (compiled_for < 80)
        sl_fail(ctx, SL_UNSUPPORTED,
                "sl_open: precision %s needs code for sm_80 or newer; this library was built for %s",
                precision, SLOPE_CUDA_ARCHITECTURES);
    return sl_ok(ctx);
}

static sl_device *cuda_open(sl_context *ctx, const sl_open_options *options)
{
    if (!options_fit(ctx, options)) return nullptr;
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) return refuse_start(ctx, error);
    const int index = options->device_index == SL_NONE ? 0 : options->device_index;
    if (index < 0 || index >= count) {
        sl_fail(ctx, SL_ARGUMENT, "sl_open: device_index is %d, but the CUDA devices are 0 to %d", index,
                count - 1);
        return nullptr;
    }
    cudaDeviceProp found;
    error = cudaGetDeviceProperties(&found, index);
    if (error != cudaSuccess) return refuse_start(ctx, error);
    cudaFuncAttributes attributes;
    error = cudaSetDevice(index);
    if (error == cudaSuccess) error = cudaFree(nullptr); /* makes the device's context */
    if (error != cudaSuccess) return refuse_device(ctx, &found, error, "starting");
    error = cudaFuncGetAttributes(&attributes, probe);
    if (error != cudaSuccess) return refuse_device(ctx, &found, error, "loading the kernels");
    if (!precision_fits(ctx, options, &found, attributes.ptxVersion)) return nullptr;

    sl_device *device = static_cast<sl_device *>(sl_new(ctx, 1, sizeof(sl_device), "the CUDA device"));
    if (!device) return nullptr;
    device->ctx = ctx;
    device->index = index;
    device->exact = options->exact;
    device->precision = options->precision;
    device->sms = found.multiProcessorCount;
    device->max_shared = (int)found.sharedMemPerBlockOptin;
    /* Non-blocking: nothing that another part of the process does on the default stream concerns it. */
    error = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess) error = cudaMalloc(&device->counters, SL_CUDA_COUNTERS * sizeof(unsigned));
    if (error == cudaSuccess)
        error = cudaMemsetAsync(device->counters, 0, SL_CUDA_COUNTERS * sizeof(unsigned), device->stream);
    if (error != cudaSuccess) {
        refuse_device(ctx, &found, error, "making a stream and counters");
        cuda_close(device);
        return nullptr;
    }
    /* Code for older devices, translated when it is loaded, does not wait. Drivers before 12.4 are not asked
     * to capture such launches. */
    int driver = 0;
    cudaDriverGetVersion(&driver);
    device->launches_early = attributes.ptxVersion >= 90 && driver >= 12040;
    device->resident_blocks = sl_resident_blocks(device);
    if (!device->exact && !open_blas(device, &found)) {
        sl_fail(ctx, SL_DEVICE, "the CUDA device %s cannot be used: %s", found.name, device->failure);
        cuda_close(device);
        return nullptr;
    }
#ifdef SLOPE_SIMT
    snprintf(device->description, sizeof device->description, "simulated, order %s", sl_simt_order());
#else
    snprintf(device->description, sizeof device->description, "%s, sm_%d%d, %d SMs", found.name, found.major,
             found.minor, device->sms);
#endif
    return device;
}

static const char *cuda_describe(sl_device *device)
{
    return device->description;
}

static const sl_kernel *const *cuda_kernels(sl_device *device)
{
    (void)device;
    return sl_cuda_table;
}

/* --- memory --- */

static void *cuda_alloc(sl_device *device, size_t bytes)
{
    void *memory = nullptr;
    sl_cuda_use(device);
    if (cudaMalloc(&memory, bytes ? bytes : 1) == cudaSuccess) return memory;
    cudaGetLastError();
    return nullptr;
}

static void cuda_free(sl_device *device, void *memory)
{
    if (!memory) return;
    sl_cuda_use(device);
    cudaFree(memory); /* waits for whoever still uses it */
    cudaGetLastError();
}

/* Returns when the copy is done. */
static void copy(sl_device *device, void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                 const char *what)
{
    sl_cuda_use(device);
    if (device->dead) {
        sl_cuda_report(device, device->ctx);
        return;
    }
    if (bytes == 0) return;
    sl_cuda_note(device, cudaMemcpyAsync(to, from, bytes, kind, device->stream), what, nullptr);
    sl_cuda_note(device, cudaStreamSynchronize(device->stream), what, nullptr);
    if (device->failure[0]) sl_cuda_report(device, device->ctx);
}

static void cuda_upload(sl_device *device, void *to, const void *from_host, size_t bytes)
{
    copy(device, to, from_host, bytes, cudaMemcpyHostToDevice, "copying to the device");
}

static void cuda_download(sl_device *device, void *to_host, const void *from, size_t bytes)
{
    copy(device, to_host, from, bytes, cudaMemcpyDeviceToHost, "copying from the device");
}

/* NaN before and after: who reads a tensor outside of its life shows it in the result. */
static void cuda_life(sl_device *device, void *memory, size_t bytes, bool begins)
{
    sl_cuda_use(device);
    SL_LIFE(memory, true);
    if (bytes)
        sl_cuda_note(device, cudaMemsetAsync(memory, 0xff, bytes, device->stream), "filling with NaN",
                     nullptr);
    if (!begins) SL_LIFE(memory, false);
}

const sl_backend sl_backend_cuda = {
    "cuda",        sizeof(float), false,           cuda_open,        cuda_close,
    cuda_describe, cuda_kernels,  cuda_alloc,      cuda_free,        cuda_upload,
    cuda_download, sl_cuda_run,   sl_cuda_release, sl_cuda_launches, SLOPE_CUDA_ARCHITECTURES,
    cuda_life};
