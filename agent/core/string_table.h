/* An enum and its words in one table, both directions. The table is indexed by the enum. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <string.h>

static inline const char *string_table_to(const char *const *table, size_t n, size_t value)
{
	return value < n ? table[value] : NULL;
}

/* Index of s, or -EINVAL. */
static inline int string_table_from(const char *const *table, size_t n, const char *s)
{
	for (size_t i = 0; s && i < n; i++)
		if (table[i] && strcmp(table[i], s) == 0)
			return (int)i;
	return -EINVAL;
}

/* DECLARE_STRING_TABLE(role, enum role) declares role_to_string() and role_from_string(). */
#define DECLARE_STRING_TABLE(name, type)         \
	const char *name##_to_string(type value); \
	int name##_from_string(const char *s, type *ret)

#define DEFINE_STRING_TABLE(name, type, table)                                               \
	const char *name##_to_string(type value)                                             \
	{                                                                                    \
		return string_table_to(table, sizeof(table) / sizeof((table)[0]), (size_t)value); \
	}                                                                                    \
	int name##_from_string(const char *s, type *ret)                                     \
	{                                                                                    \
		int i = string_table_from(table, sizeof(table) / sizeof((table)[0]), s);     \
                                                                                             \
		if (i < 0)                                                                   \
			return i;                                                            \
		*ret = (type)i;                                                              \
		return 0;                                                                    \
	}
