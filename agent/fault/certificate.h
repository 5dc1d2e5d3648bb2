/*
 * A certificate (RFC 5280) made wrong in one respect: every other byte of what is signed stays as it
 * is, and so does the key that the certificate is for, which need not be known.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

enum certificate_change {
	CERTIFICATE_EXPIRED,
	CERTIFICATE_NOT_YET_VALID,
	CERTIFICATE_UNTRUSTED,
	CERTIFICATE_WRONG_HOST,
};

#define CERTIFICATE_WRONG_NAME "wrong-host.invalid"
#define CERTIFICATE_UNKNOWN_CA "pgjolt unknown CA"

struct certificate_order {
	enum certificate_change change;
	bool every;		/* all certificates of the file, each a root; else the first, a leaf */
	uint64_t now_s;		/* since 1970 */
	uint64_t by_s;		/* how long ago it expired, how far in the future it begins */
	const char *ca_key;	/* PEM of the key that signed the present one; NULL: not at hand */
};

struct certificate_report {
	size_t count;		/* of certificates that were changed */
	char *subject;		/* of the first, as it now is */
	char *issuer;
	int64_t not_before_s, not_after_s;
	const char *signature;	/* static words: who signed it */
};
void certificate_report_done(struct certificate_report *r);

/*
 * text: PEM; what is not one of the changed certificates, such as a chain or a key behind it, is kept
 * as it is. Signed with ca_key; else by a CA made for that moment (untrusted), or not at all: the old
 * signature stays and no longer fits. -EINVAL where there is no certificate or the key is not its CA's.
 * The result may hold a key: certificate_text_free().
 */
int certificate_remake(const char *text, size_t length, const struct certificate_order *order,
	char **ret, size_t *ret_length, struct certificate_report *ret_report, struct err **err);
/* Overwrites it first. */
void certificate_text_free(char *text);
static inline void certificate_text_freep(char **text)
{
	certificate_text_free(*text);
}
