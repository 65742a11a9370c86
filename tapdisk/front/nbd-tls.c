/* nbd-tls.c - TLS by GnuTLS: X.509 with client certificates, or pre-shared keys
 *
 * TLS 1.2 and 1.3 only.  With certificates, clients must show one of the same authority.  Who
 * is not among those allowed, if there is a list, is told so at the end of the handshake.
 */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"
#include "nbd-private.h"

#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct nbd_tls_server {
	gnutls_certificate_credentials_t x509;
	gnutls_psk_server_credentials_t psk;
	gnutls_priority_t priority;
	const char *const *allowed; /* borrowed; NULL: all */
};

#define RECORD 16384u /* the most that TLS carries at once */

/* Small pieces travel together in one record.  A record that did not go out is kept by GnuTLS,
 * and not counted as sent until it has. */
struct nbd_tls_session {
	gnutls_session_t session;
	const struct nbd_tls_server *server; /* borrowed */
	char who[512];
	size_t pending; /* bytes of the record that waits */
	bool over;	/* the end, or a failure, came behind bytes that were given out */
	uint8_t stage[RECORD];
};

static int failed(struct vhd_error *err, const char *what, int rc)
{
	return error_set(err, -EINVAL, "cannot set TLS up: %s: %s", what, gnutls_strerror(rc));
}

