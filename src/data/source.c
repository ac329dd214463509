#include "data/source.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifdef SLOPE_ZLIB
#    include <zlib.h>
#endif

#include "core/utf8.h"

#define BUFFER 65536
#define DEFLATE_MOST                                                                                         \
    1032 /* one byte of deflate data holds at most so many bytes (zlib's technical notes)                    \
          */

struct sl_source {
    sl_shown shown;
    const char *name; /* the text of `shown` */
    FILE *file;       /* NULL: from memory */
    const uint8_t *memory;
    int64_t size;   /* of the file as it lies there */
    int64_t loaded; /* bytes of it that have passed through the window */
    const uint8_t *next;
    size_t left; /* the window: bytes not yet used */
    bool packed;
#ifdef SLOPE_ZLIB
    z_stream stream;
    bool ended; /* the last member is complete */
#endif
    uint8_t buffer[BUFFER];
};

bool sl_problem_set(sl_problem *problem, sl_status code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
    problem->code = code;
    return false;
}

const char *sl_source_name(const sl_source *source)
{
    return source->name;
}

bool sl_source_packed(const sl_source *source)
{
    return source->packed;
}

int64_t sl_source_most(const sl_source *source)
{
    if (!source->packed) return source->size;
    return source->size > INT64_MAX / DEFLATE_MOST ? INT64_MAX : source->size * DEFLATE_MOST;
}

/* Makes the window hold at least one byte; false at the end of the file or where it cannot be read. */
static bool load(sl_source *source, sl_problem *problem)
{
    if (source->left > 0) return true;
    if (!source->file) return false;
    source->left = fread(source->buffer, 1, sizeof source->buffer, source->file);
    source->next = source->buffer;
    source->loaded += (int64_t)source->left;
    if (ferror(source->file))
        return sl_problem_set(problem, SL_IO, "%s: reading fails after byte %lld: %s", source->name,
                              (long long)source->loaded, strerror(errno));
    return source->left > 0;
}

static bool start_unpacking(sl_source *source, sl_problem *problem)
{
#ifdef SLOPE_ZLIB
    const int gzip_only = 16 + MAX_WBITS;
    if (inflateInit2(&source->stream, gzip_only) != Z_OK)
        return sl_problem_set(problem, SL_MEMORY, "%s: out of memory for unpacking", source->name);
    source->packed = true;
    return true;
#else
    return sl_problem_set(
        problem, SL_UNSUPPORTED,
        "%s is gzip, and Slope was built without zlib: unpack it with gunzip, or install zlib "
        "(Debian: zlib1g-dev) and build Slope again",
        source->name);
#endif
}

static sl_source *begin(sl_source *source, sl_problem *problem)
{
    problem->code = SL_OK;
    const bool some = load(source, problem);
    if (!some && problem->code == SL_OK && source->size == 0)
        sl_problem_set(problem, SL_FORMAT, "%s is empty (0 bytes)", source->name);
    else if (some && source->left >= 2 && source->next[0] == 0x1f && source->next[1] == 0x8b)
        start_unpacking(source, problem);
    if (problem->code == SL_OK) return source;
    sl_source_close(source);
    return NULL;
}

sl_source *sl_source_memory(const char *name, const void *bytes, size_t size, sl_problem *problem)
{
    sl_source *source = calloc(1, sizeof *source);
    if (!source) {
        sl_problem_set(problem, SL_MEMORY, "%s: out of memory for reading", sl_show_path(name).text);
        return NULL;
    }
    source->shown = sl_show_path(name);
    source->name = source->shown.text;
    source->size = source->loaded = (int64_t)size;
    source->next = source->memory = bytes;
    source->left = size;
    return begin(source, problem);
}

