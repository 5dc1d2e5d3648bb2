#include "manager/patroni_votes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"
#include "manager/patroni.h"

#define POLL_TIMEOUT_MS 2000
/* An answer older than this has no vote. */
#define VOTE_NS (2 * NS_PER_S)

struct voter {
	struct patroni_votes *votes;
	char *member, *address, *url;
	bool outstanding;
	struct http_call *call;
};

struct patroni_votes {
	struct http_client *http;
	sd_event *event;
	sd_event_source *timer;
	uint64_t interval_us;
	struct voter *voters;
	uint64_t *at_ns;		/* of each one's newest answer */
	bool *unlocked;			/* what it said */
	size_t n;
	bool told;
	void (*changed)(void *data);
	void *data;
};

bool patroni_votes_count(const uint64_t *at_ns, const bool *unlocked, size_t n, uint64_t now_ns)
{
	size_t fresh = 0, yes = 0;

	for (size_t i = 0; i < n; i++) {
		if (!at_ns[i] || now_ns - at_ns[i] > VOTE_NS)
			continue;
		fresh++;
		yes += unlocked[i];
	}
	return yes * 2 > fresh;
}

bool patroni_votes_unlocked(const struct patroni_votes *v)
{
	return patroni_votes_count(v->at_ns, v->unlocked, v->n, now_ns());
}

static void tell(struct patroni_votes *v)
{
	bool now = patroni_votes_unlocked(v);

	if (now == v->told)
		return;
	v->told = now;
	v->changed(v->data);
}

static void on_answer(const struct http_answer *a, void *data)
{
	struct voter *one = data;
	struct patroni_votes *v = one->votes;
	size_t i = (size_t)(one - v->voters);
	_cleanup_json_ cJSON *json = NULL;

	one->outstanding = false;
	one->call = NULL;
	if (!a->error && a->status == 200 && json_parse(a->body, a->length, &json, NULL) >= 0 &&
		json_get(json, "patroni")) {
		v->at_ns[i] = a->done_ns;
		v->unlocked[i] = cJSON_IsTrue(json_get(json, "cluster_unlocked"));
	}
	tell(v);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *data)
{
	struct patroni_votes *v = data;

	(void)usec;
	for (size_t i = 0; i < v->n; i++) {
		struct voter *one = &v->voters[i];
		struct http_request r = {
			.method = "GET",
			.url = one->url,
			.connect_timeout_ms = 500,
			.timeout_ms = POLL_TIMEOUT_MS,
		};

		if (!one->outstanding && one->url)
			one->outstanding =
				http_start(v->http, &r, on_answer, one, &one->call, NULL) >= 0;
	}
	sd_event_source_set_time(s, now_ns() / NS_PER_US + v->interval_us);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void voter_move(struct voter *one, char *const *addresses)
{
	const char *first = addresses ? addresses[0] : NULL;

	if (!first || (one->address && strcmp(one->address, first) == 0))
		return;
	free(one->address);
	free(one->url);
	one->address = strdup(first);
	one->url = patroni_url(first, "/patroni");
}

void patroni_votes_new(struct http_client *http, sd_event *event, struct instance_info *const *instances,
	size_t n, void (*changed)(void *data), void *data, struct patroni_votes **ret)
{
	struct patroni_votes *v = calloc(1, sizeof(*v));

	if (!v)
		abort();
	*v = (struct patroni_votes){.http = http, .event = event, .changed = changed, .data = data};
	v->voters = calloc(n + 1, sizeof(*v->voters));
	v->at_ns = calloc(n + 1, sizeof(*v->at_ns));
	v->unlocked = calloc(n + 1, sizeof(*v->unlocked));
	if (!v->voters || !v->at_ns || !v->unlocked)
		abort();
	for (size_t i = 0; i < n; i++) {
		const struct instance_info *one = instances[i];

		v->voters[i].votes = v;
		v->voters[i].member = strdup(one->pod ? one->pod : one->member);
		voter_move(&v->voters[i], one->addresses);
		v->n++;
	}
	*ret = v;
}

int patroni_votes_start(struct patroni_votes *v, uint64_t interval_ms, struct err **err)
{
	int r;

	v->interval_us = interval_ms * 1000;
	r = sd_event_add_time(v->event, &v->timer, CLOCK_MONOTONIC, now_ns() / NS_PER_US, 1, on_tick, v);
	return r < 0 ? err_errno(err, r, "event loop") : 0;
}

void patroni_votes_move(struct patroni_votes *v, const char *member, char *const *addresses)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->voters[i].member, member) == 0)
			voter_move(&v->voters[i], addresses);
}

void patroni_votes_free(struct patroni_votes *v)
{
	if (!v)
		return;
	sd_event_source_disable_unref(v->timer);
	for (size_t i = 0; i < v->n; i++) {
		if (v->voters[i].outstanding)
			http_cancel(v->voters[i].call);
		free(v->voters[i].member);
		free(v->voters[i].address);
		free(v->voters[i].url);
	}
	free(v->voters);
	free(v->at_ns);
	free(v->unlocked);
	free(v);
}
