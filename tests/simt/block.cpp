/* A grid on the CPU: blocks one after another, the threads of a block as fibers that give way only at
 * barriers and shuffles. A fiber whose thread ends takes the next thread, so a kernel without barriers never
 * switches. */
#include "fiber.h"
#include "simt.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

enum class state { fresh, ready, barrier, exchange, done };

struct thread {
    state at;
    simt_fiber *fiber;
    const char *file; /* where it waits */
    int line;
    simt_exchange_kind kind;
    unsigned mask;
    int source;
    uint64_t value, result;
};

constexpr int most_threads = 1024;

struct machine {
    const simt_grid *grid;
    thread threads[most_threads];
    int order[most_threads], position[most_threads];
    int n, done, cursor, current;
    int arrived[most_threads / 32]; /* threads of the warp in an exchange */
    std::vector<simt_fiber *> idle, all;
    std::vector<char> shared;
    char *shared_at;
    bool running, failed;
    bool any; /* of the predicates at a barrier */
    uint32_t random;
};
machine &b = *new machine(); /* never destroyed, for its fibers last as long as the program */

enum { FORWARD, REVERSE, SHUFFLED };

int chosen_order()
{
    const char *order = getenv("SLOPE_SIMT_ORDER");
    if (order && strcmp(order, "reverse") == 0) return REVERSE;
    if (order && strcmp(order, "shuffled") == 0) return SHUFFLED;
    return FORWARD;
}

uint32_t random_below(uint32_t n)
{
    b.random = b.random * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)b.random * n >> 32);
}

template <class T> void shuffle(T *items, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) std::swap(items[i], items[random_below((uint32_t)i + 1)]);
}

/* Shuffled: the warps, and the lanes of each. */
void order_threads(int order)
{
    const int warps = (b.n + 31) / 32;
    std::vector<int> warp((size_t)warps);
    std::iota(warp.begin(), warp.end(), 0);
    if (order == SHUFFLED) shuffle(warp.data(), warps);
    int at = 0;
    for (int w = 0; w < warps; w++) {
        const int first = warp[(size_t)w] * 32, lanes = b.n - first < 32 ? b.n - first : 32;
        for (int l = 0; l < lanes; l++) b.order[at + l] = first + l;
        if (order == SHUFFLED) shuffle(b.order + at, lanes);
        at += lanes;
    }
    if (order == REVERSE)
        for (int i = 0; i < b.n; i++) b.order[i] = b.n - 1 - i;
    for (int i = 0; i < b.n; i++) b.position[b.order[i]] = i;
}

void become(int t)
{
    b.current = t;
    threadIdx.x = (unsigned)t % blockDim.x;
    threadIdx.y = (unsigned)t / blockDim.x % blockDim.y;
    threadIdx.z = (unsigned)t / blockDim.x / blockDim.y;
}

/* No std::string here: who leaves a kernel never comes back to free it. */
struct words {
    char text[192];
};

words thread_name(int t)
{
    words name;
    const unsigned x = (unsigned)t % blockDim.x, y = (unsigned)t / blockDim.x % blockDim.y,
                   z = (unsigned)t / blockDim.x / blockDim.y;
    if (blockDim.y * blockDim.z == 1)
        snprintf(name.text, sizeof name.text, "thread %u", x);
    else
        snprintf(name.text, sizeof name.text, "thread (%u, %u, %u)", x, y, z);
    return name;
}

const char *base_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

words whereabouts(int t)
{
    const thread &other = b.threads[t];
    const char *what = other.at == state::barrier   ? "__syncthreads"
                       : other.kind == SIMT_SHUFFLE ? "a shuffle"
                                                    : "a vote of its warp";
    words place;
    if (other.at == state::done)
        snprintf(place.text, sizeof place.text, "has ended");
    else
        snprintf(place.text, sizeof place.text, "waits at %s, %s:%d", what, base_name(other.file),
                 other.line);
    return place;
}

[[noreturn]] void fail_waiting(int t, int other, const char *reason)
{
    simt_leave_kernel(cudaErrorLaunchFailure, "%s %s, but %s %s%s", thread_name(t).text, whereabouts(t).text,
                      thread_name(other).text, whereabouts(other).text, reason);
}

