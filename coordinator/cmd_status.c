#include <inttypes.h>
#include <stdlib.h>

#include "core/units.h"
#include "session.h"
#include "table.h"
#include "verbs.h"

struct options {
	struct session_options session;
	bool all, names;
};

static bool is_over(const struct experiment_info *e)
{
	return e->state == EXPERIMENT_CLEAN || e->state == EXPERIMENT_REFUSED;
}

static void add_text(struct table *t, const struct experiment_info *e)
{
	char remaining[UNITS_TEXT_MAX], hits[24];
	const char *cells[] = {e->experiment, e->fault, e->instance,
		experiment_state_to_string(e->state), remaining, hits, e->error};

	duration_human(e->remaining_ms * 1000000, remaining);
	snprintf(hits, sizeof(hits), "%" PRIu64, e->hits);
	table_add(t, cells);
}

static int status(const struct options *o, struct err **err)
{
	static const char *const heads[] = {"EXPERIMENT", "FAULT", "INSTANCE", "STATE", "REMAINING",
		"HITS", "ERROR", NULL};
	_cleanup_(session_closep) struct session *s = NULL;
	_cleanup_json_ cJSON *all = json_array();
	struct table *t = table_new(heads);
	struct agent_replies replies = {0};
	size_t shown = 0;
	int r = session_open(&o->session, SESSION_EXISTING, &s, err);

	if (r >= 0) {
		agent_ask_experiments(s->links, s->n_links, &replies);
		r = agent_replies_check(&replies, err);
	}
	for (size_t i = 0; i < replies.count; i++) {
		for (size_t k = 0; k < replies.items[i].count; k++) {
			const struct experiment_info *e = replies.items[i].experiments[k];

			if (!o->all && is_over(e))
				continue;
			if (o->names)
				puts(e->experiment);
			json_append(all, experiment_info_to_json(e));
			add_text(t, e);
			shown++;
		}
	}
	agent_replies_done(&replies);
	if (o->names) {
		/* They have been printed. */
	} else if (r >= 0 && o->session.json) {
		_cleanup_free_ char *text = json_print_pretty(all);

		puts(text);
	} else if (r >= 0 && !shown) {
		printf("No experiment is under way%s.\n", o->all ? " or remembered" : "");
	} else if (r >= 0) {
		table_print(t, stdout);
	}
	table_free(t);
	return r;
}

static int without_agent(const struct options *o)
{
	_cleanup_err_ struct err *err = NULL;
	size_t left = 0;

	if (local_agent_journal(&left, &err) < 0)
		return cli_fail(err);
	if (o->session.json)
		puts("[]");
	else if (!left && !o->names)
		puts("No agent runs here, so no experiment is under way.");
	if (!left)
		return EXIT_PASSED;
	fprintf(stderr,
		"pgjolt: no agent runs here, but the journal of a dead one holds %zu fault%s: "
		"`pgjolt-agent revert-all` undoes what is left of them\n",
		left, left == 1 ? "" : "s");
	return EXIT_STUCK;
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err), code = EXIT_PASSED;

	if (r < 0) {
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	} else {
		r = status(&o, &err);
		/* No agent, no fault: what a fault lives in is its agent. */
		if (r == -ESRCH && session_is_local(&o.session)) {
			code = without_agent(&o);
		} else if (r < 0) {
			code = cli_fail(err);
		}
	}
	session_options_done(&o.session);
	return code;
}

static const struct cli_option options[] = {
	SESSION_OPTIONS(struct options),
	{"names", CLI_FLAG, offsetof(struct options, names), NULL, "their ids alone", NULL},
	{"all", CLI_FLAG, offsetof(struct options, all), NULL, "those that ended too", NULL},
};

const struct cli_verb verb_status = {
	.name = "status",
	.summary = "the experiments under way",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
