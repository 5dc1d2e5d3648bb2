#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "experiment/experiment.h"
#include "kubeapi/members.h"
#include "kubeapi/share_internal.h"

#define TAKE_NS	  (5 * NS_PER_S)	/* then a place is not waited for */
#define TRIES_MAX 8			/* of a change that others are faster with */
#define PROLONG_S 60			/* at a time */

/* One change of a ConfigMap: of one place that is wanted, or of what is to be prolonged and given back. */
struct change {
	struct shares *all;
	char *map;
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

static void change_free(struct change *c)
{
	if (c->call)
		kube_cancel(c->call);
	claims_done(&c->written);
	cJSON_Delete(c->pod);
	free(c->map);
	free(c->bound_words);
	free(c->words);
	free(c);
}

static void change_start(struct change *c);

static void start_next(struct shares *s, const char *map)
{
	for (struct change *c = s->changes; c; c = c->next) {
		if (strcmp(c->map, map) != 0)
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

/* What came of it; the next change of the same ConfigMap may begin. */
static void change_end(struct change *c, int r, const char *words)
{
	struct shares *s = c->all;
	_cleanup_free_ char *map = strdup(c->map);
	struct share_claim *claim = c->claim;

	change_unlink(c);
	if (claim && r < 0) {
		claim->arming--;
		if (r == -EBUSY && claim->arming == 0 && claim->until_s == 0)
			share_forget(s, claim);
	}
	if (c->done)
		c->done(r < 0 ? NULL : claim, r, words, c->data);
	else
		share_tell_error(s, map, r, words);
	if (!c->done && r >= 0) {
		free(s->told);
		s->told = NULL;
	}
	change_free(c);
	/* What was refused, or lost on the way, is given back; what failed is tried again. */
	share_look_in(s, r < 0 && !claim ? SHARE_LOOK_US : 0);
	if (map)
		start_next(s, map);
}

static void change_failed(struct change *c, int r, const char *what, const struct err *err)
{
	_cleanup_free_ char *words = NULL;

	if (asprintf(&words, "%s: %s", what, err_text(err)) < 0)
		words = NULL;
	change_end(c, r == -EBUSY || r >= 0 ? -EIO : r, words ? words : what);
}

/* The ConfigMap is as it was sent: what we hold is known, what was given back forgotten. */
static void change_accepted(struct change *c)
{
	struct shares *s = c->all;

	for (struct share_claim *claim = s->claims, *next; claim; claim = next) {
		const struct claim *there = claims_find(&c->written, claim->instance);

		next = claim->next;
		if (strcmp(claim->map, c->map) != 0)
			continue;
		claim->until_s = there && strcmp(there->node, s->world.node) == 0 ? there->until_s : 0;
		if (claim->until_s == 0 && !share_is_needed(s, claim))
			share_forget(s, claim);
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
		change_failed(c, r, "ConfigMap", err);
	} else {
		change_accepted(c);
	}
}

static cJSON *deletion_of(const cJSON *map)
{
	cJSON *options = json_object(), *preconditions = json_object();
	const char *version = kube_text(map, "metadata.resourceVersion");

	json_add_string(options, "apiVersion", "v1");
	json_add_string(options, "kind", "DeleteOptions");
	json_add_item(options, "preconditions", preconditions);
	json_add_string(preconditions, "uid", kube_uid(map));
	json_add_string(preconditions, "resourceVersion", version ? version : "");
	return options;
}

static void change_write(struct change *c, const cJSON *map)
{
	struct shares *s = c->all;
	_cleanup_free_ char *all = kube_path(MAPS_PATH, s->world.namespace);
	_cleanup_free_ char *one = kube_path(MAPS_PATH "/%s", s->world.namespace, c->map);
	const char *cluster = claims_cluster(map);
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *body = NULL;
	const char *method = map ? "PUT" : "POST";
	int r;

	for (struct share_claim *k = s->claims; k; k = k->next)
		if (strcmp(k->map, c->map) == 0)
			cluster = k->cluster;
	if (!cluster)
		cluster = c->map;
	if (map && c->written.count == 0) {
		method = "DELETE";
		body = deletion_of(map);
	} else {
		body = claims_map(s->world.namespace, c->map, cluster, &c->written, map);
	}
	r = kube_start(s->world.kube, method, map ? one : all, body, SHARE_CALL_MS, on_written, c, &c->call, &err);
	if (r < 0)
		change_failed(c, r, "ConfigMap", err);
}

/* An earlier agent's fault that could not be undone yet goes on, and so does its claim. */
static void adopt_left(struct change *c, const cJSON *map)
{
	const char *cluster = claims_cluster(map);
	struct shares *s = c->all;

	for (size_t i = 0; i < c->written.count; i++) {
		const struct claim *there = &c->written.items[i];

		if (strcmp(there->node, s->world.node) == 0 && !share_claim_of(s, there->instance) &&
		    s->world.busy_ms(there->instance, s->world.data) > 0)
			share_adopt(s, there, c->map, cluster ? cluster : c->map);
	}
}

/* Those of this node as they are now: prolonged, given back. Returns whether that changes the ConfigMap. */
static bool bring_up_to_date(struct change *c)
{
	struct shares *s = c->all;
	bool changed = false;

	for (struct share_claim *k = s->claims; k; k = k->next) {
		int64_t until_s;

		if (strcmp(k->map, c->map) != 0)
			continue;
		until_s = share_needed_until_s(s, k);
		if (!share_is_needed(s, k))
			changed = claims_drop(&c->written, k->instance, s->world.node) || changed;
		else if (until_s > k->until_s || !claims_find(&c->written, k->instance))
			changed = (until_s && claims_put(&c->written, k->instance, s->world.node,
						      until_s + PROLONG_S)) || changed;
	}
	for (size_t i = c->written.count; i-- > 0;) {
		const struct claim *there = &c->written.items[i];

		if (strcmp(there->node, s->world.node) == 0 && !share_claim_of(s, there->instance))
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

	/* Of a try before this one. */
	free(c->words);
	c->words = NULL;
	if (others + 1 > most) {
		n = asprintf(&c->words, "%u of %u instances of cluster %s %s under fault%s%s, and at most %u may be "
			"(%s)", others, c->members, claim->cluster, others == 1 ? "is" : "are",
			who ? ": " : "", who ? who : "", most, c->bound_words);
		if (n < 0)
			c->words = NULL;
		return -EBUSY;
	}
	claims_put(&c->written, claim->instance, c->all->world.node,
		share_until_s(c->last_ms) + PROLONG_S);
	n = asprintf(&c->words, "%u of %u instances of cluster %s under fault with it, at most %u may be (%s)",
		others + 1, c->members, claim->cluster, most, c->bound_words);
	if (n < 0)
		c->words = NULL;
	return 0;
}

static void on_read(int r, const cJSON *map, const struct err *err, void *data)
{
	struct change *c = data;
	_cleanup_err_ struct err *why = NULL;
	bool changed;

	c->call = NULL;
	claims_done(&c->written);
	if (r < 0 && r != -ENOENT) {
		change_failed(c, r, "ConfigMap", err);
		return;
	}
	if (r == -ENOENT)
		map = NULL;
	r = claims_read(map, &c->written, &why);
	if (r < 0) {
		change_failed(c, r, "it must be deleted by hand once no fault is there", why);
		return;
	}
	changed = claims_expire(&c->written, share_now_s()) > 0;
	adopt_left(c, map);
	changed = bring_up_to_date(c) || changed;
	if (c->claim) {
		r = take_place(c);
		if (r < 0) {
			change_end(c, r, c->words ? c->words : "no place is left");
			return;
		}
		changed = true;
	}
	if (changed && (map || c->written.count > 0))
		change_write(c, map);
	else
		change_accepted(c);
}

static bool is_late(const struct change *c)
{
	return c->claim && now_ns() > c->since_ns + TAKE_NS;
}

static void change_read(struct change *c)
{
	_cleanup_free_ char *path = kube_path(MAPS_PATH "/%s", c->all->world.namespace, c->map);
	_cleanup_err_ struct err *err = NULL;
	int r;

	if (is_late(c)) {
		change_end(c, -ETIMEDOUT, "the API server takes too long");
		return;
	}
	r = kube_start(c->all->world.kube, "GET", path, NULL, SHARE_CALL_MS, on_read, c, &c->call, &err);
	if (r < 0)
		change_failed(c, r, "ConfigMap", err);
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
	r = kube_start(c->all->world.kube, "GET", path, NULL, SHARE_CALL_MS, on_members, c, &c->call, &err);
	if (r < 0)
		change_failed(c, r, "the cluster's pods", err);
}

void change_add(struct shares *s, const char *map, struct share_claim *claim,
	const struct share_ask *ask, share_done done, void *data)
{
	struct change *c = calloc(1, sizeof(*c)), **p;

	if (!c)
		abort();
	c->all = s;
	c->map = strdup(map);
	c->claim = claim;
	c->since_ns = now_ns();
	c->done = done;
	c->data = data;
	if (claim) {
		c->pod = cJSON_Duplicate(ask->pod, true);
		c->bound_ppm = ask->bound_ppm;
		c->bound_words = strdup(ask->bound_words);
		c->last_ms = ask->last_ms;
	}
	if (!c->map || (claim && (!c->pod || !c->bound_words)))
		abort();
	for (p = &s->changes; *p; p = &(*p)->next)
		;
	*p = c;
	start_next(s, c->map);
}

bool change_is_there(const struct shares *s, const char *map)
{
	for (const struct change *c = s->changes; c; c = c->next)
		if (strcmp(c->map, map) == 0)
			return true;
	return false;
}

void changes_free(struct shares *s)
{
	struct change *changes = steal_ptr(s->changes);

	for (struct change *c = changes, *next; c; c = next) {
		next = c->next;
		if (c->done)
			c->done(NULL, -EAGAIN, "the agent is stopping", c->data);
		change_free(c);
	}
}
