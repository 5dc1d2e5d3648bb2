#include "manager/patroni.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define DETECT_TIMEOUT_MS 2000
#define READ_TIMEOUT_MS 3000
#define POLL_TIMEOUT_MS 2000
/* An answer older than this has no vote. */
#define VOTE_NS (2 * NS_PER_S)

struct member_poll {
	struct patroni *patroni;
	char *name, *url;
	bool outstanding;
	struct http_call *call;
	struct cluster_view *last;	/* its newest answer */
};

struct patroni {
	struct manager base;
	struct http_client *http;
	sd_event *event;
	struct instance_info **instances;	/* copies */
	size_t n;
	struct member_poll *polls;	/* one an instance */
	sd_event_source *timer;
	bool synchronous;		/* synchronous_mode of its dynamic configuration */
	uint64_t interval_us;
	struct manager_listener listener;
};

char *patroni_url(const char *address, const char *path)
{
	char *url = NULL;

	if (asprintf(&url, strchr(address, ':') ? "http://[%s]:%d%s" : "http://%s:%d%s", address,
		    PATRONI_PORT, path) < 0)
		abort();
	return url;
}

static char *rest_url(const struct instance_info *i, const char *path)
{
	return i->addresses && i->addresses[0] ? patroni_url(i->addresses[0], path) : NULL;
}

struct member_json {
	char *name, *role, *state, *host;
	uint64_t port;
	uint64_t timeline;
	cJSON *lag;
};

static const struct json_field member_fields[] = {
	{"name", JSON_STRING, offsetof(struct member_json, name), true, NULL, NULL},
	{"role", JSON_STRING, offsetof(struct member_json, role), true, NULL, NULL},
	{"state", JSON_STRING, offsetof(struct member_json, state), false, NULL, NULL},
	{"host", JSON_STRING, offsetof(struct member_json, host), false, NULL, NULL},
	{"port", JSON_UINT64, offsetof(struct member_json, port), false, NULL, NULL},
	{"timeline", JSON_UINT64, offsetof(struct member_json, timeline), false, NULL, NULL},
	{"lag", JSON_ANY, offsetof(struct member_json, lag), false, NULL, NULL},
	JSON_FIELD_END,
};

static void member_json_done(struct member_json *m)
{
	free(m->name);
	free(m->role);
	free(m->state);
	free(m->host);
	cJSON_Delete(m->lag);
}

/* By address and port, else by the member's name: host names and proxies are common. */
static const char *match_instance(const struct member_json *m, struct instance_info *const *instances,
	size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (m->host && strv_contains(instances[i]->addresses, m->host) &&
			(!m->port || m->port == instances[i]->port))
			return instances[i]->name;
	for (size_t i = 0; i < n; i++)
		if (strcmp(instances[i]->member, m->name) == 0)
			return instances[i]->name;
	return NULL;
}

static bool is_leader(const char *role)
{
	return strcmp(role, "leader") == 0 || strcmp(role, "standby_leader") == 0 ||
		strcmp(role, "master") == 0 || strcmp(role, "primary") == 0;
}

static int parse_member(const cJSON *json, struct instance_info *const *instances, size_t n,
	struct cluster_view *v, struct err **err)
{
	_cleanup_(member_json_done) struct member_json m = {0};
	struct cluster_member *out;
	const char *instance;
	int r = json_dispatch(json, member_fields, &m, JSON_ALLOW_UNKNOWN, err);

	if (r < 0)
		return r;
	instance = match_instance(&m, instances, n);
	out = &v->members[v->n_members++];
	*out = (struct cluster_member){
		.instance = instance ? strdup(instance) : NULL,
		.role = is_leader(m.role) ? ROLE_PRIMARY : ROLE_REPLICA,
		.sync_standby = strcmp(m.role, "sync_standby") == 0 ||
			strcmp(m.role, "quorum_standby") == 0,
		.running = m.state && (strcmp(m.state, "running") == 0 ||
					      strcmp(m.state, "streaming") == 0),
		.timeline = m.timeline <= UINT32_MAX ? (uint32_t)m.timeline : 0,
		.lag_bytes = cJSON_IsNumber(m.lag) && m.lag->valuedouble >= 0 &&
				m.lag->valuedouble < 9e15 ?
			(int64_t)m.lag->valuedouble :
			-1,
	};
	out->name = steal_ptr(m.name);
	out->state = m.state && *m.state ? steal_ptr(m.state) : strdup("unknown");
	if (out->role == ROLE_PRIMARY && !v->leader)
		v->leader = strdup(out->name);
	return 0;
}

