/* What an agent tells goes into the record, its times mapped when they were first told: clocks drift. */
#include "run/run.h"
#include "unit/agentlink/clock_server.h"

TestSuite(take_info, .init = clock_set_up, .fini = clock_tear_down, .timeout = 60);

static struct run_experiment experiment;
static struct run_experiment *experiments[] = {&experiment};
static struct run run = {.experiments = experiments, .n_experiments = 1, .primary_at_fire = -1};

static void make_run(void)
{
	run.record = run_record_new();
	run.record->instances = calloc(1, sizeof(*run.record->instances));
	run.record->instances[0].name = strdup("c/pg1");
	run.record->n_instances = 1;
	run.record->faults = calloc(1, sizeof(*run.record->faults));
	run.record->faults[0] = (struct fault_run){.experiment = strdup("x-1"), .fault = strdup("proc-kill")};
	run.record->n_faults = 1;
	experiment = (struct run_experiment){.id = (char *)"x-1", .link = agent};
}

Test(take_info, times_are_mapped_once)
{
	struct fault_run *f;
	struct experiment_info info = {.state = EXPERIMENT_ACTIVE};
	uint64_t fired, uncertainty;

	make_run();
	f = &run.record->faults[0];
	server.slow_ms = 60;
	measure(1);
	info.armed_ns = info.fired_ns = now_ns();
	run_take_info(&run, &experiment, &info);
	fired = f->fired_ns;
	uncertainty = f->fired_uncertainty_ns;
	cr_assert_eq(f->armed_ns, fired);
	cr_assert_geq(uncertainty, 30 * NS_PER_MS);
	/* The agent's clock went ahead since, which is found out. */
	server.ahead_ns = NS_PER_S;
	server.slow_ms = 0;
	measure(4);
	info.reverted_ns = info.fired_ns + 3 * NS_PER_S;
	info.state = EXPERIMENT_CLEAN;
	info.end_reason = END_DURATION;
	run_take_info(&run, &experiment, &info);
	cr_assert_eq(f->fired_ns, fired);
	cr_assert_eq(f->fired_uncertainty_ns, uncertainty);
	cr_assert_geq(f->reverted_ns - fired, 2 * NS_PER_S - 100 * NS_PER_MS);
	cr_assert_leq(f->reverted_ns - fired, 2 * NS_PER_S + 100 * NS_PER_MS);
	cr_assert(experiment.ended && !run.abort_why);
	run_record_free(run.record);
}

/* A fault that was cut short is not the drill's. */
Test(take_info, lease_ended)
{
	struct experiment_info info = {.state = EXPERIMENT_ACTIVE};

	make_run();
	measure(1);
	info.fired_ns = now_ns();
	run_take_info(&run, &experiment, &info);
	info.state = EXPERIMENT_CLEAN;
	info.end_reason = END_LEASE;
	info.verified_clean = true;
	info.reverted_ns = now_ns();
	run_take_info(&run, &experiment, &info);
	cr_assert(run.abort_why && strstr(run.abort_why, "before its time"), "%s", run.abort_why);
	cr_assert(!run_may_be_left(&experiment));
	free(run.abort_why);
	run_record_free(run.record);
}

/* What was fired and ended with its instance is told and ends nothing. */
Test(take_info, target_gone)
{
	struct experiment_info info = {.state = EXPERIMENT_ACTIVE};
	const struct run_event *note;

	make_run();
	measure(1);
	info.fired_ns = now_ns();
	run_take_info(&run, &experiment, &info);
	info.state = EXPERIMENT_CLEAN;
	info.end_reason = END_TARGET_GONE;
	info.verified_clean = true;
	info.reverted_ns = info.fired_ns + 3200 * NS_PER_MS;
	run_take_info(&run, &experiment, &info);
	cr_assert_null(run.abort_why, "%s", run.abort_why);
	cr_assert(experiment.ended && run.record->faults[0].target_gone);
	note = &run.record->events[run.record->n_events - 1];
	cr_assert_eq(note->kind, EVENT_NOTE);
	cr_assert_str_eq(note->value, "target-gone");
	cr_assert_str_eq(note->text, "c/pg1 ended, and proc-kill on it with it, 3.20 s after it was fired");
	run_record_free(run.record);
}

/* One that waits for its fire will never be fired. */
Test(take_info, target_gone_while_armed)
{
	struct experiment_info info = {.state = EXPERIMENT_ARMED};

	make_run();
	measure(1);
	info.armed_ns = now_ns();
	run_take_info(&run, &experiment, &info);
	info.state = EXPERIMENT_CLEAN;
	info.end_reason = END_TARGET_GONE;
	info.verified_clean = true;
	info.reverted_ns = now_ns();
	run_take_info(&run, &experiment, &info);
	cr_assert_not_null(run.abort_why);
	cr_assert_str_eq(run.abort_why, "proc-kill could not be fired: c/pg1 ended while it was armed");
	free(run.abort_why);
	run_record_free(run.record);
}

/* A successor knows of its journal alone: what was told before stays, and the run ends. */
Test(take_info, from_a_successor)
{
	struct fault_run *f;
	struct experiment_info info = {.state = EXPERIMENT_ACTIVE, .hits = 7, .mechanism = (char *)"cgroup",
		.lifetime = (char *)"journaled"};
	struct experiment_info later = {.state = EXPERIMENT_CLEAN, .end_reason = END_REPLAY, .verified_clean = true};

	make_run();
	f = &run.record->faults[0];
	measure(1);
	info.fired_ns = now_ns();
	run_take_info(&run, &experiment, &info);
	run_take_info(&run, &experiment, &later);
	cr_assert(f->hits == 7 && f->fired_ns && f->verified_clean);
	cr_assert_str_eq(f->mechanism, "cgroup");
	cr_assert_str_eq(f->lifetime, "journaled");
	cr_assert(experiment.ended && !run_may_be_left(&experiment));
	cr_assert_not_null(run.abort_why);
	free(run.abort_why);
	run_record_free(run.record);
}
