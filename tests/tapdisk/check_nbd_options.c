/* check_nbd_options.c - the NBD handshake: options in any order, lies about lengths, limits, contexts */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "nbd-world.h"
#include "tests/lib/suite.h"

static struct world w;
static struct wire c;
static uint8_t data[1u << 17];

static const char *const no_queries[] = { NULL };

static uint32_t ask(uint32_t option, const void *bytes, size_t length)
{
	ck_assert(wire_option(&c, option, bytes, length));
	return wire_option_end(&c, option);
}

static uint32_t ask_name(uint32_t option, const char *name)
{
	return ask(option, data, wire_name(data, name));
}

static uint32_t ask_queries(uint32_t option, const char *name, const char *const *queries)
{
	return ask(option, data, wire_queries(data, name, queries));
}

/* One world for all; what is left of a test that failed goes with it. */
START_TEST(opens)
{
	world_open(&w, NULL);
}
END_TEST

START_TEST(closes)
{
	world_close(&w);
}
END_TEST

/* ── any order ── */

struct state { /* what the server is expected to remember */
	bool structured, extended, selected, served;
};

static const uint32_t repertoire[] = { NBD_OPT_LIST,
				       NBD_OPT_STARTTLS,
				       NBD_OPT_INFO,
				       NBD_OPT_STRUCTURED_REPLY,
				       NBD_OPT_LIST_META_CONTEXT,
				       NBD_OPT_SET_META_CONTEXT,
				       NBD_OPT_EXTENDED_HEADERS,
				       4,
				       0xffffffff };
#define REPERTOIRE (sizeof(repertoire) / sizeof(*repertoire))

/* Send @option with good data; the reply must be what @s makes it. */
static void one_option(struct state *s, uint32_t option)
{
	static const char *const depth[] = { "base:allocation", "qemu:allocation-depth", NULL };
	uint32_t want = NBD_REP_ACK, got;

	switch (option) {
	case NBD_OPT_STARTTLS:
		want = NBD_REP_ERR_POLICY;
		got = ask(option, NULL, 0);
		break;
	case NBD_OPT_INFO:
		got = ask_name(option, "disk");
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		want = s->structured ? NBD_REP_ERR_INVALID :
		       s->extended   ? NBD_REP_ERR_EXT_HEADER_REQD :
				       NBD_REP_ACK;
		s->structured |= !s->extended;
		got = ask(option, NULL, 0);
		break;
	case NBD_OPT_EXTENDED_HEADERS:
		want = s->extended ? NBD_REP_ERR_INVALID : NBD_REP_ACK;
		s->extended = true;
		got = ask(option, NULL, 0);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		want = s->structured || s->extended ? NBD_REP_ACK : NBD_REP_ERR_INVALID;
		if (option == NBD_OPT_SET_META_CONTEXT)
			s->selected = want == NBD_REP_ACK;
		got = ask_queries(option, "disk", depth);
		break;
	case NBD_OPT_LIST:
		got = ask(option, NULL, 0);
		break;
	default:
		want = NBD_REP_ERR_UNSUP;
		got = ask(option, "dropped", 7);
	}
	ck_assert_msg(got == want, "option %u: %x instead of %x", option, got, want);
}

static uint16_t go_flags(const char *name)
{
	size_t length;
	uint32_t type;
	uint16_t flags = 0;

	ck_assert(wire_option(&c, NBD_OPT_GO, data, wire_name(data, name)));
	do {
		type = wire_option_reply(&c, NBD_OPT_GO, data, sizeof(data), &length);
		if (type == NBD_REP_INFO && be16_load(data) == NBD_INFO_EXPORT)
			flags = be16_load(data + 10);
	} while (type == NBD_REP_INFO);
	ck_assert_uint_eq(type, NBD_REP_ACK);
	return flags;
}

static void check_status(const struct state *s)
{
	enum wire_mode mode = s->extended   ? WIRE_EXTENDED :
			      s->structured ? WIRE_STRUCTURED :
					      WIRE_SIMPLE;
	struct wire_request r = { .type = NBD_CMD_BLOCK_STATUS, .cookie = 7, .length = 4096 };

	ck_assert_uint_eq(wire_do(&c, mode, &r, NULL, 0, NULL), s->selected ? 0 : NBD_EINVAL);
}

