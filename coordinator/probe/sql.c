#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "probe/probe_context.h"

/* Preparing and checking may wait longer than a probe: many rows, a table to make. */
#define SQL_TIMEOUT_NS (10 * NS_PER_S)

struct sql {
	struct probe_context *context;
	struct pg_session *session;
	bool done, connected;
	struct pg_answer answer;
	char sqlstate[6], words[256];
	PGresult *result;
};

static void on_connected(struct pg_session *session, void *data)
{
	struct sql *s = data;

	(void)session;
	s->done = s->connected = true;
}

static void keep_words(struct sql *s, const char *sqlstate, const char *words)
{
	snprintf(s->sqlstate, sizeof(s->sqlstate), "%.5s", sqlstate);
	snprintf(s->words, sizeof(s->words), "%.255s", words);
}

static void on_failed(struct pg_session *session, const char *sqlstate, const char *words, void *data)
{
	struct sql *s = data;

	(void)session;
	s->done = true;
	keep_words(s, sqlstate, words);
}

static void on_answered(struct pg_session *session, const struct pg_answer *a, void *data)
{
	struct sql *s = data;

	(void)session;
	s->done = true;
	s->answer = *a;
	keep_words(s, a->sqlstate, a->words);
	/* The answer's own result ends with this call. */
	s->answer.result = NULL;
	s->result = a->result ? PQcopyResult(a->result, PG_COPYRES_ATTRS | PG_COPYRES_TUPLES) : NULL;
}

int sql_new(struct probe_context *c, const struct pg_endpoints *endpoints, enum session_wish wish,
	struct sql **ret, struct err **err)
{
	static const struct pg_session_ops ops = {on_connected, on_failed, on_answered};
	_cleanup_(sql_freep) struct sql *s = calloc(1, sizeof(*s));
	struct pg_session_config config = probe_session_config(c);
	int r;

	if (!s)
		return err_errno(err, -ENOMEM, "session");
	s->context = c;
	config.endpoints = endpoints;
	config.wish = wish;
	config.statement_timeout_ns = SQL_TIMEOUT_NS;
	r = pg_session_new(&config, &ops, s, &s->session, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(s);
	return 0;
}

void sql_free(struct sql *s)
{
	if (!s)
		return;
	pg_session_free(s->session);
	PQclear(s->result);
	free(s);
}

/* Time limits are the session's. */
static int wait_done(struct sql *s, struct err **err)
{
	while (!s->done) {
		int r;

		if (s->context->hurry)
			return err_set(err, -ECANCELED, "not waited for");
		r = sd_event_run(s->context->event, UINT64_MAX);

		if (r < 0)
			return err_errno(err, r, "event loop");
	}
	s->done = false;
	return 0;
}

static int error_code(const char *sqlstate)
{
	static const struct {
		const char *sqlstate;
		int code;
	} codes[] = {
		{"42501", -EACCES},	/* insufficient_privilege */
		{"28000", -EACCES},	/* invalid_authorization_specification */
		{"28P01", -EACCES},	/* invalid_password */
		{"42P01", -ENOENT},	/* undefined_table */
		{"3F000", -ENOENT},	/* invalid_schema_name */
		{SQLSTATE_STATEMENT_LIMIT, -ETIMEDOUT},
		{SQLSTATE_CONNECT_LIMIT, -ETIMEDOUT},
		{SQLSTATE_NO_CONNECTION, -ECONNREFUSED},
	};

	for (size_t i = 0; i < ELEMENTS(codes); i++)
		if (strcmp(codes[i].sqlstate, sqlstate) == 0)
			return codes[i].code;
	return -EIO;
}

static int set_error(const struct sql *s, struct err **err)
{
	int code = error_code(s->sqlstate);

	if (!*s->words)
		return err_set(err, code, "SQLSTATE %s", s->sqlstate);
	/* A server's words begin with severity and SQLSTATE, libpq's own with what it did. */
	return err_set(err, code, "%s", s->words);
}

static int connect_now(struct sql *s, struct err **err)
{
	int r;

	s->connected = false;
	pg_session_connect(s->session);
	r = wait_done(s, err);
	if (r < 0)
		return r;
	return s->connected ? 0 : set_error(s, err);
}

int sql_run(struct sql *s, const char *text, int n, const char *const *values,
	const PGresult **ret, struct err **err)
{
	int r;

	if (!pg_session_ready(s->session)) {
		r = connect_now(s, err);
		if (r < 0)
			return r;
	}
	PQclear(s->result);
	s->result = NULL;
	pg_session_send(s->session, text, n, values);
	r = wait_done(s, err);
	if (r < 0)
		return r;
	if (s->answer.outcome != OUTCOME_OK)
		return set_error(s, err);
	if (!s->result)
		return err_errno(err, -ENOMEM, "answer");
	if (ret)
		*ret = s->result;
	return 0;
}

const char *sql_first(const PGresult *result)
{
	return PQntuples(result) > 0 && PQnfields(result) > 0 ? PQgetvalue(result, 0, 0) : "";
}
