#include "verdict/verdict.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "core/text.h"
#include "core/units.h"
#include "verdict/judge.h"
#include "verdict/milestones.h"
#include "verdict/split_brain.h"

static const char *const split_brain_grade_words[] = {
	[SPLIT_NONE] = "none",
	[SPLIT_CLAIMED] = "claimed",
	[SPLIT_WRITABLE] = "writable",
	[SPLIT_ACKNOWLEDGED] = "acknowledged",
};
DEFINE_STRING_TABLE(split_brain_grade, enum split_brain_grade, split_brain_grade_words)

void verdict_reason(struct verdict *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_push(&v->reasons, text_vformat(fmt, ap));
	va_end(ap);
}

static const char *name_of(const struct run_record *r, int instance)
{
	return instance >= 0 && (size_t)instance < r->n_instances ? r->instances[instance].name :
								      "an unknown instance";
}

static const char *word(const char *s, const char *otherwise)
{
	return s ? s : otherwise;
}

/* Whether it was fired; and if its instance took it along, that is a note, no failure. */
static void check_fired(const struct run_record *r, struct verdict *v, const struct fault_run *f,
	const char *fault, const char *where)
{
	_cleanup_free_ char *words = fault_run_words(r, f);

	if (f->fired_ns && words)
		strv_push(&v->notes, steal_ptr(words));
	/* Of a run that was aborted for it, it is said already. */
	if (f->fired_ns || r->ended_as != VERDICT_PASSED)
		return;
	if (words)
		verdict_reason(v, "%s", words);
	else
		verdict_reason(v, "%s on %s did not fire%s%s", fault, where, f->error ? ": " : "",
			word(f->error, ""));
}

/* Returns whether something may be left behind. */
static bool check_faults(const struct run_record *r, struct verdict *v)
{
	bool left = false, fired = false;

	for (size_t i = 0; i < r->n_faults; i++) {
		const struct fault_run *f = &r->faults[i];
		const char *fault = word(f->fault, "a fault"), *where = name_of(r, f->instance);

		fired = fired || f->fired_ns;
		/* Of an aborted run whoever aborted it knows more: its agent may be dead. */
		if ((f->armed_ns || f->fired_ns) && !f->verified_clean &&
			(r->ended_as == VERDICT_PASSED || r->ended_as == VERDICT_STUCK)) {
			left = true;
			verdict_reason(v, "%s on %s was not verified clean after its revert%s%s",
				fault, where, f->error ? ": " : "", word(f->error, ""));
		}
		check_fired(r, v, f, fault, where);
		if (f->fired_ns && f->hits == 0 && !f->may_miss && r->ended_as == VERDICT_PASSED)
			verdict_reason(v, "%s on %s hit nothing while it was active", fault, where);
	}
	if (!fired && r->n_faults == 0 && r->ended_as == VERDICT_PASSED)
		verdict_reason(v, "no fault was fired");
	return left;
}

static void check_ledger(const struct run_record *r, struct verdict *v)
{
	const struct ledger_check *l = &r->ledger;

	if (!l->done) {
		if (v->milestones[T0].known || l->error)
			verdict_reason(v, "the ledger could not be checked: %s",
				word(l->error, "no reason given"));
		return;
	}
	if (l->lost)
		verdict_reason(v, "%" PRIu64 " acknowledged commit%s lost (expected 0)", l->lost,
			l->lost == 1 ? " was" : "s were");
	if (l->unexpected)
		verdict_reason(v, "%" PRIu64 " row%s found that nobody had written (expected 0)",
			l->unexpected, l->unexpected == 1 ? " was" : "s were");
}

/* The highest grade that the drill itself says it can bear. */
static enum split_brain_grade allowed_grade(const struct run_record *r)
{
	enum split_brain_grade allowed = SPLIT_NONE;

	for (size_t i = 0; i < r->n_expectations; i++) {
		const struct expectation *e = &r->expectations[i];

		if (e->figure == EXPECT_SPLIT_BRAIN && e->has_max && e->max > allowed)
			allowed = (enum split_brain_grade)e->max;
	}
	return allowed;
}

static void check_split_brain(const struct run_record *r, struct verdict *v)
{
	char text[UNITS_TEXT_MAX];

	if (v->split_brain <= allowed_grade(r))
		return;
	switch (v->split_brain) {
	case SPLIT_ACKNOWLEDGED:
		verdict_reason(v, "split brain: %" PRIu64 " write%s acknowledged on a timeline after a "
				  "newer one had acknowledged writes", v->superseded_acks,
			v->superseded_acks == 1 ? " was" : "s were");
		break;
	case SPLIT_WRITABLE:
		verdict_reason(v, "split brain: two instances took writes at one time for %s",
			duration_human(v->dual_writable_ns, text));
		break;
	default:
		verdict_reason(v, "split brain: two instances were out of recovery at one time for %s",
			duration_human(v->dual_claimed_ns, text));
		break;
	}
}

struct verdict *verdict_compute(const struct run_record *r)
{
	struct verdict *v = calloc(1, sizeof(*v));
	bool left;

	if (!v)
		abort();
	milestones_compute(r, v);
	split_brain_compute(r, v);
	if (r->ended_as != VERDICT_PASSED && r->ended_why)
		verdict_reason(v, "%s", r->ended_why);
	left = check_faults(r, v);
	if (r->steps_failed)
		verdict_reason(v, "%s", r->steps_failed);
	/* Of a run that ended early its figures say little. */
	if (r->ended_as == VERDICT_PASSED || v->milestones[T0].known) {
		check_ledger(r, v);
		check_split_brain(r, v);
		judge_expectations(r, v);
	}
	if (r->ended_as != VERDICT_PASSED)
		v->verdict = r->ended_as;
	else if (left)
		v->verdict = VERDICT_STUCK;
	else
		v->verdict = v->reasons ? VERDICT_FAILED : VERDICT_PASSED;
	return v;
}

void verdict_free(struct verdict *v)
{
	if (!v)
		return;
	strv_free(v->reasons);
	strv_free(v->notes);
	for (size_t i = 0; i < v->n_results; i++) {
		free(v->results[i].expected);
		free(v->results[i].actual);
	}
	free(v->results);
	free(v->write_outages);
	free(v->read_outages);
	free(v);
}

int verdict_exit_code(enum run_verdict v)
{
	static const int codes[VERDICT_MAX] = {
		[VERDICT_PASSED] = 0,
		[VERDICT_FAILED] = 1,
		[VERDICT_REFUSED] = 3,
		[VERDICT_ABORTED] = 4,
		[VERDICT_STUCK] = 5,
	};

	return (unsigned)v < VERDICT_MAX ? codes[v] : 1;
}
