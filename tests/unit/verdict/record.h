/* Records made by hand: a cluster of three and what was seen of it, in milliseconds from its start. */
#pragma once

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"
#include "verdict/verdict.h"

#define START_NS (1000 * NS_PER_S)
#define MS(n)	 (START_NS + (uint64_t)((n) * 1e6))

enum { W_LONG, W_FRESH, R_LONG, W_PG1, W_PG2, W_PG3, N_TEST_CLIENTS };
enum { PG1, PG2, PG3, N_TEST_INSTANCES };

#define T0_MS	 1000.0
#define SLOW_MS	 500.0

static inline struct run_record *record_new(void)
{
	static const char *const names[] = {"lab/pg1", "lab/pg2", "lab/pg3"};
	static const char *const clients[] = {"write-clients", "write-clients-fresh",
		"read-clients", "write-pg1", "write-pg2", "write-pg3"};
	struct run_record *r = run_record_new();

	r->run = strdup("run-test");
	r->drill = strdup("partition-primary");
	r->cluster = strdup("lab");
	r->manager = strdup("patroni");
	r->started_ns = START_NS;
	r->started_realtime_ns = 1700000000 * NS_PER_S;
	r->probe_interval_ns = 10 * NS_PER_MS;
	r->slow_ns = 500 * NS_PER_MS;
	r->poll_interval_ns = 50 * NS_PER_MS;
	r->manager_interval_ns = 100 * NS_PER_MS;
	r->lag_limit_bytes = 1 << 20;
	r->ledger.done = true;
	r->ledger.attempted = r->ledger.ok = 1000;
	r->instances = calloc(N_TEST_INSTANCES, sizeof(*r->instances));
	for (size_t i = 0; i < N_TEST_INSTANCES; i++)
		r->instances[r->n_instances++] = (struct run_instance){
			.name = strdup(names[i]),
			.member = strdup(names[i] + 4),
			.node = strdup("node1"),
			.host = strdup("10.0.0.1"),
			.port = 5432,
			.role_at_start = i ? ROLE_REPLICA : ROLE_PRIMARY,
			.timeline_at_start = 1,
		};
	r->clients = calloc(N_TEST_CLIENTS, sizeof(*r->clients));
	for (size_t i = 0; i < N_TEST_CLIENTS; i++)
		r->clients[r->n_clients++] = (struct probe_client){
			.name = strdup(clients[i]),
			.kind = i == R_LONG ? PROBE_READER : PROBE_WRITER,
			.way = i >= W_PG1 ? WAY_INSTANCE : WAY_CLIENTS,
			.fresh = i == W_FRESH,
			.instance = i >= W_PG1 ? (int)(i - W_PG1) : -1,
			.interval_ns = (i == W_FRESH ? 100 : 10) * NS_PER_MS,
		};
	return r;
}

static inline void attempt(struct run_record *r, uint32_t client, double sent, double done,
	enum outcome outcome, int instance, uint32_t timeline)
{
	struct attempt a = {
		.client = client,
		.sequence = r->n_attempts + 1,
		.sent_ns = MS(sent),
		.done_ns = MS(done),
		.outcome = outcome,
		.instance = (int8_t)instance,
		.timeline = timeline,
	};

	if (outcome != OUTCOME_OK)
		strcpy(a.sqlstate, "08006");
	run_record_add_attempt(r, &a);
}

/* One every step ms, each taking 2 ms. */
static inline void attempts(struct run_record *r, uint32_t client, double from, double to, double step,
	enum outcome outcome, int instance, uint32_t timeline)
{
	for (double t = from; t < to; t += step)
		attempt(r, client, t, t + 2, outcome, instance, timeline);
}

static inline void writes(struct run_record *r, double from, double to, int instance, uint32_t timeline)
{
	attempts(r, W_LONG, from, to, 10, OUTCOME_OK, instance, timeline);
}

static inline void fails(struct run_record *r, double from, double to)
{
	attempts(r, W_LONG, from, to, 50, OUTCOME_FAIL, -1, 0);
}

static inline void reads(struct run_record *r, double from, double to)
{
	attempts(r, R_LONG, from, to, 10, OUTCOME_OK, PG2, 0);
}

enum seen { SEEN_PRIMARY, SEEN_READ_ONLY, SEEN_STREAMING, SEEN_REPLICA, SEEN_GONE };

