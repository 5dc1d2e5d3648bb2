/* What an agent's clock is on ours: the best of several round trips, measured again as clocks drift. */
#include "agentlink/link_internal.h"

#include <stdlib.h>

#include "core/clock.h"

#define CLOCK_TIMEOUT_MS 1000
/* Two machines' clocks drift apart by some tens of these; what NTP does to them comes on top. */
#define DRIFT_PPM 100

struct clock_series {
	struct agent_link *link;
	unsigned rounds_left;
	struct http_call *call;
	bool known;
	int64_t offset_ns;		/* of the shortest round trip so far */
	uint64_t uncertainty_ns;
	agent_link_clock_done done;
	void *data;
};

void link_clock_cancel(struct agent_link *l)
{
	struct clock_series *s = steal_ptr(l->series);

	if (!s)
		return;
	http_cancel(s->call);
	free(s);
}

static int read_clock(const struct http_answer *a, uint64_t *ret, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	const struct json_field fields[] = {
		{"monotonic_ns", JSON_UINT64, 0, true, NULL, NULL},
		JSON_FIELD_END,
	};
	int r;

	if (a->error)
		return err_set(err, a->error, "%s", a->error_text);
	if (a->status != 200)
		return err_errno(err, err_from_http_status(a->status), "HTTP %d", a->status);
	r = json_parse(a->body, a->length, &json, err);
	return r < 0 ? r : json_dispatch(json, fields, ret, JSON_ALLOW_UNKNOWN, err);
}

static void take_sample(struct clock_series *s, const struct http_answer *a, uint64_t agent_ns)
{
	uint64_t half = (a->done_ns - a->sent_ns) / 2;

	if (s->known && half >= s->uncertainty_ns)
		return;
	s->known = true;
	s->uncertainty_ns = half;
	s->offset_ns = (int64_t)(a->sent_ns + half) - (int64_t)agent_ns;
}

/* What was measured before counts for less, the older it is: but more than a worse trip of now. */
static void take_series(struct agent_link *l, const struct clock_series *s)
{
	uint64_t now = now_ns();
	uint64_t aged = l->uncertainty_ns + (now - l->measured_ns) / 1000000 * DRIFT_PPM;

	if (!s->known || (l->clock_known && s->uncertainty_ns > aged))
		return;
	l->clock_known = true;
	l->offset_ns = s->offset_ns;
	l->uncertainty_ns = s->uncertainty_ns;
	l->measured_ns = now;
}

static int ask(struct clock_series *s, struct err **err);

static void on_clock(const struct http_answer *a, void *data)
{
	struct clock_series *s = data;
	struct agent_link *l = s->link;
	_cleanup_err_ struct err *err = NULL;
	uint64_t agent_ns = 0;
	int r = read_clock(a, &agent_ns, &err);

	s->call = NULL;
	if (r >= 0) {
		take_sample(s, a, agent_ns);
		if (--s->rounds_left && ask(s, &err) >= 0)
			return;
	}
	if (s->known)
		err_free(steal_ptr(err));
	else
		err_wrap(&err, r, "agent %s: cannot read its clock", agent_link_name(l));
	l->series = NULL;
	take_series(l, s);
	if (s->done)
		s->done(err, s->data);
	free(s);
}

static int ask(struct clock_series *s, struct err **err)
{
	struct agent_link *l = s->link;
	_cleanup_free_ char *url = link_url(l, "/v1/clock");
	struct http_request r = link_request(l, "GET", url, NULL, CLOCK_TIMEOUT_MS);

	return http_start(l->http, &r, on_clock, s, &s->call, err);
}

int agent_link_clock_start(struct agent_link *l, unsigned rounds, agent_link_clock_done done,
	void *data, struct err **err)
{
	struct clock_series *s;
	int r;

	link_clock_cancel(l);
	s = calloc(1, sizeof(*s));
	if (!s)
		abort();
	*s = (struct clock_series){.link = l, .rounds_left = rounds, .done = done, .data = data};
	l->series = s;
	r = ask(s, err);
	if (r < 0)
		link_clock_cancel(l);
	return r;
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
