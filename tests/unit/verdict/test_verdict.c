#include "unit/verdict/record.h"

static void is_at(const struct verdict *v, enum milestone m, double ms, int line)
{
	cr_assert(v->milestones[m].known, "line %d: T%d was not seen", line, m);
	cr_assert_float_eq((double)(v->milestones[m].ns - START_NS) / 1e6, ms, 0.001,
		"line %d: T%d is at %g, not %g", line, m,
		(double)(v->milestones[m].ns - START_NS) / 1e6, ms);
}
#define IS_AT(v, m, ms) is_at(v, m, ms, __LINE__)
#define IS_ABSENT(v, m) cr_assert_not((v)->milestones[m].known, "T%d was seen", m)

static bool has_reason(const struct verdict *v, const char *part)
{
	for (char **s = v->reasons; s && *s; s++)
		if (strstr(*s, part))
			return true;
	return false;
}

static const char *first_reason(const struct verdict *v)
{
	return v->reasons ? v->reasons[0] : "none";
}

#define VERDICT(v, r) _cleanup_(verdict_freep) struct verdict *v = verdict_compute(r)
#define RECORD(r, ...) _cleanup_(run_record_freep) struct run_record *r = __VA_ARGS__

Test(verdict, clean_failover)
{
	RECORD(r, failover());

	expect(r, "ttd", "max", "5s");
	expect(r, "writeTtr", "max", "10s");
	expect(r, "readTtr", "max", "1s");
	expect(r, "fullRedundancy", "max", "30s");
	expect(r, "writeDowntime", "max", "10s");
	expect(r, "lostCommits", "max", "0");
	expect(r, "splitBrain", "max", "none");
	expect(r, "promoted", "max", "true");
	VERDICT(v, r);
	IS_AT(v, T0, 1000);
	IS_AT(v, T1, 1052);	/* the first fresh one that was refused */
	IS_AT(v, T2, 4000);
	IS_AT(v, T3, 4200);
	IS_AT(v, T4, 4500);
	IS_AT(v, T5, 4602);
	IS_ABSENT(v, T6);	/* reads never failed */
	IS_AT(v, T7, 9000);
	IS_AT(v, T8, 9000);
	cr_assert_eq(v->ttd.ns, 3000 * NS_PER_MS);
	cr_assert_eq(v->write_ttr.ns, 3602 * NS_PER_MS);
	cr_assert_not(v->read_ttr.known);
	cr_assert_eq(v->full_ttr.ns, 8000 * NS_PER_MS);
	cr_assert_eq(v->write_downtime_ns, 3602 * NS_PER_MS);
	cr_assert_eq(v->n_write_outages, 1);
	cr_assert_eq(v->read_downtime_ns, 0);
	cr_assert_eq(v->resolution_ns, 100 * NS_PER_MS);
	cr_assert_eq(v->manager_resolution_ns, 100 * NS_PER_MS);
	cr_assert_eq(v->split_brain, SPLIT_NONE);
	cr_assert_eq(v->old_primary, PG1);
	cr_assert_eq(v->new_primary, PG2);
	cr_assert_eq(v->new_timeline, 2);
	cr_assert_eq(v->n_results, 8);
	for (size_t i = 0; i < v->n_results; i++)
		cr_assert(v->results[i].passed, "%s: %s", v->results[i].expected,
			v->results[i].actual);
	cr_assert_eq(v->verdict, VERDICT_PASSED, "%s", first_reason(v));
	cr_assert_null(v->reasons);
}

Test(verdict, the_same_record_gives_the_same_verdict)
{
	RECORD(r, failover());
	VERDICT(a, r);
	VERDICT(b, r);

	cr_assert_eq(memcmp(a->milestones, b->milestones, sizeof(a->milestones)), 0);
	cr_assert_eq(a->write_downtime_ns, b->write_downtime_ns);
}

Test(verdict, slow_write_counts_from_the_limit_on)
{
	RECORD(r, record_new());

	writes(r, 0, 1000, PG1, 1);
	/* On its way when the fault fired. */
	attempt(r, W_LONG, 990, 1900, OUTCOME_OK, PG1, 1);
	writes(r, 1900, 3000, PG1, 1);
	fault(r, PG1, 1000, 1890, 5);
	VERDICT(v, r);
	IS_AT(v, T1, 990 + SLOW_MS);
	IS_AT(v, T5, 1900);
	cr_assert_eq(v->write_downtime_ns, 900 * NS_PER_MS);
}

Test(verdict, trouble_before_the_fault_is_not_its_fault)
{
	RECORD(r, record_new());

	fails(r, 0, 600);
	/* Slow before T0, done after it, and acknowledged: no news. */
	attempt(r, W_LONG, 100, 1005, OUTCOME_OK, PG1, 1);
	writes(r, 1010, 3000, PG1, 1);
	fault(r, PG1, 1000, 2000, 5);
	VERDICT(v, r);
	IS_ABSENT(v, T1);
	IS_ABSENT(v, T5);
	cr_assert_eq(v->write_downtime_ns, 0);
}

