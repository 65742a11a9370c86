/* stream.c - sequential input and output, through zlib where it is gzip */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "error.h"

#define GZ_BUFFER  (256u << 10)
#define ZERO_PIECE (64u << 10)
#define PIECE_MAX  (1u << 30)

struct stream {
	int fd;	   /* owned; -1 once gz has it */
	gzFile gz; /* owned; reading: always, zlib passes plain data through */
	char *name;
	bool writing;
};

static int stream_open(int fd, const char *name, bool writing, bool gzip, struct stream **out,
		       struct vhd_error *err)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s)
		s->name = strdup(name);
	if (!s || !s->name) {
		free(s);
		return error_system(err, -ENOMEM, "open", name);
	}
	s->writing = writing;
	s->fd = fd;
	if (!writing || gzip) {
		s->gz = gzdopen(fd, writing ? "wb" : "rb");
		if (!s->gz) {
			free(s->name);
			free(s);
			return error_system(err, -ENOMEM, "open", name);
		}
		s->fd = -1;
		gzbuffer(s->gz, GZ_BUFFER);
	}
	*out = s;
	return 0;
}

int stream_reader(int fd, const char *name, struct stream **out, struct vhd_error *err)
{
	return stream_open(fd, name, false, false, out, err);
}

int stream_writer(int fd, const char *name, bool gzip, struct stream **out, struct vhd_error *err)
{
	return stream_open(fd, name, true, gzip, out, err);
}

/* zlib's error as ours: the system's if it is one, else damaged data. */
static int gz_error(struct stream *s, const char *verb, struct vhd_error *err)
{
	int code = Z_OK;
	const char *text = gzerror(s->gz, &code);

	if (code == Z_ERRNO)
		return error_system(err, errno ? -errno : -EIO, verb, s->name);
	return error_set(err, -EUCLEAN, "cannot %s '%s': the gzip data is damaged or cut off (%s)",
			 verb, s->name, text);
}

int stream_read(struct stream *s, void *buf, size_t length, struct vhd_error *err)
{
	size_t have = 0;

	while (have < length) {
		int n = gzread(s->gz, (char *)buf + have,
			       (unsigned)number_min(length - have, PIECE_MAX));
		int code = Z_OK;

		if (n < 0)
			return gz_error(s, "read", err);
		if (n == 0) {
			gzerror(s->gz, &code); /* an end in the middle is told only here */
			if (code != Z_OK && code != Z_STREAM_END)
				return gz_error(s, "read", err);
			break;
		}
		have += (size_t)n;
	}
	return (int)have;
}

static int write_plain(struct stream *s, const char *buf, size_t length)
{
	while (length) {
		ssize_t n = write(s->fd, buf, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		length -= (size_t)n;
	}
	return 0;
}

int stream_write(struct stream *s, const void *buf, size_t length, struct vhd_error *err)
{
	const char *at = buf;
	int rc;

	if (!s->gz) {
		rc = write_plain(s, at, length);
		return rc < 0 ? error_system(err, rc, "write", s->name) : 0;
	}
	while (length) {
		unsigned piece = (unsigned)number_min(length, PIECE_MAX);

		if (gzwrite(s->gz, at, piece) != (int)piece)
			return gz_error(s, "write", err);
		at += piece;
		length -= piece;
	}
	return 0;
}

int stream_zeros(struct stream *s, unsigned long long length, struct vhd_error *err)
{
	static const char zeros[ZERO_PIECE];
	int rc = 0;

	while (length && !rc) {
		size_t n = number_min(length, sizeof(zeros));

		rc = stream_write(s, zeros, n, err);
		length -= n;
	}
	return rc;
}

int stream_close(struct stream *s, struct vhd_error *err)
{
	int rc = 0;

	if (!s)
		return 0;
	if (s->gz) {
		int code = gzclose(s->gz);

		if (s->writing && code != Z_OK)
			rc = error_system(err, code == Z_ERRNO && errno ? -errno : -EIO, "write",
					  s->name);
	} else if (close(s->fd) < 0 && s->writing) {
		rc = error_system(err, -errno, "write", s->name);
	}
	free(s->name);
	free(s);
	return rc;
}
