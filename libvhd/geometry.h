/* geometry.h - the cylinders/heads/sectors word of the footer */
#ifndef VHD_GEOMETRY_H
#define VHD_GEOMETRY_H

#include <stdint.h>

struct vhd_geometry {
	uint16_t cylinders;
	uint8_t heads;
	uint8_t sectors_per_track;
};

/* The published algorithm for a disk of @sectors; the boundary at
 * 65535 * 16 * 63 belongs to the larger class. */
struct vhd_geometry geometry_for(uint64_t sectors);

#endif
