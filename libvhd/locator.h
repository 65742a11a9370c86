/* locator.h - the texts behind parent locator entries */
#ifndef VHD_LOCATOR_H
#define VHD_LOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "header.h"
#include "path.h"

#define LOCATOR_WI2R 0x57693272u /* relative Windows path, 8 bit, old */
#define LOCATOR_WI2K 0x5769326bu /* absolute Windows path, 8 bit, old */
#define LOCATOR_W2RU 0x57327275u /* relative Windows path, UTF-16LE */
#define LOCATOR_W2KU 0x57326b75u /* absolute Windows path, UTF-16LE */
#define LOCATOR_MAC  0x4d616320u /* Mac OS alias, opaque */
#define LOCATOR_MACX 0x4d616358u /* file URL, UTF-8 */

#define LOCATOR_LENGTH_MAX 65536u /* more is refused, whatever is claimed */

/* "W2ru" etc. for messages; "none" for 0, hex for what is unknown.  @buf has
 * at least 16 bytes. */
const char *locator_name(uint32_t code, char *buf);

/* Decode @bytes of locator data into a POSIX path.  @relative: to be looked up
 * from the child's directory.  Both byte orders of UTF-16 are accepted: LE is
 * the rule; data that only makes sense as BE (its ASCII bytes in odd places) is taken
 * as BE.  8-bit texts must be valid UTF-8 (ASCII in practice).
 * Windows absolute paths decode with *relative = false, and @windows_absolute
 * true: they name no file here.
 * Errors: VHD_E_LOCATOR for text that cannot be decoded, or is opaque. */
struct locator_path {
	bool relative;
	bool windows_absolute;
	char text[PATH_TEXT_MAX];
};
int locator_decode(uint32_t code, const uint8_t *data, size_t bytes, struct locator_path *out,
		   struct vhd_error *err);

/* Encode POSIX @path (relative ones as "./x", "../x") for @code into @out;
 * returns its length in bytes or VHD_E_NAME. */
int locator_encode(uint32_t code, const char *path, uint8_t *out, size_t room,
		   struct vhd_error *err);

/* Is the entry worth following: known text code, length sane (non-zero,
 * <= LOCATOR_LENGTH_MAX, even for UTF-16), data inside @file_bytes? */
bool locator_usable(const struct vhd_locator_entry *entry, uint64_t file_bytes);

#endif
