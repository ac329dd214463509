/* Text that comes from outside. */
#ifndef SL_CORE_UTF8_H
#define SL_CORE_UTF8_H

#include <stddef.h>

/* The offset of the first byte that does not belong to valid UTF-8 (Unicode 15, table 3-7: no overlong forms,
 * no surrogates, nothing above U+10FFFF); `size` where all is valid. */
size_t sl_utf8_check(const char *text, size_t size);

/* A name or a path for an error message: control characters become '?', and what is longer than 240 bytes is
 * cut, in the middle of a path the front is cut, of a name the end. */
typedef struct sl_shown {
    char text[256];
} sl_shown;
sl_shown sl_show_name(const char *name);
sl_shown sl_show_path(const char *path);
#endif
