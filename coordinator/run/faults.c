/* Experiments of a run: arm, fire, renew, revert, and what their agents say of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/units.h"
#include "run/peers.h"
#include "run/run.h"

#define LEASE_MS 5000
#define RENEW_EVERY_NS (1 * NS_PER_S)
#define REVERT_LIMIT_NS (20 * NS_PER_S)
#define HURRY_LIMIT_NS (2 * NS_PER_S)

struct run_experiment *run_experiment_find(struct run *r, const char *id)
{
	for (size_t i = 0; i < r->n_experiments; i++)
		if (id && strcmp(r->experiments[i]->id, id) == 0)
			return r->experiments[i];
	return NULL;
}

bool run_faults_active(const struct run *r)
{
	for (size_t i = 0; i < r->n_experiments; i++)
		if (!r->experiments[i]->ended)
			return true;
	return false;
}

/* What the agent says now goes into the record. */
static void take_info(struct run *r, struct run_experiment *e, const struct experiment_info *info)
{
	struct fault_run *f = &r->record->faults[e->fault];
	bool was_ended = e->ended;

	e->state = info->state;
	e->stale = false;
	f->armed_ns = agent_link_to_local_ns(e->link, info->armed_ns, NULL);
	if (info->fired_ns) {
		f->fired_ns = agent_link_to_local_ns(e->link, info->fired_ns,
			&f->fired_uncertainty_ns);
		f->fire_duration_ns = info->fire_duration_ns;
	}
	if (info->reverted_ns)
		f->reverted_ns = agent_link_to_local_ns(e->link, info->reverted_ns, NULL);
	f->hits = info->hits;
	f->verified_clean = info->verified_clean;
	free(f->error);
	f->error = info->error ? strdup(info->error) : NULL;
	free(f->mechanism);
	f->mechanism = info->mechanism ? strdup(info->mechanism) : NULL;
	free(f->lifetime);
	f->lifetime = info->lifetime ? strdup(info->lifetime) : NULL;
	cJSON_Delete(f->evidence);
	f->evidence = info->evidence ? cJSON_Duplicate(info->evidence, true) : NULL;
	e->ended = info->state == EXPERIMENT_CLEAN || info->state == EXPERIMENT_REFUSED ||
		info->state == EXPERIMENT_STUCK;
	if (e->ended && !was_ended && f->reverted_ns)
		run_record_add_event(r->record, f->reverted_ns, EVENT_REVERTED, f->instance,
			info->state == EXPERIMENT_CLEAN ? "clean" : "stuck", 0,
			"%s on %s reverted (%s), %s; %llu hit%s", f->fault,
			r->record->instances[f->instance].name,
			end_reason_to_string(info->end_reason),
			info->state == EXPERIMENT_CLEAN ? "verified clean" : "NOT clean",
			(unsigned long long)f->hits, f->hits == 1 ? "" : "s");
	/* A drill goes on to its next fault; what one injection was, was just ended. */
	if (r->probes && e->ended && !was_ended && !e->let_go &&
		(info->end_reason == END_REQUESTED || info->end_reason == END_STOPPED))
		run_abort(r, "somebody else stopped %s on %s", f->fault,
			r->record->instances[f->instance].name);
}

static struct run_experiment *add_experiment(struct run *r, const struct step *s,
	const struct target *t, cJSON *params, char **peers)
{
	struct run_experiment *e;
	struct fault_run *f;

	r->experiments = reallocarray(r->experiments, r->n_experiments + 1, sizeof(e));
	e = malloc(sizeof(*e));
	if (!r->experiments || !e)
		abort();
	r->experiments[r->n_experiments++] = e;
	*e = (struct run_experiment){.step = s, .link = t->link, .fault = r->record->n_faults};
	if (asprintf(&e->id, "%s-%u", r->record->run, ++r->next_experiment) < 0)
		abort();
	r->record->faults = reallocarray(r->record->faults, r->record->n_faults + 1,
		sizeof(*r->record->faults));
	if (!r->record->faults)
		abort();
	f = &r->record->faults[r->record->n_faults++];
	*f = (struct fault_run){
		.experiment = strdup(e->id),
		.fault = strdup(s->fault->name),
		.step = s->name ? strdup(s->name) : NULL,
		.instance = run_instance_index(r, t->info->name),
		.params = params,
		.peers_resolved = peers,
		.may_miss = s->may_miss,
	};
	return e;
}

