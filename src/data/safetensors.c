#include "data/safetensors.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/file.h"
#include "core/utf8.h"
#include "data/safetensors_scan.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used as they lie in the file");

struct sl_safetensors {
    sl_owned owned; /* first: the context frees what is left */
    void *bytes;    /* the file */
    void *aligned;  /* copies of tensors that lie askew in it, or NULL */
    cJSON *header;  /* holds the names and the metadata */
    sl_file_tensor *tensors;
    const sl_file_tensor **by_name;
    int count;
    const cJSON **metadata; /* in the order of the header */
    const cJSON **by_key;
    int metadata_count;
};

/* A file being read. */
typedef struct reader {
    sl_context *ctx;
    sl_shown path;
    const char *text; /* the header, with a NUL behind it */
    size_t length;
    size_t data_size;
} reader;

/* Where a tensor's bytes lie, relative to the data. */
typedef struct span {
    uint64_t begin, end;
    const cJSON *entry;
    int order; /* in the header */
} span;

size_t sl_file_dtype_size(sl_file_dtype dtype)
{
    static const size_t sizes[] = {
#define ROW(id, size) size,
        SL_FILE_DTYPES(ROW)
#undef ROW
    };
    return (unsigned)dtype < SL_FILE_DTYPE_COUNT ? sizes[dtype] : 0;
}

const char *sl_file_dtype_name(sl_file_dtype dtype)
{
    static const char *const names[] = {
#define ROW(id, size) #id,
        SL_FILE_DTYPES(ROW)
#undef ROW
    };
    return (unsigned)dtype < SL_FILE_DTYPE_COUNT ? names[dtype] : "unknown";
}

static bool bad_byte(const reader *r, size_t at, const char *why)
{
    sl_fail(r->ctx, SL_FORMAT, "%s is not a safetensors file: byte %zu: %s", r->path.text, 8 + at, why);
    return false;
}

/* --- the header as a tree --- */

static bool bad_tensor(const reader *r, const cJSON *entry, const char *why)
{
    sl_fail(r->ctx, SL_FORMAT, "%s is not a safetensors file: tensor '%s': %s", r->path.text,
            sl_show_name(entry->string).text, why);
    return false;
}

static cJSON *parse_header(const reader *r)
{
    const char *end = r->text;
    /* The NUL counts as part of the text: releases before 1.7.18 look at the byte behind it. */
    cJSON *header = cJSON_ParseWithLengthOpts(r->text, r->length + 1, &end, 0);
    size_t at = end >= r->text && end <= r->text + r->length ? (size_t)(end - r->text) : r->length;
    if (header) {
        while (at < r->length && sl_safetensors_space(r->text[at])) at++;
        if (at == r->length) return header;
        bad_byte(r, at, "the header goes on behind its closing brace");
    } else {
        bad_byte(r, at, "the header is not valid JSON here");
    }
    cJSON_Delete(header);
    return NULL;
}

