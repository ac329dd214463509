/* The simulated device itself: that it does what CUDA does, and that it catches what it is for. */
#include <slope/slope.h>

#include "cuda/cuda.cuh"

#include <cublas_v2.h>
#include <curand_kernel.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "core/philox.h"
extern "C" {
// clang-format off
#include <cmocka.h>
// clang-format on
}

static const char *const orders[] = {"forward", "reverse", "shuffled"};

#define LAUNCH(kernel, grid, block, shared, ...)                                                             \
    simt_launch(#kernel, kernel, grid, block, shared, nullptr, __VA_ARGS__)
#define assert_cuda(code, expression) assert_string_equal(cudaGetErrorName(expression), #code)

/* A tensor on the device, and back. */
static float *to_device(const std::vector<float> &values)
{
    void *memory = nullptr;
    assert_cuda(cudaSuccess, cudaMalloc(&memory, values.size() * sizeof(float)));
    assert_cuda(cudaSuccess,
                cudaMemcpy(memory, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
    return static_cast<float *>(memory);
}

static std::vector<float> to_host(const float *memory, size_t n)
{
    std::vector<float> values(n);
    assert_cuda(cudaSuccess, cudaMemcpy(values.data(), memory, n * sizeof(float), cudaMemcpyDeviceToHost));
    return values;
}

static std::vector<float> counted(size_t n)
{
    std::vector<float> values(n);
    for (size_t i = 0; i < n; i++) values[i] = (float)i;
    return values;
}

/* The launches before it ended with this error, and its text has these words. */
static void expect_fault(cudaError_t code, const char *words)
{
    const cudaError_t error = cudaDeviceSynchronize();
    const std::string text = cudaGetErrorString(error);
    if (error != code)
        fail_msg("expected %s, got %s: %s", cudaGetErrorName(code), cudaGetErrorName(error), text.c_str());
    if (text.find(words) == std::string::npos) fail_msg("expected '%s' in: %s", words, text.c_str());
    void *memory = nullptr;
    assert_true(cudaMalloc(&memory, 4) == code); /* sticky */
    cudaDeviceReset();
}

static int reset(void **state)
{
    (void)state;
    unsetenv("SLOPE_SIMT_ORDER");
    cudaDeviceReset();
    return 0;
}

/* True where a process that calls it ends well. AddressSanitizer and a bad signal end it otherwise. */
static bool survives(bool (*call)())
{
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(3);
        signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on with the tests */
        _exit(call() ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* --- threads, blocks, shuffles --- */

static __global__ void scale(float *y, const float *x, float factor, int64_t n)
{
    for (int64_t i = sl_cuda_thread(); i < n; i += sl_cuda_threads()) y[i] = factor * x[i];
}

static void test_grid_stride(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        for (int64_t n : {0, 1, 31, 33, 1000}) {
            float *x = to_device(counted((size_t)n + 1)),
                  *y = to_device(std::vector<float>((size_t)n + 1, -1));
            const unsigned long long before = sl_simt_launches();
            LAUNCH(scale, 3, 64, 0, y, x, 2.0f, n);
            assert_int_equal(sl_simt_launches() - before, 1);
            const std::vector<float> result = to_host(y, (size_t)n + 1);
            for (int64_t i = 0; i < n; i++) assert_true(result[(size_t)i] == 2.0f * (float)i);
            assert_true(result[(size_t)n] == -1);
            cudaFree(x);
            cudaFree(y);
        }
    }
}

static __global__ void who(float *y)
{
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] += (float)(100 * block + thread);
}

static void test_three_dimensions(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        float *y = to_device(std::vector<float>(2 * 3 * 2 * 4 * 2 * 3, 0));
        LAUNCH(who, dim3(2, 3, 2), dim3(4, 2, 3), 0, y);
        const std::vector<float> result = to_host(y, 12 * 24);
        for (unsigned i = 0; i < 12 * 24; i++) assert_true(result[i] == (float)(100 * (i / 24) + i % 24));
        cudaFree(y);
    }
}

static __global__ void shuffles(float *y)
{
    const int lane = (int)threadIdx.x & 31;
    const float mine = (float)threadIdx.x;
    float *to = y + threadIdx.x * 8;
    to[0] = __shfl_xor_sync(SL_ALL_LANES, mine, 5);
    to[1] = __shfl_down_sync(SL_ALL_LANES, mine, 3);
    to[2] = __shfl_up_sync(SL_ALL_LANES, mine, 3);
    to[3] = __shfl_sync(SL_ALL_LANES, mine, 7);
    to[4] = __shfl_down_sync(SL_ALL_LANES, mine, 3, 8);
    to[5] = __shfl_sync(SL_ALL_LANES, mine, 9, 8);
    to[6] = (float)__popc(__ballot_sync(SL_ALL_LANES, lane % 3 == 0));
    to[7] = (float)__shfl_xor_sync(SL_ALL_LANES, (double)mine, 16);
}

static void test_shuffles(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        float *y = to_device(std::vector<float>(64 * 8));
        LAUNCH(shuffles, 1, 64, 0, y);
        const std::vector<float> result = to_host(y, 64 * 8);
        for (int t = 0; t < 64; t++) {
            const int lane = t % 32, warp = t - lane;
            const int expected[] = {warp + (lane ^ 5),
                                    lane + 3 < 32 ? t + 3 : t,
                                    lane >= 3 ? t - 3 : t,
                                    warp + 7,
                                    lane % 8 + 3 < 8 ? t + 3 : t,
                                    t / 8 * 8 + 1,
                                    11,
                                    warp + (lane ^ 16)};
            for (int k = 0; k < 8; k++) assert_int_equal((int)result[(size_t)(t * 8 + k)], expected[k]);
        }
        cudaFree(y);
    }
}

/* The sum of a block's values, with its two barriers, or without one of them. */
template <bool COMPLETE> static __global__ void block_sum(float *y, const float *x)
{
    SL_SHARED(float, sums);
    float sum = x[(int64_t)blockIdx.x * blockDim.x + threadIdx.x];
    for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(SL_ALL_LANES, sum, d);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    if (COMPLETE) __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0;
        for (unsigned w = 0; w < blockDim.x / 32; w++) total += sums[w];
        y[blockIdx.x] = total;
    }
}

