#include <criterion/criterion.h>
#include <stdio.h>
#include "experiment/id_memory.h"

static void add(struct id_memory *m, unsigned from, unsigned to)
{
	char id[64];

	for (unsigned i = from; i < to; i++) {
		snprintf(id, sizeof(id), "ex-%u", i);
		id_memory_add(m, id);
	}
}

static unsigned known(const struct id_memory *m, unsigned from, unsigned to)
{
	unsigned n = 0;
	char id[64];

	for (unsigned i = from; i < to; i++) {
		snprintf(id, sizeof(id), "ex-%u", i);
		n += id_memory_has(m, id);
	}
	return n;
}

Test(id_memory, remembers_ids_of_all_lengths)
{
	static const char text[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	struct id_memory *m = id_memory_new();
	char id[sizeof(text)];

	cr_assert_not_null(m);
	for (size_t n = 1; n < sizeof(text); n++) {
		snprintf(id, n + 1, "%s", text);
		cr_expect_not(id_memory_has(m, id), "%zu", n);
		id_memory_add(m, id);
		cr_expect(id_memory_has(m, id), "%zu", n);
	}
	id_memory_free(m);
}

Test(id_memory, remembers_the_last_and_forgets_the_first)
{
	struct id_memory *m = id_memory_new();

	add(m, 0, 4 * ID_MEMORY_GENERATION);
	cr_expect_eq(known(m, 3 * ID_MEMORY_GENERATION, 4 * ID_MEMORY_GENERATION), ID_MEMORY_GENERATION);
	cr_expect_eq(known(m, 0, ID_MEMORY_GENERATION), 0);
	/* The same again takes no room. */
	for (unsigned i = 0; i < 3; i++)
		add(m, 4 * ID_MEMORY_GENERATION - 100, 4 * ID_MEMORY_GENERATION);
	cr_expect_eq(known(m, 3 * ID_MEMORY_GENERATION, 4 * ID_MEMORY_GENERATION), ID_MEMORY_GENERATION);
	cr_expect_eq(known(m, 1000000, 1100000), 0);
	id_memory_free(m);
}
