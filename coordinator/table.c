#include "table.h"

#include <stdlib.h>
#include <string.h>

struct table {
	size_t columns, rows;
	char **cells;	/* the heads are row 0 */
};

struct table *table_new(const char *const *heads)
{
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	while (heads[t->columns])
		t->columns++;
	table_add(t, heads);
	return t;
}

void table_add(struct table *t, const char *const *cells)
{
	t->cells = reallocarray(t->cells, (t->rows + 1) * t->columns, sizeof(*t->cells));
	if (!t->cells)
		abort();
	for (size_t i = 0; i < t->columns; i++)
		t->cells[t->rows * t->columns + i] = strdup(cells[i] && *cells[i] ? cells[i] : "-");
	t->rows++;
}

void table_print(const struct table *t, FILE *f)
{
	for (size_t row = 0; row < t->rows; row++) {
		for (size_t i = 0; i < t->columns; i++) {
			size_t width = 0;

			for (size_t k = 0; k < t->rows; k++) {
				size_t n = strlen(t->cells[k * t->columns + i]);

				width = n > width ? n : width;
			}
			/* The last column is not padded: no blanks at a line's end. */
			if (i + 1 == t->columns)
				width = 0;
			fprintf(f, "%-*s%s", (int)width, t->cells[row * t->columns + i],
				i + 1 == t->columns ? "\n" : "  ");
		}
	}
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}
