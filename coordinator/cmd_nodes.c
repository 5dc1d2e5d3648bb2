#include <stdlib.h>

#include "session.h"
#include "table.h"
#include "verbs.h"

struct options {
	struct session_options session;
};

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
	struct node_info **list;
	int r = session_open(&o->session, SESSION_LOOK, &s, err);

	if (r < 0)
		return r;
	list = calloc(s->n_links, sizeof(*list));
	if (!list)
		abort();
	for (size_t i = 0; r >= 0 && i < s->n_links; i++)
		r = agent_link_node(s->links[i], &list[i], err);
	if (r >= 0) {
		if (o->session.json)
			print_json(list, s->n_links);
		else
			print_text(list, s->n_links);
	}
	for (size_t i = 0; i < s->n_links; i++)
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

	if (r >= 0 && arguments)
		r = err_set(&err, -EINVAL, "unexpected \"%s\"", arguments[0]);
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
