/* The safetensors file format: 8 bytes header length N (little endian), N bytes of JSON, then the tensors'
 * bytes side by side, C order, little endian. https://github.com/huggingface/safetensors, section "Format".
 */
#ifndef SL_DATA_SAFETENSORS_H
#define SL_DATA_SAFETENSORS_H

#include "core/error.h"
#include "core/shape.h"

/* Name in files, bytes per element. The format knows more of them; they are recognised and refused. */
#define SL_FILE_DTYPES(ROW)                                                                                  \
    ROW(F32, 4) /* float */                                                                                  \
    ROW(F64, 8) /* double: the reference device */                                                           \
    ROW(I32, 4) /* int32_t */                                                                                \
    ROW(I64, 8) /* int64_t */                                                                                \
    ROW(U8, 1)  /* uint8_t */

typedef enum sl_file_dtype {
#define ROW(id, size) SL_FILE_##id,
    SL_FILE_DTYPES(ROW)
#undef ROW
        SL_FILE_DTYPE_COUNT
} sl_file_dtype;

size_t sl_file_dtype_size(sl_file_dtype dtype);
const char *sl_file_dtype_name(sl_file_dtype dtype);

typedef struct sl_file_tensor {
    const char *name; /* UTF-8 */
    sl_file_dtype dtype;
    sl_shape shape;
    const void *data; /* aligned for its type; not to be read where a dimension is 0 */
} sl_file_tensor;

/* Limits of this reader and writer, so that a hostile file cannot cost more than its own size suggests. */
#define SL_FILE_MAX_HEADER  100000000 /* the format's own limit */
#define SL_FILE_MAX_ENTRIES 100000    /* tensors, and keys of the metadata */
#define SL_FILE_MAX_NAME    1024      /* bytes */
#define SL_FILE_MAX_DIMS    8         /* in a file; up to SL_MAX_DIMS are taken */

/* Writes `n` tensors in the given order and the metadata {key, value, key, value, …, NULL} (NULL: none). The
 * same arguments give the same bytes. The file appears whole or not at all (core/file.h). Give the tensors
 * with the widest elements first and others that read the file without copying find every one aligned. */
sl_status sl_safetensors_write(sl_context *ctx, const char *path, const sl_file_tensor *tensors, int n,
                               const char *const *metadata);

/* A file in memory, checked whole; the context owns it until sl_safetensors_free. */
typedef struct sl_safetensors sl_safetensors;

/* NULL after sl_fail: SL_IO (cannot be read), SL_FORMAT (malformed: the byte or the tensor is named),
 * SL_UNSUPPORTED (a type or a number of dimensions that the library has no use for), SL_MEMORY. */
sl_safetensors *sl_safetensors_read(sl_context *ctx, const char *path);

/* The same from memory: `bytes` came from malloc and belong to the result, or are freed on failure. `path` is
 * the name for error messages. */
sl_safetensors *sl_safetensors_parse(sl_context *ctx, const char *path, void *bytes, size_t size);
void sl_safetensors_free(sl_safetensors *file); /* NULL is fine */

/* What the file holds: tensors in the order of their bytes, metadata in the order of the header. What is
 * returned lives as long as the file. */
int sl_safetensors_count(const sl_safetensors *file);
const sl_file_tensor *sl_safetensors_at(const sl_safetensors *file, int i);
const sl_file_tensor *sl_safetensors_find(const sl_safetensors *file,
                                          const char *name);                      /* NULL: there is none */
const char *sl_safetensors_metadata(const sl_safetensors *file, const char *key); /* NULL: there is none */
int sl_safetensors_metadata_count(const sl_safetensors *file);
const char *sl_safetensors_metadata_at(const sl_safetensors *file, int i,
                                       const char **value); /* returns the key */
#endif
