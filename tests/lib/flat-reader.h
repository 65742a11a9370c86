/* flat-reader.h - what a chain of images contains, read by a reader of its own
 *
 * An oracle for tests: shares no code with libvhd, takes nothing from it but
 * bytes.  Slow and plain on purpose.  Parents are given by the caller.
 */
#ifndef TEST_FLAT_READER_H
#define TEST_FLAT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the bytes of one image are.  get() returns false past the end. */
struct flat_source {
	bool (*get)(void *arg, void *buf, size_t length, uint64_t offset);
	void *arg;
	uint64_t bytes;
	bool raw; /* no VHD: a disk as it is */
	/* Sectors that are present are encrypted, and made clear by this; NULL: they are clear. */
	void (*decode)(uint8_t *data, uint64_t sector);
};

struct flat_layer {
	struct flat_source source;
	unsigned type;	/* 2, 3, 4; 0: raw */
	uint64_t size;	/* virtual, bytes */
	uint64_t table; /* of the BAT, bytes */
	uint32_t block_sectors, bitmap_bytes;
	uint8_t id[16], parent_id[16];
};

struct flat {
	unsigned depth;
	struct flat_layer *layers; /* leaf first */
	char why[256];		   /* after a failure */
};

/* Both footers, the header and the ids along the chain must be right.  False: see why.
 * Released by the caller in any case. */
bool flat_open(struct flat *flat, const struct flat_source *sources, unsigned depth);
void flat_release(struct flat *flat);

static inline uint64_t flat_size(const struct flat *flat)
{
	return flat->layers[0].size;
}

/* Whole sectors of the disk.  A present sector of a dynamic image whose bit is clear must be
 * zero on disk, since readers disagree about such ones: else false. */
bool flat_read(struct flat *flat, void *buf, uint64_t sector, uint64_t count);

/* A source over a file descriptor, borrowed. */
struct flat_source flat_file(const int *fd, bool raw);

#endif
