/* cmd-info.c - what a person wants to know about an image and its chain
 *
 * Looks at each image of the chain by itself, without locks, and goes on as
 * far as it can: a parent that is missing is a finding, not a failure.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"
#include "headers.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/chain.h"
#include "libvhd/error.h"
#include "libvhd/path.h"
#include "peek.h"

/* One image of the chain, as found. */
struct layer {
	char *path;	      /* owned; the stored one when the image could not be opened */
	const char *state;    /* "ok", or the name of what is wrong */
	struct vhd_error why; /* when it is not ok */
	enum vhd_type type;
	uint64_t size, file_bytes, used_bytes;
	uint64_t device_id, inode;
	uint32_t block_size;
	uint64_t allocated, blocks;
	uint8_t id[VHD_UUID_BYTES];
	bool hidden, encrypted;
	unsigned problem_count;
	struct peek_problem problems[PEEK_PROBLEMS_MAX];
};

struct info {
	const char *path; /* as given */
	const struct vhd_parents *parents;
	struct layer *layers; /* owned; leaf first */
	unsigned count, room;
	struct vhd_footer footer; /* of the leaf */
	bool warned;
};

static void info_release(struct info *info)
{
	for (unsigned k = 0; k < info->count; k++)
		free(info->layers[k].path);
	free(info->layers);
}

static struct layer *add_layer(struct info *info, const char *path)
{
	struct layer *l;

	if (info->count == info->room) {
		unsigned room = info->room ? info->room * 2 : 8;

		l = realloc(info->layers, room * sizeof(*l));
		if (!l)
			return NULL;
		info->layers = l;
		info->room = room;
	}
	l = &info->layers[info->count];
	memset(l, 0, sizeof(*l));
	l->path = strdup(path);
	if (!l->path)
		return NULL;
	info->count++;
	return l;
}

static void set_wrong(struct layer *l, const struct vhd_error *why)
{
	l->why = *why;
	l->state = vhd_error_name(why->code);
}

/* What one open image says of itself. */
static int examine(struct info *info, struct vhd_image *image, struct vhd_error *err)
{
	struct layer *l = add_layer(info, image->io->name);
	struct vhd_error why = { 0 };
	bool sparse = image->type == VHD_TYPE_DYNAMIC || image->type == VHD_TYPE_DIFFERENCING;

	if (!l)
		return error_system(err, -ENOMEM, "examine", image->io->name);
	l->state = "ok";
	l->type = image->type;
	l->size = image->size;
	l->file_bytes = image->file_bytes;
	l->device_id = image->io->device_id;
	l->inode = image->io->inode;
	l->used_bytes = image->type == VHD_TYPE_RAW ? image->size : image->size + VHD_FOOTER_BYTES;
	l->hidden = image->footer.hidden;
	l->encrypted = image_is_encrypted(image);
	memcpy(l->id, image->footer.uuid, sizeof(l->id));
	if (sparse) {
		l->block_size = image->header.block_size;
		l->blocks = image->blocks;
		if (image_load(image, 0, &why) < 0) {
			set_wrong(l, &why);
		} else {
			l->allocated = image->totals.allocated;
			l->used_bytes = image_end_of_data(image) + VHD_FOOTER_BYTES;
		}
	}
	/* whatever reads on one footer says so where messages go, once; the list has all */
	if (!info->warned && (image->problems & (IMAGE_END_FOOTER_BAD | IMAGE_COPY_BAD)))
		info->warned = peek_warn(image);
	l->problem_count = peek_problems(image, l->problems);
	if (l->problem_count && l->problems[0].severity == VHD_DAMAGE && !l->why.code)
		l->state = vhd_error_name(l->problems[0].code);
	return 0;
}

/* Is @image one that the chain has already? */
static bool seen(const struct info *info, const struct vhd_image *image)
{
	for (unsigned k = 0; image->io->inode && k < info->count; k++)
		if (info->layers[k].inode == image->io->inode &&
		    info->layers[k].device_id == image->io->device_id)
			return true;
	return false;
}

/* A layer for the parent that could not be had. */
static int add_missing(struct info *info, struct vhd_image *child, const struct vhd_error *why,
		       struct vhd_error *err)
{
	char stored[PATH_TEXT_MAX];
	struct layer *l;

	if (chain_stored_parent(child, stored, sizeof(stored), NULL) < 0)
		snprintf(stored, sizeof(stored), "?");
	l = add_layer(info, stored);
	if (!l)
		return error_system(err, -ENOMEM, "examine", child->io->name);
	set_wrong(l, why);
	return 0;
}

