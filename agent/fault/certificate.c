#include "fault/certificate.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/cleanup.h"
#include "fault/der.h"

#define BEGIN		  "-----BEGIN CERTIFICATE-----"
#define END		  "-----END CERTIFICATE-----"
#define CERTIFICATES_MAX  512
#define LENGTH_LEAST_S	  3600
#define LENGTH_MOST_S	  (10LL * 365 * 86400)
#define YEAR_OF_LONG_TIME 2050

static const uint8_t OBJECT_CN[] = {0x55, 0x04, 0x03};
static const uint8_t OBJECT_SUBJECT_KEY[] = {0x55, 0x1d, 0x0e};
static const uint8_t OBJECT_SUBJECT_NAME[] = {0x55, 0x1d, 0x11};
static const uint8_t OBJECT_AUTHORITY_KEY[] = {0x55, 0x1d, 0x23};
static const uint8_t OBJECT_ECDSA_SHA256[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};

/* Who signs. */
struct signer {
	gnutls_privkey_t key;			/* NULL: nobody, the old signature stays */
	gnutls_sign_algorithm_t algorithm;	/* unknown: that of the old signature */
	gnutls_datum_t public;			/* SubjectPublicKeyInfo of a CA that was just made */
};

static void signer_done(struct signer *s)
{
	if (s->key)
		gnutls_privkey_deinit(s->key);
	gnutls_free(s->public.data);
	*s = (struct signer){0};
}

/* The fields of TBSCertificate, in their order. */
struct parts {
	struct der whole, signed_part, signature_algorithm, signature;
	struct der version, serial, algorithm, issuer, validity, subject, key, ids, extensions;
};

void certificate_report_done(struct certificate_report *r)
{
	free(r->subject);
	free(r->issuer);
	*r = (struct certificate_report){0};
}

void certificate_text_free(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

static int read_fields(struct parts *p, struct err **err)
{
	const uint8_t *at = p->signed_part.value, *end = at + p->signed_part.length;
	int r = 0;

	if (der_is(at, end, DER_CONTEXT(0)))
		r = der_next(&at, end, &p->version, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_INTEGER, &p->serial, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_SEQUENCE, &p->algorithm, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_SEQUENCE, &p->issuer, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_SEQUENCE, &p->validity, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_SEQUENCE, &p->subject, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_SEQUENCE, &p->key, err);
	/* issuerUniqueID and subjectUniqueID, which nobody has, are left out. */
	while (r >= 0 && at < end && *at != DER_CONTEXT(3))
		r = der_next(&at, end, &p->ids, err);
	if (r < 0 || at == end)
		return r;
	r = der_next(&at, end, &p->extensions, err);
	if (r < 0)
		return r;
	at = p->extensions.value;
	return der_expect(&at, at + p->extensions.length, DER_SEQUENCE, &p->extensions, err);
}

static int read_parts(const gnutls_datum_t *der, struct parts *p, struct err **err)
{
	const uint8_t *at = der->data, *end = at + der->size;
	int r;

	r = der_expect(&at, end, DER_SEQUENCE, &p->whole, err);
	if (r < 0)
		return r;
	at = p->whole.value;
	end = at + p->whole.length;
	r = der_expect(&at, end, DER_SEQUENCE, &p->signed_part, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_SEQUENCE, &p->signature_algorithm, err);
	if (r >= 0)
		r = der_expect(&at, end, DER_BIT_STRING, &p->signature, err);
	if (r >= 0 && p->signature.length < 2)
		r = err_set(err, EINVAL, "the certificate has no signature");
	return r < 0 ? r : read_fields(p, err);
}

static void add_time(struct der_text *t, int64_t seconds)
{
	time_t when = (time_t)seconds;
	char text[32];
	struct tm tm;
	bool is_long;

	gmtime_r(&when, &tm);
	is_long = tm.tm_year + 1900 >= YEAR_OF_LONG_TIME;
	strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &tm);
	if (is_long)
		der_add_element(t, DER_LONG_TIME, text, strlen(text));
	else
		der_add_element(t, DER_UTC_TIME, text + 2, strlen(text) - 2);
}

static void add_name(struct der_text *t, const char *common_name)
{
	size_t start = t->length;

	der_add_element(t, DER_OBJECT, OBJECT_CN, sizeof(OBJECT_CN));
	der_add_element(t, DER_UTF8, common_name, strlen(common_name));
	der_wrap(t, start, DER_SEQUENCE);
	der_wrap(t, start, DER_SET);
	der_wrap(t, start, DER_SEQUENCE);
}

static void add_whole(struct der_text *t, const struct der *d)
{
	der_add(t, d->whole, d->size);
}

