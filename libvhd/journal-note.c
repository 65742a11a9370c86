/* journal-note.c - see journal-note.h */
#include "journal-note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "error.h"
#include "image.h"
#include "io-file.h"
#include "zeros.h"

#define COOKIE	     "vhdsizes"
#define COOKIE_BYTES 8u
#define VERSION	     1u

enum note_layout {
	NOTE_VERSION = 8,
	NOTE_CHECKSUM = 12,
	NOTE_ID = 16,
	NOTE_SIZE = 32,
	NOTE_PLACE = 40,
	NOTE_FOOTER = 512
};

static uint32_t checksum(const uint8_t raw[JOURNAL_NOTE_BYTES])
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < JOURNAL_NOTE_BYTES; i++)
		if (i < NOTE_CHECKSUM || i >= NOTE_CHECKSUM + 4)
			sum += raw[i];
	return ~sum;
}

static void encode(const struct journal_facts *facts, uint8_t raw[JOURNAL_NOTE_BYTES])
{
	memset(raw, 0, JOURNAL_NOTE_BYTES);
	memcpy(raw, COOKIE, COOKIE_BYTES);
	be32_store(raw + NOTE_VERSION, VERSION);
	memcpy(raw + NOTE_ID, facts->footer.uuid, VHD_UUID_BYTES);
	be64_store(raw + NOTE_SIZE, facts->new_size);
	be64_store(raw + NOTE_PLACE, facts->place);
	footer_encode(&facts->footer, raw + NOTE_FOOTER);
	be32_store(raw + NOTE_CHECKSUM, checksum(raw));
}

bool journal_note_decode(const uint8_t raw[JOURNAL_NOTE_BYTES], struct journal_facts *out)
{
	struct journal_facts f;

	if (memcmp(raw, COOKIE, COOKIE_BYTES) != 0 || be32_load(raw + NOTE_VERSION) != VERSION ||
	    be32_load(raw + NOTE_CHECKSUM) != checksum(raw) ||
	    footer_decode(raw + NOTE_FOOTER, &f.footer, NULL) < 0 ||
	    memcmp(f.footer.uuid, raw + NOTE_ID, VHD_UUID_BYTES) != 0)
		return false;
	f.new_size = be64_load(raw + NOTE_SIZE);
	f.place = be64_load(raw + NOTE_PLACE);
	if (f.place % VHD_SECTOR || f.place > VHD_SIZE_MAX * 2)
		return false;
	*out = f;
	return true;
}

bool journal_note_torn(const uint8_t raw[JOURNAL_NOTE_BYTES])
{
	const uint8_t *second = raw + NOTE_FOOTER;
	bool begun = !memcmp(raw, COOKIE, COOKIE_BYTES);

	/* its first sector, its second, or both and wrong */
	return (begun && (zeros_are(second, VHD_SECTOR) || !memcmp(second, VHD_COOKIE, 8))) ||
	       (zeros_are(raw, NOTE_FOOTER) && !memcmp(second, VHD_COOKIE, 8));
}

/* An image given by mistake is not to be lost: it would be removed in the end. */
static int refuse_image(int fd, const char *path, struct vhd_error *err)
{
	struct vhd_io *io;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc;

	if (copy < 0)
		return error_system(err, -errno, "open", path);
	rc = io_file_from_fd(copy, path, 0, &io, err);
	if (rc < 0) {
		close(copy);
		return rc;
	}
	rc = image_probe(io);
	io_close(io);
	return rc == 1 ? error_set(err, -EEXIST,
				   "cannot use '%s' as a journal: it is a VHD image; name another "
				   "file",
				   path) :
			 0;
}

static int write_note(int fd, const uint8_t raw[JOURNAL_NOTE_BYTES], bool device)
{
	ssize_t n = pwrite(fd, raw, JOURNAL_NOTE_BYTES, 0);

	if (n < 0)
		return -errno;
	if (n != (ssize_t)JOURNAL_NOTE_BYTES)
		return -ENOSPC;
	if (!device && ftruncate(fd, JOURNAL_NOTE_BYTES) < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

static int open_note(const char *path, bool beside, int more)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | (beside ? O_NOFOLLOW : 0) | more,
		      0666);

	return fd < 0 ? -errno : fd;
}

/* What is there under the name of a journal may become one. */
static int admit(int fd, const char *path, bool *device, struct vhd_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_system(err, -errno, "make the journal", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(err, -VHD_E_NOT_FILE,
				 "cannot use '%s' as a journal: neither a file nor a block device",
				 path);
	*device = S_ISBLK(st.st_mode);
	return st.st_size || *device ? refuse_image(fd, path, err) : 0;
}

int journal_note_ask(const char *path, bool beside, struct vhd_error *err)
{
	int rc = open_note(path, beside, 0);
	bool device;

	if (rc >= 0) {
		CLEANUP_FD int fd = rc;

		return admit(fd, path, &device, err);
	}
	if (rc == -ENOENT)
		rc = io_file_may_create(path);
	return rc < 0 ? error_system(err, rc, "make the journal", path) : 0;
}

int journal_note_make(struct journal_note *note, const char *path, bool beside,
		      const struct journal_facts *facts, struct vhd_error *err)
{
	int opened = open_note(path, beside, O_CREAT), rc;
	CLEANUP_FD int fd = opened < 0 ? -1 : opened;
	CLEANUP_FREE char *copy = strdup(path);
	uint8_t raw[JOURNAL_NOTE_BYTES];

	if (opened < 0 || !copy)
		return error_system(err, opened < 0 ? opened : -ENOMEM, "make the journal", path);
	rc = admit(fd, path, &note->device, err);
	if (rc < 0)
		return rc;
	encode(facts, raw);
	rc = write_note(fd, raw, note->device);
	if (!rc && !note->device)
		rc = io_file_sync_directory(path);
	if (rc < 0) {
		if (!note->device)
			unlink(path);
		return error_system(err, rc, "write the journal", path);
	}
	note->fd = steal_fd(&fd);
	note->path = steal_ptr(&copy);
	return 0;
}

int journal_note_remove(struct journal_note *note, int rc, struct vhd_error *err)
{
	static const uint8_t none[JOURNAL_NOTE_BYTES];
	int gone = 0;

	if (!note->path)
		return rc;
	if (note->device)
		gone = write_note(note->fd, none, true);
	else if (unlink(note->path) < 0 && errno != ENOENT)
		gone = -errno;
	else
		gone = io_file_sync_directory(note->path);
	close(note->fd);
	if (!rc && gone < 0)
		rc = error_system(err, gone, "remove the journal", note->path);
	free(note->path);
	note->path = NULL;
	return rc;
}
