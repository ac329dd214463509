/* Running a plan: its launches are captured once, then every run is the launch of one graph. */
#include "cuda/device.cuh"

static void launch_all(const sl_call *calls, int n)
{
    for (int i = 0; i < n; i++) calls[i].kernel->run(&calls[i]);
}

/* What the calls launch, or NULL. The mode is thread-local: another thread's context may allocate meanwhile.
 */
static cudaGraph_t capture(sl_device *device, const sl_call *calls, int n)
{
    cudaGraph_t graph = nullptr;
    sl_cuda_note(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal),
                 "starting a capture", nullptr);
    if (device->failure[0]) return nullptr;
    launch_all(calls, n);
    sl_cuda_note(device, cudaStreamEndCapture(device->stream, &graph), "capturing the step", nullptr);
    return graph;
}

static cudaGraphExec_t make_step(sl_device *device, const sl_call *calls, int n)
{
    cudaGraphExec_t exec = nullptr;
    cudaGraph_t graph = capture(device, calls, n);
    if (graph && !device->failure[0])
        sl_cuda_note(device, cudaGraphInstantiate(&exec, graph, 0), "making a graph of the step", nullptr);
    if (graph) cudaGraphDestroy(graph);
    return exec;
}

/* A single call is one that is watched: it is not worth a graph. */
sl_status sl_cuda_run(sl_device *device, sl_context *ctx, const sl_call *calls, int n, void **handle)
{
    sl_cuda_use(device);
    if (device->dead) return sl_cuda_report(device, ctx);
    if (n == 1) {
        launch_all(calls, n);
    } else {
        if (!*handle) *handle = make_step(device, calls, n);
        if (*handle)
            sl_cuda_note(device, cudaGraphLaunch(static_cast<cudaGraphExec_t>(*handle), device->stream),
                         "launching the step", nullptr);
    }
    return device->failure[0] ? sl_cuda_report(device, ctx) : ctx->code;
}

void sl_cuda_release(sl_device *device, void *handle)
{
    sl_cuda_use(device);
    cudaStreamSynchronize(device->stream);
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(handle));
}

/* Captured and not run, so that the kernels of a library are counted for what they are. */
int sl_cuda_launches(sl_device *device, sl_context *ctx, const sl_call *calls, int n)
{
    size_t count = 0;
    sl_cuda_use(device);
    if (device->dead) {
        sl_cuda_report(device, ctx);
        return -1;
    }
    cudaGraph_t graph = capture(device, calls, n);
    if (graph) sl_cuda_note(device, cudaGraphGetNodes(graph, nullptr, &count), "counting launches", nullptr);
    if (graph) cudaGraphDestroy(graph);
    if (!device->failure[0]) return (int)count;
    sl_cuda_report(device, ctx);
    return -1;
}
