/* Streams, events, capture and replay of the simulated device: what is recorded, and what capture forbids. */
#include "simt_case.h"

#include <cublas_v2.h>

static __global__ void add_to(float *y, float value)
{
    if (threadIdx.x == 0) y[0] += value;
}

static void test_replay(void **state)
{
    (void)state;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    assert_cuda(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    float *y = to_device({1, 5}), value = 2;
    assert_cuda(cudaSuccess, cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    simt_launch("add_to", add_to, 1, 32, 0, stream, y, value);
    assert_cuda(cudaSuccess, cudaMemcpyAsync(y + 1, y, sizeof *y, cudaMemcpyDeviceToDevice, stream));
    assert_cuda(cudaSuccess, cudaStreamEndCapture(stream, &graph));
    assert_true(to_host(y, 2)[0] == 1); /* nothing has run */
    value = 100;                        /* too late: the argument was copied */
    size_t nodes;
    cudaGraphGetNodes(graph, nullptr, &nodes);
    assert_int_equal(nodes, 2);
    assert_cuda(cudaSuccess, cudaGraphInstantiate(&exec, graph, 0));
    assert_cuda(cudaSuccess, cudaGraphDestroy(graph));
    const unsigned long long before = sl_simt_launches(), graphs = sl_simt_graph_launches();
    for (int i = 0; i < 3; i++) assert_cuda(cudaSuccess, cudaGraphLaunch(exec, stream));
    assert_int_equal(sl_simt_launches() - before, 6);
    assert_int_equal(sl_simt_graph_launches() - graphs, 3);
    assert_cuda(cudaSuccess, cudaStreamSynchronize(stream));
    const std::vector<float> result = to_host(y, 2);
    assert_true(result[0] == 7 && result[1] == 7);
    cudaGraphExecDestroy(exec);
    cudaStreamDestroy(stream);
    cudaFree(y);
}

static cudaStream_t captured;
static float *some_memory;

static cudaError_t synchronise()
{
    return cudaStreamSynchronize(captured);
}
static cudaError_t synchronise_all()
{
    return cudaDeviceSynchronize();
}
static cudaError_t query()
{
    return cudaStreamQuery(captured);
}
static cudaError_t allocate()
{
    void *memory;
    return cudaMalloc(&memory, 16);
}
static cudaError_t release()
{
    return cudaFree(some_memory);
}
static cudaError_t plain_copy()
{
    float host = 0;
    return cudaMemcpy(&host, some_memory, sizeof host, cudaMemcpyDeviceToHost);
}
static cudaError_t plain_set()
{
    return cudaMemset(some_memory, 0, 4);
}
static cudaError_t default_stream()
{
    LAUNCH(add_to, 1, 32, 0, some_memory, 1.0f);
    return cudaGetLastError();
}

static cudaError_t start_library()
{
    cublasHandle_t handle;
    return cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}
static cudaEvent_t earlier;
static cudaError_t ask_event()
{
    return cudaEventQuery(earlier);
}
static cudaError_t wait_for_event()
{
    return cudaEventSynchronize(earlier);
}
static cudaError_t nothing()
{
    return cudaSuccess;
}

/* The error of a call while `captured` is captured, and what the capture comes to. */
static void expect_in_capture(unsigned flags, cudaError_t (*call)(), cudaError_t code)
{
    cudaGraph_t graph = nullptr;
    assert_cuda(cudaSuccess, cudaStreamCreateWithFlags(&captured, flags));
    assert_cuda(cudaSuccess, cudaStreamBeginCapture(captured, cudaStreamCaptureModeThreadLocal));
    const cudaError_t error = call();
    if (error != code) fail_msg("%s instead of %s", cudaGetErrorName(error), cudaGetErrorName(code));
    assert_true(cudaStreamEndCapture(captured, &graph) ==
                (code == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated));
    assert_true((graph != nullptr) == (code == cudaSuccess));
    cudaGraphDestroy(graph);
    cudaStreamDestroy(captured);
    cudaGetLastError();
}

static void test_what_capture_forbids(void **state)
{
    (void)state;
    const struct {
        cudaError_t (*call)(), blocking, other; /* the stream waits for the default stream, or does not */
    } calls[] = {
        {nothing, cudaSuccess, cudaSuccess},
        {synchronise, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {synchronise_all, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {query, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {allocate, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {release, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {plain_copy, cudaErrorStreamCaptureImplicit, cudaErrorStreamCaptureUnsupported},
        {plain_set, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {start_library, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {ask_event, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {wait_for_event, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
        {default_stream, cudaErrorStreamCaptureImplicit, cudaSuccess},
    };
    some_memory = to_device({1});
    cudaEventCreate(&earlier);
    cudaEventRecord(earlier);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        expect_in_capture(cudaStreamDefault, calls[i].call, calls[i].blocking);
        expect_in_capture(cudaStreamNonBlocking, calls[i].call, calls[i].other);
    }
    assert_true(to_host(some_memory, 1)[0] == 2); /* what was refused has not been done */
    cudaEventDestroy(earlier);
    cudaFree(some_memory);
}

static void test_events(void **state)
{
    (void)state;
    cudaEvent_t start, end;
    float milliseconds = -1;
    float *y = to_device({0});
    assert_cuda(cudaSuccess, cudaEventCreate(&start));
    assert_cuda(cudaSuccess, cudaEventCreate(&end));
    assert_cuda(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&milliseconds, start, end));
    cudaGetLastError();
    assert_cuda(cudaSuccess, cudaEventRecord(start));
    LAUNCH(add_to, 1, 32, 0, y, 1.0f);
    assert_cuda(cudaSuccess, cudaEventRecord(end));
    assert_cuda(cudaSuccess, cudaEventSynchronize(end));
    assert_cuda(cudaSuccess, cudaEventElapsedTime(&milliseconds, start, end));
    assert_true(milliseconds > 0);
    for (cudaEvent_t event : {start, end}) cudaEventDestroy(event);
    cudaFree(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_replay, reset),
        cmocka_unit_test_setup(test_what_capture_forbids, reset),
        cmocka_unit_test_setup(test_events, reset),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
