/* Stands in for CUDA's header of this name where the kernels are compiled by g++ for the simulated device:
 * the part of CUDA C++ and of its run-time library that Slope uses. What it does is written in simt.h and
 * beside the code. */
#ifndef SL_SIMT_CUDA_RUNTIME_H
#define SL_SIMT_CUDA_RUNTIME_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#ifndef SLOPE_SIMT
#    define SLOPE_SIMT
#endif
#define __CUDACC__     1 /* core/real.h: functions for host and device */
#define CUDART_VERSION 13000

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__

/* --- vectors --- */

#define SIMT_VECTORS(type, name, align2, align4)                                                             \
    struct alignas(align2) name##2                                                                           \
    {                                                                                                        \
        type x, y;                                                                                           \
    };                                                                                                       \
    struct name##3                                                                                           \
    {                                                                                                        \
        type x, y, z;                                                                                        \
    };                                                                                                       \
    struct alignas(align4) name##4                                                                           \
    {                                                                                                        \
        type x, y, z, w;                                                                                     \
    };                                                                                                       \
    static inline name##2 make_##name##2(type x, type y)                                                     \
    {                                                                                                        \
        return {x, y};                                                                                       \
    }                                                                                                        \
    static inline name##3 make_##name##3(type x, type y, type z)                                             \
    {                                                                                                        \
        return {x, y, z};                                                                                    \
    }                                                                                                        \
    static inline name##4 make_##name##4(type x, type y, type z, type w)                                     \
    {                                                                                                        \
        return {x, y, z, w};                                                                                 \
    }
SIMT_VECTORS(float, float, 8, 16)
SIMT_VECTORS(double, double, 16, 16)
SIMT_VECTORS(int, int, 8, 16)
SIMT_VECTORS(unsigned, uint, 8, 16)
SIMT_VECTORS(unsigned char, uchar, 2, 4)
SIMT_VECTORS(long long, longlong, 16, 16)
SIMT_VECTORS(unsigned long long, ulonglong, 16, 16)
#undef SIMT_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
};

/* --- what a thread sees --- */

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

void *simt_shared();

/* The caller's place, so that a fault can be told by its line. */
#define SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void __syncthreads(SIMT_HERE);
int __syncthreads_or(int predicate, SIMT_HERE);
/* Every thread of an early launch must come here. */
void cudaGridDependencySynchronize();
/* In a loop that waits for what another block writes; CUDA has no such word. */
void simt_yield(SIMT_HERE);
static inline void __threadfence()
{
}
static inline void __threadfence_block()
{
}

enum simt_exchange_kind { SIMT_SHUFFLE, SIMT_BALLOT, SIMT_SYNCWARP };
/* Waits for the lanes of `mask`; returns the value of lane `source`, or the lanes whose value is not 0. */
uint64_t simt_exchange(simt_exchange_kind kind, unsigned mask, uint64_t value, int source, const char *file,
                       int line);
int simt_lane();

template <class T>
static inline T simt_shuffle(unsigned mask, T value, int source, const char *file, int line)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = simt_exchange(SIMT_SHUFFLE, mask, bits, source, file, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* PTX ISA, shfl.sync: which lane is read, the own one where the other lies outside of the segment. */
template <class T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SIMT_HERE)
{
    const int segment = simt_lane() & ~(width - 1);
    return simt_shuffle(mask, value, segment | (lane & (width - 1)), file, line);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_HERE)
{
    const int lane = simt_lane(), source = lane - (int)delta;
    return simt_shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, file, line);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_HERE)
{
    const int lane = simt_lane(), source = lane + (int)delta;
    return simt_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SIMT_HERE)
{
    const int lane = simt_lane(), source = lane ^ bits;
    return simt_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_HERE)
{
    return (unsigned)simt_exchange(SIMT_BALLOT, mask, predicate != 0, 0, file, line);
}
static inline int __any_sync(unsigned mask, int predicate, SIMT_HERE)
{
    return simt_exchange(SIMT_BALLOT, mask, predicate != 0, 0, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, SIMT_HERE)
{
    return simt_exchange(SIMT_BALLOT, mask, predicate != 0, 0, file, line) == mask;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_HERE)
{
    simt_exchange(SIMT_SYNCWARP, mask, 0, 0, file, line);
}

/* Threads take turns only at barriers and shuffles, so a plain operation is atomic. */
template <class T, class U> static inline T atomicAdd(T *to, U value)
{
    static_assert(std::is_integral<T>::value, "no sums of floats in no order");
    const T old = *to;
    *to = old + (T)value;
    return old;
}
static inline unsigned atomicInc(unsigned *to, unsigned most)
{
    const unsigned old = *to;
    *to = old >= most ? 0 : old + 1;
    return old;
}
template <class T, class U> static inline T atomicMax(T *to, U value)
{
    const T old = *to;
    if ((T)value > old) *to = (T)value;
    return old;
}
template <class T, class U> static inline T atomicOr(T *to, U value)
{
    const T old = *to;
    *to = old | (T)value;
    return old;
}

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}
template <class T> static inline T __ldcg(const T *p)
{
    return *p;
}
template <class T> static inline T __ldcs(const T *p)
{
    return *p;
}
template <class T> static inline void __stcs(T *p, T value)
{
    *p = value;
}
template <class T, class U> static inline auto min(T a, U b) -> typename std::common_type<T, U>::type
{
    return b < a ? b : a;
}
template <class T, class U> static inline auto max(T a, U b) -> typename std::common_type<T, U>::type
{
    return a < b ? b : a;
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __ffsll(long long x)
{
    return __builtin_ffsll(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __clzll(long long x)
{
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline unsigned __float_as_uint(float x)
{
    unsigned b;
    memcpy(&b, &x, sizeof b);
    return b;
}
static inline int __float_as_int(float x)
{
    int b;
    memcpy(&b, &x, sizeof b);
    return b;
}
static inline float __uint_as_float(unsigned b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}
static inline float __int_as_float(int b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* --- the run-time library --- */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInitializationError = 3,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorUnsupportedPtxVersion = 222,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
    cudaErrorCooperativeLaunchTooLarge = 720,
    cudaErrorNotSupported = 801,
    cudaErrorSystemDriverMismatch = 803,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureImplicit = 906,
    cudaErrorStreamCaptureWrongThread = 908,
    cudaErrorUnknown = 999,
} cudaError_t;

typedef struct CUstream_st *cudaStream_t; /* nullptr: the default stream */
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
typedef struct CUgraphNode_st *cudaGraphNode_t;

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrCooperativeLaunch = 95,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2 };

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount;
};
struct cudaFuncAttributes {
    int maxThreadsPerBlock, maxDynamicSharedSizeBytes, numRegs, ptxVersion, binaryVersion;
};

const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDeviceReset();
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);

cudaError_t cudaMalloc(void **memory, size_t bytes);
template <class T> static inline cudaError_t cudaMalloc(T **memory, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(memory), bytes);
}
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status);

cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

cudaError_t simt_set_dynamic_shared(const void *kernel, int bytes);
cudaError_t simt_function_attributes(cudaFuncAttributes *attributes, const void *kernel);
template <class F>
static inline cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute attribute, int value)
{
    return attribute == cudaFuncAttributeMaxDynamicSharedMemorySize
               ? simt_set_dynamic_shared(reinterpret_cast<const void *>(kernel), value)
               : cudaSuccess;
}
template <class F> static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, F *kernel)
{
    return simt_function_attributes(attributes, reinterpret_cast<const void *>(kernel));
}

/* --- launching --- */

/* A kernel with its arguments, copied when it is launched or captured. */
struct simt_kernel {
    virtual ~simt_kernel() = default;
    virtual void run() const = 0; /* as the current thread */
};

template <class... P> struct simt_bound_kernel : simt_kernel {
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> arguments;
    simt_bound_kernel(void (*k)(P...), std::decay_t<P>... a) : kernel(k), arguments(a...)
    {
    }
    void run() const override
    {
        std::apply(kernel, arguments);
    }
};

/* EARLY: before the launch in front of it ends, so that every thread must wait for that first. */
enum simt_launch_kind { SIMT_PLAIN, SIMT_COOPERATIVE, SIMT_EARLY };
void simt_submit_kernel(const char *name, const void *function, std::unique_ptr<simt_kernel> kernel,
                        dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                        simt_launch_kind kind = SIMT_PLAIN);
void simt_check_argument(const char *name, int position, const void *pointer);

template <class T> static inline void simt_check(const char *name, int position, const T &value)
{
    if constexpr (std::is_pointer<T>::value) simt_check_argument(name, position, (const void *)value);
}

template <class... P, class... A>
static inline void simt_launch_as(simt_launch_kind kind, const char *name, void (*kernel)(P...), dim3 grid,
                                  dim3 block, size_t shared, cudaStream_t stream, const A &...arguments)
{
    static_assert(sizeof...(P) == sizeof...(A), "the kernel takes another number of arguments");
    int position = 0;
    (simt_check(name, ++position, arguments), ...);
    simt_submit_kernel(name, reinterpret_cast<const void *>(kernel),
                       std::make_unique<simt_bound_kernel<P...>>(kernel, arguments...), grid, block, shared,
                       stream, kind);
}
template <class... P, class... A>
static inline void simt_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                               cudaStream_t stream, const A &...arguments)
{
    simt_launch_as(SIMT_PLAIN, name, kernel, grid, block, shared, stream, arguments...);
}
template <class... P, class... A>
static inline void simt_launch_early(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                     size_t shared, cudaStream_t stream, const A &...arguments)
{
    simt_launch_as(SIMT_EARLY, name, kernel, grid, block, shared, stream, arguments...);
}

template <class... P, size_t... I>
static inline cudaError_t simt_launch_together(void (*kernel)(P...), dim3 grid, dim3 block, void **arguments,
                                               size_t shared, cudaStream_t stream, std::index_sequence<I...>)
{
    (simt_check("cooperative", (int)I + 1, *static_cast<std::decay_t<P> *>(arguments[I])), ...);
    simt_submit_kernel(
        "cooperative", reinterpret_cast<const void *>(kernel),
        std::make_unique<simt_bound_kernel<P...>>(kernel, *static_cast<std::decay_t<P> *>(arguments[I])...),
        grid, block, shared, stream, SIMT_COOPERATIVE);
    return cudaPeekAtLastError();
}
template <class... P>
static inline cudaError_t cudaLaunchCooperativeKernel(void (*kernel)(P...), dim3 grid, dim3 block,
                                                      void **arguments, size_t shared, cudaStream_t stream)
{
    return simt_launch_together(kernel, grid, block, arguments, shared, stream,
                                std::index_sequence_for<P...>());
}
cudaError_t simt_resident_blocks(int *blocks, const void *kernel, int threads, size_t shared);
template <class F>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, F *kernel, int threads,
                                                                        size_t shared)
{
    return simt_resident_blocks(blocks, reinterpret_cast<const void *>(kernel), threads, shared);
}

/* The life of a tensor in guarded placement: outside of it, a kernel that touches the memory faults. */
void simt_life(void *memory, bool begins);

/* Since the program began. A kernel, a copy and a memset count 1, a call of a library 2. */
extern "C" unsigned long long sl_simt_launches(void);
extern "C" unsigned long long sl_simt_graph_launches(void);
extern "C" const char *sl_simt_order(void);
#endif