static int by_string(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

/* The members of an object sorted by key, none twice; NULL after sl_fail. */
static const cJSON **sorted_members(const reader *r, const cJSON *object, int *count)
{
    int n = cJSON_GetArraySize(object);
    const cJSON **members = sl_new(r->ctx, (size_t)n, sizeof *members, "the header of a file");
    if (!members) return NULL;
    int i = 0;
    for (const cJSON *member = object->child; member; member = member->next) members[i++] = member;
    qsort(members, (size_t)n, sizeof *members, by_string);
    for (i = 1; i < n; i++)
        if (!strcmp(members[i - 1]->string, members[i]->string)) {
            sl_fail(r->ctx, SL_FORMAT, "%s is not a safetensors file: the key '%s' comes twice", r->path.text,
                    sl_show_name(members[i]->string).text);
            free(members);
            return NULL;
        }
    *count = n;
    return members;
}

static bool read_metadata(const reader *r, sl_safetensors *file, const cJSON *entry)
{
    if (!cJSON_IsObject(entry)) {
        sl_fail(r->ctx, SL_FORMAT, "%s is not a safetensors file: __metadata__ is not an object",
                r->path.text);
        return false;
    }
    file->by_key = sorted_members(r, entry, &file->metadata_count);
    if (!file->by_key) return false;
    const char *why = file->metadata_count > SL_FILE_MAX_ENTRIES ? "one of too many keys" : NULL;
    for (int i = 0; i < file->metadata_count; i++) {
        const cJSON *member = file->by_key[i];
        if (!why && !cJSON_IsString(member)) why = "not a string";
        if (!why && strlen(member->string) > SL_FILE_MAX_NAME) why = "a name of more than 1024 bytes";
        if (!why) continue;
        sl_fail(r->ctx, SL_FORMAT, "%s is not a safetensors file: __metadata__: '%s' is %s", r->path.text,
                sl_show_name(member->string).text, why);
        return false;
    }
    file->metadata = sl_new(r->ctx, (size_t)file->metadata_count, sizeof *file->metadata, "metadata");
    if (!file->metadata) return false;
    int i = 0;
    for (const cJSON *member = entry->child; member; member = member->next) file->metadata[i++] = member;
    return true;
}

static bool read_dtype(const reader *r, const cJSON *entry, const char *name, sl_file_dtype *dtype)
{
    static const char *const others[] = {"BOOL",        "F4",          "F6_E2M3", "F6_E3M2", "I8",  "F8_E5M2",
                                         "F8_E4M3",     "F8_E8M0",     "I16",     "U16",     "F16", "BF16",
                                         "F8_E4M3FNUZ", "F8_E5M2FNUZ", "U32",     "C64",     "U64"};
    for (int i = 0; i < SL_FILE_DTYPE_COUNT; i++)
        if (!strcmp(name, sl_file_dtype_name((sl_file_dtype)i))) {
            *dtype = (sl_file_dtype)i;
            return true;
        }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(name, others[i])) {
            sl_fail(r->ctx, SL_UNSUPPORTED,
                    "%s: tensor '%s' has elements of type %s; F32, F64, I32, I64 and U8 can be read",
                    r->path.text, sl_show_name(entry->string).text, name);
            return false;
        }
    return bad_tensor(r, entry, "an unknown dtype");
}

/* One tensor but for its data pointer. */
static bool read_tensor(const reader *r, const cJSON *entry, sl_file_tensor *tensor, span *place)
{
    const cJSON *dtype = NULL, *shape = NULL, *offsets = NULL;
    if (strlen(entry->string) > SL_FILE_MAX_NAME)
        return bad_tensor(r, entry, "a name of more than 1024 bytes");
    if (!cJSON_IsObject(entry)) return bad_tensor(r, entry, "its description is not an object");
    for (const cJSON *member = entry->child; member; member = member->next) {
        const cJSON **slot = !strcmp(member->string, "dtype")          ? &dtype
                             : !strcmp(member->string, "shape")        ? &shape
                             : !strcmp(member->string, "data_offsets") ? &offsets
                                                                       : NULL;
        if (!slot) return bad_tensor(r, entry, "a key that is none of dtype, shape, data_offsets");
        if (*slot) return bad_tensor(r, entry, "the same key twice");
        *slot = member;
    }
    if (!cJSON_IsString(dtype)) return bad_tensor(r, entry, "dtype is missing or not a string");
    if (!cJSON_IsArray(shape)) return bad_tensor(r, entry, "shape is missing or not an array");
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2)
        return bad_tensor(r, entry, "data_offsets is missing or not a pair");
    if (!read_dtype(r, entry, dtype->valuestring, &tensor->dtype)) return false;

    const int n = cJSON_GetArraySize(shape);
    if (n > SL_MAX_DIMS) {
        sl_fail(r->ctx, SL_UNSUPPORTED, "%s: tensor '%s' has %d dimensions; up to %d can be read",
                r->path.text, sl_show_name(entry->string).text, n, SL_MAX_DIMS);
        return false;
    }
    uint64_t bytes = sl_file_dtype_size(tensor->dtype);
    bool empty = false;
    for (const cJSON *dim = shape->child; dim; dim = dim->next) {
        tensor->shape.dim[tensor->shape.n++] = (int64_t)dim->valuedouble;
        if (dim->valuedouble == 0)
            empty = true;
        else if (__builtin_mul_overflow(bytes, (uint64_t)dim->valuedouble, &bytes) || bytes > INT64_MAX)
            return bad_tensor(r, entry, "its shape has too many elements");
    }
    place->begin = (uint64_t)offsets->child->valuedouble;
    place->end = (uint64_t)offsets->child->next->valuedouble;
    if (place->begin > place->end || place->end > r->data_size)
        return bad_tensor(r, entry, "data_offsets lie outside the file's data");
    if (place->end - place->begin != (empty ? 0 : bytes))
        return bad_tensor(r, entry, "data_offsets do not hold as many bytes as dtype and shape need");
    tensor->name = entry->string;
    return true;
}

