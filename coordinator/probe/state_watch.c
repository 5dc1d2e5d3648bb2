#include "probe/state_watch.h"

#include <stdlib.h>
#include <string.h>
#include "core/clock.h"

#define WATCH_TIMEOUT_NS NS_PER_S
#define SWEEP_EVERY_NS	 NS_PER_S
/* A sweep may come just before the server's own view of the time limit. */
#define SWEEP_AFTER_NS	 (3 * NS_PER_S)

/*
 * What a role without pg_read_all_stats cannot see of pg_stat_wal_receiver is NULL, but the row is
 * there while the receiver streams; the timeline then comes from the control file.
 */
static const char state_sql[] =
	"SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', "
	"CASE WHEN pg_is_in_recovery() "
	"THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) "
	"ELSE pg_current_wal_lsn() END, "
	"CASE WHEN pg_is_in_recovery() "
	"THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), "
	"(SELECT min_recovery_end_timeline FROM pg_control_recovery())) "
	"ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer END, "
	"CASE WHEN pg_is_in_recovery() THEN "
	"(SELECT coalesce(status, 'streaming') = 'streaming' FROM pg_stat_wal_receiver) END";

/* Named by us, of our role, at one statement for longer than we wait. */
static const char sweep_sql[] =
	"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
	"WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid() "
	"AND state = 'active' AND clock_timestamp() - query_start > $2::float8 * interval '1 ms'";

struct state_watch {
	struct probe_context *context;
	size_t instance;
	struct pg_session *session;
	sd_event_source *timer;
	uint64_t polled_ns;
	uint64_t swept_ns;
	bool sweeping, seen, known, said_error;
	struct observation reach;	/* the last of all: is it reachable? */
	struct observation state;	/* the last with a state */
};

static void add_event(struct state_watch *w, uint64_t at_ns, enum event_kind kind, const char *value,
	uint32_t timeline, const char *words)
{
	struct run_record *r = w->context->record;

	run_record_add_event(r, at_ns, kind, (int)w->instance, value, timeline, "%s %s",
		r->instances[w->instance].name, words);
}

static void note_reach(struct state_watch *w, const struct observation *o)
{
	if (w->seen && w->reach.reachable != o->reachable)
		add_event(w, o->at_ns, EVENT_REACH, o->reachable ? "ok" : "fail", o->timeline,
			o->reachable ? "answers SQL" : "does not answer SQL");
	w->reach = *o;
	w->seen = true;
}

static void note_state(struct state_watch *w, const struct observation *o)
{
	const struct observation *old = &w->state;
	char words[64];

	if (w->known && (old->in_recovery != o->in_recovery ||
		(!o->in_recovery && old->timeline != o->timeline))) {
		snprintf(words, sizeof(words), "is a %s on timeline %u",
			o->in_recovery ? "replica" : "primary", o->timeline);
		add_event(w, o->at_ns, EVENT_ROLE, o->in_recovery ? "replica" : "primary",
			o->timeline, words);
	}
	/* A primary streams to others: its own stream is no news. */
	if (w->known && o->in_recovery && (old->streaming != o->streaming ||
		(o->streaming && old->timeline != o->timeline))) {
		snprintf(words, sizeof(words), o->streaming ? "streams on timeline %u"
							    : "no longer streams", o->timeline);
		add_event(w, o->at_ns, EVENT_STREAMING, o->streaming ? "ok" : "fail", o->timeline,
			words);
	}
	w->state = *o;
	w->known = true;
}

static void observe(struct state_watch *w, const struct observation *o)
{
	struct probe_context *c = w->context;

	run_record_add_observation(c->record, o);
	note_reach(w, o);
	if (o->reachable) {
		note_state(w, o);
		c->writable[w->instance] = !o->in_recovery;
	}
	if (c->listener.observation)
		c->listener.observation(o, c->listener.data);
}

static void observe_unreachable(struct state_watch *w)
{
	struct observation o = {.at_ns = now_ns(), .instance = (uint8_t)w->instance};

	observe(w, &o);
}

static bool field_is(const PGresult *r, int field, const char *value)
{
	return strcmp(PQgetvalue(r, 0, field), value) == 0;
}

