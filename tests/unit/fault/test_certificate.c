#include <criterion/criterion.h>
#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "fault/certificate.h"
#include "fault/der.h"

#define NOW now_s

static time_t now_s;
static gnutls_x509_privkey_t ca_key, key;
static gnutls_x509_crt_t ca, leaf;
static char *ca_pem, *leaf_pem, *ca_key_pem, *key_pem;

static char *text_of(gnutls_datum_t *d)
{
	char *text = strndup((char *)d->data, d->size);

	gnutls_free(d->data);
	return text;
}

static gnutls_x509_crt_t make(const char *name, gnutls_x509_privkey_t own, gnutls_x509_crt_t issuer)
{
	gnutls_x509_crt_t crt;

	gnutls_x509_crt_init(&crt);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, "\x12\x34", 2);
	gnutls_x509_crt_set_dn(crt, name, NULL);
	gnutls_x509_crt_set_activation_time(crt, NOW - 1000);
	gnutls_x509_crt_set_expiration_time(crt, NOW + 9000);
	gnutls_x509_crt_set_key(crt, own);
	gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "pg.test", 7, GNUTLS_FSAN_SET);
	gnutls_x509_crt_set_basic_constraints(crt, issuer ? 0 : 1, -1);
	cr_assert_eq(gnutls_x509_crt_sign2(crt, issuer ? issuer : crt, ca_key, GNUTLS_DIG_SHA256, 0), 0);
	return crt;
}

static char *pem(gnutls_x509_crt_t crt)
{
	gnutls_datum_t d;

	gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &d);
	return text_of(&d);
}

static void begin(void)
{
	gnutls_datum_t d;

	now_s = time(NULL);
	gnutls_x509_privkey_init(&ca_key);
	gnutls_x509_privkey_generate(ca_key, GNUTLS_PK_ECDSA, 256, 0);
	gnutls_x509_privkey_init(&key);
	gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, 2048, 0);
	ca = make("CN=Test CA", ca_key, NULL);
	leaf = make("O=Test,CN=pg.test", key, ca);
	ca_pem = pem(ca);
	leaf_pem = pem(leaf);
	gnutls_x509_privkey_export2(ca_key, GNUTLS_X509_FMT_PEM, &d);
	ca_key_pem = text_of(&d);
	gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &d);
	key_pem = text_of(&d);
}

static void end(void)
{
	gnutls_x509_crt_deinit(ca);
	gnutls_x509_crt_deinit(leaf);
	gnutls_x509_privkey_deinit(ca_key);
	gnutls_x509_privkey_deinit(key);
	free(ca_pem);
	free(leaf_pem);
	free(ca_key_pem);
	free(key_pem);
}

TestSuite(certificate, .init = begin, .fini = end);

static gnutls_x509_crt_t import(const char *text)
{
	gnutls_datum_t d = {(unsigned char *)text, (unsigned)strlen(text)};
	gnutls_x509_crt_t crt;

	gnutls_x509_crt_init(&crt);
	cr_assert_eq(gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_PEM), 0);
	return crt;
}

/* What a verifier that knows the CA, and no time, says. */
static unsigned verdict(gnutls_x509_crt_t crt, const char *host)
{
	gnutls_x509_crt_t issuer = import(ca_pem);
	unsigned status = 0;

	gnutls_x509_crt_verify(crt, &issuer, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status);
	gnutls_x509_crt_deinit(issuer);
	if (host && !gnutls_x509_crt_check_hostname(crt, host))
		status |= GNUTLS_CERT_UNEXPECTED_OWNER;
	return status;
}

static gnutls_x509_crt_t remake(enum certificate_change change, const char *sign, struct certificate_report *r)
{
	struct certificate_order o = {.change = change, .now_s = NOW, .by_s = 60, .ca_key = sign};
	gnutls_x509_crt_t crt;
	char *out;
	size_t n;

	cr_assert_eq(certificate_remake(leaf_pem, strlen(leaf_pem), &o, &out, &n, r, NULL), 0);
	cr_expect_eq(strlen(out), n);
	crt = import(out);
	certificate_text_free(out);
	return crt;
}

