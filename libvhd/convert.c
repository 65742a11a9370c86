/* convert.c - vhd_convert: what is to become what
 *
 *   source            read as
 *   file, device      a chain, if it carries a footer; else a raw disk
 *   pipe, gzip        raw, or a fixed VHD: in one pass.  Received first into a
 *                     temporary file: a VHD whose blocks are anywhere, and what shall be a
 *                     dynamic image in another pipe
 *   target            written as
 *   file, device      by convert-file.c into what atomic.c gives
 *   pipe, gzip        in order
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "atomic.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "convert.h"
#include "create.h"
#include "error.h"
#include "geometry.h"
#include "io-file.h"

#define MIB	    (1ull << 20)
#define GZIP_MAGIC  "\x1f\x8b"
#define FAULT_BYTES 65536u

#define DIRECT_BLOCK_MIN (512u << 10)

struct conversion {
	const char *source, *destination;
	const struct vhd_convert_options *o;
	struct vhd_convert_result *result;
	struct vhd_error *err;
	bool to_stream, gzip;
	enum vhd_format to;
	struct vhd_chain *chain;
};

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name), s = strlen(suffix);

	return n > s && !strcasecmp(name + n - s, suffix);
}

static bool is_dash(const char *name)
{
	return !strcmp(name, "-");
}

/* ── what the target is ── */

static int choose_format(struct conversion *v)
{
	const char *name = v->destination;

	v->gzip = v->o->gzip || has_suffix(name, ".gz");
	v->to_stream = is_dash(name) || v->gzip;
	v->to = v->o->to;
	if (v->to != VHD_FORMAT_AUTO)
		return 0;
	if (v->o->target == VHD_FOR_AZURE)
		v->to = VHD_FORMAT_FIXED;
	else if (v->o->target != VHD_FOR_ANY)
		v->to = VHD_FORMAT_DYNAMIC;
	else if (is_dash(name))
		return error_set(v->err, -VHD_E_ARGUMENT,
				 "cannot convert to standard output: its format is not given; use "
				 "--to raw, --to fixed or --to dynamic");
	else
		v->to = has_suffix(name, ".vhd") || has_suffix(name, ".vhd.gz") ?
				VHD_FORMAT_DYNAMIC :
				VHD_FORMAT_RAW;
	return 0;
}

/* What does not go together: better told than passed over. */
static int check_wishes(const struct conversion *v)
{
	const struct vhd_convert_options *o = v->o;
	const char *what = NULL;

	if (o->target != VHD_FOR_ANY && v->to == VHD_FORMAT_RAW)
		what = "a raw disk is not made for a platform";
	else if (o->target == VHD_FOR_AZURE && v->to != VHD_FORMAT_FIXED)
		what = "Azure takes fixed images only";
	else if (o->target == VHD_FOR_XEN && v->to != VHD_FORMAT_DYNAMIC)
		what = "XenServer takes no fixed images";
	else if (o->block_size && v->to != VHD_FORMAT_DYNAMIC)
		what = "only dynamic images have blocks of a size";
	else if (o->block_size && o->block_size != VHD_BLOCK_DEFAULT &&
		 (o->target == VHD_FOR_XEN ||
		  (o->target != VHD_FOR_ANY && o->block_size != VHD_BLOCK_DEFAULT / 4)))
		what = "the platform takes blocks of 2 MiB";
	return what ? error_set(v->err, -VHD_E_ARGUMENT, "cannot convert to '%s': %s",
				v->destination, what) :
		      0;
}

/* The next size that is a product of its own geometry, as Virtual PC takes it. */
static uint64_t chs_size(uint64_t size)
{
	uint64_t want = number_div_up(size, VHD_SECTOR), sectors = want;

	for (;; sectors++) {
		struct vhd_geometry g = geometry_for(sectors);
		uint64_t product = (uint64_t)g.cylinders * g.heads * g.sectors_per_track;

		if (product >= want)
			return product * VHD_SECTOR;
		if (sectors > want + (1u << 20)) /* beyond what a geometry can say */
			return want * VHD_SECTOR;
	}
}

