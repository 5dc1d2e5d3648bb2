/*
 * What all parts of the probes share, and the blocking face of a session that prepare and check use:
 * it runs the loop until its answer is there.
 */
#pragma once

#include "probe/ledger.h"
#include "probe/pg_session.h"
#include "probe/probe.h"

struct probe_context {
	sd_event *event;
	struct run_record *record;	/* borrowed */
	struct probe_options options;	/* defaults filled in; conninfo is gone */
	struct probe_listener listener;
	struct pg_settings *settings;
	struct pg_endpoints *endpoints;	/* [0]: the clients' way; [1 + i]: instance i; last: the readers' */
	size_t n_endpoints;
	bool all_instances;		/* the clients' way is the list of them */
	struct resolver *resolver;
	char application_name[64];	/* longer ones are cut by the server */
	bool hurry;			/* probes_hurry() */
	struct ledger *ledger;		/* while the probes run */
	bool *writable;			/* instance i, when last seen */
	uint64_t abandoned_ns;		/* a statement was given up last at */
	bool stopping;
};

int probe_context_new(sd_event *event, struct run_record *record, const struct probe_options *o,
	struct probe_context **ret, struct err **err);
void probe_context_free(struct probe_context *c);
DEFINE_CLEANUP(struct probe_context, probe_context_free)

static inline const struct pg_endpoints *probe_clients_way(const struct probe_context *c)
{
	return &c->endpoints[0];
}

/* Where they have none of their own, readers go the clients' way. */
static inline const struct pg_endpoints *probe_readers_way(const struct probe_context *c)
{
	const struct pg_endpoints *own = &c->endpoints[c->n_endpoints - 1];

	return own->count ? own : probe_clients_way(c);
}

static inline const struct pg_endpoints *probe_straight(const struct probe_context *c, size_t i)
{
	return &c->endpoints[1 + i];
}

/* Filled for a session of this context; caller sets what differs. */
struct pg_session_config probe_session_config(const struct probe_context *c);

struct sql;

/* Connects at the first sql_run(). */
int sql_new(struct probe_context *c, const struct pg_endpoints *endpoints, enum session_wish wish,
	struct sql **ret, struct err **err);
void sql_free(struct sql *s);
DEFINE_CLEANUP(struct sql, sql_free)
/* One statement, connecting first where needed. *ret (may be NULL) is valid until the next call.
 * -EACCES: no privilege or refused login; -ETIMEDOUT; -ENOENT: no such table or schema;
 * -ECONNREFUSED: no host took us; else -EIO. */
int sql_run(struct sql *s, const char *text, int n, const char *const *values,
	const PGresult **ret, struct err **err);
/* The first field of the first row, or "". */
const char *sql_first(const PGresult *result);