/* All threads stand still: at the same barrier, or for ever. */
void release_barrier()
{
    int waiting = -1, elsewhere = -1;
    for (int t = 0; t < b.n; t++) { /* an exchange that lacks lanes is named first */
        if (b.threads[t].at != state::exchange) continue;
        for (int l = 0; l < 32; l++) {
            const int other = (t & ~31) + l;
            if (!(b.threads[t].mask >> l & 1) || other == t) continue;
            if (other >= b.n)
                simt_leave_kernel(cudaErrorLaunchFailure, "%s %s for lane %d, but the block ends before it",
                                  thread_name(t).text, whereabouts(t).text, l);
            const thread &o = b.threads[other];
            if (o.at != state::exchange || o.mask != b.threads[t].mask || o.kind != b.threads[t].kind ||
                o.line != b.threads[t].line)
                fail_waiting(t, other, "");
        }
    }
    for (int t = 0; t < b.n; t++) {
        const thread &me = b.threads[t];
        if (me.at == state::barrier && waiting < 0)
            waiting = t;
        else if (me.at != state::barrier || (waiting >= 0 && (me.line != b.threads[waiting].line ||
                                                              strcmp(me.file, b.threads[waiting].file) != 0)))
            elsewhere = t;
    }
    if (elsewhere >= 0) fail_waiting(waiting, elsewhere, ": a barrier is for all threads of the block");
    for (int t = 0; t < b.n; t++) b.threads[t].at = state::ready;
    const int order = chosen_order();
    if (order == SHUFFLED) order_threads(order);
    b.cursor = 0;
}

/* Who runs next; -1: the block has ended. */
int next_thread()
{
    for (;;) {
        for (; b.cursor < b.n; b.cursor++) {
            const state at = b.threads[b.order[b.cursor]].at;
            if (at == state::fresh || at == state::ready) return b.order[b.cursor];
        }
        if (b.done == b.n) return -1;
        release_barrier();
    }
}

void work();

simt_fiber *idle_fiber()
{
    if (b.idle.empty()) {
        simt_fiber *fiber = simt_fiber_new(work);
        if (!fiber)
            simt_leave_kernel(cudaErrorMemoryAllocation, "no memory for the stacks of %d threads", b.n);
        b.all.push_back(fiber);
        return fiber;
    }
    simt_fiber *fiber = b.idle.back();
    b.idle.pop_back();
    return fiber;
}

simt_fiber *self; /* the fiber that runs */

void switch_to(simt_fiber *to)
{
    simt_fiber *from = self;
    self = to;
    simt_fiber_switch(from, to);
}

/* What a fiber does: runs one fresh thread after another. */
void work()
{
    simt_fiber_started(self);
    for (;;) {
        const int t = b.current;
        b.grid->kernel->run();
        b.threads[t].at = state::done;
        b.done++;
        const int next = next_thread();
        if (next >= 0) become(next);
        if (next >= 0 && b.threads[next].at == state::fresh) continue;
        b.idle.push_back(self);
        switch_to(next >= 0 ? b.threads[next].fiber : simt_fiber_of_caller());
    }
}

/* The current thread's state says what it waits for. */
void wait()
{
    const int t = b.current;
    b.threads[t].fiber = self;
    const int next = next_thread();
    become(next);
    if (next != t) switch_to(b.threads[next].at == state::fresh ? idle_fiber() : b.threads[next].fiber);
}

void run_block()
{
    for (int t = 0; t < b.n; t++) b.threads[t].at = state::fresh;
    memset(b.arrived, 0, sizeof b.arrived);
    b.done = b.cursor = 0;
    if (b.grid->shared) memset(b.shared_at, 0xff, b.grid->shared); /* NaN */
    become(b.order[0]);
    self = simt_fiber_of_caller();
    switch_to(idle_fiber());
}

/* The fibers stand anywhere in the kernel. */
void abandon()
{
    b.idle.clear();
    for (simt_fiber *fiber : b.all) {
        simt_fiber_restart(fiber, work);
        b.idle.push_back(fiber);
    }
}

} // namespace

bool simt_in_kernel()
{
    return b.running;
}

void *simt_shared()
{
    return b.shared_at;
}

int simt_lane()
{
    return b.current & 31;
}