static uint64_t target_size(const struct conversion *v, uint64_t size)
{
	size = number_round_up(size, VHD_SECTOR);
	switch (v->o->target) {
	case VHD_FOR_AZURE:
		return number_max(number_round_up(size, MIB), VHD_AZURE_LEAST);
	case VHD_FOR_XEN:
		return number_round_up(size, 2 * MIB);
	case VHD_FOR_VPC:
		return chs_size(size);
	default:
		return size;
	}
}

static const char *creator(const struct conversion *v)
{
	if (v->o->target == VHD_FOR_VPC)
		return "vpc ";
	if (v->o->target == VHD_FOR_AZURE || v->o->target == VHD_FOR_HYPERV)
		return "win ";
	return v->to == VHD_FORMAT_FIXED ? "win " : NULL;
}

static int make_target(const struct conversion *v, uint64_t size, struct convert_target *t)
{
	struct plan_spec spec = {
		.type = v->to == VHD_FORMAT_FIXED ? VHD_TYPE_FIXED : VHD_TYPE_DYNAMIC,
		.size = target_size(v, size),
		.block_size = v->o->block_size,
		.creator = creator(v),
		.timestamp = create_now(),
	};
	int rc = 0;

	if (v->o->target == VHD_FOR_VPC && spec.size > VHD_VPC_MOST)
		return error_set(v->err, -VHD_E_TOO_BIG,
				 "cannot convert to '%s': Virtual PC takes disks of at most %llu "
				 "bytes, this one has %llu",
				 v->destination, (unsigned long long)VHD_VPC_MOST,
				 (unsigned long long)size);
	memset(t, 0, sizeof(*t));
	t->format = v->to;
	t->size = spec.size;
	create_id(spec.id);
	if (v->to != VHD_FORMAT_RAW)
		rc = plan_make(&spec, &t->plan, v->err);
	if (rc < 0)
		error_prefix(v->err, "cannot convert to '%s'", v->destination);
	v->result->size = t->size;
	return rc;
}

/* ── temporary files ── */

static const char *temp_directory(void)
{
	const char *directory = getenv("TMPDIR");

	return directory && *directory ? directory : "/var/tmp";
}

/* ── the source ── */

static int open_descriptor(const char *name, bool output, struct vhd_error *err)
{
	int fd = is_dash(name) ? dup(output ? STDOUT_FILENO : STDIN_FILENO) :
				 open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? error_system(err, -errno, "open", name) : fd;
}

static int open_source_stream(struct conversion *v, struct stream **out)
{
	int fd = open_descriptor(v->source, false, v->err), rc;

	if (fd < 0)
		return fd;
	rc = stream_reader(fd, is_dash(v->source) ? "standard input" : v->source, out, v->err);
	if (rc < 0)
		close(fd);
	return rc;
}

static int open_chain(struct conversion *v, const char *path)
{
	struct vhd_open_options options = { .parents = v->o->parents, .key = v->o->key };
	struct vhd_io *io = NULL;
	int rc;

	if (v->o->from == VHD_FORMAT_AUTO) {
		rc = io_file_open(path, 0, &io, v->err);
		if (rc < 0)
			return rc;
		rc = image_probe(io);
		io_close(io);
		if (rc < 0)
			return error_system(v->err, rc, "read", v->source);
		if (!rc)
			options.flags |= VHD_OPEN_RAW;
	} else if (v->o->from == VHD_FORMAT_RAW) {
		options.flags |= VHD_OPEN_RAW;
	}
	rc = vhd_open(path, &options, &v->chain, v->err);
	if (!rc)
		rc = chain_prepare(v->chain, v->err);
	if (!rc)
		chain_warn(v->chain, &v->o->progress);
	if (!rc && v->chain->images[0]->size == 0)
		rc = error_set(v->err, -VHD_E_ARGUMENT, "cannot convert '%s': it is empty",
			       v->source);
	return rc;
}

/* A named file for the moments until it is opened as a chain. */
static int temp_named(char *path, size_t room, struct vhd_io **out, const char *name,
		      struct vhd_error *err)
{
	int fd, rc;

	snprintf(path, room, "%s/vhd-source.XXXXXX", temp_directory());
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return error_system(err, -errno, "make a temporary file in", temp_directory());
	rc = io_file_from_fd(fd, name, IO_FILE_WRITE, out, err);
	if (rc < 0) {
		close(fd);
		unlink(path);
	}
	return rc;
}