/* The step's parameters with peers resolved for this target. */
static int resolve_params(struct run *r, const struct step *s, const struct target *t, cJSON **ret,
	char ***ret_peers, struct err **err)
{
	_cleanup_json_ cJSON *params = s->params ? cJSON_Duplicate(s->params, true) : json_object();
	_cleanup_strv_ char **names = NULL, **peers = NULL;
	const char *key = s->fault->peers_param;
	int k = 0;

	if (key && json_get(params, key)) {
		k = json_to_strv(json_get(params, key), &names, err);
		if (k >= 0)
			k = peers_resolve(&r->cluster, t, names, &peers, err);
		if (k < 0)
			return k;
		cJSON_DeleteItemFromObjectCaseSensitive(params, key);
		json_add_strv(params, key, peers);
	}
	*ret = steal_ptr(params);
	*ret_peers = steal_ptr(peers);
	return 0;
}

static int arm_one(struct run *r, const struct step *s, const struct target *t,
	struct run_experiment **ret, struct err **err)
{
	_cleanup_(experiment_info_freep) struct experiment_info *info = NULL;
	struct arm_request request = {0};
	struct run_experiment *e;
	cJSON *params;
	char **peers;
	int k = resolve_params(r, s, t, &params, &peers, err);

	if (k < 0)
		return k;
	e = add_experiment(r, s, t, params, peers);
	request = (struct arm_request){
		.experiment = e->id,
		.run = r->record->run,
		.fault = (char *)s->fault->name,
		.instance = t->info->name,
		.pid = t->info->pid,
		.start_ticks = t->info->start_ticks,
		.params = params,
		.duration_ms = (s->duration_ns + NS_PER_MS - 1) / NS_PER_MS,
		.lease_ms = LEASE_MS,
	};
	k = agent_link_arm(t->link, &request, &info, err);
	if (k == -ETIMEDOUT) {
		/* It may have been armed after all: whether it was is for the revert to find out. */
		e->state = EXPERIMENT_ARMED;
		return err_set(err, -EIO, "%s on %s: the agent did not answer in time",
			s->fault->name, t->info->name);
	}
	if (k < 0) {
		e->ended = true;
		e->state = EXPERIMENT_REFUSED;
		r->record->faults[e->fault].error = strdup(err ? err_text(*err) : "refused");
		return err_wrap(err, k, "%s on %s", s->fault->name, t->info->name);
	}
	e->renewed_ns = now_ns();
	take_info(r, e, info);
	run_note(r, EVENT_ARMED, r->record->faults[e->fault].instance, s->fault->name,
		"%s armed on %s", s->fault->name, t->info->name);
	*ret = e;
	return 0;
}

int run_arm(struct run *r, const struct step *s, struct run_experiment ***ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_free_ const struct target **targets = NULL;
	_cleanup_free_ struct run_experiment **list = NULL;
	size_t n = 0;
	int k = cluster_refresh(&r->cluster, err);

	if (k >= 0)
		k = run_pick(r, &s->target, &targets, &n, err);
	if (k < 0)
		return err_wrap(err, k, "%s:%u:%u", r->drill->file, s->place.line, s->place.column);
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		abort();
	for (size_t i = 0; i < n; i++) {
		k = arm_one(r, s, targets[i], &list[i], err);
		/* Postmasters restart: what was found a moment ago may be another process now. */
		if (k == -ESTALE && cluster_refresh(&r->cluster, NULL) >= 0)
			k = arm_one(r, s, targets[i], &list[i], err);
		if (k < 0)
			return err_wrap(err, k, "%s:%u:%u", r->drill->file, s->place.line,
				s->place.column);
	}
	*ret = steal_ptr(list);
	*ret_count = n;
	return 0;
}

struct answer_to {
	struct run *run;
	struct answer_to *next;
	char *id;
};

static struct answer_to *answer_new(struct run *r, const char *id)
{
	struct answer_to *a = malloc(sizeof(*a));

	if (!a)
		abort();
	*a = (struct answer_to){r, r->answers, strdup(id)};
	r->answers = a;
	return a;
}

static void answer_free(struct answer_to *a)
{
	struct answer_to **p = &a->run->answers;

	while (*p != a)
		p = &(*p)->next;
	*p = a->next;
	free(a->id);
	free(a);
}

void run_forget_answers(struct run *r)
{
	for (size_t i = 0; i < r->session->n_links; i++)
		agent_link_cancel(r->session->links[i]);
	while (r->answers)
		answer_free(r->answers);
}

