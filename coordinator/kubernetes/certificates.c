#include "kubernetes/certificates.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "kubernetes/agents.h"

#define DAY_S (24 * 3600)
/* Clocks of nodes differ. */
#define BEFORE_S 3600

static void crt_deinitp(gnutls_x509_crt_t *c)
{
	if (*c)
		gnutls_x509_crt_deinit(*c);
}

static void key_deinitp(gnutls_x509_privkey_t *k)
{
	if (*k)
		gnutls_x509_privkey_deinit(*k);
}

static void wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

void certificates_done(struct certificates *c)
{
	free(c->ca);
	free(c->agent_cert);
	free(c->client_cert);
	free(c->metrics_cert);
	wipe(c->agent_key);
	wipe(c->client_key);
	wipe(c->metrics_key);
	*c = (struct certificates){0};
}

static int failed(int code, const char *what, struct err **err)
{
	return err_set(err, -EIO, "%s: %s", what, gnutls_strerror(code));
}

static int key_new(gnutls_x509_privkey_t *ret, struct err **err)
{
	int k = gnutls_x509_privkey_init(ret);

	if (k >= 0)
		k = gnutls_x509_privkey_generate(*ret, GNUTLS_PK_ECDSA,
			GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	return k < 0 ? failed(k, "make a key", err) : 0;
}

/* What all certificates have; name: the CN. */
static int fill(gnutls_x509_crt_t c, gnutls_x509_privkey_t key, const char *name, unsigned days)
{
	unsigned char serial[16], id[20];
	size_t n = sizeof(id);
	time_t now = time(NULL);
	int k = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));

	/* A positive number, and no leading zero. */
	serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40);
#define STEP(call) k = k < 0 ? k : (call)
	STEP(gnutls_x509_crt_set_version(c, 3));
	STEP(gnutls_x509_crt_set_serial(c, serial, sizeof(serial)));
	STEP(gnutls_x509_crt_set_activation_time(c, now - BEFORE_S));
	STEP(gnutls_x509_crt_set_expiration_time(c, now + (time_t)days * DAY_S));
	STEP(gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, "pgjolt", 6));
	STEP(gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, name,
		(unsigned)strlen(name)));
	STEP(gnutls_x509_crt_set_key(c, key));
	STEP(gnutls_x509_crt_get_key_id(c, 0, id, &n));
	STEP(gnutls_x509_crt_set_subject_key_id(c, id, n));
	return k;
}

static int sign(gnutls_x509_crt_t c, gnutls_x509_crt_t ca, gnutls_x509_privkey_t ca_key)
{
	unsigned char id[64];
	size_t n = sizeof(id);
	int k = gnutls_x509_crt_get_subject_key_id(ca, id, &n, NULL);

	STEP(gnutls_x509_crt_set_authority_key_id(c, id, n));
	STEP(gnutls_x509_crt_sign2(c, ca, ca_key, GNUTLS_DIG_SHA256, 0));
	return k;
}

static int export(gnutls_x509_crt_t c, gnutls_x509_privkey_t key, char **ret_cert, char **ret_key)
{
	gnutls_datum_t cert = {0}, text = {0};
	int k = gnutls_x509_crt_export2(c, GNUTLS_X509_FMT_PEM, &cert);

	if (ret_key)
		STEP(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL,
			GNUTLS_PKCS_PLAIN, &text));
	if (k >= 0) {
		*ret_cert = strndup((const char *)cert.data, cert.size);
		if (ret_key)
			*ret_key = strndup((const char *)text.data, text.size);
	}
	if (text.data)
		explicit_bzero(text.data, text.size);
	gnutls_free(cert.data);
	gnutls_free(text.data);
	return k;
}

struct authority {
	gnutls_x509_crt_t cert;
	gnutls_x509_privkey_t key;
	unsigned days;
};

