/* Stacks that hand control to each other: what the threads of a block run on. */
#ifndef SL_SIMT_FIBER_H
#define SL_SIMT_FIBER_H

#include <cstddef>

struct simt_fiber;

/* The caller's own stack as a fiber. One of these is enough: it stands for whoever starts a kernel. */
simt_fiber *simt_fiber_of_caller();
/* Starts in `entry` when first switched to; `entry` never returns. nullptr: out of memory. */
simt_fiber *simt_fiber_new(void (*entry)());
/* Forgets what the fiber was doing: it will start in `entry` again. */
void simt_fiber_restart(simt_fiber *fiber, void (*entry)());
void simt_fiber_switch(simt_fiber *from, simt_fiber *to);
/* Must be the first call in `entry`. */
void simt_fiber_started(simt_fiber *self);
#endif
