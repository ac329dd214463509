/* The simulated device as the run-time library shows it: its errors, what it is, its memory, launches on it.
 */
#include "simt.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace
{

constexpr int device_shared = 227 * 1024, plain_shared = 48 * 1024;

std::recursive_mutex lock_;
cudaError_t sticky = cudaSuccess;
char sticky_text[640];
thread_local cudaError_t last = cudaSuccess;
std::map<const void *, int> dynamic_shared;

int setting(const char *name, int otherwise)
{
    const char *text = getenv(name);
    const int value = text ? atoi(text) : 0;
    return value > 0 ? value : otherwise;
}

int device_sms()
{
    return setting("SLOPE_SIMT_SMS", 4);
}

int device_architecture()
{
    return setting("SLOPE_SIMT_SM", 80);
}

} // namespace

bool simt_planned_failure(const char *what)
{
    const char *fail = getenv("SLOPE_SIMT_FAIL");
    return fail && strcmp(fail, what) == 0;
}

/* --- errors --- */

std::recursive_mutex &simt_lock()
{
    return lock_;
}

cudaError_t simt_answer(cudaError_t error)
{
    if (sticky != cudaSuccess) error = sticky;
    if (error != cudaSuccess) last = error;
    return error;
}

void simt_fail(cudaError_t error, const char *format, ...)
{
    if (sticky != cudaSuccess) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sticky_text, sizeof sticky_text, format, arguments);
    va_end(arguments);
    sticky = error;
}

cudaError_t simt_error()
{
    return sticky;
}

const char *cudaGetErrorString(cudaError_t error)
{
    if (error != cudaSuccess && error == sticky) return sticky_text;
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorDevicesUnavailable: return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorCooperativeLaunchTooLarge: return "too many blocks in cooperative launch";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit:
        return "operation would make the legacy stream depend on a capturing blocking stream";
    default: return "another error";
    }
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(id)                                                                                             \
    case id: return #id;
        NAME(cudaSuccess)
        NAME(cudaErrorInvalidValue)
        NAME(cudaErrorMemoryAllocation)
        NAME(cudaErrorInvalidConfiguration)
        NAME(cudaErrorInsufficientDriver)
        NAME(cudaErrorDevicesUnavailable)
        NAME(cudaErrorNoDevice)
        NAME(cudaErrorInvalidDevice)
        NAME(cudaErrorNoKernelImageForDevice)
        NAME(cudaErrorInvalidResourceHandle)
        NAME(cudaErrorIllegalAddress)
        NAME(cudaErrorLaunchFailure)
        NAME(cudaErrorCooperativeLaunchTooLarge)
        NAME(cudaErrorNotSupported)
        NAME(cudaErrorStreamCaptureUnsupported)
        NAME(cudaErrorStreamCaptureInvalidated)
        NAME(cudaErrorStreamCaptureImplicit)
#undef NAME
    default: return "cudaErrorUnknown";
    }
}

cudaError_t cudaPeekAtLastError()
{
    const simt_guard lock(simt_lock());
    return sticky != cudaSuccess ? sticky : last;
}

cudaError_t cudaGetLastError()
{
    const cudaError_t error = cudaPeekAtLastError();
    last = cudaSuccess;
    return error;
}

/* --- the device --- */

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = simt_planned_failure("driver") ? 0 : simt_planned_failure("old") ? 11040 : CUDART_VERSION;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    if (simt_planned_failure("driver") || simt_planned_failure("old"))
        return simt_answer(cudaErrorInsufficientDriver);
    if (simt_planned_failure("device")) return simt_answer(cudaErrorNoDevice);
    *count = 1;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    return simt_answer(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device != 0) return simt_answer(cudaErrorInvalidDevice);
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "simulated");
    size_t used;
    simt_memory_usage(&used, &properties->totalGlobalMem);
    properties->major = device_architecture() / 10;
    properties->minor = device_architecture() % 10;
    properties->sharedMemPerBlock = plain_shared;
    properties->sharedMemPerBlockOptin = device_shared;
    properties->multiProcessorCount = device_sms();
    return simt_answer(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (device != 0) return simt_answer(cudaErrorInvalidDevice);
    *value = attribute == cudaDevAttrMultiProcessorCount            ? device_sms()
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? device_shared
             : attribute == cudaDevAttrCooperativeLaunch            ? !simt_planned_failure("cooperative")
                                                                    : 0;
    return simt_answer(cudaSuccess);
}

/* Forgets a sticky error too. Streams and memory stay, unlike CUDA's. */
cudaError_t cudaDeviceReset()
{
    const simt_guard lock(simt_lock());
    sticky = last = cudaSuccess;
    return cudaSuccess;
}

