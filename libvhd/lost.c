/* lost.c - ranges that are lost, told one by one */
#include "lost.h"

void lost_end(struct lost *l)
{
	if (l->pending.length && l->tell)
		l->tell(l->arg, &l->pending);
	l->pending.length = 0;
}

void lost_add(struct lost *l, uint64_t offset, uint64_t length, bool guessed, const char *why)
{
	struct vhd_lost *p = &l->pending;

	if (!length)
		return;
	if (guessed)
		l->guessed_bytes += length;
	else
		l->bytes += length;
	if (p->length && p->offset + p->length == offset && p->guessed == guessed &&
	    p->why == why) {
		p->length += length;
		return;
	}
	lost_end(l);
	*p = (struct vhd_lost){ offset, length, guessed, why };
}