static std::vector<float> sums_in(const char *order, bool complete)
{
    setenv("SLOPE_SIMT_ORDER", order, 1);
    float *x = to_device(counted(4 * 256)), *y = to_device(std::vector<float>(4));
    if (complete)
        LAUNCH((block_sum<true>), 4, 256, 8 * sizeof(float), y, x);
    else
        LAUNCH((block_sum<false>), 4, 256, 8 * sizeof(float), y, x);
    std::vector<float> result = to_host(y, 4);
    cudaFree(x);
    cudaFree(y);
    return result;
}

static void test_barrier(void **state)
{
    (void)state;
    for (const char *order : orders) {
        const std::vector<float> sums = sums_in(order, true);
        for (int b = 0; b < 4; b++) assert_true(sums[(size_t)b] == (float)(256 * b * 256 + 255 * 128));
    }
}

static void test_missing_barrier(void **state)
{
    (void)state;
    const std::vector<float> forward = sums_in("forward", false), reverse = sums_in("reverse", false);
    assert_true(memcmp(forward.data(), reverse.data(), 4 * sizeof(float)) != 0);
}

static __global__ void some_leave(float *y)
{
    if (threadIdx.x >= 40) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

static __global__ void two_barriers(float *y)
{
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[threadIdx.x] = 1;
}

static void test_divergent_barrier(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        float *y = to_device(std::vector<float>(64));
        LAUNCH(some_leave, 2, 64, 0, y);
        expect_fault(cudaErrorLaunchFailure, "kernel some_leave, block (");
        LAUNCH(some_leave, 2, 64, 0, y);
        expect_fault(cudaErrorLaunchFailure, "has ended");
        LAUNCH(two_barriers, 1, 64, 0, y);
        expect_fault(cudaErrorLaunchFailure, "a barrier is for all threads of the block");
        cudaFree(y);
    }
}

