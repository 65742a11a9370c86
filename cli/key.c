/* key.c - reading keys, and keeping the process that has one to itself */
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

/* Copies of the key are where libcrypto put them: no page of them is to be seen. */
static void keep_to_itself(void)
{
	const struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
}

int key_load(const char *file, struct vhd_key **out)
{
	bool from_stdin = !strcmp(file, "-");
	CLEANUP_FD int own = -1;
	struct vhd_error err = { 0 };

	keep_to_itself();
	if (!from_stdin) {
		own = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (own < 0) {
			error_system(&err, -errno, "open the key file", file);
			return print_error(&err);
		}
	}
	if (vhd_key_read(from_stdin ? STDIN_FILENO : own, from_stdin ? "standard input" : file, out,
			 &err) < 0)
		return print_error(&err);
	return 0;
}

int key_option(const struct arguments *args, const char *name, struct vhd_key **out)
{
	const char *file = arguments_get(args, name);

	*out = NULL;
	return file ? key_load(file, out) : 0;
}

void key_drop(struct vhd_key **key)
{
	vhd_key_put(*key);
	*key = NULL;
}
