/* The parameters of dns, read by its driver too. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

/* Indices are those of the choices of "mode". */
enum dns_mode { DNS_NXDOMAIN, DNS_SERVFAIL, DNS_TIMEOUT, DNS_DELAY, DNS_MODE_MAX };

#define DNS_NAME_MAX  255U	/* on the wire, RFC 1035 */
#define DNS_LABEL_MAX 63U
#define DNS_NAMES_MAX 32U

/* A name's end as it is on the wire, in lower case, with its root label. */
struct dns_suffix {
	uint8_t wire[DNS_NAME_MAX];
	size_t length;
};

/* "example.com", ".example.com", "example.com.", "*.example.com" is refused. -EINVAL. */
int dns_suffix_parse(const char *text, struct dns_suffix *ret, struct err **err);