START_TEST(orders)
{
	for (unsigned i = 0; i < REPERTOIRE * REPERTOIRE * REPERTOIRE; i++) {
		struct state s = { .structured = false };
		uint16_t flags;

		wire_open(&c, &w);
		wire_greet(&c, 3);
		one_option(&s, repertoire[i % REPERTOIRE]);
		one_option(&s, repertoire[i / REPERTOIRE % REPERTOIRE]);
		one_option(&s, repertoire[i / REPERTOIRE / REPERTOIRE]);
		flags = go_flags("");
		ck_assert_int_eq(!!(flags & NBD_FLAG_SEND_DF), s.structured || s.extended);
		ck_assert_int_eq(!!(flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD),
				 s.extended && s.selected);
		check_status(&s);
		wire_close(&c);
	}
	world_wait_clients(&w, 0);
}
END_TEST

/* ── greeting ── */

START_TEST(client_flags)
{
	uint8_t name[4] = "disk", reply[134], zeros[124] = { 0 };

	for (uint32_t flags = 0; flags < 4; flags++) {
		wire_open(&c, &w);
		wire_greet(&c, flags);
		if (!(flags & 1))
			ck_assert_uint_eq(ask(NBD_OPT_LIST, NULL, 0), NBD_REP_ERR_INVALID);
		ck_assert(wire_option(&c, NBD_OPT_EXPORT_NAME, name, 4));
		ck_assert(wire_read(&c, reply, flags & 2 ? 10 : 134));
		ck_assert_uint_eq(be64_load(reply), WORLD_BYTES);
		ck_assert_uint_eq(be16_load(reply + 8) & NBD_FLAG_SEND_DF, 0);
		if (!(flags & 2))
			ck_assert_mem_eq(reply + 10, zeros, 124);
		ck_assert(wire_silent(&c));
		wire_close(&c);
	}
	for (unsigned bit = 2; bit < 32; bit++) {
		wire_open(&c, &w);
		wire_greet(&c, 1u << bit | 1);
		ck_assert(wire_ends(&c));
		wire_close(&c);
	}
}
END_TEST

/* An export name cannot be refused but by closing. */
START_TEST(export_name_refused)
{
	static const char *const names[] = { "nothing", "dis", "disk1", "disk\n" };

	for (unsigned i = 0; i < 4; i++) {
		wire_open(&c, &w);
		wire_greet(&c, 3);
		ck_assert(wire_option(&c, NBD_OPT_EXPORT_NAME, names[i], strlen(names[i])));
		ck_assert(wire_ends(&c));
		wire_close(&c);
	}
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(NBD_OPT_EXTENDED_HEADERS, NULL, 0), NBD_REP_ACK);
	ck_assert(wire_option(&c, NBD_OPT_EXPORT_NAME, "disk", 4));
	ck_assert(wire_ends(&c));
	wire_close(&c);
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert(wire_option(&c, NBD_OPT_EXPORT_NAME, NULL, NBD_STRING_MAX + 1));
	ck_assert(wire_ends(&c));
	wire_close(&c);
}
END_TEST

/* ── lengths ── */

START_TEST(no_data_where_none_belongs)
{
	static const uint32_t options[] = { NBD_OPT_LIST, NBD_OPT_STARTTLS,
					    NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS };

	wire_open(&c, &w);
	wire_greet(&c, 3);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(ask(options[i], "x", 1), NBD_REP_ERR_INVALID);
	/* and nothing was switched on */
	ck_assert_uint_eq(go_flags("disk") & NBD_FLAG_SEND_DF, 0);
	wire_close(&c);
}
END_TEST

START_TEST(info_lies)
{
	static const uint32_t lengths[] = { 0xffffffff, 0xfffffffe, 0x7fffffff, 5, 4097, 3, 0 };
	size_t whole;

	wire_open(&c, &w);
	wire_greet(&c, 3);
	for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		whole = wire_name(data, "disk");
		be32_store(data, lengths[i]);
		ck_assert_uint_eq(ask(NBD_OPT_INFO, data, whole), NBD_REP_ERR_INVALID);
	}
	for (size_t cut = 0; cut < 6; cut++) {
		whole = wire_name(data, "");
		ck_assert_uint_eq(ask(NBD_OPT_INFO, data, cut), NBD_REP_ERR_INVALID);
	}
	whole = wire_name(data, "disk");
	be16_store(data + 8, 1); /* one kind of information, which does not follow */
	ck_assert_uint_eq(ask(NBD_OPT_GO, data, whole), NBD_REP_ERR_INVALID);
	be16_store(data + 8, 0xffff);
	ck_assert_uint_eq(ask(NBD_OPT_GO, data, whole), NBD_REP_ERR_INVALID);
	/* known and unknown kinds do no harm */
	be16_store(data + 8, 3);
	be16_store(data + 10, NBD_INFO_BLOCK_SIZE);
	be16_store(data + 12, 0x1234);
	be16_store(data + 14, NBD_INFO_EXPORT);
	ck_assert_uint_eq(ask(NBD_OPT_INFO, data, whole + 6), NBD_REP_ACK);
	wire_close(&c);
}
END_TEST

