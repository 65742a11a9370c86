/* utf16.h - UTF-16 in both byte orders to and from UTF-8, strictly */
#ifndef VHD_UTF16_H
#define VHD_UTF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum utf16_order { UTF16_LE, UTF16_BE };

/* Decode at most @units code units, stopping at a NUL unit, into @out of
 * @room bytes, NUL-terminated.  Returns the length in bytes, or -EILSEQ for
 * unpaired surrogates and control characters, -ENAMETOOLONG. */
int utf16_decode(const uint8_t *in, size_t units, enum utf16_order order, char *out, size_t room);

/* Encode valid UTF-8.  Returns the number of units written, or -EILSEQ,
 * -ENAMETOOLONG when more than @max_units are needed.  No terminator. */
int utf16_encode(const char *in, enum utf16_order order, uint8_t *out, size_t max_units);

/* Is @text valid UTF-8 without control characters? */
bool utf16_valid_utf8(const char *text);

#endif
