/* Shared by the CUDA kernels. src/cuda mirrors src/cpu file by file; what a kernel must compute stands there,
 * in core/sum.h and in the rows. Every .cu file is compiled by nvcc, and by g++ against tests/simt for the
 * simulated device.
 *
 * Rules of a kernel file:
 *  - Nothing has external linkage but its list of kernels, SL_CUDA_KERNELS(family) = {{SL_OP_…, "name", …},
 * {}}.
 *  - A step is captured once and replayed: what changes from step to step (step, rate, valid, factors) is
 * read on the device. call->valid is device memory (sl_cuda_valid_rows, not sl_valid_rows); attr is host
 * memory, copied into the kernel's arguments.
 *  - Launches go through SL_LAUNCH, dynamic shared memory comes from SL_SHARED, static shared memory is not
 * used. Barriers are __syncthreads(), met by all threads of the block at the same line; shuffles are
 *    __shfl_…_sync(SL_ALL_LANES, …) with whole warps, so blocks are multiples of 32 threads.
 *  - Indices are 64-bit, any size works, 0 included. Tensors are 256-byte aligned, pieces of packed blocks
 * 64-byte. */
#ifndef SL_CUDA_CUDA_CUH
#define SL_CUDA_CUDA_CUH

#include <cuda_runtime.h>

extern "C" {
#include "backend.h"
#include "core/activation.h"
#include "core/context.h"
}
#include "core/math.h"
#include "core/sum.h"

/* Not exact: these stand before the others and support a call only on a device that is not exact. */
#define SL_CUDA_FAST_FAMILIES(FAMILY) FAMILY(blas) FAMILY(mma_product) FAMILY(mma_conv)

#define SL_CUDA_KERNELS(family) const sl_kernel sl_cuda_##family[]
extern "C" {
#define FAMILY(name) extern SL_CUDA_KERNELS(name);
FAMILY(formula)
SL_CUDA_FAST_FAMILIES(FAMILY)
SL_KERNEL_FAMILIES(FAMILY)
#undef FAMILY
extern const sl_kernel *const sl_cuda_table[];
}

/* --- the device of a call --- */

cudaStream_t sl_cuda_stream(const sl_device *device);
bool sl_cuda_exact(const sl_device *device);
sl_precision sl_cuda_precision(const sl_device *device);
int sl_cuda_sms(const sl_device *device);
int sl_cuda_max_shared(const sl_device *device); /* bytes of dynamic shared memory that a block may ask for */
/* The device's cuBLAS handle (a cublasHandle_t, which serves as a cublasLtHandle_t too), bound to the
 * device's stream and to this workspace; NULL on an exact device. */
struct cublasContext *sl_cuda_blas_handle(const sl_device *device);
void *sl_cuda_blas_workspace(const sl_device *device, size_t *bytes);

/* SL_CUDA_COUNTERS counters in device memory for sl_cuda_last, all 0 between two launches, and so shared by
 * all calls: those of a stream run one after another. */
enum { SL_CUDA_COUNTERS = 1024 };
unsigned *sl_cuda_counters(const sl_device *device);

/* Keeps the first failure of a run, which then ends with SL_DEVICE. `what` lives for ever. */
void sl_cuda_note(sl_device *device, cudaError_t error, const char *what, const char *node);
/* The same for a library whose codes are its own; status 0 is success. */
void sl_cuda_note_status(sl_device *device, int status, const char *what, const char *node);

/* --- launching --- */

enum { SL_CUDA_DEFAULT_SHARED = 48 * 1024 }; /* bytes; beyond, a kernel must be told */
#define SL_ALL_LANES 0xffffffffu

/* kernel<<<grid, block, shared>>>(arguments) on the call's stream; an empty grid launches nothing. A kernel
 * with template arguments stands in parentheses.
 *
 * From sm_90 on a kernel is launched before the one in front of it has ended, so that its blocks start as
 * that one's leave (programmatic dependent launch). Therefore a kernel first calls sl_cuda_begin(), which
 * waits until all that was launched before has ended and can be seen. None lets the next one start earlier
 * than when its own blocks leave. So what a kernel waits for has waited itself. */