/* The parent of @child into *out, NULL when the walk ends there. */
static int next_image(struct info *info, struct vhd_image *child, const char *directory,
		      struct vhd_image **out, struct vhd_error *err)
{
	CLEANUP(peek_close) struct vhd_image *parent = NULL;
	struct vhd_error why = { 0 };

	*out = NULL;
	if (!image_has_parent(child))
		return 0;
	if (chain_find_parent(child, directory, info->parents, false, &parent, &why) < 0)
		return add_missing(info, child, &why, err);
	if (seen(info, parent)) {
		error_set(&why, -VHD_E_CYCLE, "'%s' is its own ancestor", parent->io->name);
		return add_missing(info, child, &why, err);
	}
	if (info->count == VHD_CHAIN_MAX) {
		error_set(&why, -VHD_E_TOO_DEEP, "the chain of '%s' is longer than %u images",
			  info->path, VHD_CHAIN_MAX);
		return add_missing(info, child, &why, err);
	}
	*out = steal_ptr(&parent);
	return 0;
}

static int gather(struct info *info, struct vhd_error *err)
{
	CLEANUP(peek_close) struct vhd_image *image = NULL;
	CLEANUP_FREE char *directory = NULL;
	int rc = peek_open(info->path, 0, &image, err);

	if (rc < 0)
		return rc;
	info->footer = image->footer;
	directory = peek_directory(image);
	if (!directory)
		return error_system(err, -ENOMEM, "examine", info->path);
	while (image) {
		struct vhd_image *parent = NULL;

		rc = examine(info, image, err);
		if (!rc)
			rc = next_image(info, image, directory, &parent, err);
		if (rc < 0)
			return rc;
		image_close(image);
		image = parent;
	}
	return 0;
}

/* ── text ── */

static void line(const char *label, const char *text)
{
	char quoted[PATH_TEXT_MAX];

	printf("%-18s%s\n", label, path_quote(text, quoted, sizeof(quoted)));
}

static void size_line(const char *label, uint64_t bytes)
{
	char size[24];

	printf("%-18s%s (%" PRIu64 " bytes)\n", label, number_format_size(bytes, size), bytes);
}

static void print_layer(const struct layer *l, unsigned place)
{
	char quoted[PATH_TEXT_MAX], size[24], used[24];

	printf("  %2u  %s: ", place, path_quote(l->path, quoted, sizeof(quoted)));
	if (l->why.code && !l->size) {
		printf("%s\n", l->state);
		return;
	}
	printf("%s, %s, %s used%s%s", peek_type_name(l->type), number_format_size(l->size, size),
	       number_format_size(l->used_bytes, used), l->hidden ? ", hidden" : "",
	       l->encrypted ? ", encrypted" : "");
	printf(", %s\n", l->state);
}

static unsigned print_problems(const struct info *info)
{
	unsigned count = 0;

	for (unsigned k = 0; k < info->count; k++) {
		const struct layer *l = &info->layers[k];
		char quoted[PATH_TEXT_MAX];

		for (unsigned p = 0; p < l->problem_count; p++, count++)
			printf("%s  '%s': %s\n", count ? "" : "problems:\n",
			       path_quote(l->path, quoted, sizeof(quoted)), l->problems[p].text);
		if (l->why.code)
			printf("%s  %s\n", count++ ? "" : "problems:\n", l->why.text);
	}
	return count;
}

static void print_text(const struct info *info)
{
	const struct layer *leaf = &info->layers[0];
	const struct vhd_footer *f = &info->footer;
	char text[64];

	line("image:", leaf->path);
	line("type:", peek_type_name(leaf->type));
	size_line("virtual size:", leaf->size);
	size_line("file size:", leaf->file_bytes);
	size_line("used:", leaf->used_bytes);
	if (leaf->block_size) {
		size_line("block size:", leaf->block_size);
		printf("%-18s%" PRIu64 " of %" PRIu64 "\n", "allocated blocks:", leaf->allocated,
		       leaf->blocks);
	}
	headers_creator(f, text);
	printf("%-18s%s %u.%u\n", "creator:", *text ? text : "unknown", f->creator_version >> 16,
	       f->creator_version & 0xffff);
	line("created:", headers_time(f->timestamp, text));
	line("id:", print_uuid(f->uuid, text));
	line("hidden:", f->hidden ? "yes" : "no");
	if (leaf->encrypted)
		line("encrypted:", "yes");
	if (info->count > 1) {
		line("parent:", info->layers[1].path);
		printf("chain:\n");
		for (unsigned k = 0; k < info->count; k++)
			print_layer(&info->layers[k], k);
	} else {
		line("parent:", "none");
	}
	if (!print_problems(info))
		line("problems:", "none");
}

