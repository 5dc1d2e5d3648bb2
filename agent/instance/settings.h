/*
 * PostgreSQL's settings without SQL: postgresql.conf with what it includes, postgresql.auto.conf, and the
 * postmaster's command line, in their order of rank (PostgreSQL's manual, "Setting Parameters"). The
 * files are the instance's own and may hold anything; a line that PostgreSQL would refuse is left out.
 */
#pragma once

#include <stddef.h>
#include "core/err.h"
#include "core/wire.h"

struct setting {
	const char *name;
	char *value;	/* NULL: set nowhere */
};

/* Fills the values, which the caller frees. -ENOENT where there is no postgresql.conf. */
int settings_read(const struct instance_info *i, struct setting *list, size_t count,
	struct err **err);
void settings_done(struct setting *list, size_t count);

/* A line of a file. */
struct setting_line {
	char *name;
	char *value;
};
/* One line: 1 and both parts, 0 for none (blank, comment, or what PostgreSQL would refuse). */
int setting_line_parse(const char *line, struct setting_line *ret);
void setting_line_done(struct setting_line *l);
/* As PostgreSQL reads a bool: on, true, yes, 1, and unique beginnings of them. -EINVAL. */
int setting_bool(const char *text);

/* Value of a word of a connection string (libpq's manual, "Connection Strings"), both forms; NULL if it is
 * not there. Caller frees. */
char *conninfo_find(const char *text, const char *word);
