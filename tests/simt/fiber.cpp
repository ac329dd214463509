#include "fiber.h"

#include <cstdint>
#include <new>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#    include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#    include <ucontext.h>
#endif

namespace
{
/* The stack's pages come when touched. */
constexpr size_t page = 4096, guard_bytes = 64 * 1024, stack_bytes = 256 * 1024;
} // namespace

struct simt_fiber {
    char *stack; /* its lowest byte; nullptr: the caller's */
    const void *bottom;
    size_t size;
#if defined(__x86_64__)
    void *top; /* where the stack was left */
#else
    ucontext_t context;
#endif
    void *fake; /* of AddressSanitizer */
};

static simt_fiber caller;
static simt_fiber *left; /* by the last switch */

#if defined(__x86_64__)
/* Saves what a called function must keep, leaves the stack and goes on where the other one was left. */
extern "C" void simt_switch_stack(void **save, void *load);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl simt_switch_stack\n"
        ".hidden simt_switch_stack\n"
        ".type simt_switch_stack, @function\n"
        "simt_switch_stack:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size simt_switch_stack, .-simt_switch_stack\n");
#endif

simt_fiber *simt_fiber_of_caller()
{
    return &caller;
}

void simt_fiber_restart(simt_fiber *fiber, void (*entry)())
{
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber->stack, stack_bytes);
#endif
    fiber->fake = nullptr;
#if defined(__x86_64__)
    /* From the top: no return address, entry (reached by ret), six registers. */
    void **slot = reinterpret_cast<void **>(fiber->stack + stack_bytes);
    *--slot = nullptr;
    *--slot = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++) *--slot = nullptr;
    fiber->top = slot;
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = stack_bytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, entry, 0);
#endif
}

simt_fiber *simt_fiber_new(void (*entry)())
{
    /* The fiber itself lies in the first page: it is kept for ever, and no heap is to miss it. */
    const size_t bytes = page + guard_bytes + stack_bytes;
    void *memory = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    char *stack = static_cast<char *>(memory) + page + guard_bytes;
    if (mprotect(memory, page, PROT_READ | PROT_WRITE) != 0 ||
        mprotect(stack, stack_bytes, PROT_READ | PROT_WRITE) != 0) {
        munmap(memory, bytes);
        return nullptr;
    }
    simt_fiber *fiber = new (memory) simt_fiber{};
    fiber->stack = stack;
    fiber->bottom = stack;
    fiber->size = stack_bytes;
    simt_fiber_restart(fiber, entry);
    return fiber;
}

void simt_fiber_started(simt_fiber *self)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self->fake, &left->bottom, &left->size);
#endif
    (void)self;
}

void simt_fiber_switch(simt_fiber *from, simt_fiber *to)
{
    left = from;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->size);
#endif
#if defined(__x86_64__)
    simt_switch_stack(&from->top, to->top);
#else
    swapcontext(&from->context, &to->context);
#endif
    simt_fiber_started(from);
}
