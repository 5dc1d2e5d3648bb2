/* What is waited for, from what was seen last. */
#include "fake.h"

#include "core/clock.h"

static struct run_instance instances[] = {{.name = "lab/pg1"}, {.name = "lab/pg2"}, {.name = "lab/pg3"}};
static struct drill drill = {.steady_lag_bytes = 1000};
static struct run_record record = {.instances = instances, .n_instances = 3, .cluster = "lab",
	.manager = "fake"};
static struct observation seen[3];
static struct run run;

/* pg1 was the primary on timeline 1 when the fault fired, 10 ms ago; all is well. */
static void set_up(void)
{
	uint64_t now = now_ns();

	run = (struct run){.drill = &drill, .record = &record, .seen = seen, .primary_at_fire = 0,
		.timeline_at_fire = 1, .fired_ns = now - 10 * NS_PER_MS, .cluster = fake_cluster()};
	for (uint8_t i = 0; i < 3; i++)
		seen[i] = (struct observation){.at_ns = now, .instance = i, .reachable = true,
			.in_recovery = i > 0, .streaming = i > 0, .timeline = 1, .lsn = 5000};
}

static void tear_down(void)
{
	cluster_done(&run.cluster);
}

TestSuite(conditions, .init = set_up, .fini = tear_down);

Test(conditions, promoted)
{
	cr_assert(!run_condition(&run, WAIT_PROMOTED, 0));
	seen[1].in_recovery = false;
	cr_assert(!run_condition(&run, WAIT_PROMOTED, 0), "out of recovery on the old timeline");
	seen[1].timeline = 2;
	cr_assert(run_condition(&run, WAIT_PROMOTED, 0));
	seen[1].at_ns = run.fired_ns - 1;
	cr_assert(!run_condition(&run, WAIT_PROMOTED, 0), "seen before the fault");
	seen[1].at_ns = now_ns();
	seen[1].reachable = false;
	cr_assert(!run_condition(&run, WAIT_PROMOTED, 0), "nobody answered");
	/* The old primary itself does not count. */
	seen[0].timeline = 2;
	cr_assert(!run_condition(&run, WAIT_PROMOTED, 0));
	/* Before the first fault nobody succeeded anybody. */
	run.primary_at_fire = -1;
	run.fired_ns = 0;
	run.timeline_at_fire = 0;
	cr_assert(!run_condition(&run, WAIT_PROMOTED, 0));
}

Test(conditions, demoted)
{
	cr_assert(!run_condition(&run, WAIT_DEMOTED, 0));
	seen[0].read_only = true;
	cr_assert(run_condition(&run, WAIT_DEMOTED, 0));
	seen[0].read_only = false;
	seen[0].in_recovery = true;
	cr_assert(run_condition(&run, WAIT_DEMOTED, 0));
	/* Out of reach: then the manager's word, if it is newer than the fault. */
	seen[0] = (struct observation){.at_ns = now_ns()};
	cr_assert(!run_condition(&run, WAIT_DEMOTED, 0));
	fake_view(&run.cluster, "pg2");
	cr_assert(!run_condition(&run, WAIT_DEMOTED, 0), "an old view");
	run.cluster.view->at_ns = now_ns();
	cr_assert(run_condition(&run, WAIT_DEMOTED, 0));
	fake_view(&run.cluster, "pg1");
	run.cluster.view->at_ns = now_ns();
	cr_assert(!run_condition(&run, WAIT_DEMOTED, 0));
	run.primary_at_fire = -1;
	cr_assert(!run_condition(&run, WAIT_DEMOTED, 0));
}

static void not_streaming(const char *why)
{
	_cleanup_free_ char *said = NULL;

	cr_assert(!run_streaming(&run, &said), "wanted: %s", why);
	cr_assert_not_null(said);
	cr_assert_str_eq(said, why);
}

Test(conditions, streaming)
{
	cr_assert(run_condition(&run, WAIT_STREAMING, 0));
	seen[2].streaming = false;
	not_streaming("lab/pg3 does not stream");
	seen[2].streaming = true;
	seen[2].lsn = 4000;
	cr_assert(run_streaming(&run, NULL), "just at the limit");
	seen[2].lsn = 3999;
	not_streaming("lab/pg3 lags");
	seen[2].lsn = 6000;
	cr_assert(run_streaming(&run, NULL), "seen later than the primary");
	seen[2].timeline = 2;
	not_streaming("lab/pg3 is on another timeline");
	seen[2].timeline = 0;
	cr_assert(run_streaming(&run, NULL), "a timeline that is not known");
	seen[2].reachable = false;
	not_streaming("lab/pg3 does not answer");
	seen[2].reachable = true;
	seen[2].at_ns = now_ns() - 2 * NS_PER_S;
	not_streaming("lab/pg3 does not answer");
	seen[2].at_ns = now_ns();
	fake_view(&run.cluster, NULL);
	not_streaming("fake names no leader");
	fake_view(&run.cluster, "pg1");
	cr_assert(run_streaming(&run, NULL));
	seen[1].in_recovery = false;
	not_streaming("lab has not exactly one primary that answers");
	seen[1].in_recovery = true;
	seen[0].reachable = false;
	not_streaming("lab has not exactly one primary that answers");
}

Test(conditions, lag)
{
	cr_assert_eq(run_lag_bytes(&run), 0);
	seen[1].lsn = 4990;
	seen[2].lsn = 4000;
	cr_assert_eq(run_lag_bytes(&run), 1000);
	seen[2] = (struct observation){.at_ns = now_ns()};
	cr_assert_eq(run_lag_bytes(&run), 10, "one that does not answer has no lag that is known");
	seen[0] = (struct observation){0};
	cr_assert_eq(run_lag_bytes(&run), 0);
}

Test(conditions, clients)
{
	uint64_t since = now_ns();

	cr_assert(!run_condition(&run, WAIT_WRITES, since));
	cr_assert(!run_condition(&run, WAIT_READS, since));
	run.write_ok_ns = run.read_ok_ns = since;
	cr_assert(run_condition(&run, WAIT_WRITES, since));
	cr_assert(run_condition(&run, WAIT_READS, since));
	run.write_failing = true;
	cr_assert(!run_condition(&run, WAIT_WRITES, since));
	cr_assert(!run_condition(&run, WAIT_TIME, since), "time is the step's own");
}

Test(conditions, reverted)
{
	struct run_experiment a = {.ended = true}, b = {.ended = false}, *both[] = {&a, &b};

	cr_assert(run_condition(&run, WAIT_REVERTED, 0));
	run.experiments = both;
	run.n_experiments = 2;
	cr_assert(!run_condition(&run, WAIT_REVERTED, 0));
	b.ended = true;
	cr_assert(run_condition(&run, WAIT_REVERTED, 0));
}
