#include "core/json_text.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "core/json.h"

/* cJSON copies a number into 64 bytes and drops what is beyond. */
#define NUMBER_LENGTH_MAX 62

struct scan {
	const char *start, *at, *end;
	struct err **err;
};

static int fail(const struct scan *s, const char *expected)
{
	size_t byte = (size_t)(s->at - s->start) + 1;

	if (s->at >= s->end)
		return err_set(s->err, -EINVAL, "JSON ends at byte %zu: expected %s", byte,
			expected);
	if (isprint((unsigned char)*s->at))
		return err_set(s->err, -EINVAL, "JSON byte %zu: expected %s, got '%c'", byte,
			expected, *s->at);
	return err_set(s->err, -EINVAL, "JSON byte %zu: expected %s, got byte 0x%02x", byte,
		expected, (unsigned char)*s->at);
}

static void skip_space(struct scan *s)
{
	while (s->at < s->end && *s->at && strchr(" \t\r\n", *s->at))
		s->at++;
}

static bool take(struct scan *s, char c)
{
	if (s->at >= s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

size_t utf8_sequence(const char *text, const char *end)
{
	const unsigned char *s = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if ((size_t)(end - text) < n)
		return 0;
	/* No longer forms, no surrogates, nothing above U+10FFFF. */
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return n;
}

static int scan_hex4(struct scan *s, unsigned *ret)
{
	unsigned value = 0;

	for (int i = 0; i < 4; i++) {
		if (s->at >= s->end || !isxdigit((unsigned char)*s->at))
			return fail(s, "four hexadecimal digits after \\u");
		value = value * 16 + (unsigned)(isdigit((unsigned char)*s->at) ? *s->at - '0'
			: tolower((unsigned char)*s->at) - 'a' + 10);
		s->at++;
	}
	*ret = value;
	return 0;
}

static int scan_unicode(struct scan *s)
{
	unsigned first, second;
	int r = scan_hex4(s, &first);

	if (r < 0)
		return r;
	if (first == 0)
		return fail(s, "no \\u0000 in a string");
	if (first >= 0xdc00 && first <= 0xdfff)
		return fail(s, "no lone low surrogate");
	if (first < 0xd800 || first > 0xdbff)
		return 0;
	if (!take(s, '\\') || !take(s, 'u'))
		return fail(s, "a low surrogate after the high one");
	r = scan_hex4(s, &second);
	if (r < 0)
		return r;
	if (second < 0xdc00 || second > 0xdfff)
		return fail(s, "a low surrogate after the high one");
	return 0;
}

static int scan_string(struct scan *s)
{
	if (!take(s, '"'))
		return fail(s, "a string");
	while (!take(s, '"')) {
		if (s->at >= s->end)
			return fail(s, "the end of a string");
		if (take(s, '\\')) {
			int r = 0;

			if (take(s, 'u'))
				r = scan_unicode(s);
			else if (s->at < s->end && *s->at && strchr("\"\\/bfnrt", *s->at))
				s->at++;
			else
				r = fail(s, "an escape of JSON");
			if (r < 0)
				return r;
		} else if ((unsigned char)*s->at < ' ') {
			return fail(s, "no control character in a string");
		} else {
			size_t n = utf8_sequence(s->at, s->end);

			if (n == 0)
				return fail(s, "UTF-8");
			s->at += n;
		}
	}
	return 0;
}

static int scan_digits(struct scan *s)
{
	if (s->at >= s->end || !isdigit((unsigned char)*s->at))
		return fail(s, "a digit");
	while (s->at < s->end && isdigit((unsigned char)*s->at))
		s->at++;
	return 0;
}

static int scan_number(struct scan *s)
{
	const char *start = s->at;
	char copy[NUMBER_LENGTH_MAX + 1];
	int r;

	take(s, '-');
	if (!take(s, '0')) {
		r = scan_digits(s);
		if (r < 0)
			return r;
	}
	if (take(s, '.')) {
		r = scan_digits(s);
		if (r < 0)
			return r;
	}
	if (take(s, 'e') || take(s, 'E')) {
		if (!take(s, '+'))
			take(s, '-');
		r = scan_digits(s);
		if (r < 0)
			return r;
	}
	if (s->at - start > NUMBER_LENGTH_MAX) {
		s->at = start;
		return fail(s, "a number of at most 62 characters");
	}
	memcpy(copy, start, (size_t)(s->at - start));
	copy[s->at - start] = '\0';
	if (!isfinite(strtod(copy, NULL))) {
		s->at = start;
		return fail(s, "a number that a double can hold");
	}
	return 0;
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
		return fail(s, "a value");
	s->at += n;
	return 0;
}

static int scan_scalar(struct scan *s)
{
	char c = s->at < s->end ? *s->at : '\0';

	if (c == '"')
		return scan_string(s);
	if (c == '-' || isdigit((unsigned char)c))
		return scan_number(s);
	if (c == 't')
		return scan_word(s, "true");
	if (c == 'f')
		return scan_word(s, "false");
	if (c == 'n')
		return scan_word(s, "null");
	return fail(s, "a value");
}

/* "key" : in front of a member's value. */
static int scan_key(struct scan *s)
{
	int r;

	skip_space(s);
	r = scan_string(s);
	if (r < 0)
		return r;
	skip_space(s);
	return take(s, ':') ? 0 : fail(s, "':'");
}

/* Iterative: the depth is bounded by the array of closing brackets, not by our stack. */
int json_text_check(const char *text, size_t length, struct err **err)
{
	struct scan s = {.start = text, .at = text, .end = text + length, .err = err};
	char closing[JSON_DEPTH_MAX];
	size_t depth = 0;
	int r;

	if (length > JSON_TEXT_MAX)
		return err_set(err, -EINVAL, "JSON of %zu bytes: at most %zu are allowed", length,
			(size_t)JSON_TEXT_MAX);
	while (true) {
		skip_space(&s);
		if (s.at < s.end && (*s.at == '{' || *s.at == '[')) {
			if (depth == JSON_DEPTH_MAX)
				return fail(&s, "at most 64 levels of nesting");
			closing[depth++] = *s.at++ == '{' ? '}' : ']';
			skip_space(&s);
			if (!take(&s, closing[depth - 1])) {
				r = closing[depth - 1] == '}' ? scan_key(&s) : 0;
				if (r < 0)
					return r;
				continue;
			}
			depth--;
		} else {
			r = scan_scalar(&s);
			if (r < 0)
				return r;
		}
		/* A value has ended: close what ends with it, then go on to the next. */
		for (skip_space(&s); depth && take(&s, closing[depth - 1]); skip_space(&s))
			depth--;
		if (depth == 0)
			break;
		if (!take(&s, ','))
			return fail(&s, closing[depth - 1] == '}' ? "',' or '}'" : "',' or ']'");
		r = closing[depth - 1] == '}' ? scan_key(&s) : 0;
		if (r < 0)
			return r;
	}
	return s.at == s.end ? 0 : fail(&s, "nothing after the document");
}