/* A stream becomes a temporary file, and that a chain without parents. */
static int receive_source(struct conversion *v, struct stream *in, const struct convert_head *head)
{
	struct vhd_io *io = NULL;
	char path[PATH_MAX];
	int rc = temp_named(path, sizeof(path), &io, v->source, v->err);

	if (rc < 0)
		return rc;
	/* the whole of it, footer and all: it is looked at afterwards */
	rc = convert_to_temp(in, head, io, &v->o->progress, v->err);
	io_close(io);
	if (!rc)
		rc = open_chain(v, path);
	unlink(path);
	return rc;
}

static bool is_gzip(const char *path)
{
	char magic[2] = { 0 };
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd >= 0 && pread(fd, magic, 2, 0) == 2 && !memcmp(magic, GZIP_MAGIC, 2);
}

/* ── the ways ── */

/* Where the disk is waited for anyway, large writes go straight to it: that neither costs a
 * copy nor drives others' data out of memory.  Blocks that are small or lie between
 * pages are better gathered in the cache. */
static int begin_target(struct conversion *v, const struct convert_target *t, struct atomic *a)
{
	const struct plan *p = &t->plan;
	bool large = v->to != VHD_FORMAT_DYNAMIC ||
		     (p->align && p->header.block_size >= DIRECT_BLOCK_MIN);
	unsigned flags = v->o->force ? ATOMIC_FORCE : 0;

	if (!v->o->no_sync && large)
		flags |= ATOMIC_DIRECT;
	return atomic_begin(v->destination, flags, a, v->err);
}

static int to_file(struct conversion *v)
{
	struct convert_target t;
	struct atomic a;
	int rc = make_target(v, v->chain->images[0]->size, &t);

	if (!rc)
		rc = begin_target(v, &t, &a);
	if (rc < 0)
		return rc;
	t.in_place = !a.temp;
	rc = convert_to_file(v->chain, a.io, &t, &v->o->progress, v->result, v->err);
	if (!rc)
		return atomic_commit(&a, !v->o->no_sync, v->err);
	atomic_abort(&a);
	return rc;
}

static int make(void *arg, uint64_t size, struct convert_target *t, struct vhd_error *err)
{
	(void)err; /* the conversion's */
	return make_target(arg, size, t);
}

/* A stream that goes through, or the chain. */
static int send(struct conversion *v, struct stream *out, struct stream *in,
		const struct convert_head *head)
{
	struct convert_maker maker = { make, v };
	struct convert_target t;
	int rc;

	if (in)
		return convert_pipe_through(in, head, v->o->from == VHD_FORMAT_RAW, out,
					    v->destination, &maker, &v->o->progress, v->result,
					    v->err);
	rc = make_target(v, v->chain->images[0]->size, &t);
	if (rc < 0)
		return rc;
	return convert_to_stream(v->chain, out, &t, &v->o->progress, v->result, v->err);
}

static int to_stream(struct conversion *v, struct stream *in, const struct convert_head *head)
{
	bool stdout_too = is_dash(v->destination);
	struct stream *out = NULL;
	struct atomic a = { 0 };
	int rc = 0, fd, closed;

	if (!stdout_too)
		rc = atomic_begin(v->destination, v->o->force ? ATOMIC_FORCE : 0, &a, v->err);
	if (rc < 0)
		return rc;
	fd = stdout_too ? dup(STDOUT_FILENO) : dup(io_file_fd(a.io));
	rc = fd < 0 ? error_system(v->err, -errno, "open", v->destination) :
		      stream_writer(fd, stdout_too ? "standard output" : v->destination, v->gzip,
				    &out, v->err);
	if (rc < 0 && fd >= 0)
		close(fd);
	if (!rc)
		rc = send(v, out, in, head);
	closed = stream_close(out, rc ? NULL : v->err);
	if (!rc)
		rc = closed;
	if (stdout_too)
		return rc;
	if (!rc)
		return atomic_commit(&a, !v->o->no_sync, v->err);
	atomic_abort(&a);
	return rc;
}

/* Nothing in between. */
static int pipe_to_file(struct conversion *v, struct stream *in, const struct convert_head *head)
{
	struct convert_maker maker = { make, v };
	struct atomic a;
	int rc = atomic_begin(v->destination, v->o->force ? ATOMIC_FORCE : 0, &a, v->err);

	if (rc < 0)
		return rc;
	rc = convert_from_pipe(in, head, v->o->from == VHD_FORMAT_RAW, a.io,
			       v->to == VHD_FORMAT_DYNAMIC, &maker, &v->o->progress, v->result,
			       v->err);
	if (!rc)
		return atomic_commit(&a, !v->o->no_sync, v->err);
	atomic_abort(&a);
	return rc;
}

