/* cmd-write.c - vhd-util write: standard input through the chain into the leaf */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/chain.h"
#include "libvhd/error.h"

#define PIECE_BYTES (1u << 20)

/* Bytes that standard input has from here on, if it is a file; else 0. */
static uint64_t input_bytes(void)
{
	struct stat st;
	off_t at = lseek(STDIN_FILENO, 0, SEEK_CUR);

	if (at < 0 || fstat(STDIN_FILENO, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < at)
		return 0;
	return (uint64_t)(st.st_size - at);
}

/* Fill @buf from standard input: bytes read, fewer only at its end; -errno, -EINTR after
 * Ctrl-C. */
static ssize_t read_piece(void *buf, size_t room, const struct vhd_progress *progress)
{
	size_t have = 0;

	while (have < room) {
		ssize_t n = read(STDIN_FILENO, (char *)buf + have, room - have);

		if (n < 0 && errno == EINTR && !progress->step(progress->arg, 0, 0))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

static int copy_input(struct vhd_chain *chain, uint64_t offset, uint64_t *written,
		      struct vhd_error *err)
{
	struct vhd_progress progress = progress_begin("writing", false);
	CLEANUP_FREE void *buf = malloc(PIECE_BYTES);
	uint64_t total = input_bytes();
	int rc = 0;

	if (!buf)
		return error_system(err, -ENOMEM, "read", "standard input");
	while (!rc) {
		ssize_t n = read_piece(buf, PIECE_BYTES, &progress);

		if (n == -EINTR)
			return error_set(err, -VHD_E_CANCELLED, "writing was interrupted");
		if (n < 0)
			return error_system(err, (int)n, "read", "standard input");
		if (!n)
			break;
		rc = vhd_write(chain, buf, (size_t)n, offset + *written, err);
		if (!rc)
			*written += (uint64_t)n;
		if (!rc && progress.step(progress.arg, *written, total))
			rc = error_set(err, -VHD_E_CANCELLED, "writing was interrupted");
	}
	return rc;
}

/* All that could refuse it, but for the data. */
static int dry_run(const char *path, struct vhd_open_options *options, uint64_t offset)
{
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;
	uint64_t size;

	options->flags |= CHAIN_DRY_RUN;
	if (vhd_open(path, options, &chain, &err) < 0)
		return print_error(&err);
	if (chain->warning.code)
		print_warning(&chain->warning);
	size = vhd_size(chain);
	vhd_close(chain, NULL);
	if (offset > size) {
		error_value(&err, -VHD_E_RANGE, 0, size, offset,
			    "cannot write '%s' at offset %" PRIu64 ": its disk ends at %" PRIu64,
			    path, offset, size);
		return print_error(&err);
	}
	printf("would write standard input to '%s' at offset %" PRIu64 "\n", path, offset);
	return 0;
}

static int run_write(struct arguments *args)
{
	struct vhd_open_options options = { .flags = VHD_OPEN_WRITE,
					    .parents = args->parents,
					    .key = args->key };
	const char *path = arguments_image(args);
	uint64_t offset = 0, written = 0;
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;
	int rc, status;

	if (!path)
		return EINVAL;
	rc = arguments_size(args, "offset", &offset);
	if (rc < 0)
		return EINVAL;
	if (!rc)
		return usage_error("a place is needed: --offset BYTES");
	if (args->key && !strcmp(arguments_get(args, "key-file"), "-"))
		return usage_error("standard input is what is written: --key-file needs a file");
	if (arguments_has(args, "force"))
		options.flags |= VHD_OPEN_FORCE;
	if (args->dry_run)
		return dry_run(path, &options, offset);
	if (vhd_open(path, &options, &chain, &err) < 0)
		return print_error(&err);
	if (chain->warning.code) /* of a parent: the image itself is restored */
		print_warning(&chain->warning);
	rc = copy_input(chain, offset, &written, &err);
	progress_end();
	if (rc < 0 && written)
		error_prefix(&err, "after %" PRIu64 " bytes were written", written);
	status = rc < 0 ? print_error(&err) : 0;
	rc = vhd_close(chain, &err); /* what was written before a failure is kept */
	if (rc < 0 && !status)
		status = print_error(&err);
	return status;
}

static const struct option_spec write_options[] = {
	OPTION_NAME,
	{ 0, "offset", "BYTES", "where on the disk (suffixes K, M, G, T)" },
	{ 0, "force", NULL, "write to a hidden image, or one half merged" },
	OPTION_KEY_FILE,
	OPTION_PARENT_ROOT,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_write = {
	.name = "write",
	.summary = "write standard input into the disk",
	.operands = "FILE",
	.options = write_options,
	.run = run_write,
};
