/* Opening and closing: which back end serves a context. */
#include "backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/context.h"

static bool open_on(sl_context *ctx, const sl_backend *backend)
{
    ctx->device = backend->open(ctx, &ctx->options);
    if (ctx->device) ctx->backend = backend;
    return ctx->device != NULL;
}

static sl_context *refuse(sl_context *ctx)
{
    /* Static, so that it can be returned when memory is short; it only ever holds the last failed open's
     * text. */
    static _Thread_local sl_context failed;
    failed.code = ctx->code == SL_OK ? SL_MEMORY : ctx->code;
    failed.is_static = true;
    memcpy(failed.text, ctx->text, sizeof failed.text);
    if (ctx->code == SL_OK) snprintf(failed.text, sizeof failed.text, "sl_open: out of memory");
    free(ctx);
    return &failed;
}

sl_context *sl_open_with(const sl_open_options *options)
{
    static const sl_open_options defaults = {.device = SL_AUTO};
    sl_context *ctx = calloc(1, sizeof *ctx);
    if (!ctx) return refuse(&(sl_context){.code = SL_OK});
    ctx->options = options ? *options : defaults;
    ctx->owned.next = ctx->owned.previous = &ctx->owned;
    if (ctx->options.threads < 0 && ctx->options.threads != SL_NONE) {
        sl_fail(ctx, SL_ARGUMENT, "sl_open: threads is %d; it must be at least 1", ctx->options.threads);
        return refuse(ctx);
    }
    switch (ctx->options.device) {
    case SL_REFERENCE: open_on(ctx, &sl_backend_reference); break;
    case SL_CPU: open_on(ctx, &sl_backend_cpu); break;
    case SL_AUTO:
#ifdef SLOPE_CUDA
        if (open_on(ctx, &sl_backend_cuda)) break;
        sl_say(ctx, "%s; using the CPU", ctx->text);
        sl_clear_error(ctx);
#endif
        open_on(ctx, &sl_backend_cpu);
        break;
    case SL_CUDA:
#ifdef SLOPE_CUDA
        open_on(ctx, &sl_backend_cuda);
#else
        sl_fail(ctx, SL_UNSUPPORTED, "sl_open: this library was built without CUDA; use SL_CPU or SL_AUTO");
#endif
        break;
    default: sl_fail(ctx, SL_ARGUMENT, "sl_open: %d is no device kind", (int)ctx->options.device);
    }
    return ctx->backend ? ctx : refuse(ctx);
}

void sl_close(sl_context *ctx)
{
    if (!ctx || ctx->is_static) return;
    while (ctx->owned.next != &ctx->owned) {
        sl_owned *object = ctx->owned.next;
        sl_disown(object);
        object->free(object);
    }
    ctx->backend->close(ctx->device);
    free(ctx);
}

const char *sl_device_name(const sl_context *ctx)
{
    return ctx && ctx->backend ? ctx->backend->name : "none";
}

const char *sl_device_description(const sl_context *ctx)
{
    return ctx && ctx->backend ? ctx->backend->describe(ctx->device) : "no device";
}

const char *sl_cuda_architectures(void)
{
#ifdef SLOPE_CUDA
    return sl_backend_cuda.built_for;
#else
    return NULL;
#endif
}
