/* commands.c - cbt-util: changed-block logs made, asked, changed and merged */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/print.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/cbt.h"
#include "libvhd/error.h"

#define PIECE_BYTES 65536u
#define UUID_TEXT   37

#define OPTION_LOG                             \
	{                                      \
		'n', "name", "FILE", "the log" \
	}

/* ── create ── */

static int run_create(struct arguments *args)
{
	const char *path = arguments_image(args);
	struct vhd_error err = { 0 };
	uint64_t size = 0;
	int rc;

	if (!path)
		return EINVAL;
	rc = arguments_size(args, "size", &size);
	if (rc < 0)
		return EINVAL;
	if (!rc)
		return usage_error("a size is needed: -s BYTES");
	if (cbt_create(path, size, arguments_has(args, "force"), args->dry_run, &err) < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would create '%s': for a disk of %" PRIu64 " bytes\n", path, size);
	return 0;
}

static const struct option_spec create_options[] = {
	{ 'n', "name", "FILE", "the log to make" },
	{ 's', "size", "BYTES", "size of the disk; K, M, G, T are understood" },
	{ 0, "force", NULL, "replace an existing file" },
	OPTION_DRY_RUN,
	{ 0 },
};

static const struct command cbt_create_command = {
	.name = "create",
	.summary = "make a log without a change",
	.operands = "FILE",
	.options = create_options,
	.run = run_create,
};

/* ── set ── */

/* 32 digits of hex, in groups of 8, 4, 4, 4 and 12 between dashes. */
static bool parse_uuid(const char *text, uint8_t out[16])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned k = 0; k < 32; k++, text++) {
		const char *digit;

		if ((k == 8 || k == 12 || k == 16 || k == 20) && *text++ != '-')
			return false;
		digit = *text ? strchr(digits, tolower((unsigned char)*text)) : NULL;
		if (!digit)
			return false;
		out[k / 2] = (uint8_t)(out[k / 2] << 4 | (digit - digits));
	}
	return !*text;
}

/* 1 given, 0 not given, -1 after the usage error. */
static int take_uuid(const struct arguments *args, const char *name, uint8_t out[16])
{
	const char *text = arguments_get(args, name);

	if (!text)
		return 0;
	if (parse_uuid(text, out))
		return 1;
	usage_error("--%s: '%s' is no UUID", name, text);
	return -1;
}

