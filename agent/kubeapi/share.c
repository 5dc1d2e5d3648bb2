#include "kubeapi/share.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "experiment/experiment.h"
#include "kube/kube.h"
#include "kubeapi/claims.h"
#include "kubeapi/members.h"

#define LEASES_PATH  "/apis/coordination.k8s.io/v1/namespaces/%s/leases"
#define CALL_MS	     1500
#define TAKE_NS	     (5 * NS_PER_S)	/* then a place is not waited for */
#define TRIES_MAX    8			/* of a change that others are faster with */
#define LOOK_US	     5000000ULL
#define MS_PER_S     1000
#define MARGIN_S     30			/* a claim's end after the fault's: reverting takes its time */
#define PROLONG_S    60			/* at a time */

/* An instance that this agent has claimed, or is about to. */
struct share_claim {
	char *instance, *cluster, *lease;
	int64_t until_s;		/* as the API server has it; 0: it has not */
	unsigned arming;		/* requests between claim and armed */
	struct share_claim *next;
};

/* One change of a Lease: of one place that is wanted, or of what is to be prolonged and given back. */
struct change {
	struct shares *all;
	char *lease;
	bool begun;
	unsigned tries;
	struct kube_call *call;
	struct claims written;		/* as it is being sent */
	/* Of a place that is wanted; claim NULL: none is. */
	struct share_claim *claim;
	cJSON *pod;
	uint64_t since_ns, last_ms;
	uint32_t bound_ppm;
	unsigned members;
	char *bound_words, *words;
	share_done done;
	void *data;
	struct change *next;
};

struct shares {
	struct shares_world world;
	struct share_claim *claims;
	struct change *changes;		/* in order; one a Lease at a time */
	struct kube_call *listing;
	bool listed;			/* what an earlier agent left is known */
	sd_event_source *look;
	uint64_t look_ns;		/* when; UINT64_MAX: not */
	char *told;			/* the last error, told once */
};

static int64_t realtime_s(void)
{
	return (int64_t)(realtime_ns() / NS_PER_S);
}

static void claim_free(struct share_claim *c)
{
	free(c->instance);
	free(c->cluster);
	free(c->lease);
	free(c);
}

static void claim_forget(struct shares *s, struct share_claim *claim)
{
	struct share_claim **p = &s->claims;

	while (*p != claim)
		p = &(*p)->next;
	*p = claim->next;
	claim_free(claim);
}

static void change_free(struct change *c)
{
	if (c->call)
		kube_cancel(c->call);
	claims_done(&c->written);
	cJSON_Delete(c->pod);
	free(c->lease);
	free(c->bound_words);
	free(c->words);
	free(c);
}

static struct share_claim *claim_of(const struct shares *s, const char *instance)
{
	for (struct share_claim *c = s->claims; c; c = c->next)
		if (strcmp(c->instance, instance) == 0)
			return c;
	return NULL;
}

static bool is_needed(const struct shares *s, const struct share_claim *c)
{
	return c->arming > 0 || s->world.busy_ms(c->instance, s->world.data) > 0;
}

/* The end that a claim must have now. */
static int64_t needed_until_s(const struct shares *s, const struct share_claim *c)
{
	uint64_t ms = s->world.busy_ms(c->instance, s->world.data);

	return ms ? realtime_s() + (int64_t)(ms / MS_PER_S) + 1 + MARGIN_S : c->until_s;
}

/* Or sooner, where that was said before. */
static void look_in(struct shares *s, uint64_t us)
{
	uint64_t at_ns = now_ns() + us * NS_PER_US;

	if (at_ns >= s->look_ns || sd_event_source_set_time(s->look, at_ns / NS_PER_US) < 0 ||
	    sd_event_source_set_enabled(s->look, SD_EVENT_ONESHOT) < 0)
		return;
	s->look_ns = at_ns;
}

/* ---- one change ---- */

static void change_start(struct change *c);

static void start_next(struct shares *s, const char *lease)
{
	for (struct change *c = s->changes; c; c = c->next) {
		if (strcmp(c->lease, lease) != 0)
			continue;
		if (!c->begun)
			change_start(c);
		return;
	}
}

static void change_unlink(struct change *c)
{
	for (struct change **p = &c->all->changes; *p; p = &(*p)->next) {
		if (*p != c)
			continue;
		*p = c->next;
		return;
	}
}

static void tell_error(struct shares *s, const char *lease, int r, const char *words)
{
	char text[512];

	snprintf(text, sizeof(text), "the claims of Lease %s/%s cannot be brought up to date, it is tried again: %s",
		s->world.namespace, lease, words);
	if (r >= 0 || (s->told && strcmp(s->told, text) == 0))
		return;
	free(s->told);
	s->told = strdup(text);
	s->world.tell_error(s->world.data, text);
}