static void add_validity(struct der_text *t, const struct parts *p, const struct certificate_order *o,
	gnutls_x509_crt_t crt)
{
	int64_t from = gnutls_x509_crt_get_activation_time(crt);
	int64_t until = gnutls_x509_crt_get_expiration_time(crt);
	int64_t length = until - from, now = (int64_t)o->now_s, by = (int64_t)o->by_s;
	size_t start = t->length;

	if (o->change != CERTIFICATE_EXPIRED && o->change != CERTIFICATE_NOT_YET_VALID) {
		add_whole(t, &p->validity);
		return;
	}
	length = length < LENGTH_LEAST_S ? LENGTH_LEAST_S : length > LENGTH_MOST_S ? LENGTH_MOST_S : length;
	from = o->change == CERTIFICATE_EXPIRED ? now - by - length : now + by;
	add_time(t, from);
	add_time(t, from + length);
	der_wrap(t, start, DER_SEQUENCE);
}

/* subjectAltName of the one wrong name. */
static void add_wrong_names(struct der_text *t)
{
	size_t start = t->length, names;

	der_add_element(t, DER_OBJECT, OBJECT_SUBJECT_NAME, sizeof(OBJECT_SUBJECT_NAME));
	names = t->length;
	der_add_element(t, 0x82, CERTIFICATE_WRONG_NAME, strlen(CERTIFICATE_WRONG_NAME)); /* dNSName */
	der_wrap(t, names, DER_SEQUENCE);
	der_wrap(t, names, DER_OCTETS);
	der_wrap(t, start, DER_SEQUENCE);
}

static bool is_object(const struct der *extension, const uint8_t *object, size_t length)
{
	const uint8_t *at = extension->value, *end = at + extension->length;
	struct der d;

	return der_expect(&at, end, DER_OBJECT, &d, NULL) >= 0 && der_equal(&d, object, length);
}

/* Those that would tell of the change's opposite are left out. */
static int add_extensions(struct der_text *t, const struct parts *p, const struct certificate_order *o,
	struct err **err)
{
	const uint8_t *at = p->extensions.value, *end = at ? at + p->extensions.length : NULL;
	bool stranger = o->change == CERTIFICATE_UNTRUSTED;
	size_t start = t->length;

	while (at < end) {
		struct der d;
		int r = der_expect(&at, end, DER_SEQUENCE, &d, err);

		if (r < 0)
			return r;
		if (stranger && is_object(&d, OBJECT_AUTHORITY_KEY, sizeof(OBJECT_AUTHORITY_KEY)))
			continue;
		if (stranger && o->every && is_object(&d, OBJECT_SUBJECT_KEY, sizeof(OBJECT_SUBJECT_KEY)))
			continue;
		if (o->change == CERTIFICATE_WRONG_HOST &&
		    is_object(&d, OBJECT_SUBJECT_NAME, sizeof(OBJECT_SUBJECT_NAME)))
			continue;
		add_whole(t, &d);
	}
	if (o->change == CERTIFICATE_WRONG_HOST)
		add_wrong_names(t);
	if (t->length == start)
		return 0;
	der_wrap(t, start, DER_SEQUENCE);
	der_wrap(t, start, DER_CONTEXT(3));
	return 0;
}

static void add_algorithm(struct der_text *t, const struct parts *p, const struct signer *s)
{
	size_t start = t->length;

	if (s->algorithm == GNUTLS_SIGN_UNKNOWN) {
		add_whole(t, &p->signature_algorithm);
		return;
	}
	der_add_element(t, DER_OBJECT, OBJECT_ECDSA_SHA256, sizeof(OBJECT_ECDSA_SHA256));
	der_wrap(t, start, DER_SEQUENCE);
}

/* TBSCertificate. */
static int add_signed_part(struct der_text *t, const struct parts *p, const struct certificate_order *o,
	const struct signer *s, gnutls_x509_crt_t crt, struct err **err)
{
	bool stranger = o->change == CERTIFICATE_UNTRUSTED, root = stranger && o->every;
	size_t start = t->length;
	int r = 0;

	if (p->version.whole)
		add_whole(t, &p->version);
	add_whole(t, &p->serial);
	add_algorithm(t, p, s);
	if (stranger)
		add_name(t, CERTIFICATE_UNKNOWN_CA);
	else
		add_whole(t, &p->issuer);
	add_validity(t, p, o, crt);
	if (root)
		add_name(t, CERTIFICATE_UNKNOWN_CA);
	else if (o->change == CERTIFICATE_WRONG_HOST)
		add_name(t, CERTIFICATE_WRONG_NAME);
	else
		add_whole(t, &p->subject);
	if (root)
		der_add(t, s->public.data, s->public.size);
	else
		add_whole(t, &p->key);
	/* Version 1 knows no extensions: names are in the subject alone. */
	if (p->version.whole)
		r = add_extensions(t, p, o, err);
	der_wrap(t, start, DER_SEQUENCE);
	return r;
}

