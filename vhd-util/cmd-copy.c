/* cmd-copy.c - vhd-util copy: a new image with the same data, encrypted if a key is given */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/key.h"
#include "cli/print.h"
#include "command.h"
#include "libvhd/base/cleanup.h"

static void print_result(const char *source, const char *destination,
			 const struct vhd_copy_result *r)
{
	struct print_json j;

	print_json_begin(&j, "copy/1");
	print_json_text(&j, "file", source);
	print_json_text(&j, "into", destination);
	print_json_number(&j, "virtual_size", r->size);
	print_json_number(&j, "data_bytes", r->data_bytes);
	print_json_number(&j, "file_size", r->file_bytes);
	print_json_bool(&j, "encrypted", r->encrypted);
	print_json_end(&j);
}

/* Standard input has one key. */
static int load_keys(struct arguments *args, struct vhd_key **source, struct vhd_key **stdin_key)
{
	const char *of_source = arguments_get(args, "source-key-file");
	const char *of_copy = arguments_get(args, "key-file");
	bool encrypt = arguments_has(args, "encrypt");
	int readers = encrypt + (of_source && !strcmp(of_source, "-")) +
		      (of_copy && !strcmp(of_copy, "-"));

	if (encrypt && of_copy)
		return usage_error("-k and -E exclude each other");
	if (readers > 1)
		return usage_error("only one key can be read from standard input");
	if (encrypt) {
		int status = key_load("-", stdin_key);

		if (status)
			return status;
	}
	return key_option(args, "source-key-file", source);
}

static int run_copy(struct arguments *args)
{
	CLEANUP(key_drop) struct vhd_key *source_key = NULL, *stdin_key = NULL;
	struct vhd_copy_options o = { .parents = args->parents };
	const char *source = arguments_image(args);
	const char *destination = arguments_get(args, "new-name");
	struct vhd_copy_result result;
	struct vhd_error err = { 0 };
	int status, rc;

	if (!source)
		return EINVAL;
	if (!destination && args->count == 1)
		destination = args->rest[0];
	else if (!destination || args->count)
		return usage_error("a source and a destination are needed: -n SRC -N DST");
	status = load_keys(args, &source_key, &stdin_key);
	if (status)
		return status;
	o.source_key = source_key;
	o.key = stdin_key ? stdin_key : args->key;
	o.force = arguments_has(args, "force");
	o.dry_run = args->dry_run;
	o.progress = progress_begin("copying", false);
	rc = vhd_copy(source, destination, &o, &result, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	if (args->json)
		print_result(source, destination, &result);
	else if (args->dry_run)
		printf("would copy '%s' to '%s'%s\n", source, destination,
		       result.encrypted ? ", encrypted" : "");
	return 0;
}

static const struct option_spec copy_options[] = {
	{ 'n', "name", "FILE", "the source" },
	{ 'N', "new-name", "FILE", "the image to make" },
	{ 'k', "key-file", "FILE", "encrypt it with this key; - is standard input" },
	{ 'E', "encrypt", NULL, "encrypt it with the key on standard input" },
	{ 0, "source-key-file", "FILE", "key of an encrypted source, which is decrypted" },
	{ 0, "force", NULL, "replace an existing file" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_copy = {
	.name = "copy",
	.summary = "make another image with the same data",
	.operands = "SRC DST",
	.max_rest = 1,
	.options = copy_options,
	.run = run_copy,
};
