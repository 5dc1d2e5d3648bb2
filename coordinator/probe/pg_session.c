#include "probe/pg_session.h"

#include <stdlib.h>
#include <string.h>
#include "core/clock.h"

#define STATEMENT_NAME "pgjolt"

enum session_state {
	SESSION_CLOSED,
	SESSION_CONNECTING,
	SESSION_PREPARING,
	SESSION_READY,
	SESSION_BUSY,
	SESSION_ENDING,		/* answer known, to be told from the loop */
	SESSION_STATE_MAX,
};

struct pg_session {
	struct pg_session_config config;
	struct pg_session_ops ops;
	void *data;
	enum session_state state;
	PGconn *conn;
	sd_event_source *io, *timer;

	/* The walk: pass 1 of prefer-standby takes standbys, pass 2 takes any. */
	unsigned pass;
	size_t endpoint, address;
	char sqlstate[6];	/* of the last failure, while connecting */
	char words[256];

	/* The statement under way. */
	PGresult *result;	/* first rows or completion */
	bool completed, warned, lost, failed, failed_late;
	char notice_sqlstate[6];
};

static void next_address(struct pg_session *s);
static int on_io(sd_event_source *source, int fd, uint32_t events, void *data);

static void copy_line(char *to, size_t size, const char *from)
{
	size_t length = strcspn(from ? from : "", "\n");

	if (length >= size)
		length = size - 1;
	memcpy(to, from ? from : "", length);
	to[length] = '\0';
}

static void set_sqlstate(char to[static 6], const char *from)
{
	copy_line(to, 6, from && strlen(from) == 5 ? from : "");
}

/* After a connection failed the SQLSTATE is in the text alone: "FATAL:  57P03: ...", which
 * PQERRORS_VERBOSE puts there. The severity may be in the server's language. */
static void sqlstate_of_text(const char *text, char to[static 6])
{
	for (const char *p = strstr(text, ":  "); p; p = strstr(p + 1, ":  ")) {
		const char *code = p + 3;

		if (strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && code[5] == ':') {
			memcpy(to, code, 5);
			to[5] = '\0';
			return;
		}
	}
	/* libpq itself says this when target_session_attrs is not met. */
	if (strstr(text, "session is read-only") || strstr(text, "server is in hot standby mode"))
		set_sqlstate(to, SQLSTATE_READ_ONLY);
	else
		set_sqlstate(to, SQLSTATE_NO_CONNECTION);
}

