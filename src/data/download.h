/* One file from the network into memory: nothing touches the disk before its content has been checked. */
#ifndef SL_DATA_DOWNLOAD_H
#define SL_DATA_DOWNLOAD_H

#include "core/context.h"
#include "data/source.h"

/* Fetches `url`; *bytes is malloc'ed. False with the problem set, and nothing to free, where that fails: no
 * answer within 10 s, less than 1000 bytes a second for 30 s, an HTTP status of 400 or more, over 256 MiB,
 * sl_interrupt. `local` allows file:// beside http and https. */
bool sl_download(sl_context *ctx, const char *url, bool local, uint8_t **bytes, size_t *size,
                 sl_problem *problem);
#endif
