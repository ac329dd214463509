/* IDX files of unsigned bytes: 00 00 08 D, then D sizes of four bytes, the highest byte first, then the
 * bytes. */
#ifndef SL_DATA_IDX_H
#define SL_DATA_IDX_H

#include "core/sha256.h"
#include "data/source.h"

#define SL_IDX_MOST ((int64_t)INT32_MAX) /* bytes of content; more is refused before memory is taken */

/* What the file must be. Zero: anything. */
typedef struct sl_idx_want {
    int dims;      /* 1: labels, 3: images */
    int64_t count; /* images or labels */
    int64_t height, width;
    const char *as_in; /* where these come from, for the message */
} sl_idx_want;

typedef struct sl_idx_data {
    int64_t dim[3];              /* unused ones are 1 */
    int64_t size;                /* their product */
    uint8_t *bytes;              /* malloc'ed; free with free() */
    char sha256[SL_SHA256_TEXT]; /* of the whole content, header included */
} sl_idx_data;

/* False with the problem set, and nothing to free, where the content is anything but one IDX file of that
 * kind. */
bool sl_idx_read(sl_source *source, const sl_idx_want *want, sl_idx_data *out, sl_problem *problem);
/* The largest label + 1; false with the problem set where it is more than `most` (0: any). */
bool sl_idx_classes(const sl_idx_data *labels, const char *name, int most, int *classes, sl_problem *problem);
#endif
