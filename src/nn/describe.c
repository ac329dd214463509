/* What a model file says, without building the model. */
#include <stdio.h>

#include "core/context.h"
#include "data/safetensors.h"
#include "slope/model.h"

sl_status sl_model_file_describe(sl_context *ctx, const char *path, const sl_model_file_reader *reader)
{
    if (!sl_ok(ctx)) return sl_error_code(ctx);
    sl_safetensors *file = sl_safetensors_read(ctx, path);
    if (!file) return sl_error_code(ctx);
    for (int i = 0; reader->metadata && i < sl_safetensors_metadata_count(file); i++) {
        const char *value = NULL, *key = sl_safetensors_metadata_at(file, i, &value);
        reader->metadata(reader->data, key, value);
    }
    for (int i = 0; reader->tensor && i < sl_safetensors_count(file); i++) {
        const sl_file_tensor *tensor = sl_safetensors_at(file, i);
        reader->tensor(reader->data, tensor->name, sl_file_dtype_name(tensor->dtype), tensor->shape);
    }
    sl_safetensors_free(file);
    return SL_OK;
}
