/* model_chain.c - random chains of images against disks in memory
 *
 * SEED=n plays one chain again, COUNT=n sets how many.  Each starts with a dynamic, fixed or
 * raw disk; then images are snapshotted (block sizes mixed, disks grown), written, merged,
 * converted and moved.  A sample is read by 7-Zip, which follows parents, and by qemu-img
 * where there is no parent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "world.h"

#define CHAINS	    2000ull
#define CHAINS_SOAK 50000ull
#define SAMPLE	    20u /* of so many chains one is read by other programs */

static void play_one(struct world *w, unsigned deep)
{
	unsigned what = (unsigned)world_below(w, 100);

	if (what < 40)
		play_write(w);
	else if (what < 80 && w->depth < deep)
		play_snapshot(w);
	else if (what < 93 && (deep < WORLD_DEPTH || !world_below(w, 6)))
		play_merge(w);
	else if (what < 95)
		play_convert(w, false);
	else if (what < 98)
		play_move(w);
	else
		compare_chain(w, 1 + w->depth / 4, false);
}

static void play_chain(struct world *w, unsigned long long seed, bool others)
{
	unsigned turns, deep;

	world_begin(w, seed, others);
	play_base(w);
	deep = seed % 100 == 50 ? WORLD_DEPTH : 1 + (unsigned)world_below(w, 8);
	turns = deep * (deep == WORLD_DEPTH ? 4 : 2) + (unsigned)world_below(w, 12);
	for (unsigned i = 0; i < turns; i++)
		play_one(w, deep);
	/* Every image of most chains; of the very deep ones, by what is read through them, too */
	compare_chain(w, w->depth > 16 ? 4 : 1, others);
	play_convert(w, others);
	world_end(w);
}

int main(void)
{
	static struct world w;
	const struct world_counts *c = &w.counts;
	const char *seed = getenv("SEED"), *count = getenv("COUNT");
	unsigned long long first = seed ? strtoull(seed, NULL, 0) : 1;
	unsigned long long n = count	      ? strtoull(count, NULL, 0) :
			       seed	      ? 1 :
			       getenv("SOAK") ? CHAINS_SOAK :
						CHAINS;
	bool others = !system("command -v 7zz >/dev/null && command -v qemu-img >/dev/null");

	snprintf(w.base, sizeof(w.base), "%s/vhd-model.XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(w.base))
		return 1;
	printf("chains of seeds %llu to %llu; repeat one with SEED=n\n", first, first + n - 1);
	fflush(stdout);
	for (unsigned long long i = first; i < first + n; i++)
		play_chain(&w, i, others && (seed || i % SAMPLE == 0));
	rmdir(w.base);
	printf("%llu chains, deepest %u: %u snapshots, %u writes, %u merges (%u where another "
	       "child "
	       "stood beside, %u refused), %u conversions, %u moves;\n"
	       "%u images read by libvhd, %u by the independent reader, %u by 7-Zip, %u by "
	       "qemu-img: "
	       "all as expected\n",
	       n, c->deepest, c->snapshots, c->writes, c->merges, c->shared, c->too_small,
	       c->converts, c->moves, c->by_own, c->by_flat, c->by_7z, c->by_qemu);
	if (n >= CHAINS && c->deepest < WORLD_DEPTH) {
		fprintf(stderr, "no chain was %u images deep\n", WORLD_DEPTH);
		return 1;
	}
	return 0;
}
