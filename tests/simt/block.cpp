/* A grid on the CPU: blocks one after another, or in a cooperative launch each until it waits for others, the
 * threads of a block as fibers that give way only at barriers and shuffles. A fiber whose thread ends takes
 * the next thread, so a kernel without barriers never switches. */
#include "fiber.h"
#include "simt.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

enum class state { fresh, ready, barrier, exchange, yield, done };

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

struct block {
    thread threads[most_threads];
    int order[most_threads], position[most_threads];
    int n, done, cursor, current;
    int yielding;                   /* threads that wait for other blocks */
    int arrived[most_threads / 32]; /* threads of the warp in an exchange */
    uint3 index;
    char *shared;
    bool any; /* of the predicates at a barrier */
};

struct machine {
    const simt_grid *grid;
    std::vector<block> blocks; /* one, or all of a cooperative launch */
    std::vector<int> turns;    /* the order of the blocks in this round */
    size_t turn;
    bool progress; /* in this round somebody did more than wait */
    int still;     /* rounds without */
    std::vector<simt_fiber *> idle, all;
    bool running, failed;
    uint32_t random;
    int64_t begun; /* threads that have waited for the launches before */
};
machine &b = *new machine(); /* never destroyed, for its fibers last as long as the program */
block *c;                    /* the block that runs */

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
    const int warps = (c->n + 31) / 32;
    std::vector<int> warp((size_t)warps);
    std::iota(warp.begin(), warp.end(), 0);
    if (order == SHUFFLED) shuffle(warp.data(), warps);
    int at = 0;
    for (int w = 0; w < warps; w++) {
        const int first = warp[(size_t)w] * 32, lanes = c->n - first < 32 ? c->n - first : 32;
        for (int l = 0; l < lanes; l++) c->order[at + l] = first + l;
        if (order == SHUFFLED) shuffle(c->order + at, lanes);
        at += lanes;
    }
    if (order == REVERSE)
        for (int i = 0; i < c->n; i++) c->order[i] = c->n - 1 - i;
    for (int i = 0; i < c->n; i++) c->position[c->order[i]] = i;
}

void become(int t)
{
    c->current = t;
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
    const thread &other = c->threads[t];
    const char *what = other.at == state::barrier   ? "__syncthreads"
                       : other.at == state::yield   ? "a barrier of the grid"
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
    for (int t = 0; t < c->n; t++) { /* an exchange that lacks lanes is named first */
        if (c->threads[t].at != state::exchange) continue;
        for (int l = 0; l < 32; l++) {
            const int other = (t & ~31) + l;
            if (!(c->threads[t].mask >> l & 1) || other == t) continue;
            if (other >= c->n)
                simt_leave_kernel(cudaErrorLaunchFailure, "%s %s for lane %d, but the block ends before it",
                                  thread_name(t).text, whereabouts(t).text, l);
            const thread &o = c->threads[other];
            if (o.at != state::exchange || o.mask != c->threads[t].mask || o.kind != c->threads[t].kind ||
                o.line != c->threads[t].line)
                fail_waiting(t, other, "");
        }
    }
    for (int t = 0; t < c->n; t++) {
        const thread &me = c->threads[t];
        if (me.at == state::barrier && waiting < 0)
            waiting = t;
        else if (me.at != state::barrier ||
                 (waiting >= 0 &&
                  (me.line != c->threads[waiting].line || strcmp(me.file, c->threads[waiting].file) != 0)))
            elsewhere = t;
    }
    if (elsewhere >= 0) fail_waiting(waiting, elsewhere, ": a barrier is for all threads of the block");
    for (int t = 0; t < c->n; t++) c->threads[t].at = state::ready;
    const int order = chosen_order();
    if (order == SHUFFLED) order_threads(order);
    c->cursor = 0;
}

/* Who of the block runs next; -1: the block has ended, or waits for others. */
int next_of_block()
{
    for (;;) {
        for (; c->cursor < c->n; c->cursor++) {
            const state at = c->threads[c->order[c->cursor]].at;
            if (at == state::fresh || at == state::ready) return c->order[c->cursor];
        }
        if (c->done == c->n || c->yielding > 0) return -1;
        release_barrier();
    }
}

void order_blocks()
{
    const int order = chosen_order();
    std::iota(b.turns.begin(), b.turns.end(), 0);
    if (order == SHUFFLED) shuffle(b.turns.data(), (int64_t)b.turns.size());
    if (order == REVERSE) std::reverse(b.turns.begin(), b.turns.end());
}