static void observe_answer(struct state_watch *w, const PGresult *r)
{
	struct observation o = {
		.at_ns = now_ns(),
		.instance = (uint8_t)w->instance,
		.reachable = true,
	};
	unsigned high = 0, low = 0;

	if (PQntuples(r) != 1 || PQnfields(r) != 5)
		return;
	o.in_recovery = field_is(r, 0, "t");
	o.read_only = field_is(r, 1, "t");
	if (sscanf(PQgetvalue(r, 0, 2), "%8X/%8X", &high, &low) == 2)
		o.lsn = (uint64_t)high << 32 | low;
	o.timeline = (uint32_t)strtoul(PQgetvalue(r, 0, 3), NULL, 10);
	o.streaming = field_is(r, 4, "t");
	observe(w, &o);
}

static void set_timer(struct state_watch *w)
{
	uint64_t now = now_ns(), next = w->polled_ns + w->context->options.poll_interval_ns;

	sd_event_source_set_time(w->timer, (next > now ? next : now) / NS_PER_US);
	sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

static void send_state(struct state_watch *w)
{
	w->sweeping = false;
	pg_session_send(w->session, NULL, 0, NULL);
}

static bool sweep_is_due(const struct state_watch *w, uint64_t now)
{
	uint64_t abandoned = w->context->abandoned_ns;

	return abandoned && now - w->swept_ns > SWEEP_EVERY_NS &&
		(abandoned > w->swept_ns || now - abandoned < SWEEP_AFTER_NS);
}

static void send_sweep(struct state_watch *w, uint64_t now)
{
	char limit_ms[24];
	const char *values[] = {w->context->application_name, limit_ms};

	snprintf(limit_ms, sizeof(limit_ms), "%llu",
		w->context->options.statement_timeout_ns / NS_PER_MS);
	w->swept_ns = now;
	w->sweeping = true;
	pg_session_send(w->session, sweep_sql, 2, values);
}

static void on_connected(struct pg_session *session, void *data)
{
	(void)session;
	send_state(data);
}

static void on_failed(struct pg_session *session, const char *sqlstate, const char *words, void *data)
{
	struct state_watch *w = data;

	(void)session;
	(void)sqlstate;
	(void)words;
	observe_unreachable(w);
	set_timer(w);
}

static void on_answered(struct pg_session *session, const struct pg_answer *a, void *data)
{
	struct state_watch *w = data;

	if (!a->open)
		observe_unreachable(w);
	else if (a->outcome == OUTCOME_OK && !w->sweeping)
		observe_answer(w, a->result);
	else if (a->outcome != OUTCOME_OK && !w->said_error) {
		char words[320];

		/* It answers, but not this: said once, and no state is made up. */
		w->said_error = true;
		snprintf(words, sizeof(words), "refuses the probes' question: %s", a->words);
		add_event(w, now_ns(), EVENT_NOTE, NULL, 0, words);
	}
	if (a->open && !w->sweeping && sweep_is_due(w, now_ns()) && pg_session_ready(session)) {
		send_sweep(w, now_ns());
		return;
	}
	set_timer(w);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct state_watch *w = data;

	(void)source;
	(void)usec;
	w->polled_ns = now_ns();
	if (pg_session_ready(w->session))
		send_state(w);
	else if (pg_session_closed(w->session))
		pg_session_connect(w->session);
	return 0;
}

int state_watch_new(struct probe_context *c, size_t instance, struct state_watch **ret,
	struct err **err)
{
	static const struct pg_session_ops ops = {on_connected, on_failed, on_answered};
	struct pg_session_config config = probe_session_config(c);
	struct state_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_errno(err, -ENOMEM, "state watch");
	w->context = c;
	w->instance = instance;
	config.endpoints = probe_straight(c, instance);
	config.prepared = state_sql;
	if (config.connect_timeout_ns > WATCH_TIMEOUT_NS)
		config.connect_timeout_ns = WATCH_TIMEOUT_NS;
	if (config.statement_timeout_ns > WATCH_TIMEOUT_NS)
		config.statement_timeout_ns = WATCH_TIMEOUT_NS;
	r = pg_session_new(&config, &ops, w, &w->session, err);
	if (r == 0) {
		r = sd_event_add_time(c->event, &w->timer, CLOCK_MONOTONIC, 0, 1, on_timer, w);
		if (r < 0)
			err_errno(err, r, "state watch: timer");
	}
	if (r < 0) {
		state_watch_free(w);
		return r;
	}
	w->polled_ns = now_ns();
	*ret = w;
	return 0;
}

void state_watch_free(struct state_watch *w)
{
	if (!w)
		return;
	sd_event_source_disable_unref(w->timer);
	pg_session_free(w->session);
	free(w);
}
