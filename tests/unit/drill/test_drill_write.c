/* What is written is read back as the same drill. */
#include "parse.h"

static void same_text(const char *a, const char *b)
{
	cr_assert_eq(a == NULL, b == NULL);
	if (a)
		cr_assert_str_eq(a, b);
}

static void same_steps(const struct step *a, size_t n, const struct step *b, size_t m)
{
	cr_assert_eq(n, m);
	for (size_t i = 0; i < n; i++) {
		cr_assert_eq(a[i].kind, b[i].kind);
		same_text(a[i].name, b[i].name);
		cr_assert_eq(a[i].fault, b[i].fault);
		same_text(a[i].target.text, b[i].target.text);
		cr_assert(cJSON_Compare(a[i].params, b[i].params, true) || (!a[i].params && !b[i].params));
		cr_assert_eq(a[i].duration_ns, b[i].duration_ns);
		cr_assert_eq(a[i].may_miss, b[i].may_miss);
		cr_assert_eq(a[i].condition, b[i].condition);
		cr_assert_eq(a[i].limit_ns, b[i].limit_ns);
		cr_assert_eq(a[i].may_fail, b[i].may_fail);
		same_text(a[i].reverts, b[i].reverts);
		cr_assert_eq(a[i].count, b[i].count);
		same_steps(a[i].steps, a[i].n_steps, b[i].steps, b[i].n_steps);
	}
}

static const struct expectation *bound_of(const struct drill *d, const struct expectation *e)
{
	for (size_t i = 0; i < d->n_expectations; i++)
		if (d->expectations[i].figure == e->figure &&
			d->expectations[i].has_min == e->has_min &&
			d->expectations[i].has_max == e->has_max)
			return &d->expectations[i];
	return NULL;
}

static void same_drill(const struct drill *a, const struct drill *b)
{
	same_text(a->name, b->name);
	same_text(a->summary, b->summary);
	same_text(a->expected, b->expected);
	cr_assert_eq(strv_length(a->sources), strv_length(b->sources));
	for (size_t i = 0; a->sources && a->sources[i]; i++)
		cr_assert_str_eq(a->sources[i], b->sources[i]);
	cr_assert_eq(a->steady_instances, b->steady_instances);
	cr_assert_eq(a->steady_lag_bytes, b->steady_lag_bytes);
	cr_assert_eq(a->steady_for_ns, b->steady_for_ns);
	cr_assert_eq(a->steady_limit_ns, b->steady_limit_ns);
	cr_assert_eq(a->interval_ns, b->interval_ns);
	cr_assert_eq(a->fresh_interval_ns, b->fresh_interval_ns);
	cr_assert_eq(a->slow_ns, b->slow_ns);
	cr_assert_eq(a->recovery_limit_ns, b->recovery_limit_ns);
	cr_assert_eq(a->abort_lag_bytes, b->abort_lag_bytes);
	cr_assert_eq(a->abort_time_ns, b->abort_time_ns);
	cr_assert_eq(a->abort_writes_down_ns, b->abort_writes_down_ns);
	same_steps(a->steps, a->n_steps, b->steps, b->n_steps);
	cr_assert_eq(a->n_expectations, b->n_expectations);
	for (size_t i = 0; i < a->n_expectations; i++) {
		const struct expectation *e = bound_of(b, &a->expectations[i]);

		cr_assert_not_null(e);
		cr_assert_eq(e->max, a->expectations[i].max);
		cr_assert_eq(e->min, a->expectations[i].min);
	}
}

static void round_trip(const struct drill *d)
{
	_cleanup_free_ char *text = drill_to_yaml(d);
	_cleanup_(drill_freep) struct drill *again = parsed(text);
	_cleanup_free_ char *text_again = drill_to_yaml(again);

	same_drill(d, again);
	cr_assert_str_eq(text, text_again);
}

Test(drill_write, built_in)
{
	for (const struct builtin_drill *b = builtin_drills; b->name; b++) {
		_cleanup_(drill_freep) struct drill *d = NULL;

		cr_assert_eq(drill_load(b->name, NULL, &d, NULL), 0);
		round_trip(d);
	}
}

Test(drill_write, all_steps)
{
	_cleanup_(drill_freep) struct drill *d = parsed(HEAD
		"steadyState: {instances: 3, lag: 1000001, for: 1500us, limit: 1h30m}\n"
		"steps:\n"
		"  - - wait: 1ns\n"
		"    - - revert: all\n"
		"  - parallel:\n"
		"      - inject: net-shape\n"
		"        name: '123'\n"
		"        target: any:2\n"
		"        for: 1500us\n"
		"        params: {peers: ['x=10.0.0.1:5432', 'dcs:2379'], delay: 1.5ms, loss: 0.01%}\n"
		"      - - wait: demoted\n"
		"          mayFail: true\n"
		"        - repeat: 2\n"
		"          steps:\n"
		"            - parallel:\n"
		"                - wait: time\n"
		"                  limit: 0\n"
		"  - revert: '123'\n"
		"expect:\n  downtime: {min: 0, max: 1h}\n  promoted: false\n  ttd: 1s\n"
		"abort: {lag: 1, writesDown: 1ns}\n");

	round_trip(d);
}

/* Texts that YAML or the variables would make something else of. */
Test(drill_write, texts)
{
	static const char *const texts[] = {"", " ", "null", "~", "- a", "a: b", "'", "\\\"", "#", "%", "@", "!x", "&a",
		"*a", "$$x $${y}", "\\t", "\\x07", "\\x7f", "\\u0085", "\\u009f", "\\u00a0", "\\u00e4", "\\u2028x\\u2029",
		"\\ufeff", "\\U0001f600", "a\\n\\n b\\n", "\\r\\n"};

	for (size_t i = 0; i < ELEMENTS(texts); i++) {
		_cleanup_(drill_freep) struct drill *d = NULL;
		_cleanup_free_ char *text = NULL;

		cr_assert_gt(asprintf(&text,
				     HEAD "expectedBehaviour: \"%s\"\nsources: [\"%s\"]\n"
					  "steps:\n  - inject: proc-kill\n    target: primary\n    for: 1s\n"
					  "    params: {process: \"x%s\"}\n",
				     texts[i], texts[i], texts[i]), 0);
		if (drill_parse("t.yaml", text, strlen(text), NULL, &d, NULL) < 0) {
			/* Some are no name of a process. */
			free(text);
			cr_assert_gt(asprintf(&text, HEAD "expectedBehaviour: \"%s\"\n" STEPS, texts[i]), 0);
			d = parsed(text);
		}
		round_trip(d);
	}
}
