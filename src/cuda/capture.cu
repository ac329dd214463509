/* Running a plan: its launches are captured once, then every run is the launch of one graph. */
#include "cuda/device.cuh"

static void launch_all(const sl_call *calls, int n)
{
    for (int i = 0; i < n; i++) calls[i].kernel->run(&calls[i]);
}

/* The mode is thread-local: another thread's context may allocate meanwhile. */
static cudaGraphExec_t capture(sl_device *device, const sl_call *calls, int n)
{
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    sl_cuda_note(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal),
                 "starting a capture", nullptr);
    if (device->failure[0]) return nullptr;
    launch_all(calls, n);
    sl_cuda_note(device, cudaStreamEndCapture(device->stream, &graph), "capturing the step", nullptr);
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
        if (!*handle) *handle = capture(device, calls, n);
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
