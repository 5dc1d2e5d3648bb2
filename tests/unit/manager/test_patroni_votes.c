#include <criterion/criterion.h>

#include "core/clock.h"
#include "manager/patroni_votes.h"

#define NOW (100 * NS_PER_S)

static bool counted(const uint64_t *ages_ms, const bool *unlocked, size_t n)
{
	uint64_t at_ns[8] = {0};

	for (size_t i = 0; i < n; i++)
		at_ns[i] = ages_ms[i] == UINT64_MAX ? 0 : NOW - ages_ms[i] * NS_PER_MS;
	return patroni_votes_count(at_ns, unlocked, n, NOW);
}

Test(patroni_votes, more_than_half_of_the_fresh_answers)
{
	const uint64_t fresh[] = {0, 100, 2000};
	const bool all[] = {true, true, true}, two[] = {true, false, true}, one[] = {false, true, false};

	cr_assert(counted(fresh, all, 3));
	cr_assert(counted(fresh, two, 3));
	cr_assert_not(counted(fresh, one, 3));
	cr_assert_not(counted(fresh, two, 2), "one of two");
}

Test(patroni_votes, silent_members_have_no_vote)
{
	const uint64_t ages[] = {2001, 10, UINT64_MAX}, silent[] = {UINT64_MAX, 5000, UINT64_MAX};
	const bool unlocked[] = {false, true, false}, all[] = {true, true, true};

	cr_assert(counted(ages, unlocked, 3), "one answers, and says so");
	cr_assert_not(counted(silent, all, 3), "nobody answers");
	cr_assert_not(counted(NULL, NULL, 0));
}
