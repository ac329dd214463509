/* Streams, events, capture and graphs of the simulated device. Everything submitted to a stream runs before
 * the call returns, which is one of the orders that CUDA allows. */
#include "simt.h"

#include <chrono>
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

std::vector<CUstream_st *> streams;
unsigned long long launches, graph_launches;

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

/* Waiting for a stream that is being captured. */
cudaError_t wait_for(cudaStream_t stream)
{
    if (!stream) return simt_default_stream_call();
    if (!known(stream)) return cudaErrorInvalidResourceHandle;
    if (stream->capture == cudaStreamCaptureStatusNone) return cudaSuccess;
    invalidate(stream);
    return cudaErrorStreamCaptureUnsupported;
}

void run_node(const simt_node &node)
{
    if (simt_error() != cudaSuccess) return;
    launches += (unsigned long long)node.launches;
    node.work();
}

} // namespace

cudaError_t simt_default_stream_call()
{
    for (CUstream_st *s : streams)
        if (s->capture == cudaStreamCaptureStatusActive && !(s->flags & cudaStreamNonBlocking)) {
            invalidate(s);
            return cudaErrorStreamCaptureImplicit;
        }
    return cudaSuccess;
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
    if (simt_error() != cudaSuccess) return simt_error();
    if (!stream) {
        const cudaError_t error = simt_default_stream_call();
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

cudaError_t cudaDeviceSynchronize()
{
    const simt_guard lock(simt_lock());
    for (CUstream_st *s : streams)
        if (s->capture == cudaStreamCaptureStatusActive) {
            invalidate(s);
            return simt_answer(cudaErrorStreamCaptureUnsupported);
        }
    return simt_answer(cudaSuccess);
}

/* --- streams and events --- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    const simt_guard lock(simt_lock());
    if (simt_planned_failure("busy")) return simt_answer(cudaErrorDevicesUnavailable);
    *stream = new CUstream_st{flags, cudaStreamCaptureStatusNone, cudaStreamCaptureModeGlobal, {}, nullptr};
    streams.push_back(*stream);
    return simt_answer(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    for (size_t i = 0; i < streams.size(); i++) {
        if (streams[i] != stream) continue;
        streams.erase(streams.begin() + (long)i);
        delete stream->graph;
        delete stream;
        return simt_answer(cudaSuccess);
    }
    return simt_answer(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    return simt_answer(wait_for(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    return simt_answer(wait_for(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned)
{
    const simt_guard lock(simt_lock());
    return simt_answer(!stream || known(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new CUevent_st{};
    return simt_answer(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    return simt_answer(simt_submit(
        stream,
        [=] {
            *event = {true, std::chrono::steady_clock::now()};
        },
        0));
}

cudaError_t cudaEventQuery(cudaEvent_t)
{
    const simt_guard lock(simt_lock());
    return simt_answer(simt_unsafe_call());
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return cudaEventQuery(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    const simt_guard lock(simt_lock());
    if (!start->recorded || !end->recorded) return simt_answer(cudaErrorInvalidResourceHandle);
    *milliseconds = std::chrono::duration<float, std::milli>(end->at - start->at).count();
    return simt_answer(cudaSuccess);
}

/* --- capture and graphs --- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    const simt_guard lock(simt_lock());
    if (!stream)
        return simt_answer(cudaErrorStreamCaptureUnsupported); /* the default stream cannot be captured */
    if (!known(stream)) return simt_answer(cudaErrorInvalidResourceHandle);
    if (stream->capture != cudaStreamCaptureStatusNone) return simt_answer(cudaErrorInvalidValue);
    stream->capture = cudaStreamCaptureStatusActive;
    stream->mode = mode;
    stream->thread = std::this_thread::get_id();
    stream->graph = new CUgraph_st;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    const simt_guard lock(simt_lock());
    *graph = nullptr;
    if (!stream || !known(stream)) return simt_answer(cudaErrorInvalidResourceHandle);
    if (stream->capture == cudaStreamCaptureStatusNone) return simt_answer(cudaErrorInvalidValue);
    if (stream->mode != cudaStreamCaptureModeRelaxed && stream->thread != std::this_thread::get_id())
        return simt_answer(cudaErrorStreamCaptureWrongThread);
    const bool good = stream->capture == cudaStreamCaptureStatusActive;
    if (good)
        *graph = stream->graph;
    else
        delete stream->graph;
    stream->graph = nullptr;
    stream->capture = cudaStreamCaptureStatusNone;
    return simt_answer(good ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    const simt_guard lock(simt_lock());
    *status = stream && known(stream) ? stream->capture : cudaStreamCaptureStatusNone;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    const simt_guard lock(simt_lock());
    *exec = graph ? new CUgraphExec_st{graph->nodes} : nullptr;
    return simt_answer(graph ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    const simt_guard lock(simt_lock());
    if (!exec) return simt_answer(cudaErrorInvalidValue);
    graph_launches++;
    const cudaError_t error = simt_submit(
        stream,
        [=] {
            for (const simt_node &node : exec->nodes) run_node(node);
        },
        0);
    return simt_answer(error);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes) return simt_answer(cudaErrorNotSupported);
    *count = 0; /* a call of a library stands for several */
    for (const simt_node &node : graph->nodes) *count += (size_t)node.launches;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return simt_answer(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return simt_answer(cudaSuccess);
}

/* --- what tests ask --- */

unsigned long long sl_simt_launches(void)
{
    const simt_guard lock(simt_lock());
    return launches;
}

unsigned long long sl_simt_graph_launches(void)
{
    const simt_guard lock(simt_lock());
    return graph_launches;
}
