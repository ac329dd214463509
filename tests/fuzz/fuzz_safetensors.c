/* libFuzzer: any bytes are a safetensors file that is read whole or refused with a sentence. */
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "data/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition)
{
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_context ctx = {.owned = {.previous = &ctx.owned, .next = &ctx.owned}};
    void *bytes = malloc(size ? size : 1);
    if (!bytes) return 0;
    if (size) memcpy(bytes, data, size);
    sl_safetensors *file = sl_safetensors_parse(&ctx, "fuzz", bytes, size);
    demand(!file == !sl_ok(&ctx));
    if (!file) {
        demand(strlen(sl_error(&ctx)) > 10 && ctx.owned.next == &ctx.owned);
        return 0;
    }
    volatile unsigned sum = 0;
    for (int i = 0; i < sl_safetensors_count(file); i++) {
        const sl_file_tensor *tensor = sl_safetensors_at(file, i);
        demand(sl_safetensors_find(file, tensor->name) == tensor);
        const size_t element = sl_file_dtype_size(tensor->dtype);
        const size_t n = (size_t)sl_shape_count(tensor->shape) * element;
        demand(n <= size && (n == 0 || (uintptr_t)tensor->data % element == 0));
        for (size_t j = 0; j < n; j++) sum += ((const unsigned char *)tensor->data)[j];
    }
    for (int i = 0; i < sl_safetensors_metadata_count(file); i++) {
        const char *value, *key = sl_safetensors_metadata_at(file, i, &value);
        demand(sl_safetensors_metadata(file, key) == value);
    }
    sl_safetensors_free(file);
    demand(ctx.owned.next == &ctx.owned);
    return 0;
}