static void on_fired(struct experiment_info *info, const struct err *err, void *data)
{
	struct answer_to *a = data;
	struct run *r = a->run;
	struct run_experiment *e = run_experiment_find(r, a->id);
	struct fault_run *f = &r->record->faults[e->fault];
	char took[UNITS_TEXT_MAX];

	e->fire_pending = false;
	if (info) {
		take_info(r, e, info);
		e->fired = f->fired_ns != 0;
	}
	if (e->fired) {
		r->fired_ns = f->fired_ns;
		run_record_add_event(r->record, f->fired_ns, EVENT_FIRED, f->instance, f->fault, 0,
			"%s on %s fired in %s", f->fault, r->record->instances[f->instance].name,
			duration_human(f->fire_duration_ns, took));
	} else {
		e->fire_failed = true;
		free(f->error);
		f->error = strdup(err ? err_text(err) : "not fired");
		run_note(r, EVENT_FAULT_ERROR, f->instance, "fire", "%s on %s did not fire: %s",
			f->fault, r->record->instances[f->instance].name, f->error);
		run_abort(r, "%s did not fire: %s", f->fault, f->error);
	}
	answer_free(a);
}

int run_fire(struct run *r, struct run_experiment *e, struct err **err)
{
	const struct target *primary = cluster_primary(&r->cluster);
	struct answer_to *a;
	int k;

	if (e->ended)
		return err_set(err, -ESTALE, "experiment %s ended before it was fired", e->id);
	/* What "promoted" and "demoted" are measured against. */
	if (primary) {
		r->primary_at_fire = run_instance_index(r, primary->info->name);
		r->timeline_at_fire = r->seen[r->primary_at_fire].timeline;
		if (!r->timeline_at_fire)
			r->timeline_at_fire =
				r->record->instances[r->primary_at_fire].timeline_at_start;
	}
	r->fired_ns = now_ns();
	a = answer_new(r, e->id);
	e->fire_pending = true;
	k = agent_link_fire_start(e->link, e->id, on_fired, a, err);
	if (k < 0) {
		e->fire_pending = false;
		answer_free(a);
	}
	return k;
}

static void on_renewed(struct experiment_info *info, const struct err *err, void *data)
{
	struct answer_to *a = data;
	struct run_experiment *e = run_experiment_find(a->run, a->id);

	if (info && !e->ended)
		take_info(a->run, e, info);
	else if (err && !e->ended && err->code != -ETIMEDOUT)
		e->stale = true;
	answer_free(a);
}

void run_renew(struct run *r)
{
	uint64_t now = now_ns();

	for (size_t i = 0; i < r->n_experiments; i++) {
		struct run_experiment *e = r->experiments[i];
		struct answer_to *a;

		if (e->state == EXPERIMENT_NEW || e->ended || e->let_go || now - e->renewed_ns < RENEW_EVERY_NS)
			continue;
		e->renewed_ns = now;
		a = answer_new(r, e->id);
		if (agent_link_renew_start(e->link, e->id, LEASE_MS, on_renewed, a, NULL) < 0) {
			answer_free(a);
		}
	}
}

