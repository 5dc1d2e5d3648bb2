#include "api/caller.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "core/json.h"

#define NAME_MAX_BYTES 256
#define SAN_MAX 64

int caller_from_socket(int fd, struct caller *ret, struct err **err)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	snprintf(ret->name, sizeof(ret->name), "unknown process");
	ret->status = 403;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return err_errno(err, -EPERM, "who calls cannot be known");
	snprintf(ret->name, sizeof(ret->name), "uid %u, pid %d", (unsigned)peer.uid,
		(int)peer.pid);
	if (peer.uid != 0 && peer.uid != geteuid())
		return err_set(err, -EPERM, "uid %u may not call this agent: root alone may",
			(unsigned)peer.uid);
	ret->status = 0;
	ret->pid = peer.pid;
	return 0;
}

/* A name from a certificate is the caller's own text. */
static void name_set(struct caller *c, const char *name)
{
	snprintf(c->name, sizeof(c->name), "certificate %.147s", name);
	for (char *p = c->name; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

struct name_match {
	const struct caller_names *names;
	bool named, allowed, metrics;
};

static void name_check(struct name_match *m, const char *name, struct caller *c)
{
	if (!m->named)
		name_set(c, name);
	m->named = true;
	m->allowed = m->allowed || strv_contains(m->names->allowed, name);
	m->metrics = m->metrics || strv_contains(m->names->metrics, name);
}

/* Common name, then the alternative ones (DNS, URI, e-mail): the first names the caller, any of
 * them may be one that may call. */
static bool names_match(gnutls_x509_crt_t crt, const struct caller_names *names, struct caller *c)
{
	struct name_match m = {.names = names};
	char name[NAME_MAX_BYTES];
	size_t n = sizeof(name);

	if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &n) == 0 &&
		strlen(name) == n && n > 0)
		name_check(&m, name, c);
	for (unsigned i = 0; i < SAN_MAX; i++) {
		int type;

		n = sizeof(name) - 1;
		type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &n, NULL);
		if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		if (type != GNUTLS_SAN_DNSNAME && type != GNUTLS_SAN_URI &&
			type != GNUTLS_SAN_RFC822NAME)
			continue;
		name[n] = '\0';
		/* A NUL within would make two names of one. */
		if (strlen(name) != n || n == 0)
			continue;
		name_check(&m, name, c);
	}
	c->metrics_only = m.metrics && !m.allowed;
	return m.allowed || m.metrics || !names->allowed;
}

static int verify(gnutls_session_t session, struct err **err)
{
	gnutls_typed_vdata_st purpose = {GNUTLS_DT_KEY_PURPOSE_OID,
		(unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT, 0};
	gnutls_datum_t text = {0};
	unsigned status = 0;
	int r;

	r = gnutls_certificate_verify_peers(session, &purpose, 1, &status);
	if (r < 0)
		return err_set(err, -EPERM, "the client's certificate cannot be verified: %s",
			gnutls_strerror(r));
	if (status == 0)
		return 0;
	r = gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
	err_set(err, -EPERM, "the client's certificate is refused: %s",
		r == 0 ? (const char *)text.data : "not valid");
	gnutls_free(text.data);
	return -EPERM;
}

int caller_from_session(gnutls_session_t session, const struct caller_names *names,
	struct caller *ret, struct err **err)
{
	const gnutls_datum_t *chain;
	gnutls_x509_crt_t crt;
	unsigned count = 0;
	bool match = false;
	int r;

	snprintf(ret->name, sizeof(ret->name), "no certificate");
	ret->status = 401;
	chain = gnutls_certificate_get_peers(session, &count);
	if (!chain || count == 0)
		return err_set(err, -EACCES, "a client certificate is needed");
	ret->status = 403;
	snprintf(ret->name, sizeof(ret->name), "certificate without a name");
	if (gnutls_x509_crt_init(&crt) < 0)
		return err_errno(err, -ENOMEM, "client certificate");
	r = gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER);
	if (r == 0)
		match = names_match(crt, names, ret);
	gnutls_x509_crt_deinit(crt);
	if (r < 0)
		return err_set(err, -EPERM, "the client's certificate cannot be read: %s",
			gnutls_strerror(r));
	r = verify(session, err);
	if (r < 0)
		return r;
	if (!match)
		return err_set(err, -EPERM, "%s is not among the names that may call this agent",
			ret->name);
	ret->status = 0;
	return 0;
}
