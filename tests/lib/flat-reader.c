/* flat-reader.c - what a chain of images contains, read by a reader of its own */
#include "flat-reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t number(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *p++;
	return v;
}

/* The sum of all bytes but the four at @field, complemented, is what stands there. */
static bool sum_is_right(const uint8_t *p, size_t length, size_t field)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum += i >= field && i < field + 4 ? 0 : p[i];
	return (uint32_t)~sum == (uint32_t)number(p + field, 4);
}

static bool refuse(struct flat *f, unsigned layer, const char *what)
{
	snprintf(f->why, sizeof(f->why), "layer %u: %s", layer, what);
	return false;
}

static bool get(const struct flat_layer *l, void *buf, size_t length, uint64_t offset)
{
	return l->source.get(l->source.arg, buf, length, offset);
}

static bool open_sparse(struct flat *f, unsigned i, const uint8_t *footer)
{
	struct flat_layer *l = &f->layers[i];
	uint8_t copy[512], header[1024];
	uint32_t block;

	if (!get(l, copy, 512, 0) || memcmp(copy, footer, 512) != 0)
		return refuse(f, i, "the footer's copy differs");
	if (!get(l, header, 1024, number(footer + 16, 8)))
		return refuse(f, i, "no header");
	if (memcmp(header, "cxsparse", 8) != 0 || !sum_is_right(header, 1024, 36))
		return refuse(f, i, "bad header");
	l->table = number(header + 16, 8);
	block = (uint32_t)number(header + 32, 4);
	if (block < 4096 || block & (block - 1))
		return refuse(f, i, "odd block size");
	if (number(header + 28, 4) < (l->size + block - 1) / block)
		return refuse(f, i, "too few entries");
	l->block_sectors = block / 512;
	l->bitmap_bytes = (l->block_sectors + 4095) / 4096 * 512;
	memcpy(l->parent_id, header + 40, 16);
	return true;
}

static bool open_layer(struct flat *f, unsigned i)
{
	struct flat_layer *l = &f->layers[i];
	uint8_t footer[512];

	if (l->source.raw) {
		l->size = l->source.bytes;
		return true;
	}
	if (l->source.bytes < 512 || !get(l, footer, 512, l->source.bytes - 512))
		return refuse(f, i, "no footer");
	if (memcmp(footer, "conectix", 8) != 0 || !sum_is_right(footer, 512, 64))
		return refuse(f, i, "bad footer");
	l->type = (unsigned)number(footer + 60, 4);
	l->size = number(footer + 48, 8);
	memcpy(l->id, footer + 68, 16);
	if (l->size % 512)
		return refuse(f, i, "odd size");
	if (l->type == 2)
		return l->size + 512 == l->source.bytes || refuse(f, i, "odd file size");
	if (l->type != 3 && l->type != 4)
		return refuse(f, i, "odd type");
	return open_sparse(f, i, footer);
}

bool flat_open(struct flat *f, const struct flat_source *sources, unsigned depth)
{
	static const uint8_t zero[16];

	memset(f, 0, sizeof(*f));
	f->layers = calloc(depth, sizeof(*f->layers));
	f->depth = depth;
	for (unsigned i = 0; i < depth; i++) {
		struct flat_layer *l = &f->layers[i];
		bool last = i + 1 == depth;

		l->source = sources[i];
		if (!open_layer(f, i))
			return false;
		if ((l->type != 4) != last)
			return refuse(f, i, last ? "its parent is not given" : "has no parent");
		if (i && memcmp(f->layers[i - 1].parent_id, l->source.raw ? zero : l->id, 16) != 0)
			return refuse(f, i, "is not the parent of the one before");
	}
	return true;
}

void flat_release(struct flat *f)
{
	free(f->layers);
	f->layers = NULL;
}

static bool read_layer(struct flat *f, unsigned i, uint8_t *buf, uint64_t sector, uint64_t count);

/* Part of one block, allocated at @entry. */
static bool read_block(struct flat *f, unsigned i, uint32_t entry, uint8_t *buf, uint64_t sector,
		       uint64_t count)
{
	const struct flat_layer *l = &f->layers[i];
	uint64_t place = (uint64_t)entry * 512, first = sector % l->block_sectors;
	uint8_t *bits = malloc(l->bitmap_bytes);
	bool ok = bits && get(l, bits, l->bitmap_bytes, place);

	if (!ok)
		refuse(f, i, "a bitmap lies outside the file");
	place += l->bitmap_bytes;
	for (uint64_t k = 0; ok && k < count; k++) {
		uint8_t *to = buf + k * 512;
		bool bit = bits[(first + k) >> 3] >> (7 - (first + k) % 8) & 1;

		if (!bit && l->type == 4) {
			ok = read_layer(f, i + 1, to, sector + k, 1);
			continue;
		}
		if (!bit && l->source.decode) { /* what lies there is nothing */
			memset(to, 0, 512);
			continue;
		}
		ok = get(l, to, 512, place + (first + k) * 512);
		if (!ok)
			refuse(f, i, "a block lies outside the file");
		else if (l->source.decode)
			l->source.decode(to, sector + k);
		for (unsigned b = 0; ok && !bit && b < 512; b++)
			ok = !to[b] || refuse(f, i, "data under a clear bit");
	}
	free(bits);
	return ok;
}

static bool read_layer(struct flat *f, unsigned i, uint8_t *buf, uint64_t sector, uint64_t count)
{
	const struct flat_layer *l = &f->layers[i];
	uint64_t end = l->size / 512;

	if (i >= f->depth)
		end = 0;
	else if (l->source.raw)
		end = (l->size + 511) / 512;
	if (sector >= end || sector + count > end) { /* behind the end: zeros */
		uint64_t in = sector < end ? end - sector : 0;

		memset(buf + in * 512, 0, (count - in) * 512);
		count = in;
	}
	while (count) {
		uint64_t n = count, part;
		uint8_t raw[4];

		if (l->type == 0 || l->type == 2) {
			part = l->source.raw && (sector + n) * 512 > l->size ? l->size % 512 : 0;
			memset(buf + (n - 1) * 512, 0, 512);
			return get(l, buf, n * 512 - (part ? 512 - part : 0), sector * 512);
		}
		part = l->block_sectors - sector % l->block_sectors;
		n = n < part ? n : part;
		if (!get(l, raw, 4, l->table + sector / l->block_sectors * 4))
			return refuse(f, i, "the block table lies outside the file");
		if (number(raw, 4) != 0xffffffff) {
			if (!read_block(f, i, (uint32_t)number(raw, 4), buf, sector, n))
				return false;
		} else if (l->type == 3) {
			memset(buf, 0, n * 512);
		} else if (!read_layer(f, i + 1, buf, sector, n)) {
			return false;
		}
		buf += n * 512;
		sector += n;
		count -= n;
	}
	return true;
}

bool flat_read(struct flat *f, void *buf, uint64_t sector, uint64_t count)
{
	return read_layer(f, 0, buf, sector, count);
}

static bool file_get(void *arg, void *buf, size_t length, uint64_t offset)
{
	return pread(*(const int *)arg, buf, length, (off_t)offset) == (ssize_t)length;
}

struct flat_source flat_file(const int *fd, bool raw)
{
	struct stat st;
	union {
		const int *from;
		void *to;
	} arg = { .from = fd };

	if (fstat(*fd, &st) < 0)
		st.st_size = 0;
	return (struct flat_source){ file_get, arg.to, (uint64_t)st.st_size, raw, NULL };
}
