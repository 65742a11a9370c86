/* play.c - what is done to a chain of images, through the public header alone */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

static uint64_t some_size(struct world *w)
{
	return 512 * (1 + world_below(w, rng_chance(&w->rng, 10) ? 64 : 1500));
}

static void make_raw(struct world *w, const char *name, uint64_t size)
{
	int fd = open(world_path(w, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		world_die(w, NULL, "cannot make a raw disk");
	close(fd);
	world_add(w, name, size, true);
	w->odd = true;
}

void play_base(struct world *w)
{
	struct vhd_create_options o = { .size = some_size(w), .block_size = world_block_size(w) };
	unsigned kind = (unsigned)world_below(w, 10);
	struct vhd_error err;
	char name[64];

	world_new_name(w, name);
	if (kind == 0 && !w->plain) {
		make_raw(w, name, o.size);
		return;
	}
	o.type = kind == 1 ? VHD_TYPE_FIXED : VHD_TYPE_DYNAMIC;
	o.creator = world_below(w, 3) ? NULL : "win ";
	o.max_size = w->plain || world_below(w, 5) ? 0 : o.size * 2;
	if (o.max_size)
		w->odd = true; /* more table entries than 7-Zip takes */
	if (vhd_create(world_path(w, name), &o, &err) < 0)
		world_die(w, &err, "create");
	world_add(w, name, o.size, false);
}

/* Images that the new leaf was linked past, being empty, are no more in the chain. */
static void drop_skipped(struct world *w)
{
	struct vhd_open_options o = { .parents = world_parents(w) };
	struct vhd_chain *c;
	struct vhd_info info;
	struct vhd_error err;

	if (vhd_open(world_path(w, world_leaf(w)->name), &o, &c, &err) < 0)
		world_die(w, &err, "open after snapshot");
	while (vhd_depth(c) < w->depth) {
		const char *of_parent, *name = w->chain[w->depth - 2].name;

		if (vhd_layer_info(c, 1, &info, &err) < 0)
			world_die(w, &err, "layer");
		of_parent = strstr(info.path, name);
		if (of_parent && !of_parent[strlen(name)])
			world_die(w, NULL, "depth %u, but %u images were made", vhd_depth(c),
				  w->depth);
		world_drop(w, w->depth - 2, world_below(w, 2));
	}
	vhd_close(c, NULL);
}

void play_snapshot(struct world *w)
{
	struct vhd_snapshot_options o = { .parents = world_parents(w),
					  .link_empty = world_below(w, 8) };
	struct disk *p = world_leaf(w);
	struct vhd_error err;
	uint64_t size = p->size;
	char name[64];

	if (w->depth >= WORLD_DEPTH)
		return;
	if (!world_below(w, 3))
		o.block_size = world_block_size(w);
	if (p->raw) {
		o.raw_parent = true;
	} else if (!w->plain && !world_below(w, 6) && size < WORLD_BYTES / 2) {
		size = o.size = size + 512 * (1 + world_below(w, 200));
		w->odd = true;
	}
	world_new_name(w, name);
	if (vhd_snapshot(world_path(w, name), world_path(w, p->name), &o, &err) < 0)
		world_die(w, &err, "snapshot %s of %s", name, p->name);
	world_add(w, name, size, false);
	if (!o.link_empty)
		drop_skipped(w);
	w->counts.snapshots++;
}

static void fill(struct world *w, uint8_t *p, size_t n)
{
	uint8_t value = (uint8_t)world_below(w, 256);

	if (rng_chance(&w->rng, 15)) {
		memset(p, 0, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(value + i / 512 + (i % 512) * (value | 1));
}

void play_write(struct world *w)
{
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE, .parents = world_parents(w) };
	struct disk *d = world_leaf(w);
	static uint8_t buf[262144];
	struct vhd_chain *c;
	struct vhd_error err;
	unsigned count = 1 + (unsigned)world_below(w, 12);

	if (d->raw)
		o.flags |= VHD_OPEN_RAW;
	if (vhd_open(world_path(w, d->name), &o, &c, &err) < 0)
		world_die(w, &err, "open %s for writing", d->name);
	while (count--) {
		uint64_t at = world_below(w, d->size);
		uint64_t n = 1 + world_below(w, world_below(w, 10) ? 5000 : sizeof(buf));

		if (world_below(w, 4)) { /* mostly whole sectors */
			at &= ~511ull;
			n = (n + 511) & ~511ull;
		}
		n = n < sizeof(buf) ? n : sizeof(buf);
		n = n < d->size - at ? n : d->size - at;
		fill(w, buf, n);
		if (vhd_write(c, buf, n, at, &err) < 0)
			world_die(w, &err, "write %s", d->name);
		memcpy(d->data + at, buf, n);
		if (!world_below(w, 6) && vhd_flush(c, &err) < 0)
			world_die(w, &err, "flush");
		w->counts.writes++;
	}
	if (vhd_close(c, &err) < 0)
		world_die(w, &err, "close %s", d->name);
}

static int merge(struct world *w, unsigned child, unsigned target, bool force,
		 struct vhd_error *err)
{
	struct vhd_coalesce_options o = { .parents = world_parents(w),
					  .skip_zeros = world_below(w, 2),
					  .force = force };
	struct vhd_coalesce_result result;
	int rc;

	if (child - target > 1)
		o.ancestor = world_path(w, w->chain[target].name);
	rc = vhd_coalesce(world_path(w, w->chain[child].name), &o, &result, err);
	if (!rc && result.levels != child - target)
		world_die(w, NULL, "%u levels were merged instead of %u", result.levels,
			  child - target);
	return rc;
}

/* A target smaller than what was merged keeps its size or takes the other's. */
static void take_growth(struct world *w, struct disk *d, uint64_t size)
{
	struct vhd_open_options o = { .flags = VHD_OPEN_NO_PARENTS | VHD_OPEN_NO_LOCK |
					       (d->raw ? VHD_OPEN_RAW : 0) };
	struct vhd_chain *c;
	struct vhd_error err;

	if (vhd_open(world_path(w, d->name), &o, &c, &err) < 0)
		world_die(w, &err, "open %s", d->name);
	if (vhd_size(c) != d->size && vhd_size(c) != size)
		world_die(w, NULL, "%s has %llu bytes", d->name, (unsigned long long)vhd_size(c));
	if (d->raw && vhd_size(c) != size)
		world_die(w, NULL, "the raw %s did not grow", d->name);
	d->size = vhd_size(c);
	w->odd = true;
	vhd_close(c, NULL);
}

void play_merge(struct world *w)
{
	struct disk *from, *into;
	struct vhd_error err;
	unsigned child, target;
	int rc;

	if (w->depth < 2)
		return;
	child = world_below(w, 3) ? w->depth - 1 : 1 + (unsigned)world_below(w, w->depth - 1);
	target = child - 1;
	if (child == w->depth - 1 && target && !world_below(w, 3))
		target = (unsigned)world_below(w, target);
	from = &w->chain[child];
	into = &w->chain[target];
	rc = merge(w, child, target, false, &err);
	if (rc == -VHD_E_SHARED_PARENT && w->stray) {
		w->counts.shared++;
		rc = merge(w, child, target, true, &err);
	}
	if (rc == -VHD_E_RANGE && from->size > into->size && !into->raw) {
		w->counts.too_small++;
		return; /* data beyond the target's end, and no room: nothing was done */
	}
	if (rc < 0)
		world_die(w, &err, "coalesce %s into %s", from->name, into->name);
	if (from->size > into->size)
		take_growth(w, into, from->size);
	memcpy(into->data, from->data, into->size < from->size ? into->size : from->size);
	w->counts.merges++;
	if (child != w->depth - 1)
		return; /* the chain above reads as before, through the child */
	/* What lies between sits on other contents now.  A child of one level may stay. */
	if (child - target > 1 || world_below(w, 4)) {
		bool remove_files = world_below(w, 4);

		while (w->depth - 1 > target)
			world_drop(w, w->depth - 1, remove_files);
	}
}

/* A parent goes where its child is: there its name is looked for.  Its own parent must be
 * found from there. */
static void move_parent(struct world *w, unsigned i)
{
	struct disk *d = &w->chain[i];
	const char *child = w->chain[i + 1].name, *base = strrchr(d->name, '/');
	bool child_in_sub = strchr(child, '/');
	char name[64];

	if (child_in_sub == (base != NULL) || (i && child_in_sub != !!strchr(d[-1].name, '/')))
		return;
	snprintf(name, sizeof(name), "%s%s", child_in_sub ? "sub/" : "", base ? base + 1 : d->name);
	if (rename(world_path(w, d->name), world_path(w, name)) < 0)
		world_die(w, NULL, "cannot move %s", d->name);
	strcpy(d->name, name);
	w->odd = true; /* 7-Zip follows the locators */
	w->counts.moves++;
}

void play_move(struct world *w)
{
	char to[96];

	if (w->depth > 1 && world_below(w, 2)) {
		move_parent(w, (unsigned)world_below(w, w->depth - 1));
		return;
	}
	snprintf(to, sizeof(to), "%s/w%u", w->base, ++w->dirs);
	if (rename(w->dir, to) < 0)
		world_die(w, NULL, "cannot rename the directory");
	strcpy(w->dir, to);
	w->counts.moves++;
}

void play_convert(struct world *w, bool others)
{
	static const enum vhd_format formats[] = { VHD_FORMAT_RAW, VHD_FORMAT_FIXED,
						   VHD_FORMAT_DYNAMIC, VHD_FORMAT_DYNAMIC };
	struct vhd_convert_options o = {
		.from = world_leaf(w)->raw ? VHD_FORMAT_RAW : VHD_FORMAT_AUTO,
		.to = formats[world_below(w, 4)],
		.force = true,
		.no_sync = world_below(w, 2),
		.parents = world_parents(w),
	};
	struct vhd_convert_result r;
	struct vhd_error err;
	struct disk d = *world_leaf(w);

	if (o.to == VHD_FORMAT_DYNAMIC)
		o.block_size = world_block_size(w);
	if (vhd_convert(world_path(w, d.name), world_path(w, "converted"), &o, &r, &err) < 0)
		world_die(w, &err, "convert %s", d.name);
	w->counts.converts++;
	strcpy(d.name, "converted");
	d.raw = o.to == VHD_FORMAT_RAW;
	if (o.to != VHD_FORMAT_DYNAMIC)
		compare_file(w, &d, "converted", "its bytes");
	compare_own(w, &d);
	if (others && o.to == VHD_FORMAT_DYNAMIC)
		compare_qemu(w, &d);
}
