/* cmd-salvage.c - vhd-util salvage: what can be read of a damaged image, as a sound one */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "command.h"
#include "findings.h"

static void on_lost(void *arg, const struct vhd_lost *lost)
{
	ranges_add(arg, lost);
}

static void print_json_result(const char *source, const char *destination, bool dry_run,
			      const struct vhd_salvage_result *r, const struct ranges *lost)
{
	struct print_json j;

	print_json_begin(&j, "salvage/1");
	print_json_text(&j, "file", source);
	print_json_text(&j, "into", destination);
	print_json_bool(&j, "dry_run", dry_run);
	print_json_number(&j, "virtual_size", r->size);
	print_json_bool(&j, "size_guessed", r->assumed);
	print_json_number(&j, "data_bytes", r->data_bytes);
	print_json_number(&j, "lost_bytes", r->lost_bytes);
	print_json_number(&j, "guessed_bytes", r->guessed_bytes);
	print_json_number(&j, "unnamed_blocks", r->unnamed_blocks);
	ranges_print(lost, source, &j);
	print_json_end(&j);
}

static void print_text(const char *source, const char *destination, bool dry_run,
		       const struct vhd_salvage_result *r, const struct ranges *lost)
{
	ranges_print(lost, source, NULL);
	if (r->assumed)
		printf("%s: guessed: neither footer is valid; the disk is taken to have %" PRIu64
		       " bytes\n",
		       source, r->size);
	if (r->unnamed_blocks)
		printf("%s: where %" PRIu64 " blocks of the file belong is not known%s\n", source,
		       r->unnamed_blocks,
		       r->lost_bytes ?
			       "; --guess goes by their order, if there are as many as are lost" :
			       "");
	printf("%s %s: %" PRIu64 " bytes of data, %" PRIu64 " bytes lost, %" PRIu64 " guessed\n",
	       destination, dry_run ? "would have" : "has", r->data_bytes, r->lost_bytes,
	       r->guessed_bytes);
}

static int run_salvage(struct arguments *args)
{
	struct vhd_salvage_options o = {
		.guess = arguments_has(args, "guess"),
		.backup_footer = arguments_has(args, "backup-footer"),
		.end_footer = arguments_has(args, "end-footer"),
		.parent = arguments_get(args, "parent"),
		.force = arguments_has(args, "force"),
		.dry_run = args->dry_run,
		.lost = on_lost,
	};
	const char *source = arguments_image(args), *destination;
	struct vhd_salvage_result result;
	struct ranges lost = { .list = NULL };
	struct vhd_error err = { 0 };
	int rc;

	if (!source)
		return EINVAL;
	if (args->count != 1)
		return usage_error("a target is needed: vhd-util salvage SRC DST");
	destination = args->rest[0];
	if (o.backup_footer && o.end_footer)
		return usage_error("-b and --end-footer contradict each other");
	o.arg = &lost;
	o.progress = progress_begin("salvage", false);
	rc = vhd_salvage(source, destination, &o, &result, &err);
	progress_end();
	if (rc >= 0 && args->json)
		print_json_result(source, destination, args->dry_run, &result, &lost);
	else if (rc >= 0)
		print_text(source, destination, args->dry_run, &result, &lost);
	ranges_release(&lost);
	if (rc < 0)
		return print_error(&err);
	return result.lost_bytes || result.guessed_bytes || result.assumed ||
			       result.unnamed_blocks ?
		       EUCLEAN :
		       0;
}

static const struct option_spec salvage_options[] = {
	OPTION_NAME,
	{ 0, "guess", NULL, "take what is likely but not proven as well, and tell it" },
	{ 'b', "backup-footer", NULL, "where the footers differ, the copy at the front is right" },
	{ 0, "end-footer", NULL, "where the footers differ, the one at the end is right" },
	{ 0, "parent", "FILE", "parent of the image, where it cannot tell" },
	{ 0, "force", NULL, "replace what is there" },
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_salvage = {
	.name = "salvage",
	.summary = "make a sound image from what can be read of a damaged one",
	.operands = "SRC DST",
	.min_rest = 1,
	.max_rest = 1,
	.options = salvage_options,
	.run = run_salvage,
};
