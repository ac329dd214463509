#include "core/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *sl_status_text(sl_status status)
{
    switch (status) {
#define ROW(id, text)                                                                                        \
    case SL_##id: return text;
        SL_STATUSES(ROW)
#undef ROW
    }
    return "unknown status";
}

sl_status sl_fail(sl_context *ctx, sl_status code, const char *format, ...)
{
    if (ctx && ctx->code == SL_OK && !ctx->is_static) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(ctx->text, sizeof ctx->text, format, arguments);
        va_end(arguments);
        ctx->code = code;
    }
    return code;
}

bool sl_ok(const sl_context *ctx)
{
    return ctx && ctx->code == SL_OK;
}

const char *sl_error(const sl_context *ctx)
{
    if (!ctx) return "there is no context (NULL)";
    return ctx->code == SL_OK ? NULL : ctx->text;
}

sl_status sl_error_code(const sl_context *ctx)
{
    return ctx ? ctx->code : SL_ARGUMENT;
}

void sl_clear_error(sl_context *ctx)
{
    if (ctx && !ctx->is_static) ctx->code = SL_OK;
}

void sl_interrupt(sl_context *ctx)
{
    if (ctx && !ctx->is_static) ctx->interrupted = 1;
}

void sl_say(sl_context *ctx, const char *format, ...)
{
    if (!ctx || !ctx->options.log) return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    ctx->options.log(ctx->options.log_data, line);
}

static bool is_zero_option(float value)
{
    const float zero = SL_ZERO;
    return memcmp(&value, &zero, sizeof value) == 0;
}

float sl_float_or(float value, float otherwise)
{
    if (is_zero_option(value)) return 0;
    return value == 0 ? otherwise : value;
}

int sl_int_or(int value, int otherwise)
{
    if (value == SL_NONE) return 0;
    return value == 0 ? otherwise : value;
}

void sl_own(sl_context *ctx, sl_owned *object, void (*free)(sl_owned *self))
{
    object->free = free;
    object->serial = ++ctx->serials;
    object->previous = &ctx->owned;
    object->next = ctx->owned.next;
    object->next->previous = object;
    ctx->owned.next = object;
}

void sl_disown(sl_owned *object)
{
    object->previous->next = object->next;
    object->next->previous = object->previous;
    object->previous = object->next = object;
}

void *sl_new(sl_context *ctx, size_t count, size_t size, const char *what)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) sl_fail(ctx, SL_MEMORY, "out of memory: %zu × %zu bytes for %s", count, size, what);
    return memory;
}
