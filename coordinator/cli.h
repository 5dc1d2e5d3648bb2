/*
 * The command line: one table a verb. The same tables parse, print --help, and make the shell
 * completion and the man page, so none of them can go stale.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "core/err.h"

/* design: 0 passed, 1 expectations failed, and these. */
enum exit_code {
	EXIT_PASSED = 0,
	EXIT_EXPECTATIONS = 1,
	EXIT_USAGE = 2,
	EXIT_REFUSED = 3,
	EXIT_ABORTED = 4,
	EXIT_STUCK = 5,
};

enum cli_type {
	CLI_FLAG,	/* bool */
	CLI_TEXT,	/* char *, allocated; the last one counts */
	CLI_TEXTS,	/* char **, one entry for each time it is given */
	CLI_DURATION,	/* uint64_t, ns */
	CLI_COUNT,	/* uint64_t */
};

struct cli_option {
	const char *name;	/* "target" for --target */
	enum cli_type type;
	size_t offset;		/* of the member in the verb's struct */
	const char *argument;	/* "NAME" in the help; NULL for a flag */
	const char *help;
	const char *complete;	/* words for the shell, or "@targets" and so on: cli_completion.c */
};

struct cli_verb {
	const char *name;
	const char *arguments;		/* "FAULT --target T --for D [--PARAMETER VALUE]..." */
	const char *summary;		/* one line */
	const char *description;	/* paragraphs; may be NULL */
	const char *complete;		/* of the positional argument */
	const struct cli_option *options;
	size_t n_options;
	/* argv[0] is the verb. Returns an exit code; has said why. */
	int (*run)(const struct cli_verb *verb, int argc, char **argv);
};

/* NULL-terminated. */
extern const struct cli_verb *const cli_verbs[];

/* What a verb takes besides its own table: the options of a fault's parameters (inject). */
struct cli_extra {
	/* 0 when it took --name value (value NULL: none was given); -ENOENT when it does not know
	 * the name; another error with words. */
	int (*take)(const char *name, const char *value, void *data, struct err **err);
	bool (*is_flag)(const char *name, void *data);
	void *data;
};

/* Fills object by the verb's table. Positional arguments go to *ret_arguments (NULL-terminated, the
 * caller strv_free()s). -EINVAL with words; -ECANCELED when --help was printed. */
int cli_parse(const struct cli_verb *verb, int argc, char **argv, const struct cli_extra *extra,
	void *object, char ***ret_arguments, struct err **err);

void cli_help(FILE *f);				/* of the program */
void cli_verb_help(FILE *f, const struct cli_verb *verb);
void cli_man(FILE *f);				/* roff, pgjolt(1) */
void cli_completion_bash(FILE *f);

/* The exit code for an errno class (core/err.h). */
int cli_exit_code(const struct err *err);
/* Prints "pgjolt: words" and gives the exit code. */
int cli_fail(const struct err *err);
int cli_usage(const struct cli_verb *verb, const struct err *err);
