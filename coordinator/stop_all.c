#include "stop_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "kube/stop_switch.h"

#define HEED_NS (5 * NS_PER_S)	/* agents heed it within a second, unless their watch is just coming back */
#define LOOK_NS (100 * NS_PER_MS)

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

/* ---- the lock ---- */

/* NULL: it heeds the lock. Caller frees. */
static char *why_unheeding(const char *namespace, const struct agent_reply *reply)
{
	char *words = NULL;
	int n;

	if (reply->err)
		n = asprintf(&words, "it is not known whether it heeds the lock: %s", reply->err->text);
	else if (reply->node->accepting)
		n = asprintf(&words, "does not heed the lock: it takes faults, so it does not watch ConfigMap %s/%s",
			namespace, STOP_SWITCH_NAME);
	else if (!stop_switch_is_reason(reply->node->reason, namespace, STOP_SWITCH_NAME))
		n = asprintf(&words, "it is not known whether it heeds the lock: it takes no faults now, since %s",
			reply->node->reason ? reply->node->reason : "it says so");
	else
		return NULL;
	if (n < 0)
		abort();
	return words;
}

/* Asks once. Keeps the first of links that do not heed it, and says why in words (caller frees). */
static size_t ask_locked(const char *namespace, struct agent_link **links, size_t n, char **words)
{
	struct agent_replies replies;
	size_t left = 0;

	agent_ask_nodes(links, n, &replies);
	for (size_t i = 0; i < replies.count; i++) {
		char *why = why_unheeding(namespace, &replies.items[i]);

		if (!why)
			continue;
		links[left] = replies.items[i].link;
		words[left++] = why;
	}
	agent_replies_done(&replies);
	return left;
}

static void tell_locked(cJSON *agents, const char *node, bool locked)
{
	cJSON *item;

	cJSON_ArrayForEach(item, agents)
		if (strcmp(kube_text(item, "node"), node) == 0 && !json_get(item, "locked"))
			json_add_bool(item, "locked", locked);
}

void stop_wait_locked(struct session *s, const char *namespace, FILE *f, cJSON *agents, struct stop_result *ret)
{
	_cleanup_free_ struct agent_link **links = calloc(s->n_links + 1, sizeof(*links));
	_cleanup_free_ char **words = calloc(s->n_links + 1, sizeof(*words));
	uint64_t end_ns = now_ns() + HEED_NS;
	size_t left = s->n_links;

	if (!links || !words)
		abort();
	for (size_t i = 0; i < left; i++)
		links[i] = s->links[i];
	while ((left = ask_locked(namespace, links, left, words)) > 0 && now_ns() < end_ns) {
		for (size_t i = 0; i < left; i++)
			free(words[i]);
		for (uint64_t next_ns = now_ns() + LOOK_NS, now; (now = now_ns()) < next_ns;)
			if (sd_event_run(s->event, (next_ns - now) / NS_PER_US + 1) < 0)
				break;
	}
	ret->unheeding = left;
	ret->locked = s->n_links - left;
	for (size_t i = 0; i < left; i++) {
		if (f)
			fprintf(f, "%s: %s\n", agent_link_name(links[i]), words[i]);
		tell_locked(agents, agent_link_name(links[i]), false);
		free(words[i]);
	}
	for (size_t i = 0; i < s->n_links; i++)
		tell_locked(agents, agent_link_name(s->links[i]), true);
}
