/* How much memory mem-stress may take, so that the node itself never runs out of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"

struct mem_bounds {
	bool has_limit;
	uint64_t room_bytes;	/* with a limit: from what is in use there up to it */
	uint64_t left_bytes;	/* what the node has left (MemAvailable) */
};

/* What the node keeps whatever limits say. */
uint64_t mem_reserve(uint64_t left_bytes);

/*
 * Without a limit, half of what the node has left is the most. With one the kernel ends it at the limit, so
 * only what fits below that counts, and it must leave the node its reserve. -EPERM with the amounts.
 */
int mem_check(uint64_t bytes, const struct mem_bounds *b, struct err **err);
