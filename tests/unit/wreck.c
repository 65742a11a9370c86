/* wreck.c - making, storing and reading images that are damaged */
#include "wreck.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "libvhd/base/number.h"
#include "libvhd/layout.h"
#include "tests/lib/edit.h"

#define CHUNK (64u << 10)

static void must(int rc, const struct vhd_error *err)
{
	ck_assert_msg(rc >= 0, "%s", err->text);
}

/* Some bytes, not all zero, to the image and to @flat. */
static void put(struct wreck *w, struct vhd_chain *chain, uint64_t at, uint64_t length)
{
	struct vhd_error err = { 0 };

	for (uint64_t i = 0; i < length; i += 8) {
		uint64_t x = rng_next(&w->rng) | 1;

		memcpy(w->flat + at + i, &x, 8);
	}
	must(vhd_write(chain, w->flat + at, length, at, &err), &err);
}

static void fill(struct wreck *w, const char *path)
{
	static const uint8_t order[] = { 3, 1, 9, 10, 11, 30, 31, 17 };
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;

	must(vhd_open(path, &o, &chain, &err), &err);
	for (unsigned i = 0; i < sizeof(order); i++) {
		uint64_t at = (uint64_t)order[i] << 21;

		if (i % 3)
			put(w, chain, at + (rng_below(&w->rng, 400) << 12),
			    8 << 12 << rng_below(&w->rng, 3));
		else
			put(w, chain, at, 2u << 20);
	}
	must(vhd_close(chain, &err), &err);
}

static void learn(struct wreck *w)
{
	const uint8_t *header = w->bytes + VHD_FOOTER_BYTES;
	uint64_t table = be64_load(header + HEADER_TABLE_OFFSET);

	w->block_size = be32_load(header + HEADER_BLOCK_SIZE);
	w->blocks = (WRECK_SIZE + w->block_size - 1) / w->block_size;
	w->entries = calloc(w->blocks, sizeof(*w->entries));
	w->data_start = w->length;
	for (uint32_t i = 0; i < w->blocks; i++) {
		w->entries[i] = be32_load(w->bytes + table + 4ull * i);
		if (w->entries[i] != VHD_BAT_UNUSED)
			w->data_start = number_min(w->data_start,
						   (uint64_t)w->entries[i] * VHD_SECTOR);
	}
}

void wreck_make(struct wreck *w, enum wreck_kind kind, uint64_t seed)
{
	struct vhd_create_options o = { .type = VHD_TYPE_DYNAMIC,
					.size = WRECK_SIZE,
					.force = true,
					.creator = kind == WRECK_QEMU ? "qem2" : NULL };
	struct vhd_snapshot_options s = { .link_empty = true, .force = true };
	struct vhd_error err = { 0 };

	/* large buffers come and go: keep their pages */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	*w = (struct wreck){ .kind = kind, .rng = { seed } };
	w->flat = calloc(1, WRECK_SIZE);
	if (kind == WRECK_CHILD) {
		must(vhd_create("p.vhd", &o, &err), &err);
		fill(w, "p.vhd");
		must(vhd_snapshot(WRECK_NAME, "p.vhd", &s, &err), &err);
	} else {
		must(vhd_create(WRECK_NAME, &o, &err), &err);
	}
	fill(w, WRECK_NAME);
	w->bytes = wreck_load(WRECK_NAME, &w->length);
	learn(w);
}

void wreck_release(struct wreck *w)
{
	free(w->bytes);
	free(w->flat);
	free(w->entries);
}

