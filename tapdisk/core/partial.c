/* partial.c - requests that begin or end inside a sector
 *
 *        offset                                    end
 *   ┌──────┊──────┬─────────┬─────────┬─────────┬────┊────────┐
 *   │      ┊ head │        middle, whole sectors│tail┊        │
 *   └──────┊──────┴─────────┴─────────┴─────────┴────┊────────┘
 *
 * READ    edges into a buffer of ours and copied, the middle straight into place
 * WRITE   edges read, changed and written (ORDER 12), the middle written
 * ZERO    likewise; FAST_ZERO asks the middle first: nothing is changed if it refuses
 * TRIM    the middle alone
 * STATUS, CACHE   of all sectors touched; STATUS is cut to size
 *
 * The caller holds the range lock of a writer.  Pieces are requests of their own, from a pool; with
 * none left a request waits for one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "vbd-private.h"

#define POOL 32u

enum piece { PIECE_HEAD, PIECE_TAIL, PIECE_MIDDLE, PIECES };

struct vbd_partial {
	struct request piece[PIECES];
	struct list link;    /* vbd->partial_free */
	struct request *req; /* borrowed: whose pieces these are */
	unsigned pending;
	int err;
	struct {
		unsigned skip, length; /* bytes of the sector that belong to the request */
	} edge[2];
	uint8_t *sector[2]; /* of the edges */
};

struct pool {
	_Alignas(REQUEST_ALIGN) uint8_t sectors[POOL][2][REQUEST_SECTOR];
	struct vbd_partial partial[POOL];
};

int partial_open(struct vbd *vbd)
{
	struct pool *pool = aligned_alloc(REQUEST_ALIGN,
					  number_round_up(sizeof(*pool), REQUEST_ALIGN));

	list_init(&vbd->partial_free);
	list_init(&vbd->partial_waiting);
	if (!pool)
		return -ENOMEM;
	memset(pool, 0, sizeof(*pool));
	for (unsigned i = 0; i < POOL; i++) {
		struct vbd_partial *p = &pool->partial[i];

		p->sector[0] = pool->sectors[i][0];
		p->sector[1] = pool->sectors[i][1];
		list_append(&vbd->partial_free, &p->link);
	}
	vbd->partial_pool = pool;
	return 0;
}

void partial_close(struct vbd *vbd)
{
	free(vbd->partial_pool);
	vbd->partial_pool = NULL;
	list_init(&vbd->partial_free);
}

static void submit(struct vbd_partial *p, enum piece which, enum request_op op)
{
	struct vbd *vbd = p->req->vbd;
	struct request *r = &p->piece[which];

	r->op = op;
	r->flags = op == REQUEST_READ  ? 0 :
		   op == REQUEST_WRITE ? p->req->flags & REQUEST_FUA :
					 p->req->flags;
	r->vbd = vbd;
	r->started_ns = p->req->started_ns;
	r->core[3] = (uintptr_t)p;
	r->failing_ns = p->req->failing_ns;
	p->pending++;
	vbd->disk->ops->submit(vbd->disk, r);
}

static void edges(struct vbd_partial *p)
{
	for (unsigned i = 0; i < 2; i++) {
		if (p->edge[i].length)
			submit(p, (enum piece)i, REQUEST_READ);
	}
}

/* Where the pieces are: lengths of 0 for those that are not. */
static void cut(struct vbd_partial *p)
{
	const struct request *req = p->req;
	uint64_t end = req->offset + req->length;
	uint64_t first = number_round_up(req->offset, REQUEST_SECTOR);
	uint64_t last = number_round_down(end, REQUEST_SECTOR);
	struct request *head = &p->piece[PIECE_HEAD], *tail = &p->piece[PIECE_TAIL];
	struct request *middle = &p->piece[PIECE_MIDDLE];

	p->edge[0].length = p->edge[1].length = 0;
	p->edge[1].skip = 0;
	middle->length = 0;
	if (req->offset < first) {
		p->edge[0].skip = (unsigned)(req->offset % REQUEST_SECTOR);
		p->edge[0].length = (unsigned)(number_min(first, end) - req->offset);
		head->offset = first - REQUEST_SECTOR;
	}
	if (end > last && last >= first) {
		p->edge[1].length = (unsigned)(end - last);
		tail->offset = last;
	}
	head->length = tail->length = REQUEST_SECTOR;
	head->buf = p->sector[0];
	tail->buf = p->sector[1];
	if (last > first) {
		middle->offset = first;
		middle->length = last - first;
		middle->buf = req->buf ? (uint8_t *)req->buf + (first - req->offset) : NULL;
	}
}

