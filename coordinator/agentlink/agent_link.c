#include "agentlink/agent_link.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "kube/kube.h"

#define FIRE_TIMEOUT_MS 5000
#define REVERT_TIMEOUT_MS 15000

struct agent_link {
	struct http_client *http;
	struct agent_address address;
	char *name;
	bool clock_known;
	int64_t offset_ns;		/* ours - the agent's */
	uint64_t uncertainty_ns;
	struct http_call *follow_call;
	void (*on_event)(const struct agent_event *e, void *data);
	void (*on_lost)(const char *why, void *data);
	void *follow_data;
	struct pending *pending;
};

/* An asynchronous call under way. */
struct pending {
	struct agent_link *link;
	struct pending *prev, *next;
	struct http_call *call;
	agent_link_done done;
	void *data;
};

static void pending_free(struct pending *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		p->link->pending = p->next;
	if (p->next)
		p->next->prev = p->prev;
	free(p);
}

int agent_link_new(struct http_client *http, const struct agent_address *address,
	struct agent_link **ret, struct err **err)
{
	struct agent_link *l;

	if (!address->unix_socket == !address->url)
		return err_set(err, -EINVAL, "an agent has either a socket or a URL");
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->http = http;
#define COPY(f) l->address.f = address->f ? strdup(address->f) : NULL
	COPY(unix_socket);
	COPY(url);
	COPY(tls.ca);
	COPY(tls.cert);
	COPY(tls.key);
	COPY(tls.server_name);
	COPY(token_path);
	COPY(token);
#undef COPY
	*ret = l;
	return 0;
}

void agent_link_cancel(struct agent_link *l)
{
	while (l->pending) {
		http_cancel(l->pending->call);
		pending_free(l->pending);
	}
}

void agent_link_free(struct agent_link *l)
{
	if (!l)
		return;
	http_cancel(l->follow_call);
	agent_link_cancel(l);
	free(l->address.unix_socket);
	free(l->address.url);
	free(l->address.tls.ca);
	free(l->address.tls.cert);
	free(l->address.tls.key);
	free(l->address.tls.server_name);
	free(l->address.token_path);
	if (l->address.token)
		explicit_bzero(l->address.token, strlen(l->address.token));
	free(l->address.token);
	free(l->name);
	free(l);
}

const char *agent_link_name(const struct agent_link *l)
{
	return l->name		      ? l->name :
	       l->address.unix_socket ? l->address.unix_socket :
					l->address.url;
}

static char *link_url(const struct agent_link *l, const char *path)
{
	char *url = NULL;

	if (asprintf(&url, "%s%s", l->address.url ? l->address.url : "http://localhost", path) < 0)
		return NULL;
	return url;
}

/* A token of a file is replaced there before it runs out. One that cannot be read now is kept: the
 * agent says whether it still counts. */
static void refresh_token(struct agent_link *l)
{
	char *token = NULL;

	if (!l->address.token_path || kube_token_read(l->address.token_path, &token, NULL) < 0)
		return;
	if (l->address.token)
		explicit_bzero(l->address.token, strlen(l->address.token));
	free(l->address.token);
	l->address.token = token;
}

static struct http_request link_request(struct agent_link *l, const char *method, const char *url,
	const char *body, uint64_t timeout_ms)
{
	refresh_token(l);
	return (struct http_request){
		.method = method,
		.url = url,
		.unix_socket = l->address.unix_socket,
		.tls = l->address.url ? &l->address.tls : NULL,
		.token = l->address.url ? l->address.token : NULL,
		.body = body,
		.timeout_ms = timeout_ms,
	};
}

static int link_call(struct agent_link *l, const char *method, const char *path, const cJSON *body,
	uint64_t timeout_ms, cJSON **ret, struct err **err)
{
	_cleanup_free_ char *url = link_url(l, path);
	_cleanup_free_ char *text = body ? json_print(body) : NULL;
	struct http_request r;
	int code;

	if (!url)
		return err_set(err, -ENOMEM, "out of memory");
	r = link_request(l, method, url, text, timeout_ms);
	code = http_wait(l->http, &r, NULL, ret, err);
	if (code < 0)
		return err_wrap(err, code, "agent %s", agent_link_name(l));
	return 0;
}

