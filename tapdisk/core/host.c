/* host.c - all the VBDs of a process, and whose turn it is
 *
 * VBDs share the engine.  A request weighs 1 and 1 more for each 64 KiB.  While all
 * that is with the disks weighs less than the host's room, requests start as they come.
 * Beyond, one VBD's requests would only queue up in front of the others': they
 * wait, and VBDs take turns as others are answered.  A VBD with less than its share
 * (the room by the number of busy VBDs) with the disks does not wait, so one whose
 * storage is stuck does not take the others' room.
 */
#include "host.h"

#include "libvhd/base/number.h"
#include "vbd-private.h"

#define HOST_ROOM 512u
#define REOPEN_NS UINT64_C(30000000000)

static int open_image(struct host *host, const char *spec, const struct disk_params *params,
		      struct disk **out, struct vhd_error *err)
{
	(void)host;
	return disk_open(spec, params, out, err);
}

void host_init(struct host *host, struct loop *loop, struct engine *engine)
{
	*host = (struct host){ .loop = loop,
			       .engine = engine,
			       .open = open_image,
			       .room = HOST_ROOM,
			       .reopen_ns = REOPEN_NS };
	list_init(&host->vbds);
	list_init(&host->disks);
	list_init(&host->waiting);
}

static struct vbd *vbd_at(const struct list *link)
{
	return list_entry(link, struct vbd, link);
}

struct vbd *host_next(const struct host *host, const struct vbd *vbd)
{
	const struct list *next = vbd ? vbd->link.next : host->vbds.next;

	return next == &host->vbds ? NULL : vbd_at(next);
}

struct vbd *host_find(const struct host *host, unsigned minor)
{
	struct vbd *vbd = NULL;

	do
		vbd = host_next(host, vbd);
	while (vbd && vbd->minor != minor);
	return vbd;
}

unsigned host_free_minor(const struct host *host)
{
	unsigned minor = 0;

	for (const struct vbd *v = host_next(host, NULL); v; v = host_next(host, v)) {
		if (v->minor > minor)
			break;
		minor = v->minor + 1;
	}
	return minor;
}

void host_add(struct host *host, struct vbd *vbd)
{
	struct list *before = &host->vbds;

	for (struct vbd *v = host_next(host, NULL); v; v = host_next(host, v)) {
		if (v->minor > vbd->minor) {
			before = &v->link;
			break;
		}
	}
	list_append(before, &vbd->link);
}

void host_remove(struct vbd *vbd)
{
	list_remove(&vbd->link);
}

/* ── turns ── */

/* May @vbd, whose turn it is or before whom nobody waits (@first), start something of @load? */
static bool may_start(const struct vbd *vbd, uint64_t load, bool first)
{
	const struct host *host = vbd->host;
	uint64_t share = host->room / (host->active + !vbd->load);

	return !vbd->load || vbd->load + load <= share ||
	       (first && host->load + load <= host->room);
}

void host_count(struct vbd *vbd, uint64_t load)
{
	struct host *host = vbd->host;

	host->active += !vbd->load;
	vbd->load += load;
	host->load += load;
}

bool host_enter(struct vbd *vbd, uint64_t load)
{
	struct list *waiting = &vbd->host->waiting;

	if (!list_linked(&vbd->turn) && may_start(vbd, load, list_empty(waiting))) {
		host_count(vbd, load);
		return true;
	}
	if (!list_linked(&vbd->turn))
		list_append(waiting, &vbd->turn);
	return false;
}

/* The first in the ring that may go on; it leaves the ring.  Who has less than its share comes before
 * who wants what is left. */
static struct vbd *next_turn(struct host *host)
{
	for (int left = 0; left < 2; left++) {
		for (struct list *l = host->waiting.next; l != &host->waiting; l = l->next) {
			struct vbd *vbd = list_entry(l, struct vbd, turn);

			if (may_start(vbd, 1, left)) {
				list_remove(l);
				return vbd;
			}
		}
	}
	return NULL;
}

void host_leave(struct vbd *vbd, uint64_t load)
{
	struct host *host = vbd->host;
	struct vbd *next;

	vbd->load -= load;
	host->load -= load;
	host->active -= !vbd->load;
	/* what starts may be over before it returns, and come here again */
	if (host->serving)
		return;
	host->serving = true;
	while ((next = next_turn(host))) {
		if (request_turn(next))
			list_append(&host->waiting, &next->turn);
	}
	host->serving = false;
}

void host_forget_turn(struct vbd *vbd)
{
	list_remove(&vbd->turn);
}
