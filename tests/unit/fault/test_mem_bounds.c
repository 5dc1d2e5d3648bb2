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
