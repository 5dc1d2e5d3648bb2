#include "api/authorize.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>
#include "core/clock.h"
#include "core/json.h"
#include "kube/kube.h"

#define ENTRIES_MAX    512
#define ASKED_MAX      32		/* at once */
#define ASK_TIMEOUT_MS 2000
#define RETRY_NS       NS_PER_S		/* after a failure: no sooner asked again */
#define FAILED_NS      (10 * NS_PER_S)	/* a failure that is told of without asking again */
#define STALE_NS       (3600 * NS_PER_S)	/* the longest that an allowance which has ended serves */
#define DIGEST_BYTES   32
#define TEXT_BYTES     256

#define REVIEWS_PATH  "/apis/authentication.k8s.io/v1/tokenreviews"
#define ACCESSES_PATH "/apis/authorization.k8s.io/v1/subjectaccessreviews"

enum known { NOTHING, ALLOWED, REFUSED, STRANGER };

struct waiter {
	authorize_done done;
	void *data;
	bool lenient;
	struct waiter *next;
};

struct entry {
	struct authorizer *all;
	unsigned char digest[DIGEST_BYTES];
	char *verb, *namespace;
	enum known known;
	uint64_t used_ns, until_ns, refresh_ns, failed_ns;
	char user[TEXT_BYTES], why[TEXT_BYTES], failure[TEXT_BYTES];
	struct kube_call *call;		/* being asked */
	struct waiter *waiters;
	struct entry *next;
};

struct authorizer {
	struct kube *kube;
	const char *audience;		/* NULL: the API server's own */
	uint64_t cache_ns;
	authorize_listener listener;
	void *data;
	struct entry *entries;
	unsigned count, asked;
};

