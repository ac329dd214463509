/* The simulated device itself: that it does what CUDA does, and that it catches what it is for. */
#include "simt_case.h"

#include <cublas_v2.h>
#include <curand_kernel.h>

#include "core/philox.h"

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
#if !defined(__SANITIZE_ADDRESS__) /* which finds it first */
    LAUNCH(read_at, 1, 32, 0, y, static_cast<const float *>(nullptr), 0);
    expect_fault(cudaErrorIllegalAddress, "no device memory");
#endif
    float here = 1;
    LAUNCH(read_at, 1, 32, 0, y, &here, 0);
    expect_fault(cudaErrorIllegalAddress, "points to host memory");
#if !defined(__SANITIZE_ADDRESS__)
    cudaFree(x);
    LAUNCH(read_at, 1, 32, 0, y, x, 0);
    expect_fault(cudaErrorIllegalAddress, "touches");
#endif
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

static bool reads_freed()
{
    float *x = to_device(counted(7)), *y = to_device(counted(7));
    cudaFree(x);
    LAUNCH(read_at, 1, 32, 0, y, x, 0);
    return cudaDeviceSynchronize() == cudaSuccess;
}

static bool reads_null()
{
    LAUNCH(read_at, 1, 32, 0, to_device(counted(7)), static_cast<const float *>(nullptr), 0);
    return cudaDeviceSynchronize() == cudaSuccess;
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
    assert_false(survives(reads_freed));
    assert_false(survives(reads_null));
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
        cmocka_unit_test_setup(test_blas, reset),
        cmocka_unit_test_setup(test_random_words, reset),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
