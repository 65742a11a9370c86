/* nbd-ask.c - requests over one connection, in each form of transmission */
#include "nbd-ask.h"

#include <stdlib.h>

#include "tests/lib/suite.h"

#define BIG_BYTES ((64u << 20) + 4096)

struct world nbd_ask_world;
struct wire nbd_ask_wire;
enum wire_mode nbd_ask_mode;
uint8_t *nbd_ask_big;

void nbd_ask_open(void)
{
	world_open(&nbd_ask_world, NULL);
	nbd_ask_big = calloc(1, BIG_BYTES);
	ck_assert_ptr_nonnull(nbd_ask_big);
}

void nbd_ask_close(void)
{
	world_close(&nbd_ask_world);
	free(nbd_ask_big);
}

void nbd_ask_begin(enum wire_mode mode, const char *name)
{
	nbd_ask_mode = mode;
	wire_open(&nbd_ask_wire, &nbd_ask_world);
	(void)wire_go(&nbd_ask_wire, mode, name);
}

struct wire_request nbd_ask_request(uint16_t type, uint64_t offset, uint64_t length, uint16_t flags)
{
	static uint64_t cookie;

	if (nbd_ask_mode == WIRE_EXTENDED && type == NBD_CMD_WRITE)
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	return (struct wire_request){ .flags = flags,
				      .type = type,
				      .cookie = ++cookie * 0x9e3779b97f4a7c15ull,
				      .offset = offset,
				      .length = length };
}

uint32_t nbd_ask(uint16_t type, uint64_t offset, uint64_t length, uint16_t flags)
{
	struct wire_request r = nbd_ask_request(type, offset, length, flags);

	return wire_do(&nbd_ask_wire, nbd_ask_mode, &r, nbd_ask_big,
		       type == NBD_CMD_WRITE ? length : 0, nbd_ask_big);
}

void nbd_ask_alive(void)
{
	ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, 5, 7, 0), 0);
}
