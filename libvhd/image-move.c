/* image-move.c - synchronous moving and freeing of blocks */
#include <errno.h>

#include "image-private.h"

static struct map_req of_block(const struct vhd_image *img, uint32_t block)
{
	return (struct map_req){ .sector = (uint64_t)block * img->block_sectors };
}

int image_move(struct vhd_image *img, uint32_t block, uint64_t to, uint64_t *from, uint64_t *place,
	       struct vhd_error *err)
{
	struct map_req req = of_block(img, block);

	for (;;) {
		int rc;

		req.ready = image_wait_over;
		rc = map_move(img->map, &req, to, from, place);
		if (rc != -EAGAIN)
			return rc < 0 ? image_map_error(img, rc, "move a block of", err) : rc;
		rc = image_wait(img, &req);
		if (rc < 0)
			return image_map_error(img, rc, "move a block of", err);
	}
}

int image_moved(struct vhd_image *img, uint32_t block, struct vhd_error *err)
{
	struct map_req req = of_block(img, block);
	int rc = map_moved(img->map, &req);

	return rc < 0 ? image_map_error(img, rc, "move a block of", err) : 0;
}

void image_move_cancel(struct vhd_image *img, uint32_t block, int lost)
{
	struct map_req req = of_block(img, block);

	map_move_cancel(img->map, &req, lost);
}

int image_free(struct vhd_image *img, uint32_t block, uint32_t count, struct vhd_error *err)
{
	struct map_req req = of_block(img, block);
	uint64_t before = (uint64_t)map_new_blocks(img->map);
	uint64_t disk = img->size / VHD_SECTOR - req.sector;

	req.count = (uint64_t)count * img->block_sectors;
	if (req.count > disk)
		req.count = disk;
	for (;;) {
		int rc;

		req.ready = image_wait_over;
		rc = map_free(img->map, &req);
		if (rc >= 0)
			return (int)(before - (uint64_t)map_new_blocks(img->map));
		if (rc == -EAGAIN)
			rc = image_wait(img, &req);
		if (rc < 0)
			return image_map_error(img, rc, "free blocks of", err);
	}
}

int image_settle(struct vhd_image *img, struct vhd_error *err)
{
	struct map_io op;
	int rc = image_flush(img, err);

	while (!rc && map_next(img->map, &op))
		map_done(img->map, op.tag, image_perform(img->io, &op));
	return rc;
}
