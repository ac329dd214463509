/* Errors, streams, events, capture and graphs of the simulated device. Everything submitted to a stream runs
 * before the call returns, which is one of the orders that CUDA allows. */
#include "simt.h"

#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <thread>
#include <vector>

struct simt_node {
    std::function<void()> work;
    int launches;
};
struct CUgraph_st {
    std::vector<simt_node> nodes;
};
struct CUgraphExec_st {
    std::vector<simt_node> nodes;
};
struct CUstream_st {
    unsigned flags;
    cudaStreamCaptureStatus capture;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    CUgraph_st *graph;
};
struct CUevent_st {
    bool recorded;
    std::chrono::steady_clock::time_point at;
};

namespace
{
constexpr int device_sms = 4, device_shared = 227 * 1024, plain_shared = 48 * 1024;

std::recursive_mutex lock_;
cudaError_t sticky = cudaSuccess;
char sticky_text[640];
thread_local cudaError_t last = cudaSuccess;
std::vector<CUstream_st *> streams;
std::map<const void *, int> dynamic_shared;
unsigned long long launches, graph_launches;

using guard = std::lock_guard<std::recursive_mutex>;

/* Keeps the code for cudaGetLastError; a sticky one hides all others. */
cudaError_t answer(cudaError_t error)
{
    if (sticky != cudaSuccess) error = sticky;
    if (error != cudaSuccess) last = error;
    return error;
}

void invalidate(CUstream_st *stream)
{
    stream->capture = cudaStreamCaptureStatusInvalidated;
}

bool known(cudaStream_t stream)
{
    for (CUstream_st *s : streams)
        if (s == stream) return true;
    return false;
}

/* The default stream waits for all blocking streams, which capture forbids. */
cudaError_t default_stream_call()
{
    for (CUstream_st *s : streams)
        if (s->capture == cudaStreamCaptureStatusActive && !(s->flags & cudaStreamNonBlocking)) {
            invalidate(s);
            return cudaErrorStreamCaptureImplicit;
        }
    return cudaSuccess;
}

/* Waiting for a stream that is being captured. */
cudaError_t wait_for(cudaStream_t stream)
{
    if (!stream) return default_stream_call();
    if (!known(stream)) return cudaErrorInvalidResourceHandle;
    if (stream->capture == cudaStreamCaptureStatusNone) return cudaSuccess;
    invalidate(stream);
    return cudaErrorStreamCaptureUnsupported;
}

void run_node(const simt_node &node)
{
    if (sticky != cudaSuccess) return;
    launches += (unsigned long long)node.launches;
    node.work();
}

bool planned_failure(const char *what)
{
    const char *fail = getenv("SLOPE_SIMT_FAIL");
    return fail && strcmp(fail, what) == 0;
}

} // namespace