int agent_link_node(struct agent_link *l, struct node_info **ret, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	int r;

	r = link_call(l, "GET", "/v1/node", NULL, 0, &json, err);
	if (r < 0)
		return r;
	r = node_info_from_json(json, ret, err);
	if (r < 0)
		return err_wrap(err, r, "agent %s", agent_link_name(l));
	free(l->name);
	l->name = strdup((*ret)->name);
	return 0;
}

int agent_link_instances(struct agent_link *l, struct instance_info ***ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	struct instance_info **list;
	const cJSON *array, *item;
	size_t n = 0;
	int r;

	r = link_call(l, "GET", "/v1/instances", NULL, 0, &json, err);
	if (r < 0)
		return r;
	array = cJSON_GetObjectItemCaseSensitive(json, "instances");
	if (!cJSON_IsArray(array))
		return err_set(err, -EPROTO, "agent %s: no \"instances\" in its answer",
			agent_link_name(l));
	list = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof(*list));
	if (!list)
		return err_set(err, -ENOMEM, "out of memory");
	cJSON_ArrayForEach(item, array)
	{
		r = instance_info_from_json(item, &list[n], err);
		if (r < 0) {
			while (n)
				instance_info_free(list[--n]);
			free(list);
			return err_wrap(err, r, "agent %s", agent_link_name(l));
		}
		n++;
	}
	*ret = list;
	*ret_count = n;
	return 0;
}

int agent_link_experiments(struct agent_link *l, struct experiment_info ***ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	struct experiment_info **list;
	const cJSON *array, *item;
	size_t n = 0;
	int r;

	r = link_call(l, "GET", "/v1/experiments", NULL, 0, &json, err);
	if (r < 0)
		return r;
	array = cJSON_GetObjectItemCaseSensitive(json, "experiments");
	if (!cJSON_IsArray(array))
		return err_set(err, -EPROTO, "agent %s: no \"experiments\" in its answer",
			agent_link_name(l));
	list = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof(*list));
	if (!list)
		return err_set(err, -ENOMEM, "out of memory");
	cJSON_ArrayForEach(item, array)
	{
		r = experiment_info_from_json(item, &list[n], err);
		if (r < 0) {
			while (n)
				experiment_info_free(list[--n]);
			free(list);
			return err_wrap(err, r, "agent %s", agent_link_name(l));
		}
		n++;
	}
	*ret = list;
	*ret_count = n;
	return 0;
}

static int link_experiment(struct agent_link *l, const char *method, const char *path,
	const cJSON *body, uint64_t timeout_ms, struct experiment_info **ret, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	int r;

	r = link_call(l, method, path, body, timeout_ms, &json, err);
	if (r < 0)
		return r;
	r = experiment_info_from_json(json, ret, err);
	if (r < 0)
		return err_wrap(err, r, "agent %s", agent_link_name(l));
	return 0;
}

int agent_link_arm(struct agent_link *l, const struct arm_request *request,
	struct experiment_info **ret, struct err **err)
{
	_cleanup_json_ cJSON *body = arm_request_to_json(request);

	return link_experiment(l, "POST", "/v1/experiments", body, REVERT_TIMEOUT_MS, ret, err);
}

int agent_link_revert(struct agent_link *l, const char *experiment, struct experiment_info **ret,
	struct err **err)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "/v1/experiments/%s/revert", experiment) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return link_experiment(l, "POST", path, NULL, REVERT_TIMEOUT_MS, ret, err);
}

int agent_link_get(struct agent_link *l, const char *experiment, struct experiment_info **ret,
	struct err **err)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "/v1/experiments/%s", experiment) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return link_experiment(l, "GET", path, NULL, 0, ret, err);
}

int agent_link_leave(struct agent_link *l, bool *ret_leaving, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	int r = link_call(l, "POST", "/v1/leave", NULL, 0, &json, err);

	if (r >= 0)
		*ret_leaving = cJSON_IsTrue(json_get(json, "leaving"));
	return r;
}