static int add_signature(struct der_text *t, const struct parts *p, const struct signer *s,
	gnutls_x509_crt_t crt, struct err **err)
{
	gnutls_datum_t data = {t->bytes, (unsigned)t->length}, signature = {0};
	gnutls_sign_algorithm_t algorithm = s->algorithm;
	size_t start;
	int r;

	if (!s->key) {
		add_algorithm(t, p, s);
		add_whole(t, &p->signature);
		return 0;
	}
	if (algorithm == GNUTLS_SIGN_UNKNOWN)
		algorithm = (gnutls_sign_algorithm_t)gnutls_x509_crt_get_signature_algorithm(crt);
	r = gnutls_privkey_sign_data2(s->key, algorithm, 0, &data, &signature);
	if (r < 0)
		return err_set(err, EINVAL, "sign a certificate: %s", gnutls_strerror(r));
	add_algorithm(t, p, s);
	start = t->length;
	der_add(t, "", 1);	/* no unused bits */
	der_add(t, signature.data, signature.size);
	der_wrap(t, start, DER_BIT_STRING);
	gnutls_free(signature.data);
	return 0;
}

/* Did this key sign the present one? */
static int check_key(const struct parts *p, const struct signer *s, gnutls_x509_crt_t crt,
	struct err **err)
{
	gnutls_datum_t data = {(unsigned char *)p->signed_part.whole, (unsigned)p->signed_part.size};
	gnutls_datum_t signature = {(unsigned char *)p->signature.value + 1,
		(unsigned)p->signature.length - 1};
	gnutls_pubkey_t public;
	int r;

	if (gnutls_pubkey_init(&public) < 0)
		return err_errno(err, ENOMEM, "look at a key");
	r = gnutls_pubkey_import_privkey(public, s->key, 0, 0);
	if (r >= 0)
		r = gnutls_pubkey_verify_data2(public,
			(gnutls_sign_algorithm_t)gnutls_x509_crt_get_signature_algorithm(crt),
			GNUTLS_VERIFY_ALLOW_BROKEN, &data, &signature);
	gnutls_pubkey_deinit(public);
	return r < 0 ? err_set(err, EINVAL, "ca-key is not the key that signed the present certificate") : 0;
}

static int make_signer(const struct certificate_order *o, struct signer *s, struct err **err)
{
	gnutls_datum_t text = {(unsigned char *)o->ca_key, o->ca_key ? (unsigned)strlen(o->ca_key) : 0};
	gnutls_pubkey_t public;
	int r;

	if (!o->ca_key && o->change != CERTIFICATE_UNTRUSTED)
		return 0;
	if (gnutls_privkey_init(&s->key) < 0)
		return err_errno(err, ENOMEM, "make a key");
	if (o->ca_key) {
		r = gnutls_privkey_import_x509_raw(s->key, &text, GNUTLS_X509_FMT_PEM, NULL, 0);
		return r < 0 ? err_set(err, EINVAL, "ca-key: no private key that can be read: %s",
				       gnutls_strerror(r)) : 0;
	}
	s->algorithm = GNUTLS_SIGN_ECDSA_SHA256;
	r = gnutls_privkey_generate(s->key, GNUTLS_PK_ECDSA,
		(unsigned)GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (r < 0 || gnutls_pubkey_init(&public) < 0)
		return err_set(err, EIO, "make a key: %s", gnutls_strerror(r));
	r = gnutls_pubkey_import_privkey(public, s->key, 0, 0);
	if (r >= 0)
		r = gnutls_pubkey_export2(public, GNUTLS_X509_FMT_DER, &s->public);
	gnutls_pubkey_deinit(public);
	return r < 0 ? err_set(err, EIO, "make a key: %s", gnutls_strerror(r)) : 0;
}

static int change_one(const gnutls_datum_t *der, const struct certificate_order *o, struct der_text *ret,
	struct err **err)
{
	_cleanup_(signer_done) struct signer s = {0};
	struct parts p = {0};
	gnutls_x509_crt_t crt;
	int r;

	if (gnutls_x509_crt_init(&crt) < 0)
		return err_errno(err, ENOMEM, "read a certificate");
	r = gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER);
	if (r < 0)
		r = err_set(err, EINVAL, "a certificate that cannot be read: %s", gnutls_strerror(r));
	if (r >= 0)
		r = read_parts(der, &p, err);
	if (r >= 0)
		r = make_signer(o, &s, err);
	if (r >= 0 && o->ca_key)
		r = check_key(&p, &s, crt, err);
	if (r >= 0)
		r = add_signed_part(ret, &p, o, &s, crt, err);
	if (r >= 0)
		r = add_signature(ret, &p, &s, crt, err);
	if (r >= 0)
		der_wrap(ret, 0, DER_SEQUENCE);
	gnutls_x509_crt_deinit(crt);
	return r;
}

