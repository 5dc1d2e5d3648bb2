/*
 * One session with a PostgreSQL server, on the loop: asynchronous libpq (libpq documentation,
 * "Database Connection Control Functions", "Asynchronous Command Processing"). It walks the hosts as
 * libpq would, and gives each its time limit, which asynchronous libpq does not enforce.
 *
 * What an answer says about a statement that writes (it commits as it ends):
 *   OK       the server completed the command and then said that it is ready for the next
 *   FAIL     an error came instead of the completion, or the connection had gone before sending
 *   UNKNOWN  everything else: time limit, connection lost, an error after the completion (a commit
 *            that failed late), an error that a pooler made up (class 08, 40003), or a warning of
 *            the commit itself ("canceling wait for synchronous replication")
 */
#pragma once

#include "probe/conninfo.h"
#include "probe/resolver.h"

/* Time limits are ours and have no SQLSTATE of the server's: ODBC's. */
#define SQLSTATE_STATEMENT_LIMIT "HYT00"
#define SQLSTATE_CONNECT_LIMIT	 "HYT01"
#define SQLSTATE_NO_CONNECTION	 "08001"
#define SQLSTATE_LOST		 "08006"
#define SQLSTATE_READ_ONLY	 "25006"

enum session_wish {
	SESSION_ANY,
	SESSION_WRITE,		/* target_session_attrs=read-write */
	SESSION_STANDBY,	/* prefer-standby */
};

struct pg_session;

struct pg_answer {
	enum outcome outcome;
	char sqlstate[6];	/* "" if OK */
	const char *words;	/* first line of the error; "" if OK */
	const PGresult *result;	/* rows or the completion; NULL if none came */
	bool open;		/* the session can go on */
};

/* Called from the loop, never from within a call. Each may use the session, but not free it. */
struct pg_session_ops {
	void (*connected)(struct pg_session *s, void *data);
	/* No host took us, or the idle connection was lost; the session is closed. */
	void (*failed)(struct pg_session *s, const char *sqlstate, const char *words, void *data);
	void (*answered)(struct pg_session *s, const struct pg_answer *a, void *data);
};

struct pg_session_config {	/* all borrowed for the session's life */
	sd_event *event;
	const struct pg_settings *settings;
	const struct pg_endpoints *endpoints;
	const struct resolver *resolver;
	const char *application_name;
	enum session_wish wish;
	uint64_t connect_timeout_ns;	/* each address */
	uint64_t statement_timeout_ns;
	/* Prepared by name in each new connection and then sent by pg_session_send(NULL, ...).
	 * Only straight to a server: poolers may not keep a prepared statement. */
	const char *prepared;
};

int pg_session_new(const struct pg_session_config *c, const struct pg_session_ops *ops, void *data,
	struct pg_session **ret, struct err **err);
void pg_session_free(struct pg_session *s);
DEFINE_CLEANUP(struct pg_session, pg_session_free)

/* The session must be closed. */
void pg_session_connect(struct pg_session *s);
/* Drops the connection, whatever goes on; no callback follows. */
void pg_session_close(struct pg_session *s);
/* Connected, with no statement under way. */
bool pg_session_ready(const struct pg_session *s);
bool pg_session_closed(const struct pg_session *s);
/* Sends one statement, sql or the prepared one (NULL), with text parameters. The session must be
 * ready. answered() follows, from the loop. */
void pg_session_send(struct pg_session *s, const char *sql, int n, const char *const *values);
/* The instance of the endpoint that it is connected to; -1 if unknown. */
int pg_session_instance(const struct pg_session *s);
