/* Between the files of a session: its life (pg_session.c), the way to a server (pg_connect.c), and a statement
 * with what comes of it (pg_statement.c). */
#pragma once

#include "probe/pg_session.h"

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

/* pg_session.c */
void session_copy_line(char *to, size_t size, const char *from);	/* to its end or the first line's */
void session_set_sqlstate(char to[static 6], const char *from);
void session_set_timer(struct pg_session *s, uint64_t after_ns);
void session_drop_connection(struct pg_session *s);
int session_watch_socket(struct pg_session *s, uint32_t events);
/* The message without severity and SQLSTATE, where the server gave one. */
const char *session_error_words(const PGresult *result);
/* Closes it and tells the last failure. */
void session_fail(struct pg_session *s);

/* pg_connect.c */
void session_note_failure(struct pg_session *s, const char *sqlstate, const char *words);
/* Connects to the first address from here on that does not refuse at once. */
void session_try_address(struct pg_session *s);
/* The next address is tried from the loop, so that many refusals do not nest. */
void session_next_address(struct pg_session *s);
void session_go_on_connecting(struct pg_session *s);
void session_go_on_preparing(struct pg_session *s);

/* pg_statement.c */
void session_on_notice(void *data, const PGresult *result);
void session_go_on_busy(struct pg_session *s);
/* open: the connection serves on. */
void session_answer(struct pg_session *s, enum outcome outcome, const char *sqlstate, const char *words,
	bool open);
