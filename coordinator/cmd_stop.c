#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kubernetes/kill_switch.h"
#include "session.h"
#include "stop_all.h"
#include "verbs.h"

struct options {
	struct session_options session;
	bool all, unlock;
	char *lock;		/* reason */
	char *locked_in;	/* namespace of the lock that was written */
};

/* The agents know it or do not: all are asked, as only one does. */
static int stop_one(struct session *s, const char *id, size_t *ret_left, struct err **err)
{
	_cleanup_free_ const char **ids = calloc(s->n_links + 1, sizeof(*ids));
	struct agent_replies replies;
	const struct experiment_info *found = NULL;
	const struct err *failed = NULL;
	int r = 0;

	if (!ids)
		abort();
	for (size_t i = 0; i < s->n_links; i++)
		ids[i] = id;
	agent_ask_revert(s->links, ids, s->n_links, &replies);
	for (size_t i = 0; i < replies.count; i++) {
		if (!replies.items[i].err)
			found = replies.items[i].experiments[0];
		else if (replies.items[i].err->code != -ENOENT)
			failed = replies.items[i].err;
	}
	if (found)
		*ret_left += found->state != EXPERIMENT_CLEAN && found->state != EXPERIMENT_REFUSED;
	else if (failed)
		r = err_set(err, failed->code, "%s", failed->text);
	else
		r = err_set(err, -ENOENT, "no agent knows experiment \"%s\" (see `pgjolt status`)", id);
	agent_replies_done(&replies);
	return r;
}

/* The switch first: agents that we do not reach heed it as well. */
static int set_lock(struct options *o, struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	bool was = false;
	int r = session_open_api(&o->session, &s, err);

	if (r >= 0)
		r = kill_switch_set(s->kube, s->agents_namespace, o->lock != NULL, o->lock, &was, err);
	if (r < 0)
		return r;
	o->locked_in = strdup(s->agents_namespace);
	if (!o->locked_in)
		abort();
	if (o->session.json)
		return 0;
	if (o->lock)
		printf("The lock is written (ConfigMap %s/%s).\n", s->agents_namespace, STOP_SWITCH_NAME);
	else
		puts(was ? "Unlocked: agents take faults again." : "It was not locked.");
	return 0;
}

/* One that cannot be stopped keeps none of the others: the first error is handed back, the rest is told. */
static int stop_these(struct session *s, char **ids, size_t *ret_left, struct err **err)
{
	int first = 0;

	for (size_t i = 0; ids[i]; i++)
		if (!id_is_valid(ids[i]))
			return err_set(err, -EINVAL,
				"\"%s\" is no experiment's id (lower-case letters, digits, \"-\")",
				ids[i]);
	for (size_t i = 0; i < s->n_missing; i++)
		fprintf(stderr, "pgjolt: warning: %s was not asked: %s\n",
			s->missing[i].pod ? s->missing[i].pod : s->missing[i].node, s->missing[i].why);
	for (size_t i = 0; ids[i]; i++) {
		_cleanup_err_ struct err *why = NULL;
		int r = stop_one(s, ids[i], ret_left, &why);

		if (r < 0 && !first)
			first = err_set(err, r, "%s", err_text(why));
		else if (r < 0)
			fprintf(stderr, "pgjolt: %s\n", err_text(why));
	}
	return first;
}

static void report_lock(const struct options *o, const struct stop_result *result)
{
	if (result->locked && !o->session.json)
		printf("Locked: %zu agent%s no fault until `pgjolt stop --unlock`.\n", result->locked,
			result->locked == 1 ? " takes" : "s take");
	if (result->unheeding)
		fprintf(stderr,
			"pgjolt: %zu agent%s not known to heed the lock. Those of the overlay `minimal` never "
			"watch it:\nthey take faults until they are gone\n",
			result->unheeding, result->unheeding == 1 ? " is" : "s are");
}