static char *name_of(gnutls_x509_crt_t crt, int (*get)(gnutls_x509_crt_t, gnutls_datum_t *, unsigned))
{
	gnutls_datum_t text = {0};
	char *name;

	if (get(crt, &text, 0) < 0)
		return NULL;
	name = strndup((const char *)text.data, text.size);
	gnutls_free(text.data);
	return name;
}

/* From what was made, so it also is a look at whether that can be read. */
static int report(const struct der_text *made, const struct certificate_order *o,
	struct certificate_report *ret, struct err **err)
{
	gnutls_datum_t der = {made->bytes, (unsigned)made->length};
	gnutls_x509_crt_t crt;
	int r;

	if (gnutls_x509_crt_init(&crt) < 0)
		return err_errno(err, ENOMEM, "read a certificate");
	r = gnutls_x509_crt_import(crt, &der, GNUTLS_X509_FMT_DER);
	if (r < 0) {
		r = err_set(err, EIO, "the certificate that was made cannot be read: %s", gnutls_strerror(r));
	} else if (ret->count++ == 0) {
		ret->subject = name_of(crt, gnutls_x509_crt_get_dn3);
		ret->issuer = name_of(crt, gnutls_x509_crt_get_issuer_dn3);
		ret->not_before_s = gnutls_x509_crt_get_activation_time(crt);
		ret->not_after_s = gnutls_x509_crt_get_expiration_time(crt);
		ret->signature = o->ca_key ? "by its CA" : o->change == CERTIFICATE_UNTRUSTED ?
			"by a CA that nobody knows" : "the old one, which no longer fits";
	}
	gnutls_x509_crt_deinit(crt);
	return r < 0 ? r : 0;
}

/* One block of PEM, its lines included. */
static int write_changed(FILE *f, const char *block, size_t length, const struct certificate_order *o,
	struct certificate_report *ret, struct err **err)
{
	gnutls_datum_t pem = {(unsigned char *)block, (unsigned)length}, der = {0}, out = {0};
	_cleanup_(der_text_done) struct der_text made = {0};
	int r;

	r = gnutls_pem_base64_decode2("CERTIFICATE", &pem, &der);
	if (r < 0)
		return err_set(err, EINVAL, "a certificate that is no PEM: %s", gnutls_strerror(r));
	r = change_one(&der, o, &made, err);
	gnutls_free(der.data);
	if (r >= 0)
		r = report(&made, o, ret, err);
	if (r < 0)
		return r;
	der = (gnutls_datum_t){made.bytes, (unsigned)made.length};
	r = gnutls_pem_base64_encode2("CERTIFICATE", &der, &out);
	if (r < 0)
		return err_set(err, ENOMEM, "write a certificate: %s", gnutls_strerror(r));
	/* Without the last line's end, which follows in the text that is kept. */
	while (out.size > 0 && out.data[out.size - 1] == '\n')
		out.size--;
	fwrite(out.data, 1, out.size, f);
	gnutls_free(out.data);
	return 0;
}

static int write_all(FILE *f, const char *text, const struct certificate_order *o,
	struct certificate_report *ret, struct err **err)
{
	const char *at = text, *begin;

	while ((begin = strstr(at, BEGIN)) && (o->every || ret->count == 0)) {
		const char *end = strstr(begin, END);
		int r;

		if (!end || ret->count == CERTIFICATES_MAX)
			return err_set(err, EINVAL, "a certificate without an end, or too many");
		end += strlen(END);
		fwrite(at, 1, (size_t)(begin - at), f);
		r = write_changed(f, begin, (size_t)(end - begin), o, ret, err);
		if (r < 0)
			return r;
		at = end;
	}
	fputs(at, f);
	return ret->count ? 0 : err_set(err, EINVAL, "there is no certificate in it (%s)", BEGIN);
}

int certificate_remake(const char *text, size_t length, const struct certificate_order *order,
	char **ret, size_t *ret_length, struct certificate_report *ret_report, struct err **err)
{
	_cleanup_(certificate_report_done) struct certificate_report made = {0};
	/* Room enough from the start: a stream that grows would leave copies of what it held. */
	size_t room = length * 2 + (64UL << 10);
	_cleanup_(certificate_text_freep) char *out = calloc(1, room + 1);
	FILE *f = out ? fmemopen(out, room, "w") : NULL;
	int r;

	if (!f)
		return err_errno(err, ENOMEM, "write a certificate");
	setvbuf(f, NULL, _IONBF, 0);
	r = write_all(f, text, order, &made, err);
	if (r >= 0 && ferror(f))
		r = err_set(err, EFBIG, "what was made of the certificates is too long");
	fclose(f);
	if (r < 0)
		return r;
	*ret_length = strlen(out);
	*ret = steal_ptr(out);
	*ret_report = made;
	made = (struct certificate_report){0};
	return 0;
}