Test(verdict, a_blink_is_no_outage)
{
	RECORD(r, record_new());

	writes(r, 0, 1000, PG1, 1);
	attempt(r, W_LONG, 1000, 1001, OUTCOME_FAIL, -1, 0);
	writes(r, 1051, 3000, PG1, 1);
	reads(r, 0, 2500);
	attempt(r, R_LONG, 2500, 2502, OUTCOME_FAIL, -1, 0);
	reads(r, 2510, 3000);
	fault(r, PG1, 1000, 1000.5, 1);
	expect(r, "writeTtr", "max", "0");
	expect(r, "readTtr", "max", "0");
	VERDICT(v, r);
	IS_AT(v, T1, 1001);
	IS_ABSENT(v, T5);
	IS_ABSENT(v, T6);
	cr_assert(v->writes_failed && v->reads_failed);
	cr_assert(v->results[0].passed && v->results[1].passed);
	cr_assert_str_eq(v->results[0].actual, "no outage: some writes failed, others went on");
	cr_assert_eq(v->n_write_outages, 0);
	cr_assert_eq(v->write_downtime_ns, 0);
}

/* Nobody waited long enough to call it an outage, but the new primary took over. */
Test(verdict, a_switch_in_a_blink_has_its_time)
{
	RECORD(r, record_new());

	writes(r, 0, 1000, PG1, 1);
	attempt(r, W_LONG, 1000, 1001, OUTCOME_FAIL, -1, 0);
	attempt(r, W_LONG, 1051, 1060, OUTCOME_OK, PG1, 1);	/* its last */
	writes(r, 1300, 3000, PG2, 2);
	polls(r, PG1, 0, 1000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 1250, SEEN_STREAMING, 1);
	polls(r, PG2, 1250, 3000, SEEN_PRIMARY, 2);
	fault(r, PG1, 1000, 1000.5, 1);
	VERDICT(v, r);
	IS_AT(v, T4, 1250);
	IS_AT(v, T5, 1302);
	cr_assert_eq(v->n_write_outages, 0);
}

Test(verdict, a_pause_of_the_probes_is_no_outage_but_blurs)
{
	RECORD(r, record_new());

	writes(r, 0, 1500, PG1, 1);
	writes(r, 2600, 4000, PG1, 1);
	fault(r, PG1, 1000, 2000, 1);
	VERDICT(v, r);
	IS_ABSENT(v, T1);
	cr_assert_eq(v->write_downtime_ns, 0);
	cr_assert_eq(v->resolution_ns, 10 * NS_PER_MS);

	/* The probes were held up just before they saw it work again. */
	RECORD(s, record_new());
	writes(s, 0, 1000, PG1, 1);
	fails(s, 1000, 2000);
	writes(s, 2800, 4000, PG1, 1);
	fault(s, PG1, 1000, 2000, 1)->fired_uncertainty_ns = 300 * NS_PER_US;
	VERDICT(w, s);
	IS_AT(w, T5, 2802);
	cr_assert_eq(w->resolution_ns, 850 * NS_PER_MS + 300 * NS_PER_US);
}

/* Asynchronous, and clients still reach the old primary: both acknowledge. */
Test(verdict, clients_still_on_the_old_primary)
{
	RECORD(r, record_new());

	for (double t = 0; t < 8000; t += 10) {
		attempt(r, W_LONG, t, t + 2, OUTCOME_OK, PG1, 1);
		if (t >= 4600)
			attempt(r, W_PG2, t + 1, t + 3, OUTCOME_OK, PG2, 2);
	}
	fails(r, 8000, 9000);
	writes(r, 9000, 12000, PG2, 2);
	polls(r, PG1, 0, 8000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 4500, SEEN_STREAMING, 1);
	polls(r, PG2, 4500, 12000, SEEN_PRIMARY, 2);
	fault(r, PG1, 1000, 8000, 77);
	r->ledger.attempted = r->ledger.ok = 1000;
	r->ledger.lost = 17;
	expect(r, "lostCommits", "max", "0");
	VERDICT(v, r);
	cr_assert_eq(v->verdict, VERDICT_FAILED);
	cr_assert(has_reason(v, "17 acknowledged commits were lost (expected 0)"));
	cr_assert(has_reason(v, "split brain"));
	cr_assert_eq(v->split_brain, SPLIT_ACKNOWLEDGED);
	cr_assert_gt(v->superseded_acks, 300);
	/* Both took writes from 4.5 to 8 s, give or take a poll on either side. */
	cr_assert_gt(v->dual_writable_ns, 3300 * NS_PER_MS);
	cr_assert_leq(v->dual_writable_ns, 3500 * NS_PER_MS);
	IS_AT(v, T1, 8002);
	IS_AT(v, T5, 9002);
	cr_assert_eq(v->results[0].passed, false);
	cr_assert_str_eq(v->results[0].actual, "17");
	/* Said once. */
	cr_assert_eq(strv_length(v->reasons), 2);
}

