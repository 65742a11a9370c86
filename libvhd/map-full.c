/* map-full.c - the batmap of a map: which blocks are full
 *
 *   live:  known_full in memory; bits on disk are never cleared one by one
 *   close: image = disk | known_full -> the other place, sync, header, sync
 *   frees: once, before the first is committed: zeros -> the other place, sync,
 *          header, sync (ORDER 10)
 *
 * Where there is no other place the map is overwritten: torn, its checksum
 * fails and readers ignore it.
 */
#include "map-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/number.h"

#define CHECKSUM_OF_ZEROS 0xffffffffu /* in both versions */

int full_init(struct vhd_map *map)
{
	struct map_batmap *f = &map->batmap;
	uint64_t full_bytes = number_div_up(map->blocks, 8);

	if (!map->p.batmap_bytes || !map->known_full || map->p.batmap_bytes < full_bytes)
		return 0;
	f->disk = malloc(map->p.batmap_bytes);
	f->image = malloc(map->p.batmap_bytes);
	if (!f->disk || !f->image)
		return -ENOMEM;
	memcpy(f->disk, map->p.batmap, map->p.batmap_bytes);
	memcpy(map->known_full, map->p.batmap, full_bytes);
	map->memory += 2 * map->p.batmap_bytes;
	return 0;
}

void full_release(struct vhd_map *map)
{
	free(map->batmap.disk);
	free(map->batmap.image);
}

uint64_t full_target(const struct vhd_map *map)
{
	return map->p.batmap_alternate ? map->p.batmap_alternate : map->p.batmap_offset;
}

/* Wanted since the first block was freed, whatever became of it after. */
bool full_must_zero(const struct vhd_map *map)
{
	return map->p.batmap_bytes && !map->batmap.zero && map->batmap.zero_wanted;
}

/* Full blocks, but never a partial last one. */
void full_render(struct vhd_map *map)
{
	struct map_batmap *f = &map->batmap;

	f->dirty = false;
	if (!f->disk || !map->known_full)
		return;
	memcpy(f->image, f->disk, map->p.batmap_bytes);
	for (uint64_t i = 0; i < number_div_up(map->blocks, 8); i++)
		f->image[i] |= map->known_full[i];
	if (map->p.batmap_bounded)
		memset(f->image + map->p.batmap_covered, 0,
		       map->p.batmap_bytes - map->p.batmap_covered);
	f->dirty = map->p.batmap_stale || memcmp(f->image, f->disk, map->p.batmap_bytes) != 0;
}

void full_render_header(struct vhd_map *map, bool zero)
{
	uint8_t *h = map->p.batmap_header;
	uint32_t sum = CHECKSUM_OF_ZEROS;

	if (!zero) {
		sum = batmap_checksum(map->batmap.image, map->p.batmap_covered,
				      be32_load(h + BATMAP_VERSION));
		map->batmap.zero = false; /* whether the write succeeds or not */
	}
	be64_store(h + BATMAP_OFFSET, full_target(map));
	be32_store(h + BATMAP_CHECKSUM, sum);
}

void full_stored(struct vhd_map *map, bool zero)
{
	struct map_batmap *f = &map->batmap;
	uint64_t used = map->p.batmap_offset;

	map->p.batmap_offset = full_target(map);
	if (map->p.batmap_alternate)
		map->p.batmap_alternate = used;
	map->p.batmap_stale = false;
	f->zero = zero;
	if (zero)
		f->zero_wanted = false;
	if (f->disk && zero)
		memset(f->disk, 0, map->p.batmap_bytes);
	else if (f->disk)
		memcpy(f->disk, f->image, map->p.batmap_bytes);
}