static void set_timer(struct pg_session *s, uint64_t after_ns)
{
	sd_event_source_set_time(s->timer, (now_ns() + after_ns) / NS_PER_US);
	sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

static void drop_connection(struct pg_session *s)
{
	/* The descriptor's watch goes first: libpq closes the descriptor. */
	s->io = sd_event_source_disable_unref(s->io);
	sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	PQclear(s->result);
	s->result = NULL;
	PQfinish(s->conn);
	s->conn = NULL;
}

static int watch_socket(struct pg_session *s, uint32_t events)
{
	s->io = sd_event_source_disable_unref(s->io);
	return sd_event_add_io(s->config.event, &s->io, PQsocket(s->conn), events, on_io, s);
}

static void fail_connecting(struct pg_session *s)
{
	drop_connection(s);
	s->state = SESSION_CLOSED;
	s->ops.failed(s, s->sqlstate, s->words, s->data);
}

static void note_failure(struct pg_session *s, const char *sqlstate, const char *words)
{
	if (sqlstate)
		set_sqlstate(s->sqlstate, sqlstate);
	else
		sqlstate_of_text(words, s->sqlstate);
	copy_line(s->words, sizeof(s->words), words);
}

/*
 * A notice while a statement that writes is under way: the commit's own warnings say that the row is
 * on this server and perhaps nowhere else (SyncRepWaitForLSN() in PostgreSQL's syncrep.c).
 */
static void on_notice(void *data, const PGresult *result)
{
	struct pg_session *s = data;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (s->state != SESSION_BUSY || !severity || strcmp(severity, "WARNING") != 0)
		return;
	s->warned = true;
	set_sqlstate(s->notice_sqlstate, sqlstate);
}

static const char *wish_text(const struct pg_session *s)
{
	switch (s->config.wish) {
	case SESSION_WRITE:
		return "read-write";
	case SESSION_STANDBY:
		return s->pass == 0 ? "standby" : "any";
	case SESSION_ANY:
		break;
	}
	return "any";
}

/* The address to try now, false if this endpoint has no more. NULL is that of a unix socket. */
static bool current_address(const struct pg_session *s, const char **ret)
{
	const struct pg_endpoint *e = &s->config.endpoints->items[s->endpoint];

	if (e->socket || e->address) {
		*ret = e->socket ? NULL : e->address;
		return s->address == 0;
	}
	*ret = resolver_address(s->config.resolver, e->host, s->address);
	return *ret;
}

/* Connects to the first address from here on that does not refuse at once. */
static void try_address(struct pg_session *s)
{
	const struct pg_endpoints *list = s->config.endpoints;
	const struct pg_endpoint *e;
	const char *address;

	while (s->endpoint < list->count && !current_address(s, &address)) {
		if (s->address == 0)
			note_failure(s, SQLSTATE_NO_CONNECTION, "the host's name does not resolve");
		s->address = 0;
		s->endpoint++;
	}
	if (s->endpoint >= list->count) {
		fail_connecting(s);
		return;
	}
	e = &list->items[s->endpoint];
	s->conn = pg_settings_connect(s->config.settings, e, address, wish_text(s),
		s->config.application_name, s->config.statement_timeout_ns);
	if (!s->conn || PQstatus(s->conn) == CONNECTION_BAD) {
		note_failure(s, NULL, s->conn ? PQerrorMessage(s->conn) : "no memory");
		next_address(s);
		return;
	}
	PQsetErrorVerbosity(s->conn, PQERRORS_VERBOSE);
	PQsetNoticeReceiver(s->conn, on_notice, s);
	PQsetnonblocking(s->conn, 1);
	set_timer(s, s->config.connect_timeout_ns);
	if (watch_socket(s, EPOLLOUT) < 0) {
		note_failure(s, SQLSTATE_NO_CONNECTION, "the event loop takes no descriptor");
		next_address(s);
	}
}

/* The next address is tried from the loop, so that many refusals do not nest. */
static void next_address(struct pg_session *s)
{
	const char *address;

	drop_connection(s);
	s->address++;
	if (!current_address(s, &address)) {
		s->address = 0;
		s->endpoint++;
	}
	if (s->endpoint >= s->config.endpoints->count && s->config.wish == SESSION_STANDBY &&
		s->pass == 0) {
		s->pass = 1;
		s->endpoint = 0;
	}
	if (s->endpoint >= s->config.endpoints->count)
		fail_connecting(s);
	else
		set_timer(s, 0);
}

static void become_ready(struct pg_session *s)
{
	sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	s->state = SESSION_READY;
	sd_event_source_set_io_events(s->io, EPOLLIN);
	s->ops.connected(s, s->data);
}

static void send_prepare(struct pg_session *s)
{
	s->state = SESSION_PREPARING;
	if (!PQsendPrepare(s->conn, STATEMENT_NAME, s->config.prepared, 0, NULL)) {
		note_failure(s, SQLSTATE_LOST, PQerrorMessage(s->conn));
		next_address(s);
		return;
	}
	sd_event_source_set_io_events(s->io, EPOLLIN | (PQflush(s->conn) > 0 ? EPOLLOUT : 0));
}

static void go_on_connecting(struct pg_session *s)
{
	uint32_t events;

	/* libpq may close this socket and open another, even with the same number. */
	s->io = sd_event_source_disable_unref(s->io);
	switch (PQconnectPoll(s->conn)) {
	case PGRES_POLLING_OK:
		if (watch_socket(s, EPOLLIN) < 0)
			break;
		if (s->config.prepared)
			send_prepare(s);
		else
			become_ready(s);
		return;
	case PGRES_POLLING_READING:
		events = EPOLLIN;
		if (watch_socket(s, events) < 0)
			break;
		return;
	case PGRES_POLLING_WRITING:
		events = EPOLLOUT;
		if (watch_socket(s, events) < 0)
			break;
		return;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		break;
	}
	note_failure(s, NULL, PQerrorMessage(s->conn));
	next_address(s);
}

/* The message without severity and SQLSTATE, where the server gave one. */
static const char *error_words(const PGresult *result)
{
	const char *words = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	return words ? words : PQresultErrorMessage(result);
}

static void go_on_preparing(struct pg_session *s)
{
	PGresult *result;

	if (!PQconsumeInput(s->conn)) {
		note_failure(s, SQLSTATE_LOST, PQerrorMessage(s->conn));
		next_address(s);
		return;
	}
	if (PQflush(s->conn) == 0)
		sd_event_source_set_io_events(s->io, EPOLLIN);
	while (!PQisBusy(s->conn)) {
		result = PQgetResult(s->conn);
		if (!result) {
			become_ready(s);
			return;
		}
		if (PQresultStatus(result) != PGRES_COMMAND_OK) {
			note_failure(s, PQresultErrorField(result, PG_DIAG_SQLSTATE),
				error_words(result));
			PQclear(result);
			next_address(s);
			return;
		}
		PQclear(result);
	}
}

/* Errors that a pooler between us and the server makes up, or that say so themselves, leave the
 * outcome open: SQLSTATE class 08 and 40003. */
static bool leaves_open(const char *sqlstate)
{
	return strncmp(sqlstate, "08", 2) == 0 || strcmp(sqlstate, "40003") == 0 || !*sqlstate;
}

static void answer(struct pg_session *s, enum outcome outcome, const char *sqlstate,
	const char *words, bool open)
{
	struct pg_answer a = {.outcome = outcome, .words = words, .open = open};
	PGresult *result = steal_ptr(s->result);

	set_sqlstate(a.sqlstate, sqlstate);
	a.result = result;
	if (open) {
		sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
		s->state = SESSION_READY;
	} else {
		drop_connection(s);
		s->state = SESSION_CLOSED;
	}
	s->ops.answered(s, &a, s->data);
	PQclear(result);
}

static void answer_lost(struct pg_session *s)
{
	/* An error that came first and then the end of the connection: it tells more. */
	if (s->failed && !s->failed_late && !leaves_open(s->sqlstate))
		answer(s, OUTCOME_FAIL, s->sqlstate, s->words, false);
	else
		answer(s, OUTCOME_UNKNOWN, s->warned ? s->notice_sqlstate : SQLSTATE_LOST,
			s->failed ? s->words : "connection lost", false);
}

static void take_result(struct pg_session *s, PGresult *result)
{
	const char *sqlstate;

	switch (PQresultStatus(result)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
		s->completed = true;
		if (!s->result)
			s->result = result;
		else
			PQclear(result);
		return;
	default:
		sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
		/* Without a SQLSTATE the words are libpq's own: the connection is gone. */
		if (!sqlstate)
			s->lost = true;
		if (!s->failed) {
			s->failed = true;
			s->failed_late = s->completed;
			set_sqlstate(s->sqlstate, sqlstate);
			copy_line(s->words, sizeof(s->words), error_words(result));
		}
		PQclear(result);
	}
}

/* The server is ready again: all that it had to say of the statement is here. */
static void answer_complete(struct pg_session *s)
{
	if (s->lost || PQstatus(s->conn) == CONNECTION_BAD)
		answer_lost(s);
	else if (s->failed)
		answer(s, s->failed_late || leaves_open(s->sqlstate) ? OUTCOME_UNKNOWN : OUTCOME_FAIL,
			s->sqlstate, s->words, true);
	else if (s->warned)
		answer(s, OUTCOME_UNKNOWN, s->notice_sqlstate, "a warning came with the commit",
			true);
	else
		answer(s, s->completed ? OUTCOME_OK : OUTCOME_UNKNOWN, "", "", true);
}

static void go_on_busy(struct pg_session *s)
{
	bool read = PQconsumeInput(s->conn);

	if (!read && PQstatus(s->conn) != CONNECTION_BAD) {
		answer_lost(s);
		return;
	}
	if (read && PQflush(s->conn) == 0)
		sd_event_source_set_io_events(s->io, EPOLLIN);
	/* Without a socket PQgetResult() cannot wait: it gives what had come, then the failure. */
	while (!read || !PQisBusy(s->conn)) {
		PGresult *result = PQgetResult(s->conn);

		if (!result) {
			answer_complete(s);
			return;
		}
		take_result(s, result);
	}
}

/* Between statements the server only says that it goes away. */
static void go_on_idle(struct pg_session *s)
{
	if (PQconsumeInput(s->conn) && PQstatus(s->conn) == CONNECTION_OK) {
		PQisBusy(s->conn);	/* takes parameter changes and notices from the buffer */
		return;
	}
	note_failure(s, SQLSTATE_LOST, PQerrorMessage(s->conn));
	fail_connecting(s);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct pg_session *s = data;

	(void)source;
	(void)fd;
	(void)events;
	switch (s->state) {
	case SESSION_CONNECTING:
		go_on_connecting(s);
		break;
	case SESSION_PREPARING:
		go_on_preparing(s);
		break;
	case SESSION_BUSY:
		go_on_busy(s);
		break;
	case SESSION_READY:
		go_on_idle(s);
		break;
	default:
		break;
	}
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct pg_session *s = data;

	(void)source;
	(void)usec;
	switch (s->state) {
	case SESSION_CONNECTING:
	case SESSION_PREPARING:
		if (!s->conn) {
			s->state = SESSION_CONNECTING;
			try_address(s);
			break;
		}
		note_failure(s, SQLSTATE_CONNECT_LIMIT, "the host did not answer in time");
		next_address(s);
		break;
	case SESSION_BUSY:
		answer(s, OUTCOME_UNKNOWN, SQLSTATE_STATEMENT_LIMIT, "no answer in time", false);
		break;
	case SESSION_ENDING:
		answer(s, OUTCOME_FAIL, SQLSTATE_LOST, s->words, false);
		break;
	default:
		break;
	}
	return 0;
}

int pg_session_new(const struct pg_session_config *c, const struct pg_session_ops *ops, void *data,
	struct pg_session **ret, struct err **err)
{
	_cleanup_(pg_session_freep) struct pg_session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_errno(err, -ENOMEM, "session");
	s->config = *c;
	s->ops = *ops;
	s->data = data;
	/* Accuracy 0 would mean 250 ms. */
	r = sd_event_add_time(c->event, &s->timer, CLOCK_MONOTONIC, 0, 1, on_timer, s);
	if (r < 0)
		return err_errno(err, r, "session: timer");
	sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	*ret = steal_ptr(s);
	return 0;
}

void pg_session_free(struct pg_session *s)
{
	if (!s)
		return;
	drop_connection(s);
	sd_event_source_disable_unref(s->timer);
	free(s);
}

void pg_session_connect(struct pg_session *s)
{
	s->state = SESSION_CONNECTING;
	s->pass = 0;
	s->endpoint = s->address = 0;
	set_timer(s, 0);
}

void pg_session_close(struct pg_session *s)
{
	drop_connection(s);
	s->state = SESSION_CLOSED;
}

bool pg_session_ready(const struct pg_session *s)
{
	return s->state == SESSION_READY;
}

bool pg_session_closed(const struct pg_session *s)
{
	return s->state == SESSION_CLOSED;
}

void pg_session_send(struct pg_session *s, const char *sql, int n, const char *const *values)
{
	int sent = 0;

	s->completed = s->warned = s->lost = s->failed = s->failed_late = false;
	/* A connection that has ended shows here, before anything is sent: a certain failure. */
	if (PQconsumeInput(s->conn) && PQstatus(s->conn) == CONNECTION_OK)
		sent = sql ? PQsendQueryParams(s->conn, sql, n, NULL, values, NULL, NULL, 0)
			   : PQsendQueryPrepared(s->conn, STATEMENT_NAME, n, values, NULL, NULL, 0);
	if (!sent) {
		copy_line(s->words, sizeof(s->words), PQerrorMessage(s->conn));
		s->state = SESSION_ENDING;
		set_timer(s, 0);
		return;
	}
	s->state = SESSION_BUSY;
	sd_event_source_set_io_events(s->io, EPOLLIN | (PQflush(s->conn) > 0 ? EPOLLOUT : 0));
	set_timer(s, s->config.statement_timeout_ns);
}

int pg_session_instance(const struct pg_session *s)
{
	if (!s->conn || s->endpoint >= s->config.endpoints->count)
		return -1;
	return s->config.endpoints->items[s->endpoint].instance;
}