START_TEST(unknown_export)
{
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask_name(NBD_OPT_INFO, "nothing"), NBD_REP_ERR_UNKNOWN);
	ck_assert_uint_eq(ask_name(NBD_OPT_GO, "nothing"), NBD_REP_ERR_UNKNOWN);
	/* a failed GO leaves all as it was */
	ck_assert_uint_ne(go_flags("ro") & NBD_FLAG_READ_ONLY, 0);
	wire_close(&c);
}
END_TEST

START_TEST(infos_tell_all)
{
	size_t length;
	unsigned seen = 0;
	uint32_t type;

	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert(wire_option(&c, NBD_OPT_INFO, data, wire_name(data, "")));
	while ((type = wire_option_reply(&c, NBD_OPT_INFO, data, sizeof(data), &length)) ==
	       NBD_REP_INFO) {
		seen |= 1u << be16_load(data);
		switch (be16_load(data)) {
		case NBD_INFO_EXPORT:
			ck_assert_uint_eq(length, 12);
			ck_assert_uint_eq(be64_load(data + 2), WORLD_BYTES);
			ck_assert_uint_eq(be16_load(data + 10),
					  NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
						  NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
						  NBD_FLAG_SEND_WRITE_ZEROES |
						  NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE |
						  NBD_FLAG_SEND_FAST_ZERO);
			break;
		case NBD_INFO_NAME:
			ck_assert_uint_eq(length, 6);
			ck_assert_mem_eq(data + 2, "disk", 4);
			break;
		case NBD_INFO_DESCRIPTION:
			ck_assert_uint_eq(length, 2 + strlen("of the world"));
			break;
		default:
			ck_assert_uint_eq(length, 14);
			ck_assert_uint_eq(be32_load(data + 2), 1);
			ck_assert_uint_eq(be32_load(data + 6), 4096);
			ck_assert_uint_eq(be32_load(data + 10), 32u << 20);
		}
	}
	ck_assert_uint_eq(type, NBD_REP_ACK);
	ck_assert_uint_eq(seen, 0xf);
	wire_close(&c);
}
END_TEST

START_TEST(long_options)
{
	static const uint8_t junk[NBD_OPTION_PARSED + 1];

	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(99, junk, NBD_OPTION_PARSED), NBD_REP_ERR_UNSUP);
	ck_assert_uint_eq(ask(NBD_OPT_INFO, junk, sizeof(junk)), NBD_REP_ERR_TOO_BIG);
	/* 32 MiB go by, one more byte is too much */
	ck_assert(wire_option(&c, NBD_OPT_LIST, NULL, NBD_OPTION_DRAINED));
	for (size_t n = 0; n < NBD_OPTION_DRAINED; n += NBD_OPTION_PARSED)
		ck_assert(wire_send(&c, junk, NBD_OPTION_PARSED));
	ck_assert_uint_eq(wire_option_end(&c, NBD_OPT_LIST), NBD_REP_ERR_TOO_BIG);
	ck_assert_uint_eq(ask(NBD_OPT_LIST, NULL, 0), NBD_REP_ACK);
	ck_assert(wire_option(&c, 99, NULL, NBD_OPTION_DRAINED + 1));
	ck_assert(wire_ends(&c));
	wire_close(&c);
}
END_TEST

START_TEST(wrong_magic)
{
	wire_open(&c, &w);
	wire_greet(&c, 3);
	memset(data, 0, 16);
	ck_assert(wire_send(&c, data, 16));
	ck_assert(wire_ends(&c));
	wire_close(&c);
}
END_TEST

