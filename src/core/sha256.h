/* SHA-256 (FIPS 180-4), fed piece by piece. */
#ifndef SL_CORE_SHA256_H
#define SL_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SL_SHA256_TEXT 65 /* 64 hexadecimal digits and the final zero */

typedef struct sl_sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
} sl_sha256;

void sl_sha256_start(sl_sha256 *sha);
void sl_sha256_add(sl_sha256 *sha, const void *bytes, size_t count);

/* Ends the sum and writes it as small hexadecimal digits. Start again before the next use. */
void sl_sha256_text(sl_sha256 *sha, char text[SL_SHA256_TEXT]);
#endif
