/*
 * Talking to one agent. Times that an agent gives are mapped on our clock by an offset with a stated
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

/* These run the loop until the answer is there. */
int agent_link_node(struct agent_link *l, struct node_info **ret, struct err **err);
int agent_link_instances(struct agent_link *l, struct instance_info ***ret, size_t *ret_count,
	struct err **err);
int agent_link_experiments(struct agent_link *l, struct experiment_info ***ret, size_t *ret_count,
	struct err **err);
int agent_link_arm(struct agent_link *l, const struct arm_request *r, struct experiment_info **ret,
	struct err **err);
int agent_link_revert(struct agent_link *l, const char *experiment, struct experiment_info **ret,
	struct err **err);
/* For an agent that we started: we have done with it. *ret_leaving: nobody else uses it. */
int agent_link_leave(struct agent_link *l, bool *ret_leaving, struct err **err);
/* run NULL: everything on the node. */
int agent_link_revert_all(struct agent_link *l, const char *run, size_t *ret_left, struct err **err);
int agent_link_get(struct agent_link *l, const char *experiment, struct experiment_info **ret,
	struct err **err);
int agent_link_measure_clock(struct agent_link *l, unsigned rounds, struct err **err);

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

/* Agent's now_ns() -> ours; uncertainty in *ret_uncertainty_ns (may be NULL). */
uint64_t agent_link_to_local_ns(const struct agent_link *l, uint64_t agent_ns,
	uint64_t *ret_uncertainty_ns);
