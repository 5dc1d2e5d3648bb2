#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "kubeapi/share_internal.h"

#define MS_PER_S 1000
#define MARGIN_S 30	/* a claim's end after the fault's: reverting takes its time */

/*
 * Whoever may create ConfigMaps may give them the share's label. A page of the largest (1 MiB of data) is half of what an
 * answer may be; where text is longer in JSON ("<" is six bytes there), they are asked for one by one. Who makes more of
 * them than the pages hold has us look seldom.
 */
#define PAGE_ITEMS 8
#define PAGE_MS 10000
#define PAGES_MAX 512
#define LIST_AGAIN_NS (300 * NS_PER_S)

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

static void list_end(struct shares *s, int r, const char *words)
{
	struct share_listing *l = &s->listing;

	free(l->token);
	l->token = NULL;
	l->done = r >= 0;
	if (r == -EFBIG)
		l->begin_ns = now_ns() + LIST_AGAIN_NS;
	if (r != -EFBIG || !l->told)
		share_tell_error(s, "*", r, words);
	l->told = l->told || r == -EFBIG;
	share_look_in(s, SHARE_LOOK_US);
}

static void on_page(int r, const cJSON *page, const struct err *err, void *data);

static int ask_page(struct shares *s, struct err **err)
{
	struct share_listing *l = &s->listing;
	_cleanup_free_ char *path = NULL;

	if (l->pages >= PAGES_MAX)
		return err_set(err, EFBIG, "too many ConfigMaps there have the label " SHARE_LABEL "=" SHARE_LABEL_VALUE
			", %d pages of them were read; delete those that no agent made", PAGES_MAX);
	l->pages++;
	path = l->token ?
		kube_path(MAPS_PATH "?labelSelector=%s&limit=%u&continue=%s", s->world.namespace,
			SHARE_LABEL "=" SHARE_LABEL_VALUE, l->items, l->token) :
		kube_path(MAPS_PATH "?labelSelector=%s&limit=%u", s->world.namespace,
			SHARE_LABEL "=" SHARE_LABEL_VALUE, l->items);
	return kube_start(s->world.kube, "GET", path, NULL, PAGE_MS, on_page, s, &l->call, err);
}

/* What is of our node and not ours goes, at once: a page after this one may fail. */
static void take_page(struct shares *s, const cJSON *page)
{
	const char *token = kube_text(page, "metadata.continue");
	struct share_listing *l = &s->listing;
	const cJSON *map;

	cJSON_ArrayForEach(map, kube_field(page, "items"))
		if (is_of_our_node(s, map))
			update(s, kube_name(map));
	free(l->token);
	l->token = token && *token ? strdup(token) : NULL;
	if (token && *token && !l->token)
		abort();
}

static void on_page(int r, const cJSON *page, const struct err *err, void *data)
{
	struct shares *s = data;
	struct share_listing *l = &s->listing;
	_cleanup_err_ struct err *next = NULL;
	const bool is_too_large = (r == -EFBIG || r == -ETIMEDOUT) && l->items > 1;

	l->call = NULL;
	if (r >= 0)
		take_page(s, page);
	else if (is_too_large)
		l->items = 1;
	if (r < 0 && !is_too_large) {
		list_end(s, r, err_text(err));
		return;
	}
	if (r >= 0 && !l->token) {
		list_end(s, 0, "");
		return;
	}
	r = ask_page(s, &next);
	if (r < 0)
		list_end(s, r, err_text(next));
}

static void list(struct shares *s)
{
	struct share_listing *l = &s->listing;
	_cleanup_err_ struct err *err = NULL;
	int r;

	if (l->call || now_ns() < l->begin_ns)
		return;
	l->pages = 0;
	l->items = PAGE_ITEMS;
	r = ask_page(s, &err);
	if (r < 0)
		list_end(s, r, err_text(err));
}

static int on_look(sd_event_source *source, uint64_t usec, void *data)
{
	struct shares *s = data;

	(void)source, (void)usec;
	s->look_ns = UINT64_MAX;
	for (const struct share_claim *c = s->claims; c; c = c->next)
		if (is_outdated(s, c))
			update(s, c->map);
	if (!s->listing.done)
		list(s);
	if (s->claims || !s->listing.done)
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
	kube_cancel(s->listing.call);
	free(s->listing.token);
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
