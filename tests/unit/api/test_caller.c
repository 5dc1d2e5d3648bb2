/* Who may call by which name of his certificate: sessions over a pair of sockets, with certificates made here. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/caller.h"

#define OK(call) cr_assert_geq((call), 0, "%s", #call)

struct identity {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
};

static struct identity ca;

/* names: the CN ("": none), then DNS names; NULL-terminated. */
static struct identity issue(const char *const *names, const char *purpose)
{
	struct identity id;
	unsigned char serial = 7;

	OK(gnutls_x509_privkey_init(&id.key));
	OK(gnutls_x509_privkey_generate(id.key, GNUTLS_PK_ECDSA,
		GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
	OK(gnutls_x509_crt_init(&id.crt));
	OK(gnutls_x509_crt_set_version(id.crt, 3));
	OK(gnutls_x509_crt_set_serial(id.crt, &serial, 1));
	OK(gnutls_x509_crt_set_activation_time(id.crt, time(NULL) - 60));
	OK(gnutls_x509_crt_set_expiration_time(id.crt, time(NULL) + 3600));
	OK(gnutls_x509_crt_set_key(id.crt, id.key));
	OK(gnutls_x509_crt_set_dn_by_oid(id.crt, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, "o", 1));
	if (*names[0])
		OK(gnutls_x509_crt_set_dn_by_oid(id.crt, GNUTLS_OID_X520_COMMON_NAME, 0, names[0],
			(unsigned)strlen(names[0])));
	for (const char *const *name = names + 1; *name; name++)
		OK(gnutls_x509_crt_set_subject_alt_name(id.crt, GNUTLS_SAN_DNSNAME, *name,
			(unsigned)strlen(*name), GNUTLS_FSAN_APPEND));
	if (purpose)
		OK(gnutls_x509_crt_set_key_purpose_oid(id.crt, purpose, 0));
	else
		OK(gnutls_x509_crt_set_basic_constraints(id.crt, 1, 0));
	OK(gnutls_x509_crt_sign2(id.crt, purpose ? ca.crt : id.crt, purpose ? ca.key : id.key,
		GNUTLS_DIG_SHA256, 0));
	return id;
}

static void identity_done(struct identity *id)
{
	gnutls_x509_crt_deinit(id->crt);
	gnutls_x509_privkey_deinit(id->key);
}

static gnutls_session_t session_new(unsigned end, gnutls_certificate_credentials_t credentials, int fd)
{
	gnutls_session_t s;

	OK(gnutls_init(&s, end | GNUTLS_NONBLOCK));
	OK(gnutls_set_default_priority(s));
	OK(gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, credentials));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	gnutls_transport_set_int(s, fd);
	return s;
}

/* What the agent says of a caller who shows a certificate of these names. */
static int call_as(const char *const *shown, const struct caller_names *names, struct caller *ret)
{
	static const char *const agent[] = {"agent", NULL};
	struct identity server = issue(agent, GNUTLS_KP_TLS_WWW_SERVER);
	struct identity client = issue(shown, GNUTLS_KP_TLS_WWW_CLIENT);
	gnutls_certificate_credentials_t here, there;
	_cleanup_err_ struct err *err = NULL;
	gnutls_session_t a, b;
	int fds[2], r, x = GNUTLS_E_AGAIN, y = GNUTLS_E_AGAIN;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	OK(gnutls_certificate_allocate_credentials(&here));
	OK(gnutls_certificate_set_x509_key(here, &server.crt, 1, server.key));
	OK(gnutls_certificate_set_x509_trust(here, &ca.crt, 1));
	OK(gnutls_certificate_allocate_credentials(&there));
	OK(gnutls_certificate_set_x509_key(there, &client.crt, 1, client.key));
	a = session_new(GNUTLS_SERVER, here, fds[0]);
	gnutls_certificate_server_set_request(a, GNUTLS_CERT_REQUEST);
	b = session_new(GNUTLS_CLIENT, there, fds[1]);
	while (x != 0 || y != 0) {
		y = y ? gnutls_handshake(b) : 0;
		x = x ? gnutls_handshake(a) : 0;
		cr_assert(!gnutls_error_is_fatal(x) && !gnutls_error_is_fatal(y), "%d, %d", x, y);
	}
	*ret = (struct caller){0};
	r = caller_from_session(a, names, ret, &err);
	gnutls_deinit(a);
	gnutls_deinit(b);
	gnutls_certificate_free_credentials(here);
	gnutls_certificate_free_credentials(there);
	identity_done(&server);
	identity_done(&client);
	close(fds[0]);
	close(fds[1]);
	return r;
}

static void make_ca(void)
{
	static const char *const names[] = {"ca", NULL};

	ca = issue(names, NULL);
}

static void drop_ca(void)
{
	identity_done(&ca);
}

TestSuite(caller, .init = make_ca, .fini = drop_ca);

Test(caller, by_name)
{
	static char *const allowed[] = {(char *)"pgjolt", NULL}, *const metrics[] = {(char *)"scraper", NULL};
	const struct caller_names both = {allowed, metrics}, any = {NULL, metrics}, none = {NULL, NULL};
	static const struct {
		const char *shown[3];
		bool may, only, may_any, only_any;
	} cases[] = {
		{{"pgjolt", NULL}, true, false, true, false},
		{{"scraper", NULL}, true, true, true, true},
		{{"", "scraper", NULL}, true, true, true, true},
		{{"other", "scraper", NULL}, true, true, true, true},
		{{"other", NULL}, false, false, true, false},
		{{"", NULL}, false, false, true, false},
		{{"scraper2", NULL}, false, false, true, false},
		/* A name that is allowed opens all, beside one that is not enough for that. */
		{{"scraper", "pgjolt", NULL}, true, false, true, true},
		{{"pgjolt", "scraper", NULL}, true, false, true, true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct caller c;
		int r = call_as(cases[i].shown, &both, &c);

		cr_assert_eq(r, cases[i].may ? 0 : -EPERM, "%zu: %d", i, r);
		cr_assert_eq(c.status, cases[i].may ? 0 : 403, "%zu", i);
		cr_assert_eq(c.metrics_only, cases[i].only, "%zu", i);
		cr_assert_eq(call_as(cases[i].shown, &any, &c), cases[i].may_any ? 0 : -EPERM, "%zu", i);
		cr_assert_eq(c.metrics_only, cases[i].only_any, "%zu", i);
		cr_assert_eq(call_as(cases[i].shown, &none, &c), 0, "%zu", i);
		cr_assert(!c.metrics_only, "%zu", i);
	}
}

Test(caller, first_name_names_him)
{
	static const char *const cn[] = {"scraper", "other", NULL}, *const dns[] = {"", "first", NULL};
	const struct caller_names none = {NULL, NULL};
	struct caller c;

	cr_assert_eq(call_as(cn, &none, &c), 0);
	cr_assert_str_eq(c.name, "certificate scraper");
	cr_assert_eq(call_as(dns, &none, &c), 0);
	cr_assert_str_eq(c.name, "certificate first");
}
