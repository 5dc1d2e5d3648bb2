#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "fault/mem_bounds.h"

#define GIB (1ULL << 30)

static void expect(uint64_t bytes, struct mem_bounds b, int wanted, const char *words)
{
	_cleanup_err_ struct err *err = NULL;

	cr_expect_eq(mem_check(bytes, &b, &err), wanted, "%llu: %s", (unsigned long long)bytes, err_text(err));
	if (words)
		cr_expect(strstr(err_text(err), words), "%s", err_text(err));
}

Test(mem_bounds, without_a_limit_half_of_what_is_left)
{
	struct mem_bounds b = {.left_bytes = 16 * GIB};

	expect(8 * GIB, b, 0, NULL);
	expect(8 * GIB + 1, b, -EPERM, "half of that is the most");
}

/* The limit ends it, so more than half of the node may be asked for. */
Test(mem_bounds, a_limit_above_half_of_what_is_left)
{
	struct mem_bounds b = {.has_limit = true, .room_bytes = 12 * GIB, .left_bytes = 16 * GIB};

	expect(10 * GIB, b, 0, NULL);
	expect(12 * GIB, b, 0, NULL);
	expect(100 * GIB, b, 0, NULL);
}

Test(mem_bounds, a_limit_that_would_leave_the_node_nothing)
{
	struct mem_bounds b = {.has_limit = true, .room_bytes = 15 * GIB, .left_bytes = 16 * GIB};

	expect(14 * GIB, b, 0, NULL);
	expect(14 * GIB + 1, b, -EPERM, "keeps 2147483648");
	expect(100 * GIB, b, -EPERM, "of which 16106127360 fit");
	b.room_bytes = 100 * GIB;
	expect(17 * GIB, b, -EPERM, "the node has 17179869184 left");
}

Test(mem_bounds, a_small_node_keeps_256_mib)
{
	struct mem_bounds b = {.has_limit = true, .room_bytes = GIB, .left_bytes = GIB};

	cr_expect_eq(mem_reserve(GIB), GIB / 4);
	expect(GIB / 4 * 3, b, 0, NULL);
	expect(GIB / 4 * 3 + 4096, b, -EPERM, NULL);
	b.left_bytes = 0;
	expect(4096, b, -EPERM, NULL);
}

Test(mem_bounds, a_group_that_is_full)
{
	struct mem_bounds b = {.has_limit = true, .left_bytes = GIB};

	expect(GIB, b, 0, NULL);
}

static uint64_t held(const void *owner)
{
	return *(const uint64_t *)owner;
}

/* Two at once see the same MemAvailable until the first holds what it takes. */
Test(mem_bounds, what_is_claimed_is_not_left_for_another)
{
	uint64_t first_held = 0, second_held = 0;
	struct mem_claim first = {.bytes = 14 * GIB, .held = held, .owner = &first_held};
	struct mem_claim second = {.bytes = GIB, .held = held, .owner = &second_held};
	struct mem_bounds b = {.has_limit = true, .room_bytes = 14 * GIB};

	cr_expect_eq(mem_claimed(NULL), 0);
	mem_claim_add(&first);
	b.left_bytes = mem_unclaimed(16 * GIB, mem_claimed(&second));
	cr_expect_eq(b.left_bytes, 2 * GIB);
	expect(14 * GIB, b, -EPERM, NULL);
	expect(GIB, b, 0, NULL);
	mem_claim_add(&second);
	cr_expect_eq(mem_claimed(NULL), 15 * GIB);
	cr_expect_eq(mem_claimed(&first), GIB, "its own is not counted against it");
	first_held = 10 * GIB;
	cr_expect_eq(mem_claimed(NULL), 5 * GIB, "what is held, MemAvailable knows");
	first_held = 15 * GIB;
	cr_expect_eq(mem_claimed(NULL), GIB, "more than was claimed");
	mem_claim_drop(&first);
	mem_claim_drop(&first);
	cr_expect_eq(mem_claimed(NULL), GIB);
	mem_claim_drop(&second);
	cr_expect_eq(mem_claimed(NULL), 0);
}

Test(mem_bounds, claims_do_not_wrap)
{
	uint64_t nothing = 0;
	struct mem_claim a = {.bytes = UINT64_MAX, .held = held, .owner = &nothing}, b = a;

	mem_claim_add(&a);
	mem_claim_add(&b);
	cr_expect_eq(mem_claimed(NULL), UINT64_MAX);
	cr_expect_eq(mem_unclaimed(GIB, UINT64_MAX), 0);
	cr_expect_eq(mem_unclaimed(GIB, 1), GIB - 1);
}

Test(mem_bounds, whole_pages_below_the_limit)
{
	cr_expect_eq(mem_whole_pages(1, UINT64_MAX), 4096);
	cr_expect_eq(mem_whole_pages(4096, UINT64_MAX), 4096);
	cr_expect_eq(mem_whole_pages(4097, UINT64_MAX), 8192);
	cr_expect_eq(mem_whole_pages(UINT64_MAX, UINT64_MAX), UINT64_MAX - 4095);
	cr_expect_eq(mem_whole_pages(UINT64_MAX - 4094, UINT64_MAX), UINT64_MAX - 4095);
	cr_expect_eq(mem_whole_pages(UINT64_MAX, GIB), GIB);
	cr_expect_eq(mem_whole_pages(GIB - 1, 2 * GIB), GIB);
}