static int run_set(struct arguments *args)
{
	const char *path = arguments_image(args), *flag;
	struct vhd_error err = { 0 };
	struct cbt_change change = { 0 };
	uint8_t parent[16] = { 0 }, child[16] = { 0 };
	uint64_t size;
	bool consistent;
	int rc;

	if (!path)
		return EINVAL;
	rc = take_uuid(args, "parent", parent);
	change.parent = rc > 0 ? parent : NULL;
	if (rc >= 0) {
		rc = take_uuid(args, "child", child);
		change.child = rc > 0 ? child : NULL;
	}
	if (rc >= 0) {
		rc = arguments_size(args, "size", &size);
		change.size = rc > 0 ? &size : NULL;
	}
	if (rc < 0)
		return EINVAL;
	flag = arguments_get(args, "consistent");
	if (flag && strcmp(flag, "0") != 0 && strcmp(flag, "1") != 0)
		return usage_error("--consistent: '%s' is neither 0 nor 1", flag);
	consistent = flag && *flag == '1';
	change.consistent = flag ? &consistent : NULL;
	if (!change.parent && !change.child && !change.consistent && !change.size)
		return usage_error("nothing is to be set: -p, -c, -f or -s");
	if (cbt_set(path, &change, args->dry_run, &err) < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would change '%s'\n", path);
	return 0;
}

static const struct option_spec set_options[] = {
	OPTION_LOG,
	{ 'p', "parent", "UUID", "id of the log before this one" },
	{ 'c', "child", "UUID", "id of the log after this one" },
	{ 'f', "consistent", "0|1", "does it hold every change?" },
	{ 's', "size", "BYTES", "size of the disk" },
	OPTION_DRY_RUN,
	{ 0 },
};

static const struct command cbt_set_command = {
	.name = "set",
	.summary = "change what the header of a log says",
	.operands = "FILE",
	.options = set_options,
	.run = run_set,
};

/* ── get ── */

static int count_bits(const uint8_t *bits, size_t bytes)
{
	int count = 0;

	for (size_t i = 0; i < bytes; i++)
		count += __builtin_popcount(bits[i]);
	return count;
}

/* Pass over the bitmap: print it, or count its bits into *changed. */
static int pass(struct cbt *cbt, bool print, uint64_t *changed, struct vhd_error *err)
{
	uint64_t bytes = cbt_bitmap_bytes(cbt->header.size);
	CLEANUP_FREE uint8_t *bits = malloc(PIECE_BYTES);
	int rc = cbt_whole(cbt, err);

	if (!rc && !bits)
		rc = error_system(err, -ENOMEM, "read", cbt->io->name);
	*changed = 0;
	for (uint64_t at = 0; !rc && at < bytes; at += PIECE_BYTES) {
		size_t n = number_min(bytes - at, PIECE_BYTES);

		rc = cbt_read(cbt, bits, n, at, err);
		if (!rc)
			*changed += (uint64_t)count_bits(bits, n);
		if (!rc && print && !print_bytes(bits, n))
			break;
	}
	return rc;
}

static int print_everything(struct cbt *cbt, const char *path, struct vhd_error *err)
{
	struct print_json j;
	char parent[UUID_TEXT], child[UUID_TEXT];
	uint64_t changed;
	int rc = pass(cbt, false, &changed, err);

	if (rc < 0)
		return rc;
	print_json_begin(&j, "cbt-get/1");
	print_json_text(&j, "file", path);
	print_json_text(&j, "parent", print_uuid(cbt->header.parent, parent));
	print_json_text(&j, "child", print_uuid(cbt->header.child, child));
	print_json_bool(&j, "consistent", cbt->header.consistent);
	print_json_number(&j, "size", cbt->header.size);
	print_json_number(&j, "block_size", CBT_BLOCK_BYTES);
	print_json_number(&j, "changed_blocks", changed);
	print_json_end(&j);
	return 0;
}

static int answer(struct cbt *cbt, const struct arguments *args, struct vhd_error *err)
{
	char text[UUID_TEXT];
	uint64_t changed;

	if (arguments_has(args, "bitmap"))
		return pass(cbt, true, &changed, err);
	if (arguments_has(args, "parent"))
		puts(print_uuid(cbt->header.parent, text));
	else if (arguments_has(args, "child"))
		puts(print_uuid(cbt->header.child, text));
	else if (arguments_has(args, "consistent"))
		printf("%d\n", cbt->header.consistent);
	else
		printf("%" PRIu64 "\n", cbt->header.size);
	return 0;
}

static int run_get(struct arguments *args)
{
	static const char *const questions[] = { "parent", "child", "consistent", "size",
						 "bitmap" };
	const char *path = arguments_image(args);
	struct vhd_error err = { 0 };
	struct cbt cbt;
	unsigned asked = 0;
	int rc;

	if (!path)
		return EINVAL;
	for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++)
		asked += arguments_has(args, questions[i]);
	if (asked != 1 && !args->json)
		return usage_error(asked ? "one question at a time" :
					   "nothing was asked: -p, -c, -f, -s or -b");
	rc = cbt_open(path, false, &cbt, &err);
	if (rc < 0)
		return print_error(&err);
	rc = args->json ? print_everything(&cbt, path, &err) : answer(&cbt, args, &err);
	cbt_close(&cbt);
	return rc < 0 ? print_error(&err) : 0;
}

static const struct option_spec get_options[] = {
	OPTION_LOG,
	{ 'p', "parent", NULL, "id of the log before this one" },
	{ 'c', "child", NULL, "id of the log after this one" },
	{ 'f', "consistent", NULL, "1 if it holds every change, else 0" },
	{ 's', "size", NULL, "size of the disk in bytes" },
	{ 'b', "bitmap", NULL, "the bitmap itself: a bit for 64 KiB, least significant first" },
	{ 0, "json", NULL, "print JSON: everything but the bitmap" },
	{ 0 },
};

static const struct command cbt_get_command = {
	.name = "get",
	.summary = "tell what a log holds",
	.operands = "FILE",
	.options = get_options,
	.run = run_get,
};

/* ── coalesce ── */

static int run_coalesce(struct arguments *args)
{
	const char *parent = arguments_get(args, "parent"), *child = arguments_get(args, "child");
	struct vhd_error err = { 0 };

	if (!parent || !child)
		return usage_error("two logs are needed: -p PARENT -c CHILD");
	if (cbt_coalesce(parent, child, args->dry_run, &err) < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would merge '%s' into '%s'\n", parent, child);
	return 0;
}

static const struct option_spec coalesce_options[] = {
	{ 'p', "parent", "FILE", "the older log" },
	{ 'c', "child", "FILE", "the newer log, which gets the changes of both" },
	OPTION_DRY_RUN,
	{ 0 },
};

static const struct command cbt_coalesce_command = {
	.name = "coalesce",
	.summary = "add the changes of one log to the next",
	.operands = "",
	.options = coalesce_options,
	.run = run_coalesce,
};

static const struct command *const commands[] = {
	&cbt_create_command, &cbt_set_command, &cbt_get_command, &cbt_coalesce_command, NULL,
};

const struct program program = { .name = "cbt-util", .commands = commands };