static void same_key(gnutls_x509_crt_t crt)
{
	unsigned char a[64], b[64], serial[8];
	size_t n = sizeof(a), m = sizeof(b), k = sizeof(serial);

	gnutls_x509_crt_get_key_id(leaf, 0, a, &n);
	gnutls_x509_crt_get_key_id(crt, 0, b, &m);
	cr_expect_eq(n, m);
	cr_expect_arr_eq(a, b, n);
	gnutls_x509_crt_get_serial(crt, serial, &k);
	cr_expect_eq(k, 2);
	cr_expect_arr_eq(serial, "\x12\x34", 2);
}

Test(certificate, the_world_is_right)
{
	gnutls_x509_crt_t crt = import(leaf_pem);

	cr_expect_eq(verdict(crt, "pg.test"), 0);
	gnutls_x509_crt_deinit(crt);
}

Test(certificate, dates_alone)
{
	struct certificate_report r = {0};
	gnutls_x509_crt_t crt = remake(CERTIFICATE_EXPIRED, ca_key_pem, &r);

	cr_expect_eq(gnutls_x509_crt_get_expiration_time(crt), NOW - 60);
	cr_expect_eq(gnutls_x509_crt_get_activation_time(crt), NOW - 60 - 10000, "as long as before");
	cr_expect_eq(verdict(crt, "pg.test"), 0);
	same_key(crt);
	cr_expect_eq(r.count, 1);
	cr_expect_str_eq(r.subject, "O=Test,CN=pg.test");
	cr_expect_str_eq(r.issuer, "CN=Test CA");
	cr_expect_eq(r.not_after_s, NOW - 60);
	certificate_report_done(&r);
	gnutls_x509_crt_deinit(crt);

	crt = remake(CERTIFICATE_NOT_YET_VALID, ca_key_pem, &r);
	cr_expect_eq(gnutls_x509_crt_get_activation_time(crt), NOW + 60);
	cr_expect_eq(verdict(crt, "pg.test"), 0);
	certificate_report_done(&r);
	gnutls_x509_crt_deinit(crt);
}

Test(certificate, another_name)
{
	struct certificate_report r = {0};
	gnutls_x509_crt_t crt = remake(CERTIFICATE_WRONG_HOST, ca_key_pem, &r);

	cr_expect_eq(verdict(crt, CERTIFICATE_WRONG_NAME), 0);
	cr_expect_eq(verdict(crt, "pg.test"), GNUTLS_CERT_UNEXPECTED_OWNER);
	cr_expect_eq(gnutls_x509_crt_get_expiration_time(crt), NOW + 9000);
	same_key(crt);
	certificate_report_done(&r);
	gnutls_x509_crt_deinit(crt);
}

Test(certificate, another_issuer)
{
	struct certificate_report r = {0};
	gnutls_x509_crt_t crt = remake(CERTIFICATE_UNTRUSTED, NULL, &r);

	cr_expect(verdict(crt, "pg.test") & GNUTLS_CERT_SIGNER_NOT_FOUND);
	cr_expect_str_eq(r.issuer, "CN=" CERTIFICATE_UNKNOWN_CA);
	same_key(crt);
	certificate_report_done(&r);
	gnutls_x509_crt_deinit(crt);
}

Test(certificate, without_the_key_the_signature_does_not_fit)
{
	struct certificate_report r = {0};
	gnutls_x509_crt_t crt = remake(CERTIFICATE_EXPIRED, NULL, &r);

	cr_expect(verdict(crt, NULL) & GNUTLS_CERT_INVALID);
	cr_expect_eq(gnutls_x509_crt_get_expiration_time(crt), NOW - 60);
	certificate_report_done(&r);
	gnutls_x509_crt_deinit(crt);
}

Test(certificate, a_root_that_nobody_knows_is_whole)
{
	struct certificate_order o = {.change = CERTIFICATE_UNTRUSTED, .every = true, .now_s = NOW};
	struct certificate_report r = {0};
	gnutls_x509_crt_t crt;
	unsigned status = 1;
	char *out;
	size_t n;

	cr_assert_eq(certificate_remake(ca_pem, strlen(ca_pem), &o, &out, &n, &r, NULL), 0);
	crt = import(out);
	cr_expect(gnutls_x509_crt_check_issuer(crt, crt));
	cr_expect_eq(gnutls_x509_crt_verify(crt, &crt, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status), 0);
	cr_expect_eq(status, 0, "signed by itself");
	certificate_report_done(&r);
	certificate_text_free(out);
	gnutls_x509_crt_deinit(crt);
}