/* An answer of the old primary in the midst of the outage is no way back. */
Test(verdict, a_straggler_of_the_old_primary_does_not_end_the_outage)
{
	RECORD(r, failover());

	for (size_t i = 0; i < r->n_attempts; i++)
		if (r->attempts[i].client == W_LONG && r->attempts[i].outcome == OUTCOME_UNKNOWN) {
			r->attempts[i].outcome = OUTCOME_OK;
			r->attempts[i].done_ns = MS(4590);
			r->attempts[i].timeline = 1;
		}
	VERDICT(v, r);
	IS_AT(v, T5, 4602);
}

Test(verdict, killed_and_restarted_in_place)
{
	RECORD(r, record_new());

	members(r);
	writes(r, 0, 1000, PG1, 1);
	fails(r, 1000, 2500);
	writes(r, 2500, 6000, PG1, 1);
	polls(r, PG1, 0, 1000, SEEN_PRIMARY, 1);
	polls(r, PG1, 1000, 2500, SEEN_GONE, 0);
	polls(r, PG1, 2500, 6000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 1000, SEEN_STREAMING, 1);
	polls(r, PG2, 1000, 3000, SEEN_REPLICA, 1);
	polls(r, PG2, 3000, 6000, SEEN_STREAMING, 1);
	polls(r, PG3, 0, 6000, SEEN_STREAMING, 1);
	event(r, 1200, EVENT_MEMBER, PG1, "crashed", 0);
	event(r, 1300, EVENT_MEMBER, PG1, "starting", 0);
	event(r, 2600, EVENT_MEMBER, PG1, "running", 1);
	fault(r, PG1, 1000, 1001, 1);
	expect(r, "promoted", "max", "false");
	expect(r, "writeTtr", "max", "2s");
	VERDICT(v, r);
	IS_AT(v, T1, 1002);
	IS_AT(v, T2, 1200);
	IS_ABSENT(v, T3);
	IS_ABSENT(v, T4);
	IS_AT(v, T5, 2502);
	IS_ABSENT(v, T7);
	IS_AT(v, T8, 3000);
	cr_assert_eq(v->new_primary, -1);
	cr_assert_eq(v->verdict, VERDICT_PASSED, "%s", first_reason(v));
}

Test(verdict, flapping_sums_the_windows)
{
	RECORD(r, record_new());

	writes(r, 0, 1000, PG1, 1);
	for (int i = 0; i < 3; i++) {
		double t = 1000 + i * 3000;

		fails(r, t, t + 1000);
		writes(r, t + 1000, t + 3000, PG1, 1);
		fault(r, PG1, t, t + 1000, 9);
	}
	polls(r, PG1, 0, 10000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 10000, SEEN_STREAMING, 1);
	polls(r, PG3, 0, 10000, SEEN_STREAMING, 1);
	expect(r, "promoted", "max", "false");
	expect(r, "downtime", "max", "2s");
	expect(r, "fullRedundancy", "max", "1s");
	VERDICT(v, r);
	IS_AT(v, T0, 1000);
	IS_AT(v, T5, 2002);
	cr_assert_eq(v->n_write_outages, 3);
	/* Each from the last acknowledgement to the next; the first from T0. */
	cr_assert_eq(v->write_downtime_ns, (1002 + 2 * 1010) * NS_PER_MS);
	IS_ABSENT(v, T8);
	cr_assert_not(v->redundancy_lost);
	cr_assert_eq(v->verdict, VERDICT_FAILED);
	cr_assert(has_reason(v, "writeDowntime: 3.02 s (expected at most 2s)"), "%s",
		first_reason(v));
	cr_assert_str_eq(v->results[2].actual, "redundancy was never lost");
	cr_assert(v->results[2].passed);
}

