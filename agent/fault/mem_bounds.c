#include "fault/mem_bounds.h"

#include <errno.h>
#include <inttypes.h>

#define NODE_SHARE    2
#define RESERVE_SHARE 8
#define RESERVE_LEAST (256ULL << 20)

uint64_t mem_reserve(uint64_t left_bytes)
{
	uint64_t share = left_bytes / RESERVE_SHARE;

	return share > RESERVE_LEAST ? share : RESERVE_LEAST;
}

int mem_check(uint64_t bytes, const struct mem_bounds *b, struct err **err)
{
	uint64_t reserve = mem_reserve(b->left_bytes), taken = bytes;

	if (!b->has_limit) {
		if (bytes <= b->left_bytes / NODE_SHARE)
			return 0;
		return err_set(err, EPERM,
			"%" PRIu64 " bytes without a memory limit: the node has %" PRIu64
			" left, and half of that is the most", bytes, b->left_bytes);
	}
	if (taken > b->room_bytes)
		taken = b->room_bytes;
	if (taken <= b->left_bytes && b->left_bytes - taken >= reserve)
		return 0;
	return err_set(err, EPERM,
		"%" PRIu64 " bytes, of which %" PRIu64 " fit below the memory limit: the node has %" PRIu64
		" left and keeps %" PRIu64 " of that", bytes, taken, b->left_bytes, reserve);
}