int agent_link_revert_all(struct agent_link *l, const char *run, size_t *ret_left, struct err **err)
{
	_cleanup_json_ cJSON *body = json_object();
	_cleanup_json_ cJSON *json = NULL;
	const cJSON *left;
	int r;

	if (run)
		json_add_string(body, "run", run);
	r = link_call(l, "POST", "/v1/revert", body, REVERT_TIMEOUT_MS, &json, err);
	if (r < 0)
		return r;
	left = cJSON_GetObjectItemCaseSensitive(json, "left");
	if (!cJSON_IsNumber(left) || left->valuedouble < 0)
		return err_set(err, -EPROTO, "agent %s: no \"left\" in its answer",
			agent_link_name(l));
	*ret_left = (size_t)left->valuedouble;
	return 0;
}

struct clock_sample {
	bool done;
	int error;
	uint64_t agent_ns, sent_ns, done_ns;
};

static void on_clock(const struct http_answer *a, void *data)
{
	struct clock_sample *s = data;
	_cleanup_json_ cJSON *json = NULL;
	const struct json_field fields[] = {
		{"monotonic_ns", JSON_UINT64, 0, true, NULL, NULL},
		JSON_FIELD_END,
	};

	s->done = true;
	s->error = a->error;
	if (!a->error && a->status != 200)
		s->error = err_from_http_status(a->status);
	if (s->error)
		return;
	s->sent_ns = a->sent_ns;
	s->done_ns = a->done_ns;
	s->error = json_parse(a->body, a->length, &json, NULL);
	if (!s->error)
		s->error = json_dispatch(json, fields, &s->agent_ns, JSON_ALLOW_UNKNOWN, NULL);
}

int agent_link_measure_clock(struct agent_link *l, unsigned rounds, struct err **err)
{
	_cleanup_free_ char *url = link_url(l, "/v1/clock");
	struct http_request r;

	if (!url)
		return err_set(err, -ENOMEM, "out of memory");
	r = link_request(l, "GET", url, NULL, 1000);
	l->clock_known = false;
	for (unsigned i = 0; i < rounds; i++) {
		struct clock_sample s = {0};
		struct http_call *call = NULL;
		uint64_t round_trip;
		int code = http_start(l->http, &r, on_clock, &s, &call, err);
		sd_event *event = http_client_event(l->http);

		while (code >= 0 && !s.done)
			code = sd_event_run(event, UINT64_MAX);
		if (code < 0) {
			if (!s.done)
				http_cancel(call);
			return err_wrap(err, code, "agent %s", agent_link_name(l));
		}
		if (s.error)
			return err_errno(err, s.error, "agent %s: cannot read its clock",
				agent_link_name(l));
		round_trip = s.done_ns - s.sent_ns;
		if (l->clock_known && round_trip / 2 >= l->uncertainty_ns)
			continue;
		l->clock_known = true;
		l->uncertainty_ns = round_trip / 2;
		l->offset_ns = (int64_t)(s.sent_ns + round_trip / 2) - (int64_t)s.agent_ns;
	}
	return 0;
}

uint64_t agent_link_to_local_ns(const struct agent_link *l, uint64_t agent_ns,
	uint64_t *ret_uncertainty_ns)
{
	/* On the same node both clocks are one, and the measured offset is only noise. */
	bool same = l->address.unix_socket != NULL;

	if (ret_uncertainty_ns)
		*ret_uncertainty_ns = same ? 0 : l->uncertainty_ns;
	if (same || !agent_ns)
		return agent_ns;
	return (uint64_t)((int64_t)agent_ns + l->offset_ns);
}

static void on_experiment(const struct http_answer *a, void *data)
{
	struct pending *p = data;
	struct pending call = *p;
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_(experiment_info_freep) struct experiment_info *e = NULL;
	int r = a->error;

	if (r < 0)
		err_set(&err, r, "%s", a->error_text);
	else if (a->length)
		r = json_parse(a->body, a->length, &json, &err);
	if (!a->error && a->status >= 400)
		r = error_from_json(a->status, json, &err);
	else if (r >= 0)
		r = experiment_info_from_json(json, &e, &err);
	if (r < 0)
		err_wrap(&err, r, "agent %s", agent_link_name(call.link));
	pending_free(p);
	call.done(e, err, call.data);
}

