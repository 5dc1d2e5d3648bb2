#include "api/route.h"

#include <string.h>
#include "api/event_log.h"
#include "api/server_internal.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/units.h"
#include "instance/instance.h"
#include "kubeapi/kubernetes.h"

int handle_node(const struct call *call, struct answer *ret, struct err **err)
{
	_cleanup_(node_info_freep) struct node_info *n = agent_describe(call->server->agent);

	if (!n)
		return err_errno(err, -ENOMEM, "describe the node");
	ret->json = node_info_to_json(n);
	return 0;
}

int handle_probe(const struct call *call, struct answer *ret, struct err **err)
{
	int r;

	r = agent_probe(call->server->agent, err);
	if (r < 0)
		return err_wrap(err, r, "probe");
	return handle_node(call, ret, err);
}

int handle_instances(const struct call *call, struct answer *ret, struct err **err)
{
	struct instance_info **list = NULL;
	cJSON *array;
	size_t n = 0;
	int r;

	r = instance_scan(call->server->agent->config.node_name, &list, &n, err);
	if (r < 0)
		return err_wrap(err, r, "find instances");
	array = json_array();
	for (size_t i = 0; i < n; i++) {
		if (call->server->agent->kubernetes)
			kubernetes_describe(call->server->agent->kubernetes, list[i]);
		json_append(array, instance_info_to_json(list[i]));
	}
	instance_list_free(list, n);
	ret->json = json_object();
	json_add_item(ret->json, "instances", array);
	return 0;
}

/* Whoever else follows the events still uses this agent, which then stays until they have gone. */
int handle_leave(const struct call *call, struct answer *ret, struct err **err)
{
	struct agent *agent = call->server->agent;

	if (agent->config.owner <= 0)
		return err_set(err, -EPERM, "this agent was not started by a pgjolt: SIGTERM ends it");
	/* It leaves once this answer is on its way: request_end(). */
	agent->owner_ended = true;
	ret->json = json_object();
	json_add_bool(ret->json, "leaving", !api_server_is_used(call->server));
	return 0;
}

int handle_clock(const struct call *call, struct answer *ret, struct err **err)
{
	(void)call;
	(void)err;
	ret->json = json_object();
	json_add_uint(ret->json, "monotonic_ns", now_ns());
	return 0;
}

int handle_health(const struct call *call, struct answer *ret, struct err **err)
{
	const char *reason = NULL;

	ret->text_type = "text/plain; charset=utf-8";
	if (experiments_accepting(call->server->agent->experiments, &reason)) {
		ret->text = strdup("ok\n");
	} else if (experiments_is_locked(call->server->agent->experiments)) {
		/* It does what it was told to: no reason to start it anew. */
		if (asprintf(&ret->text, "ok, but %s\n", reason) < 0)
			ret->text = NULL;
	} else {
		ret->status = 503;
		if (asprintf(&ret->text, "%s\n", reason ? reason : "an experiment is stuck") < 0)
			ret->text = NULL;
	}
	return ret->text ? 0 : err_errno(err, -ENOMEM, "health");
}

int handle_metrics(const struct call *call, struct answer *ret, struct err **err)
{
	ret->text_type = "text/plain; version=0.0.4; charset=utf-8";
	return metrics_print(call->server, &ret->text, err);
}

int handle_events(const struct call *call, struct answer *ret, struct err **err)
{
	bool follow = false;
	uint64_t after = 0;
	int r;

	if (call->after) {
		r = count_parse(call->after, 0, UINT64_MAX, &after, err);
		if (r < 0)
			return err_wrap(err, r, "after");
	}
	if (call->follow) {
		follow = strcmp(call->follow, "true") == 0;
		if (!follow && strcmp(call->follow, "false") != 0)
			return err_set(err, -EINVAL, "follow: \"%.40s\": expected true or false",
				call->follow);
	}
	if (follow && call->server->n_followers >= SERVER_FOLLOWERS_MAX)
		return err_set(err, -EBUSY, "%u connections follow the events already, the most",
			call->server->n_followers);
	ret->stream = event_stream_new(call->server, after, follow, call->pid);
	return ret->stream ? 0 : err_errno(err, -ENOMEM, "events");
}
