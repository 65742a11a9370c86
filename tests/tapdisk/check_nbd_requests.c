/* check_nbd_requests.c - NBD transmission in its three forms: every command, and a random
 * conversation beside a model */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/endian.h"
#include "nbd-ask.h"
#include "tests/lib/rng.h"
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

/* ── good ones ── */

static uint8_t back[MIB];

START_TEST(read_and_write)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = { { 0, 512 },	{ 0, 1 },
		       { 511, 2 },	{ 3 * MIB + 77, 100000 },
		       { 4096, 4096 },	{ WORLD_BYTES - 1, 1 },
		       { 65535, 65537 } };

	NBD_ASK_EACH_MODE(m)
	{
		nbd_ask_begin(m, "disk");
		for (unsigned i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
			struct wire_request r = nbd_ask_request(NBD_CMD_READ, ranges[i].offset,
								ranges[i].length, 0);

			memset(nbd_ask_big, 0x10 + (int)m + (int)i, ranges[i].length);
			ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, ranges[i].offset, ranges[i].length,
						  0),
					  0);
			ck_assert_uint_eq(wire_do(&nbd_ask_wire, nbd_ask_mode, &r, NULL, 0, back),
					  0);
			ck_assert_mem_eq(back, nbd_ask_big, ranges[i].length);
			ck_assert_mem_eq(nbd_ask_world.disk->memory + ranges[i].offset, nbd_ask_big,
					 ranges[i].length);
		}
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

START_TEST(largest)
{
	NBD_ASK_EACH_MODE(m)
	{
		nbd_ask_begin(m, "disk");
		for (size_t i = 0; i < 32 * MIB; i += 4)
			be32_store(nbd_ask_big + i, (uint32_t)i ^ 0x5a5a5a5a);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, 12345, 32 * MIB, 0), 0);
		ck_assert_mem_eq(nbd_ask_world.disk->memory + 12345, nbd_ask_big, 32 * MIB);
		memset(nbd_ask_big, 0, 32 * MIB);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, 12345, 32 * MIB, 0), 0);
		ck_assert_mem_eq(nbd_ask_world.disk->memory + 12345, nbd_ask_big, 32 * MIB);
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

