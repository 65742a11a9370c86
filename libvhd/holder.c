/* holder.c - which process holds a byte-range lock: a walk through /proc
 *
 *   /proc/PID/fd/N      is it the same file?  (stat follows the link)
 *   /proc/PID/fdinfo/N  "lock:\t1: OFDLCK  ADVISORY  WRITE -1 08:02:131 START END|EOF"
 *   /proc/PID/comm      the name to show
 *
 * Only for a message after a refusal, so it may be slow; whatever cannot be
 * read is passed over.  The device number in the lock line is not compared:
 * on btrfs it differs from what stat says.
 */
#include "holder.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"

struct wanted {
	dev_t device;
	ino_t inode;
	pid_t own_pid;
	int own_fd;
	bool exclusive;
	uint64_t start, length;
};

static void close_directory(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Is @line an OFD lock that stands in the way? */
static bool line_conflicts(const char *line, const struct wanted *w)
{
	char kind[16], mode[16], last[32];
	uint64_t start, end = UINT64_MAX;

	if (sscanf(line, "lock: %*s %15s %*s %15s %*s %*s %" SCNu64 " %31s", kind, mode, &start,
		   last) != 4)
		return false;
	if (strcmp(kind, "OFDLCK") || (!w->exclusive && strcmp(mode, "WRITE")))
		return false;
	if (strcmp(last, "EOF") && !number_parse(last, &end))
		return false;
	return start < w->start + w->length && w->start <= end;
}

static bool descriptor_conflicts(const char *process, const char *fd, const struct wanted *w)
{
	char path[64], line[256];
	struct stat st;
	bool found = false;
	FILE *f;

	if (snprintf(path, sizeof(path), "/proc/%.16s/fd/%.16s", process, fd) < 0 ||
	    stat(path, &st) < 0 || st.st_dev != w->device || st.st_ino != w->inode)
		return false;
	if (snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", process, fd) < 0)
		return false;
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = line_conflicts(line, w);
	fclose(f);
	return found;
}

static bool process_conflicts(const char *process, const struct wanted *w)
{
	char path[64], own[16] = "";
	struct dirent *entry;

	if (strtol(process, NULL, 10) == w->own_pid)
		snprintf(own, sizeof(own), "%d", w->own_fd);
	if (snprintf(path, sizeof(path), "/proc/%.16s/fd", process) < 0)
		return false;
	CLEANUP(close_directory) DIR *fds = opendir(path);
	if (!fds)
		return false;
	while ((entry = readdir(fds)))
		if (isdigit((unsigned char)entry->d_name[0]) && strcmp(entry->d_name, own) &&
		    descriptor_conflicts(process, entry->d_name, w))
			return true;
	return false;
}

static void describe(const char *process, char *buf, size_t room)
{
	char path[64], name[32] = "";
	ssize_t n = -1;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", process);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, name, sizeof(name) - 1);
	name[n > 0 ? n : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
	/* a process may call itself anything: nothing that could upset a terminal */
	for (char *p = name; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	snprintf(buf, room, "%s (pid %.16s)", name[0] ? name : "a process", process);
}

void holder_find(int fd, bool exclusive, uint64_t start, uint64_t length, char *buf, size_t room)
{
	struct wanted w = { .own_pid = getpid(),
			    .own_fd = fd,
			    .exclusive = exclusive,
			    .start = start,
			    .length = length };
	struct dirent *entry;
	struct stat st;

	if (room)
		buf[0] = '\0';
	if (fstat(fd, &st) < 0)
		return;
	w.device = st.st_dev;
	w.inode = st.st_ino;
	CLEANUP(close_directory) DIR *processes = opendir("/proc");
	if (!processes)
		return;
	while ((entry = readdir(processes))) {
		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !process_conflicts(entry->d_name, &w))
			continue;
		if (strtol(entry->d_name, NULL, 10) == w.own_pid) {
			snprintf(buf, room, HOLDER_SELF);
			continue;
		}
		describe(entry->d_name, buf, room);
		return;
	}
}