/* --- memory --- */

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    const simt_guard lock(simt_lock());
    size_t used;
    simt_memory_usage(&used, total);
    *free = *total - used;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    const simt_guard lock(simt_lock());
    *memory = nullptr;
    const cudaError_t error = simt_unsafe_call();
    if (error != cudaSuccess || sticky != cudaSuccess) return simt_answer(error);
    if (bytes == 0) return simt_answer(cudaSuccess);
    *memory = simt_planned_failure("memory") ? nullptr : simt_memory_alloc(bytes);
    return simt_answer(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory)
{
    const simt_guard lock(simt_lock());
    const cudaError_t error = simt_unsafe_call();
    if (error != cudaSuccess) return simt_answer(error);
    if (simt_planned_failure("busy")) return simt_answer(cudaErrorDevicesUnavailable);
    if (!memory) return simt_answer(cudaSuccess);
    return simt_answer(simt_memory_free(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

static cudaError_t check_copy(const void *at, size_t bytes, bool device)
{
    if (!device) return simt_memory_holds(at) ? cudaErrorInvalidValue : cudaSuccess;
    return simt_memory_covers(at, bytes) ? cudaSuccess : cudaErrorInvalidValue;
}

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (kind == cudaMemcpyDefault) {
        const bool to_device = simt_memory_holds(to), from_device = simt_memory_holds(from);
        kind = to_device     ? from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
               : from_device ? cudaMemcpyDeviceToHost
                             : cudaMemcpyHostToHost;
    }
    if (bytes == 0) return cudaSuccess;
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    cudaError_t error = check_copy(to, bytes, to_device);
    if (error == cudaSuccess) error = check_copy(from, bytes, from_device);
    if (error != cudaSuccess) return error;
    return simt_submit(
        stream, [=] { memmove(to, from, bytes); }, 1);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    const simt_guard lock(simt_lock());
    cudaError_t error = simt_default_stream_call();
    if (error == cudaSuccess) error = simt_unsafe_call();
    return simt_answer(error == cudaSuccess ? copy(to, from, bytes, kind, nullptr) : error);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    return simt_answer(copy(to, from, bytes, kind, stream));
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    const simt_guard lock(simt_lock());
    const cudaError_t error = simt_unsafe_call();
    return error == cudaSuccess ? cudaMemsetAsync(to, value, bytes, nullptr) : simt_answer(error);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    if (bytes == 0) return simt_answer(cudaSuccess);
    const cudaError_t error = check_copy(to, bytes, true);
    return simt_answer(error == cudaSuccess ? simt_submit(
                                                  stream, [=] { memset(to, value, bytes); }, 1)
                                            : error);
}

/* --- kernels --- */

void simt_check_argument(const char *name, int position, const void *pointer)
{
    const simt_guard lock(simt_lock());
    if (pointer && !simt_memory_holds(pointer))
        simt_fail(cudaErrorIllegalAddress, "kernel %s: argument %d, %p, points to host memory", name,
                  position, pointer);
}

void simt_submit_kernel(const char *name, const void *function, std::unique_ptr<simt_kernel> kernel,
                        dim3 grid, dim3 block, size_t shared, cudaStream_t stream, simt_launch_kind kind)
{
    const simt_guard lock(simt_lock());
    const uint64_t threads = (uint64_t)block.x * block.y * block.z,
                   blocks = (uint64_t)grid.x * grid.y * grid.z;
    const auto allowed = dynamic_shared.find(function);
    if (threads == 0 || threads > 1024 || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu ||
        grid.y > 65535 || grid.z > 65535) {
        simt_answer(cudaErrorInvalidConfiguration);
        return;
    }
    if (shared > (size_t)(allowed == dynamic_shared.end() ? plain_shared : allowed->second)) {
        simt_answer(cudaErrorInvalidValue);
        return;
    }
    if (kind == SIMT_COOPERATIVE) {
        int resident = 0;
        simt_resident_blocks(&resident, function, (int)threads, shared);
        if (blocks > (uint64_t)(resident * device_sms()) || simt_planned_failure("cooperative")) {
            simt_answer(simt_planned_failure("cooperative") ? cudaErrorNotSupported
                                                            : cudaErrorCooperativeLaunchTooLarge);
            return;
        }
    }
    std::shared_ptr<simt_kernel> kept(std::move(kernel));
    const std::string text(name);
    simt_answer(simt_submit(
        stream,
        [=] {
            simt_run_grid({text.c_str(), kept.get(), grid, block, shared, kind});
        },
        1));
}

/* An SM has room for 2048 threads, 32 blocks and so many bytes. */
cudaError_t simt_resident_blocks(int *blocks, const void *, int threads, size_t shared)
{
    *blocks = threads > 0 ? 2048 / threads : 0;
    if (*blocks > 32) *blocks = 32;
    if (shared > 0 && (size_t)*blocks > device_shared / shared) *blocks = (int)(device_shared / shared);
    return simt_answer(cudaSuccess);
}

cudaError_t simt_set_dynamic_shared(const void *kernel, int bytes)
{
    const simt_guard lock(simt_lock());
    if (bytes < 0 || bytes > device_shared) return simt_answer(cudaErrorInvalidValue);
    dynamic_shared[kernel] = bytes;
    return simt_answer(cudaSuccess);
}

cudaError_t simt_function_attributes(cudaFuncAttributes *attributes, const void *)
{
    *attributes = {1024, plain_shared, 32, device_architecture(), device_architecture()};
    return simt_answer(simt_planned_failure("architecture") ? cudaErrorNoKernelImageForDevice : cudaSuccess);
}

/* --- what tests ask --- */

const char *sl_simt_order(void)
{
    const char *order = getenv("SLOPE_SIMT_ORDER");
    if (order && strcmp(order, "reverse") == 0) return "reverse";
    return order && strcmp(order, "shuffled") == 0 ? "shuffled" : "forward";
}
