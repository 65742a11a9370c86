/* vector.h - the metadata of the images of doc/format.md "Vectors", byte by byte */
#ifndef TEST_VECTOR_H
#define TEST_VECTOR_H

#include <stdint.h>

#include "libvhd/layout.h"

/* Hex digits, spaces ignored, to @out; returns how many bytes. */
unsigned vector_hex(uint8_t *out, const char *hex);

enum vector {
	VECTOR_FIXED,	   /* 100 MiB, creator "win " */
	VECTOR_DYNAMIC,	   /* 16 MiB, one block */
	VECTOR_CHILD,	   /* its child, three locators */
	VECTOR_BATMAP,	   /* 16 MiB, creator "tap" 1.3 */
	VECTOR_BATMAP_1_1, /* the same by "tap" 1.1 */
	VECTOR_AZURE,	   /* 5 GiB, exported by Azure: footer only */
	VECTORS
};

void vector_footer(enum vector which, uint8_t raw[VHD_FOOTER_BYTES]);
/* Of VECTOR_DYNAMIC (VECTOR_BATMAP has the same) or VECTOR_CHILD. */
void vector_header(enum vector which, uint8_t raw[VHD_HEADER_BYTES]);
/* Header, then map, of the two with a batmap. */
void vector_batmap(enum vector which, uint8_t raw[2 * VHD_SECTOR]);

#endif