void simt_leave_kernel(cudaError_t error, const char *format, ...)
{
    char text[384];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    simt_fail(error, "kernel %s, block (%u, %u, %u), %s: %s", b.grid->name, blockIdx.x, blockIdx.y,
              blockIdx.z, thread_name(b.current).text, text);
    b.failed = true;
    switch_to(simt_fiber_of_caller());
    abort(); /* nobody comes back */
}

void __syncthreads(const char *file, int line)
{
    thread &me = b.threads[b.current];
    me.at = state::barrier;
    me.file = file;
    me.line = line;
    wait();
}

int __syncthreads_or(int predicate, const char *file, int line)
{
    if (predicate) b.any = true;
    __syncthreads(file, line);
    const bool any = b.any;
    __syncthreads(file, line);
    b.any = false;
    __syncthreads(file, line);
    return any;
}

uint64_t simt_exchange(simt_exchange_kind kind, unsigned mask, uint64_t value, int source, const char *file,
                       int line)
{
    const int t = b.current, first = t & ~31;
    thread &me = b.threads[t];
    me.at = state::exchange;
    me.file = file;
    me.line = line;
    me.kind = kind;
    me.mask = mask;
    me.source = source;
    me.value = value;
    if (!(mask >> (t & 31) & 1))
        simt_leave_kernel(cudaErrorLaunchFailure, "%s:%d: the mask %08x lacks the caller", base_name(file),
                          line, mask);
    if (kind == SIMT_SHUFFLE && !(mask >> source & 1))
        simt_leave_kernel(cudaErrorLaunchFailure, "%s:%d: reads lane %d, which takes no part (mask %08x)",
                          base_name(file), line, source, mask);
    bool complete = ++b.arrived[t / 32] >= __builtin_popcount(mask);
    for (int l = 0; l < 32 && complete; l++) {
        if (!(mask >> l & 1)) continue;
        const thread &o = b.threads[first + l];
        complete =
            first + l < b.n && o.at == state::exchange && o.mask == mask && o.kind == kind && o.line == line;
    }
    if (complete) {
        uint64_t votes = 0;
        for (int l = 0; l < 32; l++)
            if (mask >> l & 1) votes |= (uint64_t)(b.threads[first + l].value != 0) << l;
        for (int l = 0; l < 32; l++) {
            if (!(mask >> l & 1)) continue;
            thread &o = b.threads[first + l];
            o.result = kind == SIMT_SHUFFLE ? b.threads[first + o.source].value : votes;
            o.at = state::ready;
            b.arrived[t / 32]--;
            if (b.position[first + l] < b.cursor) b.cursor = b.position[first + l];
        }
    }
    wait();
    return me.result;
}

bool simt_run_grid(const simt_grid &grid)
{
    const int order = chosen_order();
    b.grid = &grid;
    b.n = (int)(grid.block.x * grid.block.y * grid.block.z);
    b.random = 2026;
    b.failed = false;
    blockDim = grid.block;
    gridDim = grid.grid;
    order_threads(order);
    /* Its own allocation, so that AddressSanitizer sees where it ends. */
    void *shared = nullptr;
    if (grid.shared && posix_memalign(&shared, 16, grid.shared) != 0) {
        simt_fail(cudaErrorMemoryAllocation, "kernel %s: no memory for %zu bytes of shared memory", grid.name,
                  grid.shared);
        return false;
    }
    b.shared_at = static_cast<char *>(shared);
    const int64_t blocks = (int64_t)grid.grid.x * grid.grid.y * grid.grid.z;
    std::vector<uint32_t> shuffled;
    if (order == SHUFFLED) {
        shuffled.resize((size_t)blocks);
        std::iota(shuffled.begin(), shuffled.end(), 0u);
        shuffle(shuffled.data(), blocks);
    }
    b.running = true;
    b.any = false;
    for (int64_t i = 0; i < blocks && !b.failed; i++) {
        const int64_t at = order == SHUFFLED ? shuffled[(size_t)i] : order == REVERSE ? blocks - 1 - i : i;
        blockIdx.x = (unsigned)(at % grid.grid.x);
        blockIdx.y = (unsigned)(at / grid.grid.x % grid.grid.y);
        blockIdx.z = (unsigned)(at / grid.grid.x / grid.grid.y);
        run_block();
    }
    b.running = false;
    if (b.failed) abandon();
    free(b.shared_at);
    b.shared_at = nullptr;
    return !b.failed;
}
