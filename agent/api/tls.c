#include "api/tls.h"

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include "core/durable.h"

#define PEM_MAX (1UL << 20)

void tls_files_done(struct tls_files *t)
{
	free(t->certificate);
	if (t->key)
		explicit_bzero(t->key, strlen(t->key));
	free(t->key);
	free(t->ca);
	*t = (struct tls_files){0};
}

bool tls_files_equal(const struct tls_files *a, const struct tls_files *b)
{
	return strcmp(a->certificate, b->certificate) == 0 && strcmp(a->key, b->key) == 0 &&
	       strcmp(a->ca, b->ca) == 0;
}

static int read_pem(const char *what, const char *path, char **ret, size_t *ret_length,
	struct err **err)
{
	int r;

	if (!path)
		return err_set(err, -EINVAL, "%s: no file is named, TCP needs certificate, key and CA",
			what);
	r = file_read(AT_FDCWD, path, PEM_MAX, ret, ret_length, err);
	if (r < 0)
		return err_wrap(err, r, "%s", what);
	return 0;
}

static int check(const struct tls_files *t, const char *certificate, const char *key,
	const char *ca, gnutls_certificate_credentials_t credentials, struct err **err)
{
	gnutls_datum_t c = {(unsigned char *)t->certificate, (unsigned)strlen(t->certificate)};
	gnutls_datum_t k = {(unsigned char *)t->key, (unsigned)strlen(t->key)};
	gnutls_datum_t a = {(unsigned char *)t->ca, (unsigned)strlen(t->ca)};
	int r;

	r = gnutls_certificate_set_x509_key_mem(credentials, &c, &k, GNUTLS_X509_FMT_PEM);
	if (r == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		return err_set(err, -EINVAL, "the key in %s is not that of the certificate in %s",
			key, certificate);
	if (r < 0)
		return err_set(err, -EINVAL, "certificate %s with key %s: %s", certificate, key,
			gnutls_strerror(r));
	r = gnutls_certificate_set_x509_trust_mem(credentials, &a, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return err_set(err, -EINVAL, "CA %s: %s", ca, gnutls_strerror(r));
	if (r == 0)
		return err_set(err, -EINVAL, "CA %s: no certificate in it", ca);
	return 0;
}

int tls_files_load(const char *certificate, const char *key, const char *ca,
	struct tls_files *ret, struct err **err)
{
	gnutls_certificate_credentials_t credentials;
	struct tls_files t = {0};
	size_t n;
	int r;

	r = read_pem("TLS certificate", certificate, &t.certificate, &n, err);
	if (r == 0)
		r = read_pem("TLS key", key, &t.key, &n, err);
	if (r == 0)
		r = read_pem("TLS CA", ca, &t.ca, &n, err);
	if (r == 0 && gnutls_certificate_allocate_credentials(&credentials) < 0)
		r = err_errno(err, -ENOMEM, "TLS");
	if (r < 0) {
		tls_files_done(&t);
		return r;
	}
	r = check(&t, certificate, key, ca, credentials, err);
	gnutls_certificate_free_credentials(credentials);
	if (r < 0) {
		tls_files_done(&t);
		return r;
	}
	*ret = t;
	return 0;
}
