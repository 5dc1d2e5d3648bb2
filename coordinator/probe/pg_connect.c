/* The way to a server: from one address to the next, until one of the kind that is wished for answers. */
#include "probe/pg_session_internal.h"

#include <string.h>

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
		session_set_sqlstate(to, SQLSTATE_READ_ONLY);
	else
		session_set_sqlstate(to, SQLSTATE_NO_CONNECTION);
}

void session_note_failure(struct pg_session *s, const char *sqlstate, const char *words)
{
	if (sqlstate)
		session_set_sqlstate(s->sqlstate, sqlstate);
	else
		sqlstate_of_text(words, s->sqlstate);
	session_copy_line(s->words, sizeof(s->words), words);
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

void session_try_address(struct pg_session *s)
{
	const struct pg_endpoints *list = s->config.endpoints;
	const struct pg_endpoint *e;
	const char *address;

	while (s->endpoint < list->count && !current_address(s, &address)) {
		if (s->address == 0)
			session_note_failure(s, SQLSTATE_NO_CONNECTION, "the host's name does not resolve");
		s->address = 0;
		s->endpoint++;
	}
	if (s->endpoint >= list->count) {
		session_fail(s);
		return;
	}
	e = &list->items[s->endpoint];
	s->conn = pg_settings_connect(s->config.settings, e, address, wish_text(s),
		s->config.application_name, s->config.statement_timeout_ns);
	if (!s->conn || PQstatus(s->conn) == CONNECTION_BAD) {
		session_note_failure(s, NULL, s->conn ? PQerrorMessage(s->conn) : "no memory");
		session_next_address(s);
		return;
	}
	PQsetErrorVerbosity(s->conn, PQERRORS_VERBOSE);
	PQsetNoticeReceiver(s->conn, session_on_notice, s);
	PQsetnonblocking(s->conn, 1);
	session_set_timer(s, s->config.connect_timeout_ns);
	if (session_watch_socket(s, EPOLLOUT) < 0) {
		session_note_failure(s, SQLSTATE_NO_CONNECTION, "the event loop takes no descriptor");
		session_next_address(s);
	}
}

void session_next_address(struct pg_session *s)
{
	const char *address;

	session_drop_connection(s);
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
		session_fail(s);
	else
		session_set_timer(s, 0);
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
		session_note_failure(s, SQLSTATE_LOST, PQerrorMessage(s->conn));
		session_next_address(s);
		return;
	}
	sd_event_source_set_io_events(s->io, EPOLLIN | (PQflush(s->conn) > 0 ? EPOLLOUT : 0));
}

void session_go_on_connecting(struct pg_session *s)
{
	uint32_t events;

	/* libpq may close this socket and open another, even with the same number. */
	s->io = sd_event_source_disable_unref(s->io);
	switch (PQconnectPoll(s->conn)) {
	case PGRES_POLLING_OK:
		if (session_watch_socket(s, EPOLLIN) < 0)
			break;
		if (s->config.prepared)
			send_prepare(s);
		else
			become_ready(s);
		return;
	case PGRES_POLLING_READING:
		events = EPOLLIN;
		if (session_watch_socket(s, events) < 0)
			break;
		return;
	case PGRES_POLLING_WRITING:
		events = EPOLLOUT;
		if (session_watch_socket(s, events) < 0)
			break;
		return;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		break;
	}
	session_note_failure(s, NULL, PQerrorMessage(s->conn));
	session_next_address(s);
}

void session_go_on_preparing(struct pg_session *s)
{
	PGresult *result;

	if (!PQconsumeInput(s->conn)) {
		session_note_failure(s, SQLSTATE_LOST, PQerrorMessage(s->conn));
		session_next_address(s);
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
			session_note_failure(s, PQresultErrorField(result, PG_DIAG_SQLSTATE),
				session_error_words(result));
			PQclear(result);
			session_next_address(s);
			return;
		}
		PQclear(result);
	}
}
