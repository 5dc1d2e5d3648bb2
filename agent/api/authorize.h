/*
 * May this caller do that in that namespace? The API server knows: TokenReview says whose token it
 * is, SubjectAccessReview whether that user may VERB faults.pgjolt.io in NAMESPACE
 * (kubernetes.io/docs/reference/access-authn-authz). Asked on the loop, never waited for. An answer serves for the cache's
 * time, a refusal for AUTHORIZE_REFUSED_MS; one in use is asked for anew before it ends, so that firing
 * does not wait. Tokens are kept as their SHA-256 alone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "core/err.h"

struct authorizer;
struct kube;

#define AUTHORIZE_CACHE_MS   30000	/* default of --authorize-cache */
#define AUTHORIZE_REFUSED_MS 5000
#define AUTHORIZE_TOKEN_MAX  16384	/* bytes */

struct authorize_ask {
	const char *token;
	const char *verb;	/* "create" */
	const char *namespace;
	/* While the API server does not answer, an allowance that has ended goes on serving: what an
	 * experiment that is there needs. */
	bool lenient;
};

struct decision {
	bool allowed;
	bool unknown;		/* not allowed, since the API server could not be asked */
	bool stranger;		/* not allowed, since the token is nobody's */
	bool cached;
	const char *user;	/* "" where not known; printable */
	const char *why;	/* printable */
};

/* A fresh answer of the API server, for the audit. */
typedef void (*authorize_listener)(const struct authorize_ask *ask, const struct decision *d, void *data);

/* kube and audience are borrowed. audience: whom a token must be for, so that one which serves with the agents serves
 * nowhere else, and none of the API server's has to be shown to them; NULL: the API server. */
int authorizer_new(struct kube *kube, const char *audience, uint64_t cache_ms, authorize_listener listener,
	void *data, struct authorizer **ret, struct err **err);
/* Those who wait are told that it is not known. */
void authorizer_free(struct authorizer *a);

/* done is called once: at once where the answer is known, else from the loop. d is borrowed. ask is not
 * kept. */
typedef void (*authorize_done)(const struct decision *d, void *data);
void authorizer_ask(struct authorizer *a, const struct authorize_ask *ask, authorize_done done,
	void *data);
