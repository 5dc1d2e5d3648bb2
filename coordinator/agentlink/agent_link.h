/*
 * Talking to one agent (to many at once: agent_ask.h). Times that an agent gives are mapped on our clock by an offset with a stated
 * uncertainty: the best (shortest) of several round trips to GET /v1/clock.
 */
#pragma once

#include "core/err.h"
#include "core/wire.h"
#include "http/http_client.h"

struct agent_link;

struct agent_address {
	char *unix_socket;	/* or */
	char *url;		/* https://HOST:PORT */
	struct http_tls tls;
	/* Who we are for an agent that asks the API server: a file, read again for each request, or the
	 * token itself. Sent to a URL alone, never to a socket. */
	char *token_path, *token;
};

#define AGENT_SOCKET_DEFAULT "/run/pgjolt/agent.sock"

int agent_link_new(struct http_client *http, const struct agent_address *address,
	struct agent_link **ret, struct err **err);
void agent_link_free(struct agent_link *l);
DEFINE_CLEANUP(struct agent_link, agent_link_free)
const char *agent_link_name(const struct agent_link *l);	/* node name once known, else address */

/* An agent's pod that was made anew is another address of the same node's agent: what was asked at the old one
 * is given up, and events are to be followed anew. url: https://HOST:PORT. */
void agent_link_move(struct agent_link *l, const char *url);
/* Where it is: a socket of this host (else NULL). Borrowed. */
const char *agent_link_socket(const struct agent_link *l);

/* For an agent that we started: we have done with it. *ret_leaving: nobody else uses it. Runs the loop. */
int agent_link_leave(struct agent_link *l, bool *ret_leaving, struct err **err);

/* Asynchronous, for several nodes at once and for the data path of a run. e NULL: failed, err set
 * (borrowed). */
typedef void (*agent_link_done)(struct experiment_info *e, const struct err *err, void *data);
/* Gives up all that were started and have no answer yet: their done() is not called. */
void agent_link_cancel(struct agent_link *l);
int agent_link_fire_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err);
int agent_link_get_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err);
int agent_link_revert_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err);
int agent_link_renew_start(struct agent_link *l, const char *experiment, uint64_t lease_ms,
	agent_link_done done, void *data, struct err **err);
/* Each event once; lost(why, data) when the stream ends: the agent is gone. */
int agent_link_follow(struct agent_link *l, void (*event)(const struct agent_event *e, void *data),
	void (*lost)(const char *why, void *data), void *data, struct err **err);
/* No more events, no lost(). */
void agent_link_unfollow(struct agent_link *l);

typedef void (*agent_link_clock_done)(const struct err *err, void *data);	/* err NULL: measured */
/* The best of so many round trips, and of what was measured before: that counts the less the older it is. */
int agent_link_clock_start(struct agent_link *l, unsigned rounds, agent_link_clock_done done,
	void *data, struct err **err);

/* Agent's now_ns() -> ours; uncertainty in *ret_uncertainty_ns (may be NULL). */
uint64_t agent_link_to_local_ns(const struct agent_link *l, uint64_t agent_ns,
	uint64_t *ret_uncertainty_ns);