static __global__ void half_a_warp(float *y)
{
    float value = (float)threadIdx.x;
    if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(SL_ALL_LANES, value, 1);
    y[threadIdx.x] = value;
}

static __global__ void outside_of_mask(float *y)
{
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffu, (float)threadIdx.x, 20);
}

static __global__ void whole_warp(float *y)
{
    y[threadIdx.x] = __shfl_xor_sync(SL_ALL_LANES, (float)threadIdx.x, 1);
}

static void test_missing_lanes(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        float *y = to_device(std::vector<float>(64));
        LAUNCH(half_a_warp, 1, 64, 0, y);
        expect_fault(cudaErrorLaunchFailure, "a shuffle, test_simt.cu:");
        LAUNCH(outside_of_mask, 1, 32, 0, y);
        expect_fault(cudaErrorLaunchFailure, "reads lane 20, which takes no part");
        LAUNCH(whole_warp, 1, 48, 0, y);
        expect_fault(cudaErrorLaunchFailure, "the block ends before it");
        cudaFree(y);
    }
}

/* --- memory --- */

static __global__ void read_at(float *y, const float *x, int64_t i)
{
    if (threadIdx.x == 0) y[0] = x[i];
}

static __global__ void write_at(float *y, int64_t i)
{
    if (threadIdx.x == 0) y[i] = 1;
}

static void test_faults_in_kernels(void **state)
{
    (void)state;
    float *x = to_device(counted(1024)), *y = to_device(counted(1024));
    LAUNCH(read_at, 1, 32, 0, y, x, 1024 + 16);
    expect_fault(cudaErrorIllegalAddress, "kernel read_at, block (0, 0, 0), thread 0: touches");
    LAUNCH(write_at, 1, 32, 0, y, -1000);
    expect_fault(cudaErrorIllegalAddress, "where no tensor lies");
    LAUNCH(read_at, 1, 32, 0, y, static_cast<const float *>(nullptr), 0);
    expect_fault(cudaErrorIllegalAddress, "no device memory");
    float here = 1;
    LAUNCH(read_at, 1, 32, 0, y, &here, 0);
    expect_fault(cudaErrorIllegalAddress, "points to host memory");
    cudaFree(x);
    LAUNCH(read_at, 1, 32, 0, y, x, 0);
    expect_fault(cudaErrorIllegalAddress, "touches");
    cudaFree(y);
}

/* The next element behind a tensor whose size is no round number: another number's neighbour in an arena. */
static bool reads_behind()
{
    float *x = to_device(counted(7)), *y = to_device(counted(7));
    LAUNCH(read_at, 1, 32, 0, y, x, 7);
    const float seen = to_host(y, 1)[0];
    return seen == seen; /* NaN without AddressSanitizer */
}

static bool writes_behind()
{
    float *y = to_device(counted(7));
    LAUNCH(write_at, 1, 32, 0, y, 7);
    return cudaDeviceSynchronize() == cudaSuccess;
}

static bool writes_before()
{
    float *y = to_device(counted(7));
    LAUNCH(write_at, 1, 32, 0, y, -1);
    return cudaDeviceSynchronize() == cudaSuccess;
}

static bool writes_inside()
{
    float *y = to_device(counted(7));
    LAUNCH(write_at, 1, 32, 0, y, 6);
    return cudaDeviceSynchronize() == cudaSuccess;
}