int patroni_parse_cluster(const cJSON *json, const char *source, uint64_t at_ns,
	struct instance_info *const *instances, size_t n, struct cluster_view **ret,
	struct err **err)
{
	const cJSON *members = json_get(json, "members"), *item;
	struct cluster_view *v;
	int r = 0;

	if (!cJSON_IsArray(members))
		return err_set(err, -EPROTO, "%s: GET /cluster: no list of members", source);
	v = calloc(1, sizeof(*v));
	if (!v)
		abort();
	v->members = calloc((size_t)cJSON_GetArraySize(members) + 1, sizeof(*v->members));
	if (!v->members)
		abort();
	v->at_ns = at_ns;
	v->source = strdup(source);
	v->paused = cJSON_IsTrue(json_get(json, "pause"));
	cJSON_ArrayForEach(item, members)
	{
		r = parse_member(item, instances, n, v, err);
		if (r < 0)
			break;
	}
	if (r < 0) {
		cluster_view_free(v);
		return err_wrap(err, r, "%s: GET /cluster", source);
	}
	*ret = v;
	return 0;
}

/* ---- detect, read ---- */

static int get(struct http_client *http, const char *url, uint64_t timeout_ms, cJSON **ret,
	struct err **err)
{
	struct http_request r = {
		.method = "GET",
		.url = url,
		.connect_timeout_ms = 500,
		.timeout_ms = timeout_ms,
	};

	return http_wait(http, &r, NULL, ret, err);
}

static int patroni_detect(const struct manager_world *w, struct err **err)
{
	for (size_t i = 0; i < w->n; i++) {
		_cleanup_free_ char *url = rest_url(w->instances[i], "/patroni");
		_cleanup_json_ cJSON *json = NULL;

		/* /patroni answers 200 whatever state the member is in. */
		if (url && get(w->http, url, DETECT_TIMEOUT_MS / w->n, &json, NULL) >= 0 &&
			json_get(json, "patroni"))
			return 0;
	}
	return err_set(err, -ENOENT, "no member answers GET /patroni on port %d", PATRONI_PORT);
}

/* "true", or "quorum" from Patroni 4 on. */
static void read_synchronous(struct patroni *p, const struct instance_info *i)
{
	_cleanup_free_ char *url = rest_url(i, "/config");
	_cleanup_json_ cJSON *json = NULL;
	const cJSON *mode;

	if (!url || get(p->http, url, READ_TIMEOUT_MS, &json, NULL) < 0)
		return;
	mode = json_get(json, "synchronous_mode");
	p->synchronous = cJSON_IsTrue(mode) ||
		(cJSON_IsString(mode) && (strcmp(mode->valuestring, "quorum") == 0 ||
						 strcmp(mode->valuestring, "on") == 0));
}

static int patroni_read(struct manager *m, struct cluster_view **ret, struct err **err)
{
	struct patroni *p = (struct patroni *)m;
	int r = -ENOENT;

	for (size_t i = 0; i < p->n; i++) {
		_cleanup_json_ cJSON *json = NULL;

		if (!p->polls[i].url)
			continue;
		r = get(p->http, p->polls[i].url, READ_TIMEOUT_MS, &json, err);
		if (r >= 0)
			r = patroni_parse_cluster(json, p->polls[i].name, now_ns(), p->instances,
				p->n, ret, err);
		if (r >= 0) {
			read_synchronous(p, p->instances[i]);
			(*ret)->synchronous = p->synchronous;
			return 0;
		}
	}
	return err_wrap(err, r, "no Patroni member tells of the cluster");
}

/* ---- watch ---- */

static bool same_leader(const struct cluster_view *a, const struct cluster_view *b)
{
	if (!a->leader || !b->leader)
		return a->leader == b->leader;
	return strcmp(a->leader, b->leader) == 0;
}

static uint32_t newest_timeline(const struct cluster_view *v)
{
	uint32_t most = 0;

	for (size_t i = 0; i < v->n_members; i++)
		if (v->members[i].timeline > most)
			most = v->members[i].timeline;
	return most;
}

const struct cluster_view *patroni_weigh(const struct cluster_view *const *views, size_t n,
	uint64_t now_ns)
{
	const struct cluster_view *best = NULL;
	size_t best_votes = 0;

	for (size_t i = 0; i < n; i++) {
		const struct cluster_view *v = views[i];
		size_t votes = 0;

		if (!v || now_ns - v->at_ns > VOTE_NS)
			continue;
		for (size_t k = 0; k < n; k++)
			votes += views[k] && now_ns - views[k]->at_ns <= VOTE_NS &&
				same_leader(views[k], v);
		if (!best || votes > best_votes ||
			(votes == best_votes &&
				(newest_timeline(v) > newest_timeline(best) ||
					(newest_timeline(v) == newest_timeline(best) &&
						v->at_ns > best->at_ns)))) {
			best = v;
			best_votes = votes;
		}
	}
	return best;
}

