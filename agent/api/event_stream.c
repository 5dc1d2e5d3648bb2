#include "api/event_stream.h"

#include <stdio.h>
#include <string.h>
#include "api/client.h"
#include "api/event_log.h"
#include "api/server_internal.h"
#include "core/clock.h"

#define BLOCK_BYTES 16384

struct event_stream *event_stream_new(struct api_server *server, uint64_t after, bool follow,
	pid_t pid)
{
	struct event_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->server = server;
	s->sent = after;
	s->follow = follow;
	s->pid = pid;
	s->given_ns = now_ns();
	s->next = server->streams;
	if (s->next)
		s->next->previous = s;
	server->streams = s;
	server->n_followers += follow;
	return s;
}

void event_stream_free(struct event_stream *s)
{
	if (!s)
		return;
	if (s->previous)
		s->previous->next = s->next;
	else
		s->server->streams = s->next;
	if (s->next)
		s->next->previous = s->previous;
	s->server->n_followers -= s->follow;
	server_leave_if_unused(s->server);
	free(s->line);
	free(s);
}

/* Events that are no longer kept, or a sequence of an agent that ran before this one. */
static char *gap_line(uint64_t from, uint64_t to, bool restarted)
{
	struct agent_event gap = {.sequence = to, .at_ns = now_ns(), .kind = (char *)"gap"};
	char text[128];
	cJSON *json;
	char *line;

	if (restarted)
		snprintf(text, sizeof(text), "event %llu is not of this agent: it was started anew",
			(unsigned long long)from);
	else
		snprintf(text, sizeof(text), "events %llu to %llu are no longer kept",
			(unsigned long long)from, (unsigned long long)to);
	gap.text = text;
	json = agent_event_to_json(&gap);
	line = json_print(json);
	cJSON_Delete(json);
	return line;
}

/* The next line without its newline, or NULL: nothing to tell. */
static char *next_line(struct event_stream *s)
{
	const struct event_log *log = s->server->agent->events;
	const struct agent_event *e;
	cJSON *json;
	char *line;

	if (s->sent > event_log_last(log)) {
		line = gap_line(s->sent, 0, true);
		s->sent = 0;
		return line;
	}
	e = event_log_after(log, s->sent);
	if (!e)
		return NULL;
	if (e->sequence > s->sent + 1) {
		line = gap_line(s->sent + 1, e->sequence - 1, false);
		s->sent = e->sequence - 1;
		return line;
	}
	json = agent_event_to_json(e);
	line = json_print(json);
	cJSON_Delete(json);
	s->sent = e->sequence;
	return line;
}

/* Fills at most max bytes; 0: nothing to tell. */
static size_t fill(struct event_stream *s, char *to, size_t max)
{
	size_t filled = 0;

	while (filled < max) {
		size_t n;

		if (!s->line) {
			s->line = next_line(s);
			if (!s->line)
				break;
			s->length = strlen(s->line) + 1;
			s->line[s->length - 1] = '\n';	/* the NUL's place; length counts */
			s->offset = 0;
		}
		n = s->length - s->offset < max - filled ? s->length - s->offset : max - filled;
		memcpy(to + filled, s->line + s->offset, n);
		filled += n;
		s->offset += n;
		if (s->offset == s->length) {
			free(s->line);
			s->line = NULL;
		}
	}
	if (filled == 0 && s->beat && max > 0)
		to[filled++] = '\n';
	if (filled > 0)
		s->beat = false;
	return filled;
}

static ssize_t stream_read(void *data, uint64_t position, char *to, size_t max)
{
	struct event_stream *s = data;
	size_t n = fill(s, to, max);

	(void)position;
	if (s->client)
		s->client->since_ns = now_ns();
	if (n > 0) {
		s->given_ns = now_ns();
		return (ssize_t)n;
	}
	if (!s->follow || s->server->stopping)
		return MHD_CONTENT_READER_END_OF_STREAM;
	s->suspended = true;
	if (s->client)
		s->client->suspended = true;
	MHD_suspend_connection(s->connection);
	return 0;
}

static void stream_freed(void *data)
{
	struct event_stream *s = data;

	if (s->client) {
		s->client->following = false;
		s->client->suspended = false;
	}
	event_stream_free(s);
}

struct MHD_Response *event_stream_respond(struct event_stream *s,
	struct MHD_Connection *connection, struct client *client)
{
	struct MHD_Response *response;

	s->connection = connection;
	s->client = client;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, stream_read, s,
		stream_freed);
	if (!response) {
		event_stream_free(s);
		return NULL;
	}
	if (client)
		client->following = s->follow;
	return response;
}

bool event_stream_resume(struct event_stream *s)
{
	if (!s->suspended)
		return false;
	s->suspended = false;
	if (s->client) {
		s->client->suspended = false;
		s->client->since_ns = now_ns();
	}
	MHD_resume_connection(s->connection);
	return true;
}

bool event_stream_beat(struct event_stream *s, uint64_t at_ns)
{
	if (!s->follow || at_ns < s->given_ns + EVENT_HEARTBEAT_MS * NS_PER_MS)
		return false;
	s->beat = true;
	return true;
}
