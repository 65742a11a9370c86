/* cmd-query.c - one fact a line, for scripts
 *
 * The order of lines is fixed whatever the order of options: scripts count
 * lines.  Only what a question needs is read: parents for -p and -d, the
 * block table for -s and -a; everything else is in footer and header.
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
#include "peek.h"

#define MIB_SHIFT 20

struct query {
	struct vhd_image *image;
	const char *path; /* as given */
	const struct arguments *args;
	struct print_json *json; /* NULL: text */
	bool surveyed, warned;
};

/* The totals, once. */
static int survey(struct query *q, struct vhd_error *err)
{
	uint32_t bad;
	int rc = q->surveyed ? 0 : image_survey(q->image, &bad, err);

	q->surveyed = !rc;
	return rc;
}

static int ask_size(struct query *q, struct vhd_error *err)
{
	(void)err;
	if (q->json)
		print_json_number(q->json, "virtual_size", q->image->size);
	else
		printf("%" PRIu64 "\n", q->image->size >> MIB_SHIFT);
	return 0;
}

static int ask_used(struct query *q, struct vhd_error *err)
{
	uint64_t used;
	int rc = survey(q, err);

	if (rc < 0)
		return rc;
	used = image_end_of_data(q->image) + VHD_FOOTER_BYTES;
	if (q->json)
		print_json_number(q->json, "used_size", used);
	else
		printf("%" PRIu64 "\n", used);
	return 0;
}

static int say_parent(struct query *q, const char *parent)
{
	if (q->json)
		print_json_text(q->json, "parent", parent);
	else
		puts(parent);
	return 0;
}

static int ask_parent(struct query *q, struct vhd_error *err)
{
	CLEANUP(peek_close) struct vhd_image *parent = NULL;
	CLEANUP_FREE char *directory = NULL;
	char stored[4096];
	int rc;

	if (!image_has_parent(q->image)) {
		if (q->json)
			print_json_null(q->json, "parent");
		else
			printf("%s has no parent\n", q->path);
		return 0;
	}
	if (arguments_has(q->args, "unresolved")) {
		rc = chain_stored_parent(q->image, stored, sizeof(stored), err);
		return rc < 0 ? rc : say_parent(q, stored);
	}
	directory = peek_directory(q->image);
	if (!directory)
		return error_system(err, -ENOMEM, "query", q->path);
	rc = chain_find_parent(q->image, directory, &q->args->parents, false, &parent, err);
	if (rc < 0)
		return rc;
	q->warned = q->warned || peek_warn(parent);
	return say_parent(q, parent->io->name);
}

static int ask_hidden(struct query *q, struct vhd_error *err)
{
	(void)err;
	if (q->json)
		print_json_number(q->json, "hidden", q->image->footer.hidden);
	else
		printf("hidden: %u\n", q->image->footer.hidden);
	return 0;
}

static int ask_marker(struct query *q, struct vhd_error *err)
{
	if (!q->image->has_batmap)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot query the marker of '%s': it is kept in the batmap, and "
				 "this image has none",
				 q->path);
	if (q->json)
		print_json_number(q->json, "marker", q->image->batmap_header.marker);
	else
		printf("marker: %u\n", q->image->batmap_header.marker);
	return 0;
}

static int ask_depth(struct query *q, struct vhd_error *err)
{
	struct vhd_open_options options = {
		.flags = VHD_OPEN_NO_LOCK | VHD_OPEN_FORCE,
		.parents = q->args->parents,
	};
	struct vhd_chain *chain;
	unsigned depth;
	int rc = vhd_open(q->path, &options, &chain, err);

	if (rc < 0)
		return rc;
	if (chain->warning.code && !q->warned) {
		print_warning(&chain->warning);
		q->warned = true;
	}
	depth = vhd_depth(chain);
	rc = vhd_close(chain, err);
	if (rc < 0)
		return rc;
	if (q->json)
		print_json_number(q->json, "chain_depth", depth);
	else
		printf("chain depth: %u\n", depth);
	return 0;
}

