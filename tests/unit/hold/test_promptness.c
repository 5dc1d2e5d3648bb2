#include <criterion/criterion.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/clock.h"
#include "hold/promptness.h"

static struct promptness p;

static void passes(unsigned n)
{
	while (n--)
		promptness_pass(&p, now_ns());
}

/* As if it had waited for an hour since it was looked at. */
static void waits(void)
{
	p.waited_ns -= 3600 * NS_PER_S;
}

static void start(void)
{
	promptness_init(&p, "pj-prompt");
	if (sched_getscheduler(0) != SCHED_FIFO || p.stat_fd < 0)
		cr_skip_test("no real-time threads here, or no schedstat");
}

Test(promptness, is_real_time_while_something_is_held)
{
	start();
	passes(PROMPT_PASSED_ENOUGH - 1);
	cr_expect_eq(sched_getscheduler(0), SCHED_FIFO, "so few say nothing");
	passes(1);
	if (p.stat_fd < 0)
		cr_skip_test("this kernel does not count waiting");
	cr_expect_eq(sched_getscheduler(0), SCHED_OTHER);
	promptness_hold(&p);
	cr_expect_eq(sched_getscheduler(0), SCHED_FIFO);
	passes(PROMPT_PASSED_ENOUGH - 1);
	promptness_hold(&p);
	passes(PROMPT_PASSED_ENOUGH - 1);
	cr_expect_eq(sched_getscheduler(0), SCHED_FIFO);
	passes(1);
	cr_expect_eq(sched_getscheduler(0), SCHED_OTHER);
	promptness_done(&p);
}

Test(promptness, is_real_time_for_a_while_after_it_was_kept_waiting)
{
	uint64_t now;

	start();
	passes(PROMPT_PASSED_ENOUGH);
	if (p.stat_fd < 0)
		cr_skip_test("this kernel does not count waiting");
	cr_assert_eq(sched_getscheduler(0), SCHED_OTHER);
	waits();
	now = p.checked_ns + 20 * NS_PER_MS;
	promptness_pass(&p, now);
	cr_expect_eq(sched_getscheduler(0), SCHED_FIFO);
	for (int i = 0; i < 2 * PROMPT_PASSED_ENOUGH; i++)
		promptness_pass(&p, now + NS_PER_S);
	cr_expect_eq(sched_getscheduler(0), SCHED_FIFO, "not so soon");
	promptness_pass(&p, now + 3 * NS_PER_S);
	cr_expect_eq(sched_getscheduler(0), SCHED_OTHER, "tried again");
	promptness_done(&p);
}

Test(promptness, spins_while_nobody_waits)
{
	uint64_t now;

	start();
	passes(PROMPT_PASSED_ENOUGH);
	if (p.stat_fd < 0)
		cr_skip_test("this kernel does not count waiting");
	cr_expect_not(promptness_spins(&p), "nothing is known yet");
	p.waited_ns = p.turns = 0;	/* as if it had waited a little, many times */
	p.turns -= 1000000000;
	now = p.checked_ns + 20 * NS_PER_MS;
	promptness_pass(&p, now);
	cr_assert_eq(p.level, PROMPT_SPINNING);
	cr_expect_eq(getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)), 0, "no more than its share");
	cr_expect(promptness_spins(&p));
	promptness_spun(&p, false);
	cr_expect_not(promptness_spins(&p), "in vain: the next is not looked for");
	cr_expect(promptness_spins(&p));
	promptness_spun(&p, false);
	cr_expect_not(promptness_spins(&p) || promptness_spins(&p));
	cr_expect(promptness_spins(&p));
	promptness_spun(&p, true);
	cr_expect(promptness_spins(&p));
	waits();
	promptness_pass(&p, now + 20 * NS_PER_MS);
	cr_expect_eq(p.level, PROMPT_ORDINARY);
	cr_expect_not(promptness_spins(&p));
	cr_expect_eq(getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)), -20);
	promptness_hold(&p);
	cr_expect_eq(sched_getscheduler(0), SCHED_FIFO);
	cr_expect_not(promptness_spins(&p));
	promptness_done(&p);
}

Test(promptness, reads_a_schedstat)
{
	uint64_t waited = 1, turns = 2;

	cr_expect(promptness_parse("123456 789 42\n", &waited, &turns));
	cr_expect_eq(waited, 789);
	cr_expect_eq(turns, 42);
	cr_expect_not(promptness_parse("", &waited, &turns));
	cr_expect_not(promptness_parse("12 x 4", &waited, &turns));
	cr_expect_not(promptness_parse("12 13", &waited, &turns));
	cr_expect_eq(waited, 789);
}
