#include "probe/prober.h"

#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"
#include "probe/schema.h"

#define RECONNECT_PAUSE_NS   (50 * NS_PER_MS)
#define STANDBY_INTERVAL_NS  (100 * NS_PER_MS)

/*
 * The timeline comes with the row: an ordinary role may ask for it, and it is right from the first
 * statement after a promotion on, since it is the one that the row's own WAL goes to. The address is
 * the server's, whatever stands between.
 */
static const char write_sql[] =
	"INSERT INTO " PROBE_TABLE " (run, client, sequence) VALUES ($1, $2, $3) "
	"RETURNING substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), "
	"inet_server_addr(), inet_server_port()";
static const char read_sql[] =
	"SELECT (SELECT 1 FROM " PROBE_TABLE " LIMIT 1), inet_server_addr(), inet_server_port()";

struct slot {
	struct prober *prober;
	struct pg_session *session;
	bool active, sent;
	uint64_t sequence, sent_ns;
};

struct prober {
	struct probe_context *context;
	const struct probe_client *client;
	uint32_t index;
	struct slot *slots;
	size_t n_slots;
	sd_event_source *timer;
	uint64_t next_ns, sequence;
	uint64_t last_ok_ns;	/* done_ns of the last OK; at first: the start */
	uint64_t outage_ns;	/* began at; 0: none */
};

static void begin_outage(struct prober *p, uint64_t since, uint64_t now, const char *sqlstate)
{
	bool writer = p->client->kind == PROBE_WRITER;

	/* An earlier attempt that fails late says nothing new. */
	if (p->client->way != WAY_CLIENTS || p->outage_ns || p->last_ok_ns >= since)
		return;
	p->outage_ns = since;
	run_record_add_event(p->context->record, now, writer ? EVENT_WRITES : EVENT_READS, -1,
		"fail", 0, "%s %s (%s)", writer ? "writes" : "reads",
		*sqlstate ? "fail" : "are slow", *sqlstate ? sqlstate : p->client->name);
}

static void end_outage(struct prober *p, const struct attempt *a)
{
	const struct run_record *r = p->context->record;
	bool writer = p->client->kind == PROBE_WRITER;
	char after[UNITS_TEXT_MAX];

	p->last_ok_ns = a->done_ns;
	if (!p->outage_ns)
		return;
	duration_human(a->done_ns - p->outage_ns, after);
	p->outage_ns = 0;
	run_record_add_event(p->context->record, a->done_ns, writer ? EVENT_WRITES : EVENT_READS,
		a->instance, "ok", a->timeline, "%s work again after %s, on %s (%s)",
		writer ? "writes" : "reads", after,
		a->instance >= 0 ? r->instances[a->instance].name : "an unknown server",
		p->client->name);
}

void prober_check_slow(struct prober *p, uint64_t now)
{
	for (size_t i = 0; i < p->n_slots; i++) {
		const struct slot *s = &p->slots[i];

		if (s->active && now - s->sent_ns > p->context->record->slow_ns)
			begin_outage(p, s->sent_ns, now, "");
	}
}

