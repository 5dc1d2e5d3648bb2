#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "kubeapi/share_internal.h"

#define MS_PER_S 1000
#define MARGIN_S 30	/* a claim's end after the fault's: reverting takes its time */

int64_t share_now_s(void)
{
	return (int64_t)(realtime_ns() / NS_PER_S);
}

int64_t share_until_s(uint64_t last_ms)
{
	return share_now_s() + (int64_t)(last_ms / MS_PER_S) + 1 + MARGIN_S;
}

static void claim_free(struct share_claim *c)
{
	free(c->instance);
	free(c->cluster);
	free(c->map);
	free(c);
}

void share_forget(struct shares *s, struct share_claim *claim)
{
	struct share_claim **p = &s->claims;

	while (*p != claim)
		p = &(*p)->next;
	*p = claim->next;
	claim_free(claim);
}

struct share_claim *share_claim_of(const struct shares *s, const char *instance)
{
	for (struct share_claim *c = s->claims; c; c = c->next)
		if (strcmp(c->instance, instance) == 0)
			return c;
	return NULL;
}

bool share_is_needed(const struct shares *s, const struct share_claim *c)
{
	return c->arming > 0 || s->world.busy_ms(c->instance, s->world.data) > 0;
}

int64_t share_needed_until_s(const struct shares *s, const struct share_claim *c)
{
	uint64_t ms = s->world.busy_ms(c->instance, s->world.data);

	return ms ? share_until_s(ms) : c->until_s;
}

void share_look_in(struct shares *s, uint64_t us)
{
	uint64_t at_ns = now_ns() + us * NS_PER_US;

	if (at_ns >= s->look_ns || sd_event_source_set_time(s->look, at_ns / NS_PER_US) < 0 ||
	    sd_event_source_set_enabled(s->look, SD_EVENT_ONESHOT) < 0)
		return;
	s->look_ns = at_ns;
}

void share_tell_error(struct shares *s, const char *map, int r, const char *words)
{
	char text[512];

	snprintf(text, sizeof(text), "the claims of ConfigMap %s/%s cannot be brought up to date, it is tried again: %s",
		s->world.namespace, map, words);
	if (r >= 0 || (s->told && strcmp(s->told, text) == 0))
		return;
	free(s->told);
	s->told = strdup(text);
	s->world.tell_error(s->world.data, text);
}

static void update(struct shares *s, const char *map)
{
	if (!change_is_there(s, map))
		change_add(s, map, NULL, NULL, NULL, NULL);
}

/* Is the ConfigMap to be changed for it? */
static bool is_outdated(const struct shares *s, const struct share_claim *c)
{
	return !share_is_needed(s, c) || share_needed_until_s(s, c) > c->until_s;
}

/* Of our node's something stands there. What cannot be read is told when a place is wanted. */
static bool is_of_our_node(const struct shares *s, const cJSON *map)
{
	struct claims c = {0};
	bool found = false;

	if (strncmp(kube_name(map), CLAIMS_PREFIX, strlen(CLAIMS_PREFIX)) != 0 || claims_read(map, &c, NULL) < 0)
		return false;
	for (size_t i = 0; i < c.count; i++)
		found = found || strcmp(c.items[i].node, s->world.node) == 0;
	claims_done(&c);
	return found;
}

static void on_listed(int r, const cJSON *list, const struct err *err, void *data)
{
	struct shares *s = data;
	const cJSON *map;

	s->listing = NULL;
	s->listed = r >= 0;
	if (r < 0)
		share_tell_error(s, "*", r, err_text(err));
	/* What is of our node and not ours goes. */
	cJSON_ArrayForEach(map, kube_field(list, "items"))
		if (is_of_our_node(s, map))
			update(s, kube_name(map));
	share_look_in(s, SHARE_LOOK_US);
}

static void list(struct shares *s)
{
	_cleanup_free_ char *path = kube_path(MAPS_PATH "?labelSelector=%s", s->world.namespace,
		SHARE_LABEL "=" SHARE_LABEL_VALUE);
	_cleanup_err_ struct err *err = NULL;

	if (s->listing)
		return;
	if (kube_start(s->world.kube, "GET", path, NULL, SHARE_CALL_MS, on_listed, s, &s->listing, &err) < 0)
		share_tell_error(s, "*", -EIO, err_text(err));
}

static int on_look(sd_event_source *source, uint64_t usec, void *data)
{
	struct shares *s = data;

	(void)source, (void)usec;
	s->look_ns = UINT64_MAX;
	for (const struct share_claim *c = s->claims; c; c = c->next)
		if (is_outdated(s, c))
			update(s, c->map);
	if (!s->listed)
		list(s);
	if (s->claims || !s->listed)
		share_look_in(s, SHARE_LOOK_US);
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
	if (!s)
		return;
	sd_event_source_disable_unref(s->look);
	if (s->listing)
		kube_cancel(s->listing);
	changes_free(s);
	for (struct share_claim *c = s->claims, *next; c; c = next) {
		next = c->next;
		claim_free(c);
	}
	free(s->told);
	free(s);
}

/* map: becomes the claim's. */
static struct share_claim *claim_new(struct shares *s, const char *instance, const char *cluster, char *map)
{
	struct share_claim *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	c->instance = strdup(instance);
	c->cluster = strdup(cluster);
	c->map = map;
	if (!c->instance || !c->cluster || !c->map)
		abort();
	c->next = s->claims;
	s->claims = c;
	return c;
}

void share_adopt(struct shares *s, const struct claim *there, const char *map, const char *cluster)
{
	claim_new(s, there->instance, cluster, strdup(map))->until_s = there->until_s;
}

void shares_take(struct shares *s, const struct share_ask *ask, share_done done, void *data)
{
	struct share_claim *claim = share_claim_of(s, ask->instance);

	if (!claim)
		claim = claim_new(s, ask->instance, ask->cluster,
			kube_cluster_object(CLAIMS_PREFIX, ask->cluster));
	claim->arming++;
	change_add(s, claim->map, claim, ask, done, data);
}

void shares_settle(struct shares *s, struct share_claim *claim)
{
	if (!claim)
		return;
	claim->arming--;
	share_look_in(s, 0);
}

bool shares_is_claimed(const struct shares *s, const char *instance)
{
	const struct share_claim *c = share_claim_of(s, instance);

	return c && c->arming > 0 && c->until_s > 0;
}

int shares_check_fire(const struct shares *s, const char *instance, uint64_t last_ms, struct err **err)
{
	const struct share_claim *c = share_claim_of(s, instance);

	if (!c || share_now_s() + (int64_t)(last_ms / MS_PER_S) <= c->until_s)
		return 0;
	return err_set(err, EBUSY, "it could outlast the claim on %s, which the API server has not prolonged (%s)",
		instance, s->told ? s->told : "it was not asked yet");
}

void shares_look(struct shares *s)
{
	share_look_in(s, 0);
}

bool shares_are_held(const struct shares *s)
{
	return s->claims != NULL;
}