/* Must it be seen as a whole before anything can be written?  What begins like a VHD, sound or
 * not, or is said to be one. */
static bool needs_temp(const struct conversion *v, const struct convert_head *head)
{
	if (v->o->key)
		return true; /* whether it is encrypted is told behind its head */
	if (v->to_stream && v->to == VHD_FORMAT_DYNAMIC)
		return true; /* its table comes first */
	if (v->o->from == VHD_FORMAT_RAW)
		return false;
	return v->o->from != VHD_FORMAT_AUTO ||
	       (head->length == VHD_FOOTER_BYTES && (!memcmp(head->bytes, VHD_COOKIE, 8) ||
						     !memcmp(head->bytes, VHD_COOKIE_POISON, 8)));
}

static int from_stream(struct conversion *v)
{
	struct convert_head head = { .length = 0 };
	struct stream *in = NULL;
	int rc = open_source_stream(v, &in), n;

	if (rc < 0)
		return rc;
	n = stream_read(in, head.bytes, sizeof(head.bytes), v->err);
	if (n < 0) {
		stream_close(in, NULL);
		return n;
	}
	head.length = (size_t)n;
	if (!needs_temp(v, &head)) {
		rc = v->to_stream ? to_stream(v, in, &head) : pipe_to_file(v, in, &head);
		stream_close(in, NULL);
		return rc;
	}
	rc = receive_source(v, in, &head);
	stream_close(in, NULL);
	if (!rc)
		rc = v->to_stream ? to_stream(v, NULL, NULL) : to_file(v);
	return rc;
}

/* Blocks whose entries are wrong: those that nothing hides stop the conversion. */
static int ask_faults(struct conversion *v)
{
	CLEANUP_FREE uint8_t *piece = malloc(FAULT_BYTES);
	uint64_t size = vhd_size(v->chain);
	int rc = piece ? 0 : error_system(v->err, -ENOMEM, "convert", v->source);

	for (unsigned layer = 0; !rc && layer < vhd_depth(v->chain); layer++) {
		const struct vhd_image *img = v->chain->images[layer];

		for (uint32_t i = 0; !rc && i < img->bad_count; i++) {
			uint64_t at = (uint64_t)img->bad[i] * img->header.block_size;
			uint64_t end = number_min(at + img->header.block_size, size);

			for (; !rc && at < end; at += FAULT_BYTES)
				rc = vhd_read(v->chain, piece, number_min(end - at, FAULT_BYTES),
					      at, v->err);
		}
	}
	return rc;
}

/* As much as can be asked without a byte of a pipe. */
static int dry_run(struct conversion *v)
{
	struct convert_target t;
	int rc = 0;

	if (!is_dash(v->source) && !is_gzip(v->source)) {
		rc = open_chain(v, v->source);
		if (!rc)
			rc = make_target(v, v->chain->images[0]->size, &t);
	}
	if (!rc && !is_dash(v->destination))
		rc = atomic_check(v->destination, v->o->force, v->err);
	return rc || !v->chain ? rc : ask_faults(v);
}

int vhd_convert(const char *source, const char *destination,
		const struct vhd_convert_options *options, struct vhd_convert_result *result,
		struct vhd_error *err)
{
	struct vhd_convert_result unused;
	struct conversion v = { .source = source,
				.destination = destination,
				.o = options,
				.result = result ? result : &unused,
				.err = err };
	int rc;

	memset(v.result, 0, sizeof(*v.result));
	rc = choose_format(&v);
	if (!rc)
		rc = check_wishes(&v);
	if (rc < 0)
		return rc;
	if (options->dry_run) {
		rc = dry_run(&v);
	} else if (is_dash(source) || is_gzip(source)) {
		rc = from_stream(&v);
	} else {
		rc = open_chain(&v, source);
		if (!rc)
			rc = v.to_stream ? to_stream(&v, NULL, NULL) : to_file(&v);
	}
	vhd_close(v.chain, NULL);
	return rc;
}