/* The primary, and then the one that took over. */
Test(verdict, cascade_with_two_promotions)
{
	RECORD(r, record_new());

	writes(r, 0, 1000, PG1, 1);
	fails(r, 1000, 3000);
	writes(r, 3000, 3500, PG2, 2);
	fails(r, 3500, 6000);
	writes(r, 6000, 12000, PG3, 3);
	polls(r, PG1, 0, 1000, SEEN_PRIMARY, 1);
	polls(r, PG1, 1000, 8000, SEEN_GONE, 0);
	polls(r, PG1, 8000, 12000, SEEN_STREAMING, 3);
	polls(r, PG2, 0, 2900, SEEN_STREAMING, 1);
	polls(r, PG2, 2900, 3500, SEEN_PRIMARY, 2);
	polls(r, PG2, 3500, 9000, SEEN_GONE, 0);
	polls(r, PG2, 9000, 12000, SEEN_STREAMING, 3);
	polls(r, PG3, 0, 5900, SEEN_STREAMING, 1);
	polls(r, PG3, 5900, 12000, SEEN_PRIMARY, 3);
	event(r, 2700, EVENT_LEADER, PG2, "pg2", 2);
	event(r, 5700, EVENT_LEADER, PG3, "pg3", 3);
	fault(r, PG1, 1000, 7000, 1);
	fault(r, PG2, 3500, 8500, 1);
	VERDICT(v, r);
	IS_AT(v, T2, 2700);
	IS_AT(v, T3, 2700);
	IS_AT(v, T4, 2900);
	cr_assert_eq(v->new_primary, PG2);
	IS_AT(v, T5, 3002);
	IS_AT(v, T7, 8000);
	IS_AT(v, T8, 9000);
	cr_assert_eq(v->n_write_outages, 2);
	cr_assert_eq(v->write_downtime_ns, (2002 + 2510) * NS_PER_MS);
	cr_assert_eq(v->split_brain, SPLIT_NONE);
	cr_assert_eq(v->verdict, VERDICT_PASSED, "%s", first_reason(v));
}

/* A first outage without, a second with a promotion: the time counts to the end of the second. */
Test(verdict, the_promotion_picks_the_outage)
{
	RECORD(r, record_new());

	writes(r, 0, 1000, PG1, 1);
	fails(r, 1000, 2000);
	writes(r, 2000, 3000, PG1, 1);
	fails(r, 3000, 5000);
	writes(r, 5000, 7000, PG2, 2);
	polls(r, PG1, 0, 3000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 4800, SEEN_STREAMING, 1);
	polls(r, PG2, 4800, 7000, SEEN_PRIMARY, 2);
	fault(r, PG1, 1000, 3000, 1);
	VERDICT(v, r);
	IS_AT(v, T1, 1002);
	IS_AT(v, T4, 4800);
	IS_AT(v, T5, 5002);
	cr_assert_eq(v->n_write_outages, 2);
}

Test(verdict, isolated_replica_stops_no_write)
{
	RECORD(r, record_new());

	members(r);
	writes(r, 0, 10000, PG1, 1);
	reads(r, 0, 1000);
	attempts(r, R_LONG, 1000, 2500, 50, OUTCOME_FAIL, -1, 0);
	reads(r, 2500, 10000);
	polls(r, PG1, 0, 10000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 1500, SEEN_STREAMING, 1);
	polls(r, PG2, 1500, 6000, SEEN_REPLICA, 1);
	polls(r, PG2, 6000, 10000, SEEN_STREAMING, 1);
	polls(r, PG3, 0, 10000, SEEN_STREAMING, 1);
	event(r, 1900, EVENT_MEMBER, PG2, "running", 1);
	fault(r, PG2, 1000, 5000, 40);
	expect(r, "ttd", "max", "5s");
	expect(r, "writeTtr", "max", "30s");
	expect(r, "writeDowntime", "max", "0");
	expect(r, "readTtr", "max", "30s");
	expect(r, "fullRedundancy", "max", "30s");
	VERDICT(v, r);
	IS_ABSENT(v, T1);
	IS_AT(v, T2, 1900);	/* from streaming to merely running */
	IS_ABSENT(v, T3);
	IS_ABSENT(v, T4);
	IS_ABSENT(v, T5);
	IS_AT(v, T6, 2502);
	IS_AT(v, T8, 6000);
	cr_assert_not(v->write_ttr.known);
	cr_assert_eq(v->read_downtime_ns, 1502 * NS_PER_MS);
	cr_assert_str_eq(v->results[1].actual, "no write failed");
	cr_assert_eq(v->verdict, VERDICT_PASSED, "%s", first_reason(v));
}

/* One direction cut: the stream goes, writes hang for a while, no one is promoted. */
Test(verdict, asymmetric)
{
	RECORD(r, record_new());

	members(r);
	writes(r, 0, 1000, PG1, 1);
	attempt(r, W_LONG, 1000, 3000, OUTCOME_UNKNOWN, PG1, 0);
	attempt(r, W_LONG, 3000, 4000, OUTCOME_OK, PG1, 1);
	writes(r, 4000, 8000, PG1, 1);
	polls(r, PG1, 0, 8000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 8000, SEEN_STREAMING, 1);
	polls(r, PG3, 0, 2000, SEEN_STREAMING, 1);
	polls(r, PG3, 2000, 5000, SEEN_REPLICA, 1);
	polls(r, PG3, 5000, 8000, SEEN_STREAMING, 1);
	fault(r, PG1, 1000, 4500, 40);
	expect(r, "promoted", "max", "false");
	expect(r, "ttd", "max", "10s");
	VERDICT(v, r);
	IS_AT(v, T1, 1000 + SLOW_MS);
	IS_ABSENT(v, T2);
	IS_ABSENT(v, T4);
	IS_AT(v, T5, 4000);
	IS_AT(v, T8, 5000);
	cr_assert_eq(v->verdict, VERDICT_FAILED);
	cr_assert(has_reason(v, "ttd: nothing was noticed"));
}