static __global__ void overruns_shared(float *y)
{
    SL_SHARED(float, s);
    s[threadIdx.x + 1] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

static bool writes_behind_shared()
{
    float *y = to_device(counted(32));
    LAUNCH(overruns_shared, 1, 32, 32 * sizeof(float), y);
    const std::vector<float> seen = to_host(y, 32);
    return seen[0] == seen[0]; /* what nobody wrote is NaN */
}

static void test_neighbours(void **state)
{
    (void)state;
    assert_true(survives(writes_inside));
    assert_false(survives(reads_behind));
    assert_false(survives(writes_behind));
    assert_false(survives(writes_before));
    assert_false(survives(writes_behind_shared));
}

static bool host_reads_device()
{
    const volatile float *x = to_device(counted(4));
    return x[0] == 0;
}

static bool host_reads_copy()
{
    return to_host(to_device(counted(4)), 4)[3] == 3;
}

static void test_host_dereference(void **state)
{
    (void)state;
    assert_true(survives(host_reads_copy));
    assert_false(survives(host_reads_device));
}

static void test_memory_calls(void **state)
{
    (void)state;
    float host[4] = {0};
    float *x = to_device(counted(4));
    assert_cuda(cudaErrorInvalidValue,
                cudaMemcpy(host, x, 20, cudaMemcpyDeviceToHost)); /* longer than the allocation */
    assert_cuda(cudaErrorInvalidValue,
                cudaMemcpy(x, host, 16, cudaMemcpyDeviceToHost)); /* the wrong way round */
    assert_cuda(cudaErrorInvalidValue, cudaFree(x + 1));
    setenv("SLOPE_SIMT_MEMORY", "1", 1);
    void *much = nullptr;
    assert_cuda(cudaErrorMemoryAllocation, cudaMalloc(&much, 1 << 20));
    unsetenv("SLOPE_SIMT_MEMORY");
    assert_cuda(cudaErrorMemoryAllocation, cudaGetLastError());
    assert_cuda(cudaSuccess, cudaGetLastError());
    assert_cuda(cudaSuccess, cudaFree(x));
    assert_cuda(cudaErrorInvalidValue, cudaFree(x));
    cudaGetLastError();
}

static void test_launch_limits(void **state)
{
    (void)state;
    float *y = to_device(counted(32));
    LAUNCH(whole_warp, 1, 2048, 0, y);
    assert_cuda(cudaErrorInvalidConfiguration, cudaGetLastError());
    LAUNCH(whole_warp, dim3(1, 70000), 32, 0, y);
    assert_cuda(cudaErrorInvalidConfiguration, cudaGetLastError());
    LAUNCH(overruns_shared, 1, 32, 50 * 1024, y);
    assert_cuda(cudaErrorInvalidValue, cudaGetLastError());
    assert_cuda(cudaSuccess, cudaFuncSetAttribute(overruns_shared,
                                                  cudaFuncAttributeMaxDynamicSharedMemorySize, 50 * 1024));
    LAUNCH(overruns_shared, 1, 32, 50 * 1024, y);
    assert_cuda(cudaSuccess, cudaGetLastError());
    cudaFree(y);
}

/* --- capture --- */

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

static void test_what_capture_forbids(void **state)
{
    (void)state;
    const struct {
        cudaError_t (*call)(), code;
    } calls[] = {
        {synchronise, cudaErrorStreamCaptureUnsupported},
        {synchronise_all, cudaErrorStreamCaptureUnsupported},
        {query, cudaErrorStreamCaptureUnsupported},
        {allocate, cudaErrorStreamCaptureUnsupported},
        {release, cudaErrorStreamCaptureUnsupported},
        {plain_copy, cudaErrorStreamCaptureImplicit},
        {plain_set, cudaErrorStreamCaptureUnsupported},
        {default_stream, cudaErrorStreamCaptureImplicit},
    };
    some_memory = to_device({1});
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        cudaGraph_t graph;
        assert_cuda(cudaSuccess, cudaStreamCreate(&captured));
        assert_cuda(cudaSuccess, cudaStreamBeginCapture(captured, cudaStreamCaptureModeThreadLocal));
        const cudaError_t error = calls[i].call();
        if (error != calls[i].code) fail_msg("call %zu: %s", i, cudaGetErrorName(error));
        assert_cuda(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(captured, &graph));
        assert_null(graph);
        cudaStreamDestroy(captured);
        cudaGetLastError();
    }
    cudaFree(some_memory);
}

