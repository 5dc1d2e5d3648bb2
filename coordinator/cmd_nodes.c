#include <stdlib.h>
#include <string.h>

#include "session.h"
#include "table.h"
#include "verbs.h"

struct options {
	struct session_options session;
};

/* Takes why. */
static void add_missing(struct node_info ***nodes, size_t *n, const char *name, char *why)
{
	struct node_info *info = calloc(1, sizeof(*info));

	*nodes = reallocarray(*nodes, *n + 1, sizeof(**nodes));
	if (!info || !*nodes)
		abort();
	info->name = strdup(name);
	info->boot_id = strdup("");
	info->kernel = strdup("");
	info->machine = strdup("");
	info->version = strdup("");
	info->reason = why;
	(*nodes)[(*n)++] = info;
}

/* Nodes of the cluster that have no agent which answers, as far as we may know. */
static void find_missing(const struct options *o, struct session *s, struct node_info ***nodes,
	size_t *n)
{
	_cleanup_json_ cJSON *all = NULL;
	const cJSON *node;

	for (size_t i = 0; i < s->n_missing; i++) {
		char *why = NULL;

		if (asprintf(&why, "pod %s: %s", s->missing[i].pod, s->missing[i].why) < 0)
			abort();
		add_missing(nodes, n, s->missing[i].node, why);
	}
	/* Who names agents asks for these, and must not wait for an API server: a pod's probe is such a
	 * one. Who may not list nodes sees the agents alone. */
	if (!s->kube || o->session.agents || kube_list(s->kube, "/api/v1/nodes", &all, NULL) < 0)
		return;
	cJSON_ArrayForEach(node, all)
	{
		bool known = false;

		for (size_t i = 0; i < *n; i++)
			known = known || strcmp((*nodes)[i]->name, kube_name(node)) == 0;
		if (!known)
			add_missing(nodes, n, kube_name(node),
				strdup("no agent's pod is there (taints? the DaemonSet's tolerations)"));
	}
}

static void print_text(struct node_info *const *nodes, size_t n)
{
	static const char *const heads[] = {"NODE", "FAULT", "SUPPORTED", "MECHANISM", "REASON",
		NULL};
	struct table *t = table_new(heads);

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < nodes[i]->n_capabilities; k++) {
			const struct capability *c = &nodes[i]->capabilities[k];
			const char *cells[] = {nodes[i]->name, c->fault, c->supported ? "yes" : "no",
				c->mechanism, c->reason};

			table_add(t, cells);
		}
	}
	table_print(t, stdout);
	table_free(t);
	for (size_t i = 0; i < n; i++) {
		if (!*nodes[i]->version) {
			printf("\n%s: no agent: %s", nodes[i]->name, nodes[i]->reason);
			continue;
		}
		printf("\n%s: Linux %s %s, agent %s", nodes[i]->name, nodes[i]->kernel,
			nodes[i]->machine, nodes[i]->version);
		if (!nodes[i]->accepting)
			printf(", takes no faults now: %s",
				nodes[i]->reason ? nodes[i]->reason : "unknown reason");
	}
	printf("\n");
}

static void print_json(struct node_info *const *nodes, size_t n)
{
	_cleanup_json_ cJSON *all = json_array();
	_cleanup_free_ char *text = NULL;

	for (size_t i = 0; i < n; i++)
		json_append(all, node_info_to_json(nodes[i]));
	text = json_print_pretty(all);
	puts(text);
}

static int nodes(const struct options *o, struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	struct agent_replies replies;
	struct node_info **list;
	size_t n = 0;
	int r = session_open(&o->session, SESSION_LOOK, &s, err);

	if (r < 0)
		return r;
	list = calloc(s->n_links + 1, sizeof(*list));
	if (!list)
		abort();
	agent_ask_nodes(s->links, s->n_links, &replies);
	r = agent_replies_check(&replies, err);
	for (; r >= 0 && n < replies.count; n++)
		list[n] = steal_ptr(replies.items[n].node);
	agent_replies_done(&replies);
	if (r >= 0) {
		find_missing(o, s, &list, &n);
		if (o->session.json)
			print_json(list, n);
		else
			print_text(list, n);
	}
	for (size_t i = 0; i < n; i++)
		node_info_free(list[i]);
	free(list);
	return r;
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err), code = EXIT_PASSED;

	if (r < 0)
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	else if (nodes(&o, &err) < 0)
		code = cli_fail(err);
	session_options_done(&o.session);
	return code;
}

static const struct cli_option options[] = {SESSION_OPTIONS(struct options)};

const struct cli_verb verb_nodes = {
	.name = "nodes",
	.summary = "the agents, and which faults each node can do by which mechanism",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
