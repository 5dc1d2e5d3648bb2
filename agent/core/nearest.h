/* The word that was probably meant. */
#pragma once

#include <stddef.h>

/* The word at the smallest edit distance (insert, delete, replace, swap of neighbours), or NULL when
 * none is near enough to be worth asking for. */
const char *nearest_word(const char *given, const char *const *words, size_t n);