static void set_text(char to[static TEXT_BYTES], const char *text)
{
	snprintf(to, TEXT_BYTES, "%s", text ? text : "");
	for (char *p = to; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

static void entry_free(struct entry *e)
{
	free(e->verb);
	free(e->namespace);
	free(e);
}

static struct decision decide(const struct entry *e, bool cached)
{
	return (struct decision){
		.allowed = e->known == ALLOWED,
		.stranger = e->known == STRANGER,
		.cached = cached,
		.user = e->user,
		.why = e->why,
	};
}

static struct decision decide_unknown(const struct entry *e)
{
	return (struct decision){.unknown = true, .user = e->user, .why = e->failure};
}

static bool serves_stale(const struct entry *e, uint64_t now)
{
	return e->known == ALLOWED && now < e->until_ns + STALE_NS;
}

static void waiters_tell(struct entry *e, const struct decision *d, const struct decision *lenient)
{
	struct waiter *list = steal_ptr(e->waiters), *next;

	for (struct waiter *w = list; w; w = next) {
		next = w->next;
		w->done(w->lenient ? lenient : d, w->data);
		free(w);
	}
}

static void entry_failed(struct entry *e, const char *what, const char *why)
{
	uint64_t now = now_ns();
	struct decision unknown, stale = decide(e, true);
	char text[TEXT_BYTES];

	e->all->asked--;
	e->call = NULL;
	e->failed_ns = now;
	snprintf(text, sizeof(text), "the API server cannot be asked (%s): %s", what, why);
	set_text(e->failure, text);
	unknown = decide_unknown(e);
	waiters_tell(e, &unknown, serves_stale(e, now) ? &stale : &unknown);
}

static void entry_known(struct entry *e, enum known known, const char *user, const char *why)
{
	struct authorize_ask ask = {.verb = e->verb, .namespace = e->namespace};
	uint64_t now = now_ns();
	uint64_t life = known == ALLOWED ? e->all->cache_ns : AUTHORIZE_REFUSED_MS * NS_PER_MS;
	struct decision d;

	e->all->asked--;
	e->call = NULL;
	e->known = known;
	e->failed_ns = 0;
	e->until_ns = now + life;
	e->refresh_ns = now + life / 3 * 2;
	set_text(e->user, user);
	set_text(e->why, why);
	d = decide(e, false);
	e->all->listener(&ask, &d, e->all->data);
	waiters_tell(e, &d, &d);
}

static void on_access(int r, const cJSON *json, const struct err *err, void *data)
{
	struct entry *e = data;
	const char *reason, *problem;
	char user[TEXT_BYTES];
	bool allowed;

	if (r < 0) {
		entry_failed(e, "SubjectAccessReview", err_text(err));
		return;
	}
	reason = kube_text(json, "status.reason");
	problem = kube_text(json, "status.evaluationError");
	allowed = cJSON_IsTrue(kube_field(json, "status.allowed")) &&
		  !cJSON_IsTrue(kube_field(json, "status.denied"));
	snprintf(user, sizeof(user), "%s", e->user);
	entry_known(e, allowed ? ALLOWED : REFUSED, user, reason && *reason ? reason :
		problem && *problem ? problem : allowed ? "the API server says so" :
		"no rule of the API server allows it");
}

/* Who the token is goes into the question as the API server gave it. */
static cJSON *access_body(const struct entry *e, const cJSON *user)
{
	static const char *const copied[] = {"groups", "extra", "uid"};
	cJSON *body = json_object(), *spec = json_object(), *what = json_object();

	json_add_string(body, "apiVersion", "authorization.k8s.io/v1");
	json_add_string(body, "kind", "SubjectAccessReview");
	json_add_string(what, "namespace", e->namespace);
	json_add_string(what, "verb", e->verb);
	json_add_string(what, "group", "pgjolt.io");
	json_add_string(what, "resource", "faults");
	json_add_item(spec, "resourceAttributes", what);
	json_add_string(spec, "user", cJSON_GetStringValue(json_get(user, "username")));
	for (size_t i = 0; i < ELEMENTS(copied); i++)
		if (json_get(user, copied[i]))
			json_add_item(spec, copied[i], cJSON_Duplicate(json_get(user, copied[i]), true));
	json_add_item(body, "spec", spec);
	return body;
}

static void entry_stranger(struct entry *e, const char *why)
{
	char text[TEXT_BYTES];

	if (e->all->audience)
		snprintf(text, sizeof(text), "a token for the audience \"%.60s\" is needed: %s", e->all->audience,
			why);
	else
		snprintf(text, sizeof(text), "%s", why);
	entry_known(e, STRANGER, "", text);
}

/* A server that knows nothing of audiences names none, and took any token. */
static bool audience_is_right(const struct entry *e, const cJSON *review)
{
	const cJSON *item;

	if (!e->all->audience)
		return true;
	cJSON_ArrayForEach(item, kube_field(review, "status.audiences"))
		if (cJSON_IsString(item) && strcmp(item->valuestring, e->all->audience) == 0)
			return true;
	return false;
}

static void on_review(int r, const cJSON *json, const struct err *err, void *data)
{
	_cleanup_err_ struct err *why = NULL;
	_cleanup_json_ cJSON *body = NULL;
	struct entry *e = data;
	const char *name, *problem;

	if (r < 0) {
		entry_failed(e, "TokenReview", err_text(err));
		return;
	}
	name = kube_text(json, "status.user.username");
	problem = kube_text(json, "status.error");
	if (!cJSON_IsTrue(kube_field(json, "status.authenticated")) || !name || !*name) {
		entry_stranger(e, problem && *problem ? problem : "the token is nobody's");
		return;
	}
	if (!audience_is_right(e, json)) {
		entry_stranger(e, "the API server does not say whom this one is for");
		return;
	}
	set_text(e->user, name);
	body = access_body(e, kube_field(json, "status.user"));
	r = kube_start(e->all->kube, "POST", ACCESSES_PATH, body, ASK_TIMEOUT_MS, on_access, e,
		&e->call, &why);
	if (r < 0)
		entry_failed(e, "SubjectAccessReview", err_text(why));
}

static void start_asking(struct entry *e, const char *token)
{
	_cleanup_json_ cJSON *body = json_object();
	_cleanup_err_ struct err *why = NULL;
	cJSON *spec = json_object();
	int r;

	json_add_string(body, "apiVersion", "authentication.k8s.io/v1");
	json_add_string(body, "kind", "TokenReview");
	json_add_string(spec, "token", token);
	if (e->all->audience) {
		cJSON *audiences = json_array();

		json_append(audiences, cJSON_CreateString(e->all->audience));
		json_add_item(spec, "audiences", audiences);
	}
	json_add_item(body, "spec", spec);
	e->all->asked++;
	r = kube_start(e->all->kube, "POST", REVIEWS_PATH, body, ASK_TIMEOUT_MS, on_review, e,
		&e->call, &why);
	if (r < 0)
		entry_failed(e, "TokenReview", err_text(why));
}

static struct entry *entry_find(struct authorizer *a, const struct authorize_ask *ask,
	const unsigned char *digest)
{
	for (struct entry *e = a->entries; e; e = e->next)
		if (memcmp(e->digest, digest, DIGEST_BYTES) == 0 && strcmp(e->verb, ask->verb) == 0 &&
		    strcmp(e->namespace, ask->namespace) == 0)
			return e;
	return NULL;
}

/* Makes room: drops the one that was used longest ago, of those that nobody waits for. */
static void entry_evict(struct authorizer *a)
{
	struct entry **oldest = NULL, *e;

	for (struct entry **p = &a->entries; *p; p = &(*p)->next)
		if (!(*p)->call && (!oldest || (*p)->used_ns < (*oldest)->used_ns))
			oldest = p;
	if (!oldest)
		return;
	e = *oldest;
	*oldest = e->next;
	entry_free(e);
	a->count--;
}

static struct entry *entry_new(struct authorizer *a, const struct authorize_ask *ask,
	const unsigned char *digest)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->all = a;
	memcpy(e->digest, digest, DIGEST_BYTES);
	e->verb = strdup(ask->verb);
	e->namespace = strdup(ask->namespace);
	if (!e->verb || !e->namespace) {
		entry_free(e);
		return NULL;
	}
	if (a->count >= ENTRIES_MAX)
		entry_evict(a);
	e->next = a->entries;
	a->entries = e;
	a->count++;
	return e;
}

static void wait_for(struct entry *e, const struct authorize_ask *ask, authorize_done done, void *data)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	*w = (struct waiter){done, data, ask->lenient, e->waiters};
	e->waiters = w;
	if (!e->call)
		start_asking(e, ask->token);
}