START_TEST(flags_reach_the_disk)
{
	NBD_ASK_EACH_MODE(m)
	{
		unsigned flushes = nbd_ask_world.disk->flushes, fua = nbd_ask_world.disk->fua;

		nbd_ask_begin(m, "disk");
		ck_assert_uint_eq(nbd_ask(NBD_CMD_FLUSH, 0, 0, 0), 0);
		ck_assert_uint_eq(nbd_ask_world.disk->flushes, flushes + 1);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, 0, 512, NBD_CMD_FLAG_FUA), 0);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE, 0, 512, 0), 0);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_TRIM, 0, 512, NBD_CMD_FLAG_FUA), 0);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE_ZEROES, 0, 512, NBD_CMD_FLAG_FUA), 0);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, 0, 512, NBD_CMD_FLAG_FUA), 0);
		ck_assert_uint_eq(nbd_ask_world.disk->fua, fua + 3);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE_ZEROES, 0, 512,
					  NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO),
				  0);
		ck_assert_int_eq(nbd_ask_world.disk->last.op, REQUEST_ZERO);
		ck_assert_uint_eq(nbd_ask_world.disk->last.flags,
				  REQUEST_NO_HOLE | REQUEST_FAST_ZERO);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_CACHE, 0, 64 * MIB, 0), 0);
		ck_assert_int_eq(nbd_ask_world.disk->last.op, REQUEST_CACHE);
		/* not limited by the size of payloads */
		ck_assert_uint_eq(nbd_ask(NBD_CMD_TRIM, 0, 64 * MIB, 0), 0);
		ck_assert_int_eq(nbd_ask_world.disk->last.op, REQUEST_TRIM);
		ck_assert_uint_eq(nbd_ask(NBD_CMD_WRITE_ZEROES, 0, 40 * MIB, 0), 0);
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* Length 0 does nothing, and drops nobody. */
START_TEST(nothing_asked)
{
	static const uint16_t types[] = { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE,
					  NBD_CMD_WRITE_ZEROES };

	NBD_ASK_EACH_MODE(m)
	{
		nbd_ask_begin(m, "disk");
		for (unsigned i = 0; i < 5; i++) {
			ck_assert_uint_eq(nbd_ask(types[i], 4096, 0, 0), 0);
			ck_assert_uint_eq(nbd_ask(types[i], WORLD_BYTES, 0, 0), 0);
		}
		ck_assert_uint_eq(nbd_ask(NBD_CMD_BLOCK_STATUS, 0, 0, 0), NBD_EINVAL);
		nbd_ask_alive();
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* Zeros are told, not sent, unless in one piece. */
START_TEST(holes)
{
	struct wire_chunk chunk;
	struct wire_request r;
	uint64_t at = 50 * MIB;

	for (unsigned i = 0; i < 4 * MIB / WORLD_CELL; i++)
		nbd_ask_world.disk->written[at / WORLD_CELL + i] = 0;
	for (enum wire_mode m = WIRE_STRUCTURED; m <= WIRE_EXTENDED; m++) {
		nbd_ask_begin(m, "disk");
		r = nbd_ask_request(NBD_CMD_READ, at, MIB, 0);
		ck_assert(wire_request(&nbd_ask_wire, m, &r, NULL, 0));
		ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
		ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_HOLE);
		ck_assert_uint_eq(chunk.length, 12);
		ck_assert(chunk.done);
		ck_assert_uint_eq(be64_load(chunk.data), at);
		ck_assert_uint_eq(be32_load(chunk.data + 8), MIB);
		r = nbd_ask_request(NBD_CMD_READ, at, 4096, NBD_CMD_FLAG_DF);
		ck_assert(wire_request(&nbd_ask_wire, m, &r, NULL, 0));
		ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
		ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_DATA);
		ck_assert(wire_read(&nbd_ask_wire, NULL, 4096));
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

/* ── block status ── */

/* The chunk for context @id: its descriptors as (length, value), their number. */
static unsigned descriptors(const struct wire_chunk *chunk, uint32_t id, uint64_t out[][2])
{
	const uint8_t *p = chunk->data;
	unsigned n;

	ck_assert_uint_eq(be32_load(p), id);
	if (nbd_ask_mode == WIRE_STRUCTURED) {
		ck_assert_uint_eq(chunk->type, NBD_CHUNK_BLOCK_STATUS);
		n = (unsigned)(chunk->length - 4) / 8;
		ck_assert_uint_eq(chunk->length, 4 + 8 * n);
		for (unsigned i = 0; i < n; i++) {
			out[i][0] = be32_load(p + 4 + 8 * i);
			out[i][1] = be32_load(p + 8 + 8 * i);
		}
		return n;
	}
	ck_assert_uint_eq(chunk->type, NBD_CHUNK_BLOCK_STATUS_EXT);
	n = be32_load(p + 4);
	ck_assert_uint_eq(chunk->length, 8 + 16 * n);
	for (unsigned i = 0; i < n; i++) {
		out[i][0] = be64_load(p + 8 + 16 * i);
		out[i][1] = be64_load(p + 16 + 16 * i);
	}
	return n;
}

static void status_world(void)
{
	memset(nbd_ask_world.disk->written, 0, sizeof(nbd_ask_world.disk->written));
	nbd_ask_world.disk->written[2] = nbd_ask_world.disk->written[3] = 1;
	nbd_ask_world.disk->written[5] = 2; /* of the parent */
}

START_TEST(status)
{
	static const uint64_t allocation[][2] = { { 2 * WORLD_CELL - 100, 3 },
						  { 2 * WORLD_CELL, 0 },
						  { WORLD_CELL, 3 },
						  { WORLD_CELL, 0 },
						  { 20 * MIB - 6 * WORLD_CELL, 3 } };
	static const unsigned depth[] = { 0, 1, 0, 2, 0 };
	uint64_t got[64][2];
	struct wire_chunk chunk;

	status_world();
	for (enum wire_mode m = WIRE_STRUCTURED; m <= WIRE_EXTENDED; m++) {
		struct wire_request r;

		nbd_ask_begin(m, "disk");
		r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, 100, 20 * MIB - 100, 0);
		ck_assert(wire_request(&nbd_ask_wire, m, &r, NULL, 0));
		for (uint32_t id = 1; id <= 3; id++) {
			ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
			ck_assert_int_eq(chunk.done, id == 3);
			ck_assert_uint_eq(chunk.cookie, r.cookie);
			ck_assert_uint_eq(descriptors(&chunk, id, got), 5);
			for (unsigned i = 0; i < 5; i++) {
				ck_assert_uint_eq(got[i][0], allocation[i][0]);
				ck_assert_uint_eq(got[i][1], id == 1 ? allocation[i][1] : depth[i]);
			}
		}
		r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, WORLD_CELL, MIB, NBD_CMD_FLAG_REQ_ONE);
		ck_assert(wire_request(&nbd_ask_wire, m, &r, NULL, 0));
		for (uint32_t id = 1; id <= 3; id++) {
			ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
			ck_assert_uint_eq(descriptors(&chunk, id, got), 1);
			ck_assert_uint_eq(got[0][0], WORLD_CELL);
			ck_assert_uint_eq(got[0][1], id == 1 ? 3 : 0);
		}
		/* bytes of one sector */
		r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, 2 * WORLD_CELL + 13, 2, 0);
		ck_assert(wire_request(&nbd_ask_wire, m, &r, NULL, 0));
		for (uint32_t id = 1; id <= 3; id++) {
			ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
			ck_assert_uint_eq(descriptors(&chunk, id, got), 1);
			ck_assert_uint_eq(got[0][0], 2);
		}
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

static size_t status_ids(uint8_t *p, uint64_t length, const uint32_t *ids, unsigned count)
{
	be64_store(p, length);
	for (unsigned i = 0; i < count; i++)
		be32_store(p + 8 + 4 * i, ids[i]);
	return 8 + 4 * (size_t)count;
}

START_TEST(status_of_some)
{
	static const uint32_t two[] = { 3, 1 }, twice[] = { 2, 2 }, zero[] = { 0 }, four[] = { 4 };
	static const uint32_t many[] = { 1, 2, 3, 1 };
	static const struct {
		const uint32_t *ids;
		unsigned count;
	} wrong[] = { { twice, 2 }, { zero, 1 }, { four, 1 }, { many, 4 }, { two, 0 } };
	struct wire_chunk chunk;
	struct wire_request r;
	uint8_t payload[64];
	uint64_t got[64][2];
	size_t bytes;

	status_world();
	nbd_ask_begin(WIRE_EXTENDED, "disk");
	bytes = status_ids(payload, WORLD_CELL, two, 2);
	r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, 0, bytes, NBD_CMD_FLAG_PAYLOAD_LEN);
	/* the header alone first: the server waits for the rest */
	ck_assert(wire_request(&nbd_ask_wire, nbd_ask_mode, &r, NULL, 0));
	ck_assert(wire_silent(&nbd_ask_wire));
	ck_assert(wire_send(&nbd_ask_wire, payload, 3));
	ck_assert(wire_silent(&nbd_ask_wire));
	ck_assert(wire_send(&nbd_ask_wire, payload + 3, bytes - 3));
	ck_assert(wire_chunk(&nbd_ask_wire, nbd_ask_mode, &chunk));
	ck_assert_uint_eq(descriptors(&chunk, 1, got), 1);
	ck_assert_uint_eq(got[0][0], WORLD_CELL);
	ck_assert(wire_chunk(&nbd_ask_wire, nbd_ask_mode, &chunk));
	ck_assert(chunk.done);
	ck_assert_uint_eq(descriptors(&chunk, 3, got), 1);
	for (unsigned i = 0; i < 5; i++) {
		bytes = status_ids(payload, WORLD_CELL, wrong[i].ids, wrong[i].count);
		r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, 0, bytes, NBD_CMD_FLAG_PAYLOAD_LEN);
		ck_assert_uint_eq(wire_do(&nbd_ask_wire, nbd_ask_mode, &r, payload, bytes, NULL),
				  NBD_EINVAL);
	}
	for (bytes = 1; bytes < 20; bytes++) { /* 12, 16 and 20 are right */
		bytes += bytes % 4 == 0 && bytes >= 12;
		(void)status_ids(payload, 512, many, 3);
		r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, 0, bytes, NBD_CMD_FLAG_PAYLOAD_LEN);
		ck_assert_uint_eq(wire_do(&nbd_ask_wire, nbd_ask_mode, &r, payload, bytes, NULL),
				  NBD_EINVAL);
	}
	/* the range of the payload counts */
	bytes = status_ids(payload, WORLD_BYTES, two, 2);
	r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, 1, bytes, NBD_CMD_FLAG_PAYLOAD_LEN);
	ck_assert_uint_eq(wire_do(&nbd_ask_wire, nbd_ask_mode, &r, payload, bytes, NULL),
			  NBD_EINVAL);
	nbd_ask_alive();
	wire_close(&nbd_ask_wire);
}
END_TEST

