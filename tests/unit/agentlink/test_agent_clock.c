#include "unit/agentlink/clock_server.h"

TestSuite(agent_clock, .init = clock_set_up, .fini = clock_tear_down, .timeout = 60);

/* How far the mapped time is off; checked against what is stated. */
static uint64_t check_mapping(void)
{
	uint64_t uncertainty, now = now_ns();
	uint64_t mapped = agent_link_to_local_ns(agent, now + (uint64_t)server.ahead_ns, &uncertainty);
	uint64_t off = mapped > now ? mapped - now : now - mapped;

	cr_assert_leq(off, uncertainty);
	return uncertainty;
}

Test(agent_clock, the_shortest_trip_counts)
{
	server.ahead_ns = 3600 * (int64_t)NS_PER_S;
	server.slow_ms = 100;
	server.fast_every = 8;
	measure(8);
	cr_assert_eq(server.asked, 8);
	cr_assert_lt(check_mapping(), 50 * NS_PER_MS, "half of a slow trip or more");
}

/* Clocks drift: what is measured later replaces what was, */
Test(agent_clock, is_measured_again)
{
	server.ahead_ns = -5 * (int64_t)NS_PER_S;
	server.slow_ms = 60;
	measure(2);
	cr_assert_geq(check_mapping(), 30 * NS_PER_MS);
	server.ahead_ns += 20 * (int64_t)NS_PER_MS;
	server.slow_ms = 0;
	measure(4);
	cr_assert_lt(check_mapping(), 20 * NS_PER_MS);
}

/* but not by a trip that tells less than it. */
Test(agent_clock, a_worse_trip_changes_nothing)
{
	uint64_t before, uncertainty;

	server.slow_ms = 0;
	measure(8);
	before = agent_link_to_local_ns(agent, NS_PER_S, &uncertainty);
	server.slow_ms = 200;
	measure(1);
	cr_assert_eq(agent_link_to_local_ns(agent, NS_PER_S, NULL), before);
	cr_assert_eq(check_mapping(), uncertainty);
}

static void on_measured(const struct err *err, void *data)
{
	cr_assert_null(err);
	*(bool *)data = true;
}

/* In the background of a run; and given up when the agent is another one, of whose clock nothing is known. */
Test(agent_clock, in_the_background)
{
	bool done = false, never = false;
	uint64_t end = now_ns() + 20 * NS_PER_S;

	measure(1);
	server.ahead_ns = 7 * (int64_t)NS_PER_S;
	server.slow_ms = 50;
	cr_assert_eq(agent_link_clock_start(agent, 2, on_measured, &never, NULL), 0);
	agent_link_move(agent, "http://127.0.0.1:1");
	agent_link_move(agent, url);
	cr_assert_eq(agent_link_clock_start(agent, 2, on_measured, &done, NULL), 0);
	while (!done && now_ns() < end)
		cr_assert_geq(sd_event_run(event, 100000), 0);
	cr_assert(done && !never);
	check_mapping();
}
