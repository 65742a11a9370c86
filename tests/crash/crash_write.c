/* crash_write.c - power cuts while a chain is written
 *
 * The leaf is opened, written here and there (new blocks, blocks that are there, zeros, parts of
 * sectors), flushed now and then and closed; a few times over.  At every instant: it opens, `check`
 * finds no damage, each sector is as after the last flush or as a write since left it; and so it
 * stays when the next writer opens it, writes and closes.  Every third seed one of the calls fails:
 * what was flushed stays, what comes after an error may be told anew.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history.h"
#include "scene.h"
#include "sys.h"
#include "tests/lib/flat-reader.h"

static struct scene s;
static struct history history;
static unsigned errors;
static unsigned long writes, flushes, failures;

static void read_cut(uint8_t *out, const char *when)
{
	struct vhd_error err;
	uint64_t sector;

	scene_must(&s, scene_read(&s, scene_level(s.cut, s.depth - 1), false, out, &err), &err,
		   when);
	if (!history_allows(&history, out, &sector))
		scene_die(&s, NULL, "%s: sector %llu is neither as flushed nor as written since",
			  when, (unsigned long long)sector);
}

/* Once mended, readers that know nothing of our ways agree. */
static void read_flat(const uint8_t *expected)
{
	static uint8_t out[SCENE_BYTES];
	struct flat_source sources[SCENE_DEPTH];
	int fds[SCENE_DEPTH];
	struct flat flat;

	for (unsigned i = 0; i < s.depth; i++) {
		fds[i] = open(scene_level(s.cut, s.depth - 1 - i), O_RDONLY | O_CLOEXEC);
		sources[i] = flat_file(&fds[i], i == s.depth - 1 && s.raw_base);
	}
	if (!flat_open(&flat, sources, s.depth) || !flat_read(&flat, out, 0, s.size / 512))
		scene_die(&s, NULL, "mended: the independent reader: %s", flat.why);
	if (memcmp(out, expected, s.size) != 0)
		scene_die(&s, NULL, "mended: the independent reader reads something else");
	flat_release(&flat);
	for (unsigned i = 0; i < s.depth; i++)
		close(fds[i]);
}

static void look(struct scene *unused)
{
	static uint8_t found[SCENE_BYTES], again[SCENE_BYTES];
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	const char *leaf = scene_level(s.cut, s.depth - 1);
	struct vhd_chain *chain;
	struct vhd_error err;

	(void)unused;
	read_cut(found, "after a cut");
	scene_check(&s, leaf, SCENE_CUT, "after a cut");
	if (scene_below(&s, 3))
		return;
	/* what was read is what the next writer finds, and the rest stays as it is */
	scene_must(&s, vhd_open(leaf, &o, &chain, &err), &err, "open after a cut");
	for (uint64_t n = scene_below(&s, 3); n > 0; n--)
		scene_scribble(&s, chain, found);
	scene_must(&s, vhd_close(chain, &err), &err, "close after a cut");
	scene_must(&s, scene_read(&s, leaf, false, again, &err), &err, "read, mended");
	if (memcmp(found, again, s.size) != 0)
		scene_die(&s, NULL, "the next writer's image reads something else");
	scene_check(&s, leaf, SCENE_MENDED, "mended");
	read_flat(found);
}

/* After an error each sector may be old or new: go on from what it is. */
static void see(struct vhd_chain *chain)
{
	uint8_t *data = s.data[s.depth - 1];
	struct vhd_error err;
	uint64_t sector;

	sys_pause(true);
	scene_must(&s, vhd_read(chain, data, s.size, 0, &err), &err, "read after an error");
	sys_pause(false);
	if (!history_allows(&history, data, &sector))
		scene_die(&s, NULL, "after an error sector %llu is neither old nor new",
			  (unsigned long long)sector);
}

/* As scene_scribble(), told to the history first: it may be durable before the call returns. */
static void write_some(struct vhd_chain *chain)
{
	static uint8_t buf[32768];
	uint8_t *data = s.data[s.depth - 1], value = (uint8_t)scene_below(&s, 256);
	uint64_t at = scene_below(&s, s.size), first, count;
	uint64_t n = 1 + scene_below(&s, scene_below(&s, 4) ? 3000 : sizeof(buf));

	if (scene_below(&s, 4)) {
		at &= ~511ull;
		n = (n + 511) & ~511ull;
	}
	n = n < s.size - at ? n : s.size - at;
	n = n < sizeof(buf) ? n : sizeof(buf);
	first = at / 512;
	count = (at + n + 511) / 512 - first;
	for (uint64_t i = 0; i < n; i++)
		buf[i] = value ? (uint8_t)(value + i / 512 + i % 512 * 5) : 0;
	memcpy(data + at, buf, n);
	history_write(&history, data, first, count);
	writes++;
	if (vhd_write(chain, buf, n, at, NULL) < 0) {
		errors++;
		history_fail_write(&history, first, count);
		see(chain);
	}
}

static void flush(struct vhd_chain *chain)
{
	flushes++;
	if (!vhd_flush(chain, NULL)) {
		history_flush(&history);
		return;
	}
	errors++;
	history_fail_flush(&history);
	see(chain);
}

static void session(void)
{
	struct vhd_open_options o = { .flags = VHD_OPEN_WRITE };
	struct vhd_chain *chain;

	if (vhd_open(scene_level(s.now, s.depth - 1), &o, &chain, NULL) < 0) {
		errors++;
		return;
	}
	for (uint64_t n = scene_below(&s, 8); n > 0; n--) {
		if (scene_below(&s, 4))
			write_some(chain);
		else
			flush(chain);
	}
	if (!vhd_close(chain, NULL)) {
		history_flush(&history);
		return;
	}
	errors++;
	history_fail_flush(&history);
}

/* After a sync that failed the file reads as written, though it is not: a new session could not
 * know what to write again.  There is none then. */
static void operation(struct scene *unused)
{
	struct vhd_open_options o = { 0 };
	struct vhd_chain *chain;
	struct vhd_error err;

	(void)unused;
	if (s.seed % 3 == 2)
		sys_fail((long)scene_below(&s, 150), false);
	for (unsigned n = 0; n < 3 && !sys_sync_failed(); n++) {
		session();
		sys_pause(true);
		scene_must(&s, vhd_open(scene_level(s.now, s.depth - 1), &o, &chain, &err), &err,
			   "open between sessions");
		see(chain);
		vhd_close(chain, NULL);
		sys_pause(false);
	}
	if (s.seed % 3 == 2)
		failures += sys_fail_end();
	else if (errors)
		scene_die(&s, NULL, "an error that nobody ordered");
	errors = 0;
}

static void play(unsigned long long seed)
{
	static uint8_t found[SCENE_BYTES];
	unsigned depth;

	scene_begin(&s, seed);
	depth = 1 + (unsigned)scene_below(&s, SCENE_DEPTH - 1);
	scene_chain(&s, depth, depth > 1); /* a base of any kind, but not to be written itself */
	history_begin(&history, s.data[s.depth - 1], s.size / 512);
	scene_play(&s, operation, look);
	read_cut(found, "after the end");
	if (seed % 3 != 2)
		scene_check(&s, scene_level(s.cut, s.depth - 1), SCENE_CLEAN, "after the end");
	history_end(&history);
	scene_end(&s);
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(60, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		play(first + i);
	scene_finish(&s);
	printf("%llu chains, %lu writes, %lu flushes, %lu failed calls, %lu cuts\n", count, writes,
	       flushes, failures, s.cuts);
	return 0;
}
