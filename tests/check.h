/* What all cmocka programs start with, and a few shared helpers. */
#ifndef SL_TESTS_CHECK_H
#define SL_TESTS_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include <slope/slope.h>

/* |a - b| <= tolerance, with both numbers in the message. */
#define assert_near(a, b, tolerance)                                                                         \
    do {                                                                                                     \
        const double near_a = (a), near_b = (b);                                                             \
        if (!(fabs(near_a - near_b) <= (tolerance)))                                                         \
            fail_msg("%s is %.15g, expected %.15g ± %g", #a, near_a, near_b, (double)(tolerance));           \
    } while (0)

#define assert_ok(ctx)                                                                                       \
    do {                                                                                                     \
        if (sl_error(ctx)) fail_msg("%s", sl_error(ctx));                                                    \
    } while (0)

/* The pending error has this code and says all these words; it is cleared. */
static inline void expect_error(sl_context *ctx, sl_status code, const char *words)
{
    const char *text = sl_error(ctx);
    if (!text) fail_msg("expected an error about '%s', but there is none", words);
    if (sl_error_code(ctx) != code)
        fail_msg("expected '%s', got '%s': %s", sl_status_text(code), sl_status_text(sl_error_code(ctx)),
                 text);
    if (!strstr(text, words)) fail_msg("expected '%s' in: %s", words, text);
    sl_clear_error(ctx);
}
#endif