/* --- libraries --- */

static void test_blas(void **state)
{
    (void)state;
    cublasHandle_t handle;
    cudaStream_t stream;
    assert_int_equal(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
    cudaStreamCreate(&stream);
    cublasSetStream(handle, stream);
    const int m = 3, n = 4, k = 5;
    const std::vector<float> left = counted((size_t)(m * k)), right = counted((size_t)(k * n));
    float *a = to_device(left), *b = to_device(right);
    for (int variant = 0; variant < 4; variant++) {
        const bool ta = variant & 1, tb = variant & 2;
        float *c = to_device(std::vector<float>((size_t)(m * n), 1)), alpha = 2, beta = variant ? 0.5f : 0;
        const unsigned long long before = sl_simt_launches();
        assert_int_equal(cublasSgemm(handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                                     m, n, k, &alpha, a, ta ? k : m, b, tb ? n : k, &beta, c, m),
                         CUBLAS_STATUS_SUCCESS);
        assert_int_equal(sl_simt_launches() - before, 2);
        const std::vector<float> result = to_host(c, (size_t)(m * n));
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                float sum = 0;
                for (int t = 0; t < k; t++)
                    sum += left[(size_t)(ta ? i * k + t : t * m + i)] *
                           right[(size_t)(tb ? t * n + j : j * k + t)];
                assert_true(result[(size_t)(j * m + i)] == 2 * sum + beta);
            }
        cudaFree(c);
    }
    /* Without a workspace of its own, a captured call would have to allocate. */
    cudaGraph_t graph;
    const float one = 1, zero = 0;
    float *c = to_device(std::vector<float>((size_t)(m * n), 0));
    void *workspace;
    cudaMalloc(&workspace, 1024);
    for (int with = 0; with < 2; with++) {
        if (with) cublasSetWorkspace(handle, workspace, 1024);
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
        const cublasStatus_t status =
            cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, a, m, b, k, &zero, c, m);
        assert_true((status == CUBLAS_STATUS_SUCCESS) == (with == 1));
        assert_true((cudaStreamEndCapture(stream, &graph) == cudaSuccess) == (with == 1));
    }
    cudaGraphDestroy(graph);
    cublasDestroy(handle);
    cudaStreamDestroy(stream);
    for (void *memory : {(void *)a, (void *)b, (void *)c, workspace}) cudaFree(memory);
    cudaGetLastError();
}

static void test_random_words(void **state)
{
    (void)state;
    for (uint64_t seed : {0ull, 42ull, 0xfedcba9876543210ull})
        for (uint32_t stream : {0u, 7u, 0xffffffffu})
            for (uint64_t i : {0ull, 1ull, 2ull, 3ull, 4ull, 1000003ull, 0x3fffffffeull, 0x400000003ull}) {
                curandStatePhilox4_32_10_t generator;
                curand_init(seed, stream | 5ull << 32, i, &generator);
                const uint4 four = curand4(&generator);
                curand_init(seed, stream | 5ull << 32, i, &generator);
                const unsigned words[4] = {four.x, four.y, four.z, four.w};
                for (uint64_t j = 0; j < 4; j++) {
                    assert_int_equal(words[j], sl_random_word(seed, stream, 5, i + j));
                    assert_int_equal(curand(&generator), words[j]);
                }
            }
}

/* --- the back end --- */

static const sl_kernel *planted;
static const sl_kernel *const *with_planted(sl_device *device)
{
    static const sl_kernel *all[64];
    int n = 0;
    (void)device;
    all[n++] = planted;
    for (const sl_kernel *const *family = sl_cuda_table; *family && n < 63; family++) all[n++] = *family;
    all[n] = nullptr;
    return all;
}

