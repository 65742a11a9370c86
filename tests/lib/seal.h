/* seal.h - right checksums for bytes that were changed on purpose
 *
 * So that fuzzers and tests get past the sums to what is behind them.
 */
#ifndef TEST_SEAL_H
#define TEST_SEAL_H

#include <stddef.h>
#include <stdint.h>

void seal_footer(uint8_t *raw); /* 512 bytes */
void seal_header(uint8_t *raw); /* 1024 bytes */

/* Both footers, the header the copy at 0 leads to, and the batmap behind its table, as far as
 * they lie in the @bytes of @image. */
void seal_image(uint8_t *image, size_t bytes);

#endif
