/*
 * The steps' interpreter. Each step is a frame that is polled: several branches go on side by side
 * on the one loop. Injections at the heads of parallel branches are all armed before any is fired.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/units.h"
#include "run/run.h"

struct frame {
	const struct step *step;
	bool started, armed;
	uint64_t started_ns;
	size_t next;			/* child under way, of a sequence */
	unsigned rounds_left;
	struct frame *child;		/* of a sequence */
	struct frame *branches;		/* of a parallel step */
	bool *branch_done;
	struct run_experiment **experiments;
	size_t n_experiments;
};

static void frame_done(struct frame *f)
{
	if (f->child) {
		frame_done(f->child);
		free(f->child);
	}
	for (size_t i = 0; f->branches && i < f->step->n_steps; i++)
		frame_done(&f->branches[i]);
	free(f->branches);
	free(f->branch_done);
	free(f->experiments);
	*f = (struct frame){0};
}

static int frame_poll(struct run *r, struct frame *f, bool *ret_done, struct err **err);

static int frame_arm(struct run *r, struct frame *f, struct err **err)
{
	int k;

	if (f->armed)
		return 0;
	k = run_arm(r, f->step, &f->experiments, &f->n_experiments, err);
	f->armed = k >= 0;
	return k;
}

/* The injection at the head of a branch, if it has one there. */
static int frame_arm_head(struct run *r, struct frame *f, struct err **err)
{
	if (f->step->kind == STEP_INJECT)
		return frame_arm(r, f, err);
	if (f->step->kind != STEP_SEQUENCE || !f->step->n_steps || f->child)
		return 0;
	f->child = calloc(1, sizeof(*f->child));
	if (!f->child)
		abort();
	f->child->step = &f->step->steps[0];
	return frame_arm_head(r, f->child, err);
}

static int poll_inject(struct run *r, struct frame *f, bool *ret_done, struct err **err)
{
	int k;

	if (!f->started) {
		k = frame_arm(r, f, err);
		/* Arming turns the loop: the run may have been aborted meanwhile. */
		if (k >= 0 && r->abort_why)
			return 0;
		for (size_t i = 0; k >= 0 && i < f->n_experiments; i++)
			k = run_fire(r, f->experiments[i], err);
		if (k < 0)
			return k;
		f->started = true;
	}
	*ret_done = true;
	for (size_t i = 0; i < f->n_experiments; i++)
		if (f->experiments[i]->fire_pending)
			*ret_done = false;
	return 0;
}

static void describe_wait(struct run *r, const struct step *s)
{
	char limit[UNITS_TEXT_MAX];

	duration_human(s->limit_ns, limit);
	if (s->condition == WAIT_TIME)
		run_note(r, EVENT_STEP, -1, "wait", "wait %s", limit);
	else
		run_note(r, EVENT_STEP, -1, "wait", "wait until %s, at most %s",
			condition_to_string(s->condition), limit);
}

static int poll_wait(struct run *r, struct frame *f, bool *ret_done, struct err **err)
{
	const struct step *s = f->step;
	uint64_t now = now_ns();

	if (!f->started) {
		f->started = true;
		f->started_ns = now;
		describe_wait(r, s);
	}
	if (s->condition != WAIT_TIME && run_condition(r, s->condition, f->started_ns)) {
		*ret_done = true;
		return 0;
	}
	if (now - f->started_ns < s->limit_ns)
		return 0;
	*ret_done = true;
	if (s->condition == WAIT_TIME)
		return 0;
	run_note(r, EVENT_STEP, -1, "missed", "not %s within the limit%s",
		condition_to_string(s->condition), s->may_fail ? ", which may be" : "");
	return s->may_fail ? 0 :
			     err_set(err, -ETIMEDOUT, "%s:%u:%u: not %s within the limit",
				     r->drill->file, s->place.line, s->place.column,
				     condition_to_string(s->condition));
}

static int poll_list(struct run *r, struct frame *f, bool *ret_done, struct err **err)
{
	const struct step *s = f->step;

	if (!f->started) {
		f->started = true;
		f->rounds_left = s->kind == STEP_REPEAT ? s->count : 1;
	}
	while (f->rounds_left) {
		bool child_done = false;
		int k;

		if (f->next == s->n_steps) {
			f->next = 0;
			f->rounds_left--;
			continue;
		}
		if (!f->child) {
			f->child = calloc(1, sizeof(*f->child));
			if (!f->child)
				abort();
			f->child->step = &s->steps[f->next];
		}
		k = frame_poll(r, f->child, &child_done, err);
		if (k < 0 || !child_done)
			return k;
		frame_done(f->child);
		free(f->child);
		f->child = NULL;
		f->next++;
	}
	*ret_done = true;
	return 0;
}

static int start_parallel(struct run *r, struct frame *f, struct err **err)
{
	const struct step *s = f->step;

	f->started = true;
	f->branches = calloc(s->n_steps + 1, sizeof(*f->branches));
	f->branch_done = calloc(s->n_steps + 1, sizeof(*f->branch_done));
	if (!f->branches || !f->branch_done)
		abort();
	for (size_t i = 0; i < s->n_steps; i++) {
		int k;

		f->branches[i].step = &s->steps[i];
		k = frame_arm_head(r, &f->branches[i], err);
		if (k < 0)
			return k;
	}
	return 0;
}

static int poll_parallel(struct run *r, struct frame *f, bool *ret_done, struct err **err)
{
	bool all = true;
	int k;

	if (!f->started) {
		k = start_parallel(r, f, err);
		if (k < 0)
			return k;
	}
	for (size_t i = 0; i < f->step->n_steps && !r->abort_why; i++) {
		if (f->branch_done[i])
			continue;
		k = frame_poll(r, &f->branches[i], &f->branch_done[i], err);
		if (k < 0)
			return k;
		all = all && f->branch_done[i];
	}
	*ret_done = all;
	return 0;
}

static int poll_revert(struct run *r, const struct step *s, struct err **err)
{
	int k = run_revert_step(r, s->reverts, err);

	return k < 0 ? err_wrap(err, k, "%s:%u:%u: revert", r->drill->file, s->place.line,
			       s->place.column) :
		       0;
}

static int frame_poll(struct run *r, struct frame *f, bool *ret_done, struct err **err)
{
	switch (f->step->kind) {
	case STEP_INJECT:
		return poll_inject(r, f, ret_done, err);
	case STEP_WAIT:
		return poll_wait(r, f, ret_done, err);
	case STEP_REVERT:
		*ret_done = true;
		return poll_revert(r, f->step, err);
	case STEP_PARALLEL:
		return poll_parallel(r, f, ret_done, err);
	default:
		return poll_list(r, f, ret_done, err);
	}
}

int run_steps(struct run *r, struct err **err)
{
	const struct step all = {
		.kind = STEP_SEQUENCE,
		.steps = r->drill->steps,
		.n_steps = r->drill->n_steps,
	};
	struct frame f = {.step = &all};
	bool done = false;
	int k = 0;

	while (!done && !r->abort_why) {
		k = frame_poll(r, &f, &done, err);
		if (k < 0 || done)
			break;
		k = run_turn(r, 20 * NS_PER_MS, err);
		if (k < 0)
			break;
	}
	frame_done(&f);
	return k;
}
