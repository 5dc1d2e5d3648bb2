/* A request whose caller has nothing else to do meanwhile. */
#include "http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/wire.h"

void http_client_give_up_at(struct http_client *c, uint64_t at_ns)
{
	c->give_up_ns = at_ns;
}

int http_client_turn(struct http_client *c, uint64_t end_ns, struct err **err)
{
	bool hurry = c->give_up_ns && c->give_up_ns < end_ns;
	uint64_t end = hurry ? c->give_up_ns : end_ns, now = now_ns();
	uint64_t limit_us = end == UINT64_MAX ? UINT64_MAX :
			    now < end	      ? (end - now) / NS_PER_US + 1 :
						0;
	int r;

	if (sd_event_get_state(c->event) == SD_EVENT_FINISHED)
		return err_set(err, -ECANCELED, "interrupted");
	/* Also when it is late: what has come is taken. */
	r = sd_event_run(c->event, limit_us);
	if (r < 0)
		return err_errno(err, r, "event loop");
	return hurry && !limit_us && !r ? err_set(err, -ECANCELED, "interrupted") : 0;
}

struct waiting {
	bool done;
	int error, status;
	char *text;
	cJSON *json;
	struct err *err;
};

static void on_waited(const struct http_answer *a, void *data)
{
	struct waiting *w = data;

	w->done = true;
	w->error = a->error;
	w->status = a->status;
	if (a->error)
		w->text = strdup(a->error_text ? a->error_text : "no answer");
	else if (a->length)
		w->error = json_parse(a->body, a->length, &w->json, &w->err);
}

/* The host of a socket's URL means nothing. */
static const char *shown_url(const struct http_request *r)
{
	const char *host = r->unix_socket ? strstr(r->url, "://") : NULL;
	const char *path = host ? strchr(host + 3, '/') : NULL;

	return path ? path : r->url;
}

int http_wait(struct http_client *c, const struct http_request *r, int *ret_status,
	cJSON **ret_json, struct err **err)
{
	struct waiting w = {0};
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_err_ struct err *cause = NULL;
	struct http_call *call = NULL;
	int code;

	code = http_start(c, r, on_waited, &w, &call, err);
	if (code < 0)
		return code;
	while (!w.done) {
		code = http_client_turn(c, UINT64_MAX, err);
		if (code < 0) {
			http_cancel(call);
			return err_wrap(err, code, "%s %s", r->method, shown_url(r));
		}
	}
	json = w.json;
	text = w.text;
	cause = w.err;
	if (ret_status)
		*ret_status = w.status;
	if (w.status >= 400)
		return error_from_json(w.status, json, err);
	if (w.error)
		return err_set(err, w.error, "%s %s: %s", r->method, shown_url(r),
			text ? text : err_text(cause));
	if (ret_json)
		*ret_json = steal_ptr(json);
	return 0;
}
