#include "kube/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_decode(const char *text, char **ret, size_t *ret_length, struct err **err)
{
	_cleanup_free_ char *out = malloc(strlen(text) / 4 * 3 + 4);
	size_t n = 0, digits = 0, padding = 0;
	uint32_t bits = 0;

	if (!out)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; text[i]; i++) {
		const char *digit = strchr(alphabet, text[i]);

		if (strchr("\r\n \t", text[i]))
			continue;
		if (text[i] == '=' && ++padding <= 2)
			continue;
		if (!digit || padding)
			return err_set(err, -EINVAL, "no base64 at character %zu", i + 1);
		bits = bits << 6 | (uint32_t)(digit - alphabet);
		if (++digits % 4 == 0) {
			out[n++] = (char)(bits >> 16);
			out[n++] = (char)(bits >> 8);
			out[n++] = (char)bits;
		}
	}
	if (digits % 4 == 1 || (padding && (digits + padding) % 4))
		return err_set(err, -EINVAL, "no base64: it ends in the middle");
	if (digits % 4 >= 2)
		out[n++] = (char)(bits >> (digits % 4 == 2 ? 4 : 10));
	if (digits % 4 == 3)
		out[n++] = (char)(bits >> 2);
	out[n] = 0;
	*ret = steal_ptr(out);
	*ret_length = n;
	return 0;
}

char *base64_encode(const void *data, size_t length)
{
	const unsigned char *p = data;
	char *out = malloc((length + 2) / 3 * 4 + 1), *o = out;

	if (!out)
		abort();
	for (size_t i = 0; i < length; i += 3) {
		size_t left = length - i;
		uint32_t bits = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
				(left > 2 ? p[i + 2] : 0);

		*o++ = alphabet[bits >> 18];
		*o++ = alphabet[bits >> 12 & 63];
		*o++ = left > 1 ? alphabet[bits >> 6 & 63] : '=';
		*o++ = left > 2 ? alphabet[bits & 63] : '=';
	}
	*o = 0;
	return out;
}
