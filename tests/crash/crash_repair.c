/* crash_repair.c - power cuts while damaged images are repaired and salvaged
 *
 * After a cut the same repair finishes the work: then all is there that a repair without a
 * cut leaves, and undoing it from the file that it left first gives the damaged bytes again.
 * At no instant does the image read as anything but what was in it, where it can be read at all.
 * A salvaged image is whole or not there; what it is made from stays as it is.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "libvhd/layout.h"
#include "scene.h"
#include "tests/lib/seal.h"

#define TARGET "t.vhd"
#define KEPT   "kept"

static struct scene s;
static uint8_t damaged[2 * SCENE_BYTES + 65536], mended[2 * SCENE_BYTES + 65536];
static uint64_t damaged_bytes, mended_bytes;
static const struct damage *damage;
static unsigned long finished, undone, unread;
static bool done;

/* ── bytes ── */

static uint64_t load(const char *path, uint8_t *bytes, uint64_t room)
{
	FILE *f = fopen(path, "re");
	uint64_t n = f ? fread(bytes, 1, room, f) : 0;

	if (!f || n == room)
		scene_die(&s, NULL, "cannot load '%s'", path);
	fclose(f);
	return n;
}

static void store(const char *path, const uint8_t *bytes, uint64_t length)
{
	FILE *f = fopen(path, "we");

	if (!f || fwrite(bytes, 1, length, f) != length || fclose(f))
		scene_die(&s, NULL, "cannot store '%s'", path);
}

/* ── damages ── */

static uint32_t entry_of(uint32_t block)
{
	return be32_load(damaged + 1536 + 4ull * block);
}

static void wipe(uint64_t at)
{
	for (unsigned i = 0; i < VHD_SECTOR; i++)
		damaged[at + i] = (uint8_t)scene_below(&s, 256);
}

static void end_footer(void)
{
	wipe(damaged_bytes - VHD_SECTOR);
}

static void no_end_footer(void)
{
	damaged_bytes -= VHD_SECTOR;
}

static void copy(void)
{
	wipe(0);
}

static void header(void)
{
	wipe(1024);
}

static void batmap(void)
{
	uint32_t entries = be32_load(damaged + 512 + HEADER_MAX_ENTRIES);

	wipe(1536 + (entries * 4 + 511) / 512 * 512);
}

static void trailing(void)
{
	memset(damaged + damaged_bytes, 'x', 700);
	damaged_bytes += 700;
}

static void stale_copy(void)
{
	be32_store(damaged + FOOTER_TIMESTAMP, 5);
	seal_footer(damaged);
}

static void everything(void)
{
	header();
	if (!memcmp(damaged + FOOTER_CREATOR_APP, "tap", 3))
		batmap();
	end_footer();
}

static void lost_entry(void)
{
	for (uint32_t i = 0; i < s.size / 65536 + 1; i++)
		if (entry_of(i) != VHD_BAT_UNUSED) {
			be32_store(damaged + 1536 + 4ull * i, 0x7fffffff);
			return;
		}
}

static const struct damage {
	const char *name;
	void (*make)(void);
	bool consent; /* something is lost by mending it */
} damages[] = {
	{ "end footer", end_footer, false },
	{ "no end footer", no_end_footer, false },
	{ "copy", copy, false },
	{ "half of the header", header, false },
	{ "batmap header", batmap, false },
	{ "bytes behind", trailing, false },
	{ "footers differ", stale_copy, false },
	{ "several at once", everything, false },
	{ "an entry", lost_entry, true },
};

static int repair(const char *directory, struct vhd_repair_result *r, struct vhd_error *err)
{
	char kept[300];
	struct vhd_repair_options o = { .drop_lost = damage->consent, .backup = kept };

	/* after a cut the first one is there, or half of it */
	snprintf(kept, sizeof(kept), "%s/%s", directory, KEPT);
	if (!access(kept, F_OK))
		snprintf(kept, sizeof(kept), "%s/%s.2", directory, KEPT);
	return vhd_repair(scene_path(directory, TARGET), &o, r, err);
}

/* ── what a cut leaves ── */

static void look_at_contents(void)
{
	static uint8_t out[SCENE_BYTES];
	struct vhd_error err;

	if (damage->consent)
		return;
	if (scene_read(&s, scene_path(s.cut, TARGET), false, out, &err) < 0) {
		unread++;
		return;
	}
	if (memcmp(out, s.data[s.depth - 1], s.size) != 0)
		scene_die(&s, NULL, "%s: reads otherwise after a cut", damage->name);
}

/* Has the file that it left all that it takes to go back? */
static void look_at_undo(void)
{
	static uint8_t now[sizeof(damaged)];
	struct vhd_error err;
	uint64_t n;

	scene_copy(s.cut, s.next);
	n = load(scene_path(s.next, TARGET), now, sizeof(now));
	if (n == damaged_bytes && !memcmp(now, damaged, n))
		return; /* nothing has happened yet */
	scene_must(&s,
		   vhd_repair_undo(scene_path(s.next, TARGET), scene_path(s.next, KEPT), false,
				   &err),
		   &err, damage->name);
	n = load(scene_path(s.next, TARGET), now, sizeof(now));
	if (n != damaged_bytes || memcmp(now, damaged, n) != 0)
		scene_die(&s, NULL, "%s: undone, and not as it was", damage->name);
	undone++;
}

