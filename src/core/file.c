#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/utf8.h"

enum { TRANSFER = 1 << 30 }; /* bytes per system call: Linux moves at most 2 GiB at once */

static const char *kind(mode_t mode)
{
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

static sl_status read_all(sl_context *ctx, const char *path, int fd, void **bytes, size_t *size)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return sl_fail(ctx, SL_IO, "cannot read %s: %s", sl_show_path(path).text, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return sl_fail(ctx, SL_IO, "cannot read %s: it is %s, not a regular file", sl_show_path(path).text,
                       kind(status.st_mode));
    if ((uintmax_t)status.st_size >= SIZE_MAX)
        return sl_fail(ctx, SL_MEMORY, "cannot read %s: %lld bytes do not fit into memory",
                       sl_show_path(path).text, (long long)status.st_size);
    const size_t expected = (size_t)status.st_size;
    char *memory = malloc(expected ? expected : 1);
    if (!memory)
        return sl_fail(ctx, SL_MEMORY, "cannot read %s: no memory for its %zu bytes", sl_show_path(path).text,
                       expected);
    size_t have = 0;
    while (have < expected) {
        size_t want = expected - have < TRANSFER ? expected - have : TRANSFER;
        ssize_t got = read(fd, memory + have, want);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            const char *why = got < 0 ? strerror(errno) : "it became shorter while it was read";
            free(memory);
            return sl_fail(ctx, SL_IO, "cannot read %s at byte %zu: %s", sl_show_path(path).text, have, why);
        }
        have += (size_t)got;
    }
    *bytes = memory;
    *size = expected;
    return SL_OK;
}

sl_status sl_file_read(sl_context *ctx, const char *path, void **bytes, size_t *size)
{
    *bytes = NULL;
    *size = 0;
    if (!sl_ok(ctx)) return sl_error_code(ctx);
    if (!path || !*path) return sl_fail(ctx, SL_ARGUMENT, "cannot read a file without a name");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would wait for one */
    if (fd < 0) return sl_fail(ctx, SL_IO, "cannot read %s: %s", sl_show_path(path).text, strerror(errno));
    sl_status status = read_all(ctx, path, fd, bytes, size);
    close(fd);
    return status;
}

struct sl_file_writer {
    sl_context *ctx;
    sl_status status; /* the first failure */
    int fd;
    char *path;      /* the destination, links resolved */
    char *temporary; /* beside it */
};

static void free_writer(sl_file_writer *writer)
{
    free(writer->path);
    free(writer->temporary);
    free(writer);
}

static sl_status fail_write(sl_context *ctx, const char *path, const char *why)
{
    return sl_fail(ctx, SL_IO, "cannot write %s: %s", sl_show_path(path).text, why);
}

/* Opens a new file beside the destination, with the permissions that the umask leaves. */
static int open_temporary(sl_file_writer *writer)
{
    const char *slash = strrchr(writer->path, '/');
    const int folder = slash ? (int)(slash + 1 - writer->path) : 0;
    const size_t room = strlen(writer->path) + 64;
    writer->temporary = malloc(room);
    if (!writer->temporary) return -1;
    for (int k = 0; k < 1000; k++) {
        /* The name is cut so that the addition never makes it longer than a file system allows. */
        snprintf(writer->temporary, room, "%.*s%.200s.tmp.%ld.%d", folder, writer->path,
                 writer->path + folder, (long)getpid(), k);
        int fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

sl_file_writer *sl_file_create(sl_context *ctx, const char *path)
{
    if (!sl_ok(ctx)) return NULL;
    if (!path || !*path) {
        sl_fail(ctx, SL_ARGUMENT, "cannot write a file without a name");
        return NULL;
    }
    struct stat status;
    const bool exists = stat(path, &status) == 0;
    if (exists && !S_ISREG(status.st_mode)) {
        sl_fail(ctx, SL_IO, "cannot write %s: it is %s, not a regular file", sl_show_path(path).text,
                kind(status.st_mode));
        return NULL;
    }
    if (exists && access(path, W_OK) != 0) { /* a rename would not ask */
        fail_write(ctx, path, strerror(errno));
        return NULL;
    }
    if (path[strlen(path) - 1] == '/') {
        fail_write(ctx, path, "a folder's name stands where a file's is needed");
        return NULL;
    }
    sl_file_writer *writer = calloc(1, sizeof *writer);
    char *target = realpath(path, NULL); /* NULL for a new file */
    if (!target) target = strdup(path);
    if (!writer || !target) {
        free(writer);
        free(target);
        sl_fail(ctx, SL_MEMORY, "cannot write %s: out of memory", sl_show_path(path).text);
        return NULL;
    }
    writer->ctx = ctx;
    writer->path = target;
    writer->fd = open_temporary(writer);
    if (writer->fd < 0) {
        fail_write(ctx, path, errno == ENOENT ? "its folder does not exist" : strerror(errno));
        free_writer(writer);
        return NULL;
    }
    return writer;
}

sl_status sl_file_append(sl_file_writer *writer, const void *bytes, size_t size)
{
    if (!writer) return SL_IO;
    const char *from = bytes;
    while (size > 0 && writer->status == SL_OK) {
        ssize_t put = write(writer->fd, from, size < TRANSFER ? size : TRANSFER);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            writer->status = fail_write(writer->ctx, writer->path, strerror(put < 0 ? errno : ENOSPC));
            break;
        }
        from += put;
        size -= (size_t)put;
    }
    return writer->status;
}

void sl_file_abandon(sl_file_writer *writer)
{
    if (!writer) return;
    if (writer->fd >= 0) close(writer->fd);
    unlink(writer->temporary);
    free_writer(writer);
}

/* Makes the new name last. The file is in its place already, and not every file system can do this for a
 * folder, so only a failing disk counts as an error. */
static bool sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(folder);
    if (fd < 0) return true;
    bool fine = fsync(fd) == 0 || errno != EIO;
    close(fd);
    return fine;
}

sl_status sl_file_commit(sl_context *ctx, sl_file_writer *writer)
{
    if (!writer) return sl_error_code(ctx);
    if (writer->status == SL_OK && fsync(writer->fd) != 0)
        writer->status = fail_write(ctx, writer->path, strerror(errno));
    int closed = close(writer->fd); /* some network file systems report a full disk only here */
    writer->fd = -1;
    if (writer->status == SL_OK && closed != 0)
        writer->status = fail_write(ctx, writer->path, strerror(errno));
    if (writer->status == SL_OK && rename(writer->temporary, writer->path) != 0)
        writer->status = fail_write(ctx, writer->path, strerror(errno));
    if (writer->status != SL_OK) {
        sl_status status = writer->status;
        sl_file_abandon(writer);
        return status;
    }
    sl_status status = SL_OK;
    if (!sync_folder(writer->path))
        status = fail_write(ctx, writer->path, "it is complete, but the disk failed to record its name");
    free_writer(writer);
    return status;
}
