/* Connection strings of libpq: "host=a sslcert='b c'" and "postgresql://a/?sslcert=b%20c". */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "instance/settings.h"

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static char *percent_decode(const char *s, size_t length)
{
	char *text = malloc(length + 1);
	size_t n = 0;

	for (size_t i = 0; text && i < length; i++) {
		if (s[i] == '%' && length - i > 2 && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0) {
			text[n++] = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
			i += 2;
		} else {
			text[n++] = s[i];
		}
	}
	if (text)
		text[n] = '\0';
	return text;
}

static char *find_in_uri(const char *text, const char *word)
{
	const char *s = strchr(text, '?');
	size_t n = strlen(word);

	while (s) {
		const char *end;

		s++;
		end = s + strcspn(s, "&");
		if (strncmp(s, word, n) == 0 && s[n] == '=')
			return percent_decode(s + n + 1, (size_t)(end - s) - n - 1);
		s = *end ? end : NULL;
	}
	return NULL;
}

/* A value, in quotes or up to a blank; a backslash takes the next character as it is. */
static char *value_at(const char **at)
{
	const char *s = *at;
	char *text = malloc(strlen(s) + 1);
	bool quotes = *s == '\'';
	size_t n = 0;

	for (s += quotes; text && *s && (quotes ? *s != '\'' : !strchr(" \t\n\r", *s)); s++) {
		if (*s == '\\' && s[1])
			s++;
		text[n++] = *s;
	}
	if (text)
		text[n] = '\0';
	*at = s + (quotes && *s);
	return text;
}

char *conninfo_find(const char *text, const char *word)
{
	char *found = NULL;

	if (strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0)
		return find_in_uri(text, word);
	for (const char *s = text + strspn(text, " \t\n\r"); *s; s += strspn(s, " \t\n\r")) {
		const char *name = s;
		size_t n = strcspn(s, "= \t\n\r");
		char *value;

		s += n;
		s += strspn(s, " \t\n\r");
		if (*s != '=')
			return found;
		s++;
		s += strspn(s, " \t\n\r");
		value = value_at(&s);
		/* The last one counts. */
		if (strlen(word) == n && strncmp(name, word, n) == 0) {
			free(found);
			found = value;
		} else {
			free(value);
		}
	}
	return found;
}