bool sl_cuda_launches_early(const sl_device *device);
#ifdef SLOPE_SIMT
#    define SL_LAUNCH_KERNEL(kernel, grid, block, shared, device, ...)                                       \
        simt_launch_early(#kernel, kernel, grid, block, shared, sl_cuda_stream(device), __VA_ARGS__)
#    define SL_SHARED(type, name)   type *const name = static_cast<type *>(simt_shared())
#    define SL_LIFE(memory, begins) simt_life(memory, begins)
/* In a loop that waits for what other blocks of a cooperative launch do. */
#    define SL_WAIT_FOR_BLOCKS() simt_yield()
#else
template <class... P, class... A>
static inline void sl_cuda_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                  const sl_device *device, const A &...arguments)
{
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = sl_cuda_stream(device);
    config.attrs = &early;
    config.numAttrs = sl_cuda_launches_early(device);
    cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}
#    define SL_LAUNCH_KERNEL(kernel, grid, block, shared, device, ...)                                       \
        sl_cuda_launch(kernel, grid, block, shared, device, __VA_ARGS__)
extern __shared__ double2 sl_shared_memory[];
#    define SL_SHARED(type, name)   type *const name = reinterpret_cast<type *>(sl_shared_memory)
#    define SL_LIFE(memory, begins) ((void)(memory), (void)(begins))
#    define SL_WAIT_FOR_BLOCKS()    ((void)0)
#endif
#define SL_LAUNCH(kernel, grid, block, shared, call, ...)                                                    \
    do {                                                                                                     \
        const dim3 launch_grid(grid), launch_block(block);                                                   \
        const size_t launch_shared = (shared);                                                               \
        if ((size_t)launch_grid.x * launch_grid.y * launch_grid.z == 0) break;                               \
        if (launch_shared > SL_CUDA_DEFAULT_SHARED)                                                          \
            sl_cuda_note((call)->device,                                                                     \
                         cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,           \
                                              (int)launch_shared),                                           \
                         #kernel, (call)->name);                                                             \
        SL_LAUNCH_KERNEL(kernel, launch_grid, launch_block, launch_shared, (call)->device, __VA_ARGS__);     \
        sl_cuda_note((call)->device, cudaGetLastError(), #kernel, (call)->name);                             \
    } while (0)

/* Blocks for n items at `per_block` each in a grid-stride loop: at least one, at most `waves` for every SM.
 */
static inline unsigned sl_cuda_grid(const sl_call *call, int64_t n, int64_t per_block, int waves)
{
    const int64_t most = (int64_t)sl_cuda_sms(call->device) * waves, blocks = (n + per_block - 1) / per_block;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

/* --- inside kernels --- */

/* The first thing that every kernel does. */
static __device__ __forceinline__ void sl_cuda_begin(void)
{
#if defined(SLOPE_SIMT) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
    cudaGridDependencySynchronize();
#endif
}

/* Rows (elements / last dimension) of a batched tensor that count; `valid` NULL: all. */
static __device__ __forceinline__ int64_t sl_cuda_valid_rows(const int32_t *valid, int64_t batch,
                                                             int64_t rows)
{
    return valid ? rows / batch * *valid : rows;
}

/* This thread's place in a one-dimensional grid, and the grid's size. */
static __device__ __forceinline__ int64_t sl_cuda_thread(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}
static __device__ __forceinline__ int64_t sl_cuda_threads(void)
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* Called by a whole block, behind what it has written for the last of the `blocks` that share a counter. True
 * in that last one, where sl_cuda_fresh then reads what all of them wrote. The counter is 0 before the first
 * comes and after the last. The first barrier puts the block's stores before the fence of its first thread,
 * by which the counter publishes them; costs about a microsecond. */
static __device__ __forceinline__ bool sl_cuda_last(unsigned *counter, int64_t blocks)
{
    bool last = false;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicInc(counter, (unsigned)(blocks - 1)) == (unsigned)(blocks - 1);
        __threadfence();
    }
    return __syncthreads_or(last);
}

/* What another block of the launch has written: past the first-level cache, which may not know it. */
template <class T> static __device__ __forceinline__ T sl_cuda_fresh(const T *p)
{
    return __ldcg(p);
}

/* --- a call's tensors, on the host --- */

static inline const float *sl_in(const sl_call *call, int i)
{
    return static_cast<const float *>(call->in[i].data);
}
static inline float *sl_out(const sl_call *call, int i)
{
    return static_cast<float *>(call->out[i].data);
}
#endif
