/* One question to one agent, and its answer as JSON. */
#include "agentlink/link_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pending {
	struct agent_link *link;
	struct pending *prev, *next;
	struct http_call *call;
	char *what;			/* "GET https://...": for its errors */
	struct link_listener listener;
};

static void pending_free(struct pending *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		p->link->pending = p->next;
	if (p->next)
		p->next->prev = p->prev;
	free(p->what);
	free(p);
}

void link_give_up(struct pending *p)
{
	if (!p)
		return;
	http_cancel(p->call);
	if (p->listener.forget)
		p->listener.forget(p->listener.data);
	pending_free(p);
}

void agent_link_cancel(struct agent_link *l)
{
	link_clock_cancel(l);
	while (l->pending)
		link_give_up(l->pending);
}

static void on_answer(const struct http_answer *a, void *data)
{
	struct pending *p = data;
	struct pending call = *p;
	_cleanup_free_ char *what = steal_ptr(p->what);
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = 0;

	pending_free(p);
	if (a->error) {
		r = err_set(&err, a->error, "%s: %s", what, a->error_text ? a->error_text : "no answer");
	} else {
		if (a->length)
			r = json_parse(a->body, a->length, &json, &err);
		if (r < 0)
			r = err_wrap(&err, -EPROTO, "%s", what);
		if (a->status >= 400)
			r = error_from_json(a->status, json, &err);
	}
	if (r < 0)
		err_wrap(&err, r, "agent %s", agent_link_name(call.link));
	call.listener.answered(&json, err, call.listener.data);
}

int link_ask(struct agent_link *l, const struct link_question *q, const struct link_listener *listener,
	struct pending **ret, struct err **err)
{
	_cleanup_free_ char *url = link_url(l, q->path);
	struct pending *p = calloc(1, sizeof(*p));
	struct http_request r;
	int code;

	if (!p || !url)
		abort();
	*p = (struct pending){.link = l, .next = l->pending, .listener = *listener};
	/* The host of a socket's URL means nothing. */
	if (asprintf(&p->what, "%s %s", q->method, l->address.url ? url : q->path) < 0)
		abort();
	if (p->next)
		p->next->prev = p;
	l->pending = p;
	r = link_request(l, q->method, url, q->body, q->timeout_ms);
	code = http_start(l->http, &r, on_answer, p, &p->call, err);
	if (code < 0) {
		pending_free(p);
		return err_wrap(err, code, "agent %s", agent_link_name(l));
	}
	if (ret)
		*ret = p;
	return 0;
}
