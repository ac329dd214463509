/* The digit generator: every image is a pure function of (seed, split, index). */
#ifndef SL_DATA_DIGITS_H
#define SL_DATA_DIGITS_H

#include <stdint.h>

#include "slope/data.h"

#define SL_DIGIT_SIDE   28
#define SL_DIGIT_PIXELS (SL_DIGIT_SIDE * SL_DIGIT_SIDE)

/* Draws image number `index` and returns the digit it shows. Images 10k … 10k+9 show every digit once. */
int sl_digit_draw(uint64_t seed, sl_split split, int64_t index, uint8_t image[SL_DIGIT_PIXELS]);
#endif