/* 32 options, and as many more for each export that was told of, once. */
START_TEST(too_many_options)
{
	wire_open(&c, &w);
	wire_greet(&c, 3);
	for (unsigned i = 0; i < NBD_OPTIONS_MAX; i++)
		ck_assert_uint_eq(ask(99, NULL, 0), NBD_REP_ERR_UNSUP);
	ck_assert(wire_option(&c, 99, NULL, 0));
	ck_assert(wire_ends(&c));
	wire_close(&c);
	wire_open(&c, &w);
	wire_greet(&c, 3);
	for (unsigned i = 0; i < 3 * NBD_OPTIONS_MAX; i++)
		ck_assert_uint_eq(ask(NBD_OPT_LIST, NULL, 0), NBD_REP_ACK);
	ck_assert(wire_option(&c, 99, NULL, 0));
	ck_assert(wire_ends(&c));
	wire_close(&c);
}
END_TEST

START_TEST(list_and_abort)
{
	size_t length;

	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert(wire_option(&c, NBD_OPT_LIST, NULL, 0));
	ck_assert_uint_eq(wire_option_reply(&c, NBD_OPT_LIST, data, sizeof(data), &length),
			  NBD_REP_SERVER);
	ck_assert_uint_eq(length, 4 + 4 + 12);
	ck_assert_mem_eq(data, "\0\0\0\4diskof the world", length);
	ck_assert_uint_eq(wire_option_reply(&c, NBD_OPT_LIST, data, sizeof(data), &length),
			  NBD_REP_SERVER);
	ck_assert_uint_eq(length, 4 + 2);
	ck_assert_mem_eq(data, "\0\0\0\2ro", length);
	ck_assert_uint_eq(wire_option_end(&c, NBD_OPT_LIST), NBD_REP_ACK);
	ck_assert_uint_eq(ask(NBD_OPT_ABORT, "ignored", 7), NBD_REP_ACK);
	ck_assert(wire_ends(&c));
	wire_close(&c);
}
END_TEST

/* ── metadata contexts ── */

static void begin_structured(void)
{
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(NBD_OPT_STRUCTURED_REPLY, NULL, 0), NBD_REP_ACK);
}

/* Contexts named in the replies, by bits of their place; ends must be an ACK. */
static unsigned contexts(uint32_t option, const char *name, const char *const *queries)
{
	static const char *const known[] = { "base:allocation", "qemu:allocation-depth",
					     "vhd:depth" };
	unsigned seen = 0;
	size_t length;
	uint32_t type;

	ck_assert(wire_option(&c, option, data, wire_queries(data, name, queries)));
	while ((type = wire_option_reply(&c, option, data, sizeof(data), &length)) ==
	       NBD_REP_META_CONTEXT) {
		unsigned i = 0;

		while (strlen(known[i]) != length - 4 || memcmp(known[i], data + 4, length - 4))
			ck_assert_uint_lt(++i, 3);
		ck_assert_uint_eq(be32_load(data), option == NBD_OPT_LIST_META_CONTEXT ? 0 : i + 1);
		ck_assert_uint_eq(seen & 1u << i, 0);
		seen |= 1u << i;
	}
	ck_assert_uint_eq(type, NBD_REP_ACK);
	return seen;
}

START_TEST(meta_queries)
{
	static const char *const spaces[] = { "base:", "qemu:", NULL };
	static const char *const leaf[] = { "vhd:depth", "vhd:depth", "base:other", "x-y:z", NULL };

	begin_structured();
	ck_assert_uint_eq(contexts(NBD_OPT_LIST_META_CONTEXT, "", no_queries), 7);
	ck_assert_uint_eq(contexts(NBD_OPT_LIST_META_CONTEXT, "ro", spaces), 3);
	ck_assert_uint_eq(contexts(NBD_OPT_LIST_META_CONTEXT, "disk", leaf), 4);
	ck_assert_uint_eq(contexts(NBD_OPT_SET_META_CONTEXT, "disk", no_queries), 0);
	ck_assert_uint_eq(contexts(NBD_OPT_SET_META_CONTEXT, "disk", spaces), 0);
	ck_assert_uint_eq(contexts(NBD_OPT_SET_META_CONTEXT, "disk", leaf), 4);
	wire_close(&c);
}
END_TEST

