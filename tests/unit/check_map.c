/* check_map.c - the map against a model disk: random order of completion, failures, lost syncs,
 * and a power cut after any step
 *
 * A seed decides everything (SEED=n repeats one, COUNT=n sets how many).  After a cut the image
 * is read by a reader of its own, straight from BAT and bitmaps:
 *   - a sector is at least as new as what was last flushed, and is some write to that very
 *     sector, or zero where it was never written or freed since;
 *   - no two BAT entries share space, none lies outside the file;
 *   - the batmap, where its checksum is right, says nothing that is not so;
 *   - the file's last sector is the footer, and never guest data.
 * Whenever a block gets a position: every state a cut may leave has zeros there, names no block
 * there, and has a footer behind it; and no lookup that lasts still reads from there.
 */
#include "map-world.h"
#include "tests/lib/suite.h"

static void play(unsigned long long seed)
{
	unsigned steps;

	world_begin(seed);
	steps = 100 + rnd(500);
	for (w.step = 0; w.step < steps; w.step++) {
		switch (rnd(20)) {
		case 0:
		case 1:
		case 2:
			guest_write();
			break;
		case 3:
			guest_flush(false);
			break;
		case 4:
			guest_lookup();
			break;
		case 5:
			if (!guest_writes() && !guest_moves() && !w.quiescing && !w.resize_to &&
			    rnd(2))
				guest_flush(true);
			break;
		case 6:
			reader_after_cut();
			break;
		case 7:
			if (rnd(8) == 0)
				guest_want();
			break;
		case 8:
			guest_free();
			break;
		case 9:
			guest_enter();
			break;
		case 10:
			guest_leave();
			break;
		case 11:
			if (rnd(10) == 0 && !w.resize_to)
				guest_resize();
			else if (rnd(20) == 0)
				map_set_cache(w.map, 1 + rnd(30000));
			break;
		case 12:
			guest_move();
			break;
		default:
			world_pump();
			world_complete();
		}
		guest_retry();
		reader_last_sector();
	}
	world_end();
}

int main(void)
{
	unsigned long long seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 1;
	unsigned long long count = getenv("SEED") ? 1 :
				   getenv("SOAK") ? 100000 :
						    4000 / suite_stride(4);

	if (getenv("COUNT"))
		count = strtoull(getenv("COUNT"), NULL, 0);
	printf("check_map: seeds %llu to %llu\n", seed, seed + count - 1);
	for (unsigned long long i = 0; i < count; i++)
		play(seed + i);
	printf("check_map: %llu worlds, all right\n", count);
	return 0;
}
