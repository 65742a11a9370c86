/* cmd-map.c - the extents of a disk: which layer has what, and where
 *
 * Extents are printed as they are found: their number is not bounded by
 * memory.  Neighbours that continue each other on the disk and in the file are
 * one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/chain.h"
#include "libvhd/error.h"
#include "libvhd/path.h"
#include "picture.h"

#define EXTENTS_MAX 256

struct mapping {
	struct vhd_chain *chain;
	struct print_json *json;   /* NULL: text */
	struct vhd_extent pending; /* not yet printed: the next may continue it */
};

static void print_as_json(struct mapping *m, const struct vhd_extent *e)
{
	bool data = e->kind == VHD_EXTENT_DATA;

	print_json_object(m->json, NULL);
	print_json_number(m->json, "start", e->offset);
	print_json_number(m->json, "length", e->length);
	/* what nobody has is the base's to say */
	print_json_number(m->json, "depth", data ? e->depth : m->chain->depth - 1);
	print_json_bool(m->json, "present", data);
	print_json_bool(m->json, "zero", !data);
	print_json_bool(m->json, "data", data);
	if (data) {
		print_json_number(m->json, "offset", e->file_offset);
		print_json_text(m->json, "filename", m->chain->images[e->depth]->io->name);
	}
	print_json_close(m->json);
}

static void print_as_text(const struct mapping *m, const struct vhd_extent *e)
{
	char name[PATH_TEXT_MAX];

	if (e->kind == VHD_EXTENT_ZERO)
		printf("%15" PRIu64 " %15" PRIu64 "     -  zero               -\n", e->offset,
		       e->length);
	else
		printf("%15" PRIu64 " %15" PRIu64 " %5u  data %15" PRIu64 "  %s\n", e->offset,
		       e->length, e->depth, e->file_offset,
		       path_quote(m->chain->images[e->depth]->io->name, name, sizeof(name)));
}

static void print_pending(struct mapping *m)
{
	if (!m->pending.length)
		return;
	if (m->json)
		print_as_json(m, &m->pending);
	else
		print_as_text(m, &m->pending);
}

static bool continues(const struct vhd_extent *a, const struct vhd_extent *b)
{
	if (!a->length || a->kind != b->kind)
		return false;
	return a->kind == VHD_EXTENT_ZERO ||
	       (a->depth == b->depth && a->file_offset + a->length == b->file_offset);
}

static int print_extents(struct mapping *m, struct vhd_error *err)
{
	uint64_t size = vhd_size(m->chain), at = 0;
	struct vhd_extent list[EXTENTS_MAX];

	while (at < size && !print_failed()) {
		int rc = vhd_extents(m->chain, at, size - at, list, EXTENTS_MAX, err);

		if (rc < 0)
			return rc;
		for (int k = 0; k < rc; k++) {
			at = list[k].offset + list[k].length;
			if (continues(&m->pending, &list[k])) {
				m->pending.length += list[k].length;
				continue;
			}
			print_pending(m);
			m->pending = list[k];
		}
	}
	print_pending(m);
	return 0;
}

static int print_map(struct vhd_chain *chain, const struct arguments *args, struct vhd_error *err)
{
	struct mapping m = { .chain = chain };
	struct print_json json;
	int rc = chain_prepare(chain, err); /* nothing is printed of what cannot be had */

	if (rc < 0)
		return rc;
	if (arguments_has(args, "picture"))
		return picture_print(chain, err);
	if (!args->json) {
		printf("%15s %15s %5s  %-4s %15s  %s\n", "start", "length", "layer", "kind",
		       "file offset", "file");
		return print_extents(&m, err);
	}
	m.json = &json;
	print_json_begin(&json, "map/1");
	print_json_array(&json, "extents");
	rc = print_extents(&m, err);
	if (!rc) /* half a list must not look whole */
		print_json_end(&json);
	return rc;
}

static int run_map(struct arguments *args)
{
	struct vhd_open_options options = { .parents = args->parents, .key = args->key };
	struct vhd_error err = { 0 };
	const char *path = arguments_image(args);
	struct vhd_chain *chain;
	int rc, status;

	if (!path)
		return EINVAL;
	if (args->json && arguments_has(args, "picture"))
		return usage_error("--json and --picture do not go together");
	if (vhd_open(path, &options, &chain, &err) < 0)
		return print_error(&err);
	if (chain->warning.code)
		print_warning(&chain->warning);
	rc = print_map(chain, args, &err);
	status = rc < 0 ? print_error(&err) : 0;
	rc = vhd_close(chain, &err);
	if (rc < 0 && !status)
		status = print_error(&err);
	return status;
}

static const struct option_spec map_options[] = {
	OPTION_NAME,	 { 0, "picture", NULL, "draw the allocation of each layer" },
	OPTION_KEY_FILE, OPTION_PARENT_ROOT,
	OPTION_JSON,	 { 0 },
};

const struct command command_map = {
	.name = "map",
	.summary = "list the extents of the disk: layer, kind, place",
	.operands = "FILE",
	.options = map_options,
	.run = run_map,
};
