/* delta-compare.c - which sectors of a block differ between two chains */
#include "delta-compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/number.h"
#include "bitmap.h"
#include "cbt.h"
#include "error.h"

/* ── the log ── */

static int judge_log(const struct delta_compare *c, const char *path, struct cbt *log,
		     struct vhd_error *err)
{
	const struct vhd_chain *new = c->differ.b;

	if (!log->header.consistent)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot use the log '%s': it is not consistent: changes may be "
				 "missing in it; leave it out, then all is compared",
				 path);
	if (log->header.size != vhd_size(new))
		return error_value(
			err, -VHD_E_ARGUMENT, 0, vhd_size(new), log->header.size,
			"cannot use the log '%s': it is of a disk of %llu bytes, '%s' has "
			"%llu",
			path, (unsigned long long)log->header.size, new->images[0]->io->name,
			(unsigned long long)vhd_size(new));
	return cbt_whole(log, err);
}

static int load_log(struct delta_compare *c, const char *path, struct vhd_error *err)
{
	struct cbt log = { .io = NULL };
	size_t bytes;
	int rc;

	rc = cbt_open(path, false, &log, err);
	if (!rc)
		rc = judge_log(c, path, &log, err);
	if (!rc) {
		bytes = cbt_bitmap_bytes(log.header.size);
		c->log = calloc(1, bytes + 1);
		rc = c->log ? cbt_read(&log, c->log, bytes, 0, err) :
			      error_system(err, -ENOMEM, "read", path);
	}
	cbt_close(&log);
	return rc;
}

/* Was anything changed at @sector, by the log?  That is so for *count sectors from there on, at
 * most as many as given. */
static bool is_logged(const struct delta_compare *c, uint64_t sector, uint64_t *count)
{
	const uint64_t unit = CBT_BLOCK_BYTES / VHD_SECTOR;
	uint64_t first = sector / unit, bit = first;
	bool set;

	if (!c->log)
		return true;
	set = c->log[bit / 8] >> bit % 8 & 1;
	while ((bit + 1) * unit < sector + *count &&
	       (c->log[(bit + 1) / 8] >> (bit + 1) % 8 & 1) == set)
		bit++;
	*count = number_min(*count, (bit + 1) * unit - sector);
	return set;
}

/* ── blocks ── */

static void take_run(struct delta_compare *c, uint32_t block, uint64_t offset, size_t at,
		     size_t end)
{
	uint64_t in = offset + at - (uint64_t)block * c->block_sectors * VHD_SECTOR;

	memcpy(c->data + in, c->differ.will + at, end - at);
	bits_set_range(c->bitmap, in / VHD_SECTOR, (end - at) / VHD_SECTOR);
	c->changed += end - at;
}

/* A range of @block that comes from different places.  1: it differs. */
static int compare_range(struct delta_compare *c, uint32_t block, uint64_t offset, uint64_t length,
			 bool only_whether, struct vhd_error *err)
{
	int rc = 0;

	while (length) {
		size_t n = number_min(length, DIFFER_BYTES), at = 0, end;
		int failed = differ_read(&c->differ, offset, n, err);

		if (failed < 0)
			return failed;
		while ((at = differ_next(&c->differ, at, n, &end)) < n) {
			rc = 1;
			if (only_whether)
				return rc;
			take_run(c, block, offset, at, end);
			at = end;
		}
		offset += n;
		length -= n;
	}
	return rc;
}

int delta_compare_block(struct delta_compare *c, uint32_t block, bool only_whether,
			struct vhd_error *err)
{
	uint64_t sector = (uint64_t)block * c->block_sectors;
	uint64_t end = number_min(sector + c->block_sectors, c->sectors);
	int found = 0;

	if (!only_whether) {
		memset(c->bitmap, 0, c->bitmap_bytes);
		memset(c->data, 0, (size_t)c->block_sectors * VHD_SECTOR);
	}
	while (sector < end) {
		uint64_t run = end - sector;
		bool same = !is_logged(c, sector, &run);
		int rc = same ? 0 : differ_run(&c->differ, sector, run, &same, &run, err);

		if (!rc && !same)
			rc = compare_range(c, block, sector * VHD_SECTOR, run * VHD_SECTOR,
					   only_whether, err);
		if (rc < 0 || (rc && only_whether))
			return rc;
		found |= rc;
		sector += run;
	}
	return found;
}

int delta_compare_init(struct delta_compare *c, struct vhd_chain *old, struct vhd_chain *new,
		       uint32_t block_sectors, const char *log_path, struct vhd_error *err)
{
	int rc;

	memset(c, 0, sizeof(*c));
	c->sectors = vhd_size(new) / VHD_SECTOR;
	c->block_sectors = block_sectors;
	c->bitmap_bytes = bitmap_sectors(block_sectors) * VHD_SECTOR;
	c->bitmap = malloc(c->bitmap_bytes);
	c->data = malloc((size_t)block_sectors * VHD_SECTOR);
	rc = differ_init(&c->differ, old, new, err);
	if (!rc && (!c->bitmap || !c->data))
		rc = error_system(err, -ENOMEM, "compare", new->images[0]->io->name);
	return rc || !log_path ? rc : load_log(c, log_path, err);
}

void delta_compare_release(struct delta_compare *c)
{
	differ_release(&c->differ);
	free(c->bitmap);
	free(c->data);
	free(c->log);
}