Test(verdict, writes_that_never_come_back)
{
	RECORD(r, record_new());

	writes(r, 0, 1000, PG1, 1);
	fails(r, 1000, 9000);
	polls(r, PG1, 0, 1000, SEEN_PRIMARY, 1);
	polls(r, PG1, 1000, 9000, SEEN_GONE, 0);
	fault(r, PG1, 1000, 5000, 40);
	expect(r, "writeTtr", "max", "30s");
	expect(r, "writeTtr", "min", "1s");
	expect(r, "fullRedundancy", "max", "30s");
	VERDICT(v, r);
	IS_ABSENT(v, T5);
	cr_assert_not(v->write_ttr.known);
	cr_assert_eq(v->n_write_outages, 1);
	cr_assert(v->write_outages[0].open);
	cr_assert_eq(v->write_downtime_ns, 7950 * NS_PER_MS);
	cr_assert_not(v->results[0].passed);
	cr_assert(v->results[1].passed);
	cr_assert_not(v->results[2].passed);
	cr_assert(has_reason(v, "writeTtr: writes did not come back (expected at most 30s)"));
}

Test(verdict, redundancy_counts_after_the_faults_and_the_writes)
{
	RECORD(r, record_new());

	/* All stream again at 3 s, but the fault ends at 5 s, and the writes come back at 6 s. */
	writes(r, 0, 1000, PG1, 1);
	fails(r, 1000, 6000);
	writes(r, 6000, 9000, PG1, 1);
	polls(r, PG1, 0, 9000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 2000, SEEN_STREAMING, 1);
	polls(r, PG2, 2000, 3000, SEEN_REPLICA, 1);
	polls(r, PG2, 3000, 9000, SEEN_STREAMING, 1);
	polls(r, PG3, 0, 9000, SEEN_STREAMING, 1);
	fault(r, PG1, 1000, 5000, 40);
	VERDICT(v, r);
	IS_AT(v, T8, 6002);
}

Test(verdict, redundancy_must_last)
{
	RECORD(r, record_new());

	writes(r, 0, 9000, PG1, 1);
	polls(r, PG1, 0, 9000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 2000, SEEN_STREAMING, 1);
	polls(r, PG2, 2000, 3000, SEEN_REPLICA, 1);
	polls(r, PG2, 3000, 3500, SEEN_STREAMING, 1);	/* for half a second */
	polls(r, PG2, 3500, 4000, SEEN_REPLICA, 1);
	polls(r, PG2, 4000, 9000, SEEN_STREAMING, 1);
	polls(r, PG3, 0, 9000, SEEN_STREAMING, 1);
	fault(r, PG2, 1000, 2500, 40);
	VERDICT(v, r);
	IS_AT(v, T8, 4000);

	/* A lag above the limit is no redundancy either. */
	RECORD(s, record_new());
	writes(s, 0, 3000, PG1, 1);
	for (double t = 0; t < 3000; t += 50) {
		seen(s, PG1, t, SEEN_PRIMARY, 1, 100 << 20);
		seen(s, PG2, t, SEEN_STREAMING, 1, t < 2000 && t > 1000 ? 50 << 20 : 100 << 20);
		seen(s, PG3, t, SEEN_STREAMING, 1, 100 << 20);
	}
	fault(s, PG2, 1000, 1500, 40);
	VERDICT(w, s);
	cr_assert(w->redundancy_lost);
	IS_AT(w, T8, 2000);
}

Test(verdict, a_fault_that_was_not_reverted_leaves_no_redundancy)
{
	RECORD(r, failover());

	r->faults[0].reverted_ns = 0;
	r->faults[0].verified_clean = false;
	VERDICT(v, r);
	IS_ABSENT(v, T8);
	cr_assert_eq(v->verdict, VERDICT_STUCK);
	cr_assert_eq(verdict_exit_code(v->verdict), 5);
	cr_assert(has_reason(v, "not verified clean"));
}