sl_source *sl_source_open(const char *path, sl_problem *problem)
{
    const sl_shown shown = sl_show_path(path);
    const char *name = shown.text;
    struct stat status;
    FILE *file = fopen(path, "rb");
    sl_source *source = NULL;
    if (!file)
        sl_problem_set(problem, SL_IO, "%s cannot be opened: %s", name, strerror(errno));
    else if (fstat(fileno(file), &status) != 0)
        sl_problem_set(problem, SL_IO, "%s cannot be examined: %s", name, strerror(errno));
    else if (!S_ISREG(status.st_mode))
        sl_problem_set(problem, SL_IO, "%s is %s, not a file", name,
                       S_ISDIR(status.st_mode) ? "a folder" : "a device or a pipe");
    else if (!(source = calloc(1, sizeof *source)))
        sl_problem_set(problem, SL_MEMORY, "%s: out of memory for reading", name);
    if (!source) {
        if (file) fclose(file);
        return NULL;
    }
    source->shown = shown;
    source->name = source->shown.text;
    source->file = file;
    source->size = (int64_t)status.st_size;
    return begin(source, problem);
}

void sl_source_close(sl_source *source)
{
    if (!source) return;
#ifdef SLOPE_ZLIB
    if (source->packed) inflateEnd(&source->stream);
#endif
    if (source->file) fclose(source->file);
    free(source);
}

#ifdef SLOPE_ZLIB
static long long packed_offset(const sl_source *source)
{
    return (long long)(source->loaded - (int64_t)source->left);
}

/* After a complete member: begins the next one, if there is one. False at the end of the file or on a
 * problem. */
static bool next_member(sl_source *source, sl_problem *problem)
{
    if (!load(source, problem)) return false;
    if (source->next[0] != 0x1f)
        return sl_problem_set(
            problem, SL_FORMAT,
            "%s: offset %lld of the gzip file: byte %02x after the end of the compressed data, where "
            "the file should end",
            source->name, packed_offset(source), source->next[0]);
    inflateReset(&source->stream);
    source->ended = false;
    return true;
}

static int64_t unpack(sl_source *source, uint8_t *to, size_t count, sl_problem *problem)
{
    z_stream *stream = &source->stream;
    size_t done = 0;
    while (done < count) {
        if (source->ended && !next_member(source, problem)) break;
        if (!load(source, problem)) {
            if (problem->code == SL_OK)
                sl_problem_set(
                    problem, SL_FORMAT,
                    "%s: the gzip file ends at offset %lld inside its compressed data (it is cut off)",
                    source->name, packed_offset(source));
            break;
        }
        const size_t want = count - done < (1u << 30) ? count - done : 1u << 30;
        const size_t have = source->left < (1u << 30) ? source->left : 1u << 30;
        stream->next_in = (uint8_t *)(uintptr_t)source->next;
        stream->avail_in = (uInt)have;
        stream->next_out = to + done;
        stream->avail_out = (uInt)want;
        const int result = inflate(stream, Z_NO_FLUSH);
        source->next += have - stream->avail_in;
        source->left -= have - stream->avail_in;
        done += want - stream->avail_out;
        if (result == Z_STREAM_END) {
            source->ended = true;
        } else if (result != Z_OK && result != Z_BUF_ERROR) {
            sl_problem_set(problem, result == Z_MEM_ERROR ? SL_MEMORY : SL_FORMAT,
                           "%s: offset %lld of the gzip file: the compressed data are damaged (%s)",
                           source->name, packed_offset(source), stream->msg ? stream->msg : zError(result));
            break;
        }
    }
    return problem->code == SL_OK ? (int64_t)done : -1;
}
#endif

int64_t sl_source_read(sl_source *source, void *to, size_t count, sl_problem *problem)
{
    problem->code = SL_OK;
#ifdef SLOPE_ZLIB
    if (source->packed) return unpack(source, to, count, problem);
#endif
    size_t done = 0;
    while (done < count && load(source, problem)) {
        const size_t part = source->left < count - done ? source->left : count - done;
        memcpy((uint8_t *)to + done, source->next, part);
        source->next += part;
        source->left -= part;
        done += part;
    }
    return problem->code == SL_OK ? (int64_t)done : -1;
}
