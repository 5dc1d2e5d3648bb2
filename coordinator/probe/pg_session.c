#include "probe/pg_session_internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data);

void session_copy_line(char *to, size_t size, const char *from)
{
	size_t length = strcspn(from ? from : "", "\n");

	if (length >= size)
		length = size - 1;
	memcpy(to, from ? from : "", length);
	to[length] = '\0';
}

void session_set_sqlstate(char to[static 6], const char *from)
{
	session_copy_line(to, 6, from && strlen(from) == 5 ? from : "");
}

void session_set_timer(struct pg_session *s, uint64_t after_ns)
{
	sd_event_source_set_time(s->timer, (now_ns() + after_ns) / NS_PER_US);
	sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

void session_drop_connection(struct pg_session *s)
{
	/* The descriptor's watch goes first: libpq closes the descriptor. */
	s->io = sd_event_source_disable_unref(s->io);
	sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
	PQclear(s->result);
	s->result = NULL;
	PQfinish(s->conn);
	s->conn = NULL;
}

int session_watch_socket(struct pg_session *s, uint32_t events)
{
	s->io = sd_event_source_disable_unref(s->io);
	return sd_event_add_io(s->config.event, &s->io, PQsocket(s->conn), events, on_io, s);
}

void session_fail(struct pg_session *s)
{
	session_drop_connection(s);
	s->state = SESSION_CLOSED;
	s->ops.failed(s, s->sqlstate, s->words, s->data);
}

const char *session_error_words(const PGresult *result)
{
	const char *words = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	return words ? words : PQresultErrorMessage(result);
}

/* Between statements the server only says that it goes away. */
static void go_on_idle(struct pg_session *s)
{
	if (PQconsumeInput(s->conn) && PQstatus(s->conn) == CONNECTION_OK) {
		PQisBusy(s->conn);	/* takes parameter changes and notices from the buffer */
		return;
	}
	session_note_failure(s, SQLSTATE_LOST, PQerrorMessage(s->conn));
	session_fail(s);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct pg_session *s = data;

	(void)source;
	(void)fd;
	(void)events;
	switch (s->state) {
	case SESSION_CONNECTING:
		session_go_on_connecting(s);
		break;
	case SESSION_PREPARING:
		session_go_on_preparing(s);
		break;
	case SESSION_BUSY:
		session_go_on_busy(s);
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
			session_try_address(s);
			break;
		}
		session_note_failure(s, SQLSTATE_CONNECT_LIMIT, "the host did not answer in time");
		session_next_address(s);
		break;
	case SESSION_BUSY:
		session_answer(s, OUTCOME_UNKNOWN, SQLSTATE_STATEMENT_LIMIT, "no answer in time", false);
		break;
	case SESSION_ENDING:
		session_answer(s, OUTCOME_FAIL, SQLSTATE_LOST, s->words, false);
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
	session_drop_connection(s);
	sd_event_source_disable_unref(s->timer);
	free(s);
}

void pg_session_connect(struct pg_session *s)
{
	s->state = SESSION_CONNECTING;
	s->pass = 0;
	s->endpoint = s->address = 0;
	session_set_timer(s, 0);
}

void pg_session_close(struct pg_session *s)
{
	session_drop_connection(s);
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

int pg_session_instance(const struct pg_session *s)
{
	if (!s->conn || s->endpoint >= s->config.endpoints->count)
		return -1;
	return s->config.endpoints->items[s->endpoint].instance;
}
