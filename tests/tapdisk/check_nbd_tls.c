/* check_nbd_tls.c - STARTTLS: when it is wanted, what is forgotten, and bytes that come too early */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvhd/base/endian.h"
#include "nbd-world.h"
#include "tests/lib/suite.h"

#define MIB (1u << 20)

static struct world w;
static struct wire c;
static uint8_t data[1024];
static char keys[64];

static void write_keys(mode_t mode)
{
	static const char line[] = "alice:00112233445566778899aabbccddeeff\n";
	int fd;

	snprintf(keys, sizeof(keys), "/tmp/nbd-keys.XXXXXX");
	fd = mkstemp(keys);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

static void begin(enum nbd_tls mode)
{
	struct nbd_params params = { .fd = -1, .tls = mode };

	write_keys(0600);
	params.tls_psk = keys;
	world_open(&w, &params);
}

static uint32_t ask(uint32_t option, const void *bytes, size_t length)
{
	ck_assert(wire_option(&c, option, bytes, length));
	return wire_option_end(&c, option);
}

static void end(void)
{
	world_close(&w);
	unlink(keys); /* it is looked at for each client */
}

/* ── in clear ── */

START_TEST(required)
{
	static const uint32_t options[] = { NBD_OPT_LIST,
					    NBD_OPT_INFO,
					    NBD_OPT_GO,
					    NBD_OPT_STRUCTURED_REPLY,
					    NBD_OPT_EXTENDED_HEADERS,
					    NBD_OPT_SET_META_CONTEXT,
					    NBD_OPT_LIST_META_CONTEXT,
					    4,
					    4711 };

	begin(NBD_TLS_REQUIRED);
	wire_open(&c, &w);
	wire_greet(&c, 3);
	for (unsigned i = 0; i < sizeof(options) / sizeof(*options); i++)
		ck_assert_uint_eq(ask(options[i], data, wire_name(data, "disk")),
				  NBD_REP_ERR_TLS_REQD);
	ck_assert_uint_eq(ask(NBD_OPT_STARTTLS, "x", 1), NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(ask(NBD_OPT_ABORT, NULL, 0), NBD_REP_ACK);
	ck_assert(wire_ends(&c));
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert(wire_option(&c, NBD_OPT_EXPORT_NAME, "disk", 4));
	ck_assert(wire_ends(&c));
	/* not for clients of the old handshake, and they are not sent there */
	wire_open(&c, &w);
	wire_greet(&c, 2);
	ck_assert_uint_eq(ask(NBD_OPT_LIST, NULL, 0), NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(ask(NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ERR_INVALID);
	end();
}
END_TEST

START_TEST(offered)
{
	begin(NBD_TLS_OFFERED);
	wire_open(&c, &w);
	ck_assert_uint_ne(wire_go(&c, WIRE_STRUCTURED, "disk") & NBD_FLAG_SEND_DF, 0);
	end();
}
END_TEST

/* What stands behind STARTTLS in one piece with it would be read as if it had come through TLS. */
START_TEST(injected)
{
	static const size_t more[] = { 1, 16, 21 };
	uint8_t talk[64];

	begin(NBD_TLS_OFFERED);
	for (unsigned i = 0; i < 3; i++) {
		wire_open(&c, &w);
		wire_greet(&c, 3);
		memset(talk, 0, sizeof(talk));
		be64_store(talk, NBD_IHAVEOPT);
		be32_store(talk + 8, NBD_OPT_STARTTLS);
		be64_store(talk + 16, NBD_IHAVEOPT);
		be32_store(talk + 24, NBD_OPT_LIST);
		ck_assert(wire_send(&c, talk, 16 + more[i]));
		ck_assert(wire_ends(&c));
	}
	end();
}
END_TEST

START_TEST(no_tls_behind_it)
{
	begin(NBD_TLS_REQUIRED);
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	/* its time is still limited */
	ck_assert(loop_timer_is_set(
		list_entry(w.server->clients.prev, struct nbd_client, link)->deadline));
	ck_assert(wire_option(&c, NBD_OPT_LIST, NULL, 0));
	world_wait_clients(&w, 0);
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	wire_close(&c);
	world_wait_clients(&w, 0);
	end();
}
END_TEST

START_TEST(bad_credentials)
{
	struct nbd_params params = { .address = "tcp:127.0.0.1:0",
				     .fd = -1,
				     .tls = NBD_TLS_REQUIRED };
	struct nbd_server *server = NULL;
	struct vhd_error err;

	begin(NBD_TLS_OFFERED);
	ck_assert_int_lt(nbd_server_open(w.loop, &params, &server, &err), 0);
	params.tls_psk = "/no/such/keys";
	ck_assert_int_eq(nbd_server_open(w.loop, &params, &server, &err), -ENOENT);
	unlink(keys);
	write_keys(0640);
	params.tls_psk = keys;
	ck_assert_int_eq(nbd_server_open(w.loop, &params, &server, &err), -EACCES);
	unlink(keys);
	params.tls_psk = NULL;
	params.tls_certs = "/tmp";
	ck_assert_int_lt(nbd_server_open(w.loop, &params, &server, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "ca-cert.pem"));
	ck_assert_ptr_null(server);
	end();
}
END_TEST

/* ── through TLS ── */

static gnutls_session_t session;
static gnutls_psk_client_credentials_t credentials;

static void tls_begin(const char *user)
{
	static const gnutls_datum_t key = { (void *)"00112233445566778899aabbccddeeff", 32 };

	wire_deaf(&c, true);
	ck_assert_int_eq(gnutls_psk_allocate_client_credentials(&credentials), 0);
	ck_assert_int_eq(gnutls_psk_set_client_credentials(credentials, user, &key,
							   GNUTLS_PSK_KEY_HEX),
			 0);
	ck_assert_int_eq(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
	ck_assert_int_eq(gnutls_priority_set_direct(session, "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK",
						    NULL),
			 0);
	ck_assert_int_eq(gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials), 0);
	gnutls_transport_set_int(session, c.fd);
}

static int tls_shake(void)
{
	int rc = GNUTLS_E_AGAIN;

	for (unsigned ms = 0; ms < WORLD_PATIENCE_MS && !gnutls_error_is_fatal(rc) && rc; ms++) {
		rc = gnutls_handshake(session);
		world_run(&w, 1);
	}
	return rc;
}

static void tls_end(void)
{
	gnutls_deinit(session);
	gnutls_psk_free_client_credentials(credentials);
}

static void tls_send(const void *bytes, size_t length)
{
	const uint8_t *p = bytes;

	for (unsigned ms = 0; length && ms < WORLD_PATIENCE_MS;) {
		ssize_t n = gnutls_record_send(session, p, length);

		if (n > 0) {
			p += n;
			length -= (size_t)n;
		} else {
			ck_assert_int_eq(n, GNUTLS_E_AGAIN);
			world_run(&w, 1);
			ms++;
		}
	}
	ck_assert_uint_eq(length, 0);
}

static void tls_read(void *bytes, size_t length)
{
	uint8_t *p = bytes;

	for (unsigned ms = 0; length && ms < WORLD_PATIENCE_MS;) {
		ssize_t n = gnutls_record_recv(session, p, length);

		if (n > 0) {
			p += n;
			length -= (size_t)n;
		} else {
			ck_assert_int_eq(n, GNUTLS_E_AGAIN);
			world_run(&w, 1);
			ms++;
		}
	}
	ck_assert_uint_eq(length, 0);
}

/* The type of the reply that ends @option; flags of an export on the way into *flags. */
static uint32_t tls_ask(uint32_t option, const void *bytes, size_t length, uint16_t *flags)
{
	uint8_t head[20], text[512];
	uint32_t type;

	be64_store(head, NBD_IHAVEOPT);
	be32_store(head + 8, option);
	be32_store(head + 12, (uint32_t)length);
	tls_send(head, 16);
	if (length)
		tls_send(bytes, length);
	do {
		tls_read(head, 20);
		ck_assert_uint_eq(be64_load(head), NBD_OPTION_REPLY_MAGIC);
		type = be32_load(head + 12);
		ck_assert_uint_le(be32_load(head + 16), sizeof(text));
		tls_read(text, be32_load(head + 16));
		if (flags && type == NBD_REP_INFO && be16_load(text) == NBD_INFO_EXPORT)
			*flags = be16_load(text + 10);
	} while (type > NBD_REP_ACK && type < NBD_REP_ERR_UNSUP);
	return type;
}

static void start_tls(void)
{
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	tls_begin("alice");
	ck_assert_int_eq(tls_shake(), 0);
}

START_TEST(all_is_forgotten)
{
	static const char *const good[] = { "base:allocation", NULL };
	uint16_t flags = 0;

	begin(NBD_TLS_OFFERED);
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(NBD_OPT_EXTENDED_HEADERS, NULL, 0), NBD_REP_ACK);
	ck_assert_uint_eq(ask(NBD_OPT_SET_META_CONTEXT, data, wire_queries(data, "disk", good)),
			  NBD_REP_ACK);
	ck_assert_uint_eq(ask(NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	tls_begin("alice");
	ck_assert_int_eq(tls_shake(), 0);
	ck_assert_uint_eq(tls_ask(NBD_OPT_STARTTLS, NULL, 0, NULL), NBD_REP_ERR_INVALID);
	/* contexts need structured replies anew */
	ck_assert_uint_eq(tls_ask(NBD_OPT_SET_META_CONTEXT, data, wire_queries(data, "disk", good),
				  NULL),
			  NBD_REP_ERR_INVALID);
	ck_assert_uint_eq(tls_ask(NBD_OPT_GO, data, wire_name(data, "disk"), &flags), NBD_REP_ACK);
	ck_assert_uint_ne(flags, 0);
	ck_assert_uint_eq(flags & (NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD), 0);
	tls_end();
	end();
}
END_TEST

START_TEST(wrong_user)
{
	begin(NBD_TLS_REQUIRED);
	wire_open(&c, &w);
	wire_greet(&c, 3);
	ck_assert_uint_eq(ask(NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ACK);
	tls_begin("mallory");
	ck_assert_int_ne(tls_shake(), 0);
	world_wait_clients(&w, 0);
	tls_end();
	end();
}
END_TEST

/* More than the socket holds, both ways, read late: records that had to wait are not lost, repeated
 * or torn. */
START_TEST(much_data)
{
	static uint8_t bytes[8 * MIB];
	uint8_t head[28];

	begin(NBD_TLS_REQUIRED);
	start_tls();
	ck_assert_uint_eq(tls_ask(NBD_OPT_GO, data, wire_name(data, "disk"), NULL), NBD_REP_ACK);
	for (size_t i = 0; i < sizeof(bytes); i += 4)
		be32_store(bytes + i, (uint32_t)(i * 2654435761u));
	for (unsigned i = 0; i < 8; i++) {
		struct wire_request r = {
			.type = NBD_CMD_WRITE, .cookie = i, .offset = i * MIB, .length = MIB
		};

		(void)wire_request_put(head, WIRE_SIMPLE, &r);
		tls_send(head, 28);
		tls_send(bytes + i * MIB, MIB);
	}
	for (unsigned i = 0; i < 8; i++)
		tls_read(head, 16);
	ck_assert_mem_eq(w.disk->memory, bytes, sizeof(bytes));
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 40; i++) {
			struct wire_request r = { .type = NBD_CMD_READ,
						  .cookie = i,
						  .offset = i * 200001,
						  .length = round ? 100003 : 509 };

			(void)wire_request_put(head, WIRE_SIMPLE, &r);
			tls_send(head, 28);
		}
		world_run(&w, 20);
		for (unsigned i = 0; i < 40; i++) {
			size_t length = round ? 100003 : 509;

			tls_read(head, 16);
			ck_assert_uint_eq(be64_load(head + 8), i);
			ck_assert_uint_eq(be32_load(head + 4), 0);
			tls_read(bytes, length);
			ck_assert_mem_eq(bytes, w.disk->memory + i * 200001, length);
		}
	}
	tls_end();
	end();
}
END_TEST

/* A request and the end of TLS in one piece, the socket still open: answered, and over. */
START_TEST(ends_behind_a_request)
{
	const struct wire_request r = { .type = NBD_CMD_READ, .cookie = 9, .length = 512 };
	uint8_t head[28], bytes[512];

	begin(NBD_TLS_REQUIRED);
	start_tls();
	ck_assert_uint_eq(tls_ask(NBD_OPT_GO, data, wire_name(data, "disk"), NULL), NBD_REP_ACK);
	(void)wire_request_put(head, WIRE_SIMPLE, &r);
	tls_send(head, 28);
	ck_assert_int_eq(gnutls_bye(session, GNUTLS_SHUT_WR), 0);
	tls_read(head, 16);
	ck_assert_uint_eq(be64_load(head + 8), 9);
	tls_read(bytes, 512);
	world_wait_clients(&w, 0);
	tls_end();
	end();
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		required,	  offered,    injected,	 no_tls_behind_it,	bad_credentials,
		all_is_forgotten, wrong_user, much_data, ends_behind_a_request, NULL
	};

	return suite_run("nbd tls", tests);
}
