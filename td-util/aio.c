/* aio.c - raw disks: a file or device is the disk, and nothing else is known of it */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/print.h"
#include "libvhd/atomic.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "libvhd/io-file.h"
#include "td-util.h"

#define MIB	  (1ull << 20)
#define MIB_SHIFT 20

/* @bytes of zeros, and their space with @reserve. */
static int make(struct vhd_io *io, uint64_t bytes, bool reserve)
{
	int rc = io_truncate(io, bytes);

	if (rc || !reserve || io->device)
		return rc;
	while ((rc = posix_fallocate(io_file_fd(io), 0, (off_t)bytes)) == EINTR)
		;
	return -rc;
}

int aio_create(struct arguments *args)
{
	const char *path = args->rest[0];
	bool force = arguments_has(args, "force");
	struct vhd_error err = { 0 };
	struct atomic a;
	uint64_t bytes;
	int rc;

	if (arguments_units(args, "size", MIB, &bytes) < 0)
		return EINVAL;
	if (!bytes || bytes > INT64_MAX)
		return usage_error("a size is needed, in MiB");
	if (args->dry_run) {
		if (atomic_check(path, force, &err) < 0)
			return print_error(&err);
		printf("would create '%s': raw, %" PRIu64 " bytes\n", path, bytes);
		return 0;
	}
	if (atomic_begin(path, force ? ATOMIC_FORCE : 0, &a, &err) < 0)
		return print_error(&err);
	rc = make(a.io, bytes, arguments_has(args, "fixed"));
	if (rc < 0) {
		atomic_abort(&a);
		error_system(&err, rc, "create", path);
		return print_error(&err);
	}
	return atomic_commit(&a, true, &err) < 0 ? print_error(&err) : 0;
}

static bool asks_parent(const struct arguments *args)
{
	return arguments_has(args, "parent") || arguments_has(args, "unresolved");
}

static void answer(const struct arguments *args, uint64_t bytes)
{
	if (arguments_has(args, "virtual-size"))
		printf("%" PRIu64 "\n", bytes >> MIB_SHIFT);
	if (arguments_has(args, "used-size"))
		printf("%" PRIu64 "\n", bytes);
	if (asks_parent(args))
		printf("%s has no parent\n", args->rest[0]);
	if (arguments_has(args, "hidden"))
		puts("hidden: 0");
}

static void answer_json(const struct arguments *args, uint64_t bytes)
{
	struct print_json json;

	print_json_begin(&json, "query/1");
	print_json_text(&json, "file", args->rest[0]);
	if (arguments_has(args, "virtual-size"))
		print_json_number(&json, "virtual_size", bytes);
	if (arguments_has(args, "used-size"))
		print_json_number(&json, "used_size", bytes);
	if (asks_parent(args))
		print_json_null(&json, "parent");
	if (arguments_has(args, "hidden"))
		print_json_number(&json, "hidden", 0);
	print_json_end(&json);
}

int aio_query(struct arguments *args)
{
	static const char *const others[] = { "marker", "depth", "allocated", "max-size" };
	const char *path = args->rest[0];
	struct vhd_error err = { 0 };
	struct vhd_io *io = NULL;
	uint64_t bytes = 0;
	int rc;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (!arguments_has(args, others[i]))
			continue;
		error_set(&err, -EOPNOTSUPP, "cannot query --%s of '%s': a raw disk has none",
			  others[i], path);
		return print_error(&err);
	}
	if (!arguments_has(args, "virtual-size") && !arguments_has(args, "used-size") &&
	    !asks_parent(args) && !arguments_has(args, "hidden"))
		return usage_error("nothing was asked");
	rc = io_file_open(path, 0, &io, &err);
	if (rc < 0)
		return print_error(&err);
	rc = io_size(io, &bytes);
	io_close(io);
	if (rc < 0) {
		error_system(&err, rc, "query", path);
		return print_error(&err);
	}
	if (args->json)
		answer_json(args, bytes);
	else
		answer(args, bytes);
	return 0;
}
