/* The header of a safetensors file as text, before any parser sees it. */
#ifndef SL_DATA_SAFETENSORS_SCAN_H
#define SL_DATA_SAFETENSORS_SCAN_H

#include <stdbool.h>
#include <stddef.h>

/* cJSON is more generous than the format: it takes control characters, invalid UTF-8, NUL in strings, any
 * number, and its tree can be many times as large as its text. This pass admits only what a header may be
 * made of: objects two deep, arrays of at most SL_FILE_MAX_DIMS whole numbers below 10^15, strings. The order
 * of the pieces it leaves to cJSON. text[length] must be NUL. Returns NULL, or what is wrong, with *at its
 * offset. */
const char *sl_safetensors_scan(const char *text, size_t length, size_t *at);

/* The white space of JSON. */
static inline bool sl_safetensors_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
#endif
