/*
 * All that a run saw, in one place and in one direction: probes, managers and agents append, the
 * verdict computes from it (a pure function), reports print it. Times are now_ns() of the
 * coordinator. Everything here is also on disk: events.jsonl, ledger, plan.yaml.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "core/json.h"
#include "core/string_table.h"
#include "core/wire.h"

/* One PostgreSQL of the cluster, by its index from here on. */
struct run_instance {
	char *name, *member, *node;
	char *namespace, *pod;	/* in Kubernetes; else NULL */
	char *last_node;	/* where its pod was made anew; NULL: it stayed */
	char *host;
	uint16_t port;
	enum role role_at_start;
	uint32_t timeline_at_start;
};

enum probe_kind { PROBE_WRITER, PROBE_READER, PROBE_KIND_MAX };
DECLARE_STRING_TABLE(probe_kind, enum probe_kind);	/* "writer", "reader" */
enum probe_way { WAY_CLIENTS, WAY_INSTANCE, PROBE_WAY_MAX };
DECLARE_STRING_TABLE(probe_way, enum probe_way);	/* "clients", "instance" */

struct probe_client {
	char *name;		/* "write-clients", "write-clients-fresh", "write-pg1", "read-clients" ... */
	enum probe_kind kind;
	enum probe_way way;
	bool fresh;		/* a new session for every attempt */
	int instance;		/* WAY_INSTANCE: which; else -1 */
	uint64_t interval_ns;
};

enum outcome {
	OUTCOME_OK,		/* acknowledged */
	OUTCOME_FAIL,		/* certainly not done: refused, read-only, never sent */
	OUTCOME_UNKNOWN,	/* sent, no answer, or an answer that leaves it open */
	OUTCOME_MAX,
};
DECLARE_STRING_TABLE(outcome, enum outcome);

/* One write or read. Key: (run, client, sequence). */
struct attempt {
	uint32_t client;	/* index */
	uint64_t sequence;	/* from 1 */
	uint64_t sent_ns;	/* statement sent; for a fresh session its connect began */
	uint64_t done_ns;	/* outcome known (time limit included) */
	enum outcome outcome;
	int8_t instance;	/* that served it; -1: unknown */
	uint32_t timeline;	/* that the server named with the row; 0: unknown */
	char sqlstate[6];	/* of a failure, "" if none */
};

/* State of one instance by SQL, straight to it, on every poll. */
struct observation {
	uint64_t at_ns;
	uint8_t instance;
	bool reachable;		/* else all below is zero */
	bool in_recovery, read_only, streaming;	/* streaming: its WAL receiver streams */
	uint32_t timeline;
	uint64_t lsn;		/* received/replayed or written */
};

enum event_kind {
	EVENT_RUN, EVENT_STEADY, EVENT_STEP, EVENT_ARMED, EVENT_FIRED, EVENT_REVERTED, EVENT_FAULT_ERROR,
	EVENT_LEADER,		/* the manager names another leader, or none */
	EVENT_MEMBER,		/* the manager says something new of a member */
	EVENT_ROLE,		/* an instance entered or left recovery (SQL) */
	EVENT_REACH,		/* an instance (un)reachable by SQL */
	EVENT_STREAMING,	/* a replica's stream began or ended */
	EVENT_WRITES, EVENT_READS,	/* clients' way: fail / work again */
	EVENT_CHOSEN,		/* the manager chose who is to lead: a member, "pending" or "none" */
	EVENT_PHASE,		/* the manager's own word on the cluster: "ok", or "fail" for any other */
	EVENT_READY,		/* Kubernetes holds a pod to be ready: "ok" or "fail" */
	EVENT_POD,		/* a pod: "new", "restarted", "deleting", "gone" */
	EVENT_KUBERNETES,	/* a Kubernetes event of the cluster or its pods; its reason */
	EVENT_ABORT, EVENT_AGENT, EVENT_NOTE,
	EVENT_KIND_MAX,
};
DECLARE_STRING_TABLE(event_kind, enum event_kind);

struct run_event {
	uint64_t at_ns;
	enum event_kind kind;
	int instance;		/* -1: none */
	char *text;		/* one line for people */
	char *value;		/* machine word: "primary", "none", "fail", "ok"; may be NULL */
	uint32_t timeline;
};

struct fault_run {
	char *experiment, *fault, *mechanism, *lifetime, *step;
	int instance;
	cJSON *params;
	char **peers_resolved;
	uint64_t armed_ns, fired_ns, reverted_ns;	/* mapped; 0: never */
	uint64_t fired_uncertainty_ns;
	uint64_t fire_duration_ns;
	uint64_t hits;
	cJSON *evidence;
	bool verified_clean;
	bool may_miss;		/* the drill does not fail when it hit nothing */
	bool target_gone;	/* its instance ended before its time, and it with it */
	char *error;
};

struct ledger_check {		/* after the heal */
	bool done;
	char *error;		/* why it could not be done */
	uint64_t attempted, ok, failed, unknown, found;
	uint64_t lost, recovered, unexpected;
	/* The first 100 lost keys: client index and sequence. */
	struct lost_key {
		uint32_t client;
		uint64_t sequence;
	} *lost_keys;
	size_t n_lost_keys;
};

enum run_verdict {
	VERDICT_PASSED, VERDICT_FAILED, VERDICT_REFUSED, VERDICT_ABORTED, VERDICT_STUCK,
	VERDICT_MAX
};
DECLARE_STRING_TABLE(run_verdict, enum run_verdict);

struct run_record {
	char *run, *drill, *drill_summary, *cluster, *manager;
	char *expected_behaviour;	/* the drill's words on what is right */
	uint64_t started_ns, ended_ns;
	uint64_t started_realtime_ns;	/* for people alone */
	uint64_t probe_interval_ns, slow_ns, poll_interval_ns, manager_interval_ns;
	uint64_t lag_limit_bytes;
	bool synchronous;		/* commits wait for a replica */
	enum run_verdict ended_as;	/* REFUSED/ABORTED/STUCK if the run ended so; else PASSED */
	char *ended_why;
	char *steps_failed;	/* a wait that reached its limit: fails the drill; NULL: none */

	struct run_instance *instances;
	size_t n_instances;
	struct probe_client *clients;
	size_t n_clients;
	struct attempt *attempts;	/* in order of done_ns */
	size_t n_attempts, attempts_capacity;
	struct observation *observations;
	size_t n_observations, observations_capacity;
	struct run_event *events;
	size_t n_events, events_capacity;
	struct fault_run *faults;
	size_t n_faults;
	struct ledger_check ledger;
	/* From the drill; core of the verdict. Parsed by verdict/expectation.h. */
	struct expectation *expectations;
	size_t n_expectations;
};

struct run_record *run_record_new(void);
void run_record_free(struct run_record *r);
DEFINE_CLEANUP(struct run_record, run_record_free)

void run_record_add_attempt(struct run_record *r, const struct attempt *a);
void run_record_add_observation(struct run_record *r, const struct observation *o);
/* Copies text and value. Keeps order of adding. */
struct run_event *run_record_add_event(struct run_record *r, uint64_t at_ns, enum event_kind kind,
	int instance, const char *value, uint32_t timeline, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));
/* Index, or -1. */
int run_record_find_instance(const struct run_record *r, const char *name);

/* For one that ended with its instance: what happened, and when. Else NULL. Caller frees. */
char *fault_run_words(const struct run_record *r, const struct fault_run *f);

/* Where its pod is now: the report tells where it began and where it was last. */
void run_instance_is_on(struct run_instance *n, const char *node);
