#include "core/nearest.h"

#include <string.h>

/* Names are short; a longer one is nobody's typing error. */
#define NEAREST_MAX 48

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Optimal string alignment distance. */
static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
	size_t rows[3][NEAREST_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];

	for (size_t j = 0; j <= m; j++)
		above[j] = before[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *spare = before;

		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t d = least(above[j], row[j - 1]) + 1;

			d = least(d, above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d = least(d, before[j - 2] + 1);
			row[j] = d;
		}
		before = above;
		above = row;
		row = spare;
	}
	return above[m];
}

const char *nearest_word(const char *given, const char *const *words, size_t n)
{
	size_t length = given ? strlen(given) : 0;
	size_t best = length / 3 + 2;
	const char *ret = NULL;

	if (length == 0 || length > NEAREST_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t m = words[i] ? strlen(words[i]) : NEAREST_MAX + 1, d;

		if (m > NEAREST_MAX)
			continue;
		d = distance(given, length, words[i], m);
		if (d < best && d < m) {
			best = d;
			ret = words[i];
		}
	}
	return ret;
}
