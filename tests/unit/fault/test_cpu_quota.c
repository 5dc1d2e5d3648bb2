#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "fault/cpu_quota.h"

#define PERIOD 100000
#define PERCENT 10000ULL

static void chosen(uint64_t now, uint64_t percent, uint64_t processors, uint64_t wanted)
{
	struct cpu_quota q = {now, PERIOD, percent * PERCENT, processors, "/g"};
	_cleanup_err_ struct err *err = NULL;
	uint64_t us = 0;

	cr_assert_eq(cpu_quota_choose(&q, &us, &err), 0, "%s", err_text(err));
	cr_expect_eq(us, wanted);
}

static void refused(uint64_t now, uint64_t percent, uint64_t processors, const char *words)
{
	struct cpu_quota q = {now, PERIOD, percent * PERCENT, processors, "/g"};
	_cleanup_err_ struct err *err = NULL;
	uint64_t us = 7;

	cr_assert_eq(cpu_quota_choose(&q, &us, &err), -EINVAL);
	cr_expect(strstr(err_text(err), words), "%s", err_text(err));
	cr_expect_eq(us, 7);
}

Test(cpu_quota, of_one_processor_and_of_several)
{
	chosen(UINT64_MAX, 5, 1, 5000);
	chosen(UINT64_MAX, 150, 2, 150000);
	chosen(UINT64_MAX, 9900, 100, 9900000);
	chosen(400000, 399, 8, 399000);
}

Test(cpu_quota, what_would_loosen_a_limit_is_refused)
{
	refused(150000, 151, 8, "150000 us of 100000 us already");
	refused(150000, 150, 8, "as strict or stricter");
}

Test(cpu_quota, what_would_limit_nothing_is_refused)
{
	refused(UINT64_MAX, 200, 2, "200% would limit nothing: this node has 2 processors");
	refused(UINT64_MAX, 10000, 8, "less than 800%");
	refused(UINT64_MAX, 100, 1, "1 processor (");
}

Test(cpu_quota, less_than_the_kernel_takes)
{
	struct cpu_quota q = {UINT64_MAX, 50000, PERCENT, 2, "/g"};
	uint64_t us;

	cr_expect_eq(cpu_quota_choose(&q, &us, NULL), -EINVAL);
}
