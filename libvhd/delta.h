/* delta.h - what changed between two images, as an image of its own
 *
 * A delta is a differencing image of creator tap, laid out as plan.h lays out a new one, its blocks in
 * ascending order right behind each other, and before the end footer one sector more:
 *
 *   | copy | header | table | batmap | locators | slot | block … | record | footer |
 *   |<──────────────── hashed ───────────────────────────────────>|
 *
 * Its id is the new image's, its parent's the old one's: under the old image it is the new one.
 * Everything about it follows from its first sectors and the table: so it is sent and received in
 * one pass, its length known early, and the same two images give the same bytes again, of which any
 * part can be left out that has arrived.  To everybody else the record is free space.
 */
#ifndef VHD_DELTA_H
#define VHD_DELTA_H

#include "convert-dynamic.h"
#include "io.h"
#include "sha256.h"
#include "stream.h"

struct vhd_image;

/* The record.  Reserved bytes are zero. */
#define DELTA_COOKIE	   "vhddelta"
#define DELTA_RECORD_BYTES 512u
enum delta_layout {
	DELTA_RECORD_COOKIE = 0,
	DELTA_RECORD_VERSION = 8, /* be32: 1 */
	DELTA_RECORD_LENGTH = 16, /* be64: of what is hashed */
	DELTA_RECORD_HASH = 24,	  /* SHA-256 */
	DELTA_RECORD_RESERVED = 56,
};

void delta_record_encode(uint64_t length, const uint8_t hash[SHA256_BYTES],
			 uint8_t raw[DELTA_RECORD_BYTES]);
/* Is @raw just that record? */
bool delta_record_is(const uint8_t raw[DELTA_RECORD_BYTES], uint64_t length,
		     const uint8_t hash[SHA256_BYTES]);

/* Bytes of the whole delta whose last block ends at @blocks_end. */
static inline uint64_t delta_bytes(uint64_t blocks_end)
{
	return blocks_end + DELTA_RECORD_BYTES + VHD_FOOTER_BYTES;
}

/* ── receiving ── */

struct delta_receive {
	struct stream *in;
	struct vhd_io *io;	  /* what has arrived is stored here, from 0 on */
	const char *name;	  /* of the source, for messages */
	uint64_t have;		  /* bytes at io that arrived earlier */
	bool metadata_only;	  /* blocks are not stored */
	const uint8_t *parent_id; /* 16 bytes: another one is refused early; NULL: any */
	const struct vhd_progress *progress;
	/* results */
	struct vhd_footer footer;
	struct vhd_header header;
	uint64_t at;	/* bytes received, earlier ones included */
	uint64_t total; /* of the delta; 0: not known yet */
};

/* Receive a delta to its end and verify all of it.  Negative: what arrived is stored, and is
 * right as far as it goes unless the code is one of an image at fault (EUCLEAN).
 * Errors: VHD_E_TRUNCATED (ended early), VHD_E_DELTA (not a delta, or corrupted),
 * VHD_E_PARENT_ID, VHD_E_CANCELLED, and those of reading and writing. */
VHD_MUST int delta_receive(struct delta_receive *r, struct vhd_error *err);

/* The delta that @img was, or is: how long it was when it arrived, and its footer then; since, it may
 * have got a parent.  Unless @parent_id is NULL it must be a child of that image.
 * Errors: VHD_E_DELTA (it is another image), VHD_E_PARENT_ID, and those of reading. */
VHD_MUST int delta_length(struct vhd_image *img, const char *name, const uint8_t *parent_id,
			  uint8_t footer[VHD_FOOTER_BYTES], uint64_t *bytes, struct vhd_error *err);

/* Where the part of @path that has arrived is kept: ".NAME.delta" beside it; and, from when it is
 * whole and right until it is linked, ".NAME.delta.whole".  The caller's. */
char *delta_partial(const char *path);
char *delta_whole(const char *path);

#endif
