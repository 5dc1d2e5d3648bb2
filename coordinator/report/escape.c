#include "report/escape.h"

#include <string.h>

#include "core/json_text.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* Bytes at s that XML 1.0 allows as a character; 0: none. */
static size_t allowed(const char *s, const char *end)
{
	size_t n = utf8_sequence(s, end);

	if (n == 1 && (unsigned char)*s < ' ' && *s != '\t' && *s != '\n')
		return 0;
	/* U+FFFE and U+FFFF. */
	if (n == 3 && (memcmp(s, "\xef\xbf\xbe", 3) == 0 || memcmp(s, "\xef\xbf\xbf", 3) == 0))
		return 0;
	return n;
}

static const char *entity(char c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	default:
		return NULL;
	}
}

void escape_markup(FILE *f, const char *s)
{
	const char *end = s + strlen(s);

	while (s < end) {
		size_t n = allowed(s, end);

		if (n == 0)
			fputs(REPLACEMENT, f);
		else if (n == 1 && entity(*s))
			fputs(entity(*s), f);
		else
			fwrite(s, 1, n, f);
		s += n ? n : 1;
	}
}

void escape_markdown(FILE *f, const char *s)
{
	const char *end = s + strlen(s);

	while (s < end) {
		size_t n = allowed(s, end);

		if (n == 0)
			fputs(REPLACEMENT, f);
		else if (*s == '\n' || *s == '\t')
			fputc(' ', f);
		else if (*s == '@')
			fputs("&#64;", f);	/* or it would call somebody */
		else if (n == 1 && entity(*s))
			fputs(entity(*s), f);
		else if (n == 1 && strchr("\\`*_{}[]()#+!|~", *s))
			fprintf(f, "\\%c", *s);
		else
			fwrite(s, 1, n, f);
		s += n ? n : 1;
	}
}

void escape_script(FILE *f, const char *json)
{
	for (; *json; json++) {
		if (*json == '<' || *json == '>' || *json == '&')
			fprintf(f, "\\u%04x", *json);
		else
			fputc(*json, f);
	}
}
