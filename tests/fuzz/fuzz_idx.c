/* libFuzzer target for the IDX and gzip reader. The first byte chooses images or labels, the rest is the
 * file.
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -DSLOPE_ZLIB -Iinclude -Isrc tests/fuzz/fuzz_idx.c \
 *       src/data/idx.c src/data/source.c src/core/sha256.c src/core/utf8.c -lz -o fuzz_idx && ./fuzz_idx
 * -max_total_time=60
 */
#include <stdlib.h>
#include <string.h>

#include "data/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0) return 0;
    const sl_idx_want want = {.dims = bytes[0] & 1 ? 1 : 3, .count = bytes[0] & 2 ? 3 : 0, .as_in = "fuzz"};
    sl_problem problem = {0};
    sl_source *source = sl_source_memory("fuzz", bytes + 1, size - 1, &problem);
    if (!source) {
        if (problem.code == SL_OK || problem.text[0] == 0) abort(); /* every refusal says why */
        return 0;
    }
    sl_idx_data idx;
    const int64_t most = sl_source_most(source);
    if (sl_idx_read(source, &want, &idx, &problem)) {
        if (idx.size != idx.dim[0] * idx.dim[1] * idx.dim[2] || idx.size > most) abort();
        if (want.count && idx.dim[0] != want.count) abort();
        if (strlen(idx.sha256) != 64) abort();
        uint8_t sum = 0;
        for (int64_t i = 0; i < idx.size; i++) sum ^= idx.bytes[i]; /* the sanitizer sees every byte */
        if (sum > 255) abort();
        free(idx.bytes);
    } else if (problem.code == SL_OK || problem.text[0] == 0 || idx.bytes) {
        abort();
    }
    sl_source_close(source);
    return 0;
}
