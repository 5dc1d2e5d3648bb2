/* One fault, held for as long as we live: Ctrl-C reverts it. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalogue.h"
#include "core/clock.h"
#include "core/units.h"
#include "drill/drill.h"
#include "run/run.h"
#include "run/timeline.h"
#include "session.h"
#include "verbs.h"

#define LEASE_MS 5000
#define RENEW_NS NS_PER_S

struct options {
	struct session_options session;
	char *target, *cluster, *manager;
	uint64_t duration_ns, seed;
	bool dry_run;
	const struct fault_spec *fault;
	cJSON *params;
};

static int take_param(const char *name, const char *value, void *data, struct err **err)
{
	struct options *o = data;

	(void)err;
	for (size_t i = 0; o->fault && i < o->fault->n_params; i++) {
		const struct param_spec *p = &o->fault->params[i];

		if (strcmp(p->name, name))
			continue;
		cJSON_DeleteItemFromObjectCaseSensitive(o->params, name);
		json_add_string(o->params, name, value ? value : "true");
		return 0;
	}
	return -ENOENT;
}

static bool is_flag(const char *name, void *data)
{
	const struct options *o = data;

	for (size_t i = 0; o->fault && i < o->fault->n_params; i++)
		if (strcmp(o->fault->params[i].name, name) == 0)
			return o->fault->params[i].type == PARAM_BOOL;
	return false;
}

/* The fault is a drill of one step: the same resolving, arming, evidence and revert. */
static struct drill *inject_drill(const struct options *o, struct err **err)
{
	_cleanup_(drill_freep) struct drill *d = calloc(1, sizeof(*d));
	_cleanup_(params_freep) struct params *params = NULL;
	struct step *s = calloc(1, sizeof(*s));

	if (!d || !s)
		abort();
	d->file = strdup("inject");
	d->name = strdup(o->fault->name);
	d->summary = strdup(o->fault->summary);
	d->steps = s;
	d->n_steps = 1;
	s->kind = STEP_INJECT;
	s->place = (struct place){1, 1};
	s->fault = o->fault;
	s->duration_ns = o->duration_ns;
	if (params_from_json_unresolved(o->fault, o->params, &params, err) < 0 ||
		selector_parse(o->target, &s->target, err) < 0)
		return NULL;
	s->params = params_to_json(params);
	return steal_ptr(d);
}

static bool was_fired(const struct run *r)
{
	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->fire_pending || r->record->faults[r->experiments[i]->fault].fired_ns)
			return true;
	return false;
}

/* The usual end of an injection; but what has not been fired must not be any more. */
static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *data)
{
	struct run *r = data;
	bool again = r->interrupted;

	(void)s;
	(void)si;
	run_interrupt(r);
	if (!was_fired(r))
		run_abort(r, "interrupted before anything was fired");
	else if (!again)
		run_note(r, EVENT_NOTE, -1, "interrupted", "interrupted: reverting");
	return 0;
}

static void print_json(const struct run *r)
{
	_cleanup_json_ cJSON *all = json_array();
	_cleanup_free_ char *text = NULL;

	for (size_t i = 0; i < r->record->n_faults; i++) {
		const struct fault_run *f = &r->record->faults[i];
		cJSON *o = json_object();

		json_add_string(o, "experiment", f->experiment);
		json_add_string(o, "fault", f->fault);
		json_add_string(o, "instance",
			f->instance >= 0 ? r->record->instances[f->instance].name : NULL);
		json_add_item(o, "params", cJSON_Duplicate(f->params, true));
		json_add_double(o, "fire_us", (double)f->fire_duration_ns / 1000.0);
		json_add_bool(o, "verified_clean", f->verified_clean);
		json_add_uint(o, "hits", f->hits);
		json_add_bool(o, "target_gone", f->target_gone);
		json_add_item(o, "evidence", f->evidence ? cJSON_Duplicate(f->evidence, true) : NULL);
		json_add_string(o, "error", f->error);
		json_append(all, o);
	}
	text = json_print_pretty(all);
	puts(text);
}

static int hold(struct run *r, struct err **err)
{
	int k = run_watch_signals(r, on_signal, err);

	if (k >= 0)
		k = run_renew_start(r, err);
	if (k >= 0)
		k = run_follow_agents(r, err);
	if (k >= 0)
		k = run_steps(r, err);
	while (k >= 0 && !r->interrupted && !r->abort_why && run_faults_active(r))
		k = run_turn(r, 100 * NS_PER_MS, err);
	return k;
}

static int inject(struct run *r, int *ret_code, struct err **err)
{
	struct cluster *c = &r->cluster;
	bool refused;
	size_t left;
	int k = cluster_open(r->session, r->options->cluster, r->options->manager, c, err);

	if (k >= 0)
		k = run_lock(r, false, err);
	if (k >= 0)
		k = run_guards_inject(r, err);
	if (k < 0)
		return k;
	r->record->cluster = strdup(c->name);
	r->record->instances = calloc(c->targets.count, sizeof(*r->record->instances));
	r->seen = calloc(c->targets.count + 1, sizeof(*r->seen));
	if (!r->record->instances || !r->seen)
		abort();
	for (size_t i = 0; i < c->targets.count; i++)
		r->record->instances[r->record->n_instances++].name =
			strdup(c->targets.items[i].info->name);
	k = hold(r, err);
	refused = k < 0 && run_did_nothing(r);
	left = run_settle(r);
	run_show(r);
	if (left)
		run_tell_left(r, stderr);
	for (size_t i = 0; i < r->record->n_faults; i++)
		if (r->record->faults[i].fired_ns && !r->record->faults[i].hits && !r->options->json)
			printf("%s hit nothing: was there anything for it to hit?\n",
				r->record->faults[i].fault);
	if (r->options->json)
		print_json(r);
	*ret_code = left				? EXIT_STUCK :
		    r->abort_why || (k < 0 && !refused) ? EXIT_ABORTED :
							  EXIT_PASSED;
	return k < 0 && !r->abort_why ? k : 0;
}