static void answer_from(struct entry *e, const struct authorize_ask *ask, authorize_done done,
	void *data)
{
	uint64_t now = now_ns();
	bool failing = e->failed_ns && now < e->failed_ns + FAILED_NS;
	bool may_ask = !e->call && now >= e->failed_ns + RETRY_NS && e->all->asked < ASKED_MAX;
	struct decision d;

	e->used_ns = now;
	if ((e->known != NOTHING && now < e->until_ns) ||
	    (failing && ask->lenient && serves_stale(e, now))) {
		d = decide(e, true);
		if (e->known == ALLOWED && now >= e->refresh_ns && may_ask)
			start_asking(e, ask->token);
		done(&d, data);
		return;
	}
	if (e->call || may_ask) {
		wait_for(e, ask, done, data);
		return;
	}
	if (!failing)
		set_text(e->failure, "too many questions are open at the API server");
	d = decide_unknown(e);
	done(&d, data);
}

void authorizer_ask(struct authorizer *a, const struct authorize_ask *ask, authorize_done done,
	void *data)
{
	struct decision none = {.unknown = true, .user = "", .why = "no memory"};
	unsigned char digest[DIGEST_BYTES];
	struct entry *e;

	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, ask->token, strlen(ask->token), digest) < 0) {
		none.why = "SHA-256 is not to be had";
		done(&none, data);
		return;
	}
	e = entry_find(a, ask, digest);
	if (!e)
		e = entry_new(a, ask, digest);
	if (e)
		answer_from(e, ask, done, data);
	else
		done(&none, data);
}

int authorizer_new(struct kube *kube, const char *audience, uint64_t cache_ms, authorize_listener listener,
	void *data, struct authorizer **ret, struct err **err)
{
	struct authorizer *a = calloc(1, sizeof(*a));

	if (!a)
		return err_errno(err, ENOMEM, "authorization");
	a->kube = kube;
	a->audience = audience;
	a->cache_ns = cache_ms * NS_PER_MS;
	a->listener = listener;
	a->data = data;
	*ret = a;
	return 0;
}

void authorizer_free(struct authorizer *a)
{
	static const struct decision stopping = {
		.unknown = true, .user = "", .why = "the agent is stopping"};
	struct entry *next;

	if (!a)
		return;
	for (struct entry *e = a->entries; e; e = next) {
		next = e->next;
		if (e->call)
			kube_cancel(e->call);
		waiters_tell(e, &stopping, &stopping);
		entry_free(e);
	}
	free(a);
}