static void set_timer(struct prober *p, uint64_t at_ns)
{
	if (p->context->stopping)
		return;
	p->next_ns = at_ns;
	sd_event_source_set_time(p->timer, at_ns / NS_PER_US);
	sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

static uint64_t interval_ns(const struct prober *p)
{
	const struct probe_client *c = p->client;

	/* A standby refuses each write and logs it; it is tried just often enough to be seen. */
	if (c->way == WAY_INSTANCE && c->kind == PROBE_WRITER &&
		!p->context->writable[c->instance] && c->interval_ns < STANDBY_INTERVAL_NS)
		return STANDBY_INTERVAL_NS;
	return c->interval_ns;
}

/* Who served it and on which timeline, as the row says; at least, whom the session is with. */
static void read_origin(const struct slot *s, const struct pg_answer *answer, struct attempt *a)
{
	const struct prober *p = s->prober;
	const PGresult *r = answer ? answer->result : NULL;
	int instance = -1;

	if (r && PQntuples(r) == 1 && PQnfields(r) == 3) {
		if (!PQgetisnull(r, 0, 1))
			instance = pg_find_instance(p->context->record, PQgetvalue(r, 0, 1),
				(uint16_t)atoi(PQgetvalue(r, 0, 2)));
		if (p->client->kind == PROBE_WRITER)
			a->timeline = (uint32_t)strtoul(PQgetvalue(r, 0, 0), NULL, 16);
	}
	if (instance < 0)
		instance = p->client->instance >= 0 ? p->client->instance
						    : pg_session_instance(s->session);
	a->instance = (int8_t)instance;
}

static void finish(struct slot *s, enum outcome outcome, const char *sqlstate,
	const struct pg_answer *answer)
{
	struct prober *p = s->prober;
	struct probe_context *c = p->context;
	struct attempt a = {
		.client = p->index,
		.sequence = s->sequence,
		.sent_ns = s->sent_ns,
		.done_ns = now_ns(),
		.outcome = outcome,
		.instance = -1,
	};

	snprintf(a.sqlstate, sizeof(a.sqlstate), "%.5s", sqlstate);
	read_origin(s, answer, &a);
	s->active = false;
	run_record_add_attempt(c->record, &a);
	if (p->client->kind == PROBE_WRITER)
		ledger_outcome(c->ledger, &a);
	if (outcome == OUTCOME_OK)
		end_outage(p, &a);
	else
		begin_outage(p, a.sent_ns, a.done_ns, a.sqlstate);
	if (c->listener.attempt)
		c->listener.attempt(&a, c->listener.data);
}

static void send_statement(struct slot *s)
{
	const struct prober *p = s->prober;
	bool writer = p->client->kind == PROBE_WRITER;
	/* Poolers may stand in the clients' way: nothing prepared there. */
	const char *sql = p->client->way == WAY_INSTANCE ? NULL : writer ? write_sql : read_sql;
	char client[12], sequence[24];
	const char *values[] = {p->context->record->run, client, sequence};

	snprintf(client, sizeof(client), "%u", p->index);
	snprintf(sequence, sizeof(sequence), "%lu", s->sequence);
	s->sent = true;
	pg_session_send(s->session, sql, writer ? 3 : 0, values);
}

static void begin(struct slot *s)
{
	struct prober *p = s->prober;

	s->active = true;
	s->sent = false;
	s->sequence = ++p->sequence;
	s->sent_ns = now_ns();
	/* No write that the ledger does not know; its failure stops the probes. */
	if (p->client->kind == PROBE_WRITER &&
		ledger_attempt(p->context->ledger, p->index, s->sequence, s->sent_ns) < 0) {
		s->active = false;
		p->context->stopping = true;
		return;
	}
	if (pg_session_ready(s->session))
		send_statement(s);
	else
		pg_session_connect(s->session);
}

static void on_connected(struct pg_session *session, void *data)
{
	struct slot *s = data;

	(void)session;
	send_statement(s);
}

static void on_failed(struct pg_session *session, const char *sqlstate, const char *words, void *data)
{
	struct slot *s = data;
	uint64_t now = now_ns();

	(void)session;
	(void)words;
	/* An idle session that was lost: the next attempt opens another. */
	if (!s->active)
		return;
	finish(s, OUTCOME_FAIL, sqlstate, NULL);
	if (!s->prober->client->fresh)
		set_timer(s->prober, now + RECONNECT_PAUSE_NS);
}

static void on_answered(struct pg_session *session, const struct pg_answer *a, void *data)
{
	struct slot *s = data;
	struct prober *p = s->prober;
	uint64_t now = now_ns(), next;

	if (strcmp(a->sqlstate, SQLSTATE_STATEMENT_LIMIT) == 0)
		p->context->abandoned_ns = now;
	finish(s, a->outcome, a->sqlstate, a);
	/* Clients go elsewhere when their server no longer takes writes. */
	if (p->client->fresh || (p->client->way == WAY_CLIENTS && p->client->kind == PROBE_WRITER &&
		strcmp(a->sqlstate, SQLSTATE_READ_ONLY) == 0))
		pg_session_close(session);
	if (p->client->fresh)
		return;
	next = s->sent_ns + interval_ns(p);
	if (next < now)
		next = now;
	set_timer(p, next);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct prober *p = data;
	uint64_t now = now_ns();

	(void)source;
	(void)usec;
	for (size_t i = 0; i < p->n_slots; i++) {
		struct slot *s = &p->slots[i];

		if (s->active)
			continue;
		begin(s);
		break;
	}
	if (p->client->fresh) {
		p->next_ns += p->client->interval_ns;
		set_timer(p, p->next_ns > now ? p->next_ns : now + p->client->interval_ns);
	}
	return 0;
}

static int make_slots(struct prober *p, struct err **err)
{
	static const struct pg_session_ops ops = {on_connected, on_failed, on_answered};
	bool writer = p->client->kind == PROBE_WRITER;

	p->n_slots = p->client->fresh ? PROBER_SLOTS : 1;
	p->slots = calloc(p->n_slots, sizeof(*p->slots));
	if (!p->slots)
		return err_errno(err, -ENOMEM, "probe %s", p->client->name);
	for (size_t i = 0; i < p->n_slots; i++) {
		struct pg_session_config config = probe_session_config(p->context);
		int r;

		if (p->client->way == WAY_INSTANCE) {
			config.endpoints = probe_straight(p->context, p->client->instance);
			config.prepared = writer ? write_sql : read_sql;
		} else {
			config.wish = writer ? SESSION_WRITE : SESSION_STANDBY;
			if (!writer)
				config.endpoints = probe_readers_way(p->context);
		}
		p->slots[i].prober = p;
		r = pg_session_new(&config, &ops, &p->slots[i], &p->slots[i].session, err);
		if (r < 0)
			return err_wrap(err, r, "probe %s", p->client->name);
	}
	return 0;
}

int prober_new(struct probe_context *c, uint32_t client, uint64_t delay_ns, struct prober **ret,
	struct err **err)
{
	struct prober *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_errno(err, -ENOMEM, "probe");
	p->context = c;
	p->index = client;
	p->client = &c->record->clients[client];
	r = make_slots(p, err);
	if (r == 0) {
		r = sd_event_add_time(c->event, &p->timer, CLOCK_MONOTONIC, 0, 1, on_timer, p);
		if (r < 0)
			err_errno(err, r, "probe %s: timer", p->client->name);
	}
	if (r < 0) {
		prober_free(p);
		return r;
	}
	set_timer(p, now_ns() + delay_ns);
	*ret = p;
	return 0;
}

void prober_free(struct prober *p)
{
	if (!p)
		return;
	sd_event_source_disable_unref(p->timer);
	for (size_t i = 0; i < p->n_slots && p->slots; i++)
		pg_session_free(p->slots[i].session);
	free(p->slots);
	free(p);
}

void prober_stop(struct prober *p)
{
	sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
}

bool prober_busy(const struct prober *p)
{
	for (size_t i = 0; i < p->n_slots; i++)
		if (p->slots[i].active)
			return true;
	return false;
}

void prober_give_up(struct prober *p)
{
	for (size_t i = 0; i < p->n_slots; i++) {
		struct slot *s = &p->slots[i];

		if (s->active)
			finish(s, s->sent ? OUTCOME_UNKNOWN : OUTCOME_FAIL,
				s->sent ? SQLSTATE_STATEMENT_LIMIT : SQLSTATE_CONNECT_LIMIT, NULL);
		pg_session_close(s->session);
	}
}