Test(verdict, split_brain_grades)
{
	static const struct {
		enum seen old;
		enum split_brain_grade grade;
	} cases[] = {
		{SEEN_PRIMARY, SPLIT_WRITABLE},
		{SEEN_READ_ONLY, SPLIT_CLAIMED},
		{SEEN_REPLICA, SPLIT_NONE},
		{SEEN_GONE, SPLIT_NONE},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		RECORD(r, record_new());

		writes(r, 0, 3000, PG1, 1);
		polls(r, PG1, 0, 3000, SEEN_PRIMARY, 1);
		polls(r, PG1, 3000, 5000, cases[i].old, 1);
		polls(r, PG2, 0, 3000, SEEN_STREAMING, 1);
		polls(r, PG2, 3000, 6000, SEEN_PRIMARY, 2);
		fault(r, PG1, 1000, 4000, 9);
		VERDICT(v, r);
		cr_assert_eq(v->split_brain, cases[i].grade, "case %zu: %s", i,
			split_brain_grade_to_string(v->split_brain));
		cr_assert_eq(v->verdict, cases[i].grade ? VERDICT_FAILED : VERDICT_PASSED);
	}
}

Test(verdict, stale_and_single_answers_are_no_claim)
{
	RECORD(r, failover());

	/* The old primary answers once after its thaw, with what it thought before. */
	seen(r, PG1, 8020, SEEN_PRIMARY, 1, 1000);
	VERDICT(v, r);
	cr_assert_eq(v->split_brain, SPLIT_NONE);

	/* Two answers far from one another say nothing of the time between. */
	RECORD(s, record_new());
	seen(s, PG1, 0, SEEN_PRIMARY, 1, 0);
	seen(s, PG1, 5000, SEEN_PRIMARY, 1, 0);
	polls(s, PG2, 0, 5000, SEEN_PRIMARY, 2);
	fault(s, PG1, 1000, 4000, 9);
	VERDICT(w, s);
	cr_assert_eq(w->split_brain, SPLIT_NONE);
}

Test(verdict, a_switch_without_overlap_is_no_split_brain)
{
	RECORD(r, record_new());

	/* The old one's last answer comes later than the new one's first. */
	polls(r, PG1, 0, 3000, SEEN_PRIMARY, 1);
	seen(r, PG1, 3010, SEEN_PRIMARY, 1, 0);
	polls(r, PG2, 2980, 5000, SEEN_PRIMARY, 2);
	fault(r, PG1, 1000, 4000, 9);
	VERDICT(v, r);
	cr_assert_eq(v->split_brain, SPLIT_NONE, "%lu", v->dual_claimed_ns);
}

Test(verdict, straight_writes_alone_show_two_writable)
{
	RECORD(r, record_new());

	/* No timeline named, no poll: just both acknowledging. */
	for (double t = 2000; t < 3000; t += 10) {
		attempt(r, W_PG1, t, t + 2, OUTCOME_OK, PG1, 0);
		attempt(r, W_PG2, t + 4, t + 6, OUTCOME_OK, PG2, 0);
	}
	fault(r, PG1, 1000, 4000, 9);
	VERDICT(v, r);
	cr_assert_eq(v->split_brain, SPLIT_WRITABLE);
	cr_assert_gt(v->dual_writable_ns, 950 * NS_PER_MS);
	cr_assert_lt(v->dual_writable_ns, 1000 * NS_PER_MS);
	cr_assert(has_reason(v, "two instances took writes at one time"));
}

Test(verdict, a_drill_may_bear_a_grade)
{
	RECORD(r, record_new());

	polls(r, PG1, 0, 5000, SEEN_PRIMARY, 1);
	polls(r, PG2, 3000, 5000, SEEN_PRIMARY, 2);
	fault(r, PG1, 1000, 4000, 9);
	expect(r, "splitBrain", "max", "writable");
	VERDICT(v, r);
	cr_assert_eq(v->split_brain, SPLIT_WRITABLE);
	cr_assert_eq(v->verdict, VERDICT_PASSED, "%s", first_reason(v));
}

Test(verdict, loss_fails_whatever_the_drill_says)
{
	RECORD(r, failover());

	r->ledger.lost = 1;
	expect(r, "lostCommits", "max", "100");
	VERDICT(v, r);
	cr_assert(v->results[0].passed);
	cr_assert_eq(v->verdict, VERDICT_FAILED);
	cr_assert_str_eq(first_reason(v), "1 acknowledged commit was lost (expected 0)");

	RECORD(s, failover());
	s->ledger.unexpected = 2;
	VERDICT(w, s);
	cr_assert_eq(w->verdict, VERDICT_FAILED);
	cr_assert(has_reason(w, "2 rows were found that nobody had written"));

	RECORD(t, failover());
	t->ledger.done = false;
	t->ledger.error = strdup("connection refused");
	expect(t, "lostCommits", "max", "0");
	VERDICT(x, t);
	cr_assert_eq(x->verdict, VERDICT_FAILED);
	cr_assert_not(x->results[0].passed);
	cr_assert_eq(strv_length(x->reasons), 1);
	cr_assert(has_reason(x, "the ledger could not be checked: connection refused"));

	RECORD(u, failover());
	u->ledger.ok = 0;
	expect(u, "lostCommits", "max", "0");
	VERDICT(y, u);
	cr_assert_not(y->results[0].passed, "nothing was acknowledged, so nothing was shown");
	cr_assert_eq(y->verdict, VERDICT_FAILED);
	cr_assert(has_reason(y, "lostCommits: not measured"));
}