typedef struct outcome {
    sl_status status;
    std::string text;
    std::vector<float> last; /* the output of the last run */
    float first;
} outcome;

/* y = (exp(0.1·exp(2·x)))², twice through a planted kernel of exp. */
static outcome run_with(void (*kernel)(const sl_call *call), bool guarded, bool checked, int runs)
{
    const sl_kernel list[] = {{SL_OP_EXP, "faulty", nullptr, nullptr, kernel}, {}};
    planted = list;
    sl_open_options open = {};
    open.device = SL_CUDA;
    open.exact = true;
    sl_context *ctx = sl_open_with(&open);
    assert_null(sl_error(ctx));
    const sl_backend *backend = ctx->backend;
    sl_backend copy = *backend;
    copy.kernels = with_planted;
    ctx->backend = &copy;
    sl_graph *g = sl_graph_new(ctx);
    const int64_t dims[SL_MAX_DIMS] = {7};
    sl_node *x = sl_input_dims(g, "x", dims), *a = sl_scale(x, 2, 0), *b = sl_exp(a),
            *c = sl_exp(sl_scale(b, 0.1, 0)), *y = sl_square(c);
    if (guarded) setenv("SLOPE_GUARD", "1", 1);
    sl_plan_options options = {};
    options.batch = 1;
    options.checked = checked;
    sl_plan *plan = sl_plan_new(&y, 1, &options);
    unsetenv("SLOPE_GUARD");
    const float values[] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f};
    sl_plan_set(plan, x, values, 7);
    outcome result = {SL_OK, "", std::vector<float>(7), 0};
    for (int i = 0; i < runs && result.status == SL_OK; i++) {
        result.status = sl_plan_run(plan);
        sl_plan_get(plan, y, result.last.data(), 7);
        if (i == 0) result.first = result.last[0];
    }
    if (sl_error(ctx)) {
        result.text = sl_error(ctx);
        result.status = sl_error_code(ctx);
    }
    ctx->backend = backend;
    sl_close(ctx);
    return result;
}

static __global__ void exp_kernel(float *y, const float *x, int64_t n, int64_t shift, float more)
{
    for (int64_t i = sl_cuda_thread(); i < n; i += sl_cuda_threads()) y[i] = r_exp(x[i + shift]) + more;
}

static void launch_exp(const sl_call *call, int64_t n, int64_t shift, float more)
{
    SL_LAUNCH(exp_kernel, sl_cuda_grid(call, n, 32, 2), 32, 0, call, sl_out(call, 0), sl_in(call, 0), n,
              shift, more);
}

static void good(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape), 0, 0);
}

static void forgets_the_tail(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape) / 4 * 4, 0, 0);
}

static void reads_the_neighbour(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape), 1, 0);
}

static const float *first_input;
static void reads_the_dead(const sl_call *call)
{
    const int64_t n = sl_shape_count(call->out[0].shape);
    const float *from = first_input ? first_input : sl_in(call, 0);
    SL_LAUNCH(exp_kernel, 1, 32, 0, call, sl_out(call, 0), from, n, 0, 0.0f);
    first_input = sl_in(call, 0);
}

static int host_counter;
static void freezes_the_host(const sl_call *call)
{
    launch_exp(call, sl_shape_count(call->out[0].shape), 0, (float)host_counter++);
}

static void dereferences(const sl_call *call)
{
    good(call);
    static volatile float sink;
    sink = sl_in(call, 0)[0];
    (void)sink;
}

static void allocates(const sl_call *call)
{
    void *memory = nullptr;
    sl_cuda_note(call->device, cudaMalloc(&memory, 16), "cudaMalloc", call->name);
    good(call);
}

static void launches_nothing_valid(const sl_call *call)
{
    SL_LAUNCH(exp_kernel, 1, 2000, 0, call, sl_out(call, 0), sl_in(call, 0), 7, 0, 0.0f);
}

