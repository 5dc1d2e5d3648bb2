/* One reader of GET /v1/events: what was sent already, and whether it waits for more. */
#pragma once

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct api_server;
struct client;

#define EVENT_HEARTBEAT_MS 10000

struct event_stream {
	struct api_server *server;
	struct MHD_Connection *connection;	/* set as the answer is queued */
	struct client *client;
	uint64_t sent;		/* sequence of the last event given */
	bool follow;
	pid_t pid;		/* who reads; 0: not on this node's socket */
	bool suspended;		/* its connection is, until stream_resume() */
	bool beat;		/* an empty line is due */
	uint64_t given_ns;	/* when something was given last */
	char *line;		/* being given */
	size_t length, offset;
	struct event_stream *previous, *next;
};

/* after: events beyond this sequence. pid: who reads. */
struct event_stream *event_stream_new(struct api_server *server, uint64_t after, bool follow,
	pid_t pid);
void event_stream_free(struct event_stream *s);
/* Takes s; it is freed with the response. NULL without memory. */
struct MHD_Response *event_stream_respond(struct event_stream *s,
	struct MHD_Connection *connection, struct client *client);
/* Lets a waiting reader go on; the daemon has to run then. False: it was not waiting. */
bool event_stream_resume(struct event_stream *s);
/* Asks for an empty line when nothing was given for EVENT_HEARTBEAT_MS. */
bool event_stream_beat(struct event_stream *s, uint64_t at_ns);
