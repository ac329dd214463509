#include "core/utf8.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the valid sequence at p, 0 where there is none. */
static size_t sequence(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xC2 && p[0] <= 0xDF   ? 2
               : (p[0] & 0xF0) == 0xE0        ? 3
               : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4
                                              : 0;
    if (n == 0 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    /* The second byte is narrower after the first and the last lead byte of each length, and before
     * surrogates. */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)) return 0;
    if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0;
    return n;
}

size_t sl_utf8_check(const char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0;
    while (at < size) {
        size_t n = sequence(p + at, size - at);
        if (n == 0) break;
        at += n;
    }
    return at;
}

enum { SHOWN = 240 };
static const char ELLIPSIS[] = "\xE2\x80\xA6";

static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F) *text = '?';
}

static int continues(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

sl_shown sl_show_name(const char *name)
{
    sl_shown shown = {{0}};
    if (!name) name = "(NULL)";
    size_t n = strlen(name);
    if (n > SHOWN) {
        n = SHOWN;
        while (n > SHOWN - 4 && continues(name[n])) n--;
        memcpy(shown.text + n, ELLIPSIS, sizeof ELLIPSIS);
    }
    memcpy(shown.text, name, n);
    clean(shown.text);
    return shown;
}

sl_shown sl_show_path(const char *path)
{
    sl_shown shown = {{0}};
    if (!path) path = "(NULL)";
    size_t n = strlen(path), at = 0;
    if (n > SHOWN) {
        path += n - SHOWN;
        n = SHOWN;
        while (n > SHOWN - 4 && continues(*path)) path++, n--;
        memcpy(shown.text, ELLIPSIS, sizeof ELLIPSIS - 1);
        at = sizeof ELLIPSIS - 1;
    }
    memcpy(shown.text + at, path, n);
    clean(shown.text);
    return shown;
}
