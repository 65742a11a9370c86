/* vector.c - metadata of the format's test vectors, as they are written down */
#include "vector.h"

#include <stdlib.h>
#include <string.h>

static unsigned digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

unsigned vector_hex(uint8_t *out, const char *hex)
{
	unsigned n = 0;

	for (; *hex; hex++) {
		if (*hex == ' ')
			continue;
		if (!hex[1])
			abort(); /* half a byte */
		out[n++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
		hex++;
	}
	return n;
}

static const char *const footers[VECTORS] = {
	[VECTOR_FIXED] = "636f6e6563746978 00000002 00010000 ffffffffffffffff 2d733670 77696e20"
			 "000a0000 5769326b 0000000006400000 0000000006400000 03eb0c11 00000002"
			 "ffffe6fb 00112233445566778899aabbccddeeff",
	[VECTOR_DYNAMIC] = "636f6e6563746978 00000002 00010000 0000000000000200 2d733670 77696e20"
			   "000a0000 5769326b 0000000001000000 0000000001000000 01e10411 00000003"
			   "ffffef8e 00112233445566778899aabbccddeeff",
	[VECTOR_CHILD] = "636f6e6563746978 00000002 00010000 0000000000000200 2d7336b0 77696e20"
			 "000a0000 5769326b 0000000001000000 0000000001000000 01e10411 00000004"
			 "ffffefcc c0ffee0012344abc8def0123456789ab",
	[VECTOR_BATMAP] = "636f6e6563746978 00000002 00010000 0000000000000200 2d733670 74617000"
			  "00010003 00000000 0000000001000000 0000000001000000 01e10411 00000003"
			  "fffff57a 5eed5eed000040008000000000000042",
	[VECTOR_BATMAP_1_1] =
		"636f6e6563746978 00000002 00010000 0000000000000200 2d733670 74617000"
		"00010001 00000000 0000000001000000 0000000001000000 01e10411 00000003"
		"fffff57c 5eed5eed000040008000000000000042",
	[VECTOR_AZURE] = "636f6e6563746978 00000002 00010000 ffffffffffffffff 2ec79b96 77610000"
			 "00070000 5769326b 0000000140000000 0000000140000000 28a2103f 00000002"
			 "ffffe747 8c54df94bd35714c945fe5444453921a",
};

void vector_footer(enum vector which, uint8_t raw[VHD_FOOTER_BYTES])
{
	memset(raw, 0, VHD_FOOTER_BYTES);
	vector_hex(raw, footers[which]);
}

void vector_header(enum vector which, uint8_t raw[VHD_HEADER_BYTES])
{
	memset(raw, 0, VHD_HEADER_BYTES);
	vector_hex(raw, "6378737061727365 ffffffffffffffff 0000000000000600 00010000 00000008"
			"00200000 fffff46f");
	if (which != VECTOR_CHILD)
		return;
	vector_hex(raw + 0x24, "ffffe46d 00112233445566778899aabbccddeeff 2d733674 00000000"
			       "00760032002e007600680064");
	vector_hex(raw + 0x240, "57327275 00000200 00000010 00000000 0000000000000800"
				"57326b75 00000200 00000018 00000000 0000000000000a00"
				"4d616358 00000200 0000001a 00000000 0000000000000c00");
}

void vector_batmap(enum vector which, uint8_t raw[2 * VHD_SECTOR])
{
	memset(raw, 0, 2 * VHD_SECTOR);
	vector_hex(raw, "74646261746d6170 0000000000000a00 00000001");
	vector_hex(raw + 0x14, which == VECTOR_BATMAP ? "00010002 ffffff3f" : "00010001 0000003f");
	raw[VHD_SECTOR] = 0xc0;
}