/* An answer may be short of what was asked, never empty; the client asks on. */
START_TEST(status_piecemeal)
{
	uint64_t got[64][2], at = 0;
	unsigned asked = 0;
	struct wire_chunk chunk;

	for (unsigned i = 0; i < WORLD_BYTES / WORLD_CELL; i++)
		nbd_ask_world.disk->written[i] = i / 16 % 2;
	for (enum wire_mode m = WIRE_STRUCTURED; m <= WIRE_EXTENDED; m++, at = 0) {
		nbd_ask_begin(m, "disk");
		while (at < WORLD_BYTES) {
			struct wire_request r = nbd_ask_request(NBD_CMD_BLOCK_STATUS, at,
								WORLD_BYTES - at, 0);
			unsigned n;

			ck_assert(wire_request(&nbd_ask_wire, m, &r, NULL, 0));
			ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk));
			n = descriptors(&chunk, 1, got);
			ck_assert_uint_gt(n, 0);
			for (unsigned i = 0; i < n; i++) {
				ck_assert_uint_eq(got[i][1], at / MIB % 2 ? 0 : 3);
				at += got[i][0];
				ck_assert(at % MIB == 0 || i == n - 1);
			}
			ck_assert(wire_chunk(&nbd_ask_wire, m, &chunk) &&
				  wire_chunk(&nbd_ask_wire, m, &chunk));
			asked++;
		}
		ck_assert_uint_eq(at, WORLD_BYTES);
		wire_close(&nbd_ask_wire);
	}
	ck_assert_uint_gt(asked, 2);
}
END_TEST

