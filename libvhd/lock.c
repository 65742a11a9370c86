/* lock.c - who may do what beside whom: byte ranges by role
 *
 *   T        D        H        K                   C ................ C + 2^48
 *   2^62     +1       +2       +3                  2^62 + 2^52
 *   top      data     header   parked server       through child (first 48 bits of its id)
 *
 * Far behind any data, since locks on some network storage are mandatory.
 * Two users meet iff they take a common byte and one of them exclusively.
 */
#include "lock.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "holder.h"

#define LOCK_TOP      (UINT64_C(1) << 62)
#define LOCK_DATA     (LOCK_TOP + 1)
#define LOCK_HEAD     (LOCK_TOP + 2)
#define LOCK_PARK     (LOCK_TOP + 3)
#define LOCK_CHILDREN (LOCK_TOP + (UINT64_C(1) << 52))
#define LOCK_END      (LOCK_CHILDREN + (UINT64_C(1) << 48))

#define POLL_MS 50

struct range {
	enum io_lock_mode mode;
	uint64_t start, length;
};
#define RANGES_MAX 4

/* Where the child's byte is. */
static uint64_t child_byte(const uint8_t *child)
{
	uint64_t id = 0;

	for (int i = 0; i < 6; i++)
		id = id << 8 | child[i];
	return LOCK_CHILDREN + id;
}

/* What the words of a message say that @role wanted to do. */
static const char *role_purpose(enum lock_role role)
{
	switch (role) {
	case LOCK_PEEK:
	case LOCK_READ_TOP:
	case LOCK_READ_THROUGH:
		return "read";
	case LOCK_WRITE:
		return "write";
	case LOCK_PARKED:
		return "hold";
	case LOCK_COALESCE_INTO:
		return "merge into";
	case LOCK_COALESCE_SOURCE:
		return "merge from";
	case LOCK_SNAPSHOT_PARENT:
		return "snapshot";
	case LOCK_HEADER:
	case LOCK_SET:
		return "change the metadata of";
	case LOCK_MOVE:
		return "rearrange";
	}
	return "lock";
}

/* The ranges of @role, in a fixed order; their number. */
static int role_ranges(enum lock_role role, const uint8_t *child, struct range *out)
{
	uint64_t through;
	int n = 0;

	switch (role) {
	case LOCK_PEEK:
		break;
	case LOCK_READ_TOP:
		out[n++] = (struct range){ IO_LOCK_SHARED, LOCK_TOP, 1 };
		break;
	case LOCK_READ_THROUGH:
		out[n++] = (struct range){ IO_LOCK_SHARED, child_byte(child), 1 };
		break;
	case LOCK_WRITE:
		out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_DATA, 1 };
		break;
	case LOCK_PARKED:
		out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_PARK, 1 };
		break;
	case LOCK_COALESCE_INTO:
		through = child_byte(child);
		out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_TOP, 2 }; /* T and D */
		if (through > LOCK_CHILDREN)
			out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_CHILDREN,
						   through - LOCK_CHILDREN };
		if (through + 1 < LOCK_END)
			out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, through + 1,
						   LOCK_END - (through + 1) };
		break;
	case LOCK_COALESCE_SOURCE:
	case LOCK_SNAPSHOT_PARENT:
		out[n++] = (struct range){ IO_LOCK_SHARED, LOCK_DATA, 1 };
		break;
	case LOCK_HEADER:
		out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_HEAD, 1 };
		break;
	case LOCK_SET:
		out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_DATA, 2 }; /* D and H */
		break;
	case LOCK_MOVE:
		out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_TOP, 3 }; /* T, D and H */
		out[n++] = (struct range){ IO_LOCK_EXCLUSIVE, LOCK_CHILDREN,
					   LOCK_END - LOCK_CHILDREN };
		break;
	}
	return n;
}

/* All or nothing; on -EAGAIN *refused is the range that met somebody. */
static int take_all(struct vhd_io *io, const struct range *ranges, int count, int *refused)
{
	int rc = 0, i;

	for (i = 0; i < count; i++) {
		rc = io->ops->lock(io, ranges[i].mode, ranges[i].start, ranges[i].length);
		if (rc < 0)
			break;
	}
	if (rc == 0)
		return 0;
	*refused = i;
	while (i-- > 0)
		(void)io->ops->lock(io, IO_UNLOCK, ranges[i].start, ranges[i].length);
	return rc;
}

static int refuse(struct vhd_io *io, enum lock_role role, const char *holder, struct vhd_error *err)
{
	if (!strcmp(holder, HOLDER_SELF))
		return error_set(
			err, -VHD_E_BUSY,
			"cannot %s '%s': this process uses it already, as a source, a parent "
			"or another disk; name another file",
			role_purpose(role), io->name);
	return error_set(err, -VHD_E_BUSY,
			 "cannot %s '%s': it is in use by %s; end that use, then try again",
			 role_purpose(role), io->name,
			 holder[0] ? holder : "another process or host");
}

int lock_take(struct vhd_io *io, enum lock_role role, const uint8_t *child, unsigned wait_ms,
	      bool *unsupported, struct vhd_error *err)
{
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };
	struct range ranges[RANGES_MAX];
	int count = role_ranges(role, child, ranges);
	unsigned waited = 0, seen = 0;
	char holder[128];

	for (bool again = false;; again = true) {
		int refused = 0;
		int rc = take_all(io, ranges, count, &refused);

		if (rc == -ENOLCK || rc == -EOPNOTSUPP) {
			if (unsupported)
				*unsupported = true;
			return 0;
		}
		if (rc == 0)
			return 0;
		if (rc != -EAGAIN)
			return error_system(err, rc, "lock", io->name);
		holder[0] = '\0';
		io->ops->holder(io, ranges[refused].mode, ranges[refused].start,
				ranges[refused].length, holder, sizeof(holder));
		/* One who is still there at the second look is alive, not just being killed. */
		if (holder[0] && (seen++ || !wait_ms))
			return refuse(io, role, holder, err);
		/* Nobody to be seen: it may have let go between the two looks, so a second
		 * try costs nothing; and the kernel may hold the locks of a killed process
		 * until its last I/O is done. */
		if (again && waited >= wait_ms)
			return refuse(io, role, holder, err);
		if (again || holder[0]) {
			nanosleep(&pause, NULL);
			waited += POLL_MS;
		}
	}
}

void lock_release(struct vhd_io *io)
{
	(void)io->ops->lock(io, IO_UNLOCK, LOCK_TOP, LOCK_END - LOCK_TOP);
}

void lock_drop(struct vhd_io *io, enum lock_role role, const uint8_t *child)
{
	struct range ranges[RANGES_MAX];
	int count = role_ranges(role, child, ranges);

	for (int i = 0; i < count; i++)
		(void)io->ops->lock(io, IO_UNLOCK, ranges[i].start, ranges[i].length);
}