/* What came of it; the next change of the same Lease may begin. */
static void change_end(struct change *c, int r, const char *words)
{
	struct shares *s = c->all;
	_cleanup_free_ char *lease = strdup(c->lease);
	struct share_claim *claim = c->claim;

	change_unlink(c);
	if (claim && r < 0) {
		claim->arming--;
		if (r == -EBUSY && claim->arming == 0 && claim->until_s == 0)
			claim_forget(s, claim);
	}
	if (c->done)
		c->done(r < 0 ? NULL : claim, r, words, c->data);
	else
		tell_error(s, lease, r, words);
	if (!c->done && r >= 0) {
		free(s->told);
		s->told = NULL;
	}
	change_free(c);
	/* What was refused, or lost on the way, is given back; what failed is tried again. */
	look_in(s, r < 0 && !claim ? LOOK_US : 0);
	if (lease)
		start_next(s, lease);
}

static void change_failed(struct change *c, int r, const char *what, const struct err *err)
{
	_cleanup_free_ char *words = NULL;

	if (asprintf(&words, "%s: %s", what, err_text(err)) < 0)
		words = NULL;
	change_end(c, r == -EBUSY || r >= 0 ? -EIO : r, words ? words : what);
}

/* The Lease is as it was sent: what we hold is known, what was given back forgotten. */
static void change_accepted(struct change *c)
{
	struct shares *s = c->all;

	for (struct share_claim *claim = s->claims, *next; claim; claim = next) {
		const struct claim *there = claims_find(&c->written, claim->instance);

		next = claim->next;
		if (strcmp(claim->lease, c->lease) != 0)
			continue;
		claim->until_s = there && strcmp(there->node, s->world.node) == 0 ? there->until_s : 0;
		if (claim->until_s == 0 && !is_needed(s, claim))
			claim_forget(s, claim);
	}
	change_end(c, 0, c->words ? c->words : "");
}

static void change_read(struct change *c);

static void on_written(int r, const cJSON *json, const struct err *err, void *data)
{
	struct change *c = data;

	(void)json;
	c->call = NULL;
	/* Somebody was faster, or it is gone: looked at anew. */
	if (r == -EEXIST || r == -ENOENT) {
		if (++c->tries < TRIES_MAX)
			change_read(c);
		else
			change_failed(c, -EAGAIN, "other agents change it all the time", err);
	} else if (r < 0) {
		change_failed(c, r, "Lease", err);
	} else {
		change_accepted(c);
	}
}

static cJSON *deletion_of(const cJSON *lease)
{
	cJSON *options = json_object(), *preconditions = json_object();
	const char *version = kube_text(lease, "metadata.resourceVersion");

	json_add_string(options, "apiVersion", "v1");
	json_add_string(options, "kind", "DeleteOptions");
	json_add_item(options, "preconditions", preconditions);
	json_add_string(preconditions, "uid", kube_uid(lease));
	json_add_string(preconditions, "resourceVersion", version ? version : "");
	return options;
}

static void change_write(struct change *c, const cJSON *lease)
{
	struct shares *s = c->all;
	_cleanup_free_ char *all = kube_path(LEASES_PATH, s->world.namespace);
	_cleanup_free_ char *one = kube_path(LEASES_PATH "/%s", s->world.namespace, c->lease);
	const char *cluster = c->claim ? c->claim->cluster : c->lease;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *body = NULL;
	const char *method = lease ? "PUT" : "POST";
	int r;

	for (struct share_claim *k = s->claims; k; k = k->next)
		if (strcmp(k->lease, c->lease) == 0)
			cluster = k->cluster;
	if (lease && c->written.count == 0) {
		method = "DELETE";
		body = deletion_of(lease);
	} else {
		body = lease ? claims_lease_with(lease, &c->written) :
			       claims_lease_new(s->world.namespace, c->lease, cluster, &c->written);
	}
	r = kube_start(s->world.kube, method, lease ? one : all, body, CALL_MS, on_written, c, &c->call, &err);
	if (r < 0)
		change_failed(c, r, "Lease", err);
}

/* Those of this node as they are now: prolonged, given back. Returns whether that changes the Lease. */
static bool bring_up_to_date(struct change *c)
{
	struct shares *s = c->all;
	bool changed = false;

	for (struct share_claim *k = s->claims; k; k = k->next) {
		int64_t until_s;

		if (strcmp(k->lease, c->lease) != 0)
			continue;
		until_s = needed_until_s(s, k);
		if (!is_needed(s, k))
			changed = claims_drop(&c->written, k->instance, s->world.node) || changed;
		else if (until_s > k->until_s || !claims_find(&c->written, k->instance))
			changed = (until_s && claims_put(&c->written, k->instance, s->world.node,
						      until_s + PROLONG_S)) || changed;
	}
	for (size_t i = c->written.count; i-- > 0;) {
		const struct claim *there = &c->written.items[i];

		if (strcmp(there->node, s->world.node) == 0 && !claim_of(s, there->instance))
			changed = claims_drop(&c->written, there->instance, s->world.node) || changed;
	}
	return changed;
}