static int on_renew_timer(sd_event_source *s, uint64_t usec, void *data)
{
	(void)usec;
	run_renew(data);
	sd_event_source_set_time_relative(s, RENEW_EVERY_NS / NS_PER_US / 2);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

int run_renew_start(struct run *r, struct err **err)
{
	int k = sd_event_add_time_relative(r->session->event, &r->renewing, CLOCK_MONOTONIC,
		RENEW_EVERY_NS / NS_PER_US / 2, 1, on_renew_timer, r);

	return k < 0 ? err_errno(err, k, "event loop") : 0;
}

static void on_asked(struct experiment_info *info, const struct err *err, void *data)
{
	struct answer_to *a = data;

	(void)err;
	if (info)
		take_info(a->run, run_experiment_find(a->run, a->id), info);
	answer_free(a);
}

void run_ask(struct run *r, struct run_experiment *e)
{
	struct answer_to *a = answer_new(r, e->id);

	if (agent_link_get_start(e->link, e->id, on_asked, a, NULL) < 0) {
		answer_free(a);
	}
}

static void on_reverted(struct experiment_info *info, const struct err *err, void *data)
{
	struct answer_to *a = data;
	struct run *r = a->run;
	struct run_experiment *e = run_experiment_find(r, a->id);
	struct fault_run *f = &r->record->faults[e->fault];

	e->revert_pending = false;
	if (info) {
		take_info(r, e, info);
	} else if (err->code == -ENOENT && !f->armed_ns) {
		/* The arming that was not answered had not begun. */
		e->ended = true;
		e->state = EXPERIMENT_REFUSED;
	} else {
		free(f->error);
		f->error = strdup(err_text(err));
		e->state = EXPERIMENT_STUCK;
		run_note(r, EVENT_FAULT_ERROR, f->instance, "revert", "%s on %s: revert: %s",
			f->fault, r->record->instances[f->instance].name, f->error);
	}
	answer_free(a);
}

static void revert_start(struct run *r, struct run_experiment *e)
{
	struct answer_to *a;

	if (e->ended || e->revert_pending)
		return;
	a = answer_new(r, e->id);
	e->let_go = true;
	e->revert_pending = true;
	if (agent_link_revert_start(e->link, e->id, on_reverted, a, NULL) < 0) {
		e->revert_pending = false;
		answer_free(a);
	}
}

static bool none_pending(struct run *r, void *data)
{
	(void)data;
	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->revert_pending || r->experiments[i]->fire_pending)
			return false;
	return true;
}

int run_revert_step(struct run *r, const char *name, struct err **err)
{
	for (size_t i = 0; i < r->n_experiments; i++)
		if (!name || (r->experiments[i]->step->name &&
				     strcmp(r->experiments[i]->step->name, name) == 0))
			revert_start(r, r->experiments[i]);
	return run_wait(r, none_pending, NULL, REVERT_LIMIT_NS, err);
}

/* Who presses twice at once still gets the answers that are just coming. */
static uint64_t revert_end(const struct run *r, uint64_t start_ns)
{
	uint64_t end = start_ns + REVERT_LIMIT_NS, hurried = r->hurry_ns + HURRY_LIMIT_NS;

	return r->hurry && hurried < end ? hurried : end;
}

void run_revert_all(struct run *r)
{
	uint64_t start = now_ns();

	/* Also when the run was aborted: this wait has an end of its own. */
	for (size_t i = 0; i < r->n_experiments; i++)
		revert_start(r, r->experiments[i]);
	while (!none_pending(r, NULL) && now_ns() < revert_end(r, start))
		if (run_turn(r, 20 * NS_PER_MS, NULL) < 0)
			break;
}

size_t run_count_left(const struct run *r)
{
	size_t left = 0;

	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->state != EXPERIMENT_CLEAN &&
			r->experiments[i]->state != EXPERIMENT_REFUSED)
			left++;
	return left;
}

/* The agent is not ours: what it held ended with it, the rest is in its journal. Of the other agents'
 * experiments, those that they told to be stuck. */
static size_t count_left_behind(const struct run *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_experiments; i++) {
		const struct run_experiment *e = r->experiments[i];
		const char *lifetime = r->record->faults[e->fault].lifetime;

		n += e->ended ? e->state == EXPERIMENT_STUCK :
				lifetime && strcmp(lifetime,
						    lifetime_to_string(LIFETIME_JOURNALED)) == 0;
	}
	return n;
}

size_t run_replay_journal(struct run *r)
{
	_cleanup_err_ struct err *err = NULL;
	int status;

	if (!r->agent_lost)
		return 0;
	if (!r->session->local)
		return count_left_behind(r);
	local_agent_stop(r->session->local);
	r->session->local = NULL;
	if (local_agent_ensure(AGENT_SOCKET_DEFAULT, &r->session->local, &err) < 0) {
		run_note(r, EVENT_AGENT, -1, "replay", "no new agent: %s", err_text(err));
		return 1;
	}
	status = local_agent_stop(r->session->local);
	r->session->local = NULL;
	run_note(r, EVENT_AGENT, -1, "replay",
		status ? "a new agent could not revert all of the journal" :
			 "a new agent found the journal and left the node clean");
	return status ? 1 : 0;
}

void run_collect(struct run *r)
{
	for (size_t i = 0; i < r->n_experiments; i++) {
		_cleanup_(experiment_info_freep) struct experiment_info *info = NULL;
		struct run_experiment *e = r->experiments[i];

		if (e->state == EXPERIMENT_REFUSED)
			continue;
		if (agent_link_get(e->link, e->id, &info, NULL) >= 0)
			take_info(r, e, info);
	}
}
