/*
 * Ids that were used, long after what they named is forgotten: a request that is sent again must not
 * be a fault again. Keeps a keyed 64-bit hash of each (SipHash-2-4, Aumasson and Bernstein 2012): two generations
 * of ID_MEMORY_GENERATION, so at least that many of the last, in at most 256 KiB.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_MEMORY_GENERATION 8192

struct id_memory;

/* NULL without memory. */
struct id_memory *id_memory_new(void);
void id_memory_free(struct id_memory *m);
/* Aborts without memory, as what it would forget could be done twice. */
void id_memory_add(struct id_memory *m, const char *id);
bool id_memory_has(const struct id_memory *m, const char *id);
