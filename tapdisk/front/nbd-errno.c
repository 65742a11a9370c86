/* nbd-errno.c - errors of the disk, folded to those NBD knows; nowhere else */
#include <errno.h>

#include "nbd-private.h"

/* Three of NBD's errors belong to certain commands only. */
static uint32_t eligible(uint32_t error, const struct request *req)
{
	bool writes = req->op == REQUEST_WRITE || req->op == REQUEST_ZERO ||
		      req->op == REQUEST_TRIM;

	if (error == NBD_EPERM && !writes)
		return NBD_EIO;
	if (error == NBD_ENOSPC && !writes && req->op != REQUEST_FLUSH)
		return NBD_EIO;
	if (error == NBD_ENOTSUP && !(req->flags & REQUEST_FAST_ZERO))
		return NBD_EINVAL;
	return error;
}

uint32_t nbd_errno(int err, const struct request *req)
{
	switch (-err) {
	case 0:
		return 0;
	case EPERM:
	case EACCES:
	case EROFS:
		return eligible(NBD_EPERM, req);
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case VHD_E_TOO_BIG:
		return eligible(NBD_ENOSPC, req);
	case EOPNOTSUPP:
		return eligible(NBD_ENOTSUP, req);
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

const char *nbd_errno_text(uint32_t error)
{
	switch (error) {
	case NBD_EPERM:
		return "the export is read-only";
	case NBD_ENOMEM:
		return "the server is out of memory";
	case NBD_EINVAL:
		return "not a valid request";
	case NBD_ENOSPC:
		return "no space, or beyond the end";
	case NBD_ENOTSUP:
		return "no faster than writing";
	case NBD_ESHUTDOWN:
		return "the server is going down";
	default:
		return "I/O error";
	}
}
