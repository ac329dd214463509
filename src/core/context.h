/* The context from the inside. */
#ifndef SL_CORE_CONTEXT_H
#define SL_CORE_CONTEXT_H

#include <signal.h>

#include "core/error.h"

/* Head of everything a context owns; closing the context calls `free` on what is left. */
typedef struct sl_owned {
    struct sl_owned *previous, *next;
    uint64_t serial; /* never used twice in a context: tells an object from a later one at the same address */
    void (*free)(struct sl_owned *self); /* called after the object has left the list */
} sl_owned;

struct sl_context {
    sl_status code;
    char text[1024];
    bool is_static; /* the context of a failed sl_open */
    sl_open_options options;
    const struct sl_backend *backend;
    struct sl_device *device;
    volatile sig_atomic_t interrupted;
    sl_owned owned; /* ring of owned objects */
    uint64_t serials;
};

void sl_own(sl_context *ctx, sl_owned *object, void (*free)(sl_owned *self));
void sl_disown(sl_owned *object); /* takes it off the list: somebody else frees it. Twice is fine */

/* calloc that reports SL_MEMORY with what it was for. */
void *sl_new(sl_context *ctx, size_t count, size_t size, const char *what);
#endif
