#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/file.h"
#include "core/utf8.h"
#include "data/safetensors.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are written as they lie in memory");

/* A growing text; after a failed allocation it stays as it is. */
typedef struct text {
    char *bytes;
    size_t size, room;
    bool failed;
} text;

static void add(text *out, const char *bytes, size_t n)
{
    if (out->failed) return;
    if (n > out->room - out->size) {
        size_t room = 2 * out->room + n + 256;
        char *grown = realloc(out->bytes, room);
        if (!grown) {
            out->failed = true;
            return;
        }
        out->bytes = grown;
        out->room = room;
    }
    memcpy(out->bytes + out->size, bytes, n);
    out->size += n;
}

static void add_text(text *out, const char *words)
{
    add(out, words, strlen(words));
}

static void add_number(text *out, int64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, number);
    add_text(out, digits);
}

static void add_string(text *out, const char *string)
{
    add(out, "\"", 1);
    for (const char *p = string; *p; p++) {
        if (*p == '"' || *p == '\\') add(out, "\\", 1);
        if ((unsigned char)*p >= 0x20) {
            add(out, p, 1);
        } else {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*p);
            add_text(out, escape);
        }
    }
    add(out, "\"", 1);
}

/* Of a checked tensor. */
static int64_t bytes_of(const sl_file_tensor *tensor)
{
    return sl_shape_count(tensor->shape) * (int64_t)sl_file_dtype_size(tensor->dtype);
}

static bool check_text(sl_context *ctx, const char *path, const char *what, const char *string, size_t limit)
{
    if (!string) {
        sl_fail(ctx, SL_ARGUMENT, "cannot write %s: %s is NULL", sl_show_path(path).text, what);
        return false;
    }
    const size_t size = strlen(string);
    if (size > limit)
        sl_fail(ctx, SL_ARGUMENT, "cannot write %s: %s '%s' has %zu bytes, the limit is %zu",
                sl_show_path(path).text, what, sl_show_name(string).text, size, limit);
    else if (sl_utf8_check(string, size) != size)
        sl_fail(ctx, SL_ARGUMENT, "cannot write %s: %s is not UTF-8 at its byte %zu", sl_show_path(path).text,
                what, sl_utf8_check(string, size));
    return sl_ok(ctx);
}

static bool check_tensor(sl_context *ctx, const char *path, const sl_file_tensor *tensor, int64_t *total)
{
    if (!check_text(ctx, path, "a tensor's name", tensor->name, SL_FILE_MAX_NAME)) return false;
    const char *why = NULL;
    int64_t bytes = (int64_t)sl_file_dtype_size(tensor->dtype);
    const sl_shape *shape = &tensor->shape;
    bool empty = false;
    if (bytes == 0) why = "an unknown element type";
    if (shape->n < 0 || shape->n > SL_MAX_DIMS) why = "an impossible number of dimensions";
    for (int i = 0; !why && i < shape->n; i++) {
        empty = empty || shape->dim[i] == 0;
        if (shape->dim[i] < 0)
            why = "a negative dimension";
        else if (shape->dim[i] > 0 && __builtin_mul_overflow(bytes, shape->dim[i], &bytes))
            why = "too many elements";
    }
    if (!why && __builtin_add_overflow(*total, empty ? 0 : bytes, total)) why = "too many elements";
    if (!why && !empty && !tensor->data) why = "no data";
    if (!strcmp(tensor->name, "__metadata__")) why = "a name that the format reserves";
    if (why)
        sl_fail(ctx, SL_ARGUMENT, "cannot write %s: tensor '%s' has %s", sl_show_path(path).text,
                sl_show_name(tensor->name).text, why);
    return !why;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Refuses a name that comes twice. `names` is sorted on return. */
static bool check_distinct(sl_context *ctx, const char *path, const char *what, const char **names, size_t n)
{
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(names[i - 1], names[i])) {
            sl_fail(ctx, SL_ARGUMENT, "cannot write %s: %s '%s' comes twice", sl_show_path(path).text, what,
                    sl_show_name(names[i]).text);
            return false;
        }
    return true;
}

