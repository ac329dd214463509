/* The memory of the simulated device: a range of addresses that nobody may touch while host code runs.
 * Allocations end at a page that nobody may ever touch, and a freed address is never used again. */
#include "simt.h"

#include <csignal>
#include <cstdlib>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#    define POISON(at, bytes)   __asan_poison_memory_region((at), (bytes))
#    define UNPOISON(at, bytes) __asan_unpoison_memory_region((at), (bytes))
#else
#    define POISON(at, bytes)   ((void)(at), (void)(bytes))
#    define UNPOISON(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace
{

constexpr size_t range_bytes = (size_t)1 << 40, page = 4096;
constexpr size_t alignment =
    64; /* what every tensor has; CUDA gives 256, which would hide reads past an end */

struct allocation {
    char *pages; /* whole pages; the allocation ends where they end, but for less than `alignment` bytes */
    size_t mapped, bytes;
    bool alive;
};

char *range, *next_free;
size_t used_bytes;
std::map<char *, allocation> allocations;
int open_depth;
struct sigaction previous_action;

constexpr size_t filled_whole = (size_t)1 << 20;

/* The 64 bytes before an allocation and what lies behind it in its last page hold ones: NaN for who reads
 * them. */
constexpr unsigned char filler = 0xff;

size_t fence_before(const char *base, const allocation &a)
{
    const size_t before = (size_t)(base - a.pages);
    return before < alignment ? before : alignment;
}

size_t fence_behind(const char *base, const allocation &a)
{
    return (size_t)(a.pages + a.mapped - base) - a.bytes;
}

bool untouched(const char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)at[i] != filler) return false;
    return true;
}

void write_text(const char *text)
{
    if (write(2, text, strlen(text)) < 0) return;
}

void on_fault(int, siginfo_t *info, void *)
{
    if (simt_in_kernel())
        simt_leave_kernel(cudaErrorIllegalAddress, "touches %p, %s", info->si_addr,
                          simt_memory_holds(info->si_addr) ? "where no tensor lies or lives"
                                                           : "which is no device memory");
    if (simt_memory_holds(info->si_addr)) write_text("simulated device: host code touches device memory\n");
    sigaction(SIGSEGV, &previous_action, nullptr);
}

bool reserve()
{
    void *memory = mmap(nullptr, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    range = next_free = static_cast<char *>(memory);
    return true;
}

/* Before every launch, for a test program may set a handler of its own at any time. */
void handle_faults()
{
    struct sigaction action = {}, previous = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER; /* a fault in a kernel is left by switching stacks */
    sigaction(SIGSEGV, &action, &previous);
    if (!(previous.sa_flags & SA_SIGINFO) || previous.sa_sigaction != on_fault) previous_action = previous;
}

size_t limit_bytes()
{
    const char *text = getenv("SLOPE_SIMT_MEMORY");
    const long mebibytes = text ? atol(text) : 0;
    return (size_t)(mebibytes > 0 ? mebibytes : 4096) << 20;
}

void protect(const allocation &a, int protection)
{
    mprotect(a.pages, a.mapped, protection);
}

/* The allocation that covers an address, or end(). */
std::map<char *, allocation>::iterator find(const void *at)
{
    char *address = static_cast<char *>(const_cast<void *>(at));
    auto found = allocations.upper_bound(address);
    if (found == allocations.begin()) return allocations.end();
    --found;
    return address <= found->first + found->second.bytes ? found : allocations.end();
}

} // namespace

void *simt_memory_alloc(size_t bytes)
{
    if (!range && !reserve()) return nullptr;
    if (bytes == 0) bytes = 1;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    const size_t mapped = (rounded + page - 1) / page * page;
    if (bytes > limit_bytes() || used_bytes + mapped > limit_bytes()) return nullptr;
    if (next_free + mapped + 2 * page > range + range_bytes) return nullptr;
    const allocation a = {next_free + page, mapped, bytes, true};
    if (mprotect(a.pages, mapped, PROT_READ | PROT_WRITE) != 0) return nullptr;
    /* Large ones only where they begin and end: pages that are never touched cost nothing to open and close.
     */
    const size_t filled = mapped <= filled_whole ? mapped : page;
    memset(a.pages, filler, filled);
    memset(a.pages + mapped - filled, filler, filled);
    char *base = a.pages + mapped - rounded;
    if (open_depth == 0) protect(a, PROT_NONE);
    POISON(a.pages, (size_t)(base - a.pages));
    POISON(base + bytes, rounded - bytes);
    next_free += mapped + page;
    used_bytes += mapped;
    allocations[base] = a;
    return base;
}

bool simt_memory_free(void *memory)
{
    const auto found = allocations.find(static_cast<char *>(memory));
    if (found == allocations.end()) return false;
    const allocation a = found->second;
    protect(a, PROT_NONE);
    madvise(a.pages, a.mapped, MADV_DONTNEED);
    POISON(a.pages, a.mapped);
    used_bytes -= a.mapped;
    allocations.erase(found);
    return true;
}

void simt_memory_usage(size_t *used, size_t *limit)
{
    *used = used_bytes;
    *limit = limit_bytes();
}

bool simt_memory_holds(const void *address)
{
    const char *at = static_cast<const char *>(address);
    return range && at >= range && at < range + range_bytes;
}

bool simt_memory_covers(const void *at, size_t bytes)
{
    const auto found = find(at);
    if (found == allocations.end() || !found->second.alive) return false;
    return (size_t)(static_cast<const char *>(at) - found->first) + bytes <= found->second.bytes;
}

void simt_memory_open()
{
    if (open_depth++ > 0) return;
    handle_faults();
    for (const auto &entry : allocations)
        if (entry.second.alive) protect(entry.second, PROT_READ | PROT_WRITE);
}

void simt_memory_close()
{
    if (--open_depth > 0) return;
    for (const auto &entry : allocations) {
        const allocation &a = entry.second;
        if (!a.alive) continue;
#if !defined(__SANITIZE_ADDRESS__)
        const size_t before = fence_before(entry.first, a), behind = fence_behind(entry.first, a);
        if (!untouched(entry.first - before, before) || !untouched(entry.first + a.bytes, behind))
            simt_fail(cudaErrorIllegalAddress,
                      "something wrote outside of an allocation of %zu bytes, close to its %s", a.bytes,
                      untouched(entry.first + a.bytes, behind) ? "start" : "end");
#endif
        protect(a, PROT_NONE);
    }
}

void simt_life(void *memory, bool begins)
{
    const std::lock_guard<std::recursive_mutex> lock(simt_lock());
    const auto found = allocations.find(static_cast<char *>(memory));
    if (found == allocations.end()) return;
    found->second.alive = begins;
    if (begins)
        UNPOISON(found->first, found->second.bytes);
    else
        POISON(found->first, found->second.bytes);
    if (open_depth > 0) protect(found->second, begins ? PROT_READ | PROT_WRITE : PROT_NONE);
}