/* ── a long conversation ── */

#define FLIGHT 100u /* more than there are slots */
#define SPAN   (8u * MIB)

struct flight {
	struct wire_request r;
	uint8_t *want; /* READ: what the answer must be */
	bool used;
};

static struct flight flights[FLIGHT];
static uint8_t *model;

static bool overlaps(uint64_t offset, uint64_t length)
{
	for (unsigned i = 0; i < FLIGHT; i++) {
		const struct wire_request *r = &flights[i].r;

		if (flights[i].used && r->offset < offset + length &&
		    offset < r->offset + r->length)
			return true;
	}
	return false;
}

/* One request into @p, its bytes; the model changes at once, nothing in flight overlaps. */
static size_t compose(struct rng *rng, struct flight *f, uint8_t *p)
{
	static const uint16_t types[] = { NBD_CMD_READ,	 NBD_CMD_READ,	NBD_CMD_WRITE,
					  NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_WRITE_ZEROES,
					  NBD_CMD_CACHE };
	uint16_t type = types[rng_below(rng, 7)];
	uint64_t offset, length;
	size_t n;

	do {
		length = 1 + rng_below(rng, rng_chance(rng, 10) ? 200000 : 9000);
		offset = rng_below(rng, SPAN - length);
		if (rng_chance(rng, 50)) {
			offset &= ~UINT64_C(4095);
			length = (length + 4095) & ~UINT64_C(4095);
		}
	} while (offset + length > SPAN || overlaps(offset, length));
	if (type == NBD_CMD_FLUSH)
		offset = length = 0;
	f->r = nbd_ask_request(type, offset, length, 0);
	f->used = true;
	n = wire_request_put(p, nbd_ask_mode, &f->r);
	if (type == NBD_CMD_WRITE) {
		for (uint64_t i = 0; i < length; i++)
			model[offset + i] = (uint8_t)(rng->state >> (i % 57));
		memcpy(p + n, model + offset, length);
		n += length;
	} else if (type == NBD_CMD_WRITE_ZEROES) {
		memset(model + offset, 0, length);
	} else if (type == NBD_CMD_READ) {
		f->want = malloc(length);
		ck_assert_ptr_nonnull(f->want);
		memcpy(f->want, model + offset, length);
	}
	return n;
}

