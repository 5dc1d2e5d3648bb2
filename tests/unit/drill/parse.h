/* Drills as texts: what a test wants of the parser. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "core/json.h"
#include "drill/drill.h"

#define HEAD "drill: d\nsummary: s\n"
#define STEPS "steps:\n  - wait: 1s\n"

static inline struct drill *parsed_with(const char *text, char *const *sets)
{
	_cleanup_err_ struct err *err = NULL;
	struct drill *d = NULL;

	cr_assert_eq(drill_parse("t.yaml", text, strlen(text), sets, &d, &err), 0, "%s\n%s", text,
		err_text(err));
	return d;
}

static inline struct drill *parsed(const char *text)
{
	return parsed_with(text, NULL);
}

/* The words; the caller frees. */
static inline char *refusal_of(const char *text, size_t length, char *const *sets)
{
	_cleanup_err_ struct err *err = NULL;
	struct drill *d = NULL;
	int r = drill_parse("t.yaml", text, length, sets, &d, &err);

	if (r == 0)
		drill_free(d);
	cr_assert_eq(r, -EINVAL, "taken: %.500s", text);
	cr_assert_not_null(err);
	return strdup(err_text(err));
}

/* The error begins with the words, place and all. */
static inline void refused(const char *text, const char *words)
{
	_cleanup_free_ char *said = refusal_of(text, strlen(text), NULL);

	cr_assert(strncmp(said, words, strlen(words)) == 0, "%s\nsaid:   %s\nwanted: %s", text, said,
		words);
}
