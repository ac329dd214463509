#include "data/safetensors_scan.h"

#include <string.h>

#include "core/utf8.h"
#include "data/safetensors.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Both scanners start at the first byte of their piece and move *at behind it, or to what is wrong. The NUL
 * behind the text ends all their loops. */
static const char *scan_string(const char *text, size_t length, size_t *at)
{
    const size_t start = (*at)++;
    while (text[*at] != '"') {
        if (*at >= length) {
            *at = start;
            return "a string that does not end";
        }
        if ((unsigned char)text[*at] < 0x20) return "a control character in a string";
        if (text[(*at)++] != '\\') continue;
        if (text[*at] == 'u') {
            for (size_t i = 1; i <= 4; i++)
                if (!is_hex(text[*at + i])) return "\\u without four hexadecimal digits";
            if (!memcmp(text + *at + 1, "0000", 4)) return "NUL in a string";
            *at += 5;
        } else if (text[*at] && strchr("\"\\/bfnrt", text[*at])) {
            ++*at;
        } else {
            return "an unknown escape in a string";
        }
    }
    ++*at;
    return NULL;
}

static const char *scan_array(const char *text, size_t *at)
{
    int numbers = 0;
    for (++*at; text[*at] != ']';) {
        if (is_digit(text[*at])) {
            size_t digits = 1;
            while (is_digit(text[*at + digits])) digits++;
            if (text[*at] == '0' && digits > 1) return "a number that starts with 0";
            if (digits > 15) return "a number that is too large"; /* shorter ones are exact in a double */
            if (++numbers > SL_FILE_MAX_DIMS) return "an array with more than 8 dimensions";
            *at += digits;
        } else if (sl_safetensors_space(text[*at]) || text[*at] == ',') {
            ++*at;
        } else {
            return text[*at] ? "an array that holds something else than whole numbers"
                             : "an array that does not end";
        }
    }
    ++*at;
    return NULL;
}

const char *sl_safetensors_scan(const char *text, size_t length, size_t *at)
{
    const size_t valid = sl_utf8_check(text, length);
    *at = 0;
    if (text[0] != '{') return "the header does not start with '{'";
    *at = valid;
    if (valid < length) return "the header is not UTF-8";
    int depth = 0, colons = 0;
    for (*at = 0; *at < length;) {
        const char c = text[*at];
        const char *why = NULL;
        if (c == '"')
            why = scan_string(text, length, at);
        else if (c == '[')
            why = scan_array(text, at);
        else if (c == '{' && ++depth > 2)
            why = "an object nested too deeply";
        else if (c == '}' && --depth < 0)
            why = "a closing brace too many";
        else if (c == ':' && ++colons > 5 * SL_FILE_MAX_ENTRIES)
            why = "too many entries";
        else if (c == '\0' || !(sl_safetensors_space(c) || strchr("{}:,", c)))
            why = "something else than objects, arrays of whole numbers and strings";
        else
            ++*at;
        if (why) return why;
    }
    return NULL;
}