Test(verdict, a_fault_that_hit_nothing_fails)
{
	RECORD(r, failover());

	r->faults[0].hits = 0;
	VERDICT(v, r);
	cr_assert_eq(v->verdict, VERDICT_FAILED);
	cr_assert(has_reason(v, "net-partition on lab/pg1 hit nothing"));

	r->faults[0].may_miss = true;
	VERDICT(w, r);
	cr_assert_eq(w->verdict, VERDICT_PASSED);
}

Test(verdict, a_fault_that_ended_with_its_instance_is_a_note)
{
	RECORD(r, failover());
	VERDICT(u, r);
	cr_assert_null(u->notes);

	r->faults[0].target_gone = true;
	VERDICT(v, r);
	cr_assert_eq(v->verdict, VERDICT_PASSED);
	cr_assert_eq(strv_length(v->notes), 1);
	cr_assert_str_eq(v->notes[0],
		"lab/pg1 ended, and net-partition on it with it, 7.00 s after it was fired");

	r->faults[0].fired_ns = 0;
	VERDICT(w, r);
	cr_assert_eq(w->verdict, VERDICT_FAILED);
	cr_assert_null(w->notes);
	cr_assert_str_eq(first_reason(w),
		"net-partition could not be fired: lab/pg1 ended while it was armed");

	/* It is why it was aborted: said once. */
	r->ended_as = VERDICT_ABORTED;
	r->ended_why = strdup("net-partition could not be fired");
	VERDICT(x, r);
	cr_assert_eq(x->verdict, VERDICT_ABORTED);
	cr_assert_str_eq(first_reason(x), "net-partition could not be fired");
	cr_assert(!has_reason(x, "while it was armed"));
}

Test(verdict, a_step_that_reached_its_limit_fails)
{
	RECORD(r, failover());

	r->steps_failed = strdup("wait promoted: not within 60 s");
	VERDICT(v, r);
	cr_assert_eq(v->verdict, VERDICT_FAILED);
	cr_assert_str_eq(first_reason(v), "wait promoted: not within 60 s");
}

Test(verdict, how_a_run_ended_wins)
{
	static const struct {
		enum run_verdict ended;
		int code;
	} cases[] = {{VERDICT_REFUSED, 3}, {VERDICT_ABORTED, 4}, {VERDICT_STUCK, 5}};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		RECORD(r, failover());

		r->ended_as = cases[i].ended;
		r->ended_why = strdup("the agent is gone");
		r->faults[0].verified_clean = false;
		r->ledger.lost = 3;
		VERDICT(v, r);
		cr_assert_eq(v->verdict, cases[i].ended);
		cr_assert_eq(verdict_exit_code(v->verdict), cases[i].code);
		cr_assert_str_eq(first_reason(v), "the agent is gone");
		cr_assert(has_reason(v, "3 acknowledged commits were lost"));
	}
	cr_assert_eq(verdict_exit_code(VERDICT_PASSED), 0);
	cr_assert_eq(verdict_exit_code(VERDICT_FAILED), 1);
	cr_assert_eq(verdict_exit_code((enum run_verdict)99), 1);
}

Test(verdict, refused_before_anything)
{
	RECORD(r, record_new());

	r->ended_as = VERDICT_REFUSED;
	r->ended_why = strdup("no steady state: lab/pg3 does not stream");
	r->ledger.done = false;
	expect(r, "writeTtr", "max", "30s");
	VERDICT(v, r);
	cr_assert_eq(v->verdict, VERDICT_REFUSED);
	cr_assert_eq(strv_length(v->reasons), 1);
	for (int m = 0; m < MILESTONE_MAX; m++)
		cr_assert_not(v->milestones[m].known);
}

Test(verdict, no_fault_no_pass)
{
	RECORD(r, record_new());

	writes(r, 0, 3000, PG1, 1);
	expect(r, "writeTtr", "max", "30s");
	VERDICT(v, r);
	cr_assert_eq(v->verdict, VERDICT_FAILED);
	cr_assert(has_reason(v, "no fault was fired"));
	cr_assert_not(v->results[0].passed);

	RECORD(s, run_record_new());
	VERDICT(w, s);
	cr_assert_eq(w->verdict, VERDICT_FAILED);
}

Test(verdict, nothing_noticed_where_nothing_failed)
{
	RECORD(r, record_new());

	writes(r, 0, 3000, PG1, 1);
	polls(r, PG1, 0, 3000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 3000, SEEN_STREAMING, 1);
	polls(r, PG3, 0, 3000, SEEN_STREAMING, 1);
	fault(r, PG2, 1000, 2000, 10);
	expect(r, "ttd", "max", "30s");
	expect(r, "ttd", "min", "1s");
	VERDICT(v, r);
	cr_assert(v->results[0].passed);
	cr_assert_not(v->results[1].passed);
	cr_assert_str_eq(v->results[0].actual, "nothing failed, so there was nothing to notice");
}

