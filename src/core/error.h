/* How the library reports failure: the context keeps the first error with its whole text. */
#ifndef SL_CORE_ERROR_H
#define SL_CORE_ERROR_H

#include "slope/context.h"

/* Records an error unless one is pending already; returns `code`. `format` is a whole sentence without a full
 * stop. */
sl_status sl_fail(sl_context *ctx, sl_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* True while no error is pending. */
bool sl_ok(const sl_context *ctx);

/* A message for the user through the log callback, if there is one. */
void sl_say(sl_context *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Option values: zero means `otherwise`, SL_ZERO / SL_NONE mean a real zero. */
float sl_float_or(float value, float otherwise);
int sl_int_or(int value, int otherwise);
#endif
