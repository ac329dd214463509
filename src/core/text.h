/* Numbers as text, with a decimal point whatever the locale says. */
#ifndef SL_CORE_TEXT_H
#define SL_CORE_TEXT_H

/* As strtof. */
float sl_text_to_float(const char *text, char **end);
/* As few digits as bring the float back exactly. */
typedef struct sl_number_text {
    char text[32];
} sl_number_text;
sl_number_text sl_float_text(double value);
/* The same for doubles. */
sl_number_text sl_double_text(double value);
double sl_text_to_double(const char *text, char **end);
#endif