static void take_answer(void)
{
	struct wire_chunk chunk;
	unsigned i = 0;

	ck_assert(wire_chunk(&nbd_ask_wire, nbd_ask_mode, &chunk));
	ck_assert_uint_eq(chunk.error, 0);
	ck_assert(chunk.done);
	while (!flights[i].used || flights[i].r.cookie != chunk.cookie)
		ck_assert_uint_lt(++i, FLIGHT);
	if (chunk.type == NBD_CHUNK_OFFSET_HOLE) {
		for (uint64_t k = 0; k < flights[i].r.length; k++)
			ck_assert_uint_eq(flights[i].want[k], 0);
	} else if (flights[i].want) {
		ck_assert(wire_read(&nbd_ask_wire, nbd_ask_big, flights[i].r.length));
		ck_assert_mem_eq(nbd_ask_big, flights[i].want, flights[i].r.length);
	}
	free(flights[i].want);
	flights[i] = (struct flight){ .used = false };
}

static void converse(struct rng *rng)
{
	static uint8_t talk[1u << 20];
	unsigned count = 1 + (unsigned)rng_below(rng, rng_chance(rng, 20) ? FLIGHT : 8);
	size_t n = 0, at = 0;
	unsigned sent = 0;

	for (; sent < count && n < sizeof(talk) - 220000; sent++)
		n += compose(rng, &flights[sent], talk + n);
	nbd_ask_world.disk->hold = rng_chance(rng, 30);
	while (at < n) {
		size_t part = 1 + rng_below(rng, rng_chance(rng, 30) ? 50 : 70000);

		part = part < n - at ? part : n - at;
		ck_assert(wire_send(&nbd_ask_wire, talk + at, part));
		at += part;
		if (rng_chance(rng, 10) || nbd_ask_world.disk->hold) {
			world_run(&nbd_ask_world, 1);
			if (nbd_ask_world.disk->hold && rng_chance(rng, 50))
				world_let_go(&nbd_ask_world);
		}
	}
	world_let_go(&nbd_ask_world);
	while (sent--)
		take_answer();
}

START_TEST(conversation)
{
	struct rng rng = { suite_seed(31) };

	model = malloc(SPAN);
	ck_assert_ptr_nonnull(model);
	NBD_ASK_EACH_MODE(m)
	{
		memcpy(model, nbd_ask_world.disk->memory, SPAN);
		nbd_ask_begin(m, "disk");
		for (unsigned round = 0; round < 150; round++)
			converse(&rng);
		ck_assert_mem_eq(model, nbd_ask_world.disk->memory, SPAN);
		wire_close(&nbd_ask_wire);
	}
	free(model);
}
END_TEST

/* ── memory ── */

START_TEST(nothing_allocated)
{
	struct wire_request r;
	uint64_t before;

	NBD_ASK_EACH_MODE(m)
	{
		nbd_ask_begin(m, "disk");
		for (unsigned i = 0; i < 50; i++) /* first touches; and the client's own memory */
			ck_assert_uint_eq(nbd_ask(NBD_CMD_READ, i * 5000, MIB, 0), 0);
		before = nbd_ask_world.allocations;
		for (unsigned i = 0; i < 300; i++) {
			r = nbd_ask_request(i % 2 ? NBD_CMD_READ : NBD_CMD_WRITE, i * 4097,
					    i % 10 ? 4096 : 300000, i % 3 ? 0 : NBD_CMD_FLAG_FUA);
			ck_assert_uint_eq(wire_do(&nbd_ask_wire, m, &r, nbd_ask_big,
						  i % 2 ? 0 : r.length, nbd_ask_big),
					  0);
			if (m != WIRE_SIMPLE)
				ck_assert_uint_eq(nbd_ask(NBD_CMD_BLOCK_STATUS, 0, MIB, 0), 0);
		}
		ck_assert_uint_eq(nbd_ask_world.allocations, before);
		wire_close(&nbd_ask_wire);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { opens,
				 read_and_write,
				 largest,
				 flags_reach_the_disk,
				 nothing_asked,
				 holes,
				 status,
				 status_of_some,
				 status_piecemeal,
				 conversation,
				 nothing_allocated,
				 closes,
				 NULL };

	return suite_run("nbd requests", tests);
}
