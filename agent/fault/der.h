/* ASN.1's distinguished encoding (X.690), as far as a certificate needs it: tags below 31, definite
 * lengths. What is read comes from an instance's file, so each length is checked. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

#define DER_INTEGER	0x02
#define DER_BIT_STRING	0x03
#define DER_OCTETS	0x04
#define DER_OBJECT	0x06
#define DER_UTF8	0x0c
#define DER_UTC_TIME	0x17
#define DER_LONG_TIME	0x18
#define DER_SEQUENCE	0x30
#define DER_SET		0x31
#define DER_CONTEXT(n)	(0xa0 | (n))	/* constructed */

/* A view of one element. */
struct der {
	uint8_t tag;
	const uint8_t *value;
	size_t length;		/* of the value */
	const uint8_t *whole;	/* with its head */
	size_t size;
};

/* The element at *at, which then is behind it. -EINVAL where there is none before end. */
int der_next(const uint8_t **at, const uint8_t *end, struct der *ret, struct err **err);
/* The same, of this tag. */
int der_expect(const uint8_t **at, const uint8_t *end, uint8_t tag, struct der *ret, struct err **err);
/* Is the next one of this tag? */
bool der_is(const uint8_t *at, const uint8_t *end, uint8_t tag);
bool der_equal(const struct der *a, const void *bytes, size_t length);

/* Written from the inside out: add what belongs in it, then give it a head. Aborts without memory. */
struct der_text {
	uint8_t *bytes;
	size_t length, room;
};
void der_text_done(struct der_text *t);
void der_add(struct der_text *t, const void *bytes, size_t length);
void der_add_element(struct der_text *t, uint8_t tag, const void *value, size_t length);
/* All from the byte `start` on becomes the value of one element. */
void der_wrap(struct der_text *t, size_t start, uint8_t tag);
