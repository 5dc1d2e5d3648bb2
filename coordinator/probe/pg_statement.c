/* A statement, and what is known of its outcome. */
#include "probe/pg_session_internal.h"

#include <string.h>

/*
 * A notice while a statement that writes is under way: the commit's own warnings say that the row is
 * on this server and perhaps nowhere else (SyncRepWaitForLSN() in PostgreSQL's syncrep.c).
 */
void session_on_notice(void *data, const PGresult *result)
{
	struct pg_session *s = data;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (s->state != SESSION_BUSY || !severity || strcmp(severity, "WARNING") != 0)
		return;
	s->warned = true;
	session_set_sqlstate(s->notice_sqlstate, sqlstate);
}

/* Errors that a pooler between us and the server makes up, or that say so themselves, leave the
 * outcome open: SQLSTATE class 08 and 40003. */
static bool leaves_open(const char *sqlstate)
{
	return strncmp(sqlstate, "08", 2) == 0 || strcmp(sqlstate, "40003") == 0 || !*sqlstate;
}

void session_answer(struct pg_session *s, enum outcome outcome, const char *sqlstate,
	const char *words, bool open)
{
	struct pg_answer a = {.outcome = outcome, .words = words, .open = open};
	PGresult *result = steal_ptr(s->result);

	session_set_sqlstate(a.sqlstate, sqlstate);
	a.result = result;
	if (open) {
		sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
		s->state = SESSION_READY;
	} else {
		session_drop_connection(s);
		s->state = SESSION_CLOSED;
	}
	s->ops.answered(s, &a, s->data);
	PQclear(result);
}

static void answer_lost(struct pg_session *s)
{
	/* An error that came first and then the end of the connection: it tells more. */
	if (s->failed && !s->failed_late && !leaves_open(s->sqlstate))
		session_answer(s, OUTCOME_FAIL, s->sqlstate, s->words, false);
	else
		session_answer(s, OUTCOME_UNKNOWN, s->warned ? s->notice_sqlstate : SQLSTATE_LOST,
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
			session_set_sqlstate(s->sqlstate, sqlstate);
			session_copy_line(s->words, sizeof(s->words), session_error_words(result));
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
		session_answer(s, s->failed_late || leaves_open(s->sqlstate) ? OUTCOME_UNKNOWN : OUTCOME_FAIL,
			s->sqlstate, s->words, true);
	else if (s->warned)
		session_answer(s, OUTCOME_UNKNOWN, s->notice_sqlstate, "a warning came with the commit",
			true);
	else
		session_answer(s, s->completed ? OUTCOME_OK : OUTCOME_UNKNOWN, "", "", true);
}

void session_go_on_busy(struct pg_session *s)
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

void pg_session_send(struct pg_session *s, const char *sql, int n, const char *const *values)
{
	int sent = 0;

	s->completed = s->warned = s->lost = s->failed = s->failed_late = false;
	/* A connection that has ended shows here, before anything is sent: a certain failure. */
	if (PQconsumeInput(s->conn) && PQstatus(s->conn) == CONNECTION_OK)
		sent = sql ? PQsendQueryParams(s->conn, sql, n, NULL, values, NULL, NULL, 0)
			   : PQsendQueryPrepared(s->conn, STATEMENT_NAME, n, values, NULL, NULL, 0);
	if (!sent) {
		session_copy_line(s->words, sizeof(s->words), PQerrorMessage(s->conn));
		s->state = SESSION_ENDING;
		session_set_timer(s, 0);
		return;
	}
	s->state = SESSION_BUSY;
	sd_event_source_set_io_events(s->io, EPOLLIN | (PQflush(s->conn) > 0 ? EPOLLOUT : 0));
	session_set_timer(s, s->config.statement_timeout_ns);
}
