/* vbd-info.c - what others see of a VBD: names, state, watchers, numbers, knobs */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "vbd-private.h"

/* ── copies ── */

void vbd_free_params(struct disk_params *params)
{
	const char *const *roots = params->parents.roots;

	for (unsigned i = 0; roots && roots[i]; i++)
		free((void *)(uintptr_t)roots[i]);
	free((void *)(uintptr_t)roots);
	params->parents.roots = NULL;
	vhd_key_put(params->key);
	params->key = NULL;
}

int vbd_copy_params(struct disk_params *to, const struct disk_params *from)
{
	const char *const *roots = from->parents.roots;
	unsigned count = 0;
	char **copy;

	*to = *from;
	to->key = vhd_key_get(from->key);
	if (!roots)
		return 0;
	while (roots[count])
		count++;
	copy = calloc(count + 1, sizeof(*copy));
	to->parents.roots = (const char *const *)copy;
	if (!copy)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		copy[i] = strdup(roots[i]);
		if (!copy[i]) {
			vbd_free_params(to);
			return -ENOMEM;
		}
	}
	return 0;
}

char *vbd_name_of(const char *spec)
{
	const char *path = disk_spec_path(spec), *slash, *dot;

	if (!path)
		path = spec;
	slash = strrchr(path, '/');
	if (slash && slash[1])
		path = slash + 1;
	dot = strrchr(path, '.');
	return dot && dot > path ? strndup(path, (size_t)(dot - path)) : strdup(path);
}

/* ── state ── */

unsigned vbd_minor(const struct vbd *vbd)
{
	return vbd->minor;
}

const char *vbd_name(const struct vbd *vbd)
{
	return vbd->name ? vbd->name : "";
}

const char *vbd_spec(const struct vbd *vbd)
{
	return vbd->spec;
}

unsigned vbd_state(const struct vbd *vbd)
{
	static const unsigned bits[] = {
		[LIFE_CLOSED] = VBD_CLOSED,
		[LIFE_OPENING] = VBD_CLOSED,
		[LIFE_RUNNING] = 0,
		[LIFE_HOLDING] = VBD_QUIESCE_REQUESTED,
		[LIFE_HELD] = VBD_QUIESCED,
		[LIFE_PAUSING] = VBD_PAUSE_REQUESTED,
		[LIFE_PAUSED] = VBD_PAUSED | VBD_QUIESCED,
		[LIFE_RESUMING] = VBD_PAUSED | VBD_QUIESCED,
		[LIFE_CLOSING] = VBD_SHUTDOWN_REQUESTED,
	};

	return bits[vbd->life] | (vbd->resume_failed ? VBD_RESUME_FAILED : 0);
}

const char *vbd_state_text(const struct vbd *vbd)
{
	static const char *const texts[] = {
		[LIFE_CLOSED] = "closed",   [LIFE_OPENING] = "opening",
		[LIFE_RUNNING] = "running", [LIFE_HOLDING] = "holding",
		[LIFE_HELD] = "held",	    [LIFE_PAUSING] = "pausing",
		[LIFE_PAUSED] = "paused",   [LIFE_RESUMING] = "resuming",
		[LIFE_CLOSING] = "closing",
	};

	return vbd->stalled && vbd->life == LIFE_RUNNING ? "stalled" : texts[vbd->life];
}

const char *vbd_reason(const struct vbd *vbd)
{
	if (vbd->stalled)
		return vbd->reason;
	return vbd->resume_failed ? vbd->resume_reason : "";
}

uint64_t vbd_pauses(const struct vbd *vbd)
{
	return vbd->pauses;
}

uint64_t vbd_size(const struct vbd *vbd)
{
	return vbd->size;
}

struct disk *vbd_disk(const struct vbd *vbd)
{
	switch (vbd->life) {
	case LIFE_RUNNING:
	case LIFE_HOLDING:
	case LIFE_HELD:
		return vbd->disk;
	default:
		return NULL;
	}
}

bool vbd_read_only(const struct vbd *vbd)
{
	return vbd->read_only;
}

void vbd_set_spec(struct vbd *vbd, const char *spec)
{
	char *copy = strdup(spec);

	if (!copy)
		return; /* the old name stays; there is nobody to tell */
	free(vbd->spec);
	vbd->spec = copy;
}

/* ── watchers ── */

void vbd_watch(struct vbd *vbd, struct vbd_watcher *w)
{
	list_append(&vbd->watchers, &w->link);
}

void vbd_unwatch(struct vbd *vbd, struct vbd_watcher *w)
{
	if (vbd->watch_next == &w->link)
		vbd->watch_next = w->link.next;
	list_remove(&w->link);
}

