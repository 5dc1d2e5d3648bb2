#include "fault/der.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"

#define LENGTH_BYTES_MAX 4

int der_next(const uint8_t **at, const uint8_t *end, struct der *ret, struct err **err)
{
	const uint8_t *s = *at;
	size_t length;

	if (end - s < 2 || (s[0] & 31) == 31)
		return err_set(err, EINVAL, "the certificate's encoding is cut or unknown");
	length = s[1];
	s += 2;
	if (length > 0x7f) {
		size_t n = length & 0x7f;

		if (n == 0 || n > LENGTH_BYTES_MAX || (size_t)(end - s) < n)
			return err_set(err, EINVAL, "the certificate's encoding has a bad length");
		for (length = 0; n > 0; n--)
			length = length << 8 | *s++;
	}
	if ((size_t)(end - s) < length)
		return err_set(err, EINVAL, "the certificate is cut");
	*ret = (struct der){
		.tag = **at,
		.value = s,
		.length = length,
		.whole = *at,
		.size = (size_t)(s - *at) + length,
	};
	*at = s + length;
	return 0;
}

bool der_is(const uint8_t *at, const uint8_t *end, uint8_t tag)
{
	return at < end && *at == tag;
}

int der_expect(const uint8_t **at, const uint8_t *end, uint8_t tag, struct der *ret, struct err **err)
{
	if (!der_is(*at, end, tag))
		return err_set(err, EINVAL, "the certificate lacks what X.509 says comes next (tag %#x)", tag);
	return der_next(at, end, ret, err);
}

bool der_equal(const struct der *a, const void *bytes, size_t length)
{
	return a->length == length && memcmp(a->value, bytes, length) == 0;
}

void der_text_done(struct der_text *t)
{
	free(t->bytes);
	*t = (struct der_text){0};
}

static void make_room(struct der_text *t, size_t more)
{
	if (t->room - t->length >= more)
		return;
	t->room = (t->length + more) * 2;
	t->bytes = realloc(t->bytes, t->room);
	if (!t->bytes) {
		log_error("no memory for a certificate");
		abort();
	}
}

void der_add(struct der_text *t, const void *bytes, size_t length)
{
	if (length == 0)
		return;
	make_room(t, length);
	memcpy(t->bytes + t->length, bytes, length);
	t->length += length;
}

void der_wrap(struct der_text *t, size_t start, uint8_t tag)
{
	size_t length = t->length - start, n = 0;
	uint8_t head[2 + LENGTH_BYTES_MAX] = {tag};

	if (length <= 0x7f) {
		head[1] = (uint8_t)length;
	} else {
		while (n < LENGTH_BYTES_MAX && length >> (8 * n))
			n++;
		head[1] = (uint8_t)(0x80 | n);
		for (size_t i = 0; i < n; i++)
			head[2 + i] = (uint8_t)(length >> (8 * (n - 1 - i)));
	}
	make_room(t, 2 + n);
	memmove(t->bytes + start + 2 + n, t->bytes + start, length);
	memcpy(t->bytes + start, head, 2 + n);
	t->length += 2 + n;
}

void der_add_element(struct der_text *t, uint8_t tag, const void *value, size_t length)
{
	size_t start = t->length;

	der_add(t, value, length);
	der_wrap(t, start, tag);
}