/* Takes the place, or says who has it. */
static int take_place(struct change *c)
{
	const struct share_claim *claim = c->claim;
	bool had = claims_find(&c->written, claim->instance) != NULL;
	unsigned others = (unsigned)c->written.count - had, most = share_allows(c->bound_ppm, c->members);
	_cleanup_free_ char *who = claims_words(&c->written);
	int n;

	if (others + 1 > most) {
		n = asprintf(&c->words, "%u of %u instances of cluster %s %s under fault%s%s, and at most %u may be "
			"(%s)", others, c->members, claim->cluster, others == 1 ? "is" : "are",
			who ? ": " : "", who ? who : "", most, c->bound_words);
		if (n < 0)
			c->words = NULL;
		return -EBUSY;
	}
	claims_put(&c->written, claim->instance, c->all->world.node,
		realtime_s() + (int64_t)(c->last_ms / MS_PER_S) + 1 + MARGIN_S + PROLONG_S);
	free(c->words);
	n = asprintf(&c->words, "%u of %u instances of cluster %s under fault with it, at most %u may be (%s)",
		others + 1, c->members, claim->cluster, most, c->bound_words);
	if (n < 0)
		c->words = NULL;
	return 0;
}

static void on_read(int r, const cJSON *lease, const struct err *err, void *data)
{
	struct change *c = data;
	_cleanup_err_ struct err *why = NULL;
	bool changed;

	c->call = NULL;
	claims_done(&c->written);
	if (r < 0 && r != -ENOENT) {
		change_failed(c, r, "Lease", err);
		return;
	}
	if (r == -ENOENT)
		lease = NULL;
	r = claims_read(lease, &c->written, &why);
	if (r < 0) {
		change_failed(c, r, "it must be deleted by hand once no fault is there", why);
		return;
	}
	changed = claims_expire(&c->written, realtime_s()) > 0;
	changed = bring_up_to_date(c) || changed;
	if (c->claim) {
		r = take_place(c);
		if (r < 0) {
			change_end(c, r, c->words ? c->words : "no place is left");
			return;
		}
		changed = true;
	}
	if (changed && (lease || c->written.count > 0))
		change_write(c, lease);
	else
		change_accepted(c);
}

static bool is_late(const struct change *c)
{
	return c->claim && now_ns() > c->since_ns + TAKE_NS;
}

static void change_read(struct change *c)
{
	_cleanup_free_ char *path = kube_path(LEASES_PATH "/%s", c->all->world.namespace, c->lease);
	_cleanup_err_ struct err *err = NULL;
	int r;

	if (is_late(c)) {
		change_end(c, -ETIMEDOUT, "the API server takes too long");
		return;
	}
	r = kube_start(c->all->world.kube, "GET", path, NULL, CALL_MS, on_read, c, &c->call, &err);
	if (r < 0)
		change_failed(c, r, "Lease", err);
}

static void on_members(int r, const cJSON *list, const struct err *err, void *data)
{
	struct change *c = data;

	c->call = NULL;
	if (r < 0) {
		change_failed(c, r, "the cluster's pods", err);
		return;
	}
	c->members = members_count(list, c->pod);
	change_read(c);
}

static void change_start(struct change *c)
{
	_cleanup_free_ char *path = c->pod ? members_path(c->pod) : NULL;
	_cleanup_err_ struct err *err = NULL;
	int r;

	c->begun = true;
	if (is_late(c)) {
		change_end(c, -ETIMEDOUT, "the API server takes too long");
		return;
	}
	if (!path) {
		c->members = 1;
		change_read(c);
		return;
	}
	r = kube_start(c->all->world.kube, "GET", path, NULL, CALL_MS, on_members, c, &c->call, &err);
	if (r < 0)
		change_failed(c, r, "the cluster's pods", err);
}

static struct change *change_new(struct shares *s, const char *lease)
{
	struct change *c = calloc(1, sizeof(*c)), **p;

	if (!c)
		abort();
	c->all = s;
	c->lease = strdup(lease);
	if (!c->lease)
		abort();
	for (p = &s->changes; *p; p = &(*p)->next)
		;
	*p = c;
	return c;
}

/* ---- what is there ---- */

static bool has_change(const struct shares *s, const char *lease)
{
	for (const struct change *c = s->changes; c; c = c->next)
		if (strcmp(c->lease, lease) == 0)
			return true;
	return false;
}

static void update(struct shares *s, const char *lease)
{
	if (has_change(s, lease))
		return;
	change_new(s, lease);
	start_next(s, lease);
}

