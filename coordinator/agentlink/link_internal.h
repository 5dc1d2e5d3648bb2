/* Between the files of the agents' links. */
#pragma once

#include <cjson/cJSON.h>

#include "agentlink/agent_link.h"

#define REVERT_TIMEOUT_MS 15000

struct agent_link {
	struct http_client *http;
	struct agent_address address;
	char *name;
	bool clock_known;
	int64_t offset_ns;		/* ours - the agent's */
	uint64_t uncertainty_ns;	/* of the offset, when it was measured */
	uint64_t measured_ns;
	struct clock_series *series;	/* a measurement under way */
	struct http_call *follow_call;
	void (*on_event)(const struct agent_event *e, void *data);
	void (*on_lost)(const char *why, void *data);
	void *follow_data;
	struct pending *pending;
};

struct link_question {
	const char *method, *path;
	const char *body;		/* JSON; NULL: none */
	uint64_t timeout_ms;		/* 0: 5000 */
};

struct link_listener {
	/* json may be taken (and set to NULL); err NULL: it answered, and with no error. */
	void (*answered)(cJSON **json, const struct err *err, void *data);
	void (*forget)(void *data);	/* instead of answered, when it was given up; may be NULL */
	void *data;
};

/* Asks; the listener is told once, from the loop. *ret (may be NULL) is valid until then. */
int link_ask(struct agent_link *l, const struct link_question *q, const struct link_listener *listener,
	struct pending **ret, struct err **err);
void link_give_up(struct pending *p);
/* agent_link.c. Caller frees. */
char *link_url(const struct agent_link *l, const char *path);
struct http_request link_request(struct agent_link *l, const char *method, const char *url,
	const char *body, uint64_t timeout_ms);

/* agent_clock.c: a measurement under way ends without its done(). */
void link_clock_cancel(struct agent_link *l);
