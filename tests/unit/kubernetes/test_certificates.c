#include <criterion/criterion.h>
#include <gnutls/x509.h>
#include <string.h>

#include "kubernetes/agents.h"
#include "kubernetes/certificates.h"

static gnutls_x509_crt_t read_one(const char *pem)
{
	const gnutls_datum_t text = {(unsigned char *)pem, (unsigned)strlen(pem)};
	gnutls_x509_crt_t c;

	gnutls_x509_crt_init(&c);
	cr_assert_eq(gnutls_x509_crt_import(c, &text, GNUTLS_X509_FMT_PEM), 0, "%s", pem);
	return c;
}

/* As a peer does it: by the CA file, for a purpose, and, of a server, for a name. */
static unsigned verify(const char *ca, const char *cert, const char *purpose, const char *name)
{
	gnutls_typed_vdata_st data[2] = {
		{GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)purpose, 0},
		{GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)name, 0},
	};
	const gnutls_datum_t text = {(unsigned char *)ca, (unsigned)strlen(ca)};
	gnutls_x509_trust_list_t list;
	gnutls_x509_crt_t c = read_one(cert);
	unsigned status = 0;

	gnutls_x509_trust_list_init(&list, 0);
	cr_assert_gt(gnutls_x509_trust_list_add_trust_mem(list, &text, NULL, GNUTLS_X509_FMT_PEM, 0, 0), 0);
	cr_assert_eq(gnutls_x509_trust_list_verify_crt2(list, &c, 1, data, name ? 2 : 1, 0, &status, NULL), 0);
	gnutls_x509_trust_list_deinit(list, 1);
	gnutls_x509_crt_deinit(c);
	return status;
}

static bool has_common_name(const char *cert, const char *name)
{
	gnutls_x509_crt_t c = read_one(cert);
	char found[64] = "";
	size_t n = sizeof(found);

	cr_assert_eq(gnutls_x509_crt_get_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, 0, found, &n), 0);
	gnutls_x509_crt_deinit(c);
	return strcmp(found, name) == 0;
}

Test(certificates, each_for_its_purpose)
{
	struct certificates c = {0}, other = {0};
	time_t until = 0;

	cr_assert_eq(certificates_make(30, &c, NULL), 0);
	cr_assert_eq(certificates_make(30, &other, NULL), 0);
	cr_assert_eq(verify(c.ca, c.agent_cert, GNUTLS_KP_TLS_WWW_SERVER, AGENT_SERVER_NAME), 0);
	cr_assert_eq(verify(c.ca, c.client_cert, GNUTLS_KP_TLS_WWW_CLIENT, NULL), 0);
	cr_assert_eq(verify(c.ca, c.metrics_cert, GNUTLS_KP_TLS_WWW_CLIENT, NULL), 0);
	cr_assert_neq(verify(c.ca, c.metrics_cert, GNUTLS_KP_TLS_WWW_SERVER, NULL), 0);
	cr_assert(has_common_name(c.client_cert, CLIENT_NAME));
	cr_assert(has_common_name(c.metrics_cert, METRICS_NAME));
	cr_assert_neq(verify(c.ca, c.agent_cert, GNUTLS_KP_TLS_WWW_SERVER, "other"), 0);
	cr_assert_neq(verify(c.ca, c.agent_cert, GNUTLS_KP_TLS_WWW_CLIENT, NULL), 0);
	cr_assert_neq(verify(c.ca, c.client_cert, GNUTLS_KP_TLS_WWW_SERVER, NULL), 0);
	cr_assert_neq(verify(other.ca, c.agent_cert, GNUTLS_KP_TLS_WWW_SERVER, AGENT_SERVER_NAME), 0);
	cr_assert_eq(certificate_expiry(c.agent_cert, &until, NULL), 0);
	cr_assert(until > time(NULL) + 29 * 86400 && until <= time(NULL) + 30 * 86400);
	cr_assert(strstr(c.agent_key, "BEGIN PRIVATE KEY"));
	certificates_done(&c);
	certificates_done(&other);
}

/* While certificates change, who holds both CAs trusts the old ones and the new ones. */
Test(certificates, bundle)
{
	struct certificates old = {0}, new = {0}, newer = {0};
	_cleanup_free_ char *both = NULL, *next = NULL, *alone = NULL, *garbage = NULL;

	cr_assert_eq(certificates_make(1, &old, NULL), 0);
	cr_assert_eq(certificates_make(1, &new, NULL), 0);
	cr_assert_eq(certificates_make(1, &newer, NULL), 0);
	both = certificates_bundle(new.ca, old.ca);
	cr_assert_eq(verify(both, old.client_cert, GNUTLS_KP_TLS_WWW_CLIENT, NULL), 0);
	cr_assert_eq(verify(both, new.client_cert, GNUTLS_KP_TLS_WWW_CLIENT, NULL), 0);
	/* It does not grow: the one before the last goes. */
	next = certificates_bundle(newer.ca, both);
	cr_assert_eq(verify(next, new.client_cert, GNUTLS_KP_TLS_WWW_CLIENT, NULL), 0);
	cr_assert_neq(verify(next, old.client_cert, GNUTLS_KP_TLS_WWW_CLIENT, NULL), 0);
	alone = certificates_bundle(new.ca, NULL);
	cr_assert_str_eq(alone, new.ca);
	garbage = certificates_bundle(new.ca, "no certificate");
	cr_assert_str_eq(garbage, new.ca);
	certificates_done(&old);
	certificates_done(&new);
	certificates_done(&newer);
}

Test(certificates, garbage)
{
	_cleanup_err_ struct err *err = NULL;
	time_t until = 0;

	cr_assert_eq(certificate_expiry("no certificate", &until, &err), -EINVAL);
}