/* A chain and a key in the same file stay as they are; of a CA's file every certificate is changed. */
Test(certificate, what_else_is_in_the_file)
{
	struct certificate_order o = {.change = CERTIFICATE_EXPIRED, .now_s = NOW, .by_s = 1};
	struct certificate_report r = {0};
	char *text, *out;
	size_t n;

	cr_assert_gt(asprintf(&text, "# mine\n%s%s%s# end", leaf_pem, ca_pem, key_pem), 0);
	cr_assert_eq(certificate_remake(text, strlen(text), &o, &out, &n, &r, NULL), 0);
	cr_expect_eq(r.count, 1);
	cr_expect_eq(strncmp(out, "# mine\n-----BEGIN", 17), 0);
	cr_expect_null(strstr(out, leaf_pem));
	cr_expect_not_null(strstr(out, ca_pem));
	cr_expect_not_null(strstr(out, key_pem));
	cr_expect_str_eq(out + n - 5, "# end");
	certificate_report_done(&r);
	certificate_text_free(out);
	o.every = true;
	cr_assert_eq(certificate_remake(text, strlen(text), &o, &out, &n, &r, NULL), 0);
	cr_expect_eq(r.count, 2);
	cr_expect_null(strstr(out, ca_pem));
	certificate_report_done(&r);
	certificate_text_free(out);
	free(text);
}

Test(certificate, what_is_none)
{
	static const char *const texts[] = {"", "x", "-----BEGIN CERTIFICATE-----",
		"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
		"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"};
	struct certificate_order o = {.change = CERTIFICATE_EXPIRED, .now_s = NOW};
	struct certificate_report r = {0};
	char *out = NULL;
	size_t n;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		cr_expect_eq(certificate_remake(texts[i], strlen(texts[i]), &o, &out, &n, &r, NULL), -EINVAL);
	o.ca_key = key_pem;
	cr_expect_eq(certificate_remake(leaf_pem, strlen(leaf_pem), &o, &out, &n, &r, NULL), -EINVAL,
		"not the CA's key");
	o.ca_key = leaf_pem;
	cr_expect_eq(certificate_remake(leaf_pem, strlen(leaf_pem), &o, &out, &n, &r, NULL), -EINVAL, "no key");
	cr_expect_null(out);
}

Test(der, reads_and_writes_the_same)
{
	struct der_text t = {0};
	const uint8_t *at;
	uint8_t big[70000] = {7};
	struct der d;

	der_add_element(&t, DER_OCTETS, big, sizeof(big));
	der_add_element(&t, DER_UTF8, "x", 1);
	der_wrap(&t, 0, DER_SEQUENCE);
	at = t.bytes;
	cr_assert_eq(der_expect(&at, t.bytes + t.length, DER_SEQUENCE, &d, NULL), 0);
	cr_expect_eq(d.size, t.length);
	at = d.value;
	cr_assert_eq(der_expect(&at, d.value + d.length, DER_OCTETS, &d, NULL), 0);
	cr_expect(der_equal(&d, big, sizeof(big)));
	cr_expect_eq(der_expect(&at, t.bytes + t.length, DER_SET, &d, NULL), -EINVAL);
	cr_assert_eq(der_next(&at, t.bytes + t.length, &d, NULL), 0);
	cr_expect_eq(d.tag, DER_UTF8);
	cr_expect_eq(der_next(&at, t.bytes + t.length, &d, NULL), -EINVAL, "nothing is left");
	der_text_done(&t);
}

Test(der, bad_lengths)
{
	static const uint8_t bad[][6] = {{0x30}, {0x30, 5, 0}, {0x30, 0x80}, {0x30, 0x85, 0, 0, 0, 0},
		{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, {0x3f, 1, 0}};
	static const size_t lengths[] = {1, 3, 2, 6, 6, 3};
	struct der d;

	for (size_t i = 0; i < 6; i++) {
		const uint8_t *at = bad[i];

		cr_expect_eq(der_next(&at, bad[i] + lengths[i], &d, NULL), -EINVAL, "%zu", i);
	}
}
