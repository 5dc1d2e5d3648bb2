#include "unit/verdict/record.h"

Test(expectation, takes_every_key)
{
	static const struct {
		const char *key, *op, *value;
		enum expectation_figure figure;
		uint64_t bound;
	} cases[] = {
		{"ttd", "max", "30s", EXPECT_TTD, 30 * NS_PER_S},
		{"writeTtr", "max", "1.5s", EXPECT_WRITE_TTR, 1500 * NS_PER_MS},
		{"readTtr", "min", "20ms", EXPECT_READ_TTR, 20 * NS_PER_MS},
		{"fullRedundancy", "max", "2m", EXPECT_FULL_REDUNDANCY, 120 * NS_PER_S},
		{"writeDowntime", "max", "0", EXPECT_WRITE_DOWNTIME, 0},
		{"downtime", "max", "1s", EXPECT_WRITE_DOWNTIME, NS_PER_S},
		{"readDowntime", "max", "1s", EXPECT_READ_DOWNTIME, NS_PER_S},
		{"lostCommits", "max", "0", EXPECT_LOST_COMMITS, 0},
		{"splitBrain", "max", "claimed", EXPECT_SPLIT_BRAIN, SPLIT_CLAIMED},
		{"splitBrain", "min", "acknowledged", EXPECT_SPLIT_BRAIN, SPLIT_ACKNOWLEDGED},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_(expectation_done) struct expectation e = {0};
		_cleanup_err_ struct err *err = NULL;
		bool max = strcmp(cases[i].op, "max") == 0;

		cr_assert_eq(expectation_parse(cases[i].key, cases[i].op, cases[i].value, &e, &err),
			0, "%s: %s", cases[i].key, err_text(err));
		cr_assert_eq(e.figure, cases[i].figure);
		cr_assert_eq(e.has_max, max);
		cr_assert_eq(e.has_min, !max);
		cr_assert_eq(max ? e.max : e.min, cases[i].bound);
		cr_assert_str_eq(e.text, cases[i].value);
	}
}

Test(expectation, promoted_is_yes_or_no_by_either_bound)
{
	for (int i = 0; i < 2; i++) {
		_cleanup_(expectation_done) struct expectation e = {0};

		cr_assert_eq(expectation_parse("promoted", i ? "min" : "max", "true", &e, NULL), 0);
		cr_assert(e.has_max && e.has_min && e.max == 1 && e.min == 1);
	}
}

Test(expectation, says_what_is_allowed)
{
	static const struct {
		const char *key, *op, *value, *words;
	} cases[] = {
		{"rto", "max", "30s", "writeTtr"},
		{"", "max", "30s", "lostCommits"},
		{"WriteTTR", "max", "30s", "writeTtr"},
		{"ttd", "avg", "30s", "max or min"},
		{"ttd", "max", "30", "ttd"},
		{"ttd", "max", "-1s", "ttd"},
		{"lostCommits", "max", "1s", "lostCommits"},
		{"lostCommits", "max", "99999999999999999999", "lostCommits"},
		{"splitBrain", "max", "some", "none, claimed, writable or acknowledged"},
		{"promoted", "max", "yes", "true or false"},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		struct expectation e = {.max = 77};
		_cleanup_err_ struct err *err = NULL;

		cr_assert_eq(expectation_parse(cases[i].key, cases[i].op, cases[i].value, &e, &err),
			-EINVAL, "%s: %s was taken", cases[i].key, cases[i].value);
		cr_assert_not_null(strstr(err_text(err), cases[i].words), "%s", err_text(err));
		cr_assert_eq(e.max, 77);
		cr_assert_null(e.text);
	}
}

Test(expectation, keys_are_named_back)
{
	for (int i = 0; i < EXPECT_FIGURE_MAX; i++)
		cr_assert_not_null(expectation_key((enum expectation_figure)i));
	cr_assert_str_eq(expectation_key(EXPECT_WRITE_DOWNTIME), "writeDowntime");
	cr_assert_null(expectation_key(EXPECT_FIGURE_MAX));
}

/* Both bounds, on both sides and on the very edge. */
Test(expectation, bounds_hold_at_the_edge)
{
	static const struct {
		const char *op, *value;
		bool passed;
	} cases[] = {
		{"max", "3602ms", true}, {"max", "3601ms", false},
		{"min", "3602ms", true}, {"min", "3603ms", false},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_(run_record_freep) struct run_record *r = failover();
		_cleanup_(verdict_freep) struct verdict *v = NULL;

		expect(r, "writeTtr", cases[i].op, cases[i].value);
		v = verdict_compute(r);
		cr_assert_eq(v->results[0].passed, cases[i].passed, "%s %s", cases[i].op,
			cases[i].value);
		cr_assert_str_eq(v->results[0].actual, "3.60 s");
	}
}
