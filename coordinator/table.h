/* Columns for a terminal, as kubectl prints them: upper-case heads, two blanks between. */
#pragma once

#include <stdio.h>

struct table;

/* heads: NULL-terminated. */
struct table *table_new(const char *const *heads);
/* One row: as many texts as there are heads; NULL prints "-". Copies. */
void table_add(struct table *t, const char *const *cells);
void table_print(const struct table *t, FILE *f);
void table_free(struct table *t);
