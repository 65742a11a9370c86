/* check_nbd_refusals.c - NBD requests that are wrong, and disks that fail: answered with the right
 * error, in each form of transmission, and the connection goes on */
#include <errno.h>
#include <string.h>

#include "nbd-ask.h"
#include "tests/lib/suite.h"

#define MIB (1u << 20)

START_TEST(opens)
{
	nbd_ask_open();
}
END_TEST

START_TEST(closes)
{
	nbd_ask_close();
}
END_TEST

/* ── wrong ones: answered, and the connection goes on ── */

START_TEST(beyond_the_end)
{
	static const uint64_t offsets[] = { WORLD_BYTES - 511, WORLD_BYTES, WORLD_BYTES + 1,
					    UINT64_MAX - 511,  UINT64_MAX,  UINT64_MAX / 2 };

	NBD_ASK_EACH_MODE(m)
	{
		unsigned before = nbd_ask_world.disk->requests;

		nbd_ask_begin(m, "disk");
		for (unsigned i = 0; i < 6; i++) {
			ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, offsets[i], 512, 0), NBD_EINVAL);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, offsets[i], 512, 0), NBD_ENOSPC);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE_ZEROES, offsets[i], 512, 0),
					  NBD_ENOSPC);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_TRIM, offsets[i], 512, 0), NBD_EINVAL);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_CACHE, offsets[i], 512, 0), NBD_EINVAL);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_BLOCK_STATUS, offsets[i], 512, 0),
					  NBD_EINVAL);
		}
		ck_assert_uint_eq(nbd_ask(NBD_CMD_FLUSH, 0, 1, 0), NBD_EINVAL);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_FLUSH, 1, 0, 0), NBD_EINVAL);
		ck_assert_uint_eq(nbd_ask_world.disk->requests, before);
		nbd_ask_alive();
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* Each flag with each command: allowed, or EINVAL. */
START_TEST(flags)
{
	NBD_ASK_EACH_MODE(m)
	{
		nbd_ask_begin(m, "disk");
		for (uint16_t type = 0; type <= NBD_CMD_MAX; type++) {
			for (unsigned bit = 0; bit < 16; bit++) {
				bool fine = bit == 0 || (bit == 2 && type == NBD_CMD_READ && m) ||
					    ((bit == 1 || bit == 4) &&
					     type == NBD_CMD_WRITE_ZEROES) ||
					    (bit == 3 && type == NBD_CMD_BLOCK_STATUS);
				bool flush = type == NBD_CMD_FLUSH;

				if (type == NBD_CMD_DISC || (m == WIRE_EXTENDED && bit == 5) ||
				    (type == NBD_CMD_BLOCK_STATUS && !m))
					continue;
				ck_assert_uint_eq(nbd_ask(type, 0, flush ? 0 : 512,
							  (uint16_t)(1u << bit)),
						  fine ? 0 : NBD_EINVAL);
			}
		}
		nbd_ask_alive();
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

START_TEST(unknown_commands)
{
	static const uint16_t types[] = { 8, 9, 255, 0xffff };

	NBD_ASK_EACH_MODE(m)
	{
		nbd_ask_begin(m, "disk");
		for (unsigned i = 0; i < 4; i++)
			ck_assert_uint_eq(nbd_ask(types[i], 77, 4096, 0), NBD_EINVAL);
		nbd_ask_alive();
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

START_TEST(read_only)
{
	NBD_ASK_EACH_MODE(m)
	{
		unsigned before = nbd_ask_world.disk->writes;

		nbd_ask_begin(m, "ro");
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, 0, 4096, 0), NBD_EPERM);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_TRIM, 0, 4096, 0), NBD_EPERM);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE_ZEROES, 0, 4096, 0), NBD_EPERM);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, UINT64_MAX, 4096, 0xffdf), NBD_EPERM);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_FLUSH, 0, 0, 0), 0);
		ck_assert_uint_eq(nbd_ask_world.disk->writes, before);
		nbd_ask_alive();
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