void enter(block *next)
{
    c = next;
    blockIdx = c->index;
}

/* Nobody moves any more: who spins will spin for ever. */
[[noreturn]] void fail_together()
{
    const block *ended = nullptr;
    for (block &other : b.blocks)
        if (other.done == other.n) ended = &other;
    for (block &other : b.blocks)
        if (other.done < other.n) enter(&other);
    int t = 0;
    while (c->threads[t].at != state::yield) t++;
    c->current = t;
    if (ended)
        simt_leave_kernel(cudaErrorLaunchFailure, "%s, but block %u has ended", whereabouts(t).text,
                          ended->index.x);
    simt_leave_kernel(cudaErrorLaunchFailure, "%s, and so do all blocks: nobody comes", whereabouts(t).text);
}

/* All blocks together: each runs until it can only wait for others. False: all have ended. */
bool next_block()
{
    for (size_t seen = 0; seen <= b.turns.size(); seen++) {
        if (++b.turn >= b.turns.size()) {
            b.turn = 0;
            order_blocks();
            b.still = b.progress ? 0 : b.still + 1;
            b.progress = false;
            if (b.still > 100) fail_together();
        }
        block *next = &b.blocks[(size_t)b.turns[b.turn]];
        if (next->done == next->n) continue;
        enter(next);
        for (int t = 0; t < c->n && c->yielding > 0; t++)
            if (c->threads[t].at == state::yield) {
                c->threads[t].at = state::ready;
                c->yielding--;
            }
        c->cursor = 0;
        return true;
    }
    return false;
}

/* Who runs next; -1: the grid, or its only block, has ended. */
int next_thread()
{
    for (;;) {
        const int t = next_of_block();
        if (t >= 0) return t;
        if (b.turns.empty() || !next_block()) return -1;
    }
}

void work();

simt_fiber *idle_fiber()
{
    if (b.idle.empty()) {
        simt_fiber *fiber = simt_fiber_new(work);
        if (!fiber)
            simt_leave_kernel(cudaErrorMemoryAllocation, "no memory for the stacks of %d threads", c->n);
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
        const int t = c->current;
        b.grid->kernel->run();
        c->threads[t].at = state::done;
        c->done++;
        b.progress = true;
        const int next = next_thread();
        if (next >= 0) become(next);
        if (next >= 0 && c->threads[next].at == state::fresh) continue;
        b.idle.push_back(self);
        switch_to(next >= 0 ? c->threads[next].fiber : simt_fiber_of_caller());
    }
}

/* The current thread's state says what it waits for. */
void wait()
{
    const block *const mine = c;
    const int t = c->current;
    c->threads[t].fiber = self;
    const int next = next_thread();
    become(next);
    if (next != t || c != mine)
        switch_to(c->threads[next].at == state::fresh ? idle_fiber() : c->threads[next].fiber);
}

/* Its own allocation, so that AddressSanitizer sees where it ends. */
bool give_shared()
{
    void *shared = nullptr;
    if (b.grid->shared && posix_memalign(&shared, 16, b.grid->shared) != 0) {
        simt_fail(cudaErrorMemoryAllocation, "kernel %s: no memory for %zu bytes of shared memory",
                  b.grid->name, b.grid->shared);
        return false;
    }
    c->shared = static_cast<char *>(shared);
    return true;
}

void prepare_block(int64_t at)
{
    const dim3 &grid = b.grid->grid;
    c->index = {(unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y), (unsigned)(at / grid.x / grid.y)};
    for (int t = 0; t < c->n; t++) c->threads[t].at = state::fresh;
    memset(c->arrived, 0, sizeof c->arrived);
    c->done = c->cursor = c->yielding = 0;
    c->any = false;
    if (b.grid->shared) memset(c->shared, 0xff, b.grid->shared); /* NaN */
}

void run_prepared()
{
    enter(c);
    become(c->order[0]);
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
    return c->shared;
}

int simt_lane()
{
    return c->current & 31;
}

void simt_leave_kernel(cudaError_t error, const char *format, ...)
{
    char text[384];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    simt_fail(error, "kernel %s, block (%u, %u, %u), %s: %s", b.grid->name, blockIdx.x, blockIdx.y,
              blockIdx.z, thread_name(c->current).text, text);
    b.failed = true;
    switch_to(simt_fiber_of_caller());
    abort(); /* nobody comes back */
}

void cudaGridDependencySynchronize()
{
    b.begun++;
}

