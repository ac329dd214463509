/* The bytes of a file in order, unpacked where the file is gzip; from a file or from memory. */
#ifndef SL_DATA_SOURCE_H
#define SL_DATA_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slope/status.h"

/* Why something failed, as whole text, before it is known whether that matters (another mirror may work). */
typedef struct sl_problem {
    sl_status code;
    char text[900];
} sl_problem;

/* Sets the problem and returns false. */
bool sl_problem_set(sl_problem *problem, sl_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

typedef struct sl_source sl_source;

/* Gzip (RFC 1952) is known by its first two bytes, not by the name. Several members one after another count
 * as one content, as for gunzip; anything else after a member is refused. Messages call the file `name`,
 * which must live as long as the source; NULL: by its path. */
sl_source *sl_source_open(const char *path, sl_problem *problem);
sl_source *sl_source_memory(const char *name, const void *bytes, size_t size, sl_problem *problem);
void sl_source_close(sl_source *source);

/* Reads `count` bytes, fewer only at the end of the content; -1 where reading or unpacking fails. Unpacks no
 * more than is asked for. */
int64_t sl_source_read(sl_source *source, void *to, size_t count, sl_problem *problem);

const char *sl_source_name(const sl_source *source); /* fit for a message */
bool sl_source_packed(const sl_source *source);

/* An upper bound of the content's size, from the size of the file. Exact where the file is not packed. */
int64_t sl_source_most(const sl_source *source);
#endif