std::recursive_mutex &simt_lock()
{
    return lock_;
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

cudaError_t simt_unsafe_call()
{
    for (CUstream_st *s : streams) {
        if (s->capture != cudaStreamCaptureStatusActive || s->mode == cudaStreamCaptureModeRelaxed) continue;
        if (s->mode == cudaStreamCaptureModeThreadLocal && s->thread != std::this_thread::get_id()) continue;
        invalidate(s);
        return cudaErrorStreamCaptureUnsupported;
    }
    return cudaSuccess;
}

cudaError_t simt_submit(cudaStream_t stream, std::function<void()> work, int count)
{
    if (sticky != cudaSuccess) return sticky;
    if (!stream) {
        const cudaError_t error = default_stream_call();
        if (error != cudaSuccess) return error;
    } else if (!known(stream)) {
        return cudaErrorInvalidResourceHandle;
    } else if (stream->capture == cudaStreamCaptureStatusInvalidated) {
        return cudaErrorStreamCaptureInvalidated;
    } else if (stream->capture == cudaStreamCaptureStatusActive) {
        stream->graph->nodes.push_back({std::move(work), count});
        return cudaSuccess;
    }
    simt_memory_open();
    run_node({std::move(work), count});
    simt_memory_close();
    return cudaSuccess; /* a fault inside is reported by the next call, as an asynchronous one */
}

void simt_check_argument(const char *name, int position, const void *pointer)
{
    const guard lock(lock_);
    if (pointer && !simt_memory_holds(pointer))
        simt_fail(cudaErrorIllegalAddress, "kernel %s: argument %d, %p, points to host memory", name,
                  position, pointer);
}

void simt_submit_kernel(const char *name, const void *function, std::unique_ptr<simt_kernel> kernel,
                        dim3 grid, dim3 block, size_t shared, cudaStream_t stream)
{
    const guard lock(lock_);
    const uint64_t threads = (uint64_t)block.x * block.y * block.z,
                   blocks = (uint64_t)grid.x * grid.y * grid.z;
    const auto allowed = dynamic_shared.find(function);
    if (threads == 0 || threads > 1024 || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu ||
        grid.y > 65535 || grid.z > 65535) {
        answer(cudaErrorInvalidConfiguration);
        return;
    }
    if (shared > (size_t)(allowed == dynamic_shared.end() ? plain_shared : allowed->second)) {
        answer(cudaErrorInvalidValue);
        return;
    }
    std::shared_ptr<simt_kernel> kept(std::move(kernel));
    const std::string text(name);
    answer(simt_submit(
        stream,
        [=] {
            simt_run_grid({text.c_str(), kept.get(), grid, block, shared});
        },
        1));
}

cudaError_t simt_set_dynamic_shared(const void *kernel, int bytes)
{
    const guard lock(lock_);
    if (bytes < 0 || bytes > device_shared) return answer(cudaErrorInvalidValue);
    dynamic_shared[kernel] = bytes;
    return answer(cudaSuccess);
}

cudaError_t simt_function_attributes(cudaFuncAttributes *attributes, const void *)
{
    *attributes = {1024, plain_shared, 32, 0};
    return answer(planned_failure("architecture") ? cudaErrorNoKernelImageForDevice : cudaSuccess);
}

/* --- errors --- */

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
        NAME(cudaErrorStreamCaptureUnsupported)
        NAME(cudaErrorStreamCaptureInvalidated)
        NAME(cudaErrorStreamCaptureImplicit)
#undef NAME
    default: return "cudaErrorUnknown";
    }
}