static int report(const struct options *o, const struct stop_result *result, const cJSON *agents)
{
	if (o->session.json) {
		_cleanup_json_ cJSON *json = json_object();
		_cleanup_free_ char *text = NULL;

		json_add_uint(json, "left", result->left);
		json_add_uint(json, "unknown", result->unknown);
		if (o->lock)
			json_add_uint(json, "unheeding", result->unheeding);
		json_add_item(json, "agents", cJSON_Duplicate(agents, true));
		text = json_print_pretty(json);
		puts(text);
	} else if (!result->left && !result->unknown) {
		puts("Reverted; the nodes are clean.");
	}
	if (result->left)
		fprintf(stderr,
			"pgjolt: %zu experiment%s could not be reverted; `pgjolt status` says what is left. The "
			"agent goes on trying;\nending it and running `pgjolt-agent revert-all` on the node "
			"says what stands in the way.\n",
			result->left, result->left == 1 ? "" : "s");
	if (result->unknown)
		fprintf(stderr, "pgjolt: %zu agent%s that may hold faults could not be asked\n",
			result->unknown, result->unknown == 1 ? "" : "s");
	if (o->lock)
		report_lock(o, result);
	return result->left || result->unknown || result->unheeding ? EXIT_STUCK : EXIT_PASSED;
}

/* Which agents there are could not be learned, or of none of them what it holds. */
static bool is_unreached(const struct options *o, int r)
{
	bool sockets = o->session.agents != NULL;

	for (char **a = o->session.agents; a && *a; a++)
		sockets = sockets && (*a)[0] == '/';
	/* Behind a socket that nobody listens on there is no agent. */
	return o->all && !session_is_local(&o->session) && !sockets &&
		(r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -ECONNRESET ||
			r == -EPROTO || r == -EIO);
}

static int stop(const struct options *o, char **ids, int *ret_code, struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	_cleanup_json_ cJSON *agents = json_array();
	struct stop_result result = {0};
	int r = session_open(&o->session, SESSION_STOP, &s, err);

	if (r < 0) {
		*ret_code = is_unreached(o, r) ? EXIT_STUCK : cli_exit_code(*err);
		return r;
	}
	if (o->all)
		stop_all(s, o->session.json ? NULL : stdout, agents, &result);
	if (o->lock)
		stop_wait_locked(s, o->locked_in, o->session.json ? NULL : stdout, agents, &result);
	if (!o->all)
		r = stop_these(s, ids, &result.left, err);
	*ret_code = r < 0 && !result.left ? cli_exit_code(*err) : report(o, &result, agents);
	return r;
}

/* What a fault is held by went with its agent; the journal has the rest, and a new agent reverts it. */
static int without_agent(const struct options *o)
{
	_cleanup_err_ struct err *err = NULL;
	struct local_agent *agent = NULL;
	_cleanup_json_ cJSON *none = json_array();
	size_t left = 0;
	int r = local_agent_journal(&left, &err);

	if (r >= 0 && left) {
		r = local_agent_ensure(AGENT_SOCKET_DEFAULT, &agent, &err);
		if (r >= 0)
			local_agent_stop(agent);
		if (r >= 0)
			r = local_agent_journal(&left, &err);
	}
	return r < 0 ? cli_fail(err) : report(o, &(struct stop_result){.left = left}, none);
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **ids = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &ids, &err), code = EXIT_PASSED;

	if (r >= 0 && o.lock && !o.all)
		r = err_set(&err, -EINVAL, "--lock goes with --all");
	if (r >= 0 && (o.unlock ? o.all || ids || o.lock : !o.all == !ids))
		r = err_set(&err, -EINVAL, "give the ids of experiments, or --all, or --unlock");
	o.session.in_kube = o.lock && !o.session.agents;
	if (r < 0) {
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	} else if ((o.lock || o.unlock) && set_lock(&o, &err) < 0) {
		code = cli_fail(err);
	} else if (o.unlock) {
		code = EXIT_PASSED;
	} else {
		r = stop(&o, ids, &code, &err);
		if (r == -ESRCH && o.all && session_is_local(&o.session))
			code = without_agent(&o);
		else if (r < 0)
			cli_fail(err);
	}
	session_options_done(&o.session);
	free(o.lock);
	free(o.locked_in);
	return code;
}

static const struct cli_option options[] = {
	SESSION_OPTIONS(struct options),
	{"all", CLI_FLAG, offsetof(struct options, all), NULL, "every experiment of every agent", NULL},
	{"lock", CLI_TEXT, offsetof(struct options, lock), "REASON",
		"with --all, in Kubernetes: no agent takes a fault until it is unlocked", NULL},
	{"unlock", CLI_FLAG, offsetof(struct options, unlock), NULL, "let agents take faults again",
		NULL},
};

const struct cli_verb verb_stop = {
	.name = "stop",
	.arguments = "ID... | --all [--lock REASON] | --unlock",
	.summary = "revert experiments now",
	.complete = "@experiments",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