static int authority_make(struct authority *a, char **ret_pem, struct err **err)
{
	int k = key_new(&a->key, err);

	if (k < 0)
		return k;
	k = gnutls_x509_crt_init(&a->cert);
	STEP(fill(a->cert, a->key, "pgjolt CA", a->days));
	STEP(gnutls_x509_crt_set_basic_constraints(a->cert, 1, 0));
	STEP(gnutls_x509_crt_set_key_usage(a->cert, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
	STEP(sign(a->cert, a->cert, a->key));
	STEP(export(a->cert, NULL, ret_pem, NULL));
	return k < 0 ? failed(k, "make the CA", err) : 0;
}

static int leaf_make(struct authority *a, const char *name, bool server, char **ret_cert,
	char **ret_key, struct err **err)
{
	_cleanup_(crt_deinitp) gnutls_x509_crt_t c = NULL;
	_cleanup_(key_deinitp) gnutls_x509_privkey_t key = NULL;
	int k = key_new(&key, err);

	if (k < 0)
		return k;
	k = gnutls_x509_crt_init(&c);
	STEP(fill(c, key, name, a->days));
	STEP(gnutls_x509_crt_set_basic_constraints(c, 0, -1));
	STEP(gnutls_x509_crt_set_key_usage(c, GNUTLS_KEY_DIGITAL_SIGNATURE));
	STEP(gnutls_x509_crt_set_key_purpose_oid(c,
		server ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT, 0));
	if (server)
		STEP(gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_DNSNAME, name,
			(unsigned)strlen(name), GNUTLS_FSAN_SET));
	STEP(sign(c, a->cert, a->key));
	STEP(export(c, key, ret_cert, ret_key));
	return k < 0 ? failed(k, name, err) : 0;
}
#undef STEP

int certificates_make(unsigned days, struct certificates *ret, struct err **err)
{
	struct certificates c = {0};
	struct authority a = {.days = days};
	int r = authority_make(&a, &c.ca, err);

	if (r >= 0)
		r = leaf_make(&a, AGENT_SERVER_NAME, true, &c.agent_cert, &c.agent_key, err);
	if (r >= 0)
		r = leaf_make(&a, CLIENT_NAME, false, &c.client_cert, &c.client_key, err);
	if (r >= 0)
		r = leaf_make(&a, METRICS_NAME, false, &c.metrics_cert, &c.metrics_key, err);
	crt_deinitp(&a.cert);
	key_deinitp(&a.key);
	if (r < 0) {
		certificates_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

static int first_certificate(const char *pem, gnutls_x509_crt_t *ret, struct err **err)
{
	_cleanup_(crt_deinitp) gnutls_x509_crt_t c = NULL;
	const gnutls_datum_t text = {(unsigned char *)pem, (unsigned)strlen(pem)};
	int k = gnutls_x509_crt_init(&c);

	if (k >= 0)
		k = gnutls_x509_crt_import(c, &text, GNUTLS_X509_FMT_PEM);
	if (k < 0)
		return err_set(err, -EINVAL, "no certificate: %s", gnutls_strerror(k));
	*ret = steal_ptr(c);
	return 0;
}

int certificate_expiry(const char *pem, time_t *ret, struct err **err)
{
	_cleanup_(crt_deinitp) gnutls_x509_crt_t c = NULL;
	int r = first_certificate(pem, &c, err);

	if (r < 0)
		return r;
	*ret = gnutls_x509_crt_get_expiration_time(c);
	return 0;
}

char *certificates_bundle(const char *new, const char *old)
{
	_cleanup_(crt_deinitp) gnutls_x509_crt_t c = NULL;
	_cleanup_free_ char *first = NULL;
	char *out = NULL;

	if (old && first_certificate(old, &c, NULL) >= 0 &&
		gnutls_x509_crt_get_expiration_time(c) > time(NULL))
		export(c, NULL, &first, NULL);
	if (asprintf(&out, "%s%s", new, first ? first : "") < 0)
		abort();
	return out;
}
