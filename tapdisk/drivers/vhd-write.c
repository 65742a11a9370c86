/* vhd-write.c - writing to the leaf of a chain
 *
 *   reserve ─► data ─► written ─► next piece … ─► end
 *      │ waits for metadata or space
 *
 * A piece is what one reservation covers.  Its place is prepared (ORDER 8); the metadata
 * that names it follows with a later commit (ORDER 2).  Zeroing is writing too: it is
 * reserved and reported likewise, so that a flush covers it.
 */
#include <assert.h>

#include "libvhd/base/number.h"
#include "vhd-private.h"

#define EXTENTS 4

static void landed(struct vhd_req *v)
{
	struct vhd_disk *d = v->disk;

	v->landed = NULL;
	secret_give(v);
	if (d->map) {
		v->wait.count = v->piece;
		if (v->err)
			map_cancel(d->map, &v->wait);
		else
			map_written(d->map, &v->wait);
		vhd_touched(d);
	}
	v->sector += v->piece;
	v->left -= v->piece;
	v->pending = 1;
	if (v->left && !v->err)
		v->step(v);
	else
		pump_unref(v);
}

/* Reserve room for @count sectors, or for the start of them; extents, MAP_WAIT, or negative. */
static int reserve(struct vhd_req *v, uint64_t count, struct map_ext *ext, int max)
{
	struct vhd_disk *d = v->disk;
	int n;

	if (!d->map) {
		v->piece = count;
		ext[0] = (struct map_ext){ EXT_HERE, v->sector, count, v->sector };
		return 1;
	}
	v->wait.sector = v->sector;
	v->wait.count = count;
	v->wait.ready = vhd_step_again;
	n = map_write(d->map, &v->wait, ext, max);
	pump_soon(d); /* what it waits for, or a bitmap page beside the data (ORDER 9) */
	v->piece = v->wait.count;
	return n;
}

void vhd_write_piece(struct vhd_req *v, uint64_t count, enum engine_op op, uint8_t *buf)
{
	bool secret = v->disk->buffers;
	struct map_ext ext[EXTENTS];
	unsigned room = pump_room(v->disk, v);
	int n;

	assert(room); /* its own operation is not in flight between pieces */
	if (secret && !secret_take(v, &count))
		return;
	n = reserve(v, count, ext, (int)number_min(room, EXTENTS));
	if (n <= 0)
		secret_give(v);
	if (n == MAP_WAIT)
		return;
	if (n < 0) {
		v->err = n;
		pump_unref(v);
		return;
	}
	v->landed = landed;
	if (secret) {
		op = ENGINE_WRITE;
		v->err = secret_encrypt(v, buf, v->piece, &buf);
	}
	for (int i = 0; i < n && !v->err; i++) {
		bool issued = pump_issue(v, vhd_leaf(v->disk), op, ext[i].sector,
					 ext[i].file_sector, ext[i].count, buf);

		assert(issued);
		(void)issued;
		if (buf)
			buf += ext[i].count * VHD_SECTOR;
	}
	pump_unref(v);
}

void vhd_write_step(struct vhd_req *v)
{
	if (v->left)
		vhd_write_piece(v, v->left, ENGINE_WRITE,
				(uint8_t *)v->req->buf + (v->sector * VHD_SECTOR - v->req->offset));
	else
		pump_unref(v);
}