static bool check_all(sl_context *ctx, const char *path, const sl_file_tensor *tensors, int n,
                      const char *const *metadata)
{
    size_t pairs = 0;
    int64_t total = 0;
    for (; metadata && metadata[2 * pairs]; pairs++)
        if (!check_text(ctx, path, "a metadata key", metadata[2 * pairs], SL_FILE_MAX_NAME) ||
            !check_text(ctx, path, "a metadata value", metadata[2 * pairs + 1], SL_FILE_MAX_HEADER))
            return false;
    if (n < 0 || n > SL_FILE_MAX_ENTRIES || pairs > SL_FILE_MAX_ENTRIES) {
        sl_fail(ctx, SL_ARGUMENT,
                "cannot write %s: %d tensors and %zu metadata keys, the limit is %d of each",
                sl_show_path(path).text, n, pairs, SL_FILE_MAX_ENTRIES);
        return false;
    }
    for (int i = 0; i < n; i++)
        if (!check_tensor(ctx, path, &tensors[i], &total)) return false;
    const char **names = sl_new(ctx, (size_t)n + pairs, sizeof *names, "the names in a file");
    if (!names) return false;
    for (int i = 0; i < n; i++) names[i] = tensors[i].name;
    for (size_t i = 0; i < pairs; i++) names[(size_t)n + i] = metadata[2 * i];
    bool fine = check_distinct(ctx, path, "tensor", names, (size_t)n) &&
                check_distinct(ctx, path, "metadata key", names + n, pairs);
    free(names);
    return fine;
}

static void add_header(text *out, const sl_file_tensor *tensors, int n, const char *const *metadata)
{
    const char *separator = "";
    add_text(out, "{");
    if (metadata && metadata[0]) {
        add_text(out, "\"__metadata__\":{");
        for (const char *const *p = metadata; *p; p += 2) {
            if (p != metadata) add_text(out, ",");
            add_string(out, p[0]);
            add_text(out, ":");
            add_string(out, p[1]);
        }
        add_text(out, "}");
        separator = ",";
    }
    int64_t offset = 0;
    for (int i = 0; i < n; i++) {
        add_text(out, separator);
        separator = ",";
        add_string(out, tensors[i].name);
        add_text(out, ":{\"dtype\":\"");
        add_text(out, sl_file_dtype_name(tensors[i].dtype));
        add_text(out, "\",\"shape\":[");
        for (int d = 0; d < tensors[i].shape.n; d++) {
            if (d) add_text(out, ",");
            add_number(out, tensors[i].shape.dim[d]);
        }
        add_text(out, "],\"data_offsets\":[");
        add_number(out, offset);
        offset += bytes_of(&tensors[i]);
        add_text(out, ",");
        add_number(out, offset);
        add_text(out, "]}");
    }
    add_text(out, "}");
    while (!out->failed && out->size % 8) add_text(out, " ");
}

sl_status sl_safetensors_write(sl_context *ctx, const char *path, const sl_file_tensor *tensors, int n,
                               const char *const *metadata)
{
    if (!sl_ok(ctx)) return sl_error_code(ctx);
    if (!check_all(ctx, path, tensors, n, metadata)) return sl_error_code(ctx);
    text header = {0};
    add_header(&header, tensors, n, metadata);
    sl_status status = SL_OK;
    if (header.failed)
        status =
            sl_fail(ctx, SL_MEMORY, "cannot write %s: no memory for its header", sl_show_path(path).text);
    else if (header.size > SL_FILE_MAX_HEADER)
        status = sl_fail(ctx, SL_ARGUMENT, "cannot write %s: its header has %zu bytes, the format allows %d",
                         sl_show_path(path).text, header.size, SL_FILE_MAX_HEADER);
    else {
        const uint64_t length = header.size;
        sl_file_writer *writer = sl_file_create(ctx, path);
        sl_file_append(writer, &length, sizeof length);
        sl_file_append(writer, header.bytes, header.size);
        for (int i = 0; i < n; i++) sl_file_append(writer, tensors[i].data, (size_t)bytes_of(&tensors[i]));
        status = sl_file_commit(ctx, writer);
    }
    free(header.bytes);
    return status;
}