static bool finite(const std::vector<float> &values)
{
    for (float v : values)
        if (!(v - v == 0)) return false;
    return true;
}

static void test_good_kernel(void **state)
{
    (void)state;
    for (const char *order : orders) {
        setenv("SLOPE_SIMT_ORDER", order, 1);
        for (int guarded = 0; guarded < 2; guarded++) {
            const outcome o = run_with(good, guarded, true, 2);
            assert_string_equal(o.text.c_str(), "");
            for (int i = 0; i < 7; i++) {
                const float x = 0.1f * (float)(i + 1), e = expf(0.1f * expf(2 * x));
                assert_true(fabsf(o.last[(size_t)i] - e * e) < 1e-5f);
            }
        }
        const unsigned long long before = sl_simt_launches(), graphs = sl_simt_graph_launches();
        run_with(good, false, false, 3);
        assert_int_equal(sl_simt_graph_launches() - graphs, 3); /* one launch a step */
        assert_true(sl_simt_launches() - before >= 3 * 5);
    }
}

static void test_missing_tail(void **state)
{
    (void)state;
    const outcome o = run_with(forgets_the_tail, true, true, 1);
    assert_int_equal(o.status, SL_NOT_FINITE);
    assert_true(o.text.find("element 4 of 1×7 is NaN") != std::string::npos);
    assert_true(run_with(forgets_the_tail, true, false, 1).status != SL_OK ||
                !finite(run_with(forgets_the_tail, true, false, 1).last));
}

static bool guarded_neighbour()
{
    const outcome o = run_with(reads_the_neighbour, true, false, 1);
    return o.status == SL_OK && finite(o.last);
}

static bool neighbour_in_arena()
{
    const outcome o = run_with(reads_the_neighbour, false, false, 1);
    return o.status == SL_OK && finite(o.last);
}

static void test_neighbour_tensor(void **state)
{
    (void)state;
    (void)neighbour_in_arena; /* may or may not show, which is why guarded placement exists */
    assert_false(survives(guarded_neighbour));
}

static bool dead_in_arena()
{
    first_input = nullptr;
    return run_with(reads_the_dead, false, false, 1).status == SL_OK;
}

static bool guarded_dead()
{
    first_input = nullptr;
    return run_with(reads_the_dead, true, false, 1).status == SL_OK;
}

static void test_read_after_last_use(void **state)
{
    (void)state;
    assert_true(survives(dead_in_arena));
    assert_false(survives(guarded_dead));
}

static void test_frozen_host_value(void **state)
{
    (void)state;
    host_counter = 0;
    const outcome frozen = run_with(freezes_the_host, false, false, 3);
    assert_int_equal(host_counter, 2); /* captured once: two calls */
    assert_true(frozen.last[0] == frozen.first);
    host_counter = 0;
    const outcome eager = run_with(freezes_the_host, true, false, 3); /* a guarded run launches each time */
    assert_int_equal(host_counter, 6);
    assert_true(eager.last[0] != eager.first); /* so the two differ, which is how it shows */
}

static bool run_dereferences()
{
    return run_with(dereferences, false, false, 1).status == SL_OK;
}

static void test_host_reads_tensor(void **state)
{
    (void)state;
    assert_false(survives(run_dereferences));
}

static void test_errors_of_a_run(void **state)
{
    (void)state;
    outcome o = run_with(allocates, false, false, 1);
    assert_int_equal(o.status, SL_DEVICE);
    assert_true(o.text.find("cudaMalloc: operation not permitted when stream is capturing") !=
                std::string::npos);
    o = run_with(launches_nothing_valid, false, false, 1);
    assert_int_equal(o.status, SL_DEVICE);
    assert_true(o.text.find("exp_kernel: invalid configuration argument") != std::string::npos);
}

/* --- opening --- */