void simt_yield(const char *file, int line)
{
    thread &me = c->threads[c->current];
    if (b.turns.empty())
        simt_leave_kernel(cudaErrorLaunchFailure,
                          "%s:%d: waits for other blocks in a launch that is not "
                          "cooperative",
                          base_name(file), line);
    me.at = state::yield;
    me.file = file;
    me.line = line;
    c->yielding++;
    wait();
}

void __syncthreads(const char *file, int line)
{
    b.progress = true;
    thread &me = c->threads[c->current];
    me.at = state::barrier;
    me.file = file;
    me.line = line;
    wait();
}

int __syncthreads_or(int predicate, const char *file, int line)
{
    if (predicate) c->any = true;
    __syncthreads(file, line);
    const bool any = c->any;
    __syncthreads(file, line);
    c->any = false;
    __syncthreads(file, line);
    return any;
}

uint64_t simt_exchange(simt_exchange_kind kind, unsigned mask, uint64_t value, int source, const char *file,
                       int line)
{
    const int t = c->current, first = t & ~31;
    b.progress = true;
    thread &me = c->threads[t];
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
    bool complete = ++c->arrived[t / 32] >= __builtin_popcount(mask);
    for (int l = 0; l < 32 && complete; l++) {
        if (!(mask >> l & 1)) continue;
        const thread &o = c->threads[first + l];
        complete =
            first + l < c->n && o.at == state::exchange && o.mask == mask && o.kind == kind && o.line == line;
    }
    if (complete) {
        uint64_t votes = 0;
        for (int l = 0; l < 32; l++)
            if (mask >> l & 1) votes |= (uint64_t)(c->threads[first + l].value != 0) << l;
        for (int l = 0; l < 32; l++) {
            if (!(mask >> l & 1)) continue;
            thread &o = c->threads[first + l];
            o.result = kind == SIMT_SHUFFLE ? c->threads[first + o.source].value : votes;
            o.at = state::ready;
            c->arrived[t / 32]--;
            if (c->position[first + l] < c->cursor) c->cursor = c->position[first + l];
        }
    }
    wait();
    return me.result;
}

static void return_shared()
{
    for (block &other : b.blocks) {
        free(other.shared);
        other.shared = nullptr;
    }
}

static void run_in_turn(int64_t blocks)
{
    const int order = chosen_order();
    std::vector<uint32_t> shuffled;
    b.blocks.resize(1);
    c = &b.blocks[0];
    c->n = (int)(blockDim.x * blockDim.y * blockDim.z);
    order_threads(order);
    if (!give_shared()) {
        b.failed = true;
        return;
    }
    if (order == SHUFFLED) {
        shuffled.resize((size_t)blocks);
        std::iota(shuffled.begin(), shuffled.end(), 0u);
        shuffle(shuffled.data(), blocks);
    }
    for (int64_t i = 0; i < blocks && !b.failed; i++) {
        prepare_block(order == SHUFFLED ? shuffled[(size_t)i] : order == REVERSE ? blocks - 1 - i : i);
        run_prepared();
    }
}

static void run_together(int64_t blocks)
{
    b.blocks.resize((size_t)blocks);
    for (int64_t i = 0; i < blocks && !b.failed; i++) {
        c = &b.blocks[(size_t)i];
        c->shared = nullptr;
        c->n = (int)(blockDim.x * blockDim.y * blockDim.z);
        order_threads(chosen_order());
        b.failed = !give_shared();
        if (!b.failed) prepare_block(i);
    }
    if (b.failed) return;
    b.turns.resize((size_t)blocks);
    b.turn = 0;
    b.still = 0;
    b.progress = false;
    order_blocks();
    c = &b.blocks[(size_t)b.turns[0]];
    run_prepared();
}

bool simt_run_grid(const simt_grid &grid)
{
    const int64_t blocks = (int64_t)grid.grid.x * grid.grid.y * grid.grid.z;
    b.grid = &grid;
    b.random = 2026;
    b.failed = false;
    b.begun = 0;
    blockDim = grid.block;
    gridDim = grid.grid;
    b.running = true;
    if (grid.kind == SIMT_COOPERATIVE)
        run_together(blocks);
    else
        run_in_turn(blocks);
    b.running = false;
    if (!b.failed && grid.kind == SIMT_EARLY && b.begun < blocks * (int64_t)c->n) {
        simt_fail(cudaErrorLaunchFailure,
                  "kernel %s is launched early, but its threads do not wait for what is in front of it",
                  grid.name);
        return_shared();
        return false;
    }
    if (b.failed) abandon();
    return_shared();
    b.turns.clear();
    return !b.failed;
}