static int load_x509(struct nbd_tls_server *tls, const char *dir, struct vhd_error *err)
{
	CLEANUP_FREE char *ca = NULL, *cert = NULL, *key = NULL, *crl = NULL;
	int rc;

	if (asprintf(&ca, "%s/ca-cert.pem", dir) < 0 ||
	    asprintf(&cert, "%s/server-cert.pem", dir) < 0 ||
	    asprintf(&key, "%s/server-key.pem", dir) < 0 ||
	    asprintf(&crl, "%s/ca-crl.pem", dir) < 0 ||
	    gnutls_certificate_allocate_credentials(&tls->x509) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	rc = gnutls_certificate_set_x509_trust_file(tls->x509, ca, GNUTLS_X509_FMT_PEM);
	if (rc <= 0)
		return failed(err, ca, rc ? rc : GNUTLS_E_NO_CERTIFICATE_FOUND);
	rc = gnutls_certificate_set_x509_key_file(tls->x509, cert, key, GNUTLS_X509_FMT_PEM);
	if (rc < 0)
		return failed(err, cert, rc);
	if (access(crl, F_OK) == 0) {
		rc = gnutls_certificate_set_x509_crl_file(tls->x509, crl, GNUTLS_X509_FMT_PEM);
		if (rc < 0)
			return failed(err, crl, rc);
	}
	return 0;
}

static int load_psk(struct nbd_tls_server *tls, const char *file, struct vhd_error *err)
{
	struct stat st;
	int rc;

	if (stat(file, &st) < 0)
		return error_system(err, -errno, "open", file);
	if (st.st_mode & 077)
		return error_set(err, -EACCES,
				 "'%s': others may read these keys; chmod 0600 it first", file);
	if (gnutls_psk_allocate_server_credentials(&tls->psk) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	rc = gnutls_psk_set_server_credentials_file(tls->psk, file);
	return rc < 0 ? failed(err, file, rc) : 0;
}

int nbd_tls_server_open(const struct nbd_params *params, struct nbd_tls_server **out,
			struct vhd_error *err)
{
	struct nbd_tls_server *tls;
	int rc;

	if (!params->tls_certs == !params->tls_psk)
		return error_set(err, -VHD_E_ARGUMENT,
				 "TLS needs either a directory of certificates or a file of keys");
	tls = calloc(1, sizeof(*tls));
	if (!tls)
		return error_set(err, -ENOMEM, "out of memory");
	tls->allowed = params->tls_allowed;
	rc = gnutls_priority_init(&tls->priority,
				  params->tls_psk ? PRIORITY ":+ECDHE-PSK:+DHE-PSK:+PSK" : PRIORITY,
				  NULL);
	if (rc < 0)
		rc = failed(err, "priorities", rc);
	else
		rc = params->tls_certs ? load_x509(tls, params->tls_certs, err) :
					 load_psk(tls, params->tls_psk, err);
	if (rc < 0) {
		nbd_tls_server_close(tls);
		return rc;
	}
	*out = tls;
	return 0;
}

void nbd_tls_server_close(struct nbd_tls_server *tls)
{
	if (!tls)
		return;
	if (tls->x509)
		gnutls_certificate_free_credentials(tls->x509);
	if (tls->psk)
		gnutls_psk_free_server_credentials(tls->psk);
	if (tls->priority)
		gnutls_priority_deinit(tls->priority);
	free(tls);
}

int nbd_tls_session_open(struct nbd_tls_server *tls, int fd, struct nbd_tls_session **out)
{
	struct nbd_tls_session *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	rc = gnutls_init(&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (rc < 0) {
		free(s);
		return -ENOMEM;
	}
	rc = gnutls_priority_set(s->session, tls->priority);
	if (!rc && tls->x509)
		rc = gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, tls->x509);
	if (!rc && tls->psk)
		rc = gnutls_credentials_set(s->session, GNUTLS_CRD_PSK, tls->psk);
	if (rc < 0) {
		gnutls_deinit(s->session);
		free(s);
		return -EINVAL;
	}
	if (tls->x509) {
		gnutls_certificate_server_set_request(s->session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(s->session, NULL, 0);
	}
	s->server = tls;
	gnutls_transport_set_int(s->session, fd);
	*out = s;
	return 0;
}

/* ── who is it ── */

static bool is_listed(const struct nbd_tls_server *tls, const char *name)
{
	for (const char *const *allowed = tls->allowed; *allowed; allowed++)
		if (!strcmp(*allowed, name))
			return true;
	return false;
}

/* The common name, if there is just one and it is text. */
static bool common_name(gnutls_x509_crt_t cert, char *out, size_t room)
{
	size_t length = room, none = 0;

	return gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, 0, out,
					     &length) == 0 &&
	       strlen(out) == length &&
	       gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 1, 0, NULL,
					     &none) == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
}

/* The certificate was verified in the handshake. */
static bool subject_is_listed(struct nbd_tls_session *s)
{
	unsigned count = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(s->session, &count);
	gnutls_x509_crt_t cert;
	gnutls_datum_t subject = { NULL, 0 };
	bool listed = false;
	char name[256];

	if (!chain || !count || gnutls_x509_crt_init(&cert) < 0)
		return false;
	if (gnutls_x509_crt_import(cert, &chain[0], GNUTLS_X509_FMT_DER) == 0 &&
	    gnutls_x509_crt_get_dn3(cert, &subject, 0) == 0) {
		snprintf(s->who, sizeof(s->who), "%s", (const char *)subject.data);
		listed = strlen((const char *)subject.data) == subject.size &&
			 (is_listed(s->server, (const char *)subject.data) ||
			  (common_name(cert, name, sizeof(name)) && is_listed(s->server, name)));
	}
	gnutls_free(subject.data);
	gnutls_x509_crt_deinit(cert);
	return listed;
}

static bool is_allowed(struct nbd_tls_session *s)
{
	const char *user;

	if (!s->server->allowed)
		return true;
	if (s->server->x509)
		return subject_is_listed(s);
	user = gnutls_psk_server_get_username(s->session);
	snprintf(s->who, sizeof(s->who), "%s", user ? user : "");
	return user && is_listed(s->server, user);
}

const char *nbd_tls_who(const struct nbd_tls_session *s)
{
	return s->who;
}

int nbd_tls_shake(struct nbd_tls_session *s, unsigned *events)
{
	int rc = gnutls_handshake(s->session);

	if (rc == 0 && is_allowed(s))
		return 0;
	if (rc == 0) {
		(void)gnutls_alert_send(s->session, GNUTLS_AL_FATAL, GNUTLS_A_ACCESS_DENIED);
		return -EACCES;
	}
	if (gnutls_error_is_fatal(rc))
		return -EPROTO;
	*events = gnutls_record_get_direction(s->session) ? LOOP_WRITE : LOOP_READ;
	return -EAGAIN;
}

static ssize_t result(ssize_t rc)
{
	if (rc >= 0)
		return rc;
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
		return -EAGAIN;
	if (rc == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	return -EPROTO;
}

ssize_t nbd_tls_recv(struct nbd_tls_session *s, struct iovec *iov, int count)
{
	ssize_t total = 0;

	for (int i = 0; i < count; i++) {
		for (size_t at = 0; at < iov[i].iov_len;) {
			ssize_t n = result(gnutls_record_recv(s->session,
							      (uint8_t *)iov[i].iov_base + at,
							      iov[i].iov_len - at));

			if (n <= 0) {
				s->over = n != -EAGAIN;
				return total ? total : n;
			}
			at += (size_t)n;
			total += n;
		}
	}
	return total;
}

/* The record that begins @skip bytes into @iov: in place, or gathered in the stage; its bytes. */
static size_t gather(struct nbd_tls_session *s, const struct iovec *iov, int count, size_t skip,
		     const void **out)
{
	size_t n = 0;

	while (count && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		count--;
	}
	if (!count)
		return 0;
	if (count == 1 || iov->iov_len - skip >= RECORD) {
		*out = (const uint8_t *)iov->iov_base + skip;
		return iov->iov_len - skip < RECORD ? iov->iov_len - skip : RECORD;
	}
	for (; count && n < RECORD; iov++, count--) {
		size_t part = iov->iov_len - skip < RECORD - n ? iov->iov_len - skip : RECORD - n;

		memcpy(s->stage + n, (const uint8_t *)iov->iov_base + skip, part);
		n += part;
		skip = 0;
	}
	*out = s->stage;
	return n;
}

ssize_t nbd_tls_send(struct nbd_tls_session *s, struct iovec *iov, int count)
{
	ssize_t total = 0;

	for (;;) {
		const void *data = NULL;
		size_t bytes = s->pending ? 0 : gather(s, iov, count, (size_t)total, &data);
		ssize_t n;

		if (!s->pending && !bytes)
			return total;
		/* nothing given: the record that waits */
		n = result(gnutls_record_send(s->session, data, bytes));
		if (n == -EAGAIN && !s->pending)
			s->pending = bytes;
		if (n <= 0)
			return total ? total : n;
		s->pending = 0;
		total += n;
	}
}

bool nbd_tls_pending(struct nbd_tls_session *s)
{
	return s->over || gnutls_record_check_pending(s->session) > 0;
}

void nbd_tls_session_close(struct nbd_tls_session *s)
{
	(void)gnutls_bye(s->session, GNUTLS_SHUT_WR);
	gnutls_deinit(s->session);
	free(s);
}
