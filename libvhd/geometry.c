/* geometry.c - the published cylinders/heads/sectors algorithm
 *
 * All divisions truncate, so the disk it describes is never larger than the
 * real one.  Below 68 sectors no cylinder is complete and the result has none.
 */
#include "geometry.h"

#include "base/number.h"

#define CYLINDERS_MAX 65535u
#define HEADS_MAX     16u

struct vhd_geometry geometry_for(uint64_t sectors)
{
	uint32_t n = (uint32_t)number_min(sectors, CYLINDERS_MAX * HEADS_MAX * 255u);
	uint32_t heads = HEADS_MAX, per_track, tracks;

	if (n >= CYLINDERS_MAX * HEADS_MAX * 63u) {
		per_track = 255;
		tracks = n / per_track;
	} else {
		per_track = 17;
		tracks = n / per_track;
		heads = (uint32_t)number_max((tracks + 1023) / 1024, 4);
		if (tracks >= heads * 1024 || heads > HEADS_MAX) {
			per_track = 31;
			heads = HEADS_MAX;
			tracks = n / per_track;
		}
		if (tracks >= heads * 1024) {
			per_track = 63;
			heads = HEADS_MAX;
			tracks = n / per_track;
		}
	}
	return (struct vhd_geometry){
		.cylinders = (uint16_t)(tracks / heads),
		.heads = (uint8_t)heads,
		.sectors_per_track = (uint8_t)per_track,
	};
}
