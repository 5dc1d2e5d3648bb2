/* The PEM files of mutual TLS, read and checked before the server starts. */
#pragma once

#include <stdbool.h>
#include "core/err.h"

/* TLS 1.2 and 1.3 with at least 128-bit security (gnutls_priority_init(3)). */
#define TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls_files {
	char *certificate, *key, *ca;	/* their text */
};
void tls_files_done(struct tls_files *t);
bool tls_files_equal(const struct tls_files *a, const struct tls_files *b);

/* Refuses what cannot be read or parsed, a key that is not the certificate's, a file of no CA. */
int tls_files_load(const char *certificate, const char *key, const char *ca,
	struct tls_files *ret, struct err **err);
