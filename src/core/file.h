/* Files: read whole, or written so that others see the old content or the new one, never a part. */
#ifndef SL_CORE_FILE_H
#define SL_CORE_FILE_H

#include <stddef.h>

#include "core/error.h"

/* Reads a regular file into memory that the caller frees with free(). A folder, a pipe, a device, a file that
 * shrinks meanwhile: SL_IO, and *bytes is NULL. */
sl_status sl_file_read(sl_context *ctx, const char *path, void **bytes, size_t *size);

/* A file in the making. It lies beside its destination as PATH.tmp.PID.K until the commit; the destination is
 * left alone until all bytes are on the disk. Appending keeps the first failure, so it is enough to look at
 * the commit. */
typedef struct sl_file_writer sl_file_writer;

/* NULL after sl_fail: no such folder, no permission, the path is something else than a regular file. A
 * symbolic link is followed. */
sl_file_writer *sl_file_create(sl_context *ctx, const char *path);
sl_status sl_file_append(sl_file_writer *writer, const void *bytes, size_t size);

/* Puts the file in its place and frees the writer. After a failure, here or before, the temporary file is
 * gone and the destination is as it was. A NULL writer: the context's pending error. */
sl_status sl_file_commit(sl_context *ctx, sl_file_writer *writer);

/* Removes the temporary file and frees the writer; NULL is fine. */
void sl_file_abandon(sl_file_writer *writer);
#endif
