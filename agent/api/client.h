/*
 * One connection of a client, and how long it may take. libmicrohttpd's own limit begins anew with
 * every byte, so a client that trickles could hold its place for ever; these limits do not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_STRANGER_MS 30000	/* until the first request of a caller who may */
#define CLIENT_REQUEST_MS  30000	/* from a request's first line to its answer's end */
#define CLIENT_IDLE_MS	   600000	/* between two requests: coordinators keep theirs warm */
#define CLIENT_STALLED_MS  60000	/* a follower of events who takes none */

struct client {
	int fd;			/* libmicrohttpd's */
	uint64_t since_ns;	/* connected, or the last request's begin or end, or progress */
	bool known;		/* has made a request that was allowed */
	bool busy;		/* a request is being read or answered */
	bool answering;		/* its request is complete */
	bool following;		/* gets events */
	bool suspended;		/* waits for events: nothing is expected of it */
	const void *listener;	/* whose connection it is */
	struct client *previous, *next;
};

struct client_list {
	struct client *first;
	unsigned count;
};

struct client *client_new(struct client_list *list, int fd, const void *listener);
void client_free(struct client_list *list, struct client *c);
/* Shuts those down that took too long, or that will say no more before their request is complete; libmicrohttpd
 * then finds them closed. Returns how many. */
unsigned client_list_expire(struct client_list *list, uint64_t at_ns);
/* Shuts down all of that listener. */
void client_list_shut(struct client_list *list, const void *listener);
