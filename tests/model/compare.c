/* compare.c - what images contain: by libvhd, by tests/lib/flat-reader, 7-Zip, qemu-img */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/flat-reader.h"
#include "world.h"

/* The least disk that qemu-img's geometry gives back whole. */
#define QEMU_LEAST 34816u

static uint8_t read_buf[WORLD_BYTES];

static void compare_bytes(const struct world *w, const struct disk *d, const char *by)
{
	uint64_t i = 0;

	if (!memcmp(read_buf, d->data, d->size))
		return;
	while (read_buf[i] == d->data[i])
		i++;
	world_die(w, NULL, "%s, read by %s: byte %llu is %02x instead of %02x", d->name, by,
		  (unsigned long long)i, read_buf[i], d->data[i]);
}

__attribute__((format(printf, 1, 2))) static bool run(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return system(command) == 0;
}

void compare_file(struct world *w, const struct disk *d, const char *name, const char *by)
{
	int fd = open(world_path(w, name), O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, read_buf, d->size, 0) != (ssize_t)d->size)
		world_die(w, NULL, "%s, by %s: too short", d->name, by);
	close(fd);
	compare_bytes(w, d, by);
}

void compare_own(struct world *w, const struct disk *d)
{
	struct vhd_open_options o = { .flags = d->raw ? VHD_OPEN_RAW : 0,
				      .parents = world_parents(w) };
	struct vhd_chain *c;
	struct vhd_error err;

	if (vhd_open(world_path(w, d->name), &o, &c, &err) < 0)
		world_die(w, &err, "open %s", d->name);
	if (vhd_size(c) != d->size)
		world_die(w, NULL, "%s: %llu bytes instead of %llu", d->name,
			  (unsigned long long)vhd_size(c), (unsigned long long)d->size);
	/* in pieces that fit nothing */
	for (uint64_t at = 0, n; at < d->size; at += n) {
		n = 1 + world_below(w, 200000);
		n = n < d->size - at ? n : d->size - at;
		if (vhd_read(c, read_buf + at, n, at, &err) < 0)
			world_die(w, &err, "read %s", d->name);
	}
	if (vhd_close(c, &err) < 0)
		world_die(w, &err, "close %s", d->name);
	compare_bytes(w, d, "libvhd");
	w->counts.by_own++;
}

static void compare_flat(struct world *w, unsigned top)
{
	struct flat_source sources[WORLD_DEPTH];
	int fds[WORLD_DEPTH];
	struct flat flat;

	for (unsigned i = 0; i <= top; i++) {
		const struct disk *d = &w->chain[top - i];

		fds[i] = open(world_path(w, d->name), O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			world_die(w, NULL, "%s is gone", d->name);
		sources[i] = flat_file(&fds[i], d->raw);
	}
	if (!flat_open(&flat, sources, top + 1) ||
	    !flat_read(&flat, read_buf, 0, (w->chain[top].size + 511) / 512))
		world_die(w, NULL, "%s: the independent reader: %s", w->chain[top].name, flat.why);
	flat_release(&flat);
	for (unsigned i = 0; i <= top; i++)
		close(fds[i]);
	compare_bytes(w, &w->chain[top], "the independent reader");
	w->counts.by_flat++;
}

static void on_finding(void *arg, const struct vhd_finding *f)
{
	const struct world *w = arg;

	if (f->severity != VHD_NOTE)
		fprintf(stderr, "seed %llu: %s: %s\n", w->seed, f->file, f->text);
}

static void check_chain(struct world *w)
{
	struct vhd_check_options o = { .parents_too = true,
				       .bitmaps = true,
				       .ignore_timestamps = true,
				       .parents = world_parents(w),
				       .finding = on_finding,
				       .arg = w };
	struct vhd_check_result r;
	struct vhd_error err;

	if (world_leaf(w)->raw)
		return;
	if (vhd_check(world_path(w, world_leaf(w)->name), &o, &r, &err) < 0)
		world_die(w, &err, "check");
	if (r.damages || r.warnings || r.leaked_bytes)
		world_die(w, NULL, "check: %u damages, %u warnings, %llu bytes leaked", r.damages,
			  r.warnings, (unsigned long long)r.leaked_bytes);
}

/* 7-Zip follows parents, but refuses what is odd, and finds them only beside the child. */
static void compare_7z(struct world *w)
{
	if (w->odd || world_leaf(w)->raw)
		return;
	for (unsigned i = 0; i < w->depth; i++)
		if (strchr(w->chain[i].name, '/'))
			return;
	if (!run("7zz x -tvhd -so '%s' > '%s' 2>/dev/null", world_path(w, world_leaf(w)->name),
		 world_path(w, "by-7z")))
		world_die(w, NULL, "7-Zip refuses %s", world_leaf(w)->name);
	compare_file(w, world_leaf(w), "by-7z", "7-Zip");
	w->counts.by_7z++;
}

void compare_qemu(struct world *w, const struct disk *d)
{
	if (d->size < QEMU_LEAST)
		return;
	if (!run("qemu-img convert -f vpc -O raw '%s' '%s' 2>/dev/null", world_path(w, d->name),
		 world_path(w, "by-qemu")))
		world_die(w, NULL, "qemu-img refuses %s", d->name);
	compare_file(w, d, "by-qemu", "qemu-img");
	w->counts.by_qemu++;
}

void compare_chain(struct world *w, unsigned step, bool others)
{
	for (unsigned i = w->depth - 1;; i = i < step ? 0 : i - step) {
		compare_own(w, &w->chain[i]);
		compare_flat(w, i);
		if (!i)
			break;
	}
	check_chain(w);
	if (others)
		compare_7z(w);
}