/* Is the Lease to be changed for it? */
static bool is_outdated(const struct shares *s, const struct share_claim *c)
{
	return !is_needed(s, c) || needed_until_s(s, c) > c->until_s;
}

static void on_listed(int r, const cJSON *list, const struct err *err, void *data)
{
	struct shares *s = data;
	const cJSON *lease;

	s->listing = NULL;
	s->listed = r >= 0;
	if (r < 0)
		tell_error(s, "*", r, err_text(err));
	/* Each is looked at: what is of our node and not ours goes. */
	cJSON_ArrayForEach(lease, kube_field(list, "items"))
		if (*kube_name(lease))
			update(s, kube_name(lease));
	look_in(s, LOOK_US);
}

static void list(struct shares *s)
{
	_cleanup_free_ char *path = kube_path(LEASES_PATH "?labelSelector=%s", s->world.namespace,
		SHARE_LABEL "=" SHARE_LABEL_VALUE);
	_cleanup_err_ struct err *err = NULL;

	if (s->listing)
		return;
	if (kube_start(s->world.kube, "GET", path, NULL, CALL_MS, on_listed, s, &s->listing, &err) < 0)
		tell_error(s, "*", -EIO, err_text(err));
}

static int on_look(sd_event_source *source, uint64_t usec, void *data)
{
	struct shares *s = data;

	(void)source, (void)usec;
	s->look_ns = UINT64_MAX;
	for (const struct share_claim *c = s->claims; c; c = c->next)
		if (is_outdated(s, c))
			update(s, c->lease);
	if (!s->listed)
		list(s);
	if (s->claims || !s->listed)
		look_in(s, LOOK_US);
	return 0;
}

int shares_new(const struct shares_world *world, struct shares **ret, struct err **err)
{
	struct shares *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, ENOMEM, "no memory");
	s->world = *world;
	s->look_ns = now_ns();
	r = sd_event_add_time(world->event, &s->look, CLOCK_MONOTONIC, s->look_ns / NS_PER_US, 1000, on_look, s);
	if (r < 0) {
		shares_free(s);
		return err_errno(err, r, "share of a cluster: event loop");
	}
	*ret = s;
	return 0;
}

void shares_free(struct shares *s)
{
	struct change *changes;

	if (!s)
		return;
	sd_event_source_disable_unref(s->look);
	if (s->listing)
		kube_cancel(s->listing);
	changes = steal_ptr(s->changes);
	for (struct change *c = changes, *next; c; c = next) {
		next = c->next;
		if (c->done)
			c->done(NULL, -EAGAIN, "the agent is stopping", c->data);
		change_free(c);
	}
	for (struct share_claim *c = s->claims, *next; c; c = next) {
		next = c->next;
		claim_free(c);
	}
	free(s->told);
	free(s);
}

static struct share_claim *claim_new(struct shares *s, const struct share_ask *ask)
{
	struct share_claim *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	c->instance = strdup(ask->instance);
	c->cluster = strdup(ask->cluster);
	c->lease = kube_cluster_object("pgjolt-share-", ask->cluster);
	if (!c->instance || !c->cluster || !c->lease)
		abort();
	c->next = s->claims;
	s->claims = c;
	return c;
}

void shares_take(struct shares *s, const struct share_ask *ask, share_done done, void *data)
{
	struct share_claim *claim = claim_of(s, ask->instance);
	struct change *c;

	if (!claim)
		claim = claim_new(s, ask);
	claim->arming++;
	c = change_new(s, claim->lease);
	c->claim = claim;
	c->pod = cJSON_Duplicate(ask->pod, true);
	c->bound_ppm = ask->bound_ppm;
	c->bound_words = strdup(ask->bound_words);
	c->last_ms = ask->last_ms;
	c->since_ns = now_ns();
	c->done = done;
	c->data = data;
	if (!c->pod || !c->bound_words)
		abort();
	start_next(s, claim->lease);
}

void shares_settle(struct shares *s, struct share_claim *claim)
{
	if (!claim)
		return;
	claim->arming--;
	look_in(s, 0);
}

bool shares_is_claimed(const struct shares *s, const char *instance)
{
	const struct share_claim *c = claim_of(s, instance);

	return c && c->arming > 0 && c->until_s > 0;
}

int shares_check_fire(const struct shares *s, const char *instance, uint64_t last_ms, struct err **err)
{
	const struct share_claim *c = claim_of(s, instance);

	if (!c || realtime_s() + (int64_t)(last_ms / MS_PER_S) <= c->until_s)
		return 0;
	return err_set(err, EBUSY, "it could outlast the claim on %s, which the API server has not prolonged (%s)",
		instance, s->told ? s->told : "it was not asked yet");
}

void shares_look(struct shares *s)
{
	look_in(s, 0);
}

bool shares_are_held(const struct shares *s)
{
	return s->claims != NULL;
}
