/*
 * The little of DNS that the fault needs: the question of a query, and a frame that answers it or
 * resets its connection. Queries are untrusted: every offset is checked. Messages: RFC 1035, section 4;
 * resets: RFC 9293, section 3.10.7.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/catalogue/dns_params.h"
#include "hold/packet.h"

#define DNS_PORT 53U

enum dns_rcode { DNS_RCODE_SERVFAIL = 2, DNS_RCODE_NXDOMAIN = 3 };

/* Both point into the message. */
struct dns_question {
	const uint8_t *message, *name;
	size_t name_length;	/* root label included */
	size_t length;		/* name, type and class */
};

/* A standard query with one question; what follows it is not looked at. */
bool dns_query_parse(const uint8_t *message, size_t length, struct dns_question *ret);
/* Is it that name or one below it? In any case. */
bool dns_suffix_matches(const struct dns_suffix *s, const struct dns_question *q);

/* The frame that brings an error back to who sent this one, a UDP query. ret: DNS_ANSWER_MAX bytes.
 * Returns its length. */
#define DNS_ANSWER_MAX 512U
size_t dns_answer(const uint8_t *frame, const struct packet *p, const struct dns_question *q,
	enum dns_rcode rcode, uint8_t *ret);
/* The same with a reset, as if by the server: for a TCP segment. */
size_t dns_reset(const uint8_t *frame, const struct packet *p, uint8_t *ret);
