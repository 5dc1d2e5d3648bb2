#include <criterion/criterion.h>
#include "fault/share.h"

Test(share, sizes)
{
	int list[10] = {0};

	cr_expect_eq(share_pick(list, 10, sizeof(*list), 1000000, 0), 10);
	cr_expect_eq(share_pick(list, 10, sizeof(*list), 250000, 0), 3);
	cr_expect_eq(share_pick(list, 10, sizeof(*list), 1, 0), 1);
	cr_expect_eq(share_pick(list, 10, sizeof(*list), 1000000, 4), 4);
	cr_expect_eq(share_pick(list, 10, sizeof(*list), 100000, 4), 1);
	cr_expect_eq(share_pick(list, 0, sizeof(*list), 1000000, 4), 0);
}

/* Each of them is picked once in a while, none is lost and none comes twice. */
Test(share, at_random)
{
	unsigned picked[10] = {0};

	for (int round = 0; round < 2000; round++) {
		int list[10], seen = 0;

		for (int i = 0; i < 10; i++)
			list[i] = i;
		cr_assert_eq(share_pick(list, 10, sizeof(*list), 300000, 0), 3);
		for (int i = 0; i < 10; i++)
			seen |= 1 << list[i];
		cr_assert_eq(seen, 1023);
		for (int i = 0; i < 3; i++)
			picked[list[i]]++;
	}
	for (int i = 0; i < 10; i++)
		cr_expect(picked[i] > 450 && picked[i] < 750, "%d: %u", i, picked[i]);
}