Test(verdict, a_plain_cluster_has_only_sql)
{
	RECORD(r, failover());

	for (size_t i = 0; i < r->n_events; i++)
		if (r->events[i].kind == EVENT_LEADER || r->events[i].kind == EVENT_MEMBER)
			r->events[i].kind = EVENT_NOTE;
	VERDICT(v, r);
	IS_AT(v, T2, 4500);
	IS_ABSENT(v, T3);
	IS_AT(v, T4, 4500);
}

Test(verdict, the_leader_may_be_named_without_its_instance)
{
	RECORD(r, failover());

	for (size_t i = 0; i < r->n_events; i++)
		r->events[i].instance = -1;
	VERDICT(v, r);
	IS_AT(v, T3, 4200);
}

/* One server, nobody to promote: its restart is all. */
Test(verdict, a_single_instance)
{
	RECORD(r, record_new());

	for (size_t i = 1; i < r->n_instances; i++) {
		free(r->instances[i].name);
		free(r->instances[i].member);
		free(r->instances[i].node);
		free(r->instances[i].host);
	}
	r->n_instances = 1;
	writes(r, 0, 1000, PG1, 1);
	fails(r, 1000, 2000);
	writes(r, 2000, 4000, PG1, 1);
	polls(r, PG1, 0, 1000, SEEN_PRIMARY, 1);
	polls(r, PG1, 1000, 2000, SEEN_GONE, 0);
	polls(r, PG1, 2000, 4000, SEEN_PRIMARY, 1);
	polls(r, PG2, 0, 4000, SEEN_PRIMARY, 7);	/* nobody knows this one */
	fault(r, PG1, 1000, 1001, 1);
	VERDICT(v, r);
	IS_AT(v, T8, 2002);
	cr_assert_eq(v->split_brain, SPLIT_NONE);
	cr_assert_eq(v->verdict, VERDICT_PASSED, "%s", first_reason(v));
}

/* CloudNativePG: the pod is not ready, the operator gives the primary up, then names another. */
Test(verdict, kubernetes_tells)
{
	RECORD(r, failover());

	r->n_events -= 3;	/* what Patroni would have said, and SQL */
	for (size_t i = r->n_events; i < r->n_events + 3; i++) {
		free(r->events[i].text);
		free(r->events[i].value);
	}
	event(r, 1400, EVENT_KUBERNETES, PG1, "Unhealthy", 0);
	event(r, 1500, EVENT_READY, PG2, "ok", 0);
	event(r, 1600, EVENT_POD, PG1, "restarted", 0);
	event(r, 2300, EVENT_READY, PG1, "fail", 0);
	event(r, 2500, EVENT_CHOSEN, -1, "pending", 0);
	event(r, 2600, EVENT_PHASE, -1, "fail", 0);
	event(r, 2700, EVENT_KUBERNETES, -1, "FailingOver", 0);
	event(r, 3900, EVENT_CHOSEN, PG2, "main-2", 0);
	event(r, 4400, EVENT_LEADER, PG2, "main-2", 2);
	VERDICT(v, r);
	IS_AT(v, T2, 2300);
	IS_AT(v, T3, 3900);
	IS_AT(v, T4, 4500);
	cr_assert_eq(v->new_primary, PG2);
}

Test(verdict, kubernetes_reactions)
{
	static const struct {
		enum event_kind kind;
		const char *value;
		bool reaction;
	} cases[] = {
		{EVENT_CHOSEN, "none", true},	     {EVENT_PHASE, "fail", true},
		{EVENT_PHASE, "ok", false},	     {EVENT_READY, "ok", false},
		{EVENT_POD, "gone", true},	     {EVENT_POD, "deleting", true},
		{EVENT_POD, "new", false},	     {EVENT_POD, "moved", false},
		{EVENT_KUBERNETES, "Switchover", true}, {EVENT_KUBERNETES, "Pulled", false},
		{EVENT_KUBERNETES, NULL, false},     {EVENT_NOTE, "fail", false},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		RECORD(r, record_new());

		members(r);
		writes(r, 0, 3000, PG1, 1);
		polls(r, PG1, 0, 3000, SEEN_PRIMARY, 1);
		polls(r, PG2, 0, 3000, SEEN_STREAMING, 1);
		polls(r, PG3, 0, 3000, SEEN_STREAMING, 1);
		fault(r, PG1, 1000, 1001, 1);
		event(r, 1500, cases[i].kind, PG1, cases[i].value, 0);
		VERDICT(v, r);
		cr_assert_eq(v->milestones[T2].known, cases[i].reaction, "case %zu", i);
		IS_ABSENT(v, T3);
	}
}
