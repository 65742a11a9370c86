/* scan-list.c - all images of a scan kept: who is whose parent, and what is odd about it
 *
 * For trees and JSON only; what it keeps of an image is a few hundred bytes.  Links follow
 * what readers would open: the parent's file, not its id, which a copy has too.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "scan.h"

struct scan_record scan_record_of(const struct vhd_scan_image *image)
{
	struct scan_record r = {
		.name = (char *)image->name,
		.path = (char *)image->path,
		.parent = (char *)image->parent,
		.type = image->type,
		.size = image->size,
		.file_size = image->file_size,
		.hidden = image->hidden,
		.has_marker = image->has_marker,
		.has_keyhash = image->has_keyhash,
		.marker = image->marker,
		.device = image->device,
		.inode = image->inode,
		.parent_device = image->parent_device,
		.parent_inode = image->parent_inode,
	};

	memcpy(r.keyhash, image->keyhash, sizeof(r.keyhash));
	memcpy(r.id, image->id, sizeof(r.id));
	memcpy(r.parent_id, image->parent_id, sizeof(r.parent_id));
	if (image->error) {
		r.error = (char *)image->error->text;
		r.error_code = image->error->code;
	}
	if (image->parent_error)
		r.problems = image->parent_error->code == -VHD_E_PARENT_MISSING ?
				     SCAN_PARENT_MISSING :
				     SCAN_PARENT_WRONG;
	return r;
}

static void record_free(struct scan_record *r)
{
	if (!r)
		return;
	free(r->name);
	free(r->path);
	free(r->parent);
	free(r->error);
	free(r);
}

static bool copy_text(char **text)
{
	return !*text || (*text = strdup(*text));
}

static struct scan_record *record_new(const struct vhd_scan_image *image)
{
	struct scan_record *r = malloc(sizeof(*r));
	bool name, path, parent, error;

	if (!r)
		return NULL;
	*r = scan_record_of(image);
	/* each of them, so that none is left borrowed */
	name = copy_text(&r->name);
	path = copy_text(&r->path);
	parent = copy_text(&r->parent);
	error = copy_text(&r->error);
	if (name && path && parent && error)
		return r;
	record_free(r);
	return NULL;
}

int scan_list_add(struct scan_list *list, const struct vhd_scan_image *image)
{
	struct scan_record *r;

	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 256;
		struct scan_record **records = realloc(list->records, room * sizeof(r));

		if (!records)
			return -ENOMEM;
		list->records = records;
		list->room = room;
	}
	r = record_new(image);
	if (!r)
		return -ENOMEM;
	list->records[list->count++] = r;
	return 0;
}

void scan_list_release(struct scan_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		record_free(list->records[i]);
	free(list->records);
	memset(list, 0, sizeof(*list));
}

/* ── orders: arrays of records, sorted, then asked ── */

typedef int compare_fn(const void *a, const void *b);

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_file(const void *a, const void *b)
{
	const struct scan_record *x = *(struct scan_record *const *)a;
	const struct scan_record *y = *(struct scan_record *const *)b;
	int c = compare_numbers(x->device, y->device);

	return c ? c : compare_numbers(x->inode, y->inode);
}

static int by_name(const void *a, const void *b)
{
	const struct scan_record *x = *(struct scan_record *const *)a;
	const struct scan_record *y = *(struct scan_record *const *)b;

	return strcmp(x->name, y->name);
}

static int by_path(const void *a, const void *b)
{
	const struct scan_record *x = *(struct scan_record *const *)a;
	const struct scan_record *y = *(struct scan_record *const *)b;

	return strcmp(x->path ? x->path : x->name, y->path ? y->path : y->name);
}

/* Images with one id together, and of those the same file. */
static int by_id(const void *a, const void *b)
{
	const struct scan_record *x = *(struct scan_record *const *)a;
	const struct scan_record *y = *(struct scan_record *const *)b;
	int c = memcmp(x->id, y->id, sizeof(x->id));

	return c ? c : by_file(a, b);
}

struct order {
	size_t count;
	struct scan_record **at;
	compare_fn *compare;
};

/* The sound records of @list in an order. */
static bool order_make(const struct scan_list *list, compare_fn *compare, struct order *out)
{
	out->at = calloc(list->count + 1, sizeof(*out->at));
	if (!out->at)
		return false;
	out->compare = compare;
	out->count = 0;
	for (size_t i = 0; i < list->count; i++)
		if (!list->records[i]->error)
			out->at[out->count++] = list->records[i];
	qsort(out->at, out->count, sizeof(*out->at), compare);
	return true;
}

static struct scan_record *order_find(const struct order *o, const struct scan_record *key)
{
	struct scan_record **found;

	found = o->count ? bsearch(&key, o->at, o->count, sizeof(*o->at), o->compare) : NULL;
	return found ? *found : NULL;
}

/* ── ids ── */

static bool is_zero(const uint8_t id[16])
{
	static const uint8_t zero[16];

	return !memcmp(id, zero, sizeof(zero));
}

