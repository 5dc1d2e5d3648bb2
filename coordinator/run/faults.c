/* Experiments of a run: fire, renew, and what their agents say of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/clock.h"
#include "core/units.h"
#include "run/run.h"

#define RENEW_EVERY_NS (1 * NS_PER_S)

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

/* As it was mapped when it was first told: later the clocks may have drifted. */
static uint64_t map_once(const struct run_experiment *e, struct mapped_time *m, uint64_t agent_ns)
{
	if (agent_ns && agent_ns != m->agent_ns) {
		m->agent_ns = agent_ns;
		m->local_ns = agent_link_to_local_ns(e->link, agent_ns, &m->uncertainty_ns);
	}
	return m->local_ns;
}

static void replace_text(char **text, const char *by)
{
	free(*text);
	*text = by ? strdup(by) : NULL;
}

static bool is_over(enum experiment_state s)
{
	return s == EXPERIMENT_CLEAN || s == EXPERIMENT_REFUSED || s == EXPERIMENT_STUCK;
}

static void take_times(struct run_experiment *e, struct fault_run *f,
	const struct experiment_info *info)
{
	f->armed_ns = map_once(e, &e->armed, info->armed_ns);
	if (info->fired_ns) {
		f->fired_ns = map_once(e, &e->fired_at, info->fired_ns);
		f->fired_uncertainty_ns = e->fired_at.uncertainty_ns;
		f->fire_duration_ns = info->fire_duration_ns;
	}
	f->reverted_ns = map_once(e, &e->reverted, info->reverted_ns);
}

/* What was fired has had its effect, and the drill judges that. What was not never will. */
static void note_target_gone(struct run *r, const struct run_experiment *e, struct fault_run *f)
{
	_cleanup_free_ char *words = NULL;

	f->target_gone = true;
	words = fault_run_words(r->record, f);
	if (f->fired_ns)
		run_record_add_event(r->record, f->reverted_ns ? f->reverted_ns : now_ns(), EVENT_NOTE,
			f->instance, "target-gone", 0, "%s", words);
	else if (!e->let_go)
		run_abort(r, "%s", words);
}

static void note_end(struct run *r, const struct run_experiment *e, struct fault_run *f,
	enum end_reason reason)
{
	const char *instance = r->record->instances[f->instance].name;

	if (f->reverted_ns)
		run_record_add_event(r->record, f->reverted_ns, EVENT_REVERTED, f->instance,
			e->state == EXPERIMENT_CLEAN ? "clean" : "stuck", 0,
			"%s on %s reverted (%s), %s; %llu hit%s", f->fault, instance,
			end_reason_to_string(reason),
			e->state == EXPERIMENT_CLEAN ? "verified clean" : "NOT clean",
			(unsigned long long)f->hits, f->hits == 1 ? "" : "s");
	if (reason == END_TARGET_GONE)
		note_target_gone(r, e, f);
	if (e->let_go)
		return;
	/* A drill goes on to its next fault; what one injection was, was just ended. */
	if (r->probes && (reason == END_REQUESTED || reason == END_STOPPED))
		run_abort(r, "somebody else stopped %s on %s", f->fault, instance);
	else if (reason == END_LEASE)
		run_abort(r, "%s on %s ended before its time: its agent did not hear from us for %u s",
			f->fault, instance, RUN_LEASE_MS / 1000);
	else if (reason == END_REPLAY || reason == END_SHUTDOWN)
		run_abort(r, "the agent on %s was ended under %s on %s", agent_link_name(e->link),
			f->fault, instance);
}

void run_take_info(struct run *r, struct run_experiment *e, const struct experiment_info *info)
{
	struct fault_run *f = &r->record->faults[e->fault];
	bool was_ended = e->ended;

	e->state = info->state;
	e->stale = false;
	take_times(e, f, info);
	f->verified_clean = info->verified_clean;
	replace_text(&f->error, info->error);
	/* A successor knows what its journal had, which is less. */
	if (info->end_reason != END_REPLAY) {
		f->hits = info->hits;
		replace_text(&f->mechanism, info->mechanism);
		replace_text(&f->lifetime, info->lifetime);
		cJSON_Delete(f->evidence);
		f->evidence = info->evidence ? cJSON_Duplicate(info->evidence, true) : NULL;
	}
	e->ended = is_over(info->state);
	if (e->ended && !was_ended)
		note_end(r, e, f, info->end_reason);
}

struct answer_to *run_answer_new(struct run *r, const char *id)
{
	struct answer_to *a = malloc(sizeof(*a));

	if (!a)
		abort();
	*a = (struct answer_to){r, r->answers, strdup(id)};
	r->answers = a;
	return a;
}

void run_answer_free(struct answer_to *a)
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
		run_answer_free(r->answers);
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
		run_take_info(r, e, info);
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
	run_answer_free(a);
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
	a = run_answer_new(r, e->id);
	e->fire_pending = true;
	k = agent_link_fire_start(e->link, e->id, on_fired, a, err);
	if (k < 0) {
		e->fire_pending = false;
		run_answer_free(a);
	}
	return k;
}

static void on_renewed(struct experiment_info *info, const struct err *err, void *data)
{
	struct answer_to *a = data;
	struct run_experiment *e = run_experiment_find(a->run, a->id);

	if (info && !e->ended)
		run_take_info(a->run, e, info);
	else if (err && !e->ended && err->code != -ETIMEDOUT)
		e->stale = true;
	run_answer_free(a);
}

void run_renew(struct run *r)
{
	uint64_t now = now_ns();

	for (size_t i = 0; i < r->n_experiments; i++) {
		struct run_experiment *e = r->experiments[i];
		struct answer_to *a;

		if (e->state == EXPERIMENT_NEW || e->ended || e->let_go ||
			now - e->renewed_ns < RENEW_EVERY_NS || run_agent_is_lost(r, e->link))
			continue;
		e->renewed_ns = now;
		a = run_answer_new(r, e->id);
		if (agent_link_renew_start(e->link, e->id, RUN_LEASE_MS, on_renewed, a, NULL) < 0) {
			run_answer_free(a);
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
		run_take_info(a->run, run_experiment_find(a->run, a->id), info);
	run_answer_free(a);
}

void run_ask(struct run *r, struct run_experiment *e)
{
	struct answer_to *a = run_answer_new(r, e->id);

	if (agent_link_get_start(e->link, e->id, on_asked, a, NULL) < 0) {
		run_answer_free(a);
	}
}
