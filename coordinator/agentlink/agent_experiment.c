/* One experiment on one agent: fire, renew, revert, and how it is. */
#include "agentlink/link_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define FIRE_TIMEOUT_MS 5000
#define RENEW_TIMEOUT_MS 2000

struct asked {
	agent_link_done done;
	void *data;
};

static void on_experiment(cJSON **json, const struct err *err, void *data)
{
	struct asked *a = data;
	struct asked call = *a;
	_cleanup_err_ struct err *wrong = NULL;
	_cleanup_(experiment_info_freep) struct experiment_info *e = NULL;

	free(a);
	if (!err && experiment_info_from_json(*json, &e, &wrong) < 0)
		err = wrong;
	call.done(e, err, call.data);
}

/* verb NULL: asks how it is. */
static int start(struct agent_link *l, const char *experiment, const char *verb, const char *body,
	uint64_t timeout_ms, agent_link_done done, void *data, struct err **err)
{
	_cleanup_free_ struct asked *asked = malloc(sizeof(*asked));
	_cleanup_free_ char *path = NULL;
	struct link_question q = {verb ? "POST" : "GET", NULL, body, timeout_ms};
	int r;

	if (!asked || asprintf(&path, "/v1/experiments/%s%s%s", experiment, verb ? "/" : "",
			       verb ? verb : "") < 0)
		abort();
	*asked = (struct asked){done, data};
	q.path = path;
	r = link_ask(l, &q, &(struct link_listener){on_experiment, free, asked}, NULL, err);
	if (r >= 0)
		asked = NULL;
	return r;
}

int agent_link_fire_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err)
{
	return start(l, experiment, "fire", NULL, FIRE_TIMEOUT_MS, done, data, err);
}

int agent_link_get_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err)
{
	return start(l, experiment, NULL, NULL, 0, done, data, err);
}

int agent_link_revert_start(struct agent_link *l, const char *experiment, agent_link_done done,
	void *data, struct err **err)
{
	return start(l, experiment, "revert", NULL, REVERT_TIMEOUT_MS, done, data, err);
}

int agent_link_renew_start(struct agent_link *l, const char *experiment, uint64_t lease_ms,
	agent_link_done done, void *data, struct err **err)
{
	char body[64];

	snprintf(body, sizeof(body), "{\"lease_ms\": %" PRIu64 "}", lease_ms);
	return start(l, experiment, "renew", body, RENEW_TIMEOUT_MS, done, data, err);
}