/* How many files of the scan carry @id: 0, 1, or 2 for more. */
static unsigned carriers(const struct order *ids, const uint8_t *id)
{
	size_t low = 0, high = ids->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(ids->at[middle]->id, id, 16) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == ids->count || memcmp(ids->at[low]->id, id, 16) != 0)
		return 0;
	for (size_t i = low + 1; i < ids->count && !memcmp(ids->at[i]->id, id, 16); i++)
		if (by_file(&ids->at[low], &ids->at[i]) != 0)
			return 2;
	return 1;
}

static void mark_ids(struct scan_list *list, const struct order *ids)
{
	for (size_t i = 0; i < ids->count; i++) {
		struct scan_record *r = ids->at[i];
		bool same = i && !memcmp(r->id, ids->at[i - 1]->id, sizeof(r->id));

		if (!same || is_zero(r->id))
			continue;
		if (by_file(&ids->at[i], &ids->at[i - 1]) != 0 ||
		    (ids->at[i - 1]->problems & SCAN_DUPLICATE_ID)) {
			r->problems |= SCAN_DUPLICATE_ID;
			/* backwards over the names of the same file before it */
			for (size_t k = i; k-- && !memcmp(r->id, ids->at[k]->id, sizeof(r->id)) &&
					   !(ids->at[k]->problems & SCAN_DUPLICATE_ID);)
				ids->at[k]->problems |= SCAN_DUPLICATE_ID;
		}
	}
	for (size_t i = 0; i < list->count; i++) {
		struct scan_record *r = list->records[i];

		if (!r->error && r->parent && !is_zero(r->parent_id) &&
		    carriers(ids, r->parent_id) > 1)
			r->problems |= SCAN_PARENT_AMBIGUOUS;
	}
}

/* ── parents ── */

static void link_files(struct scan_list *list, const struct order *files)
{
	for (size_t i = 0; i < list->count; i++) {
		struct scan_record *r = list->records[i];
		struct scan_record key = { .device = r->parent_device, .inode = r->parent_inode };

		if (!r->error && r->parent && (key.device || key.inode))
			r->up = order_find(files, &key);
	}
}

/* Volumes are known by their names. */
static void link_volumes(struct scan_list *list, const struct order *names)
{
	for (size_t i = 0; i < list->count; i++) {
		struct scan_record *r = list->records[i];
		char name[PATH_MAX];
		struct scan_record key = { .name = name };

		if (r->error || !r->parent)
			continue;
		scan_volumes_parent(list->volumes, r->parent, name);
		r->up = order_find(names, &key);
		if (r->up && !is_zero(r->parent_id) &&
		    memcmp(r->up->id, r->parent_id, sizeof(r->parent_id)) != 0)
			r->problems |= SCAN_PARENT_WRONG;
		if (!r->up && !scan_volumes_find(list->volumes, name))
			r->problems |= SCAN_PARENT_MISSING;
	}
}

/* Each record is passed once: the mark of a walk is the number of its start. */
static int mark_cycles(struct scan_list *list)
{
	size_t *seen = calloc(list->count + 1, sizeof(*seen));
	size_t at;

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++)
		list->records[i]->last = (struct scan_record *)&seen[i]; /* its place */
	for (size_t i = 0; i < list->count; i++) {
		struct scan_record *r = list->records[i], *start;

		for (; r; r = r->up) {
			at = (size_t)((size_t *)r->last - seen);
			if (seen[at])
				break;
			seen[at] = i + 1;
		}
		if (!r || seen[(size_t *)r->last - seen] != i + 1)
			continue;
		start = r; /* met twice on this walk: on the cycle */
		do {
			r->problems |= SCAN_CYCLE;
			r = r->up;
		} while (r != start);
	}
	for (size_t i = 0; i < list->count; i++)
		list->records[i]->last = NULL;
	free(seen);
	return 0;
}

static void mark_outside(struct scan_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct scan_record *r = list->records[i];

		if (!r->error && r->parent && !r->up &&
		    !(r->problems & (SCAN_PARENT_MISSING | SCAN_PARENT_WRONG)))
			r->problems |= SCAN_PARENT_OUTSIDE;
	}
}

static void hang_children(struct scan_list *list)
{
	if (list->count)
		qsort(list->records, list->count, sizeof(*list->records), by_path);
	/* those that are in use first, hidden ones behind */
	for (int hidden = 0; hidden < 2; hidden++) {
		for (size_t i = 0; i < list->count; i++) {
			struct scan_record *r = list->records[i];

			if (!r->up || r->hidden != (bool)hidden)
				continue;
			if (r->up->last)
				r->up->last->next = r;
			else
				r->up->child = r;
			r->up->last = r;
		}
	}
}

int scan_list_link(struct scan_list *list, bool tree)
{
	struct order files = { 0 }, ids = { 0 };
	bool volumes = list->volumes != NULL;
	int rc = -ENOMEM;

	if (order_make(list, volumes ? by_name : by_file, &files) &&
	    order_make(list, by_id, &ids)) {
		if (volumes)
			link_volumes(list, &files);
		else
			link_files(list, &files);
		mark_ids(list, &ids);
		mark_outside(list);
		rc = mark_cycles(list);
	}
	free(files.at);
	free(ids.at);
	if (!rc && tree)
		hang_children(list);
	return rc;
}
