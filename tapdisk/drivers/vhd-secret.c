/* vhd-secret.c - encrypted images: ciphertext on its way to and from the storage
 *
 * What is read is decrypted where it lies, when it has come; what is written is encrypted beside
 * the client's buffer, which is not ours to change, in one of a few buffers made at start.  A
 * request that finds none waits its turn, as for an operation.
 *
 * Zeros on the disk are no zeros here (doc/format.md, "Encryption"): zeroes are written as
 * ciphertext, and trims of less than a block do nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "vhd-private.h"

#define BUFFERS	       64u
#define BUFFER_SECTORS 256u
#define BUFFER_BYTES   ((size_t)BUFFER_SECTORS * VHD_SECTOR)

struct vhd_buffer { /* the start of one that is free */
	struct vhd_buffer *next;
};

int secret_start(struct vhd_disk *d)
{
	if (!vhd_leaf(d)->crypt || d->params.read_only)
		return 0;
	d->buffers = aligned_alloc(REQUEST_ALIGN, BUFFERS * BUFFER_BYTES);
	if (!d->buffers)
		return -ENOMEM;
	for (size_t i = 0; i < BUFFERS; i++) {
		struct vhd_buffer *b = (void *)(d->buffers + i * BUFFER_BYTES);

		b->next = d->free_buffers;
		d->free_buffers = b;
	}
	return 0;
}

void secret_stop(struct vhd_disk *d)
{
	free(d->buffers);
	d->buffers = NULL;
	d->free_buffers = NULL;
}

bool secret_take(struct vhd_req *v, uint64_t *count)
{
	struct vhd_disk *d = v->disk;

	if (!d->free_buffers) {
		pump_wait(v);
		return false;
	}
	v->buffer = d->free_buffers;
	d->free_buffers = v->buffer->next;
	*count = number_min(*count, BUFFER_SECTORS);
	return true;
}

void secret_give(struct vhd_req *v)
{
	if (!v->buffer)
		return;
	v->buffer->next = v->disk->free_buffers;
	v->disk->free_buffers = v->buffer;
	v->buffer = NULL;
	pump_freed(v->disk);
}

int secret_encrypt(struct vhd_req *v, const uint8_t *from, uint64_t count, uint8_t **out)
{
	uint8_t *to = (uint8_t *)v->buffer;

	*out = to;
	if (!from) {
		memset(to, 0, count * VHD_SECTOR);
		from = to;
	}
	return crypt_encrypt(vhd_leaf(v->disk)->crypt, to, from, v->sector, count);
}
