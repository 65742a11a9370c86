/* headers.h - the text of `read -p`: footer, header, locators and batmap in words */
#ifndef VHD_UTIL_HEADERS_H
#define VHD_UTIL_HEADERS_H

#include "libvhd/image.h"

/* Print all structures of the image.  @hex: numbers in hexadecimal.  Locators that cannot
 * be read say so in their place. */
void headers_print(struct vhd_image *image, bool hex);

/* "tap", "qemu": the creator's four bytes without what pads them, what is not ASCII as '?'.
 * @out has at least 5 bytes; returns it. */
const char *headers_creator(const struct vhd_footer *footer, char *out);

/* Seconds of the format as "2024-02-29T12:34:56Z"; @out has at least 32 bytes; returns it. */
const char *headers_time(uint32_t vhd_seconds, char *out);

#endif
