/* key.c - reading keys, and keeping the process that has one to itself */
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/base/read-all.h"
#include "libvhd/base/undumpable.h"
#include "libvhd/error.h"

#define KEY_ROOM 65u /* one more than the longest key has */

int key_load(const char *file, struct vhd_key **out)
{
	bool from_stdin = !strcmp(file, "-");
	CLEANUP_FD int own = -1;
	struct vhd_error err = { 0 };

	process_undumpable();
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

int key_hand_over(int *out)
{
	CLEANUP_FD int fd = memfd_create("key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct vhd_error err = { 0 };
	uint8_t bytes[KEY_ROOM];
	ssize_t n;

	process_undumpable();
	/* more than a key has are too many */
	n = fd < 0 ? -errno : read_all(STDIN_FILENO, bytes, sizeof(bytes));
	if (n >= 0 && (write(fd, bytes, (size_t)n) != n || lseek(fd, 0, SEEK_SET) < 0))
		n = -errno;
	explicit_bzero(bytes, sizeof(bytes));
	if (n < 0) {
		error_system(&err, (int)n, "read the key on", "standard input");
		return print_error(&err);
	}
	*out = steal_fd(&fd);
	return 0;
}

void key_drop(struct vhd_key **key)
{
	vhd_key_put(*key);
	*key = NULL;
}
