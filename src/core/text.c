#define _GNU_SOURCE
#include "core/text.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

float sl_text_to_float(const char *text, char **end)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return strtof(text, end);
    const float value = strtof_l(text, end, c);
    freelocale(c);
    return value;
}

sl_number_text sl_float_text(double value)
{
    sl_number_text out;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), old = c ? uselocale(c) : (locale_t)0;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(out.text, sizeof out.text, "%.*g", digits, value);
        if (strtof(out.text, NULL) == (float)value) break;
    }
    if (c) {
        uselocale(old);
        freelocale(c);
    }
    return out;
}
