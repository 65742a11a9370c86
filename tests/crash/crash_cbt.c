/* crash_cbt.c - power cuts while changed-block logs are made, used by a server, changed and merged
 *
 * Two logs, each with what really changed (the truth).  At every instant: a log that was made is
 * whole; its size is the one before or after what is done; and one that says it is consistent
 * has every change that was answered (ORDER 20).  What came back is durable.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/number.h"
#include "libvhd/cbt.h"
#include "scene.h"
#include "sys.h"

#define LOGS	 2
#define BITS_MAX 32768u /* eight sectors */
#define BLOCKS	 30000u /* of a disk at first, at most */

struct model {
	const char *name;
	bool made, flag;	   /* what it says when nothing is under way */
	uint64_t size, other_size; /* that it has, and that it may have already */
	uint8_t truth[BITS_MAX / 8], memory[BITS_MAX / 8]; /* what changed; what a server holds */
};

static struct scene s;
static struct model logs[LOGS];
static unsigned long sessions, consistent_cuts, merges;

static uint64_t blocks_of(uint64_t size)
{
	return number_div_up(size, CBT_BLOCK_BYTES);
}

static void look_at(const struct model *m)
{
	uint8_t bits[BITS_MAX / 8] = { 0 };
	const char *path = scene_path(s.cut, m->name);
	struct vhd_error err;
	struct cbt c;

	if (!m->made && access(path, F_OK))
		return;
	scene_must(&s, cbt_open(path, false, &c, &err), &err, m->name);
	scene_must(&s, cbt_whole(&c, &err), &err, m->name);
	if (c.header.size != m->size && c.header.size != m->other_size)
		scene_die(&s, NULL, "%s: a disk of %llu bytes", m->name,
			  (unsigned long long)c.header.size);
	scene_must(&s, cbt_read(&c, bits, cbt_bitmap_bytes(c.header.size), 0, &err), &err, m->name);
	for (unsigned i = 0; c.header.consistent && i < sizeof(bits); i++)
		if (m->truth[i] & ~bits[i])
			scene_die(&s, NULL, "%s: consistent, but block %u and others are missing",
				  m->name, i * 8);
	consistent_cuts += c.header.consistent;
	cbt_close(&c);
}

static void look(struct scene *unused)
{
	(void)unused;
	for (int i = 0; i < LOGS; i++)
		look_at(&logs[i]);
}

/* ── what is done ── */

static void make(struct model *m)
{
	struct vhd_error err;

	m->size = m->other_size = CBT_BLOCK_BYTES * (1 + scene_below(&s, BLOCKS)) -
				  scene_below(&s, CBT_BLOCK_BYTES);
	scene_must(&s, cbt_create(scene_path(s.now, m->name), m->size, false, false, &err), &err,
		   "create");
	m->made = true;
}

static void set(struct model *m)
{
	uint8_t id[16] = { 7 };
	uint64_t size = m->size;
	bool flag = m->flag;
	struct cbt_change change = { 0 };
	struct vhd_error err;

	if (scene_below(&s, 2))
		change.parent = id;
	if (scene_below(&s, 3) == 0 && blocks_of(size) < BITS_MAX - 1000) {
		size += scene_below(&s, 1000) * CBT_BLOCK_BYTES;
		change.size = &size;
		m->other_size = size;
	}
	if (scene_below(&s, 2)) {
		/* somebody vouches for it, or takes it back */
		flag = !m->flag;
		change.consistent = &flag;
		if (flag) {
			struct cbt c;

			memset(m->truth, 0, sizeof(m->truth));
			scene_must(&s, cbt_open(scene_path(s.now, m->name), false, &c, &err), &err,
				   "open");
			scene_must(&s, cbt_read(&c, m->truth, cbt_bitmap_bytes(m->size), 0, &err),
				   &err, "read");
			cbt_close(&c);
		}
	}
	scene_must(&s, cbt_set(scene_path(s.now, m->name), &change, false, &err), &err, "set");
	m->flag = flag;
	m->size = m->other_size = size;
}

