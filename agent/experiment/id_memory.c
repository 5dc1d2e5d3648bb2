#include "experiment/id_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SLOTS_FIRST 64

/* Open addressing, at most half full; 0 is an empty slot. */
struct generation {
	uint64_t *slots;
	size_t n_slots, count;
};

struct id_memory {
	uint64_t key[2];
	struct generation now, before;
};

static uint64_t rotate(uint64_t v, unsigned bits)
{
	return v << bits | v >> (64 - bits);
}

static void sip_rounds(uint64_t v[static 4], unsigned n)
{
	while (n--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32) + v[3];
		v[2] += v[1];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[2] = rotate(v[2], 32);
	}
}

static uint64_t sip_hash(const uint64_t key[static 2], const char *s)
{
	size_t length = strlen(s);
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
		key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};

	for (size_t at = 0; at <= length; at += 8) {
		uint64_t word = 0;

		/* The last word has what is left, and the length on top. */
		for (size_t i = 0; i < 8 && at + i < length; i++)
			word |= (uint64_t)(unsigned char)s[at + i] << 8 * i;
		if (length - at < 8)
			word |= (uint64_t)(length & 0xff) << 56;
		v[3] ^= word;
		sip_rounds(v, 2);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t fingerprint(const struct id_memory *m, const char *id)
{
	uint64_t hash = sip_hash(m->key, id);

	return hash ? hash : 1;
}

/* The slot that holds it, or the empty one where it belongs. */
static size_t slot_of(const struct generation *g, uint64_t hash)
{
	size_t i = hash & (g->n_slots - 1);

	while (g->slots[i] && g->slots[i] != hash)
		i = (i + 1) & (g->n_slots - 1);
	return i;
}

static bool generation_has(const struct generation *g, uint64_t hash)
{
	return g->slots && g->slots[slot_of(g, hash)] == hash;
}

static void generation_grow(struct generation *g)
{
	struct generation more = {.n_slots = g->n_slots ? g->n_slots * 2 : SLOTS_FIRST,
				  .count = g->count};

	more.slots = calloc(more.n_slots, sizeof(*more.slots));
	if (!more.slots)
		abort();
	for (size_t i = 0; i < g->n_slots; i++)
		if (g->slots[i])
			more.slots[slot_of(&more, g->slots[i])] = g->slots[i];
	free(g->slots);
	*g = more;
}

struct id_memory *id_memory_new(void)
{
	struct id_memory *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	if (getrandom(m->key, sizeof(m->key), 0) != (ssize_t)sizeof(m->key))
		abort();
	return m;
}

void id_memory_free(struct id_memory *m)
{
	if (!m)
		return;
	free(m->now.slots);
	free(m->before.slots);
	free(m);
}

void id_memory_add(struct id_memory *m, const char *id)
{
	uint64_t hash = fingerprint(m, id);

	if (generation_has(&m->now, hash))
		return;
	if (m->now.count == ID_MEMORY_GENERATION) {
		free(m->before.slots);
		m->before = m->now;
		m->now = (struct generation){0};
	}
	if (m->now.count * 2 >= m->now.n_slots)
		generation_grow(&m->now);
	m->now.slots[slot_of(&m->now, hash)] = hash;
	m->now.count++;
}

bool id_memory_has(const struct id_memory *m, const char *id)
{
	uint64_t hash = fingerprint(m, id);

	return generation_has(&m->now, hash) || generation_has(&m->before, hash);
}
