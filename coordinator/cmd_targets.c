#include <stdlib.h>

#include "session.h"
#include "table.h"
#include "verbs.h"

struct options {
	struct session_options session;
	bool names;
};

/* The name of a pod tells nothing of its cluster. */
static void print_pods(const struct targets *t)
{
	static const char *const heads[] = {"POD", "CLUSTER", "ROLE", "NODE", "ADDRESS", "PORT",
		"CONTAINER", "VERSION", "OWNER", NULL};
	struct table *table = table_new(heads);

	for (size_t i = 0; i < t->count; i++) {
		const struct instance_info *n = t->items[i].info;
		char port[16];
		const char *cells[] = {n->name, n->cluster, role_to_string(n->role), n->node,
			n->addresses ? n->addresses[0] : NULL, port, n->container, n->version,
			n->owner};

		snprintf(port, sizeof(port), "%u", n->port);
		table_add(table, cells);
	}
	table_print(table, stdout);
	table_free(table);
}

static void print_text(const struct targets *t)
{
	static const char *const heads[] = {"INSTANCE", "ROLE", "NODE", "PORT", "PID", "VERSION",
		"ADDRESSES", "PGDATA", NULL};
	struct table *table = table_new(heads);

	for (size_t i = 0; i < t->count; i++) {
		const struct instance_info *n = t->items[i].info;
		char port[16], pid[16];
		const char *cells[] = {n->name, role_to_string(n->role), n->node, port, pid,
			n->version, n->addresses ? n->addresses[0] : NULL, n->pgdata};

		snprintf(port, sizeof(port), "%u", n->port);
		snprintf(pid, sizeof(pid), "%d", (int)n->pid);
		table_add(table, cells);
	}
	if (t->count)
		table_print(table, stdout);
	else
		printf("No PostgreSQL runs where the agents look.\n");
	table_free(table);
}

static void print_json(const struct targets *t)
{
	_cleanup_json_ cJSON *all = json_array();
	_cleanup_free_ char *text = NULL;

	for (size_t i = 0; i < t->count; i++)
		json_append(all, instance_info_to_json(t->items[i].info));
	text = json_print_pretty(all);
	puts(text);
}

static int targets(const struct options *o, struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	struct targets t = {0};
	int r = session_open(&o->session, SESSION_LOOK, &s, err);

	if (r >= 0)
		r = session_targets(s, &t, err);
	if (r < 0)
		return r;
	if (o->session.json)
		print_json(&t);
	else if (o->names)
		for (size_t i = 0; i < t.count; i++)
			puts(t.items[i].info->name);
	else if (s->kube && t.count)
		print_pods(&t);
	else
		print_text(&t);
	targets_done(&t);
	return 0;
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err), code = EXIT_PASSED;

	if (r < 0)
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	else if (targets(&o, &err) < 0)
		code = cli_fail(err);
	session_options_done(&o.session);
	return code;
}

static const struct cli_option options[] = {
	SESSION_OPTIONS(struct options),
	{"names", CLI_FLAG, offsetof(struct options, names), NULL, "names alone", NULL},
};

const struct cli_verb verb_targets = {
	.name = "targets",
	.summary = "the PostgreSQL instances that the agents found",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