static int by_place(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* The tensors must cover the data in order, without a hole and without sharing a byte. */
static bool check_cover(const reader *r, const span *places, int n)
{
    uint64_t end = 0;
    for (int i = 0; i < n; i++) {
        if (places[i].begin != end)
            return bad_tensor(r, places[i].entry,
                              places[i].begin < end ? "its bytes overlap another tensor's"
                                                    : "a hole before its bytes");
        end = places[i].end;
    }
    if (end == r->data_size) return true;
    sl_fail(r->ctx, SL_FORMAT,
            "%s is not a safetensors file: the tensors end at byte %zu, the file at byte %zu", r->path.text,
            8 + r->length + (size_t)end, 8 + r->length + r->data_size);
    return false;
}

/* Points every tensor at its bytes, or at an aligned copy. `places` are sorted, `tensors` not. */
static bool place_tensors(const reader *r, sl_safetensors *file, const span *places,
                          const sl_file_tensor *tensors)
{
    const char *data = (const char *)file->bytes + 8 + r->length;
    size_t room = 0;
    for (int i = 0; i < file->count; i++) {
        file->tensors[i] = tensors[places[i].order];
        file->tensors[i].data = data + places[i].begin;
        if ((uintptr_t)file->tensors[i].data % sl_file_dtype_size(file->tensors[i].dtype))
            room += ((size_t)(places[i].end - places[i].begin) + 7) / 8 * 8;
    }
    if (room == 0) return true;
    char *copy = file->aligned = malloc(room);
    for (int i = 0; copy && i < file->count; i++) {
        sl_file_tensor *tensor = &file->tensors[i];
        if ((uintptr_t)tensor->data % sl_file_dtype_size(tensor->dtype) == 0) continue;
        const size_t bytes = (size_t)(places[i].end - places[i].begin);
        memcpy(copy, tensor->data, bytes);
        tensor->data = copy;
        copy += (bytes + 7) / 8 * 8;
    }
    if (!copy) sl_fail(r->ctx, SL_MEMORY, "cannot read %s: no memory for %zu bytes", r->path.text, room);
    return copy;
}

static int by_tensor_name(const void *a, const void *b)
{
    return strcmp((*(const sl_file_tensor *const *)a)->name, (*(const sl_file_tensor *const *)b)->name);
}

static bool read_tensors(const reader *r, sl_safetensors *file, int n, sl_file_tensor *tensors, span *places)
{
    int i = 0;
    for (const cJSON *entry = file->header->child; entry; entry = entry->next) {
        if (!strcmp(entry->string, "__metadata__")) continue;
        places[i] = (span){.entry = entry, .order = i};
        if (!read_tensor(r, entry, &tensors[i], &places[i])) return false;
        i++;
    }
    qsort(places, (size_t)n, sizeof *places, by_place);
    if (!check_cover(r, places, n)) return false;
    file->count = n;
    file->tensors = sl_new(r->ctx, (size_t)n, sizeof *file->tensors, "the tensors of a file");
    file->by_name = sl_new(r->ctx, (size_t)n, sizeof *file->by_name, "the tensors of a file");
    if (!file->tensors || !file->by_name || !place_tensors(r, file, places, tensors)) return false;
    for (i = 0; i < n; i++) file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, (size_t)n, sizeof *file->by_name, by_tensor_name);
    return true;
}

static bool read_tree(const reader *r, sl_safetensors *file)
{
    int n = 0;
    const cJSON **members = sorted_members(r, file->header, &n);
    if (!members) return false;
    const cJSON key = {.string = (char *)"__metadata__"}, *wanted = &key;
    const cJSON **metadata = bsearch(&wanted, members, (size_t)n, sizeof *members, by_string);
    bool fine = !metadata || read_metadata(r, file, *metadata);
    n -= metadata != NULL;
    free(members);
    if (!fine) return false;
    if (n > SL_FILE_MAX_ENTRIES) {
        sl_fail(r->ctx, SL_FORMAT, "%s: %d tensors; up to %d can be read", r->path.text, n,
                SL_FILE_MAX_ENTRIES);
        return false;
    }
    sl_file_tensor *tensors = sl_new(r->ctx, (size_t)n, sizeof *tensors, "the tensors of a file");
    span *places = sl_new(r->ctx, (size_t)n, sizeof *places, "the tensors of a file");
    fine = tensors && places && read_tensors(r, file, n, tensors, places);
    free(tensors);
    free(places);
    return fine;
}

