/* nbd-proto.h - the NBD wire: numbers and layouts
 *
 * All integers are unsigned and big-endian; structures have no padding.
 * Source: the NBD project's protocol document, fixed newstyle, with structured replies,
 * block status and extended headers.
 */
#ifndef TAPDISK_NBD_PROTO_H
#define TAPDISK_NBD_PROTO_H

#include <stdint.h>

#define NBD_MAGIC	       0x4e42444d41474943ull /* NBDMAGIC */
#define NBD_IHAVEOPT	       0x49484156454f5054ull
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull
#define NBD_REQUEST_MAGIC      0x25609513u
#define NBD_EXT_REQUEST_MAGIC  0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCT_REPLY_MAGIC 0x668e33efu
#define NBD_EXT_REPLY_MAGIC    0x6e8a278cu

#define NBD_GREETING_BYTES     18u
#define NBD_OPTION_BYTES       16u
#define NBD_OPTION_REPLY_BYTES 20u
#define NBD_REQUEST_BYTES      28u
#define NBD_EXT_REQUEST_BYTES  32u
#define NBD_SIMPLE_REPLY_BYTES 16u
#define NBD_STRUCT_REPLY_BYTES 20u
#define NBD_EXT_REPLY_BYTES    32u
#define NBD_STRING_MAX	       4096u
#define NBD_BLOCK_PREFERRED    4096u
#define NBD_PAYLOAD_MAX	       (32u << 20)

enum nbd_handshake_flags { NBD_FIXED_NEWSTYLE = 1 << 0, NBD_NO_ZEROES = 1 << 1 };

enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11,
};

enum nbd_reply_type {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP	    0x80000001u
#define NBD_REP_ERR_POLICY	    0x80000002u
#define NBD_REP_ERR_INVALID	    0x80000003u
#define NBD_REP_ERR_TLS_REQD	    0x80000005u
#define NBD_REP_ERR_UNKNOWN	    0x80000006u
#define NBD_REP_ERR_SHUTDOWN	    0x80000007u
#define NBD_REP_ERR_TOO_BIG	    0x80000009u
#define NBD_REP_ERR_EXT_HEADER_REQD 0x8000000au

enum nbd_info {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3
};

enum nbd_transmission_flags {
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_SEND_DF = 1 << 7,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
	NBD_FLAG_SEND_CACHE = 1 << 10,
	NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
	NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12,
};

enum nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
	NBD_CMD_MAX = NBD_CMD_BLOCK_STATUS,
};

enum nbd_command_flags {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
	NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

enum nbd_chunk_type {
	NBD_CHUNK_NONE = 0,
	NBD_CHUNK_OFFSET_DATA = 1,
	NBD_CHUNK_OFFSET_HOLE = 2,
	NBD_CHUNK_BLOCK_STATUS = 5,
	NBD_CHUNK_BLOCK_STATUS_EXT = 6,
	NBD_CHUNK_ERROR = 0x8001,
};
#define NBD_CHUNK_DONE 1u

enum nbd_errno {
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

#endif
