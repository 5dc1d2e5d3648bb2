/* Who did what to which target, and what came of it: one line of log and one event (kind "audit")
 * for each call that changes something, and for callers who were refused. */
#pragma once

#include <cjson/cJSON.h>
#include <stdint.h>
#include "api/authorize.h"

struct api_server;
struct caller;

#define AUDIT_REFUSED_MAX	20	/* a stranger must not fill log and ring: lines of refusals */
#define AUDIT_REFUSED_WINDOW_MS 60000	/* in this time; the rest is counted */

struct audit_window {
	uint64_t since_ns;
	unsigned told, untold;
};

struct audit_call {
	const char *verb;	/* "fire" */
	const char *experiment;	/* NULL: none, or the body's */
	const cJSON *body, *answer;	/* may be NULL: where experiment, fault and instance are */
	unsigned status;
	const char *error;	/* NULL: it was done */
	const char *decision;	/* why the caller may; NULL: it was not asked */
};

void audit_change(struct api_server *server, const struct caller *caller,
	const struct audit_call *call);
/* What the API server said of a user; data: the api_server. */
void audit_decision(const struct authorize_ask *ask, const struct decision *d, void *data);
void audit_refusal(struct api_server *server, const struct caller *caller, const char *method,
	const char *path, const char *why);