static int ask_blocks(struct query *q, struct vhd_error *err)
{
	int rc;

	if (q->image->type == VHD_TYPE_FIXED)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot query the allocated blocks of '%s': a fixed image has no "
				 "blocks",
				 q->path);
	rc = survey(q, err);
	if (rc < 0)
		return rc;
	if (q->json)
		print_json_number(q->json, "allocated_blocks", q->image->totals.allocated);
	else
		printf("%" PRIu64 "\n", q->image->totals.allocated);
	return 0;
}

/* As far as the block table reaches: what resize -f can do without moving anything. */
static int ask_reach(struct query *q, struct vhd_error *err)
{
	uint64_t reach = q->image->size;

	(void)err;
	if (q->image->type != VHD_TYPE_FIXED)
		reach = (uint64_t)q->image->header.max_entries * q->image->header.block_size;
	reach = number_max(number_min(reach, VHD_SIZE_MAX), q->image->size);
	if (q->json)
		print_json_number(q->json, "max_size", reach);
	else
		printf("%" PRIu64 "\n", reach >> MIB_SHIFT);
	return 0;
}

/* The order of the answers. */
static const struct {
	const char *option;
	int (*ask)(struct query *q, struct vhd_error *err);
} questions[] = {
	{ "virtual-size", ask_size }, { "used-size", ask_used }, { "parent", ask_parent },
	{ "hidden", ask_hidden },     { "marker", ask_marker },	 { "depth", ask_depth },
	{ "allocated", ask_blocks },  { "max-size", ask_reach },
};
#define QUESTIONS (sizeof(questions) / sizeof(questions[0]))

static bool asked(const struct arguments *args, size_t k)
{
	/* -u says how -p is meant; alone it asks for the parent */
	return arguments_has(args, questions[k].option) ||
	       (questions[k].ask == ask_parent && arguments_has(args, "unresolved"));
}

/* A question that cannot be answered does not keep the others from it. */
static int answer(struct query *q)
{
	struct vhd_error err = { 0 };
	int status = 0;

	for (size_t k = 0; k < QUESTIONS; k++) {
		if (!asked(q->args, k) || questions[k].ask(q, &err) >= 0)
			continue;
		if (!status)
			status = print_error(&err);
		else
			print_error(&err);
	}
	return status;
}

static int run_query(struct arguments *args)
{
	CLEANUP(peek_close) struct vhd_image *image = NULL;
	const char *path = arguments_image(args);
	struct query q = { .path = path, .args = args };
	struct print_json json;
	struct vhd_error err = { 0 };
	bool any = false;
	int status;

	if (!path)
		return EINVAL;
	for (size_t k = 0; k < QUESTIONS; k++)
		any = any || asked(args, k);
	if (!any)
		return usage_error("nothing was asked");
	if (peek_open(path, arguments_has(args, "backup-footer") ? IMAGE_BACKUP_FOOTER : 0, &image,
		      &err) < 0)
		return print_error(&err);
	q.warned = peek_warn(image);
	q.image = image;
	if (!args->json)
		return answer(&q);
	print_json_begin(&json, "query/1");
	print_json_text(&json, "file", path);
	q.json = &json;
	status = answer(&q);
	print_json_end(&json);
	return status;
}

static const struct option_spec query_options[] = {
	OPTION_NAME,
	{ 'v', "virtual-size", NULL, "size of the disk in MiB" },
	{ 's', "used-size", NULL, "bytes used by the image: end of data and footer" },
	{ 'p', "parent", NULL, "absolute path of the parent" },
	{ 'u', "unresolved", NULL, "with -p: the parent's path as stored" },
	{ 'f', "hidden", NULL, "the hidden byte" },
	{ 'm', "marker", NULL, "the marker byte of the batmap" },
	{ 'd', "depth", NULL, "number of images in the chain" },
	{ 'a', "allocated", NULL, "number of allocated blocks" },
	{ 'S', "max-size", NULL, "largest size in MiB that a fast resize reaches" },
	{ 0, "backup-footer", NULL, "use the copy of the footer at the start" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	{ 0 },
};

const struct command command_query = {
	.name = "query",
	.summary = "answer questions about an image, one value a line",
	.operands = "FILE",
	.options = query_options,
	.run = run_query,
};