static void test_open(void **state)
{
    (void)state;
    const struct {
        const char *fail, *words;
        sl_status code;
    } cases[] = {
        {"driver", "no NVIDIA driver is installed", SL_DEVICE},
        {"old", "supports CUDA 11.4, this library needs 13.0; update the driver", SL_DEVICE},
        {"device", "shows no GPU to this process", SL_DEVICE},
        {"architecture", "found simulated (sm_00), but this library was built for", SL_DEVICE},
        {"busy", "the CUDA device simulated is busy", SL_DEVICE},
        {"memory", "out of memory", SL_DEVICE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("SLOPE_SIMT_FAIL", cases[i].fail, 1);
        sl_open_options options = {};
        options.device = SL_CUDA;
        sl_context *ctx = sl_open_with(&options);
        if (!sl_error(ctx) || !strstr(sl_error(ctx), cases[i].words))
            fail_msg("%s: %s", cases[i].fail, sl_error(ctx));
        assert_int_equal(sl_error_code(ctx), cases[i].code);
        sl_close(ctx);
        options.device = SL_AUTO;
        ctx = sl_open_with(&options);
        assert_null(sl_error(ctx));
        assert_string_equal(sl_device_name(ctx), "cpu");
        sl_close(ctx);
    }
    unsetenv("SLOPE_SIMT_FAIL");
    const struct {
        sl_open_options options;
        const char *words;
    } wrong[] = {
        {{SL_CUDA, 3, 0, 0, false, SL_FP32, nullptr, nullptr, 0},
         "device_index is 3, but the CUDA devices are 0 to 0"},
        {{SL_CUDA, 0, 0, 0, false, SL_BF16, nullptr, nullptr, 0}, "the precisions fp32 and tf32 only"},
        {{SL_CUDA, 0, 0, 0, true, SL_TF32, nullptr, nullptr, 0}, "exact results need precision fp32"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sl_context *ctx = sl_open_with(&wrong[i].options);
        if (!sl_error(ctx) || !strstr(sl_error(ctx), wrong[i].words)) fail_msg("%s", sl_error(ctx));
        sl_close(ctx);
    }
    sl_open_options options = {};
    options.device = SL_CUDA;
    sl_context *ctx = sl_open_with(&options);
    assert_string_equal(sl_device_name(ctx), "cuda");
    assert_true(strncmp(sl_device_description(ctx), "simulated, order ", 17) == 0);
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_grid_stride, reset),
        cmocka_unit_test_setup(test_three_dimensions, reset),
        cmocka_unit_test_setup(test_shuffles, reset),
        cmocka_unit_test_setup(test_barrier, reset),
        cmocka_unit_test_setup(test_missing_barrier, reset),
        cmocka_unit_test_setup(test_divergent_barrier, reset),
        cmocka_unit_test_setup(test_missing_lanes, reset),
        cmocka_unit_test_setup(test_faults_in_kernels, reset),
        cmocka_unit_test_setup(test_neighbours, reset),
        cmocka_unit_test_setup(test_host_dereference, reset),
        cmocka_unit_test_setup(test_memory_calls, reset),
        cmocka_unit_test_setup(test_launch_limits, reset),
        cmocka_unit_test_setup(test_replay, reset),
        cmocka_unit_test_setup(test_what_capture_forbids, reset),
        cmocka_unit_test_setup(test_blas, reset),
        cmocka_unit_test_setup(test_random_words, reset),
        cmocka_unit_test_setup(test_good_kernel, reset),
        cmocka_unit_test_setup(test_missing_tail, reset),
        cmocka_unit_test_setup(test_neighbour_tensor, reset),
        cmocka_unit_test_setup(test_read_after_last_use, reset),
        cmocka_unit_test_setup(test_frozen_host_value, reset),
        cmocka_unit_test_setup(test_host_reads_tensor, reset),
        cmocka_unit_test_setup(test_errors_of_a_run, reset),
        cmocka_unit_test_setup(test_open, reset),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
