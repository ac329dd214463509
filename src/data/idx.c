#include "data/idx.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC 4 /* bytes */

static const char *kind(int dims)
{
    return dims == 1 ? "labels" : "images";
}

static const char *where(const sl_source *source)
{
    return sl_source_packed(source) ? " of the unpacked content" : "";
}

static bool check_magic(const sl_source *source, const uint8_t *magic, int dims, sl_problem *problem)
{
    const char *name = sl_source_name(source), *unpacked = where(source);
    if (magic[0] != 0 || magic[1] != 0)
        return sl_problem_set(
            problem, SL_FORMAT,
            "%s: offset 0%s: the first bytes are %02x %02x %02x %02x; an IDX file of %s begins 00 00 "
            "08 %02d%s%s",
            name, unpacked, magic[0], magic[1], magic[2], magic[3], kind(dims), dims,
            *unpacked ? "" : ", a gzip file 1f 8b",
            magic[0] == '<' || magic[1] == '<'
                ? "; this looks like a web page, saved in place of the file: delete it"
                : "");
    if (magic[2] != 8)
        return sl_problem_set(
            problem, SL_FORMAT,
            "%s: offset 2%s: the element type is %02x; only 08 (unsigned bytes) can be read", name, unpacked,
            magic[2]);
    if (magic[3] != dims)
        return sl_problem_set(problem, SL_FORMAT, "%s: offset 3%s: %d dimensions; a file of %s has %d%s",
                              name, unpacked, magic[3], kind(dims), dims,
                              magic[3] == 1 && dims == 3   ? " (this is a file of labels)"
                              : magic[3] == 3 && dims == 1 ? " (this is a file of images)"
                                                           : "");
    return true;
}

/* Takes the sizes from the header and checks them before any memory depends on them. */
static bool check_sizes(const sl_source *source, const uint8_t *header, const sl_idx_want *want,
                        sl_idx_data *out, sl_problem *problem)
{
    static const char *const names[3] = {"count", "height", "width"};
    const char *name = sl_source_name(source), *unpacked = where(source);
    const int64_t expected[3] = {want->count, want->height, want->width};
    const int64_t header_size = MAGIC + 4 * want->dims;
    out->size = 1;
    for (int i = 0; i < 3; i++) out->dim[i] = 1;
    for (int i = 0; i < want->dims; i++) {
        const uint8_t *at = header + MAGIC + 4 * i;
        const int64_t n = (int64_t)at[0] << 24 | (int64_t)at[1] << 16 | (int64_t)at[2] << 8 | at[3];
        const int offset = MAGIC + 4 * i;
        if (n == 0)
            return sl_problem_set(problem, SL_FORMAT, "%s: offset %d%s: the %s is 0; at least 1 is needed",
                                  name, offset, unpacked, names[i]);
        if (expected[i] > 0 && n != expected[i])
            return sl_problem_set(problem, SL_FORMAT,
                                  "%s: offset %d%s: the %s of the %s is %lld; right is %lld (as in %s)", name,
                                  offset, unpacked, names[i], kind(want->dims), (long long)n,
                                  (long long)expected[i], want->as_in);
        if (n > SL_IDX_MOST / out->size)
            return sl_problem_set(
                problem, SL_FORMAT,
                "%s: offset %d%s: the sizes up to this %s of %lld make more than 2 GiB, the most that "
                "is read",
                name, offset, unpacked, names[i], (long long)n);
        out->dim[i] = n;
        out->size *= n;
    }
    const int64_t most = sl_source_most(source);
    if (header_size + out->size > most && sl_source_packed(source))
        return sl_problem_set(
            problem, SL_FORMAT,
            "%s: the header promises %lld bytes of %s, more than a gzip file of this size can hold "
            "(%lld)",
            name, (long long)out->size, kind(want->dims), (long long)most);
    if (!sl_source_packed(source) && header_size + out->size != most)
        return sl_problem_set(
            problem, SL_FORMAT,
            "%s: the file has %lld bytes; its header (%lld bytes, %lld×%lld×%lld) promises %lld", name,
            (long long)most, (long long)header_size, (long long)out->dim[0], (long long)out->dim[1],
            (long long)out->dim[2], (long long)(header_size + out->size));
    return true;
}

bool sl_idx_read(sl_source *source, const sl_idx_want *want, sl_idx_data *out, sl_problem *problem)
{
    const char *name = sl_source_name(source), *unpacked = where(source);
    const int64_t header_size = MAGIC + 4 * want->dims;
    uint8_t header[MAGIC + 4 * 3] = {0}, beyond;
    memset(out, 0, sizeof *out);

    int64_t n = sl_source_read(source, header, (size_t)header_size, problem);
    if (n < 0) return false;
    if (n == 0) return sl_problem_set(problem, SL_FORMAT, "%s: the unpacked content is empty", name);
    if ((n >= MAGIC || header[0] != 0) && !check_magic(source, header, want->dims, problem)) return false;
    if (n < header_size)
        return sl_problem_set(problem, SL_FORMAT,
                              "%s: offset %lld%s: the content ends inside the header of %lld bytes", name,
                              (long long)n, unpacked, (long long)header_size);
    if (!check_sizes(source, header, want, out, problem)) return false;

    out->bytes = malloc((size_t)out->size);
    if (!out->bytes)
        return sl_problem_set(problem, SL_MEMORY, "%s: out of memory: %lld bytes for the %s", name,
                              (long long)out->size, kind(want->dims));
    n = sl_source_read(source, out->bytes, (size_t)out->size, problem);
    if (n >= 0 && n < out->size)
        sl_problem_set(problem, SL_FORMAT,
                       "%s: offset %lld%s: the content ends; its header promises %lld bytes", name,
                       (long long)(header_size + n), unpacked, (long long)(header_size + out->size));
    /* asking for one byte more also makes the unpacker check the sum at the end */
    else if (n == out->size && sl_source_read(source, &beyond, 1, problem) == 1)
        sl_problem_set(problem, SL_FORMAT,
                       "%s: offset %lld%s: the content goes on where its header lets it end", name,
                       (long long)(header_size + out->size), unpacked);
    if (problem->code != SL_OK) {
        free(out->bytes);
        out->bytes = NULL;
        return false;
    }
    sl_sha256 sum;
    sl_sha256_start(&sum);
    sl_sha256_add(&sum, header, (size_t)header_size);
    sl_sha256_add(&sum, out->bytes, (size_t)out->size);
    sl_sha256_text(&sum, out->sha256);
    return true;
}

bool sl_idx_classes(const sl_idx_data *labels, const char *name, int most, int *classes, sl_problem *problem)
{
    *classes = 0;
    for (int64_t i = 0; i < labels->size; i++) {
        const int label = labels->bytes[i];
        if (most > 0 && label >= most)
            return sl_problem_set(problem, SL_FORMAT,
                                  "%s: offset %lld: label %lld is %d; this data set's classes are 0 to %d",
                                  name, (long long)(MAGIC + 4 + i), (long long)i, label, most - 1);
        *classes = label + 1 > *classes ? label + 1 : *classes;
    }
    return true;
}
