#include "fault/mem_bounds.h"

#include <errno.h>
#include <inttypes.h>

#define NODE_SHARE    2
#define RESERVE_SHARE 8
#define RESERVE_LEAST (256ULL << 20)
#define PAGE_MASK     4095ULL

static struct mem_claim *claims;

void mem_claim_add(struct mem_claim *c)
{
	c->next = claims;
	claims = c;
}

void mem_claim_drop(const struct mem_claim *c)
{
	for (struct mem_claim **at = &claims; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			return;
		}
}

static uint64_t add_up(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t mem_claimed(const struct mem_claim *but)
{
	uint64_t sum = 0;

	for (const struct mem_claim *c = claims; c; c = c->next) {
		uint64_t held = c == but ? c->bytes : c->held(c->owner);

		sum = add_up(sum, mem_unclaimed(c->bytes, held));
	}
	return sum;
}

uint64_t mem_unclaimed(uint64_t left_bytes, uint64_t claimed_bytes)
{
	return left_bytes > claimed_bytes ? left_bytes - claimed_bytes : 0;
}

uint64_t mem_whole_pages(uint64_t bytes, uint64_t limit_bytes)
{
	if (bytes > limit_bytes)
		bytes = limit_bytes;
	return bytes > UINT64_MAX - PAGE_MASK ? bytes & ~PAGE_MASK : (bytes + PAGE_MASK) & ~PAGE_MASK;
}

uint64_t mem_taken(uint64_t bytes, const struct mem_bounds *b)
{
	return b->has_limit && bytes > b->room_bytes ? b->room_bytes : bytes;
}

uint64_t mem_reserve(uint64_t left_bytes)
{
	uint64_t share = left_bytes / RESERVE_SHARE;

	return share > RESERVE_LEAST ? share : RESERVE_LEAST;
}

int mem_check(uint64_t bytes, const struct mem_bounds *b, struct err **err)
{
	uint64_t reserve = mem_reserve(b->left_bytes), taken = mem_taken(bytes, b);

	if (!b->has_limit) {
		if (bytes <= b->left_bytes / NODE_SHARE)
			return 0;
		return err_set(err, EPERM,
			"%" PRIu64 " bytes without a memory limit: the node has %" PRIu64
			" left, and half of that is the most", bytes, b->left_bytes);
	}
	if (taken <= b->left_bytes && b->left_bytes - taken >= reserve)
		return 0;
	return err_set(err, EPERM,
		"%" PRIu64 " bytes, of which %" PRIu64 " fit below the memory limit: the node has %" PRIu64
		" left and keeps %" PRIu64 " of that", bytes, taken, b->left_bytes, reserve);
}