/* Some blocks are written, and answered. */
static void write_blocks(struct model *m)
{
	for (unsigned n = (unsigned)scene_below(&s, 20); n; n--) {
		uint64_t k = scene_below(&s, blocks_of(m->size));

		m->memory[k / 8] |= (uint8_t)(1u << (k % 8));
		m->truth[k / 8] |= (uint8_t)(1u << (k % 8));
	}
}

static void store(struct cbt *c, struct model *m)
{
	struct vhd_error err;
	int rc = io_write(c->io, m->memory, cbt_bitmap_bytes(m->size), CBT_HEADER_BYTES);

	scene_must(&s, rc, NULL, "write");
	if (scene_below(&s, 2))
		scene_must(&s, io_sync(c->io), &err, "sync");
}

static void serve(struct model *m)
{
	struct vhd_error err;
	struct cbt c;

	sessions++;
	scene_must(&s, cbt_open(scene_path(s.now, m->name), true, &c, &err), &err, "open");
	if (scene_below(&s, 3) == 0 && blocks_of(m->size) < BITS_MAX - 1000)
		m->other_size = m->size + scene_below(&s, 1000) * CBT_BLOCK_BYTES;
	scene_must(&s, cbt_begin(&c, m->other_size, &err), &err, "begin");
	m->size = m->other_size;
	memset(m->memory, 0, sizeof(m->memory));
	scene_must(&s, cbt_read(&c, m->memory, cbt_bitmap_bytes(m->size), 0, &err), &err, "read");
	for (unsigned n = (unsigned)scene_below(&s, 5); n; n--) {
		write_blocks(m);
		if (scene_below(&s, 2))
			store(&c, m);
		if (scene_below(&s, 4) == 0 && blocks_of(m->size) < BITS_MAX - 1000) {
			m->other_size = m->size + scene_below(&s, 1000) * CBT_BLOCK_BYTES;
			scene_must(&s, cbt_grow(&c, m->other_size, &err), &err, "grow");
			m->size = m->other_size;
		}
	}
	store(&c, m);
	scene_must(&s, cbt_end(&c, true, &err), &err, "end");
	cbt_close(&c);
}

static void merge(void)
{
	struct model *p = &logs[0], *c = &logs[1];
	struct vhd_error err;
	int rc = cbt_coalesce(scene_path(s.now, p->name), scene_path(s.now, c->name), false, &err);

	if (p->size > c->size) {
		if (rc != -VHD_E_ARGUMENT)
			scene_die(&s, &err, "a log of a larger disk was merged: %d", rc);
		return;
	}
	scene_must(&s, rc, &err, "coalesce");
	merges++;
	c->flag = c->flag && p->flag;
	for (unsigned i = 0; i < sizeof(c->truth); i++)
		c->truth[i] |= p->truth[i];
}

static void operation(struct scene *unused)
{
	(void)unused;
	make(&logs[0]);
	make(&logs[1]);
	for (int i = 0; i < 8; i++) {
		struct model *m = &logs[scene_below(&s, LOGS)];

		switch (scene_below(&s, 5)) {
		case 0:
			merge();
			break;
		case 1:
		case 2:
			set(m);
			break;
		default:
			serve(m);
		}
	}
}

static void play(unsigned long long seed)
{
	struct vhd_error err;
	struct cbt c;

	memset(logs, 0, sizeof(logs));
	logs[0].name = "older.log";
	logs[1].name = "newer.log";
	scene_begin(&s, seed);
	scene_play(&s, operation, look);
	/* what is done is durable, to the letter */
	for (int i = 0; i < LOGS; i++) {
		look_at(&logs[i]);
		scene_must(&s, cbt_open(scene_path(s.cut, logs[i].name), false, &c, &err), &err,
			   "in the end");
		if (c.header.consistent != logs[i].flag || c.header.size != logs[i].size)
			scene_die(&s, NULL, "%s: flag or size is not durable", logs[i].name);
		cbt_close(&c);
	}
	scene_end(&s);
}

int main(void)
{
	unsigned long long first, count;

	scene_seeds(60, &first, &count);
	for (unsigned long long i = 0; i < count; i++)
		play(first + i);
	scene_finish(&s);
	printf("%llu seeds, %lu sessions, %lu merges, %lu cuts, %lu of them consistent\n", count,
	       sessions, merges, s.cuts, consistent_cuts);
	return !consistent_cuts || !merges;
}