void wreck_store(const uint8_t *bytes, uint64_t length)
{
	static const uint8_t zeros[CHUNK];
	DIR *dir = opendir(".");
	struct dirent *e;
	int fd;

	while ((e = readdir(dir)))
		if (strstr(e->d_name, ".repair-"))
			unlink(e->d_name);
	closedir(dir);
	fd = open(WRECK_NAME, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	ck_assert(fd >= 0 && ftruncate(fd, (off_t)length) == 0);
	for (uint64_t at = 0; at < length; at += CHUNK) {
		size_t n = number_min(CHUNK, length - at);

		if (memcmp(bytes + at, zeros, n) != 0)
			ck_assert(pwrite(fd, bytes + at, n, (off_t)at) == (ssize_t)n);
	}
	close(fd);
}

uint8_t *wreck_load(const char *path, uint64_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *bytes;

	ck_assert(fd >= 0 && fstat(fd, &st) == 0);
	*length = (uint64_t)st.st_size;
	bytes = malloc(*length + 1);
	ck_assert(read(fd, bytes, *length) == (ssize_t)*length);
	close(fd);
	return bytes;
}

void wreck_on_lost(void *arg, const struct vhd_lost *lost)
{
	struct wreck_lost *l = arg;

	ck_assert_uint_lt(l->count, sizeof(l->list) / sizeof(l->list[0]));
	l->list[l->count++] = *lost;
}

static bool is_lost(const struct wreck_lost *lost, uint64_t at)
{
	for (unsigned i = 0; lost && i < lost->count; i++)
		if (at >= lost->list[i].offset && at < lost->list[i].offset + lost->list[i].length)
			return true;
	return false;
}

/* Sectors of [at, at + length) that are not as they should be. */
static uint64_t wrong_in(const struct wreck *w, const uint8_t *buf, uint64_t at, uint64_t length,
			 const struct wreck_lost *lost, uint64_t *first)
{
	uint64_t wrong = 0;

	if (!memcmp(buf, w->flat + at, length))
		return 0;
	for (uint64_t i = 0; i < length; i += VHD_SECTOR) {
		if (!memcmp(buf + i, w->flat + at + i, VHD_SECTOR) || is_lost(lost, at + i))
			continue;
		if (!wrong)
			*first = at + i;
		wrong += VHD_SECTOR;
	}
	return wrong;
}

uint64_t wreck_compare(const struct wreck *w, const char *path, const struct wreck_lost *lost,
		       bool may_fail, uint64_t *at)
{
	struct vhd_open_options o = { .flags = 0 };
	static uint8_t buf[CHUNK];
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;
	uint64_t wrong = 0;

	*at = 0;
	if (vhd_open(path, &o, &chain, &err) < 0)
		return UINT64_MAX;
	ck_assert_uint_eq(vhd_size(chain), WRECK_SIZE);
	for (uint64_t i = 0; i < WRECK_SIZE; i += CHUNK) {
		uint64_t first = 0, n;

		if (vhd_read(chain, buf, CHUNK, i, &err) < 0) {
			wrong += may_fail ? 0 : CHUNK;
			continue;
		}
		n = wrong_in(w, buf, i, CHUNK, lost, &first);
		if (n && !wrong)
			*at = first;
		wrong += n;
	}
	vhd_close(chain, NULL);
	return wrong;
}

struct hearing {
	const struct wreck *w;
	struct wreck_verdict *v;
	struct wreck_lost *lost;
};

static void on_finding(void *arg, const struct vhd_finding *f)
{
	struct hearing *h = arg;
	struct wreck_verdict *v = h->v;

	v->damages += f->severity == VHD_DAMAGE;
	v->repairable += f->repairable;
	if (f->repairable || (f->severity == VHD_DAMAGE && !v->repairable))
		snprintf(v->text, sizeof(v->text), "%s", f->text);
	if (f->severity != VHD_WARNING || f->code != -VHD_E_BITMAP)
		return;
	v->bitmap_warnings++;
	if (h->lost)
		wreck_on_lost(h->lost, &(struct vhd_lost){ .offset = f->block * h->w->block_size,
							   .length = h->w->block_size,
							   .why = "doubted" });
}

void wreck_check(const struct wreck *w, const char *path, struct wreck_verdict *v,
		 struct wreck_lost *lost)
{
	struct hearing h = { w, v, lost };
	struct vhd_check_options o = {
		.bitmaps = true, .ignore_timestamps = true, .finding = on_finding, .arg = &h
	};
	struct vhd_check_result r;
	struct vhd_error err = { 0 };

	memset(v, 0, sizeof(*v));
	must(vhd_check(path, &o, &r, &err), &err);
}
