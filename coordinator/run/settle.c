/* The end of faults: revert, and what is left. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/text.h"
#include "run/run.h"

#define REVERT_LIMIT_NS (20 * NS_PER_S)

static void on_reverted(struct experiment_info *info, const struct err *err, void *data)
{
	struct answer_to *a = data;
	struct run *r = a->run;
	struct run_experiment *e = run_experiment_find(r, a->id);
	struct fault_run *f = &r->record->faults[e->fault];

	e->revert_pending = false;
	if (info) {
		run_take_info(r, e, info);
	} else if (e->ended) {
		/* A successor has said meanwhile what became of it. */
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
	run_answer_free(a);
}

static void revert_start(struct run *r, struct run_experiment *e)
{
	struct answer_to *a;

	if (e->ended || e->revert_pending || run_agent_is_lost(r, e->link))
		return;
	a = run_answer_new(r, e->id);
	e->let_go = true;
	e->revert_pending = true;
	if (agent_link_revert_start(e->link, e->id, on_reverted, a, NULL) < 0) {
		e->revert_pending = false;
		run_answer_free(a);
	}
}

static bool none_pending(struct run *r, void *data)
{
	(void)data;
	for (size_t i = 0; i < r->n_experiments; i++)
		if ((r->experiments[i]->revert_pending || r->experiments[i]->fire_pending) &&
			!run_agent_is_lost(r, r->experiments[i]->link))
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
	uint64_t end = start_ns + REVERT_LIMIT_NS, hurried = r->hurry_ns + RUN_HURRY_NS;

	return r->hurry && hurried < end ? hurried : end;
}

static void revert_all(struct run *r)
{
	uint64_t start = now_ns();

	/* Also when the run was aborted: this wait has an end of its own. */
	for (size_t i = 0; i < r->n_experiments; i++)
		revert_start(r, r->experiments[i]);
	while (!none_pending(r, NULL) && now_ns() < revert_end(r, start))
		if (run_turn(r, 20 * NS_PER_MS, NULL) < 0)
			break;
}

static size_t count_left(const struct run *r)
{
	size_t left = 0;

	for (size_t i = 0; i < r->n_experiments; i++)
		left += run_may_be_left(r->experiments[i]);
	return left;
}

bool run_may_be_left(const struct run_experiment *e)
{
	return e->state != EXPERIMENT_CLEAN && e->state != EXPERIMENT_REFUSED;
}

bool run_did_nothing(const struct run *r)
{
	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->state != EXPERIMENT_REFUSED)
			return false;
	return true;
}

/* Caller frees. */
static char *left_words(const struct run *r, const struct run_experiment *e)
{
	const struct fault_run *f = &r->record->faults[e->fault];

	return text_format("%s on %s is not known to be reverted (experiment %s, agent %s)", f->fault,
		r->record->instances[f->instance].name, e->id, agent_link_name(e->link));
}

void run_tell_left(const struct run *r, FILE *f)
{
	for (size_t i = 0; i < r->n_experiments; i++) {
		_cleanup_free_ char *words = left_words(r, r->experiments[i]);

		if (run_may_be_left(r->experiments[i]))
			fprintf(f, "pgjolt: %s\n", words);
	}
}

void run_note_left(struct run *r)
{
	for (size_t i = 0; i < r->n_experiments; i++) {
		const struct run_experiment *e = r->experiments[i];
		_cleanup_free_ char *words = left_words(r, e);

		if (run_may_be_left(e))
			run_note(r, EVENT_NOTE, r->record->faults[e->fault].instance, "left", "%s", words);
	}
}

static bool can_be_asked(const struct run *r, const struct run_experiment *e)
{
	return e->state != EXPERIMENT_REFUSED && !run_agent_is_lost(r, e->link);
}

/* What every agent says of it at last. */
static void collect(struct run *r)
{
	struct agent_replies replies;
	struct run_selection s;

	run_select(r, NULL, can_be_asked, &s);
	agent_ask_get(s.links, s.ids, s.count, &replies);
	for (size_t i = 0; i < s.count; i++)
		if (!replies.items[i].err)
			run_take_info(r, s.experiments[i], replies.items[i].experiments[0]);
	agent_replies_done(&replies);
	run_selection_done(&s);
}

size_t run_settle(struct run *r)
{
	revert_all(r);
	if (r->agent_lost)
		run_find_successors(r);
	if (!r->hurry)
		collect(r);
	return count_left(r);
}

size_t run_settle_again(struct run *r)
{
	if (!r->hurry)
		collect(r);
	return count_left(r);
}