/* ── JSON ── */

static void json_layer(struct print_json *j, const struct layer *l)
{
	char text[40];

	print_json_object(j, NULL);
	print_json_text(j, "file", l->path);
	if (l->why.code && !l->size) {
		print_json_null(j, "format");
	} else {
		print_json_text(j, "format", peek_type_name(l->type));
		print_json_number(j, "virtual_size", l->size);
		print_json_number(j, "file_size", l->file_bytes);
		print_json_number(j, "used_size", l->used_bytes);
		print_json_text(j, "id", l->type == VHD_TYPE_RAW ? NULL : print_uuid(l->id, text));
		print_json_bool(j, "hidden", l->hidden);
		if (l->encrypted)
			print_json_bool(j, "encrypted", true);
	}
	print_json_text(j, "state", l->state);
	print_json_close(j);
}

static void json_problem(struct print_json *j, const char *file, int code,
			 enum vhd_severity severity, const char *text)
{
	static const char *const severities[] = { "note", "warning", "damage" };

	print_json_object(j, NULL);
	print_json_text(j, "code", vhd_error_name(code));
	print_json_text(j, "severity", severities[severity]);
	print_json_text(j, "file", file);
	print_json_text(j, "text", text);
	print_json_close(j);
}

static void json_lists(struct print_json *j, const struct info *info)
{
	print_json_array(j, "chain");
	for (unsigned k = 0; k < info->count; k++)
		json_layer(j, &info->layers[k]);
	print_json_close(j);
	print_json_array(j, "problems");
	for (unsigned k = 0; k < info->count; k++) {
		const struct layer *l = &info->layers[k];

		for (unsigned p = 0; p < l->problem_count; p++)
			json_problem(j, l->path, l->problems[p].code, l->problems[p].severity,
				     l->problems[p].text);
		if (l->why.code)
			json_problem(j, l->path, l->why.code, VHD_DAMAGE, l->why.text);
	}
	print_json_close(j);
}

static void print_as_json(const struct info *info)
{
	const struct layer *leaf = &info->layers[0];
	struct print_json j;
	char text[64];

	print_json_begin(&j, "info/1");
	print_json_text(&j, "file", info->path);
	print_json_text(&j, "format", peek_type_name(leaf->type));
	print_json_number(&j, "virtual_size", leaf->size);
	print_json_number(&j, "file_size", leaf->file_bytes);
	print_json_number(&j, "used_size", leaf->used_bytes);
	if (leaf->block_size) {
		print_json_number(&j, "block_size", leaf->block_size);
		print_json_number(&j, "allocated_blocks", leaf->allocated);
		print_json_number(&j, "total_blocks", leaf->blocks);
	} else {
		print_json_null(&j, "block_size");
		print_json_null(&j, "allocated_blocks");
		print_json_null(&j, "total_blocks");
	}
	print_json_text(&j, "creator", headers_creator(&info->footer, text));
	print_json_text(&j, "id", print_uuid(info->footer.uuid, text));
	print_json_text(&j, "created", headers_time(info->footer.timestamp, text));
	print_json_bool(&j, "hidden", leaf->hidden);
	if (leaf->encrypted)
		print_json_bool(&j, "encrypted", true);
	print_json_text(&j, "parent", info->count > 1 ? info->layers[1].path : NULL);
	json_lists(&j, info);
	print_json_end(&j);
}

static int run_info(struct arguments *args)
{
	CLEANUP(info_release) struct info info = { .parents = &args->parents };
	struct vhd_error err = { 0 };

	info.path = arguments_image(args);
	if (!info.path)
		return EINVAL;
	if (gather(&info, &err) < 0)
		return print_error(&err);
	if (args->json)
		print_as_json(&info);
	else
		print_text(&info);
	return 0;
}

static const struct option_spec info_options[] = {
	OPTION_NAME,
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	{ 0 },
};

const struct command command_info = {
	.name = "info",
	.summary = "tell about an image and its chain",
	.operands = "FILE",
	.options = info_options,
	.run = run_info,
};