START_TEST(too_long)
{
	NBD_ASK_EACH_MODE(m)
	{
		unsigned before = nbd_ask_world.disk->requests;

		nbd_ask_begin(m, "disk");
		ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, 0, 32 * MIB + 1, 0), NBD_EINVAL);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, 0, 0xffffffff, 0), NBD_EINVAL);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, 0, 32 * MIB + 1, 0), NBD_EINVAL);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, 0, 64 * MIB, 0), NBD_EINVAL);
		ck_assert_uint_eq(nbd_ask_world.disk->requests, before);
		nbd_ask_alive();
		/* more than that is not waited for */
		struct wire_request r = nbd_ask_request(NBD_CMD_WRITE, 0, 64 * MIB + 1, 0);
		ck_assert(wire_request(&nbd_ask_wire, m, &r, NULL, 0));
		ck_assert(wire_ends(&nbd_ask_wire));
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* The answer to a payload nobody wants comes after it: clients are not ready for it before. */
START_TEST(refused_after_the_payload)
{
	NBD_ASK_EACH_MODE(m)
	{
		struct wire_request r;

		nbd_ask_begin(m, "ro");
		r = nbd_ask_request(NBD_CMD_WRITE, 0, 100000, 0);
		ck_assert(wire_request(&nbd_ask_wire, m, &r, nbd_ask_big, 99999));
		ck_assert(wire_silent(&nbd_ask_wire));
		ck_assert(wire_send(&nbd_ask_wire, nbd_ask_big, 1));
		struct wire_chunk chunk;
		ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
		ck_assert_uint_eq(chunk.error, NBD_EPERM);
		nbd_ask_alive();
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* Extended: a payload with commands that take none is consumed; a WRITE without one is not one. */
START_TEST(payloads)
{
	static const uint16_t types[] = { NBD_CMD_READ,	 NBD_CMD_FLUSH,	       NBD_CMD_TRIM,
					  NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, 99 };
	struct wire_request r;

	nbd_ask_begin(WIRE_EXTENDED, "disk");
	for (unsigned i = 0; i < 6; i++) {
		r = nbd_ask_request(types[i], 0, 5000, NBD_CMD_FLAG_PAYLOAD_LEN);
		ck_assert_uint_eq(wire_do(&nbd_ask_wire, nbd_ask_mode, &r, nbd_ask_big, 5000, NULL),
				  NBD_EINVAL);
	}
	r = nbd_ask_request(NBD_CMD_WRITE, 0, 512, 0);
	r.flags = 0;
	ck_assert_uint_eq(wire_do(&nbd_ask_wire, nbd_ask_mode, &r, NULL, 0, NULL), NBD_EINVAL);
	nbd_ask_alive();
	r = nbd_ask_request(NBD_CMD_READ, 0, UINT64_MAX, NBD_CMD_FLAG_PAYLOAD_LEN);
	ck_assert(wire_request(&nbd_ask_wire, nbd_ask_mode, &r, NULL, 0));
	ck_assert(wire_ends(&nbd_ask_wire));
	wire_close(&nbd_ask_wire);
}
END_TEST

START_TEST(wrong_magic)
{
	NBD_ASK_EACH_MODE(m)
	{
		struct wire_request r = { .type = NBD_CMD_READ, .length = 512 };
		uint8_t other[64];

		nbd_ask_begin(m, "disk");
		memset(other, 0x33, sizeof(other));
		ck_assert(wire_send(&nbd_ask_wire, other, sizeof(other)));
		ck_assert(wire_ends(&nbd_ask_wire));
		nbd_ask_begin(m, "disk");
		ck_assert(wire_request(&nbd_ask_wire,
				       m == WIRE_EXTENDED ? WIRE_SIMPLE : WIRE_EXTENDED, &r, NULL,
				       0));
		ck_assert(wire_ends(&nbd_ask_wire));
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* DISC counts whatever else its header says; what came before is answered, what comes after not. */
START_TEST(disconnects)
{
	NBD_ASK_EACH_MODE(m)
	{
		struct wire_request read = nbd_ask_request(NBD_CMD_READ, 0, 100, 0);
		struct wire_request disc = { .type = NBD_CMD_DISC, .flags = 1, .offset = 5 };
		uint8_t talk[128];
		size_t n;

		nbd_ask_begin(m, "disk");
		nbd_ask_mode = m;
		read = nbd_ask_request(NBD_CMD_READ, 0, 100, NBD_CMD_FLAG_FUA);
		n = wire_request_put(talk, m, &read);
		n += wire_request_put(talk + n, m, &disc);
		n += wire_request_put(talk + n, m, &read);
		nbd_ask_world.disk->hold = true;
		ck_assert(wire_send(&nbd_ask_wire, talk, n));
		world_wait_held(&nbd_ask_world, 1);
		ck_assert(wire_silent(&nbd_ask_wire));
		world_let_go(&nbd_ask_world);
		struct wire_chunk chunk;
		ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
		ck_assert_uint_eq(chunk.cookie, read.cookie);
		if (chunk.simple || chunk.type == NBD_CHUNK_OFFSET_DATA)
			ck_assert(wire_read(&nbd_ask_wire, NULL, 100));
		ck_assert(wire_ends(&nbd_ask_wire));
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* ── errors of the disk ── */

START_TEST(errors_folded)
{
	static const struct {
		int err;
		uint32_t read, write, zero, fast;
	} rows[] = {
		{ -EIO, NBD_EIO, NBD_EIO, NBD_EIO, NBD_EIO },
		{ -EROFS, NBD_EIO, NBD_EPERM, NBD_EPERM, NBD_EPERM },
		{ -EACCES, NBD_EIO, NBD_EPERM, NBD_EPERM, NBD_EPERM },
		{ -ENOSPC, NBD_EIO, NBD_ENOSPC, NBD_ENOSPC, NBD_ENOSPC },
		{ -EDQUOT, NBD_EIO, NBD_ENOSPC, NBD_ENOSPC, NBD_ENOSPC },
		{ -EFBIG, NBD_EIO, NBD_ENOSPC, NBD_ENOSPC, NBD_ENOSPC },
		{ -VHD_E_TOO_BIG, NBD_EIO, NBD_ENOSPC, NBD_ENOSPC, NBD_ENOSPC },
		{ -ENOTSUP, NBD_EINVAL, NBD_EINVAL, NBD_EINVAL, NBD_ENOTSUP },
		{ -EOVERFLOW, NBD_EIO, NBD_EIO, NBD_EIO, NBD_EIO },
		{ -ENOMEM, NBD_ENOMEM, NBD_ENOMEM, NBD_ENOMEM, NBD_ENOMEM },
		{ -ESHUTDOWN, NBD_ESHUTDOWN, NBD_ESHUTDOWN, NBD_ESHUTDOWN, NBD_ESHUTDOWN },
		{ -EINVAL, NBD_EINVAL, NBD_EINVAL, NBD_EINVAL, NBD_EINVAL },
		{ -ENOLINK, NBD_EIO, NBD_EIO, NBD_EIO, NBD_EIO },
		{ -VHD_E_BITMAP, NBD_EIO, NBD_EIO, NBD_EIO, NBD_EIO },
	};

	NBD_ASK_EACH_MODE(m)
	{
		nbd_ask_begin(m, "disk");
		for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
			nbd_ask_world.disk->fail = rows[i].err;
			ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, 0, 512, 0), rows[i].read);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, 0, 512, 0), rows[i].write);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE_ZEROES, 0, 512, 0), rows[i].zero);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE_ZEROES, 0, 512,
						  NBD_CMD_FLAG_FAST_ZERO),
					  rows[i].fast);
		}
		nbd_ask_world.disk->fail = 0;
		nbd_ask_alive();
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { opens,
				 beyond_the_end,
				 flags,
				 unknown_commands,
				 read_only,
				 too_long,
				 refused_after_the_payload,
				 payloads,
				 wrong_magic,
				 disconnects,
				 errors_folded,
				 closes,
				 NULL };

	return suite_run("nbd refusals", tests);
}