/* The next to be told, from vbd->watch_next on; any may unwatch while it is told. */
static struct vbd_watcher *next_watcher(struct vbd *vbd)
{
	struct list *link = vbd->watch_next;

	if (link == &vbd->watchers)
		return NULL;
	vbd->watch_next = link->next;
	return list_entry(link, struct vbd_watcher, link);
}

void vbd_tell(struct vbd *vbd, enum vbd_news news)
{
	struct list *outer = vbd->watch_next;
	struct vbd_watcher *w;

	vbd->watch_next = vbd->watchers.next;
	while ((w = next_watcher(vbd))) {
		void (*told)(struct vbd_watcher *) = news == VBD_NEWS_OPENED  ? w->opened :
						     news == VBD_NEWS_CLOSING ? w->closing :
						     news == VBD_NEWS_LOST    ? w->lost :
										w->resized;

		if (told)
			told(w);
	}
	vbd->watch_next = outer;
}

void vbd_event(struct vbd *vbd, const char *what, const char *text)
{
	struct list *outer = vbd->watch_next;
	struct vbd_watcher *w;

	vbd->watch_next = vbd->watchers.next;
	while ((w = next_watcher(vbd))) {
		if (w->event)
			w->event(w, what, text);
	}
	vbd->watch_next = outer;
}

void vbd_resize_failed(struct vbd *vbd, uint64_t bytes)
{
	vbd->size_tried = number_max(vbd->size_tried, bytes);
}

void vbd_resized(struct vbd *vbd)
{
	if (!vbd->disk || vbd->size == vbd->disk->size)
		return;
	vbd->size = vbd->disk->size;
	if (vbd->changes)
		changes_grow(vbd->changes, vbd->size);
	vbd_tell(vbd, VBD_NEWS_RESIZED);
}

/* ── storage in trouble ── */

void vbd_stalled(void *owner, int err)
{
	struct vbd *vbd = owner;

	if (vbd->quiet && !err)
		return;
	if (vbd->stalled)
		vbd->stats.stalled_ns += vbd_now(vbd) - vbd->stalled_since_ns;
	else if (err)
		vbd->stats.stalls++;
	vbd->stalled_since_ns = vbd_now(vbd);
	if (!!vbd->stalled == !!err) {
		vbd->stalled = err;
		return;
	}
	vbd->stalled = err;
	if (err) {
		snprintf(vbd->reason, sizeof(vbd->reason), "storage of '%s': %s; trying again",
			 vbd->spec ? vbd->spec : vbd_name(vbd), vhd_strerror(err));
		vbd_event(vbd, "stalled", vbd->reason);
	} else if (vbd->life == LIFE_RUNNING) {
		vbd_event(vbd, "running", "the storage answers again, or was given up");
	}
}

void vbd_disk_event(struct disk *disk, const char *what, const char *text)
{
	struct vbd *vbd = disk->owner;

	if (!strcmp(what, "flush-failed"))
		vbd->stats.flush_failures++;
	vbd_event(vbd, what, text);
}

void vbd_disk_lost(struct disk *disk)
{
	struct vbd *vbd = disk->owner;

	vbd->losses++;
	if (vbd->absent > vbd->flushed)
		vbd->owed = vbd->losses;
}

void vbd_changes_lost(void *owner, const char *text)
{
	vbd_event(owner, "changes-lost", text);
}

void vbd_retry_now(struct vbd *vbd)
{
	if (vbd->retry)
		retry_now(vbd->retry);
}

void vbd_retry_time(struct vbd *vbd, uint64_t ns)
{
	vbd->retry_ns = ns;
	if (vbd->retry)
		retry_set_time(vbd->retry, ns);
}

/* ── throttle, numbers ── */

void vbd_throttle(struct vbd *vbd, const struct vbd_limits *limits)
{
	uint64_t now = vbd_now(vbd);

	vbd->limits = *limits;
	throttle_set(&vbd->throttle.operations, limits->iops, limits->iops_burst, now);
	throttle_set(&vbd->throttle.bytes, limits->bytes, limits->bytes_burst, now);
	request_tokens(vbd);
}

void vbd_get_limits(const struct vbd *vbd, struct vbd_limits *out)
{
	*out = vbd->limits;
}

void vbd_get_stats(const struct vbd *vbd, struct vbd_stats *out)
{
	*out = vbd->stats;
	if (vbd->retry)
		out->retries += retry_count(vbd->retry);
	if (vbd->stalled)
		out->stalled_ns += vbd_now(vbd) - vbd->stalled_since_ns;
}