static int inject_on(const struct options *o, struct session *s, int *ret_code, struct err **err)
{
	const struct run_options options = {
		.cluster = o->cluster,
		.manager = o->manager,
		.json = o->session.json,
		.seed = o->seed,
	};
	_cleanup_(drill_freep) struct drill *d = inject_drill(o, err);
	struct run r = {.options = &options, .drill = d, .session = s, .lock_fd = -1,
		.primary_at_fire = -1};
	int k;

	if (!d)
		return -EINVAL;
	if (o->dry_run)
		return run_dry(s, d, &options, o->session.json, stdout, err);
	r.record = run_record_new();
	r.record->run = id_new("inject");
	r.record->started_ns = now_ns();
	if (!options.json)
		r.timeline = timeline_new(stdout);
	k = inject(&r, ret_code, err);
	run_done(&r);
	return k;
}

/* The cluster is that of a target given by name, unless --cluster says otherwise. */
static int guess_cluster(struct options *o, struct session *s, struct err **err)
{
	struct targets all = {0};
	const struct target *t;
	int r;

	if (o->cluster || !strchr(o->target, '/'))
		return 0;
	r = session_targets(s, &all, err);
	if (r >= 0 && all.count)
		r = targets_find(&all, o->target, &t, err);
	if (r >= 0 && all.count)
		o->cluster = strdup(t->info->cluster);
	targets_done(&all);
	return r < 0 ? err_wrap(err, r, "--target") : 0;
}

static int check(const struct options *o, char *const *arguments, struct err **err)
{
	if (strv_length(arguments) != 1)
		return err_set(err, -EINVAL, "give one fault (see `pgjolt faults`)");
	if (!o->fault)
		return err_set(err, -EINVAL, "the fault comes first: pgjolt inject %s ...",
			arguments[0]);
	if (!o->target)
		return err_set(err, -EINVAL, "--target is missing: primary, replica, CLUSTER/MEMBER");
	if (o->duration_ns < NS_PER_MS)
		return err_set(err, -EINVAL, "--for says how long at most: 1ms or more, as 30s or 5m");
	return 0;
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {.params = json_object()};
	const struct cli_extra extra = {take_param, is_flag, &o};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct session *s = NULL;
	int r = 0, code = EXIT_PASSED, status;

	/* The fault comes first: its parameters are options. */
	if (argc > 1 && argv[1][0] != '-')
		r = catalogue_find(argv[1], &o.fault, &err);
	if (r >= 0)
		r = cli_parse(verb, argc, argv, &extra, &o, &arguments, &err);
	if (r >= 0)
		r = check(&o, arguments, &err);
	if (r < 0) {
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	} else {
		r = session_open(&o.session, o.dry_run ? SESSION_LOOK : SESSION_ACT, &s, &err);
		if (r >= 0) {
			r = guess_cluster(&o, s, &err);
			if (r >= 0)
				r = inject_on(&o, s, &code, &err);
			status = session_close(s);
			if (status == EXIT_STUCK)
				code = EXIT_STUCK;
		}
		if (r < 0)
			status = cli_fail(err);
		if (r < 0 && code == EXIT_PASSED)
			code = status;
	}
	session_options_done(&o.session);
	free(o.target);
	free(o.cluster);
	free(o.manager);
	cJSON_Delete(o.params);
	return code;
}

static const struct cli_option options[] = {
	{"target", CLI_TEXT, offsetof(struct options, target), "TARGET",
		"primary, replica, replicas, any, all (:one, :all, :COUNT, :PERCENT%), CLUSTER/MEMBER or "
		"NAMESPACE/POD",
		"@targets"},
	{"for", CLI_DURATION, offsetof(struct options, duration_ns), "DURATION",
		"how long at most; Ctrl-C ends it before", NULL},
	{"dry-run", CLI_FLAG, offsetof(struct options, dry_run), NULL,
		"name the exact instances, peers and effects; touch nothing", NULL},
	{"cluster", CLI_TEXT, offsetof(struct options, cluster), "NAME",
		"which cluster, where there are several; in Kubernetes NAMESPACE/NAME", NULL},
	{"manager", CLI_TEXT, offsetof(struct options, manager), "NAME",
		MANAGER_NAMES_HELP, MANAGER_NAMES},
	{"seed", CLI_COUNT, offsetof(struct options, seed), "N", "of the picks among instances", NULL},
	SESSION_OPTIONS(struct options),
};

const struct cli_verb verb_inject = {
	.name = "inject",
	.arguments = "FAULT --target TARGET --for DURATION [--PARAMETER VALUE]...",
	.summary = "put one fault on instances until its time ends or Ctrl-C",
	.description =
		"`pgjolt faults FAULT` tells the parameters.\n"
		"Ctrl-C once it is fired is a usual end of it (exit 0); before that, nothing is fired (exit 4).",
	.complete = "@faults",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
