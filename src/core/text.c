#define _GNU_SOURCE
#include "core/text.h"

#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

double sl_text_to_double(const char *text, char **end)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return strtod(text, end);
    const double value = strtod_l(text, end, c);
    freelocale(c);
    return value;
}

float sl_text_to_float(const char *text, char **end)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return strtof(text, end);
    const float value = strtof_l(text, end, c);
    freelocale(c);
    return value;
}

/* The first of so many digits up to `most` that brings the value back. */
static sl_number_text shortest(double value, int digits, int most, bool is_float)
{
    sl_number_text out;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), old = c ? uselocale(c) : (locale_t)0;
    for (; digits <= most; digits++) {
        snprintf(out.text, sizeof out.text, "%.*g", digits, value);
        if (is_float ? strtof(out.text, NULL) == (float)value : strtod(out.text, NULL) == value) break;
    }
    if (c) {
        uselocale(old);
        freelocale(c);
    }
    return out;
}

sl_number_text sl_float_text(double value)
{
    return shortest(value, 6, 9, true);
}

sl_number_text sl_double_text(double value)
{
    return shortest(value, 15, 17, false);
}
