/* fuzz_note.c - the note beside an image that is half merged
 *
 * As it is, and with a right CRC in its place.
 */
#include <zlib.h>

#include "fuzz.h"
#include "libvhd/coalesce-state.h"

#define NOTE_MAX (512 + 4096)

static void decode(const char *text, size_t length)
{
	struct coalesce_state s = COALESCE_STATE_NONE;

	if (!coalesce_state_decode(text, length, &s))
		return;
	MUST(length >= 512);
	MUST(strnlen(s.child, sizeof(s.child)) < sizeof(s.child));
	MUST(!s.path && s.fd == -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text, *check;

	if (size > NOTE_MAX)
		size = NOTE_MAX;
	text = calloc(1, size + 1);
	memcpy(text, data, size);
	decode(text, size);
	check = strstr(text, "\ncheck ");
	if (check && (size_t)(check - text) + 7 + 9 < size) {
		uLong crc = crc32(0, (const Bytef *)text, (uInt)(check + 7 - text));
		char digits[16];

		snprintf(digits, sizeof(digits), "%08lx\n", crc);
		memcpy(check + 7, digits, 9);
		decode(text, size);
	}
	free(text);
	return 0;
}
