#include <stdlib.h>
#include <string.h>

#include "kubernetes/kill_switch.h"
#include "session.h"
#include "verbs.h"

struct options {
	struct session_options session;
	bool all, unlock;
	char *lock;		/* reason */
};

static int stop_all(struct session *s, size_t *ret_left, struct err **err)
{
	int result = 0;

	/* Every agent is asked, whatever one of them answers. */
	for (size_t i = 0; i < s->n_links; i++) {
		size_t left = 0;
		int r = agent_link_revert_all(s->links[i], NULL, &left, result < 0 ? NULL : err);

		if (r < 0)
			result = r;
		*ret_left += left;
	}
	return result;
}

static int stop_one(struct session *s, const char *id, size_t *ret_left, struct err **err)
{
	for (size_t i = 0; i < s->n_links; i++) {
		_cleanup_(experiment_info_freep) struct experiment_info *e = NULL;
		_cleanup_err_ struct err *cause = NULL;
		int r = agent_link_revert(s->links[i], id, &e, &cause);

		if (r == -ENOENT)
			continue;
		if (r < 0)
			return err_set(err, r, "%s", err_text(cause));
		if (e->state != EXPERIMENT_CLEAN && e->state != EXPERIMENT_REFUSED)
			(*ret_left)++;
		return 0;
	}
	return err_set(err, -ENOENT, "no agent knows experiment \"%s\" (see `pgjolt status`)", id);
}

/* The switch first: agents that we do not reach heed it as well. */
static int set_lock(const struct options *o, struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	bool was = false;
	int r = session_open_api(&o->session, &s, err);

	if (r >= 0)
		r = kill_switch_set(s->kube, s->agents_namespace, o->lock != NULL, o->lock, &was, err);
	if (r < 0 || o->session.json)
		return r;
	if (o->lock)
		printf("Locked (ConfigMap %s/%s): agents revert what they hold and take no fault until "
		       "`pgjolt stop --unlock`.\n",
			s->agents_namespace, KILL_SWITCH_NAME);
	else
		puts(was ? "Unlocked: agents take faults again." : "It was not locked.");
	return 0;
}

/* What happens on their nodes is not known. */
static int agents_missing(const struct session *s, struct err **err)
{
	if (!s->n_missing)
		return 0;
	return err_set(err, -EIO,
		"%zu agent%s could not be asked (see above): what is active there ends with its lease, "
		"seconds after its coordinator has stopped",
		s->n_missing, s->n_missing == 1 ? "" : "s");
}

static int stop(const struct options *o, char **ids, size_t *ret_left, struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	int r = session_open(&o->session, SESSION_EXISTING, &s, err);

	if (r < 0)
		return r;
	if (o->all) {
		r = stop_all(s, ret_left, err);
		return r < 0 ? r : agents_missing(s, err);
	}
	for (size_t i = 0; r >= 0 && ids[i]; i++) {
		if (!id_is_valid(ids[i]))
			return err_set(err, -EINVAL,
				"\"%s\" is no experiment's id (lower-case letters, digits, \"-\")",
				ids[i]);
		r = stop_one(s, ids[i], ret_left, err);
	}
	return r;
}

static int report(const struct options *o, size_t left)
{
	if (o->session.json)
		printf("{\"left\": %zu}\n", left);
	else if (!left)
		puts("Reverted; the nodes are clean.");
	if (!left)
		return EXIT_PASSED;
	fprintf(stderr,
		"pgjolt: %zu experiment%s could not be reverted; `pgjolt status` says what is left. The "
		"agent goes on trying;\nending it and running `pgjolt-agent revert-all` on the node "
		"says what stands in the way.\n",
		left, left == 1 ? "" : "s");
	return EXIT_STUCK;
}

/* What a fault is held by went with its agent; the journal has the rest, and a new agent reverts it. */
static int without_agent(const struct options *o)
{
	_cleanup_err_ struct err *err = NULL;
	struct local_agent *agent = NULL;
	size_t left = 0;
	int r = local_agent_journal(&left, &err);

	if (r >= 0 && left) {
		r = local_agent_ensure(AGENT_SOCKET_DEFAULT, &agent, &err);
		if (r >= 0)
			local_agent_stop(agent);
		if (r >= 0)
			r = local_agent_journal(&left, &err);
	}
	return r < 0 ? cli_fail(err) : report(o, left);
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **ids = NULL;
	_cleanup_err_ struct err *err = NULL;
	size_t left = 0;
	int r = cli_parse(verb, argc, argv, NULL, &o, &ids, &err), code;

	if (r >= 0 && o.lock && !o.all)
		r = err_set(&err, -EINVAL, "--lock goes with --all");
	if (r >= 0 && (o.unlock ? o.all || ids || o.lock : !o.all == !ids))
		r = err_set(&err, -EINVAL, "give the ids of experiments, or --all, or --unlock");
	if (r < 0) {
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	} else if ((o.lock || o.unlock) && set_lock(&o, &err) < 0) {
		code = cli_fail(err);
	} else if (o.unlock) {
		code = EXIT_PASSED;
	} else {
		r = stop(&o, ids, &left, &err);
		if (r == -ESRCH && o.all && session_is_local(&o.session))
			code = without_agent(&o);
		else
			code = r < 0 ? cli_fail(err) : report(&o, left);
		/* Nobody knows what is left there. */
		if (r == -EIO)
			code = EXIT_STUCK;
	}
	session_options_done(&o.session);
	free(o.lock);
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
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