/* The batmap may come to lie in either of its two places. */
static void mask_batmap(uint8_t *bytes)
{
	uint32_t entries = be32_load(bytes + 512 + HEADER_MAX_ENTRIES);
	uint64_t at = 1536 + (entries * 4 + 511) / 512 * 512, map = (entries / 8 + 512) / 512 * 512;

	if (!memcmp(bytes + FOOTER_CREATOR_APP, "tap", 3))
		memset(bytes + at, 0, 512 + 2 * map);
}

static void look_at_end(void)
{
	static uint8_t now[sizeof(damaged)];
	struct vhd_repair_result r;
	struct vhd_error err;
	uint64_t n;

	scene_copy(s.cut, s.next);
	scene_must(&s, repair(s.next, &r, &err), &err, damage->name);
	if (r.damages)
		scene_die(&s, NULL, "%s: %u damages remain after a cut", damage->name, r.damages);
	n = load(scene_path(s.next, TARGET), now, sizeof(now));
	mask_batmap(now);
	if (n != mended_bytes || memcmp(now, mended, n) != 0) {
		uint64_t i = 0;

		while (i < n && now[i] == mended[i])
			i++;
		scene_die(&s, NULL,
			  "%s: another end after a cut (%llu bytes, not %llu; the first other "
			  "is %llu)",
			  damage->name, (unsigned long long)n, (unsigned long long)mended_bytes,
			  (unsigned long long)i);
	}
	finished++;
}

static void look(struct scene *unused)
{
	(void)unused;
	look_at_contents();
	look_at_undo();
	look_at_end();
	for (unsigned i = 0; i + 1 < s.depth; i++)
		scene_expect(&s, scene_level(s.cut, i), !i && s.raw_base, s.data[i], "a parent");
}

static void run_repair(struct scene *unused)
{
	struct vhd_repair_result r;
	struct vhd_error err;

	(void)unused;
	scene_must(&s, repair(s.now, &r, &err), &err, damage->name);
}

/* ── salvage ── */

static void run_salvage(struct scene *unused)
{
	struct vhd_salvage_options o = { .guess = false };
	struct vhd_salvage_result r;
	struct vhd_error err;

	(void)unused;
	scene_must(&s,
		   vhd_salvage(scene_path(s.now, TARGET), scene_path(s.now, "new.vhd"), &o, &r,
			       &err),
		   &err, "salvage");
	done = true;
}

static void look_at_salvage(struct scene *unused)
{
	const char *path = scene_path(s.cut, "new.vhd");
	static uint8_t now[sizeof(damaged)];
	uint64_t n = load(scene_path(s.cut, TARGET), now, sizeof(now));

	(void)unused;
	if (n != damaged_bytes || memcmp(now, damaged, n) != 0)
		scene_die(&s, NULL, "salvage changed its source");
	if (access(path, F_OK) < 0) {
		if (done)
			scene_die(&s, NULL, "salvage: no target");
		return;
	}
	if (!damage->consent)
		scene_expect(&s, path, false, s.data[s.depth - 1], "salvaged");
	scene_check(&s, path, SCENE_CLEAN, "salvaged");
}

/* ── the whole ── */

static void play(unsigned long long seed)
{
	struct vhd_repair_result r;
	struct vhd_error err;

	scene_begin(&s, seed);
	scene_chain(&s, 1 + (unsigned)scene_below(&s, 3), false);
	damaged_bytes = load(scene_level(s.now, s.depth - 1), damaged, sizeof(damaged));
	if (memcmp(damaged + FOOTER_CREATOR_APP, "tap", 3) != 0 && damage->make == batmap) {
		scene_end(&s);
		return;
	}
	damage->make();
	/* what a repair without a cut comes to */
	store(scene_path(s.now, TARGET), damaged, damaged_bytes);
	scene_must(&s, repair(s.now, &r, &err), &err, damage->name);
	mended_bytes = load(scene_path(s.now, TARGET), mended, sizeof(mended));
	mask_batmap(mended);
	unlink(scene_path(s.now, KEPT));
	if (!damage->consent)
		scene_expect(&s, scene_path(s.now, TARGET), false, s.data[s.depth - 1], "mended");
	store(scene_path(s.now, TARGET), damaged, damaged_bytes);
	scene_play(&s, run_repair, look);
	look(&s);
	unlink(scene_path(s.now, KEPT));
	store(scene_path(s.now, TARGET), damaged, damaged_bytes);
	done = false;
	scene_play(&s, run_salvage, look_at_salvage);
	look_at_salvage(&s);
	scene_end(&s);
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(4, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		for (damage = damages; damage < damages + sizeof(damages) / sizeof(damages[0]);
		     damage++)
			play(first + i);
	scene_finish(&s);
	printf("%llu rounds, %lu cuts: %lu finished, %lu undone, %lu not readable meanwhile\n",
	       count, s.cuts, finished, undone, unread);
	return !finished || !undone;
}
