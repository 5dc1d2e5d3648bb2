/*
 * The probes: writers and readers that watch a cluster as its clients do, by asynchronous libpq on
 * the loop. Fresh and long-lived sessions; through the clients' way (multi-host,
 * target_session_attrs=read-write) and straight to each instance. Attempts go to the ledger before
 * they are sent and when their outcome is known, and to the run's record.
 */
#pragma once

#include <systemd/sd-event.h>
#include "core/err.h"
#include "run/run_record.h"

struct probes;
struct ledger;

struct pg_login;

/* A Service that clients take, in Kubernetes. */
struct probe_service {
	const char *host;		/* NAME.NAMESPACE.svc; NULL: there is none */
	const char *address;		/* its ClusterIP: no name service is needed to get there */
	uint16_t port;
};

struct probe_options {
	const char *conninfo;		/* extra libpq settings; NULL: the environment alone */
	const struct pg_login *login;	/* NULL: as libpq finds it */
	/* The clients' and the readers' way where the settings name no host. */
	struct probe_service write_service, read_service;
	uint64_t interval_ns;		/* long-lived sessions; default 10 ms */
	uint64_t fresh_interval_ns;	/* default 100 ms */
	uint64_t poll_interval_ns;	/* state of each instance; default 50 ms */
	uint64_t statement_timeout_ns;	/* outcome UNKNOWN after it; default 2 s */
	uint64_t connect_timeout_ns;	/* a host; default 1 s */
	bool keep;			/* leave the schema in place */
	bool straight;			/* also straight to each instance (default) */
};

/* Called from the loop; each may be NULL. */
struct probe_listener {
	/* As it is added to the record. */
	void (*attempt)(const struct attempt *a, void *data);
	void (*observation)(const struct observation *o, void *data);
	/* The ledger takes no more (disk full): probing has stopped, the run must abort. Once. */
	void (*failed)(const struct err *err, void *data);
	void *data;
};

/*
 * Events that the probes add to the record (definitions: docs/measuring.md):
 *   EVENT_WRITES, EVENT_READS  value "fail" or "ok", by client of the clients' way
 *   EVENT_REACH, EVENT_STREAMING  value "ok" or "fail"   EVENT_ROLE  value "primary" or "replica"
 * A zero in probe_options stands for the default.
 */

/* Schema pgjolt_probe in the database, table ledger (run, client, sequence) primary key, made
 * through the clients' way. Runs the loop. Fails with libpq's words, never with a password. */
int probes_prepare(sd_event *event, struct run_record *record, const struct probe_options *o,
	struct err **err);
/* folder: where the ledger file goes. Clients are added to the record, and the intervals where it has
 * none. On failure the schema is removed unless keep. May run the loop. */
int probes_start(sd_event *event, struct run_record *record, const struct probe_options *o,
	const char *folder, const struct probe_listener *listener, struct probes **ret,
	struct err **err);
/* The instance is at this address (numeric) from now on: sessions that are open stay, new ones go there. */
void probes_move(struct probes *p, size_t instance, const char *address);
/* No new attempts; runs the loop until those under way have ended, at most statement_timeout. What is
 * left is UNKNOWN if it was sent. Then the ledger is synced and closed. */
void probes_stop(struct probes *p);
/* After the heal: reads the ledger's rows back through the clients' way and compares: fills
 * record->ledger. Removes the schema unless keep. Runs the loop, at most about 30 s when no primary
 * answers. On failure record->ledger.done says whether the comparison itself was made. */
int probes_check(struct probes *p, struct err **err);
/* What is waited for now or later is given up: statements under way are unknown, the ledger is not
 * checked (-ECANCELED). Callable from within the loop. */
void probes_hurry(struct probes *p);
void probes_free(struct probes *p);
