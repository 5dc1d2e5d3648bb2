/* An agent's address and name, and its stream of events. */
#include "agentlink/link_internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "kube/kube.h"

/* Handshakes of many agents share our one thread. */
#define CONNECT_TIMEOUT_MS 3000

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

char *link_url(const struct agent_link *l, const char *path)
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

struct http_request link_request(struct agent_link *l, const char *method, const char *url,
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
		.connect_timeout_ms = CONNECT_TIMEOUT_MS,
		.timeout_ms = timeout_ms,
	};
}

const char *agent_link_socket(const struct agent_link *l)
{
	return l->address.unix_socket;
}

void agent_link_move(struct agent_link *l, const char *url)
{
	if (l->address.url && strcmp(l->address.url, url) == 0)
		return;
	agent_link_unfollow(l);
	agent_link_cancel(l);
	free(l->address.url);
	l->address.url = strdup(url);
	l->clock_known = false;
}

struct leaving {
	bool done, leaving;
	struct err *err;
};

static void on_left(cJSON **json, const struct err *err, void *data)
{
	struct leaving *l = data;

	l->done = true;
	l->leaving = cJSON_IsTrue(json_get(*json, "leaving"));
	if (err)
		err_set(&l->err, err->code, "%s", err->text);
}

int agent_link_leave(struct agent_link *l, bool *ret_leaving, struct err **err)
{
	const struct link_question q = {.method = "POST", .path = "/v1/leave"};
	struct leaving leaving = {0};
	_cleanup_err_ struct err *cause = NULL;
	struct pending *p = NULL;
	int r = link_ask(l, &q, &(struct link_listener){on_left, NULL, &leaving}, &p, err);

	if (r < 0)
		return r;
	while (r >= 0 && !leaving.done)
		r = http_client_turn(l->http, UINT64_MAX, err);
	cause = leaving.err;
	if (!leaving.done) {
		link_give_up(p);
		return err_wrap(err, r, "agent %s", agent_link_name(l));
	}
	if (cause)
		return err_set(err, cause->code, "%s", cause->text);
	*ret_leaving = leaving.leaving;
	return 0;
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
