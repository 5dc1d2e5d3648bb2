/* The end of a run: everything reverted, the way back watched, the ledger checked, the verdict's ground laid. */
#include "run/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/units.h"
#include "probe/ledger_check.h"

struct recovery {
	uint64_t since_ns;
};

static bool is_recovered(struct run *r, void *data)
{
	struct recovery *s = data;

	if (!run_streaming(r, NULL) || r->write_failing)
		s->since_ns = 0;
	else if (!s->since_ns)
		s->since_ns = now_ns();
	/* Some more polls, so that what the verdict computes from has seen it too. */
	return s->since_ns && now_ns() - s->since_ns >= NS_PER_S;
}

static void wait_recovery(struct run *r)
{
	_cleanup_free_ char *why = NULL;
	struct recovery s = {0};
	char limit[UNITS_TEXT_MAX];

	duration_human(r->drill->recovery_limit_ns, limit);
	run_note(r, EVENT_STEP, -1, "recovery", "wait for full redundancy, at most %s", limit);
	if (run_wait(r, is_recovered, &s, r->drill->recovery_limit_ns, NULL) == -ETIMEDOUT) {
		run_streaming(r, &why);
		run_note(r, EVENT_STEP, -1, "missed", "no full redundancy within the limit: %s",
			why ? why : "writes do not work");
	}
}

void run_end_as(struct run *r, enum run_verdict v, const char *why)
{
	r->record->ended_as = v;
	free(r->record->ended_why);
	r->record->ended_why = strdup(why);
}

static void leave_unchecked(struct run *r, const char *why)
{
	free(r->record->ledger.error);
	r->record->ledger.error = strdup(why);
	run_note(r, EVENT_NOTE, -1, "ledger",
		"the ledger cannot be checked: %s; the probe's schema pgjolt_probe stays", why);
}

static void check_ledger(struct run *r, unsigned writable)
{
	ledger_count(r->record);
	if (writable > 1)
		/* Which of them has the cluster's future nobody can say. */
		leave_unchecked(r, "more than one instance takes writes");
	else if (r->all_gone)
		leave_unchecked(r, "no instance is there any more");
	else if (r->hurry)
		leave_unchecked(r, "interrupted again");
	else if (probes_check(r->probes, NULL) == -ECANCELED && !r->record->ledger.done)
		leave_unchecked(r, "interrupted again");
	else if (r->record->ledger.error)
		run_note(r, EVENT_NOTE, -1, "ledger", "the ledger could not be checked: %s",
			r->record->ledger.error);
}

void run_finish(struct run *r, bool fired)
{
	size_t left = run_settle(r);
	unsigned writable;

	/* An aborted run still says how the cluster came back, for a while. */
	if (fired && !r->interrupted && !r->all_gone) {
		char *why = steal_ptr(r->abort_why);

		r->aborted = why != NULL;
		wait_recovery(r);
		if (why) {
			free(r->abort_why);
			r->abort_why = why;
		}
	}
	writable = run_writable_instances(r);
	if (r->probes) {
		probes_stop(r->probes);
		check_ledger(r, writable);
	}
	if (left)
		/* Meanwhile a lease may have ended, or an agent's next try been better. */
		left = run_settle_again(r);
	run_note_left(r);
	if (left && r->hurry)
		run_end_as(r, VERDICT_STUCK, "interrupted again before every fault was known to be reverted: "
					 "their leases end them; see `pgjolt status`");
	else if (left)
		run_end_as(r, VERDICT_STUCK, "a fault could not be reverted: see `pgjolt status`; "
					 "`pgjolt-agent revert-all` on the node says what is left");
	else if (r->abort_why)
		run_end_as(r, VERDICT_ABORTED, r->abort_why);
	r->record->ended_ns = now_ns();
	run_note(r, EVENT_RUN, -1, "end", "run %s ended", r->record->run);
	run_show(r);
}