/* verb NULL: asks how it is. */
static int link_start(struct agent_link *l, const char *experiment, const char *verb,
	const char *body, uint64_t timeout_ms, agent_link_done done, void *data, struct err **err)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *url = NULL;
	struct http_request r;
	struct pending *p;
	int code;

	if (asprintf(&path, "/v1/experiments/%s%s%s", experiment, verb ? "/" : "", verb ? verb : "") < 0)
		return err_set(err, -ENOMEM, "out of memory");
	url = link_url(l, path);
	if (!url)
		return err_set(err, -ENOMEM, "out of memory");
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	*p = (struct pending){.link = l, .next = l->pending, .done = done, .data = data};
	if (p->next)
		p->next->prev = p;
	l->pending = p;
	r = link_request(l, verb ? "POST" : "GET", url, body, timeout_ms);
	code = http_start(l->http, &r, on_experiment, p, &p->call, err);
	if (code < 0) {
		pending_free(p);
		return err_wrap(err, code, "agent %s", agent_link_name(l));
	}
	return 0;
}

int agent_link_fire_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err)
{
	return link_start(l, experiment, "fire", NULL, FIRE_TIMEOUT_MS, done, data, err);
}

int agent_link_get_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err)
{
	return link_start(l, experiment, NULL, NULL, 0, done, data, err);
}

int agent_link_revert_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err)
{
	return link_start(l, experiment, "revert", NULL, REVERT_TIMEOUT_MS, done, data, err);
}

int agent_link_renew_start(struct agent_link *l, const char *experiment, uint64_t lease_ms,
	agent_link_done done, void *data, struct err **err)
{
	char body[64];

	snprintf(body, sizeof(body), "{\"lease_ms\": %" PRIu64 "}", lease_ms);
	return link_start(l, experiment, "renew", body, 2000, done, data, err);
}

static void on_line(const char *line, size_t length, void *data)
{
	struct agent_link *l = data;
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_(agent_event_freep) struct agent_event *e = NULL;

	/* A line that is no event is a heartbeat or of a newer agent: not ours to fail on. */
	if (json_parse(line, length, &json, NULL) < 0 || agent_event_from_json(json, &e, NULL) < 0)
		return;
	e->at_ns = agent_link_to_local_ns(l, e->at_ns, NULL);
	if (l->on_event)
		l->on_event(e, l->follow_data);
}

static void on_stream_end(const struct http_answer *a, void *data)
{
	struct agent_link *l = data;

	l->follow_call = NULL;
	if (l->on_lost)
		l->on_lost(a->error ? a->error_text : "it ended its stream of events", l->follow_data);
}

void agent_link_unfollow(struct agent_link *l)
{
	http_cancel(l->follow_call);
	l->follow_call = NULL;
}

int agent_link_follow(struct agent_link *l, void (*event)(const struct agent_event *e, void *data),
	void (*lost)(const char *why, void *data), void *data, struct err **err)
{
	_cleanup_free_ char *url = link_url(l, "/v1/events?follow=true");
	struct http_call *before = l->follow_call;
	struct http_request r;
	int code;

	if (!url)
		return err_set(err, -ENOMEM, "out of memory");
	l->on_event = event;
	l->on_lost = lost;
	l->follow_data = data;
	r = link_request(l, "GET", url, NULL, UINT64_MAX);
	r.line = on_line;
	code = http_start(l->http, &r, on_stream_end, l, &l->follow_call, err);
	/* Only now: an agent that somebody else started stays for as long as it is followed. */
	if (before && (code < 0 || before != l->follow_call))
		http_cancel(before);
	if (code < 0)
		l->follow_call = NULL;
	if (code < 0)
		return err_wrap(err, code, "agent %s", agent_link_name(l));
	return 0;
}