static inline void seen(struct run_record *r, int instance, double at, enum seen what,
	uint32_t timeline, uint64_t lsn)
{
	struct observation o = {.at_ns = MS(at), .instance = (uint8_t)instance};

	if (what != SEEN_GONE) {
		o.reachable = true;
		o.in_recovery = what == SEEN_STREAMING || what == SEEN_REPLICA;
		o.read_only = o.in_recovery || what == SEEN_READ_ONLY;
		o.streaming = what == SEEN_STREAMING;
		o.timeline = timeline;
		o.lsn = lsn;
	}
	run_record_add_observation(r, &o);
}

static inline void polls(struct run_record *r, int instance, double from, double to, enum seen what,
	uint32_t timeline)
{
	for (double t = from; t < to; t += 50)
		seen(r, instance, t, what, timeline, 1000);
}

static inline struct fault_run *fault(struct run_record *r, int instance, double fired, double reverted,
	uint64_t hits)
{
	struct fault_run *f;
	char id[32];

	r->faults = reallocarray(r->faults, r->n_faults + 1, sizeof(*r->faults));
	snprintf(id, sizeof(id), "run-test-%zu", r->n_faults + 1);
	f = &r->faults[r->n_faults++];
	*f = (struct fault_run){
		.experiment = strdup(id),
		.fault = strdup("net-partition"),
		.mechanism = strdup("tcx"),
		.lifetime = strdup("held"),
		.instance = instance,
		.params = json_object(),
		.evidence = json_object(),
		.armed_ns = MS(fired - 50),
		.fired_ns = MS(fired),
		.reverted_ns = reverted > 0 ? MS(reverted) : 0,
		.fire_duration_ns = 9 * NS_PER_US,
		.hits = hits,
		.verified_clean = reverted > 0,
	};
	return f;
}

static inline void event(struct run_record *r, double at, enum event_kind kind, int instance,
	const char *value, uint32_t timeline)
{
	run_record_add_event(r, MS(at), kind, instance, value, timeline, "%s of %d: %s",
		event_kind_to_string(kind), instance, value ? value : "");
}

static inline void expect(struct run_record *r, const char *key, const char *op, const char *value)
{
	r->expectations = reallocarray(r->expectations, r->n_expectations + 1,
		sizeof(*r->expectations));
	cr_assert_eq(expectation_parse(key, op, value, &r->expectations[r->n_expectations], NULL), 0);
	r->n_expectations++;
}

static inline void ends(struct run_record *r, double at)
{
	r->ended_ns = MS(at);
}

/* The members as the manager says at first. */
static inline void members(struct run_record *r)
{
	event(r, 10, EVENT_LEADER, PG1, "pg1", 1);
	event(r, 10, EVENT_MEMBER, PG1, "running", 1);
	event(r, 10, EVENT_MEMBER, PG2, "streaming", 1);
	event(r, 10, EVENT_MEMBER, PG3, "streaming", 1);
}

/*
 * The primary is cut off at 1 s until 8 s: its writes hang, the manager sees the lock go at 4 s, pg2
 * leads at 4.2 s, is out of recovery at 4.5 s, and takes writes at 4.6 s; pg1 follows at 9 s.
 */
static inline struct run_record *failover(void)
{
	struct run_record *r = record_new();

	members(r);
	writes(r, 0, 1000, PG1, 1);
	attempt(r, W_LONG, 1000, 3000, OUTCOME_UNKNOWN, PG1, 0);
	attempts(r, W_FRESH, 1050, 4600, 100, OUTCOME_FAIL, -1, 0);
	writes(r, 4600, 10500, PG2, 2);
	reads(r, 0, 10500);
	polls(r, PG1, 0, 1000, SEEN_PRIMARY, 1);
	polls(r, PG1, 1000, 8000, SEEN_GONE, 0);
	polls(r, PG1, 8050, 9000, SEEN_REPLICA, 1);
	polls(r, PG1, 9000, 10500, SEEN_STREAMING, 2);
	polls(r, PG2, 5, 4500, SEEN_STREAMING, 1);
	polls(r, PG2, 4500, 10500, SEEN_PRIMARY, 2);
	polls(r, PG3, 5, 4700, SEEN_STREAMING, 1);
	polls(r, PG3, 4700, 10500, SEEN_STREAMING, 2);
	fault(r, PG1, 1000, 8000, 123);
	event(r, 1000, EVENT_FIRED, PG1, "net-partition", 0);
	event(r, 4000, EVENT_LEADER, -1, "none", 0);
	event(r, 4200, EVENT_LEADER, PG2, "pg2", 0);
	event(r, 4500, EVENT_ROLE, PG2, "primary", 2);
	ends(r, 11000);
	return r;
}