/* The one piece of a request about ranges: all sectors it touches. */
static void cover(struct vbd_partial *p)
{
	const struct request *req = p->req;
	struct request *r = &p->piece[PIECE_MIDDLE];

	r->offset = number_round_down(req->offset, REQUEST_SECTOR);
	r->length = number_round_up(req->offset + req->length, REQUEST_SECTOR) - r->offset;
	r->buf = NULL;
	r->extents = req->extents;
	r->extent_max = req->extent_max;
	r->extent_count = 0;
	submit(p, PIECE_MIDDLE, req->op);
}

static void unref(struct vbd_partial *p);

static void begin(struct vbd_partial *p, struct request *req)
{
	struct request *middle = &p->piece[PIECE_MIDDLE];
	bool fast = req->op == REQUEST_ZERO && (req->flags & REQUEST_FAST_ZERO);

	p->req = req;
	p->err = 0;
	p->pending = 1;
	if (req->op == REQUEST_STATUS || req->op == REQUEST_CACHE) {
		cover(p);
		unref(p);
		return;
	}
	cut(p);
	if (fast && !middle->length)
		p->err = -ENOTSUP;
	else if (middle->length)
		submit(p, PIECE_MIDDLE, req->op);
	if (req->op != REQUEST_TRIM && !fast)
		edges(p);
	unref(p);
}

void partial_start(struct vbd *vbd, struct request *req)
{
	struct list *free = list_empty(&vbd->partial_waiting) ? list_pop(&vbd->partial_free) : NULL;

	if (free)
		begin(list_entry(free, struct vbd_partial, link), req);
	else
		/* a writer's own link is in vbd->writing: state is ours until the disk has it */
		list_append(&vbd->partial_waiting, (struct list *)(void *)req->state);
}

/* Cut the extents of whole sectors to what was asked. */
static void cut_extents(struct vbd_partial *p)
{
	struct request *req = p->req;
	const struct request *r = &p->piece[PIECE_MIDDLE];
	uint64_t left = req->length;
	unsigned n = 0;

	req->extents[0].length -= req->offset - r->offset;
	while (n < r->extent_count && left) {
		struct request_extent *e = &req->extents[n++];

		e->length = number_min(e->length, left);
		left -= e->length;
	}
	req->extent_count = n;
}

static void unref(struct vbd_partial *p)
{
	struct request *req = p->req;
	struct vbd *vbd = req->vbd;
	struct list *next;
	int err = p->err;

	if (--p->pending)
		return;
	if (req->op == REQUEST_STATUS && !err)
		cut_extents(p);
	next = list_pop(&vbd->partial_waiting);
	if (next)
		begin(p,
		      (struct request *)(void *)((char *)next - offsetof(struct request, state)));
	else
		list_append(&vbd->partial_free, &p->link);
	request_over(vbd, req, err);
}

/* A sector of an edge was read: hand it out, or change and write it. */
static void edge_read(struct vbd_partial *p, unsigned i)
{
	struct request *req = p->req;
	uint8_t *ours = p->sector[i] + p->edge[i].skip;
	uint8_t *theirs = (uint8_t *)req->buf;

	if (req->buf && i == PIECE_TAIL)
		theirs += req->length - p->edge[i].length;
	switch (req->op) {
	case REQUEST_READ:
		memcpy(theirs, ours, p->edge[i].length);
		return;
	case REQUEST_WRITE:
		memcpy(ours, theirs, p->edge[i].length);
		break;
	default:
		memset(ours, 0, p->edge[i].length);
		break;
	}
	submit(p, (enum piece)i, REQUEST_WRITE);
}

bool partial_completed(struct request *r, int err)
{
	struct vbd_partial *p = (struct vbd_partial *)(uintptr_t)r->core[3];
	enum piece which;

	if (!p)
		return false;
	which = (enum piece)(r - p->piece);
	if (err == -ECANCELED)
		p->req->failing_ns = r->failing_ns;
	/* a real failure counts more than a cancellation */
	if (err && (!p->err || p->err == -ECANCELED))
		p->err = err;
	if (!p->err && which == PIECE_MIDDLE && p->req->op == REQUEST_ZERO &&
	    (p->req->flags & REQUEST_FAST_ZERO))
		edges(p);
	else if (!p->err && which != PIECE_MIDDLE && r->op == REQUEST_READ)
		edge_read(p, which);
	unref(p);
	return true;
}