cudaError_t cudaPeekAtLastError()
{
    const guard lock(lock_);
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
    *version = planned_failure("driver") ? 0 : planned_failure("old") ? 11040 : CUDART_VERSION;
    return answer(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return answer(cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    if (planned_failure("driver") || planned_failure("old")) return answer(cudaErrorInsufficientDriver);
    if (planned_failure("device")) return answer(cudaErrorNoDevice);
    *count = 1;
    return answer(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    return answer(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return answer(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device != 0) return answer(cudaErrorInvalidDevice);
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "simulated");
    size_t used;
    simt_memory_usage(&used, &properties->totalGlobalMem);
    properties->sharedMemPerBlock = plain_shared;
    properties->sharedMemPerBlockOptin = device_shared;
    properties->multiProcessorCount = device_sms;
    return answer(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (device != 0) return answer(cudaErrorInvalidDevice);
    *value = attribute == cudaDevAttrMultiProcessorCount            ? device_sms
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? device_shared
                                                                    : 0;
    return answer(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize()
{
    const guard lock(lock_);
    for (CUstream_st *s : streams)
        if (s->capture == cudaStreamCaptureStatusActive) {
            invalidate(s);
            return answer(cudaErrorStreamCaptureUnsupported);
        }
    return answer(cudaSuccess);
}

/* Forgets a sticky error too. Streams and memory stay, unlike CUDA's. */
cudaError_t cudaDeviceReset()
{
    const guard lock(lock_);
    sticky = last = cudaSuccess;
    return cudaSuccess;
}

/* --- memory --- */

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    const guard lock(lock_);
    size_t used;
    simt_memory_usage(&used, total);
    *free = *total - used;
    return answer(cudaSuccess);
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    const guard lock(lock_);
    *memory = nullptr;
    const cudaError_t error = simt_unsafe_call();
    if (error != cudaSuccess || sticky != cudaSuccess) return answer(error);
    if (bytes == 0) return answer(cudaSuccess);
    *memory = planned_failure("memory") ? nullptr : simt_memory_alloc(bytes);
    return answer(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory)
{
    const guard lock(lock_);
    const cudaError_t error = simt_unsafe_call();
    if (error != cudaSuccess) return answer(error);
    if (planned_failure("busy")) return answer(cudaErrorDevicesUnavailable);
    if (!memory) return answer(cudaSuccess);
    return answer(simt_memory_free(memory) ? cudaSuccess : cudaErrorInvalidValue);
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
    const guard lock(lock_);
    cudaError_t error = default_stream_call();
    if (error == cudaSuccess) error = simt_unsafe_call();
    return answer(error == cudaSuccess ? copy(to, from, bytes, kind, nullptr) : error);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    const guard lock(lock_);
    return answer(copy(to, from, bytes, kind, stream));
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    const guard lock(lock_);
    const cudaError_t error = simt_unsafe_call();
    return error == cudaSuccess ? cudaMemsetAsync(to, value, bytes, nullptr) : answer(error);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    const guard lock(lock_);
    if (bytes == 0) return answer(cudaSuccess);
    const cudaError_t error = check_copy(to, bytes, true);
    return answer(error == cudaSuccess ? simt_submit(
                                             stream, [=] { memset(to, value, bytes); }, 1)
                                       : error);
}

/* --- streams and events --- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    const guard lock(lock_);
    if (planned_failure("busy")) return answer(cudaErrorDevicesUnavailable);
    *stream = new CUstream_st{flags, cudaStreamCaptureStatusNone, cudaStreamCaptureModeGlobal, {}, nullptr};
    streams.push_back(*stream);
    return answer(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const guard lock(lock_);
    for (size_t i = 0; i < streams.size(); i++) {
        if (streams[i] != stream) continue;
        streams.erase(streams.begin() + (long)i);
        delete stream->graph;
        delete stream;
        return answer(cudaSuccess);
    }
    return answer(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    const guard lock(lock_);
    return answer(wait_for(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    const guard lock(lock_);
    return answer(wait_for(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned)
{
    const guard lock(lock_);
    return answer(!stream || known(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new CUevent_st{};
    return answer(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return answer(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    const guard lock(lock_);
    return answer(simt_submit(
        stream,
        [=] {
            *event = {true, std::chrono::steady_clock::now()};
        },
        0));
}

cudaError_t cudaEventQuery(cudaEvent_t)
{
    const guard lock(lock_);
    return answer(simt_unsafe_call());
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return cudaEventQuery(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    const guard lock(lock_);
    if (!start->recorded || !end->recorded) return answer(cudaErrorInvalidResourceHandle);
    *milliseconds = std::chrono::duration<float, std::milli>(end->at - start->at).count();
    return answer(cudaSuccess);
}

/* --- capture and graphs --- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    const guard lock(lock_);
    if (!stream) return answer(cudaErrorStreamCaptureUnsupported); /* the default stream cannot be captured */
    if (!known(stream)) return answer(cudaErrorInvalidResourceHandle);
    if (stream->capture != cudaStreamCaptureStatusNone) return answer(cudaErrorInvalidValue);
    stream->capture = cudaStreamCaptureStatusActive;
    stream->mode = mode;
    stream->thread = std::this_thread::get_id();
    stream->graph = new CUgraph_st;
    return answer(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    const guard lock(lock_);
    *graph = nullptr;
    if (!stream || !known(stream)) return answer(cudaErrorInvalidResourceHandle);
    if (stream->capture == cudaStreamCaptureStatusNone) return answer(cudaErrorInvalidValue);
    if (stream->mode != cudaStreamCaptureModeRelaxed && stream->thread != std::this_thread::get_id())
        return answer(cudaErrorStreamCaptureWrongThread);
    const bool good = stream->capture == cudaStreamCaptureStatusActive;
    if (good)
        *graph = stream->graph;
    else
        delete stream->graph;
    stream->graph = nullptr;
    stream->capture = cudaStreamCaptureStatusNone;
    return answer(good ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    const guard lock(lock_);
    *status = stream && known(stream) ? stream->capture : cudaStreamCaptureStatusNone;
    return answer(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    const guard lock(lock_);
    *exec = graph ? new CUgraphExec_st{graph->nodes} : nullptr;
    return answer(graph ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    const guard lock(lock_);
    if (!exec) return answer(cudaErrorInvalidValue);
    graph_launches++;
    const cudaError_t error = simt_submit(
        stream,
        [=] {
            for (const simt_node &node : exec->nodes) run_node(node);
        },
        0);
    return answer(error);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes) return answer(cudaErrorNotSupported);
    *count = graph->nodes.size();
    return answer(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return answer(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return answer(cudaSuccess);
}

/* --- what tests ask --- */

unsigned long long sl_simt_launches(void)
{
    const guard lock(lock_);
    return launches;
}

unsigned long long sl_simt_graph_launches(void)
{
    const guard lock(lock_);
    return graph_launches;
}

const char *sl_simt_order(void)
{
    const char *order = getenv("SLOPE_SIMT_ORDER");
    if (order && strcmp(order, "reverse") == 0) return "reverse";
    return order && strcmp(order, "shuffled") == 0 ? "shuffled" : "forward";
}
