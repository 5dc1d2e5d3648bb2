#include "stop_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum outcome { OUTCOME_REVERTED, OUTCOME_LEFT, OUTCOME_NOTHING, OUTCOME_UNKNOWN };

static void tell(FILE *f, cJSON *agents, const char *node, const char *pod, enum outcome outcome,
	const char *words)
{
	static const char *const names[] = {"reverted", "left", "nothing", "unknown"};
	cJSON *item = json_object();

	json_add_string(item, "node", node);
	json_add_string(item, "pod", pod);
	json_add_string(item, "outcome", names[outcome]);
	json_add_string(item, "text", words);
	json_append(agents, item);
	if (f)
		fprintf(f, "%s%s%s%s: %s\n", *node ? node : "(no node)", pod ? " (pod " : "",
			pod ? pod : "", pod ? ")" : "", words);
}

static void tell_reply(FILE *f, cJSON *agents, const struct agent_reply *reply,
	struct stop_result *result)
{
	const char *node = agent_link_name(reply->link);
	_cleanup_free_ char *words = NULL;
	enum outcome outcome = OUTCOME_NOTHING;
	int n;

	if (reply->err) {
		outcome = OUTCOME_UNKNOWN;
		result->unknown++;
		n = asprintf(&words, "did not do it: %s", reply->err->text);
	} else if (reply->left) {
		outcome = OUTCOME_LEFT;
		result->left += reply->left;
		n = asprintf(&words, "%zu of %zu experiments could not be reverted", reply->left,
			reply->count);
	} else if (reply->count) {
		outcome = OUTCOME_REVERTED;
		n = asprintf(&words, "%zu experiment%s reverted, clean", reply->count,
			reply->count == 1 ? "" : "s");
	} else {
		n = asprintf(&words, "nothing was under way");
	}
	if (n < 0)
		abort();
	tell(f, agents, node, NULL, outcome, words);
}

enum node_state { NODE_THERE, NODE_DOWN, NODE_GONE, NODE_UNKNOWN };

static enum node_state node_state(struct session *s, const char *node)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_json_ cJSON *object = NULL;
	const cJSON *c;
	int r;

	if (!s->kube || !*node)
		return NODE_UNKNOWN;
	path = kube_path("/api/v1/nodes/%s", node);
	r = kube_get(s->kube, path, &object, NULL);
	if (r < 0)
		return r == -ENOENT ? NODE_GONE : NODE_UNKNOWN;
	cJSON_ArrayForEach(c, kube_field(object, "status.conditions"))
	{
		const char *type = kube_text(c, "type"), *status = kube_text(c, "status");

		if (type && status && strcmp(type, "Ready") == 0)
			return strcmp(status, "True") == 0 ? NODE_THERE : NODE_DOWN;
	}
	return NODE_THERE;
}

/* What an agent held ends with its process or its node; and of one that never was, nothing can be. */
static void tell_missing(struct session *s, FILE *f, cJSON *agents, const struct agent_missing *m,
	struct stop_result *result)
{
	static const char lease[] = "what is active there ends with its lease, seconds after its "
				    "coordinator has stopped";
	enum node_state state = m->never_ran ? NODE_UNKNOWN : node_state(s, m->node);
	enum outcome outcome = OUTCOME_NOTHING;
	_cleanup_free_ char *words = NULL;
	int n;

	if (m->never_ran) {
		n = asprintf(&words, "its agent was never started (%s), so it holds nothing", m->why);
	} else if (state == NODE_GONE) {
		n = asprintf(&words, "the node is gone from the cluster, and what its agent held with it");
	} else {
		outcome = OUTCOME_UNKNOWN;
		result->unknown++;
		n = asprintf(&words, "not reached (%s)%s: it is not known what it holds; %s", m->why,
			state == NODE_DOWN ? ", and the node is not ready" : "", lease);
	}
	if (n < 0)
		abort();
	tell(f, agents, m->node, m->pod, outcome, words);
}

void stop_all(struct session *s, FILE *f, cJSON *agents, struct stop_result *ret)
{
	struct agent_replies replies;

	*ret = (struct stop_result){0};
	agent_ask_revert_all(s->links, s->n_links, &replies);
	for (size_t i = 0; i < replies.count; i++)
		tell_reply(f, agents, &replies.items[i], ret);
	agent_replies_done(&replies);
	for (size_t i = 0; i < s->n_missing; i++)
		tell_missing(s, f, agents, &s->missing[i], ret);
}