static const struct cluster_view *weigh(const struct patroni *p)
{
	_cleanup_free_ const struct cluster_view **views = calloc(p->n + 1, sizeof(*views));

	if (!views)
		abort();
	for (size_t i = 0; i < p->n; i++)
		views[i] = p->polls[i].last;
	return patroni_weigh(views, p->n, now_ns());
}

static void on_answer(const struct http_answer *a, void *data)
{
	struct member_poll *poll = data;
	struct patroni *p = poll->patroni;
	_cleanup_json_ cJSON *json = NULL;
	struct cluster_view *v;
	const struct cluster_view *best;

	poll->outstanding = false;
	poll->call = NULL;
	if (a->error || a->status != 200 || json_parse(a->body, a->length, &json, NULL) < 0 ||
		patroni_parse_cluster(json, poll->name, a->done_ns, p->instances, p->n, &v, NULL) < 0)
		return;
	v->synchronous = p->synchronous;
	cluster_view_free(poll->last);
	poll->last = v;
	best = weigh(p);
	if (best)
		p->listener.view(best, p->listener.data);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *data)
{
	struct patroni *p = data;

	(void)usec;
	for (size_t i = 0; i < p->n; i++) {
		struct member_poll *poll = &p->polls[i];
		struct http_request r = {
			.method = "GET",
			.url = poll->url,
			.connect_timeout_ms = 500,
			.timeout_ms = POLL_TIMEOUT_MS,
		};

		if (poll->outstanding || !poll->url)
			continue;
		poll->outstanding =
			http_start(p->http, &r, on_answer, poll, &poll->call, NULL) >= 0;
	}
	sd_event_source_set_time(s, now_ns() / NS_PER_US + p->interval_us);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int patroni_watch(struct manager *m, uint64_t interval_ms, const struct manager_listener *l,
	struct err **err)
{
	struct patroni *p = (struct patroni *)m;
	int r;

	p->interval_us = interval_ms * 1000;
	p->listener = *l;
	r = sd_event_add_time(p->event, &p->timer, CLOCK_MONOTONIC, now_ns() / NS_PER_US, 1,
		on_tick, p);
	return r < 0 ? err_errno(err, r, "event loop") : 0;
}

static int patroni_dcs(struct manager *m, char ***ret, struct err **err)
{
	struct patroni *p = (struct patroni *)m;
	_cleanup_strv_ char **all = NULL;

	(void)err;
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = 0; p->instances[i]->dcs && p->instances[i]->dcs[k]; k++)
			if (!strv_contains(all, p->instances[i]->dcs[k]))
				strv_push(&all, strdup(p->instances[i]->dcs[k]));
	*ret = steal_ptr(all);
	return 0;
}

static void patroni_free(struct manager *m)
{
	struct patroni *p = (struct patroni *)m;

	sd_event_source_disable_unref(p->timer);
	for (size_t i = 0; i < p->n; i++) {
		if (p->polls[i].outstanding)
			http_cancel(p->polls[i].call);
		cluster_view_free(p->polls[i].last);
		free(p->polls[i].url);
		free(p->polls[i].name);
		instance_info_free(p->instances[i]);
	}
	free(p->polls);
	free(p->instances);
	free(p);
}

static const struct manager_ops ops = {
	.read = patroni_read,
	.watch = patroni_watch,
	.dcs_addresses = patroni_dcs,
	.free = patroni_free,
};

static int patroni_open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	struct patroni *p = calloc(1, sizeof(*p));

	(void)err;
	if (!p)
		abort();
	p->base = (struct manager){&manager_patroni, &ops};
	p->http = w->http;
	p->event = w->event;
	p->instances = calloc(w->n + 1, sizeof(*p->instances));
	p->polls = calloc(w->n + 1, sizeof(*p->polls));
	if (!p->instances || !p->polls)
		abort();
	for (size_t i = 0; i < w->n; i++) {
		p->instances[i] = instance_info_copy(w->instances[i]);
		p->polls[i] = (struct member_poll){
			.patroni = p,
			.name = strdup(w->instances[i]->member),
			.url = rest_url(w->instances[i], "/cluster"),
		};
		p->n++;
	}
	*ret = &p->base;
	return 0;
}

const struct manager_driver manager_patroni = {
	.name = "patroni",
	.detect = patroni_detect,
	.open = patroni_open,
};