/* --- the file --- */

static bool read_bytes(reader *r, sl_safetensors *file, size_t size)
{
    uint64_t length;
    if (size < 8) {
        sl_fail(r->ctx, SL_FORMAT,
                "%s is not a safetensors file: it has %zu bytes, the header's length alone takes 8",
                r->path.text, size);
        return false;
    }
    memcpy(&length, file->bytes, sizeof length);
    if (length > SL_FILE_MAX_HEADER || length > size - 8) {
        sl_fail(r->ctx, SL_FORMAT,
                "%s is not a safetensors file: byte 0: a header of %llu bytes in a file of %zu (at most %d "
                "allowed)",
                r->path.text, (unsigned long long)length, size, SL_FILE_MAX_HEADER);
        return false;
    }
    r->length = (size_t)length;
    r->data_size = size - 8 - r->length;
    char *text = sl_new(r->ctx, r->length + 1, 1, "the header of a file");
    if (!text) return false;
    memcpy(text, (const char *)file->bytes + 8, r->length);
    r->text = text;
    size_t at;
    const char *why = sl_safetensors_scan(text, r->length, &at);
    if (why)
        bad_byte(r, at, why);
    else
        file->header = parse_header(r);
    free(text);
    r->text = NULL;
    return file->header && read_tree(r, file);
}

static void release(sl_owned *self)
{
    sl_safetensors *file = (sl_safetensors *)self;
    cJSON_Delete(file->header);
    free(file->bytes);
    free(file->aligned);
    free(file->tensors);
    free(file->by_name);
    free(file->metadata);
    free(file->by_key);
    free(file);
}

sl_safetensors *sl_safetensors_parse(sl_context *ctx, const char *path, void *bytes, size_t size)
{
    sl_safetensors *file = sl_ok(ctx) ? sl_new(ctx, 1, sizeof *file, "a file") : NULL;
    if (!file) {
        free(bytes);
        return NULL;
    }
    file->bytes = bytes;
    reader r = {.ctx = ctx, .path = sl_show_path(path)};
    if (!read_bytes(&r, file, size)) {
        release(&file->owned);
        return NULL;
    }
    sl_own(ctx, &file->owned, release);
    return file;
}

sl_safetensors *sl_safetensors_read(sl_context *ctx, const char *path)
{
    void *bytes;
    size_t size;
    if (sl_file_read(ctx, path, &bytes, &size) != SL_OK) return NULL;
    return sl_safetensors_parse(ctx, path, bytes, size);
}

void sl_safetensors_free(sl_safetensors *file)
{
    if (!file) return;
    sl_disown(&file->owned);
    release(&file->owned);
}

int sl_safetensors_count(const sl_safetensors *file)
{
    return file->count;
}

const sl_file_tensor *sl_safetensors_at(const sl_safetensors *file, int i)
{
    return &file->tensors[i];
}

const sl_file_tensor *sl_safetensors_find(const sl_safetensors *file, const char *name)
{
    const sl_file_tensor key = {.name = name}, *wanted = &key;
    const sl_file_tensor **found =
        bsearch(&wanted, file->by_name, (size_t)file->count, sizeof *file->by_name, by_tensor_name);
    return found ? *found : NULL;
}

const char *sl_safetensors_metadata(const sl_safetensors *file, const char *key)
{
    const cJSON item = {.string = (char *)key}, *wanted = &item;
    if (file->metadata_count == 0) return NULL;
    const cJSON **found =
        bsearch(&wanted, file->by_key, (size_t)file->metadata_count, sizeof *file->by_key, by_string);
    return found ? (*found)->valuestring : NULL;
}

int sl_safetensors_metadata_count(const sl_safetensors *file)
{
    return file->metadata_count;
}

const char *sl_safetensors_metadata_at(const sl_safetensors *file, int i, const char **value)
{
    if (value) *value = file->metadata[i]->valuestring;
    return file->metadata[i]->string;
}
