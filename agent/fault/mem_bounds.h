/* How much memory mem-stress may take, so that the node itself never runs out of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"

struct mem_bounds {
	bool has_limit;
	uint64_t room_bytes;	/* with a limit: from what is in use there up to it */
	uint64_t left_bytes;	/* what the node has left (MemAvailable), less what is claimed of it */
};

/*
 * What one fault may take, from arm to release: MemAvailable knows only of what is held already. A list of
 * this process, without a lock: one thread arms, fires and releases.
 */
struct mem_claim {
	struct mem_claim *next;
	uint64_t bytes;
	uint64_t (*held)(const void *owner);	/* of bytes; all of them once it takes no more */
	const void *owner;
};
void mem_claim_add(struct mem_claim *c);
/* One that was not added is none. */
void mem_claim_drop(const struct mem_claim *c);
/* What all but one (NULL: all) may still take. */
uint64_t mem_claimed(const struct mem_claim *but);
/* left less claimed, or 0. */
uint64_t mem_unclaimed(uint64_t left_bytes, uint64_t claimed_bytes);

/* What is mapped for what was asked: whole pages, and no more than the limit (UINT64_MAX: none). */
uint64_t mem_whole_pages(uint64_t bytes, uint64_t limit_bytes);
/* Of that, what the node has to give. */
uint64_t mem_taken(uint64_t bytes, const struct mem_bounds *b);

/* What the node keeps whatever limits say. */
uint64_t mem_reserve(uint64_t left_bytes);

/*
 * Without a limit, half of what the node has left is the most. With one the kernel ends it at the limit, so
 * only what fits below that counts, and it must leave the node its reserve. -EPERM with the amounts.
 */
int mem_check(uint64_t bytes, const struct mem_bounds *b, struct err **err);