START_TEST(meta_lies)
{
	static const char *const good[] = { "base:allocation", NULL };
	static const char *const no_colon[] = { "base", NULL };
	static const uint32_t lengths[] = { 16, 14, 0xffffffff, 0xfffffff0 };
	size_t whole;

	begin_structured();
	ck_assert_uint_eq(ask_queries(NBD_OPT_SET_META_CONTEXT, "nothing", good),
			  NBD_REP_ERR_UNKNOWN);
	ck_assert_uint_eq(ask_queries(NBD_OPT_SET_META_CONTEXT, "disk", no_colon),
			  NBD_REP_ERR_INVALID);
	wire_close(&c);
	begin_structured();
	whole = wire_queries(data, "", good);
	ck_assert_uint_lt(whole, NBD_OPTIONS_MAX - 1);
	for (size_t cut = 0; cut < whole; cut++)
		ck_assert_uint_eq(ask(NBD_OPT_LIST_META_CONTEXT, data, cut), NBD_REP_ERR_INVALID);
	wire_close(&c);
	begin_structured();
	whole = wire_queries(data, "disk", good);
	for (unsigned i = 0; i < 4; i++) {
		be32_store(data + 12, lengths[i]); /* of the query */
		ck_assert_uint_eq(ask(NBD_OPT_SET_META_CONTEXT, data, whole), NBD_REP_ERR_INVALID);
	}
	wire_queries(data, "disk", good);
	be32_store(data + 8, 2); /* queries */
	ck_assert_uint_eq(ask(NBD_OPT_SET_META_CONTEXT, data, whole), NBD_REP_ERR_INVALID);
	be32_store(data + 8, NBD_META_QUERIES + 1);
	ck_assert_uint_eq(ask(NBD_OPT_SET_META_CONTEXT, data, whole), NBD_REP_ERR_TOO_BIG);
	be32_store(data + 8, 0xffffffff);
	ck_assert_uint_eq(ask(NBD_OPT_SET_META_CONTEXT, data, whole), NBD_REP_ERR_TOO_BIG);
	wire_close(&c);
}
END_TEST

/* A selection ends with a later one, even one that failed, and counts for its export only. */
START_TEST(meta_selection)
{
	static const char *const good[] = { "base:allocation", NULL };
	struct state none = { .structured = true }, some = { .structured = true, .selected = true };
	static const uint8_t junk[NBD_OPTION_PARSED + 1];

	for (unsigned i = 0; i < 6; i++) {
		begin_structured();
		ck_assert_uint_eq(contexts(NBD_OPT_SET_META_CONTEXT, i == 5 ? "" : "disk", good),
				  1);
		if (i == 1)
			ck_assert_uint_eq(ask(NBD_OPT_SET_META_CONTEXT, "x", 1),
					  NBD_REP_ERR_INVALID);
		if (i == 2)
			ck_assert_uint_eq(contexts(NBD_OPT_SET_META_CONTEXT, "disk", no_queries),
					  0);
		if (i == 4)
			ck_assert_uint_eq(ask(NBD_OPT_SET_META_CONTEXT, junk, sizeof(junk)),
					  NBD_REP_ERR_TOO_BIG);
		(void)go_flags(i == 3 ? "ro" : "disk");
		check_status(i == 0 || i == 5 ? &some : &none);
		wire_close(&c);
	}
}
END_TEST

/* INFO followed by a GO of the same export gives the same flags, whatever was selected for another. */
START_TEST(info_as_go)
{
	static const char *const good[] = { "base:allocation", NULL };
	static const char *const names[] = { "disk", "ro" };
	size_t length;
	uint16_t flags = 0;

	for (unsigned i = 0; i < 2; i++) {
		wire_open(&c, &w);
		wire_greet(&c, 3);
		ck_assert_uint_eq(ask(NBD_OPT_EXTENDED_HEADERS, NULL, 0), NBD_REP_ACK);
		ck_assert_uint_eq(contexts(NBD_OPT_SET_META_CONTEXT, "disk", good), 1);
		ck_assert(wire_option(&c, NBD_OPT_INFO, data, wire_name(data, names[i])));
		while (wire_option_reply(&c, NBD_OPT_INFO, data, sizeof(data), &length) ==
		       NBD_REP_INFO)
			if (be16_load(data) == NBD_INFO_EXPORT)
				flags = be16_load(data + 10);
		ck_assert_uint_eq(go_flags(names[i]), flags);
		ck_assert_int_eq(!!(flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD), i == 0);
		wire_close(&c);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { opens,
				 client_flags,
				 export_name_refused,
				 no_data_where_none_belongs,
				 info_lies,
				 unknown_export,
				 infos_tell_all,
				 long_options,
				 wrong_magic,
				 too_many_options,
				 list_and_abort,
				 meta_queries,
				 meta_lies,
				 meta_selection,
				 info_as_go,
				 orders,
				 closes,
				 NULL };

	return suite_run("nbd options", tests);
}
