/* journal-make.c - see journal-make.h */
#include "journal-make.h"

#include <stdlib.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "libvhd/layout.h"
#include "seal.h"
#include "vector.h"

#define IMAGE_BYTES  2100224u
#define END	     (IMAGE_BYTES - 512u)
#define TABLE	     0x600u
#define BLOCK	     0x800u
#define BLOCK_BYTES  (512u + (2u << 20))
#define ENTRY_COOKIE 0xaaaa12344321aaaaull

struct mem_disk *journal_make_image(void)
{
	struct mem_disk *disk = mem_disk_new(IMAGE_BYTES, false);
	uint8_t raw[VHD_HEADER_BYTES];
	struct vhd_io *io;

	vector_footer(VECTOR_DYNAMIC, raw);
	mem_disk_poke(disk, raw, 512, 0);
	mem_disk_poke(disk, raw, 512, END);
	vector_header(VECTOR_DYNAMIC, raw);
	mem_disk_poke(disk, raw, sizeof(raw), 512);
	memset(raw, 0xff, 512);
	be32_store(raw, BLOCK / 512);
	mem_disk_poke(disk, raw, 512, TABLE);
	memset(raw, 0, 512);
	raw[0] = 0xc0;
	mem_disk_poke(disk, raw, 512, BLOCK);
	memset(raw, 0x11, 512);
	memset(raw + 512, 0x22, 512);
	mem_disk_poke(disk, raw, sizeof(raw), BLOCK + 512);
	io = mem_disk_open(disk, "original", true);
	if (io_sync(io))
		abort();
	io_close(io);
	return disk;
}

void journal_make_interrupted(struct mem_disk *image)
{
	uint8_t footer[512], junk[4096];
	struct vhd_io *io = mem_disk_open(image, "interrupted", true);

	memset(junk, 0x5a, sizeof(junk));
	mem_disk_peek(image, footer, sizeof(footer), END);
	memcpy(footer, VHD_COOKIE_POISON, 8);
	seal_footer(footer);
	if (io_write(io, junk, 1024, 512) || io_write(io, junk, 512, TABLE) ||
	    io_write(io, junk, sizeof(junk), BLOCK) || io_write(io, junk, 512, END) ||
	    io_write(io, footer, 512, 0) || io_write(io, footer, 512, END + 65536) || io_sync(io))
		abort();
	io_close(io);
}

static uint32_t sum(const uint8_t *p, size_t n)
{
	uint32_t s = 0;

	while (n--)
		s += *p++;
	return s;
}

static void seal_entry(uint8_t *entry, size_t room)
{
	uint32_t size = be32_load(entry + 12);

	if (size > room - 32)
		return;
	be32_store(entry + 24, 0);
	be32_store(entry + 24, ~sum(entry, 32 + (size_t)size));
}

void journal_make_seal(uint8_t *journal, size_t bytes)
{
	for (size_t at = 0; at + 32 <= bytes; at += 32)
		if (be64_load(journal + at) == ENTRY_COOKIE)
			seal_entry(journal + at, bytes - at);
}

static size_t add(uint8_t *to, uint32_t type, const struct mem_disk *image, uint32_t offset,
		  uint32_t size)
{
	memset(to, 0, 32);
	be64_store(to, ENTRY_COOKIE);
	be32_store(to + 8, type);
	be32_store(to + 12, size);
	be64_store(to + 16, offset);
	mem_disk_peek(image, to + 32, size, offset);
	seal_entry(to, 32 + (size_t)size);
	return 32 + (size_t)size;
}

struct mem_disk *journal_make(const struct mem_disk *original)
{
	uint8_t *raw = calloc(1, 512 + 5 * 32 + 2560 + BLOCK_BYTES);
	size_t at = 512, data;
	struct mem_disk *disk;

	memcpy(raw, "vjournal", 8);
	mem_disk_peek(original, raw + 8, 16, END + 68);
	be64_store(raw + 24, END);
	be32_store(raw + 32, 1);
	be32_store(raw + 36, 4);
	at += add(raw + at, 1, original, END, 512);
	at += add(raw + at, 2, original, 0, 512);
	at += add(raw + at, 3, original, 512, 1024);
	at += add(raw + at, 5, original, TABLE, 512);
	data = at;
	at += add(raw + at, 8, original, BLOCK, BLOCK_BYTES);
	be64_store(raw + 40, data);
	be64_store(raw + 48, 512);
	disk = mem_disk_new(at, false);
	mem_disk_poke(disk, raw, at, 0);
	free(raw);
	return disk;
}
