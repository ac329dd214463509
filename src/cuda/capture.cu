/* Running a plan: its launches are captured once, then every run is the launch of one graph. */
#include "cuda/resident.cuh"

/* What a plan keeps: its stretches for the resident kernel, and the graph of a step. */
enum { STRETCHES = 16 };
struct step {
    cudaGraphExec_t exec;
    int n;
    sl_resident stretch[STRETCHES];
};

static void launch_all(const sl_call *calls, int n)
{
    for (int i = 0; i < n; i++) calls[i].kernel->run(&calls[i]);
}

static void launch_step(sl_device *device, const step *s, const sl_call *calls, int n)
{
    int at = 0;
    for (int k = 0; k < s->n; k++) {
        launch_all(calls + at, s->stretch[k].first - at);
        sl_resident_launch(device, &s->stretch[k]);
        at = s->stretch[k].first + s->stretch[k].count;
    }
    launch_all(calls + at, n - at);
}

static void find_stretches(sl_device *device, step *s, const sl_call *calls, int n)
{
    for (int at = 0; s->n < STRETCHES; s->n++) {
        sl_resident *found = &s->stretch[s->n];
        *found = sl_resident_make(device, calls, n, at);
        if (found->count == 0) break;
        at = found->first + found->count;
    }
}

static void free_step(step *s)
{
    if (!s) return;
    for (int k = 0; k < s->n; k++) sl_resident_free(&s->stretch[k]);
    if (s->exec) cudaGraphExecDestroy(s->exec);
    free(s);
}

/* What the calls launch, or NULL. The mode is thread-local: another thread's context may allocate meanwhile.
 */
static cudaGraph_t capture(sl_device *device, const step *s, const sl_call *calls, int n)
{
    cudaGraph_t graph = nullptr;
    sl_cuda_note(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal),
                 "starting a capture", nullptr);
    if (device->failure[0]) return nullptr;
    launch_step(device, s, calls, n);
    sl_cuda_note(device, cudaStreamEndCapture(device->stream, &graph), "capturing the step", nullptr);
    return graph;
}

static step *make_step(sl_device *device, sl_context *ctx, const sl_call *calls, int n)
{
    step *s = static_cast<step *>(sl_new(ctx, 1, sizeof(step), "a captured step"));
    if (!s) return nullptr;
    find_stretches(device, s, calls, n);
    cudaGraph_t graph = capture(device, s, calls, n);
    if (graph && !device->failure[0])
        sl_cuda_note(device, cudaGraphInstantiate(&s->exec, graph, 0), "making a graph of the step", nullptr);
    if (graph) cudaGraphDestroy(graph);
    if (s->exec) return s;
    free_step(s);
    return nullptr;
}

/* A single call is one that is watched: it is not worth a graph. */
sl_status sl_cuda_run(sl_device *device, sl_context *ctx, const sl_call *calls, int n, void **handle)
{
    sl_cuda_use(device);
    if (device->dead) return sl_cuda_report(device, ctx);
    if (n == 1) {
        launch_all(calls, n);
    } else {
        if (!*handle) *handle = make_step(device, ctx, calls, n);
        if (*handle)
            sl_cuda_note(device, cudaGraphLaunch(static_cast<step *>(*handle)->exec, device->stream),
                         "launching the step", nullptr);
    }
    return device->failure[0] ? sl_cuda_report(device, ctx) : ctx->code;
}

void sl_cuda_release(sl_device *device, void *handle)
{
    sl_cuda_use(device);
    cudaStreamSynchronize(device->stream);
    free_step(static_cast<step *>(handle));
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
    step *s = static_cast<step *>(sl_new(ctx, 1, sizeof(step), "a captured step"));
    if (!s) return -1;
    find_stretches(device, s, calls, n);
    cudaGraph_t graph = capture(device, s, calls, n);
    if (graph) sl_cuda_note(device, cudaGraphGetNodes(graph, nullptr, &count), "counting launches", nullptr);
    if (graph) cudaGraphDestroy(graph);
    free_step(s);
    if (!device->failure[0]) return (int)count;
    sl_cuda_report(device, ctx);
    return -1;
}
