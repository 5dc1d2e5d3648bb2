#include "verdict/judge.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/text.h"
#include "core/units.h"

/* What stands where a figure should: it decides when there is no number. */
enum sight {
	SIGHT_KNOWN,
	SIGHT_NOTHING,		/* nothing went wrong: zero */
	SIGHT_NEVER,		/* it did not come until the end: no bound is high enough */
	SIGHT_UNMEASURED,	/* neither bound holds */
};

struct actual {
	enum sight sight;
	uint64_t value;
	const char *words;	/* unless KNOWN; literal */
};

static struct actual known(uint64_t value)
{
	return (struct actual){SIGHT_KNOWN, value, NULL};
}

static struct actual without(enum sight sight, const char *words)
{
	return (struct actual){sight, 0, words};
}

static struct actual figure_or(const struct figure *f, enum sight sight, const char *words)
{
	return f->known ? known(f->ns) : without(sight, words);
}

static struct actual actual_ttd(const struct verdict *v)
{
	bool trouble = v->writes_failed || v->reads_failed || v->redundancy_lost;

	return figure_or(&v->ttd, trouble ? SIGHT_NEVER : SIGHT_NOTHING,
		trouble ? "nothing was noticed" : "nothing failed, so there was nothing to notice");
}

static struct actual actual_full(const struct verdict *v)
{
	if (!v->redundancy_seen)
		return without(SIGHT_UNMEASURED, "not measured: the instances' state was not seen");
	if (!v->redundancy_lost)
		return without(SIGHT_NOTHING, "redundancy was never lost");
	return figure_or(&v->full_ttr, SIGHT_NEVER, "full redundancy did not come back");
}

/* Back after an outage, or never, or there was none. */
static struct actual actual_back(const struct figure *ttr, bool outage, bool failed,
	const char *const words[static 3])
{
	return figure_or(ttr, outage ? SIGHT_NEVER : SIGHT_NOTHING,
		words[outage ? 2 : failed ? 1 : 0]);
}

static struct actual actual_time(const struct run_record *r, const struct verdict *v,
	enum expectation_figure f)
{
	static const char *const writes[] = {"no write failed",
		"no outage: some writes failed, others went on", "writes did not come back"};
	static const char *const reads[] = {"no read failed",
		"no outage: some reads failed, others went on", "reads did not come back"};

	if (!v->milestones[T0].known)
		return without(SIGHT_UNMEASURED, "not measured: no fault fired");
	if (r->n_attempts == 0 && f != EXPECT_FULL_REDUNDANCY)
		return without(SIGHT_UNMEASURED, "not measured: nothing was tried");
	switch (f) {
	case EXPECT_TTD:
		return actual_ttd(v);
	case EXPECT_WRITE_TTR:
		return actual_back(&v->write_ttr, v->n_write_outages > 0, v->writes_failed, writes);
	case EXPECT_READ_TTR:
		return actual_back(&v->read_ttr, v->n_read_outages > 0, v->reads_failed, reads);
	case EXPECT_FULL_REDUNDANCY:
		return actual_full(v);
	case EXPECT_WRITE_DOWNTIME:
		return known(v->write_downtime_ns);
	default:
		return known(v->read_downtime_ns);
	}
}

static struct actual actual_of(const struct run_record *r, const struct verdict *v,
	enum expectation_figure f)
{
	switch (f) {
	case EXPECT_LOST_COMMITS:
		if (!r->ledger.done)
			return without(SIGHT_UNMEASURED, "the ledger was not checked");
		if (r->ledger.ok == 0)
			return without(SIGHT_UNMEASURED,
				"not measured: no write was acknowledged, so none could be lost");
		return known(r->ledger.lost);
	case EXPECT_SPLIT_BRAIN:
		return known(v->split_brain);
	case EXPECT_PROMOTED:
		return known(v->milestones[T4].known);
	default:
		return actual_time(r, v, f);
	}
}

static bool holds(const struct expectation *e, const struct actual *a)
{
	switch (a->sight) {
	case SIGHT_KNOWN:
	case SIGHT_NOTHING:
		return (!e->has_max || a->value <= e->max) && (!e->has_min || a->value >= e->min);
	case SIGHT_NEVER:
		return !e->has_max;
	default:
		return false;
	}
}

static char *value_text(enum expectation_figure f, const struct actual *a)
{
	char text[UNITS_TEXT_MAX];

	if (a->sight != SIGHT_KNOWN)
		return text_format("%s", a->words);
	switch (f) {
	case EXPECT_LOST_COMMITS:
		return text_format("%" PRIu64, a->value);
	case EXPECT_SPLIT_BRAIN:
		return text_format("%s", split_brain_grade_to_string((enum split_brain_grade)a->value));
	case EXPECT_PROMOTED:
		return text_format("%s", a->value ? "true" : "false");
	default:
		return text_format("%s", duration_human(a->value, text));
	}
}

static char *expected_text(const struct expectation *e)
{
	const char *text = e->text ? e->text : "?";

	if (e->has_max && e->has_min)
		return text_format("%s", text);
	if (e->has_max && e->max == 0)	/* "at most none" */
		return text_format("%s", text);
	return text_format("%s %s", e->has_max ? "at most" : "at least", text);
}

/* Loss and split brain are said anyway, with more words. */
static bool is_said(const struct run_record *r, const struct expectation *e)
{
	if (e->figure == EXPECT_LOST_COMMITS)
		return !r->ledger.done || (r->ledger.ok && r->ledger.lost);
	return e->figure == EXPECT_SPLIT_BRAIN && e->has_max;
}

void judge_expectations(const struct run_record *r, struct verdict *v)
{
	v->results = calloc(r->n_expectations + 1, sizeof(*v->results));
	if (!v->results)
		abort();
	for (size_t i = 0; i < r->n_expectations; i++) {
		const struct expectation *e = &r->expectations[i];
		struct expectation_result *result = &v->results[v->n_results++];
		struct actual a = actual_of(r, v, e->figure);

		result->expectation = e;
		result->expected = expected_text(e);
		result->actual = value_text(e->figure, &a);
		result->passed = holds(e, &a);
		if (!result->passed && !is_said(r, e))
			verdict_reason(v, "%s: %s (expected %s)", expectation_key(e->figure),
				result->actual, result->expected);
	}
}
